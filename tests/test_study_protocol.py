"""What makes a study fair and its trials honest: refused before anything is trained, counted where it diverges."""

from __future__ import annotations

import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import driftway
from driftway.checkpoints import read_json
from driftway.config import dump_yaml
from driftway.config.yaml import load_yaml
from driftway.data import Trajectories, save_zarr
from driftway.emulator import Emulator
from driftway.errors import ConfigError, DataError
from driftway.evaluation import score
from driftway.schema import EvaluationSection
from driftway.scoring import truth_for
from driftway.storage import atomic_write
from driftway.studies import costs
from driftway.studies.file import load_study
from driftway.studies.judging import mean_crps
from driftway.studies.plan import Task, plan
from driftway.studies.protocol import check_fair, shape_of, steps_of
from driftway.studies.run import plan_study
from driftway.studies.tasks import STUDY, perform, record_of
from driftway.workflow import layout_of
from tests import small
from tests.tiny_study import BASE, document, loaded, with_row, written

BOTH = ("plain", "bridge")
AUTOENCODER = {"name": "ae", "data": {"path": "data.zarr"}, "training": {"steps": 5}, **small.KINDS["autoencoder"]}


def overridden(**numbers: Any) -> dict[str, Any]:
    """The data of the study with some numbers changed."""
    kept = [text for text in document()["data"]["overrides"] if text.partition("=")[0] not in numbers]
    changed = [f"{name}={value}" for name, value in numbers.items()]
    return {"data": {"preset": "kuramoto-sivashinsky", "overrides": [*kept, *changed]}}


def encoded(folder: Path, steps: int, batch: int = 4) -> dict[str, Any]:
    """Two rows on an autoencoder each, the second trained as given."""
    (folder / "ae.yaml").write_text(json.dumps(AUTOENCODER))
    rows = {name: {**document()["rows"][name], "set": {"codec": [{"type": "run", "path": name}]}} for name in BOTH}
    autoencoders = {
        "plain": {"file": "ae.yaml", "set": {"training": {"batch": 4}}},
        "bridge": {"file": "ae.yaml", "set": {"training": {"steps": steps, "batch": batch}}},
    }
    return {"rows": rows, "autoencoders": autoencoders}


# --- no row gets more ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (with_row("bridge", set={"training": {"steps": 7}}), "row 'bridge' has optimiser steps 7 and 'plain' 6"),
        (with_row("bridge", set={"training": {"batch": 5}}), "row 'bridge' has training.batch 5 and 'plain' 4"),
        (with_row("bridge", set={"stepper": {"antithetic": True}}), "'bridge' has stepper.antithetic True and 'plain'"),
        (with_row("bridge", set={"evaluation": {"leads": 3}}), "row 'bridge' has evaluation.leads 3"),
        (with_row("bridge", set={"data": {"stride": 2}}), "row 'bridge' has data.stride 2 and 'plain' 1"),
        ({"tolerance": 0.001}, r"row 'bridge' has \d+ weights and 'plain' \d+: more than 0.1% apart"),
        (with_row("plain", tune={"stepper.network.width": [8, 16]}), r"row 'plain' has \d+ weights and 'plain' \d+"),
    ],
)  # fmt: skip
def test_no_row_gets_more_than_another(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    study = loaded(tmp_path, **changes)
    with pytest.raises(ConfigError, match=rf"tiny.yaml:\d+: .*{message}"):
        check_fair(study, shape_of(study))


def test_ensembles_are_of_one_size(tmp_path: Path) -> None:
    study = loaded(tmp_path, **with_row("bridge", set={"evaluation": {"members": 5}}))
    with pytest.raises(ConfigError, match=r"ensembles of \[3, 5\] members"):
        check_fair(study, shape_of(study))


@pytest.mark.parametrize(
    ("tune", "key"),
    [
        ({"training.steps": [6, 60]}, "training.steps"),
        ({"training.batch": [4, 8]}, "training.batch"),
        ({"training.learning_rate": [1e-3], "stepper.antithetic": [False, True]}, "stepper.antithetic"),
        ({"evaluation.members": [3, 4]}, "evaluation"),
        ({"data.stride": [1, 2]}, "data"),
        ({"guess": [None, "plain"]}, "guess"),
        ({"codec": [["standardize"], []]}, "codec"),
        ({"stepper.sampler.steps": [1, 5]}, "stepper.sampler, but 'silent' shares the network"),
    ],
)
def test_tuning_changes_nothing_that_rows_have_in_common(tmp_path: Path, tune: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"tiny.yaml:\d+: rows.bridge: tune changes {key}"):
        loaded(tmp_path, **with_row("bridge", tune=tune))


def test_no_two_rows_are_further_apart_in_weights_than_the_tolerance(tmp_path: Path) -> None:
    """The first lies between the others, and is within 20 % of both."""
    plain = document()["rows"]["plain"]
    sized = {n: {**plain, "set": {"stepper": {"network": {"embedding": n}}}} for n in (8, 6, 10)}
    for names in ((8, 6), (8, 10)):
        study = loaded(tmp_path, rows={f"row_{n}": sized[n] for n in names})
        check_fair(study, shape_of(study))
    study = loaded(tmp_path, rows={f"row_{n}": row for n, row in sized.items()})
    with pytest.raises(ConfigError, match=r"'row_10' has \d+ weights and 'row_6' \d+: more than 20% apart"):
        check_fair(study, shape_of(study))


@pytest.mark.parametrize(("changes", "what"), [({"steps": 6}, "optimiser steps 6"), ({"batch": 8}, "training.batch 8")])
def test_autoencoders_are_trained_alike(tmp_path: Path, changes: dict[str, int], what: str) -> None:
    study = loaded(tmp_path, **encoded(tmp_path, 5))
    check_fair(study, shape_of(study))
    study = loaded(tmp_path, **encoded(tmp_path, **{"steps": 5, **changes}))
    with pytest.raises(ConfigError, match=f"row 'bridge' has an autoencoder of {what}"):
        check_fair(study, shape_of(study))


def test_steps_of_a_guess_count_and_a_reason_exempts(tmp_path: Path) -> None:
    study = loaded(tmp_path)
    assert steps_of(study, study.rows["guess"]) == 12 and steps_of(study, study.rows["bridge"]) == 6
    check_fair(study, shape_of(study))
    rows = document()["rows"]
    del rows["guess"]["exempt"]
    fairless = loaded(tmp_path, rows=rows)
    with pytest.raises(ConfigError, match="row 'guess' has optimiser steps 12 and 'plain' 6"):
        check_fair(fairless, shape_of(fairless))


FOLDER = Path(driftway.__file__).parent / "experiments" / "studies"
STUDIES = [path for path in sorted(FOLDER.rglob("*.yaml")) if {"rows", "data"} <= load_yaml(path).keys()]
TRUNKS = (range(400_000, 435_000), range(100_000, 120_000), range(525_000, 540_000))  # 2-D, 1-D, sphere


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: str(path.relative_to(FOLDER).with_suffix("")))
def test_the_studies_of_the_package_are_fair(path: Path) -> None:
    study = load_study(path)
    assert study.about.name == path.stem
    sizes = check_fair(study, shape_of(study))
    bound = [size for name, size in sizes.items() if size and not study.rows[name].exempt]
    assert any(all(size in trunk for size in bound) for trunk in TRUNKS)


