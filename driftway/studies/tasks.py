"""What each task of a study does, in any process: everything is read from the study's folder and written to it.

A task that is over has a record in `tasks/`; one that was stopped is begun again and resumes its training from the
last checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import math
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from driftway.build import build_sampler
from driftway.checkpoints import read_json
from driftway.config.yaml import Document, merge
from driftway.data import open_data
from driftway.emulator import Emulator
from driftway.errors import DivergedError
from driftway.schema import Experiment, dump
from driftway.scoring import save_scores
from driftway.simulate import make_data
from driftway.storage import atomic_write, without_nan
from driftway.studies.file import Row, Study, expand_dial, restore, sampler_of
from driftway.studies.judging import judge, judge_references, mean_crps
from driftway.studies.plan import Task, plan
from driftway.studies.protocol import autoencoder_for, data_of, experiment_for, forecast_of, run_of
from driftway.tuning import scores_of_samplers
from driftway.workflow import finished, fit_autoencoder, fit_stepper, latents

STUDY = "study.json"


def stored(folder: Path) -> Study:
    """The study that a folder holds."""
    return restore(read_json(folder / STUDY, "a study's folder"), folder / STUDY)


def record_of(folder: Path, task: Task) -> Path:
    """Where a task's record lies once it is over."""
    return folder / "tasks" / f"{task.name}.json"


def done(folder: Path, task: Task) -> bool:
    """Whether a task is over."""
    return record_of(folder, task).is_file()


def left(folder: Path, tasks: Mapping[str, Task]) -> dict[str, Task]:
    """What is not done yet."""
    return {name: task for name, task in tasks.items() if not done(folder, task)}


def perform(folder: Path, name: str) -> dict[str, Any]:
    """Do one task and write its record; what it has to say on the way goes to `tasks/NAME.log`."""
    torch.set_num_threads(1)
    study = stored(folder)
    task, began = plan(study)[name], time.perf_counter()
    path = record_of(folder, task)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".log").open("a") as log, contextlib.redirect_stderr(log):
        found = TASKS[task.kind](study, folder, task)
    record = {"task": name, "seconds": round(time.perf_counter() - began, 2), "machine": platform.node(), **found}
    atomic_write(path, json.dumps(without_nan(record), indent=1).encode())
    return record


Facts = dict[str, Any]


def _data(study: Study, folder: Path, task: Task) -> Facts:
    """The states, simulated or checked to be there."""
    source, path = study.about.data, data_of(study, folder)
    if source.preset is not None and not path.exists():
        make_data(source.preset, path, seed=source.seed, overrides=source.overrides)
    return {"fingerprint": open_data(path).fingerprint()}


def _autoencoder(study: Study, folder: Path, task: Task) -> Facts:
    """An autoencoder, and the latents of all states."""
    run = folder / "autoencoders" / task.about
    if not _over(run):
        experiment = autoencoder_for(study, folder, task.about)
        fit_autoencoder(experiment, run, **_how(experiment, run))
    latents(run, Emulator.load(run), open_data(data_of(study, folder)))
    return {}


def _trial(study: Study, folder: Path, task: Task) -> Facts:
    """One candidate for a network's settings: trained, and judged on the validation split."""
    tuning, row = study.about.tuning, study.rows[task.about]
    assert tuning is not None
    change = row.trials[task.number]
    short = {} if tuning.steps is None else {"training": {"steps": tuning.steps}}
    run = folder / "trials" / row.name / str(task.number)
    experiment = experiment_for(study, folder, row, study.about.seeds[0], merge(change, short))
    if not _fitted(experiment, run):
        return {"change": change, "crps": math.inf, "diverged": True}
    data, stride = data_of(study, folder), experiment.data.stride
    found = judge(run, data, tuning.evaluation, row.name, stride)
    crps = mean_crps(found, data, tuning.evaluation, stride)
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    return {"change": change, "crps": crps, "diverged": math.isinf(crps)}


def _fitted(experiment: Experiment, run: Path) -> bool:
    """Train into a run folder unless that is done; whether training, and what it builds on, stayed finite."""
    try:
        for other in (experiment.guess, experiment.start):
            if other is not None and not finished(Path(other)):
                raise DivergedError(f"the training of {other}, which this builds on, diverged")
        if not _over(run):
            fit_stepper(experiment, run, **_how(experiment, run))
    except DivergedError as error:
        atomic_write(run / "diverged.txt", str(error).encode())
        return False
    return True


