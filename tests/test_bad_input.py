"""Bad input ends in one line that names the file or key, the value and the remedy; nothing that was there is lost."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from driftway.cli import main
from driftway.data import Trajectories, open_data, save_well, save_zarr
from driftway.data.axes import Fields
from tests import refusals, small
from tests.refusals import Refused, fit, forecast, refusal


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return refusals.study(tmp_path_factory.mktemp("place"))


@pytest.fixture(autouse=True)
def nothing_is_lost(place: Path) -> Iterator[None]:
    with refusals.unchanged(place):
        yield


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    return partial(refusal, capsys)


def changed(place: Path, path: Path, change: Callable[[np.ndarray], object]) -> Path:
    """A data set with other numbers; `change` gets the states (N, T, C, X), writable."""
    data = open_data(place / "chaos.zarr").load()
    states = np.array(data.states)
    change(states)
    return save_zarr(replace(data, states=states, digest=""), path)


def put(value: float, *index: int) -> Callable[[np.ndarray], object]:
    return lambda states: states.__setitem__(index, value)


# --- damaged data ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["inspect", "stats", "verify", "fit", "forecast"])
def test_a_truncated_hdf5_file_is_named(place, tmp_path, refused, command):
    path = save_well(open_data(place / "chaos.zarr"), tmp_path / "chaos.hdf5")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    words = {
        "fit": fit(place, path, tmp_path / "run"),
        "forecast": forecast(place, place / "run", tmp_path / "f.zarr", "--data", str(path)),
        "verify": ["verify", path],
    }.get(command, ["data", command, str(path)])
    line = refused(3, *words)
    assert path.name in line and "truncated" in line and "again" in line
    assert not (tmp_path / "f.zarr").exists()


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", b"\x89HDF\r\n\x1a\n" + bytes(300)])
def test_a_file_that_is_no_hdf5_is_named(tmp_path, refused, content):
    (tmp_path / "x.hdf5").write_bytes(content)
    assert f"{tmp_path / 'x.hdf5'} ({len(content)} bytes)" in refused(3, "data", "inspect", tmp_path / "x.hdf5")


@pytest.mark.parametrize("command", ["inspect", "stats", "verify", "fit", "forecast", "evaluate"])
def test_a_missing_chunk_is_named(place, tmp_path, refused, command):
    data = tmp_path / "chaos.zarr"
    shutil.copytree(place / "chaos.zarr", data)
    chunk = next(path for path in sorted((data / "u" / "c").rglob("*")) if path.is_file())
    chunk.unlink()
    words = {
        "fit": fit(place, data, tmp_path / "run"),
        "forecast": forecast(place, place / "run", tmp_path / "f.zarr", "--data", str(data)),
        "evaluate": ["evaluate", place / "forecast.zarr", "--data", data, "--out", tmp_path / "scores.json"],
        "verify": ["verify", data],
    }.get(command, ["data", command, data])
    line = refused(3, *words)
    assert f"{chunk.relative_to(data)} is missing" in line and str(data) in line and "again" in line
    assert not any((tmp_path / name).exists() for name in ("f.zarr", "scores.json"))


def test_a_missing_chunk_of_a_forecast_is_found_before_it_is_scored(place, tmp_path, refused):
    copy = tmp_path / "forecast.zarr"
    shutil.copytree(place / "forecast.zarr", copy)
    next(path for path in sorted((copy / "u" / "c").rglob("*")) if path.is_file()).unlink()
    line = refused(3, "evaluate", copy, "--data", place / "chaos.zarr", "--out", tmp_path / "scores.json")
    assert f"{copy}: 1 files of 'u' are missing" in line
    assert not (tmp_path / "scores.json").exists()


def test_a_flipped_bit_in_a_chunk_is_found_when_it_is_read(place, tmp_path, refused):
    data = tmp_path / "chaos.zarr"
    shutil.copytree(place / "chaos.zarr", data)
    for chunk in (path for path in (data / "u" / "c").rglob("*") if path.is_file()):
        chunk.write_bytes(chunk.read_bytes()[:-20] + bytes([chunk.read_bytes()[-20] ^ 1]) + chunk.read_bytes()[-19:])
    line = refused(3, "data", "stats", data)
    assert f"{data}: field 'u' of trajectory" in line and "is damaged" in line and "driftway verify" in line


@pytest.mark.parametrize("path", ["none.zarr", "none.hdf5", "empty", "words.txt"])
def test_what_is_no_data_set_is_named(tmp_path, refused, path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.txt").write_text("hello")
    assert str(tmp_path / path) in refused(3, "data", "inspect", tmp_path / path)


# --- numbers that cannot be used ---------------------------------------------------------------------------------


def test_nan_in_the_training_data_is_named_by_field_trajectory_and_frame(place, tmp_path, refused):
    data = changed(place, tmp_path / "nan.zarr", put(np.nan, 6, 5, 0, 3))
    for words in (["data", "stats", data], fit(place, data, tmp_path / "run")):
        line = refused(3, *words)
        assert f"{data}: field 'u' holds nan at trajectory" in line and "frame 5" in line and "fill them" in line


def test_nan_in_an_initial_state_is_named_and_no_forecast_is_made(place, tmp_path, refused):
    data = changed(place, tmp_path / "nan.zarr", put(np.inf, 0, 2, 0, 3))
    out = tmp_path / "f.zarr"
    line = refused(3, *forecast(place, place / "run", out, "--data", str(data), "--start", "2"))
    assert f"{data}: field 'u' holds inf in the initial state test 0, frame 2" in line and "another start" in line
    assert not out.exists()


def test_a_constant_field_is_named(place, tmp_path, refused):
    data = changed(place, tmp_path / "constant.zarr", lambda states: states.fill(3.5))
    for words in (["data", "stats", data], fit(place, data, tmp_path / "run")):
        line = refused(3, *words)
        assert f"{data}: field 'u' is constant (3.5)" in line and "drop it" in line


# --- data and run that do not fit --------------------------------------------------------------------------------


def other(place: Path, path: Path, make: Callable[[Trajectories], Trajectories]) -> Path:
    return save_zarr(make(open_data(place / "chaos.zarr").load()), path)


def test_a_forecast_from_data_of_another_grid_or_field_is_refused(place, tmp_path, refused):
    def coarse(data: Trajectories) -> Trajectories:
        axis = data.axes[0]
        half = replace(axis, coordinates=axis.coordinates[::2])
        return replace(data, states=np.asarray(data.states)[..., ::2], axes=(half,), digest="")

    grid = other(place, tmp_path / "coarse.zarr", coarse)
    field = other(place, tmp_path / "named.zarr", lambda data: replace(data, fields=Fields(("w",), ("1",)), digest=""))
    slow = other(place, tmp_path / "slow.zarr", lambda data: replace(data, dt=0.3, digest=""))
    expected = {grid: "u on (16,)", field: "w on (32,)", slow: "the emulator steps by 1"}
    for data, message in expected.items():
        line = refused(3, *forecast(place, place / "run", tmp_path / "f.zarr", "--data", str(data)))
        assert str(data) in line and message in line
    assert not (tmp_path / "f.zarr").exists()


def test_scores_against_data_of_another_grid_are_refused(place, tmp_path, refused):
    words = ["kuramoto-sivashinsky", *small.CHAOS, "size=[64]"]
    data, out = tmp_path / "fine.zarr", tmp_path / "scores.json"
    assert main(["data", "make", *words, "--out", str(data)]) == 0
    line = refused(3, "evaluate", place / "forecast.zarr", "--data", data, "--out", out)
    assert "forecast 'forecast' did not start from these data: give --data what it was made from" in line
    assert not out.exists()


def test_scores_against_other_data_of_the_same_shape_are_refused(place, tmp_path, refused):
    data, out = changed(place, tmp_path / "other.zarr", lambda states: states.__iadd__(1e-3)), tmp_path / "scores.json"
    line = refused(3, "evaluate", place / "forecast.zarr", "--data", data, "--out", out)
    assert "forecast 'forecast' did not start from these data: give --data what it was made from" in line
    assert not out.exists()


def test_more_leads_than_the_data_have_frames_are_refused(place, tmp_path, refused):
    out = tmp_path / "long.zarr"
    assert main(forecast(place, place / "run", out, "--leads", "20")) == 0
    line = refused(3, "evaluate", out, "--data", place / "chaos.zarr", "--out", tmp_path / "scores.json")
    assert "20 leads of 1 frames need 21; there are 13" in line


def test_an_initial_state_outside_the_data_is_refused(place, tmp_path, refused):
    line = refused(2, *forecast(place, place / "run", tmp_path / "f.zarr", "--start", "13"))
    assert "start 13 lies outside the 13 frames" in line


def test_a_sampler_for_a_stepper_that_samples_nothing_is_refused(place, tmp_path, refused):
    line = refused(2, *forecast(place, place / "run", tmp_path / "f.zarr", "--sampler", "heun"))
    assert "a sampler needs a generative stepper; this one is Deterministic" in line


def test_a_fit_whose_parts_do_not_fit_is_refused(place, tmp_path, refused):
    data = place / "chaos.zarr"
    line = refused(2, *fit(place, data, tmp_path / "a", "stepper=persistence"))
    assert "persistence" in line and "has nothing to fit" in line
    line = refused(3, *fit(place, data, tmp_path / "b", f"guess={tmp_path / 'none'}"))
    assert f"{tmp_path / 'none'}" in line
    line = refused(2, "fit", "autoencoder", place / "deterministic.yaml", "--out", tmp_path / "c")
    assert "codec must be [standardize, autoencoder]" in line


# --- configurations and runs -------------------------------------------------------------------------------------


def test_a_typo_in_a_configuration_is_named_by_line_and_nothing_is_written(place, tmp_path, refused):
    text = (place / "deterministic.yaml").read_text()
    path = tmp_path / "typo.yaml"
    path.write_text(text.replace("width:", "widht:"))
    number = next(n for n, line in enumerate(text.splitlines(), 1) if "width:" in line)
    line = refused(2, "fit", "stepper", path, "--out", tmp_path / "run")
    assert f"{path}:{number}: stepper.network.widht: unknown key 'widht' of unet; did you mean 'width'?" in line
    assert not (tmp_path / "run").exists()


def test_a_configuration_that_names_code_is_refused_and_nothing_is_executed(place, tmp_path, refused):
    canary = tmp_path / "canary"
    code = (
        f"!!python/object/apply:os.system ['touch {canary}']",
        f"{{_target_: os.system, command: touch {canary}}}",
        f"{{class_path: os.system, init_args: {{command: touch {canary}}}}}",
        f"{{type: os.system, command: touch {canary}}}",
    )
    for text in code:
        path = tmp_path / "code.yaml"
        path.write_text(f"extends: {place / 'deterministic.yaml'}\nstepper: {text}\n")
        line = refused(2, "fit", "stepper", path, "--out", tmp_path / "run")
        assert f"{path}:2: stepper" in line
    assert not canary.exists() and not (tmp_path / "run").exists()


def test_resume_with_another_configuration_is_refused(place, refused):
    words = fit(place, place / "chaos.zarr", place / "run", "training.steps=9")
    line = refused(2, *words, "--resume")
    assert f"{place / 'run' / 'config.yaml'} differs" in line and "resume with the same one, or --force" in line


def test_a_run_that_is_not_finished_makes_no_forecast(place, tmp_path, refused):
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    (run / "emulator.json").unlink()
    line = refused(3, *forecast(place, run, tmp_path / "f.zarr"))
    assert f"{run} is not the folder of a finished run" in line and "--resume" in line


def test_what_is_no_forecast_and_no_study_is_named(place, tmp_path, refused):
    line = refused(3, "evaluate", tmp_path, "--data", place / "chaos.zarr")
    assert f"{tmp_path} is not a forecast" in line and "driftway forecast" in line
    line = refused(3, "report", tmp_path)
    assert f"{tmp_path / 'scores.json'}" in line and "driftway evaluate" in line


# --- weights -----------------------------------------------------------------------------------------------------


class Bomb:
    """What touches a file when it is unpickled."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return (Path.touch, (self.canary,))


