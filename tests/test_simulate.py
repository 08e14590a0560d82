"""Trajectories of presets: keyed by row, chunked, pooled, checked, and written as data sets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from driftway.data import open_zarr, verify
from driftway.errors import ConfigError, DivergedError, StorageError
from driftway.pdes import PRESETS, Preset, simulate
from driftway.pdes.simulate import Progress
from driftway.simulate import make_data, preset_named

SMALL = {"size": [64], "frames": 3, "burn_in": 1.0, "trajectories": [4, 2, 2]}
NOISY = PRESETS["burgers-stochastic"].override(SMALL)
CHAOS = PRESETS["kuramoto-sivashinsky"].override(SMALL)
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def together(preset: Preset, rows: list[int] | range, seed: int = 0, workers: int = 1) -> np.ndarray:
    return np.concatenate(list(simulate(preset, seed, rows, workers=workers)))


@pytest.mark.parametrize("preset", [NOISY, CHAOS], ids=lambda preset: preset.name)
def test_a_trajectory_is_a_function_of_seed_and_row_alone(preset: Preset) -> None:
    whole = together(preset, range(8))
    assert np.abs(together(preset, [6, 1]) - whole[[6, 1]]).max() < 1e-5
    assert np.abs(together(preset, [1], seed=1) - whole[[1]]).max() > 0.01
    assert np.abs(whole[6] - whole[1]).max() > 0.01


def test_chunks_are_as_large_as_the_solver_s_and_in_order() -> None:
    preset = PRESETS["kolmogorov"].override({"frames": 2, "burn_in": 0.0, "substeps": 1})
    chunks = list(simulate(preset, 0, range(3, 14)))
    assert [len(chunk) for chunk in chunks] == [8, 3]
    assert np.abs(chunks[1][0] - together(preset, [11])[0]).max() < 1e-4


def test_two_processes_make_what_one_makes() -> None:
    """With random forcing, more chunks than the queue holds, and progress that counts every interval."""
    preset = NOISY.override({"size": [2**14], "dt": 0.001, "burn_in": 0.01})
    assert preset.solver.chunk == 2
    done: list[int] = []
    pooled = np.concatenate(list(simulate(preset, 3, range(11), done.append, workers=2)))
    assert np.array_equal(pooled, together(preset, range(11), seed=3))
    assert sum(done) == 11 * preset.steps


def test_the_burn_in_is_simulated_and_left_out() -> None:
    late, whole = (
        together(CHAOS.override({"burn_in": burn_in, "frames": n}), [0]) for burn_in, n in ((2.0, 3), (0.0, 5))
    )
    assert np.array_equal(late, whole[:, 2:])


def test_progress_counts_intervals_of_rows() -> None:
    done: list[int] = []
    list(simulate(CHAOS, 0, range(5), done.append))
    assert sum(done) == 5 * CHAOS.steps
    assert len(done) == CHAOS.steps


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_diverges_names_trajectory_time_and_remedy(workers: int) -> None:
    preset = PRESETS["kolmogorov"].override({"dt": 0.2, "burn_in": 10.0, "amplitude": 40.0, "substeps": 1})
    with pytest.raises(DivergedError) as error:
        together(preset, range(5, 30), workers=workers)
    words = str(error.value)
    assert words.startswith("kolmogorov: trajectory ") and words.endswith("use dt = 0.1 and substeps = 2")
    row, time = int(words.split()[2]), float(words.split("at time ")[1].split()[0])
    assert row in range(5, 13)
    assert 0 < time <= preset.burn_in


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """They hold the other end of the pipe: it closes when the last of them has gone."""
    script = tmp_path / "endless.py"
    script.write_text(
        "from driftway.pdes import PRESETS, simulate\n"
        "if __name__ == '__main__':\n"
        "    preset = PRESETS['kolmogorov'].override({'frames': 2, 'burn_in': 0.0})\n"
        "    for chunk in simulate(preset, 0, range(10**6), workers=2):\n"
        "        print(len(chunk), flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "8\n"
    process.kill()
    process.communicate(timeout=60)


def test_the_remedy_keeps_the_interval_and_helps() -> None:
    coarse = PRESETS["kolmogorov"].override({"dt": 0.2, "substeps": 1, "burn_in": 4.0, "frames": 2})
    with pytest.raises(DivergedError, match=r"use dt = 0\.1 and substeps = 2"):
        together(coarse, [0])
    finer = coarse
    for _ in range(3):
        finer = replace(finer, solver=replace(finer.solver, dt=finer.solver.dt / 2, substeps=2 * finer.solver.substeps))
    assert finer.interval == pytest.approx(coarse.interval)
    assert np.isfinite(together(finer, [0])).all()


# --- data sets ----------------------------------------------------------------------------------------------


def test_a_data_set_holds_the_trajectories_and_says_where_they_are_from(tmp_path: Path) -> None:
    overrides = ("size=[64]", "frames=3", "burn_in=1.0", "trajectories=[4, 2, 2]")
    found = make_data("burgers-stochastic", tmp_path / "data.zarr", seed=5, overrides=overrides)
    data = open_zarr(tmp_path / "data.zarr").load()
    assert np.abs(np.asarray(data.states) - together(NOISY, range(8), seed=5)).max() < 1e-6
    assert data.splits == NOISY.splits
    assert data.dt == pytest.approx(NOISY.interval)
    assert data.axes == NOISY.axes
    assert data.attributes["preset"] == "burgers-stochastic"
    assert data.attributes["seed"] == 5
    assert "viscosity=0.03" in data.attributes["solver"]
    assert found["path"] == str(tmp_path / "data.zarr")


def test_a_wrong_name_or_an_existing_folder_is_refused_before_anything_is_simulated(tmp_path: Path) -> None:
    place = tmp_path / "data.zarr"
    with pytest.raises(ConfigError, match="did you mean 'burgers'"):
        make_data("burger", place)
    with pytest.raises(ConfigError, match="did you mean 'viscosity'"):
        make_data("burgers", place, overrides=["viscosty=1"])
    assert not list(tmp_path.iterdir())
    place.write_text("mine")
    with pytest.raises(StorageError, match="exists"):
        make_data("kolmogorov-apebench", place)
    assert place.read_text() == "mine"


def test_a_diverged_simulation_leaves_nothing_behind_and_replaces_nothing(tmp_path: Path) -> None:
    place, small = tmp_path / "data.zarr", ("size=[16, 16]", "trajectories=[2, 0, 0]", "frames=3", "burn_in=0.4")
    make_data("kolmogorov", place, overrides=small)
    before = np.asarray(open_zarr(place).load().states)
    with pytest.raises(DivergedError, match="kolmogorov: trajectory 0 is not finite"):
        make_data("kolmogorov", place, overrides=(*small, "dt=2.0", "burn_in=100", "amplitude=1e6"), force=True)
    assert np.array_equal(np.asarray(open_zarr(place).load().states), before)
    assert [entry.name for entry in tmp_path.iterdir()] == ["data.zarr"]


RESUMED = ("size=[96, 48]", "interval=0.05", "frames=3", "burn_in=0.1", "trajectories=[10, 2, 4]", "rayleigh=[1e4]")


def end_while_writing(place: Path, chunk: int, how: str) -> None:
    """Make a data set in a process that ends in the middle of writing one of its chunks."""
    script = place.with_suffix(".py")
    script.write_text(
        "import os, signal\n"
        "from driftway.data.zarr_store import ZarrWriter\n"
        "from driftway.simulate import make_data\n"
        "whole, calls = ZarrWriter.__setitem__, []\n"
        "def write(self, rows, states):\n"
        "    calls.append(rows)\n"
        f"    if len(calls) == {chunk}:\n"
        "        whole(self, rows[:2], states[:2])\n"
        f"        {how}\n"
        "    whole(self, rows, states)\n"
        "ZarrWriter.__setitem__ = write\n"
        "if __name__ == '__main__':\n"
        f"    make_data('rayleigh-benard', {str(place)!r}, overrides={RESUMED!r})\n"
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, check=False)
    assert ended.returncode != 0 and not place.exists()


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), signal.SIGKILL)", "raise KeyboardInterrupt"])
def test_a_run_that_was_ended_goes_on_and_leaves_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """16 rows in chunks of 7: one is there, of the second two rows, which are made again with the rest of it."""
    assert preset_named("rayleigh-benard", RESUMED).solver.chunk == 7
    place, asked = tmp_path / "data.zarr", []
    end_while_writing(place, 2, how)
    torn = next(tmp_path.glob(".data.zarr.*.partial")) / "buoyancy" / "c" / "9.0.0.0.1a2b.partial"
    torn.write_bytes(b"half a chunk")

    def followed(preset: Preset, seed: int, rows: list[int], progress: Progress, workers: int) -> Iterator[np.ndarray]:
        asked.extend(rows)
        return simulate(preset, seed, rows, progress, workers)

    monkeypatch.setattr("driftway.simulate.simulate", followed)
    make_data("rayleigh-benard", place, overrides=RESUMED)
    assert asked == list(range(7, 16))
    make_data("rayleigh-benard", tmp_path / "whole.zarr", overrides=RESUMED)
    assert len(asked) == 9 + 16
    sums = [(path / "trajectory" / "SHA256SUMS").read_text() for path in (place, tmp_path / "whole.zarr")]
    assert sums[0] == sums[1] and verify(place) == []
    assert not list(tmp_path.glob(".*"))


def test_what_another_simulation_left_is_not_gone_on_with(tmp_path: Path) -> None:
    place = tmp_path / "data.zarr"
    end_while_writing(place, 2, "os._exit(1)")
    make_data("rayleigh-benard", place, seed=1, overrides=RESUMED)
    make_data("rayleigh-benard", tmp_path / "whole.zarr", seed=1, overrides=RESUMED)
    assert open_zarr(place).fingerprint() == open_zarr(tmp_path / "whole.zarr").fingerprint()
    assert not list(tmp_path.glob(".*"))


def test_a_damaged_chunk_of_a_run_that_was_ended_is_made_again(tmp_path: Path) -> None:
    place = tmp_path / "data.zarr"
    end_while_writing(place, 3, "os._exit(1)")
    chunk = next(next(tmp_path.glob(".data.zarr.*.partial")).glob("velocity_x/c/3/0/0/0"))
    chunk.write_bytes(chunk.read_bytes()[:-9] + b"123456789")
    make_data("rayleigh-benard", place, overrides=RESUMED)
    assert np.isfinite(np.asarray(open_zarr(place).load().states)).all()


# --- benchmarks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("solvers", ("Kolmogorov 64²", "Kuramoto–Sivashinsky 256", "ratio")),
        ("accuracy", ("kolmogorov-hard", "burgers-stochastic", "doubling")),
        ("convection", ("1e5:32x16", '"beyond"', '"published"', '"disturbed"')),
        ("stationarity", ("kolmogorov, 2 trajectories", "burn-in, 0 to 0.3", "after, 0.6 to 0.9")),
    ],
)
def test_the_benchmark_runs(script: str, words: tuple[str, ...]) -> None:
    """In a process of its own: the precision of jax is the process's."""
    if script == "solvers":
        pytest.importorskip("exponax")
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), "--quick"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(word in out for word in words)
    assert "nan" not in out
