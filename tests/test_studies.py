"""Studies: what a file may say, that no row gets more than another, and that a study survives being stopped."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftway.cli import main
from driftway.config import dump_yaml
from driftway.data import open_data
from driftway.errors import ConfigError, DataError, DriftwayError, StorageError
from driftway.simulate import make_data, preset_named
from driftway.studies.engine import executor, makespan, urgency
from driftway.studies.file import expand_dial, load_study, restore
from driftway.studies.plan import Task, plan
from driftway.studies.report import outcome_of
from driftway.studies.results import collect, curves
from driftway.studies.run import run_study
from driftway.studies.tasks import choice, record_of, stored
from tests.refusals import refusal
from tests.tiny_study import BRIDGE, NOISELESS, RATES, document, loaded, with_row, written

# --- the file ------------------------------------------------------------------------------------------------------


def test_rows_that_differ_in_their_sampler_alone_share_a_network(tmp_path: Path) -> None:
    study = loaded(tmp_path)
    assert {row.name: row.network for row in study.rows.values()} == {
        "plain": "plain",
        "bridge": "bridge",
        "silent": "bridge",
        "guess": "guess",
    }
    assert [row.name for row in study.networks] == ["plain", "bridge", "guess"]
    assert len(study.rows["bridge"].trials) == 2 and study.rows["silent"].trials == ()


def test_a_study_is_the_same_after_it_was_stored(tmp_path: Path) -> None:
    study = loaded(tmp_path)
    text = json.dumps(study.described())
    again = restore(json.loads(text), tmp_path / "study.json")
    assert json.dumps(again.described()) == text
    assert again.rows == restore(again.described(), tmp_path / "study.json").rows


def test_combinations_of_candidates_are_all_tried(tmp_path: Path) -> None:
    tune = {"training.learning_rate": [1e-3, 2e-3], "stepper.noise.factor": [0.5, 1.0]}
    rows = with_row("bridge", tune=tune)["rows"]
    for name in ("plain", "guess"):
        rows[name] = {**rows[name], "tune": {"training.learning_rate": [1e-3, 2e-3, 3e-3, 4e-3]}}
    study = loaded(tmp_path, rows=rows, tuning={"trials": 4})
    found = {
        (trial["training"]["learning_rate"], trial["stepper"]["noise"]["factor"])
        for trial in study.rows["bridge"].trials
    }
    assert found == {(1e-3, 0.5), (1e-3, 1.0), (2e-3, 0.5), (2e-3, 1.0)}


def test_a_dial_sweeps_one_setting() -> None:
    name, values = expand_dial({"steps": 5, "diffusion.base": "follmer", "diffusion.factor": [0.5, 1.0]})
    assert name == "diffusion.factor"
    assert values[0] == (0.5, {"steps": 5, "diffusion": {"base": "follmer", "factor": 0.5}})
    with pytest.raises(ConfigError, match="a dial has one setting with a list of values, got 2"):
        expand_dial({"steps": [1, 2], "temperature": [0.0]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (with_row("plain", file="bose.yaml"), "there is no file '.*bose.yaml'; did you mean 'base.yaml'"),
        (with_row("silent", like="bridg"), "there is no row 'bridg' above; did you mean 'bridge'"),
        (with_row("persistence_2", file="base.yaml"), "'persistence_2' is called like a reference"),
        (with_row("other"), "needs a file, or like: NAME of a row above"),
        (with_row("plain", tune={}), "tune gives 1 combinations, the study's tuning.trials 2 to every network"),
        (with_row("silent", tune=RATES), "shares the network of 'bridge': give tune there"),
        (with_row("plain", tune={"training.rate": [1, 2]}), "unknown key 'rate'"),
        (with_row("plain", set={"stepper": {"network": {"with": 8}}}), "unknown key 'with' of unet"),
        (with_row("plain", set={"codec": [{"type": "run", "path": "ae"}]}), "codec runs are the study's autoencoders"),
        (with_row("guess", set={"guess": "silent"}), "should name a deterministic row above, plain; got 'silent'"),
        (with_row("plain", set={"guess": "plain"}), "a deterministic row above, there is none; got 'plain'"),
        (with_row("guess", set={"guess": "plain", "codec": []}), "has another codec than its guess 'plain'"),
        (with_row("silent", file="base.yaml"), "has a file and is like 'bridge': give one of the two"),
        (with_row("plain", set={"codec": [{"type": "autoencoder"}]}), "codec should be a run of an autoencoder"),
        ({"autoencoders": {"ae": {"file": "base.yaml"}}}, r"ae: codec should be \[standardize, autoencoder\]"),
        (with_row("plain", seeds=1), "has more seeds than 'plain', which it needs"),
        (with_row("bridge", dials=[{"steps": 3}]), "a dial has one setting with a list of values, got 0"),
        (with_row("bridge", dials=[{"temperture": [0.0]}]), "unknown key 'temperture' .* did you mean 'temperature'"),
        (with_row("plain", dials=[{"temperature": [0.0]}]), "has dials, but no sampler"),
        ({"curves": {"steps": [1, 0]}}, "curves.steps.1: should be greater than or equal to 1"),
        ({"seeds": [1, 1]}, "seeds: a seed is there twice"),
        ({"data": {"preset": "burgers", "overrides": ["sise=[8]"]}}, "no number 'sise'; did you mean 'size'"),
        (with_row("bridge", set={"stepper": NOISELESS}), "follmer cannot be made with .*: need scale > 0"),
        ({"tuning": None}, "has tune, but the study has no tuning"),
        ({"data": {}}, "either a preset or a path"),
        ({"seads": [0]}, "unknown key 'seads'; did you mean 'seeds'"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused_with_its_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    rows = {**changes.get("rows", document()["rows"])}
    if message.startswith("has more seeds"):
        rows["guess"] = {**rows["guess"], "seeds": 2}
    path = written(tmp_path, document(**{**changes, "rows": rows}))
    with pytest.raises(ConfigError, match=message) as caught:
        load_study(path)
    assert "\n" not in str(caught.value)
    assert any(f"{name}:" in str(caught.value) for name in ("tiny.yaml", "base.yaml", "bridge.yaml"))


def test_a_row_that_is_there_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = written(tmp_path, document())
    path.write_text(path.read_text() + "  plain:\n    file: base.yaml\n")
    with pytest.raises(ConfigError, match=r"tiny.yaml:\d+: rows.plain: duplicate key; first in line \d+"):
        load_study(path)


# --- the plan ------------------------------------------------------------------------------------------------------


def test_the_test_split_waits_for_every_choice(tmp_path: Path) -> None:
    tasks, seen = plan(loaded(tmp_path)), set[str]()
    for task in tasks.values():
        assert seen.issuperset(task.needs)
        seen.add(task.name)
    chosen = {task.name for task in tasks.values() if task.kind == "choose"}
    for task in tasks.values():
        if task.kind in ("score", "references"):
            assert chosen <= set(task.needs)
    counts = {kind: sum(task.kind == kind for task in tasks.values()) for kind in ("trial", "fit", "score", "curve")}
    assert counts == {"trial": 6, "fit": 5, "score": 7, "curve": 3}


def test_a_curve_is_drawn_once(tmp_path: Path) -> None:
    """`one` differs from `bridge` in its steps alone, which the curve varies."""
    one = {"like": "bridge", "set": {"stepper": {"sampler": {"steps": 1}}}}
    tasks = plan(loaded(tmp_path, **with_row("one", **one)))
    assert {task.about for task in tasks.values() if task.kind == "curve"} == {"bridge", "silent", "guess"}
    assert {task.about for task in tasks.values() if task.kind == "score"} > {"one"}


def test_a_schedule_by_hand() -> None:
    """a (3 s) before b (2 s) and c (1 s); d (4 s) alone: two workers need 5 s, one 10 s."""
    tasks = {t.name: t for t in (Task("a"), Task("b", needs=("a/0",)), Task("c", needs=("a/0",)), Task("d"))}
    seconds = {"a/0": 3.0, "b/0": 2.0, "c/0": 1.0, "d/0": 4.0}
    assert urgency(tasks, seconds) == {"a/0": 5.0, "b/0": 2.0, "c/0": 1.0, "d/0": 4.0}
    assert makespan(tasks, seconds, 2) == 5.0
    assert makespan(tasks, seconds, 1) == 10.0
    assert makespan(tasks, seconds, 9) == 5.0


# --- running it ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, run by two workers."""
    folder = tmp_path_factory.mktemp("study")
    run_study(written(folder, document()), folder / "out", workers=2)
    return folder


