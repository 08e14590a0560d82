"""What driftway wrote is whole, or the file that is not is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from driftway.cli import main
from driftway.data.forecasts import open_forecast
from driftway.emulator import Emulator
from driftway.errors import DataError
from driftway.forecasting import forecast_run
from driftway.sums import SUMS, differences, files_in, read_sums, write_sums
from driftway.tuning import tune_run
from driftway.verifying import verify
from driftway.workflow import fit_autoencoder, fit_stepper
from tests import small

PASSED_OVER = ("lock", "latents.lock")  # of processes, not of results


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, an autoencoder with its latents, a stepper on them that was tuned, and a forecast with means."""
    folder = tmp_path_factory.mktemp("all") / "work"
    folder.mkdir()
    data = small.flow(folder)
    fit_autoencoder(small.experiment(folder, data, "autoencoder"), folder / "autoencoder")
    latents = [{"type": "run", "path": str(folder / "autoencoder")}, "standardize"]
    fit_stepper(small.experiment(folder, data, codec=latents), folder / "stepper")
    tune_run(folder / "stepper", purpose="crps", calls=1, leads=2, members=2, trajectories=1)
    forecast_run(folder / "stepper", data, folder / "forecast.zarr", leads=3, members=2)
    return folder


def listed(folder: Path) -> list[Path]:
    """What was written: not the experiments that a user wrote beside it."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.parent != folder)
    return [path for path in files if path.name not in PASSED_OVER]


def flipped(path: Path, rng: np.random.Generator) -> None:
    whole = bytearray(path.read_bytes())
    whole[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(whole)


def test_all_that_was_written_is_whole(everything: Path) -> None:
    count, problems = verify(everything)
    kinds = {"flow.zarr", "autoencoder", "stepper", "forecast.zarr"}
    assert not problems and count >= len(kinds) + 3  # checkpoints and latents lie in runs
    assert all(verify(everything / name)[1] == [] for name in kinds)


def all_found(folder: Path, flips: int) -> None:
    rng, files = np.random.default_rng(0), listed(folder)
    for k in range(flips):
        path = files[k % len(files)] if k < len(files) else files[int(rng.integers(len(files)))]
        whole = path.read_bytes()
        flipped(path, rng)
        assert verify(folder)[1], path
        path.write_bytes(whole)
    assert not verify(folder)[1]


@pytest.mark.slow
def test_five_hundred_flipped_bits_are_found(everything: Path, tmp_path: Path) -> None:
    shutil.copytree(everything, tmp_path / "copy")
    all_found(tmp_path / "copy", 500)


@pytest.mark.parametrize("name", ["emulator.safetensors", "checkpoints", "config.yaml"])
def test_what_is_missing_is_named(everything: Path, tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(everything / "stepper", run)
    shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()
    if name == "config.yaml":  # it tells a run; without it nothing but checkpoints is left to be seen
        assert verify(run)[1] == []
    else:
        assert any(f"{run}: {name}" in problem and "is missing" in problem for problem in verify(run)[1])


def test_a_thousand_good_folders_raise_no_alarm(tmp_path: Path) -> None:
    """Of files of any content under names that people choose."""
    rng, names = np.random.default_rng(1), ("a b", "é", "Ω.json", "c/0/0", "x  y", "#", "'q'", "-n")
    for k in range(1000):
        folder = tmp_path / str(k)
        for name in rng.permutation(names)[: int(rng.integers(1, 4))]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(rng.bytes(int(rng.integers(200))))
        write_sums(folder, files_in(folder))
        assert differences(folder, read_sums(folder)) == []


@pytest.mark.parametrize("line", ["0123", "ab  ../../etc/passwd", "ab  /etc/passwd", ""])
def test_torn_sums_are_no_sums(tmp_path: Path, line: str) -> None:
    (tmp_path / SUMS).write_text(f"{line}\n")
    with pytest.raises(DataError, match="SHA256SUMS is damaged"):
        read_sums(tmp_path)


def test_a_description_that_was_changed_is_not_read(everything: Path, tmp_path: Path) -> None:
    """Of a run, and of a forecast's coordinates; the weights' own SHA-256 would not tell."""
    run, forecast = tmp_path / "run", tmp_path / "forecast.zarr"
    shutil.copytree(everything / "stepper", run)
    shutil.copytree(everything / "forecast.zarr", forecast)
    text = (run / "emulator.json").read_text()
    (run / "emulator.json").write_text(text.replace('"dt": ', '"dt": 1'))
    with pytest.raises(DataError, match=r"emulator\.json is not what the run wrote"):
        Emulator.load(run)
    chunk = forecast / "lead_time" / "c" / "0"
    flipped(chunk, np.random.default_rng(0))
    with pytest.raises(DataError, match=r"lead_time/c/0 has changed"):
        open_forecast(forecast)


def test_a_saved_emulator_needs_no_sums_and_takes_old_ones_away(everything: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(everything / "stepper", run)
    Emulator.load(run).save(run, force=True)
    assert not (run / SUMS).exists() and Emulator.load(run).layout == Emulator.load(everything / "stepper").layout


def test_the_command_says_how_much_was_verified(everything: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(everything)]) == 0
    assert "damaged: 0" in capsys.readouterr().out
    for path, named in ((everything / "none", "does not exist"), (everything / "stepper" / "lock", "nothing that")):
        assert main(["verify", str(path)]) == 3
        assert named in capsys.readouterr().err
