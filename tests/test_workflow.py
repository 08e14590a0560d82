"""Fitting from data to emulator: run folders, latents, validation, and what must not be mixed up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from driftway import demo
from driftway.data import open_data, save_zarr
from driftway.data.axes import Axis
from driftway.data.layout import latent_axes
from driftway.data.trajectories import Trajectories, Transition, Transitions
from driftway.emulator import Emulator
from driftway.errors import ConfigError, DataError, StorageError
from driftway.metrics import crps, vrmse
from driftway.randomness import stream
from driftway.runs import locked
from driftway.schema import Experiment
from driftway.steppers import Deterministic, Generative
from driftway.training import Interrupted, history
from driftway.validation import Rollouts
from driftway.workflow import finished, fit_autoencoder, fit_stepper, latents, prepare
from tests import refusals, small


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set and a fitted autoencoder."""
    folder = tmp_path_factory.mktemp("flow")
    fit_autoencoder(small.experiment(folder, small.flow(folder), "autoencoder"), folder / "autoencoder")
    return folder


def states_of(data: Path) -> np.ndarray:
    return np.asarray(open_data(data).states)


def rewritten(data: Path, to: Path, states: np.ndarray, **changes: Any) -> Path:
    """The same data set with other states."""
    return save_zarr(replace(open_data(data), states=states, digest="", **changes), to, force=True)


def strided(folder: Path, data: Path, stride: int, **changes: Any) -> Experiment:
    return small.experiment(folder, data, data={"path": str(data), "stride": stride}, **changes)


def weights(emulator: Emulator) -> list[torch.Tensor]:
    return list(emulator.state_dict().values())


def equal(one: Emulator, other: Emulator) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


# --- what is learned from what -------------------------------------------------------------------------------------


def test_only_the_training_split_is_learned_from(chaos: Path, tmp_path: Path) -> None:
    """With other valid and test data the codec, the noise law and the weights are the same."""
    data = chaos / "chaos.zarr"
    states, splits = states_of(data), np.array(open_data(data).splits)
    states[splits != "train"] = 100 - 3 * states[splits != "train"]
    other = rewritten(data, tmp_path / "other.zarr", states)
    mine, theirs = (fit_stepper(small.experiment(tmp_path, d), tmp_path / d.stem) for d in (data, other))
    assert equal(mine, theirs)
    train = states[splits == "train"]
    assert float(mine.codec.codecs[0].mean) == pytest.approx(train.mean(), abs=1e-5)  # type: ignore[union-attr]
    assert float(mine.codec.codecs[0].std) == pytest.approx(train.std(), rel=1e-5)  # type: ignore[union-attr]
    increments = np.diff(train, axis=1).std() / train.std()
    assert float(mine.stepper.noise.scale) == pytest.approx(increments, rel=1e-4)  # type: ignore[union-attr]