def scores(folder: Path) -> dict[str, bytes]:
    """Every score but for those that are times."""
    clocks = {"ms_per_step", "forecast_seconds", "peak_memory"}
    found = {}
    for path in sorted(folder.rglob("scores/*/*.json")):
        values = json.loads(path.read_text())
        values["data_vars"] = {k: v for k, v in values["data_vars"].items() if k not in clocks}
        found[str(path.relative_to(folder))] = json.dumps(values).encode()
    return found


def test_results_have_every_row_and_seed(finished: Path) -> None:
    study = stored(finished / "out")
    found = collect(study, finished / "out")
    assert list(found["row"].values) == ["plain", "bridge", "silent", "guess", "climatology", "persistence"]
    assert found["crps"].sel(row=["plain", "bridge", "silent"]).notnull().all()
    assert found["crps"].sel(row="guess", seed=1).isnull().all()
    assert found["members"].sel(row="silent", seed=0) == 1 and found["members"].sel(row="bridge", seed=0) == 3
    assert (found["failures"].sel(row=["plain", "bridge"]) == 0).all()
    assert found["calls"].sel(row="bridge", seed=0) == 2 and found["calls"].sel(row="guess", seed=0) == 3
    points = curves(study, finished / "out")
    assert {(p["row"], p["dial"], p["value"]) for p in points if p["row"] == "bridge"} == {
        ("bridge", "steps", 1),
        ("bridge", "steps", 2),
        ("bridge", "temperature", 0.0),
        ("bridge", "temperature", 1.0),
    }


