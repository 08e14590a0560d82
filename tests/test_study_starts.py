"""Rows that start from another's weights, or whose samples are trained: what they need, count and share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from driftway.emulator import Emulator
from driftway.errors import ConfigError
from driftway.studies.file import Study
from driftway.studies.plan import Task, plan
from driftway.studies.protocol import check_fair, experiment_for, shape_of, steps_of
from driftway.studies.run import run_study
from driftway.studies.tasks import STUDY
from tests.test_study_protocol import AUTOENCODER
from tests.tiny_study import document, loaded, written

SHORT = {"like": "bridge", "set": {"training": {"steps": 4}}, "exempt": "trained for less, to be tuned"}
TUNED = {"like": "bridge", "set": {"start": "short", "training": {"steps": 2}, "stepper": {"crps": 1.0}}}


def rows(**more: Any) -> dict[str, Any]:
    """Rows without trials: half of the steps, and the rest by CRPS."""
    bridge = {"file": "bridge.yaml"}
    return {"bridge": bridge, "short": SHORT, "tuned": TUNED, **more}


def study(folder: Path, **more: Any) -> Study:
    return loaded(folder, rows=rows(**more), tuning=None, curves=None)


def test_what_lies_behind_the_weights_counts_and_is_waited_for(tmp_path: Path) -> None:
    made = study(tmp_path)
    check_fair(made, shape_of(made))
    assert {name: steps_of(made, row) for name, row in made.rows.items()} == {"bridge": 6, "short": 4, "tuned": 6}
    assert Task("fit", "short", 1).name in plan(made)["fit/tuned/1"].needs
    experiment = experiment_for(made, tmp_path, made.rows["tuned"], 1, {})
    assert experiment.start == str(tmp_path / "runs" / "short" / "seed-1")
    longer = {"like": "tuned", "set": {"training": {"steps": 3}}}
    made = study(tmp_path, longer=longer)
    with pytest.raises(ConfigError, match="row 'longer' has optimiser steps 7 and 'bridge' 6"):
        check_fair(made, shape_of(made))


def test_a_sampler_is_part_of_a_network_where_its_samples_are_trained(tmp_path: Path) -> None:
    once = {"set": {"stepper": {"sampler": {"steps": 1}}}}
    made = study(tmp_path, bridge_1={"like": "bridge", **once}, tuned_1={"like": "tuned", **once})
    assert made.rows["bridge_1"].network == "bridge" and made.rows["tuned_1"].network == "tuned_1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": "none"}, r"start should name a trained row above, bridge, short; got 'none'"),
        ({"codec": []}, r"has another codec than its start 'short': give both the same"),
    ],
)
def test_a_start_is_a_row_above_of_the_same_codec(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"tiny.yaml:\d+: rows.tuned: {message}"):
        study(tmp_path, tuned={**TUNED, "set": {**TUNED["set"], **changes}})


def bare(**changes: Any) -> dict[str, Any]:
    """A study of one seed, without trials."""
    return document(**{"rows": rows(), "tuning": None, "curves": None, "seeds": [0], **changes})


def test_they_are_trained_in_order_and_an_older_folder_goes_on(tmp_path: Path) -> None:
    """A folder that was made before a setting existed has its default."""
    out = tmp_path / "out"
    assert run_study(written(tmp_path, bare()), out, workers=1)["done"] == 11
    short, tuned = (Emulator.load(out / "runs" / name / "seed-0").state_dict() for name in ("short", "tuned"))
    assert short.keys() == tuned.keys() and not all(torch.equal(short[name], tuned[name]) for name in short)
    described = json.loads((out / STUDY).read_text())
    assert described["about"].pop("tolerance") == 0.2
    (out / STUDY).write_text(json.dumps(described))
    assert run_study(written(tmp_path, bare(tolerance=0.02)), out, workers=1)["done"] == 0


def test_an_autoencoder_may_be_added_but_not_changed_or_left_out(tmp_path: Path) -> None:
    (tmp_path / "ae.yaml").write_text(json.dumps(AUTOENCODER))
    out, one = tmp_path / "out", {"one": {"file": "ae.yaml"}}
    coded = {"plain": {"file": "base.yaml", "set": {"codec": [{"type": "run", "path": "one"}]}}}
    run_study(written(tmp_path, bare(rows=coded, autoencoders=one)), out, workers=1)
    two = {**one, "two": {"file": "ae.yaml", "set": {"seed": 1}}}
    assert run_study(written(tmp_path, bare(rows=coded, autoencoders=two)), out, workers=1)["done"] == 2
    changed = {**one, "two": {"file": "ae.yaml", "set": {"seed": 2}}}
    for autoencoders in (changed, one):
        with pytest.raises(ConfigError, match="autoencoder 'two' is not as in"):
            run_study(written(tmp_path, bare(rows=coded, autoencoders=autoencoders)), out, workers=1)