def _over(run: Path) -> bool:
    """Whether a training is over and its manifest says so, which is written last."""
    return finished(run) and "seconds" in read_json(run / "manifest.json", "a run")


def _how(experiment: Experiment, run: Path) -> dict[str, bool]:
    """Resume what was begun; start over where the study's folder has been moved since, as its paths tell."""
    config = run / "config.yaml"
    there, same = config.exists(), config.exists() and config.read_text() == dump(experiment)
    return {"resume": same, "force": there and not same}


def _choose(study: Study, folder: Path, task: Task) -> Facts:
    """The candidate with the lowest CRPS on the validation split, from here on frozen."""
    row = study.rows[task.about]
    trials = [read_json(record_of(folder, Task("trial", row.name, k)), "a study") for k in range(len(row.trials))]
    scores = [math.inf if trial["crps"] is None else trial["crps"] for trial in trials]
    best = min(range(len(trials)), key=scores.__getitem__, default=None)
    change = {} if best is None else trials[best]["change"]
    return {"chosen": best, "change": change, "trials": [{"change": t["change"], "crps": t["crps"]} for t in trials]}


def choice(study: Study, folder: Path, row: Row) -> Document:
    """The change of a row's settings that tuning chose."""
    return read_json(record_of(folder, Task("choose", row.network)), "a study")["change"]


def _fit(study: Study, folder: Path, task: Task) -> Facts:
    """The final training of a network with one seed."""
    row = study.rows[task.about]
    run = run_of(folder, row, task.number)
    experiment = experiment_for(study, folder, row, task.number, choice(study, folder, row))
    if not _fitted(experiment, run):
        return {"diverged": True}
    manifest = read_json(run / "manifest.json", "a run")
    return {"diverged": False, "parameters": manifest["parameters"], "train_seconds": manifest["seconds"]}


def _score(study: Study, folder: Path, task: Task) -> Facts:
    """The one look at the test split: a row's scores with one seed."""
    row = study.rows[task.about]
    chosen = experiment_for(study, folder, row, task.number, choice(study, folder, row))
    sampler = build_sampler(sampler_of(chosen.stepper)) if row.generative else None
    picture = forecast_of(folder, row.name) if task.number == study.about.seeds[0] else None
    run, stride = run_of(folder, row, task.number), chosen.data.stride
    found = judge(run, data_of(study, folder), chosen.evaluation, row.name, stride, sampler, picture, anomalies=True)
    save_scores(found, folder / "scores" / row.name / f"seed-{task.number}.json")
    return {"failures": int(found["failures"].sum())}


def _references(study: Study, folder: Path, task: Task) -> Facts:
    """What every row is measured against, on the same states of the test split."""
    experiment = next(iter(study.rows.values())).experiment
    runs = {str(folder / "autoencoders" / name): name for name in study.autoencoders}
    found = judge_references(runs, data_of(study, folder), experiment.evaluation, experiment.data.stride)
    for name, scores in found.items():
        save_scores(scores, folder / "references" / f"{name}.json")
    return {"references": list(found)}


def _curve(study: Study, folder: Path, task: Task) -> Facts:
    """Scores on the validation split against sampling steps and along the dials, of one trained network."""
    curves, row = study.about.curves, study.rows[task.about]
    assert curves is not None
    run = run_of(folder, row, task.number)
    if not finished(run):
        return {"points": []}
    spec = sampler_of(experiment_for(study, folder, row, task.number, choice(study, folder, row)).stepper)
    swept: list[tuple[str, Any, Document]] = [("steps", n, merge(spec, {"steps": n})) for n in curves.steps]
    for dial in row.dials:
        name, values = expand_dial(dial)
        swept += [(name, value, merge(spec, change)) for value, change in values]
    points = scores_of_samplers(
        Emulator.load(run),
        open_data(data_of(study, folder)),
        [build_sampler(sampler) for _, _, sampler in swept],
        split="valid",
        leads=curves.leads,
        members=curves.members,
        trajectories=curves.trajectories,
        starts=curves.starts,
        seed=task.number,
    )
    rows = [{"dial": name, "value": value, **point} for (name, value, _), point in zip(swept, points, strict=True)]
    return {"points": rows}


TASKS: dict[str, Callable[[Study, Path, Task], Facts]] = {
    "data": _data,
    "autoencoder": _autoencoder,
    "trial": _trial,
    "choose": _choose,
    "fit": _fit,
    "score": _score,
    "references": _references,
    "curve": _curve,
}
