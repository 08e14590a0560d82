"""Tuning after training: records are those of the same forecasts, the choice is stored, and a run loses nothing."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from driftway.candidates import candidates
from driftway.cli import PurposeName, main
from driftway.data import open_data, save_zarr
from driftway.data.starts import begun, start_frames
from driftway.emulator import Emulator
from driftway.errors import ConfigError, DataError, StorageError
from driftway.evaluation import score
from driftway.forecasting import forecast_run
from driftway.purposes import PURPOSES
from driftway.randomness import Stream
from driftway.runs import locked
from driftway.samplers import SAMPLERS, EulerMaruyama, Sampler
from driftway.schema import load_experiment
from driftway.scoring import evaluate_forecasts, truth_for
from driftway.transport import Transport
from driftway.tuning import scores_of_samplers, tune_run
from driftway.workflow import fit_stepper
from tests import small
from tests.refusals import unchanged

# --- records -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chaos and a run on it; and a run that steps two frames of fields with a parameter, a static field and forcing."""
    folder = tmp_path_factory.mktemp("tuning")
    data = small.chaos(folder)
    fit_stepper(small.experiment(folder, data, training={"steps": 100, "learning_rate": 0.01}), folder / "run")
    known = save_zarr(small.known_trajectories(), folder / "known.zarr")
    strided = {"path": str(known), "stride": 2}
    learned = {"steps": 20, "learning_rate": 0.02}
    fit_stepper(small.experiment(folder, known, data=strided, training=learned), folder / "known")
    return folder


@pytest.fixture
def run(place: Path, tmp_path: Path) -> Path:
    """A copy of the run on chaos."""
    return Path(shutil.copytree(place / "run", tmp_path / "run"))


def brief(run: Path, **settings: Any) -> dict[str, Any]:
    """A search of a second."""
    return tune_run(run, **{"purpose": "crps", "calls": 2, "leads": 2, "members": 3, "starts": 2, **settings})


def test_a_record_has_the_scores_of_the_same_forecast_from_the_command_line(place: Path, tmp_path: Path) -> None:
    sampler, out = EulerMaruyama(3, temperature=0.7), tmp_path / "forecast.zarr"
    asked = {"leads": 4, "members": 5, "seed": 2, "split": "valid"}
    forecast_run(place / "run", place / "chaos.zarr", out, sampler=sampler, label="it", **asked)
    expected = evaluate_forecasts([out], place / "chaos.zarr", tmp_path / "scores.json")["it"]
    (record,) = scores_of_samplers(Emulator.load(place / "run"), open_data(place / "chaos.zarr"), [sampler], **asked)
    names = ("crps", "vrmse", "vrmse_member", "nrmse", "energy_score", "spread_skill", "calls", "failures")
    for name in (*names, *(f"spectral_rmse_{band}" for band in ("low", "mid", "high"))):
        assert record[name] == pytest.approx(expected[name], rel=1e-4), name
    assert record["crps"] == pytest.approx(np.mean(record["crps_states"]))
    assert record["vrmse"] == pytest.approx(np.mean(record["vrmse_states"]))


def test_initial_states_are_frames_of_trajectories_and_fields_count_in_their_standard_deviations(place: Path) -> None:
    """By hand, two fields of a system with known inputs, every second frame, from frames 0 and 4."""
    emulator, data = Emulator.load(place / "known"), open_data(place / "known.zarr")
    valid, scores = data.split("valid"), {}
    for start in (0, 4):
        forecast = emulator.forecast(
            np.asarray(valid.states)[:, start],
            2,
            3,
            seed=1,
            keys=[f"valid {row}, frame {start}" for row in range(2)],
            conditioning=lambda lead, start=start: valid.conditioning(np.arange(2), np.full(2, start + 2 * (lead - 1))),
        )
        truth = truth_for(begun(valid, [start]), 2, 2)
        scores[start] = truth, score({"it": forecast}, truth, emulator.layout)["crps"]
    stds = [np.concatenate([truth[name].values for truth, _ in scores.values()]).std() for name in ("u", "v")]
    expected = np.mean([[crps.isel(field=c) / std for c, std in enumerate(stds)] for _, crps in scores.values()])
    (record,) = scores_of_samplers(
        emulator, data, [emulator.stepper.sampler], split="valid", leads=2, members=3, starts=2, seed=1
    )
    assert record["crps"] == pytest.approx(expected, rel=1e-5)
    assert len(record["crps_states"]) == 4