def test_the_page_is_given_the_first_initial_state_with_a_forecast_of_every_row(finished: Path, tmp_path: Path) -> None:
    case = outcome_of(stored(finished / "out"), finished / "out").case
    assert case is not None and list(case.forecasts) == ["plain", "bridge", "silent", "guess"]
    happened = open_data(finished / "out" / "data.zarr").split("test").load().states[0, 1:5, 0]
    np.testing.assert_array_equal(case.truth["u"].values, happened)
    assert case.members("bridge", "u").shape == (3, *happened.shape) and case.label == "test trajectory 0"
    shutil.copytree(finished / "out", tmp_path / "out", ignore=shutil.ignore_patterns("data.zarr"))
    assert outcome_of(stored(tmp_path / "out"), tmp_path / "out").case is None


def test_the_choice_is_the_trial_with_the_lowest_validation_score(finished: Path) -> None:
    study = stored(finished / "out")
    for row in study.networks:
        record = json.loads(record_of(finished / "out", Task("choose", row.name)).read_text())
        best = min(record["trials"], key=lambda trial: trial["crps"])
        assert record["change"] == best["change"] == choice(study, finished / "out", row)


def test_another_number_of_workers_gives_the_same_scores(finished: Path, tmp_path: Path) -> None:
    run_study(finished / "tiny.yaml", tmp_path / "alone", workers=1)
    assert scores(tmp_path / "alone") == scores(finished / "out")