def test_nothing_but_batches_is_read_from_a_data_set_that_does_not_fit(
    chaos: Path, flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory and from the disk, with any size of a block, a stepper and an autoencoder end in the same bits."""
    data = chaos / "chaos.zarr"
    whole = fit_stepper(strided(tmp_path, data, 2, training={"steps": 8}), tmp_path / "memory")
    source = {"path": str(data), "stride": 2, "memory": 0.0}
    monkeypatch.setattr(Trajectories, "load", lambda self: pytest.fail("the data set was loaded"))
    monkeypatch.setattr(Rollouts, "__init__", lambda self, *about: None)
    monkeypatch.setattr(Rollouts, "__call__", lambda self, model: {})
    lazy = fit_stepper(small.experiment(tmp_path, data, data=source, training={"steps": 8}), tmp_path / "disk")
    assert equal(whole, lazy)
    source = {"path": str(flow / "flow.zarr"), "memory": 0.0}
    lazy = fit_autoencoder(
        small.experiment(tmp_path, flow / "flow.zarr", "autoencoder", data=source), tmp_path / "code"
    )
    assert equal(Emulator.load(flow / "autoencoder"), lazy)


def test_an_autoencoder_reads_no_targets(flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, batch = list[bool](), Transitions.batch

    def noted(self: Transitions, indices: np.ndarray, targets: bool = True) -> Transition:
        asked.append(targets)
        return batch(self, indices, targets)

    monkeypatch.setattr(Transitions, "batch", noted)
    fit_autoencoder(small.experiment(tmp_path, flow / "flow.zarr", "autoencoder"), tmp_path / "run")
    assert asked and not any(asked)


def test_standardisation_is_as_the_configuration_has_it(tmp_path: Path) -> None:
    """Per channel, or by one number for all of them: √⟨std²⟩."""
    data = small.known_trajectories()
    scaled = replace(data, states=data.states * np.array([1, 10], np.float32)[:, None])
    path, std = save_zarr(scaled, tmp_path / "known.zarr"), scaled.states[:6].std((0, 1, 3))
    for per, expected in (("channel", std), ("all", [np.sqrt((std**2).mean())] * 2)):
        codec = [{"type": "standardize", "per": per}]
        fit_stepper(small.experiment(tmp_path, path, codec=codec), tmp_path / per)
        found = Emulator.load(tmp_path / per).codec.codecs[0].std  # type: ignore[union-attr]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_equal_seeds_give_equal_runs_and_others_do_not(chaos: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    one = fit_stepper(small.experiment(tmp_path, chaos / "chaos.zarr"), tmp_path / "one")
    torch.manual_seed(2)
    two = fit_stepper(small.experiment(tmp_path, chaos / "chaos.zarr"), tmp_path / "two")
    three = fit_stepper(small.experiment(tmp_path, chaos / "chaos.zarr", seed=1), tmp_path / "three")
    assert equal(one, two) and not equal(one, three)
    assert (tmp_path / "one" / "metrics.jsonl").read_bytes() == (tmp_path / "two" / "metrics.jsonl").read_bytes()


def test_a_stride_makes_the_emulators_step_longer(chaos: Path, tmp_path: Path) -> None:
    emulator = fit_stepper(strided(tmp_path, chaos / "chaos.zarr", 3), tmp_path / "run")
    states = states_of(chaos / "chaos.zarr")[4:]
    assert emulator.layout.dt == pytest.approx(3 * open_data(chaos / "chaos.zarr").dt)
    increments = (states[:, 3:] - states[:, :-3]).std() / states.std()
    assert float(emulator.stepper.noise.scale) == pytest.approx(increments, rel=1e-4)  # type: ignore[union-attr]


def test_a_guess_is_frozen_into_the_run_and_its_error_is_the_noise(chaos: Path, tmp_path: Path) -> None:
    experiment = small.experiment(tmp_path, chaos / "chaos.zarr", guess=str(chaos / "deterministic"))
    fit_stepper(experiment, tmp_path / "run")
    loaded, guess = Emulator.load(tmp_path / "run"), Emulator.load(chaos / "deterministic")
    stepper = loaded.stepper
    assert isinstance(stepper, Generative) and isinstance(stepper.guess, Deterministic)
    assert isinstance(guess.stepper, Deterministic)
    for mine, theirs in zip(stepper.guess.parameters(), guess.stepper.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    train = open_data(chaos / "chaos.zarr").split("train")
    source, target, _ = train.transitions().batch(np.arange(len(train.transitions())))
    with torch.no_grad():
        error = loaded.codec.encode(target) - guess.stepper.step(loaded.codec.encode(source))
    assert float(stepper.noise.scale) == pytest.approx(float(error.std(unbiased=False)), rel=1e-4)


# --- latents -------------------------------------------------------------------------------------------------------


def test_latents_are_what_the_autoencoder_encodes(flow: Path) -> None:
    data, emulator = open_data(flow / "flow.zarr"), Emulator.load(flow / "autoencoder")
    found = latents(flow / "autoencoder", emulator, data)
    assert found.shape == (10, 13, 4, 4, 4) and found.dt == data.dt and found.splits == data.splits
    with torch.no_grad():
        expected = emulator.codec.encode(torch.from_numpy(states_of(flow / "flow.zarr")[7]))
    np.testing.assert_allclose(np.asarray(found.states)[7], expected, atol=1e-5)


def test_latents_are_made_once_and_again_when_weights_or_data_change(flow: Path, tmp_path: Path) -> None:
    run, data = tmp_path / "autoencoder", flow / "flow.zarr"

    def made(source: Path = data) -> tuple[set[str], np.ndarray]:
        """What is new in the run folder, and the latents."""
        before = {path.name for path in run.glob("latents-*")}
        found = latents(run, Emulator.load(run), open_data(source))
        return {path.name for path in run.glob("latents-*")} - before, np.asarray(found.states)

    fit_autoencoder(small.experiment(tmp_path, data, "autoencoder"), run)
    (first, plain), (again, same) = made(), made()
    assert len(first) == 1 and not again and np.array_equal(plain, same)
    other = rewritten(data, tmp_path / "other.zarr", 2 * states_of(data))
    second, doubled = made(other)
    assert len(second) == 1 and not np.allclose(plain, doubled)
    assert made()[0] == made(other)[0] == set() and np.array_equal(made()[1], plain)

    training = {"learning_rate": 0.01}
    fit_autoencoder(small.experiment(tmp_path, data, "autoencoder", training=training), run, force=True)
    third, retrained = made()
    assert len(third) == 1 and not np.allclose(plain, retrained)
    next(path for path in (run / third.pop()).rglob("latent_0/c/**/*") if path.is_file()).unlink()
    assert np.array_equal(made()[1], retrained)


def test_shifts_of_latents_are_whole_cells_that_leave_the_law_unchanged() -> None:
    """Shifts by 6 fine cells and by 4 (one latent cell) are both whole at 12, three latent cells."""
    axes = tuple(Axis.uniform(name, 24, 2.4, symmetry) for name, symmetry in (("x", 1), ("y", 6), ("z", 0)))
    coarse = latent_axes(axes, (6, 6, 6))
    assert [axis.symmetry for axis in coarse] == [1, 3, 0]
    np.testing.assert_allclose(coarse[0].coordinates, 0.4 * np.arange(6) + 0.15)


def test_a_stepper_on_latents_forecasts_fields(flow: Path, tmp_path: Path) -> None:
    codec = [{"type": "run", "path": str(flow / "autoencoder")}, "standardize"]
    emulator = fit_stepper(small.experiment(tmp_path, flow / "flow.zarr", codec=codec), tmp_path / "run")
    loaded = Emulator.load(tmp_path / "run")
    assert equal(emulator, loaded)
    states = states_of(flow / "flow.zarr")[:2, 0]
    forecast = loaded.forecast(states, leads=2, members=2)
    assert dict(forecast.sizes) == {"realization": 2, "trajectory": 2, "lead_time": 2, "x": 16, "y": 16}
    encoded = latents(flow / "autoencoder", Emulator.load(flow / "autoencoder"), open_data(flow / "flow.zarr"))
    train = np.asarray(encoded.split("train").states, np.float64)
    standard = loaded.codec.codecs[-1]  # type: ignore[union-attr]
    np.testing.assert_allclose(standard.mean, train.mean((0, 1, 3, 4)), atol=1e-5)
    np.testing.assert_allclose(standard.std, train.std((0, 1, 3, 4)), rtol=1e-4)


# --- validation ----------------------------------------------------------------------------------------------------


def test_validation_scores_short_forecasts_of_the_valid_split(known: Path) -> None:
    """With its parameters and the forcing of each lead: against forecasts of the finished emulator."""
    emulator, data = Emulator.load(known / "generative"), open_data(known / "known.zarr").split("valid")
    states = emulator.codec.encode(torch.from_numpy(np.asarray(data.states)).flatten(0, 1)).unflatten(0, (2, 9))
    now, errors, scores = states[:, 0].repeat(2, 1, 1), [], []
    for lead in (1, 2):
        at = data.conditioning(np.arange(2), np.full(2, lead - 1))
        assert at.fields is not None and at.params is not None
        here = replace(at, fields=at.fields.repeat(2, 1, 1), params=at.params.repeat(2, 1))
        keys = [(row, member) for member in range(2) for row in range(2)]
        with torch.no_grad():
            now = emulator.stepper.step(now, here, stream(0, "validate", lead, rows=keys))
        ensemble = now.unflatten(0, (2, 2))
        errors.append(float(vrmse(ensemble.mean(0), states[:, lead], space=1).mean()))
        scores.append(float(crps(ensemble, states[:, lead], space=1).mean()))
    last = history(known / "generative")[-1]
    assert last["valid_vrmse"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert last["valid_crps"] == pytest.approx(np.mean(scores), rel=1e-5)


def test_validation_sees_what_is_known_at_each_lead(known: Path) -> None:
    ready = prepare(strided(known, known / "known.zarr", 2))
    data, seen = small.known_trajectories(), []

    class Watching(torch.nn.Linear):
        random = False

        def step(self, state: Any, conditioning: Any, stream: Any) -> Any:
            seen.append(conditioning)
            return state

    settings = small.experiment(known, known / "known.zarr").training.validation
    Rollouts(ready.states, ready.pending, 2, settings, 0)(Watching(1, 1))
    assert len(seen) == 2
    for lead, conditioning in enumerate(seen):
        np.testing.assert_allclose(conditioning.params[:, 0], data.parameters["strength"][6:8])
        np.testing.assert_allclose(conditioning.fields[0, 0], data.static["orography"])
        np.testing.assert_allclose(conditioning.fields[1, 1], data.forcing["sun"][2 * lead])


def test_an_autoencoder_with_parameters_is_validated_with_them(tmp_path: Path) -> None:
    data = save_zarr(small.known_trajectories(), tmp_path / "known.zarr")
    fit_autoencoder(small.experiment(tmp_path, data, "autoencoder"), tmp_path / "run")
    assert 0 < history(tmp_path / "run")[-1]["valid_vrmse"] < 1.5


def test_validation_needs_frames_for_one_step(tmp_path: Path) -> None:
    data = replace(small.known_trajectories(frames=5), splits=("train",) * 8 + ("valid", "test"))
    ready = prepare(small.experiment(tmp_path, save_zarr(data, tmp_path / "known.zarr")))
    with pytest.raises(DataError, match="validation trajectories have 5 frames, too few for one step of 5"):
        Rollouts(ready.states, ready.pending, 5, small.experiment(tmp_path, tmp_path).training.validation, 0)


# --- run folders ---------------------------------------------------------------------------------------------------


def test_a_finished_run_is_described_by_its_manifest(chaos: Path) -> None:
    manifest = json.loads((chaos / "deterministic" / "manifest.json").read_text())
    data = chaos / "chaos.zarr"
    assert manifest["inputs"] == {str(data): open_data(data).fingerprint()}
    emulator = Emulator.load(chaos / "deterministic")
    assert isinstance(emulator.stepper, Deterministic)
    assert manifest["parameters"] == sum(p.numel() for p in emulator.stepper.parameters())
    assert manifest["seed"] == 0 and manifest["torch"] == torch.__version__ and manifest["seconds"] > 0


def test_a_run_is_not_overwritten_and_force_starts_over(chaos: Path, tmp_path: Path) -> None:
    short, longer = (small.experiment(tmp_path, chaos / "chaos.zarr", training={"steps": n}) for n in (6, 9))
    run = tmp_path / "run"
    fit_stepper(longer, run)
    with pytest.raises(StorageError, match=r"run holds a run already: go on with --resume, start over with --force"):
        fit_stepper(short, run)
    with pytest.raises(ConfigError, match=r"config.yaml differs from the configuration given"):
        fit_stepper(short, run, resume=True)
    with pytest.raises(ConfigError, match=r"give one of them"):
        fit_stepper(short, run, resume=True, force=True)
    assert equal(fit_stepper(short, run, force=True), fit_stepper(short, tmp_path / "fresh"))
    names = [sorted(path.name for path in (r / "checkpoints").iterdir()) for r in (run, tmp_path / "fresh")]
    assert names[0] == names[1] == ["step-000004", "step-000006"]


def test_resuming_a_finished_run_changes_nothing(chaos: Path) -> None:
    run = chaos / "deterministic"
    before = {name: (run / name).read_bytes() for name in ("emulator.safetensors", "metrics.jsonl", "config.yaml")}
    fit_stepper(small.experiment(chaos, chaos / "chaos.zarr", "deterministic"), run, resume=True)
    assert {name: (run / name).read_bytes() for name in before} == before


def test_resuming_on_changed_data_is_refused(tmp_path: Path) -> None:
    data = small.chaos(tmp_path)
    experiment = small.experiment(tmp_path, data)
    fit_stepper(experiment, tmp_path / "run")
    rewritten(data, data, states_of(data) + 1)
    with pytest.raises(DataError, match=r"chaos.zarr has changed since the run in .*run began"):
        fit_stepper(experiment, tmp_path / "run", resume=True)


def test_a_mistake_found_before_training_leaves_the_folder_free(chaos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(DataError, match=r"nowhere.zarr does not exist"):
        fit_stepper(small.experiment(tmp_path, tmp_path / "nowhere.zarr"), run)
    with pytest.raises(DataError, match=r"13 frames, too few for one step of 13"):
        fit_stepper(strided(tmp_path, chaos / "chaos.zarr", 13), run)
    assert [path.name for path in run.iterdir()] == ["lock"]
    fit_stepper(small.experiment(tmp_path, chaos / "chaos.zarr"), run)


def test_a_failed_attempt_to_start_over_leaves_the_run(chaos: Path, tmp_path: Path) -> None:
    fit_stepper(small.experiment(tmp_path, chaos / "chaos.zarr"), tmp_path / "run")
    with pytest.raises(DataError, match=r"nowhere.zarr does not exist"):
        fit_stepper(small.experiment(tmp_path, tmp_path / "nowhere.zarr"), tmp_path / "run", force=True)
    assert Emulator.load(tmp_path / "run").layout.fields.names == ("u",)


def test_a_setting_that_is_refused_costs_nothing(chaos: Path, tmp_path: Path) -> None:
    """A finished run survives --force, and a folder that is not there yet is not made."""
    good, bad = (
        small.experiment(tmp_path, chaos / "chaos.zarr", training={"device": device}) for device in ("cpu", "cuda:77")
    )
    fit_stepper(good, tmp_path / "run")
    before = refusals.contents(tmp_path / "run")
    for folder, force in ((tmp_path / "run", True), (tmp_path / "fresh", False)):
        with pytest.raises(ConfigError, match=r"training.device: torch cannot use 'cuda:77' here"):
            fit_stepper(bad, folder, force=force)
    assert refusals.contents(tmp_path / "run") == before and not (tmp_path / "fresh").exists()
    fit_stepper(good, tmp_path / "fresh")
    for named, key, value in (("cuda:77", "device", "cuda:77"), ("no state before a step", "input_noise", 0.1)):
        bad = small.experiment(tmp_path, chaos / "chaos.zarr", "autoencoder", training={key: value})
        with pytest.raises(ConfigError, match=named):
            fit_autoencoder(bad, tmp_path / "autoencoder")
    assert not (tmp_path / "autoencoder").exists()


def test_a_lock_is_let_go_at_the_end_of_its_block(tmp_path: Path) -> None:
    lock = tmp_path / "folder" / "lock"
    with pytest.raises(StorageError, match="in use by process"), locked(lock), locked(lock):
        pass
    with pytest.raises(ZeroDivisionError), locked(lock):
        raise ZeroDivisionError
    with locked(lock, wait=True):
        assert f"process {os.getpid()} on" in lock.read_text()


def test_an_interrupted_demo_goes_on_where_it_was(tmp_path: Path) -> None:
    """Runs that are done are kept, the one that was stopped ends in the bits of one that was not."""
    small.flow(tmp_path).rename(tmp_path / "data.zarr")
    settings = ("training.steps=20", "training.warmup=2", "training.log_every=1", "training.validation.leads=2")
    run = tmp_path / "runs" / "interpolant"

    def interrupt() -> None:
        while len(history(run)) < 3:
            time.sleep(1e-3)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    with pytest.raises(Interrupted):
        list(demo._fit(tmp_path, settings))
    thread.join()
    assert not finished(run) and 3 <= len(history(run)) < 20
    assert list(demo._fit(tmp_path, settings)) == ["run interpolant", "run guess"]
    resumed = (run / "emulator.safetensors").read_bytes()
    shutil.rmtree(run)
    assert list(demo._fit(tmp_path, settings)) == ["run interpolant"]
    assert (run / "emulator.safetensors").read_bytes() == resumed
    assert list(demo._fit(tmp_path, settings)) == []