# --- there is enough to be judged by -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (overridden(frames=4), "evaluation.leads: 4 steps of 1 frames, where trajectories have 4: give at most 3"),
        ({"tuning": {"trials": 2, "trajectories": 2, "leads": 13}}, "tuning.leads: 13 steps .* give at most 12"),
        ({"curves": {"steps": [1], "trajectories": 2, "leads": 13}}, "curves.leads: 13 steps .* give at most 12"),
        ({"tuning": {"trials": 2, "leads": 2}}, "tuning.trajectories: 8 of the split 'valid', which has 2"),
        (overridden(trajectories=[6, 2, 0]), "evaluation.trajectories: all of the split 'test', which has 0"),
        ({**overridden(trajectories=[0, 2, 3])}, "data: the split 'train' is empty"),
    ],
)  # fmt: skip
def test_what_data_do_not_have_is_told_before_they_are_made(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = written(tmp_path, document(**changes))
    with pytest.raises(ConfigError, match=f"tiny.yaml: {message}"):
        plan_study(path, workers=1)


def test_a_data_set_without_a_split_is_named(tmp_path: Path) -> None:
    data = small.known_trajectories()
    save_zarr(replace(data, splits=("train",) * 8 + ("valid",) * 2), tmp_path / "data.zarr")
    with pytest.raises(DataError, match=r"data.zarr: split 'test' is empty"):
        shape_of(loaded(tmp_path, data={"path": "data.zarr"}))


def test_costs_are_measured_of_rows_that_know_more_than_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On data with a parameter, a static field and a forcing."""
    monkeypatch.setattr(costs, "LONG", 0.0)
    save_zarr(small.known_trajectories(), tmp_path / "data.zarr")
    changes = {**encoded(tmp_path, 5), "data": {"path": "data.zarr"}, "seeds": [0]}
    study = loaded(tmp_path, **changes)
    tasks = plan(study)
    with ThreadPoolExecutor(1) as pool:
        found = costs.estimate(study, tasks, pool)
    assert all(found[name] > 0 for name, task in tasks.items() if task.kind in ("autoencoder", "trial", "fit", "score"))


# --- what diverges -------------------------------------------------------------------------------------------------


def crps_of(folder: Path, data: Trajectories, error: np.ndarray) -> float:
    """Of a forecast that adds an error (members, trajectories, leads, fields, points) to the truth."""
    save_zarr(data, folder / "data.zarr", force=True)
    layout, judged = layout_of(data), EvaluationSection(split="valid", leads=error.shape[2], members=len(error))
    truth = truth_for(data.split("valid"), judged.leads)
    scales = {name: float(truth[name].std()) for name in layout.fields.names}
    parts = {name: error[:, :, :, c] * scales[name] for c, name in enumerate(scales)}
    forecast = truth.expand_dims(realization=len(error)).copy(deep=True)
    for name, part in parts.items():
        forecast[name].values += part.astype(np.float32)
    return mean_crps(score({"it": forecast}, truth, layout), folder / "data.zarr", judged)


@pytest.fixture
def error() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 2, 4, 2, 16))


def test_a_forecast_that_diverges_loses_whatever_its_first_leads_were(tmp_path: Path, error: np.ndarray) -> None:
    data = small.known_trajectories()
    assert 0 < crps_of(tmp_path, data, 1e-3 * error) < crps_of(tmp_path, data, error) < math.inf
    error[0, 1, -1, 0, 3] = math.nan
    assert crps_of(tmp_path, data, 1e-3 * error) == math.inf


def test_fields_count_alike_in_a_choice_whatever_their_units(tmp_path: Path, error: np.ndarray) -> None:
    data = small.known_trajectories()
    states = np.array(data.states)
    states[:, :, 1] *= 1000
    found = [crps_of(tmp_path, replace(data, states=u), error) for u in (np.array(data.states), states)]
    assert found[1] == pytest.approx(found[0], rel=1e-4)


# --- single tasks --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose data are made and whose settings are chosen."""
    folder = tmp_path_factory.mktemp("begun")
    study = loaded(folder, seeds=[0])
    out = folder / "out"
    out.mkdir()
    atomic_write(out / STUDY, json.dumps(study.described()).encode())
    perform(out, "data/0")
    for chosen in study.networks:
        record = record_of(out, Task("choose", chosen.name))
        record.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(record, json.dumps({"change": {}}).encode())
    return out


@pytest.fixture
def out(begun: Path, tmp_path: Path) -> Path:
    return shutil.copytree(begun, tmp_path / "out")


def test_a_row_whose_guess_diverged_counts_as_one_that_did(out: Path) -> None:
    """`plain` was not trained to its end: it left no emulator."""
    assert perform(out, "fit/guess/0")["diverged"]
    assert perform(out, "score/guess/0")["failures"] == 3


def test_a_training_goes_on_where_its_folder_was_moved(out: Path, tmp_path: Path) -> None:
    """Killed before its emulator was written; its configuration holds the paths of the old place."""
    perform(out, "fit/plain/0")
    weights = Emulator.load(out / "runs" / "plain" / "seed-0").state_dict()
    (out / "runs" / "plain" / "seed-0" / "emulator.json").unlink()
    moved = out.rename(tmp_path / "elsewhere")
    assert not perform(moved, "fit/plain/0")["diverged"]
    again = Emulator.load(moved / "runs" / "plain" / "seed-0").state_dict()
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_a_training_that_was_killed_before_its_manifest_was_finished_goes_on(out: Path) -> None:
    perform(out, "fit/plain/0")
    path = out / "runs" / "plain" / "seed-0" / "manifest.json"
    manifest = read_json(path, "a run")
    atomic_write(path, json.dumps({k: v for k, v in manifest.items() if k not in ("seconds", "parameters")}).encode())
    assert perform(out, "fit/plain/0")["parameters"] == manifest["parameters"]


def test_a_forecast_that_was_left_half_scored_is_replaced(out: Path) -> None:
    perform(out, "fit/plain/0")
    first = perform(out, "score/plain/0")
    run = out / "runs" / "plain" / "seed-0"
    shutil.copytree(out / "forecasts" / "plain.zarr", run / "forecast-plain.zarr")
    assert perform(out, "score/plain/0")["failures"] == first["failures"] == 0
    assert not list(run.glob("*forecast*"))


def test_a_linear_model_takes_no_steps_and_is_a_guess_like_another(tmp_path: Path) -> None:
    """It has neither the network nor the weights of the others, and a bridge from it needs no reason."""
    rows = document()["rows"]
    rows["guess"].pop("exempt")
    linear = {"file": "linear.yaml", "tune": {"stepper.ridge": [1e-4, 1e-2]}}
    guessed = {**rows["guess"], "set": {"guess": "linear"}}
    path = written(tmp_path, document(tolerance=0.5, rows={"linear": linear, **rows, "guess": guessed}))
    (tmp_path / "linear.yaml").write_text(dump_yaml({**BASE, "stepper": {"type": "linear"}}))
    study = load_study(path)
    weights = check_fair(study, shape_of(study))
    assert weights["linear"] == 0 and steps_of(study, study.rows["linear"]) == 0
    assert steps_of(study, study.rows["guess"]) == steps_of(study, study.rows["bridge"])