def test_truncated_weights_are_named(place, tmp_path, refused):
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    weights = run / "emulator.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    line = refused(3, *forecast(place, run, tmp_path / "f.zarr"))
    assert f"{weights} is damaged: SHA-256" in line and "copy it again" in line


@pytest.mark.parametrize("signed", [False, True], ids=["as it is", "with its own checksum"])
def test_a_pickle_in_place_of_weights_is_refused_and_not_opened(place, tmp_path, refused, signed):
    canary, run = tmp_path / "canary", tmp_path / "run"
    shutil.copytree(place / "run", run)
    (run / "emulator.safetensors").write_bytes(pickle.dumps(Bomb(canary)))
    if signed:
        spec = json.loads((run / "emulator.json").read_text())
        spec["sha256"] = hashlib.sha256((run / "emulator.safetensors").read_bytes()).hexdigest()
        (run / "emulator.json").write_text(json.dumps(spec))
        (run / "SHA256SUMS").unlink()
    line = refused(3, *forecast(place, run, tmp_path / "f.zarr"))
    assert str(run / "emulator.safetensors") in line and ("is damaged" in line or "not a readable safetensors" in line)
    assert not canary.exists()
    pickle.loads(pickle.dumps(Bomb(canary)))
    assert canary.exists(), "the bomb itself works"


def test_a_pickle_in_place_of_every_checkpoint_is_refused_and_not_opened(place, tmp_path, refused):
    canary, run = tmp_path / "canary", tmp_path / "run"
    shutil.copytree(place / "run", run)
    for state in run.glob("checkpoints/*/state.safetensors"):
        state.write_bytes(pickle.dumps(Bomb(canary)))
    line = refused(3, "fit", "stepper", place / "deterministic.yaml", "--out", run, "--resume")
    assert f"no checkpoint in {run / 'checkpoints'} is whole" in line
    assert not canary.exists()


def test_debug_shows_where_bad_input_was_found(place, tmp_path, capsys):
    (tmp_path / "x.hdf5").write_bytes(b"")
    assert main(["data", "inspect", str(tmp_path / "x.hdf5"), "--debug"]) == 3
    text = capsys.readouterr().err
    assert text.startswith("Traceback") and "OSError" in text and "DataError" in text