def test_a_second_run_does_nothing_and_a_new_row_only_what_is_new(finished: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("out/scores/*/*.json")}
    assert run_study(finished / "tiny.yaml", finished / "out", workers=1)["done"] == 0
    added = {"like": "bridge", "set": {"stepper": {"sampler": {"steps": 1}}}}
    path = written(finished, document(**with_row("one", **added)))
    assert run_study(path, finished / "out", workers=1)["done"] == 2  # one per seed
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (with_row("plain", tune={"training.learning_rate": [1e-3, 3e-3]}), "row 'plain'"),
        ({"seeds": [0, 1, 2]}, "seeds"),
    ],
)
def test_scored_rows_keep_their_meaning(finished: Path, changes: dict[str, Any], named: str, tmp_path: Path) -> None:
    path = written(tmp_path, document(**changes))
    with pytest.raises(ConfigError, match=f"{named} is not as in .*out, whose test scores would mix two settings"):
        run_study(path, finished / "out", workers=1)


def test_a_row_that_was_left_out_keeps_its_meaning(finished: Path, tmp_path: Path) -> None:
    """What it left behind would be taken for that of the row that comes back; and a folder may be moved."""
    out, rows = tmp_path / "moved", document()["rows"]
    shutil.copytree(finished / "out", out)
    guess = rows.pop("guess")
    assert run_study(written(tmp_path, document(rows=rows)), out, workers=1)["done"] == 0
    changed = {**guess, "tune": {"training.learning_rate": [1e-3, 3e-3]}}
    with pytest.raises(ConfigError, match="row 'guess' is not as in"):
        run_study(written(tmp_path, document(rows={**rows, "guess": changed})), out, workers=1)
    assert run_study(written(tmp_path, document()), out, workers=1)["done"] == 0


def test_other_data_in_the_place_of_those_of_a_study_are_refused(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "out", tmp_path / "out")
    sums = tmp_path / "out" / "data.zarr" / "trajectory" / "SHA256SUMS"
    sums.write_text("".join(reversed(sums.read_text().splitlines(keepends=True))))
    with pytest.raises(DataError, match=r"data.zarr has changed since the study in .*out began"):
        run_study(written(tmp_path, document()), tmp_path / "out", workers=1)


def test_a_task_that_fails_is_named_and_the_time_until_then_kept(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished / "out", out)
    shutil.rmtree(out / "scores" / "plain")
    (out / "scores" / "plain").write_text("in the way")
    record_of(out, Task("score", "plain", 1)).unlink()
    before = json.loads((out / "manifest.json").read_text())["sessions"]
    with pytest.raises(StorageError, match=r"task score/plain/1: cannot write .*: a file is in the way"):
        run_study(written(tmp_path, document()), out, workers=1)
    *sessions, last = json.loads((out / "manifest.json").read_text())["sessions"]
    assert sessions == before and last["seconds"] > 0 and last["predicted_seconds"] == 0
    (out / "scores" / "plain").unlink()
    assert run_study(written(tmp_path, document()), out, workers=1)["done"] == 1


def test_a_worker_that_is_ended_is_told_in_a_line() -> None:
    with pytest.raises(DriftwayError, match="a worker was ended, perhaps for lack of memory"), executor(1) as pool:
        pool.submit(os._exit, 1).result()