def test_spectral_states_are_the_jackknife_of_the_spectral_log_error(place: Path) -> None:
    emulator, data = Emulator.load(place / "run"), open_data(place / "chaos.zarr")
    (record,) = scores_of_samplers(
        emulator, data, [emulator.stepper.sampler], split="valid", leads=3, members=3, starts=2
    )
    valid = data.split("valid")
    starts = start_frames(valid.shape[1], 3, 2)
    truth = xr.concat([truth_for(begun(valid, [start]), 3) for start in starts], "trajectory")
    keys = [f"valid {row}, frame {start}" for start in starts for row in range(2)]
    forecast = emulator.forecast(np.concatenate([np.asarray(valid.states)[:, s] for s in starts]), 3, 3, keys=keys)

    def error(rows: list[int]) -> float:
        chosen = {"trajectory": rows}
        scores = score({"it": forecast.isel(chosen)}, truth.isel(chosen), emulator.layout)["spectral_log_error"]
        return float(scores.sel(band=["low", "mid"]).mean())

    whole = error([0, 1, 2, 3])
    assert (record["spectral_log_error_low"] + record["spectral_log_error_mid"]) / 2 == pytest.approx(whole)
    pseudo = [4 * whole - 3 * error([row for row in range(4) if row != left_out]) for left_out in range(4)]
    np.testing.assert_allclose(record["spectral_states"], pseudo, rtol=1e-4)


@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 10))
def test_starts_are_different_and_leave_room_for_the_leads(frames: int, span: int, starts: int) -> None:
    room = frames - span
    if starts > max(room, 1):
        with pytest.raises(ConfigError, match=f"give at most {max(room, 1)}"):
            start_frames(frames, span, starts)
        return
    found = start_frames(frames, span, starts)
    assert found[0] == 0 and len(set(found)) == starts and (starts == 1 or found[-1] < room)


# --- a run ---------------------------------------------------------------------------------------------------------


def test_the_choice_is_stored_with_the_emulator_and_nothing_else_changes(run: Path) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    found = brief(run)
    now = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    changed = {name for name in now if now[name] != before.get(name)} - {"lock"}
    assert changed == {"emulator.json", "tuned.json", "SHA256SUMS"}
    old, new = (json.loads(files["emulator.json"]) for files in (before, now))
    assert new["stepper"].pop("sampler") == found["chosen"]["sampler"]
    old["stepper"].pop("sampler")
    assert new == old
    assert repr(Emulator.load(run).stepper.sampler) == found["chosen"]["repr"]  # type: ignore[attr-defined]


def test_the_record_holds_every_candidate_the_best_first(run: Path) -> None:
    tried = candidates(Emulator.load(run).stepper, 2)  # type: ignore[arg-type]
    found = brief(run, seed=7, trajectories=1)
    stored = json.loads((run / "tuned.json").read_text())
    asked = {"for": "crps", "at_most": 2, "leads": 2, "members": 3, "trajectories": 1, "starts": 2, "seed": 7}
    assert asked.items() <= stored.items() and stored["split"] == "valid"
    assert sorted(one["repr"] for one in stored["candidates"]) == sorted(map(repr, tried))
    scores = [one["score"] for one in stored["candidates"]]
    assert scores == sorted(scores) and len(found["best"]) == 5
    assert stored["chosen"] == found["chosen"]["sampler"] and stored["before"] == found["before"]["sampler"]
    assert found["before"]["name"] == "EulerMaruyama(steps=2)" and found["candidates"] == len(tried)
    again = next(one for one in stored["candidates"] if one["sampler"] == stored["chosen"])
    assert again["crps"] == found["chosen"]["crps"] and len(again["crps_states"]) == 2


def test_tuning_again_from_the_same_run_chooses_the_same(place: Path, run: Path, tmp_path: Path) -> None:
    twin = Path(shutil.copytree(place / "run", tmp_path / "twin"))
    first, second = brief(run, batch=64), brief(twin, batch=5)
    assert first["chosen"]["sampler"] == second["chosen"]["sampler"]
    assert first["chosen"]["crps"] == pytest.approx(second["chosen"]["crps"], rel=1e-5)


def test_the_test_split_is_never_looked_at(place: Path, run: Path, tmp_path: Path) -> None:
    """Data whose other splits hold nothing but NaN give the same result."""
    data = open_data(place / "chaos.zarr")
    blank = np.array(data.states)
    assert data.splits is not None
    blank[[row for row, split in enumerate(data.splits) if split != "valid"]] = np.nan
    twin = Path(shutil.copytree(run, tmp_path / "twin"))
    other = save_zarr(replace(data, states=blank, digest=""), tmp_path / "blank.zarr")
    first, second = brief(run), brief(twin, data=other)
    assert first["chosen"]["crps"] == second["chosen"]["crps"]
    assert first["chosen"]["sampler"] == second["chosen"]["sampler"]


@dataclass(frozen=True)
class Exploding(Sampler):
    """Leaves the finite numbers."""

    def step(self, transport: Transport, x: Tensor, t: Tensor, s: Tensor, stream: Stream) -> Tensor:
        return x * 1e30 if float(x.abs().max()) < 1e9 else x * math.inf


@pytest.fixture
def exploding(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose own sampler diverges."""
    monkeypatch.setitem(SAMPLERS, "exploding", Exploding)
    Emulator.load(run).with_sampler(Exploding(2)).save(run, force=True)
    return run


def test_a_sampler_that_diverges_is_counted_and_scores_infinite(exploding: Path) -> None:
    found = brief(exploding)
    assert found["diverged"] == 2  # in one step, which is large, and in two, which is infinite
    assert found["before"]["failures"] == 4 and found["before"]["crps"] == math.inf
    assert found["chosen"]["failures"] == 0 and found["chosen"]["sampler"]["type"] != "exploding"
    text = (exploding / "tuned.json").read_text()
    assert "Infinity" not in text and "NaN" not in text
    assert json.loads(text)["candidates"][-1]["crps"] is None


def test_a_fit_into_the_folder_takes_the_record_away(place: Path, run: Path) -> None:
    """It puts the configuration's sampler back, so the record would be of another emulator."""
    brief(run)
    experiment = load_experiment(run / "config.yaml")
    fit_stepper(experiment, run, resume=True)
    assert not (run / "tuned.json").exists()
    assert Emulator.load(run).stepper.sampler == EulerMaruyama(2)  # type: ignore[attr-defined]


def test_a_folder_in_use_is_not_tuned(run: Path) -> None:
    with locked(run / "lock"), unchanged(run), pytest.raises(StorageError, match="is in use by"):
        brief(run)


def test_by_default_sixteen_states_start_forecasts_that_do_not_overlap(run: Path) -> None:
    """Two trajectories of 13 frames have room for three forecasts of four leads each."""
    brief(run, starts=None, leads=4)
    stored = json.loads((run / "tuned.json").read_text())
    assert (stored["trajectories"], stored["starts"]) == (2, 3)


# --- what cannot be tuned ------------------------------------------------------------------------------------------


def test_a_deterministic_run_has_nothing_to_tune(place: Path, tmp_path: Path) -> None:
    fit_stepper(small.experiment(tmp_path, place / "chaos.zarr", "deterministic"), tmp_path / "run")
    with unchanged(tmp_path / "run"), pytest.raises(ConfigError, match=r"steps by Deterministic.*nothing to tune"):
        brief(tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"members": 1}, ConfigError, "at least 2 members"),
        ({"purpose": "beauty"}, ConfigError, "none of crps, vrmse, spectrum, balance"),
        ({"leads": 50, "starts": 1}, DataError, "50 leads of 1 frames need 51; there are 13"),
        ({"leads": 50}, ConfigError, "2 starts from frame 0 on with 50 .* into 13: give at most 1"),
        ({"leads": 10, "starts": 9}, ConfigError, "9 starts from frame 0 on with 10 .* into 13: give at most 3"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_changes_nothing(
    run: Path, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    (run / "lock").write_text("")
    kept = (run / "emulator.json").read_bytes()
    with pytest.raises(error, match=message):
        brief(run, **settings)
    assert (run / "emulator.json").read_bytes() == kept and not (run / "tuned.json").exists()


def test_a_run_without_its_data_asks_for_them(place: Path, run: Path, tmp_path: Path) -> None:
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("chaos.zarr", "moved.zarr"))
    with pytest.raises(DataError, match=r"moved.zarr, which .* was fitted to, is not there: give --data"):
        brief(run)
    config.unlink()
    with pytest.raises(ConfigError, match=r"config.yaml is missing.*give --data"):
        brief(run)
    assert brief(run, data=place / "chaos.zarr")["candidates"] > 5


def test_a_folder_that_is_no_run_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="json is missing"):
        brief(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_spectra_need_a_periodic_axis(place: Path, tmp_path: Path) -> None:
    data = open_data(place / "chaos.zarr")
    walls = tuple(replace(axis, boundary="wall", symmetry=0) for axis in data.axes)
    path = save_zarr(replace(data, axes=walls, digest=""), tmp_path / "walls.zarr")
    fit_stepper(small.experiment(tmp_path, path), tmp_path / "run")
    for purpose in ("spectrum", "balance"):
        with pytest.raises(ConfigError, match=f"tuning for {purpose} takes a periodic axis"):
            brief(tmp_path / "run", purpose=purpose)
    assert brief(tmp_path / "run", purpose="vrmse")["chosen"]["spectral_log_error_low"] is not None


# --- the command line ----------------------------------------------------------------------------------------------


def test_the_purposes_on_the_command_line_are_those_of_the_table() -> None:
    assert list(PurposeName.__args__) == list(PURPOSES)


def test_the_command_tells_people_the_five_best_and_machines_the_scores(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "tune",
        str(run),
        "--for",
        "balance",
        "--calls",
        "2",
        "--leads",
        "2",
        "--members",
        "2",
        "--trajectories",
        "1",
    ]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("- ") for line in lines) == 5
    assert "before: EulerMaruyama(steps=2)" in lines and any(line.startswith("chosen: ") for line in lines)
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["record"] == str(run / "tuned.json") and found["for"] == "balance"
    assert found["before"]["sampler"] == json.loads((run / "tuned.json").read_text())["before"]
    assert {"crps", "calls", "repr"} <= found["chosen"].keys() and "crps_states" not in found["chosen"]


def test_a_purpose_has_to_be_given(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(run)]) == 2
    assert "--for, one of crps, vrmse, spectrum, balance" in capsys.readouterr().err