def test_a_study_that_was_killed_goes_on_to_the_same_weights(finished: Path, tmp_path: Path) -> None:
    path = written(tmp_path, document())
    command = [sys.executable, "-m", "driftway.cli", "study", "run", str(path), "--out", str(tmp_path / "out")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for wanted in ("tasks/trial", "tasks/fit"):
        process = subprocess.Popen(
            [*command, "--workers", "1"], env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        until = time.monotonic() + 120
        try:
            while not list((tmp_path / "out" / wanted).rglob("*.json")) and process.poll() is None:
                assert time.monotonic() < until
                time.sleep(0.02)
        finally:
            process.kill()
            process.wait()
    run_study(path, tmp_path / "out", workers=1)
    assert scores(tmp_path / "out") == {k: v for k, v in scores(finished / "out").items() if "/one/" not in k}


def test_a_row_without_a_sampler_has_the_steppers_own_and_not_that_of_the_row_whose_network_it_shares(
    tmp_path: Path,
) -> None:
    """Three steps of Heun's method from a point take four calls, the stepper's own two steps two."""
    heun = {"file": "bridge.yaml", "set": {"stepper": {"sampler": {"type": "heun", "steps": 3}}}}
    study = document(rows={"heun": heun, "own": {"file": "own.yaml"}}, seeds=[0], tuning=None, curves=None)
    path = written(tmp_path, study)
    own = {"stepper": {key: value for key, value in BRIDGE["stepper"].items() if key != "sampler"}}
    (tmp_path / "own.yaml").write_text(dump_yaml({"extends": "base.yaml", **own}))
    run_study(path, tmp_path / "out", workers=1)
    assert load_study(path).rows["own"].network == "heun"
    found = collect(stored(tmp_path / "out"), tmp_path / "out")["calls"].sel(row=["heun", "own"], seed=0)
    assert found.values.tolist() == [4, 2]


def test_a_training_that_diverges_is_counted_and_never_chosen(tmp_path: Path) -> None:
    rows = document()["rows"]
    rows = {"plain": rows["plain"], "bridge": {**rows["bridge"], "tune": {"stepper.noise.factor": [1e30, 1.0]}}}
    rows["wild"] = {
        "file": "bridge.yaml",
        "set": {"training": {"ema": 0.5}},
        "tune": {"stepper.noise.factor": [1e30, 1e31]},
    }
    run_study(written(tmp_path, document(rows=rows, seeds=[0], curves=None)), tmp_path / "out", workers=2)
    study = stored(tmp_path / "out")
    assert choice(study, tmp_path / "out", study.rows["bridge"]) == {"stepper": {"noise": {"factor": 1.0}}}
    trial = json.loads(record_of(tmp_path / "out", Task("trial", "bridge", 0)).read_text())
    assert trial["diverged"] and trial["crps"] is None
    found = collect(study, tmp_path / "out").sel(row="wild", seed=0)
    assert int(found["failures"]) == 3 and math.isnan(float(found["crps"].mean(skipna=False)))


def test_tasks_run_on_a_dask_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers' working directory is not that of the command."""
    import distributed

    rows = {"plain": document()["rows"]["plain"]}
    path = written(tmp_path, document(rows=rows, seeds=[0]))
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        monkeypatch.chdir(tmp_path)
        found = run_study(path, Path("out"), workers=1, scheduler=cluster.scheduler_address)
    assert found["done"] == found["of"] == 7
    assert np.isfinite(collect(stored(tmp_path / "out"), tmp_path / "out")["crps"].sel(row="plain")).all()


def test_a_worker_of_dask_simulates_by_itself(tmp_path: Path) -> None:
    """It is a daemon and may start no process; the trajectories are more than are stepped together."""
    import distributed

    assert preset_named("kolmogorov").solver.chunk < 12
    few = ("trajectories=[10, 1, 1]", "frames=2", "burn_in=0.0")
    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        client.submit(make_data, "kolmogorov", tmp_path / "data.zarr", overrides=few).result()
    assert open_data(tmp_path / "data.zarr").shape[0] == 12


# --- the command line ----------------------------------------------------------------------------------------------


def test_a_plan_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, document(rows={"plain": document()["rows"]["plain"]}))
    assert main(["study", "plan", str(path), "--workers", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tasks"] == {"data": 1, "trial": 2, "choose": 1, "fit": 2, "references": 1, "score": 2}
    assert found["predicted_minutes"] >= 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base.yaml", "bridge.yaml", "tiny.yaml"]


def test_mistakes_end_in_a_line_before_anything_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, document(**with_row("silent", like="bride")))
    line = refusal(capsys, 2, "study", "run", path, "--out", tmp_path / "out")
    assert "tiny.yaml:" in line and "did you mean 'bridge'" in line
    assert not (tmp_path / "out").exists()
    good = written(tmp_path, document())
    assert "none answers" in refusal(
        capsys, 2, "study", "run", good, "--out", tmp_path / "out", "--scheduler", "tcp://127.0.0.1:1"
    )
