"""A study from its file to its results: check, predict, carry out, collect."""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from driftway.checkpoints import read_json
from driftway.config.yaml import Document
from driftway.data import open_data
from driftway.errors import ConfigError, DataError
from driftway.runs import locked
from driftway.storage import atomic_write, explained
from driftway.studies.costs import estimate
from driftway.studies.engine import carry_out, executor, makespan
from driftway.studies.file import Study, load_study, restore
from driftway.studies.plan import Task, plan
from driftway.studies.protocol import check_fair, data_of, shape_of
from driftway.studies.tasks import STUDY, done, left, record_of
from driftway.version import __version__

ESTIMATE = "estimate.json"
MEASURED = ("data", "autoencoder", "trial", "fit", "score", "curve")


def plan_study(path: Path, *, workers: int | None = None, scheduler: str | None = None) -> dict[str, Any]:
    """Check a study and predict how long it takes, without writing anything."""
    workers = workers or os.cpu_count() or 1
    study, sizes = _checked(path)
    tasks = plan(study)
    with executor(workers, scheduler) as pool:
        seconds = estimate(study, tasks, pool)
    return {
        "study": study.about.name,
        "rows": len(study.rows),
        "networks": {name: f"{size} weights" for name, size in sizes.items()},
        "tasks": dict(Counter(task.kind for task in tasks.values())),
        "predicted_minutes": round(makespan(tasks, seconds, workers) / 60, 1),
        "workers": workers,
    }


def run_study(path: Path, folder: Path, *, workers: int | None = None, scheduler: str | None = None) -> dict[str, Any]:
    """Carry a study out in `folder`, or go on with what is not done; returns how long it took beside the prediction.

    workers: how many tasks at a time, by default one per processor. scheduler: address of a Dask scheduler whose
    workers see the folder.
    """
    workers, given = workers or os.cpu_count() or 1, folder
    folder = folder.resolve()  # workers elsewhere have working directories of their own
    study, sizes = _checked(path)
    tasks = plan(study)
    with locked(folder / "lock"):
        _claim(study, folder, path)
        _check_data(study, folder)
        with executor(workers, scheduler) as pool:
            seconds = _estimated(study, folder, tasks, pool, workers)
            waiting = left(folder, tasks)
            predicted, began = makespan(waiting, seconds, workers), time.time()
            try:
                carry_out(folder, tasks, seconds, pool, workers)
            finally:
                took = time.time() - began
                over = predicted - makespan(left(folder, tasks), seconds, workers)
                _remember(folder, sizes, over, took, workers)
    return {
        "study": str(given),
        "done": len(waiting),
        "of": len(tasks),
        "predicted_minutes": round(predicted / 60, 1),
        "minutes": round(took / 60, 1),
        "next": f"driftway study report {given}",
    }


def _checked(path: Path) -> tuple[Study, dict[str, int]]:
    """A study that is fair, and each network's number of weights."""
    study = load_study(path)
    try:
        return study, check_fair(study, shape_of(study))
    except ConfigError as error:
        if str(path) in str(error):
            raise
        raise ConfigError(f"{path}: {error}") from error


def _claim(study: Study, folder: Path, source: Path) -> None:
    """Write what the study is. One that is under way may get rows and lose them; what it has had keeps its meaning.

    Rows that it has lost are remembered, since what they left would be taken for that of others of their names.
    """
    path, described = folder / STUDY, study.described()
    stored = read_json(path, "a study's folder") if path.exists() else described
    before = restore(stored, path).described()  # settings that are newer than the folder have their defaults
    rows = {**stored.get("lost", {}), **before["rows"]}
    changed = [key for key, value in _kept(described).items() if _kept(before)[key] != value]
    changed += [f"row '{name}'" for name in _other(described["rows"], rows)]
    encoders = before["autoencoders"]  # one may be added, but none left out, since rows would not miss it
    changed += [f"autoencoder '{name}'" for name in _other(described["autoencoders"], encoders)]
    changed += [f"autoencoder '{name}'" for name in encoders if name not in described["autoencoders"]]
    if changed:
        raise ConfigError(
            f"{source}: {changed[0]} is not as in {folder}, whose test scores would mix two settings: undo the "
            "change, rename the row, or choose another --out"
        )
    lost = {name: row for name, row in rows.items() if name not in described["rows"]}
    with explained(path):
        if set(described["autoencoders"]) - set(encoders):
            record_of(folder, Task("references")).unlink(missing_ok=True)  # what the new one leaves of the truth
        atomic_write(path, json.dumps({**described, "lost": lost}, indent=1, ensure_ascii=False).encode())


def _kept(described: Document) -> Document:
    """What may not change; data may be moved, for they are known by their fingerprint."""
    about = described["about"]
    return {**about, "data": {**about["data"], "path": None}}


def _other(described: Document, before: Document) -> list[str]:
    """Those that were there before and were something else."""
    return [name for name, part in described.items() if before.get(name, part) != part]


def _check_data(study: Study, folder: Path) -> None:
    """The data are those that the study began with."""
    record, path = record_of(folder, Task("data")), data_of(study, folder)
    if record.exists() and read_json(record, "a study")["fingerprint"] != open_data(path).fingerprint():
        raise DataError(f"{path} has changed since the study in {folder} began: bring it back, or choose another --out")


def _estimated(study: Study, folder: Path, tasks: dict[str, Task], pool: Any, workers: int) -> Mapping[str, float]:
    """Seconds per task: measured once, and again when there are new tasks."""
    path = folder / ESTIMATE
    known = dict(read_json(path, "a study's folder")["tasks"]) if path.exists() else {}
    missing = {name: task for name, task in tasks.items() if name not in known and task.kind in MEASURED}
    if missing:
        known |= estimate(study, missing, pool)
    whole = {"tasks": known, "workers": workers, "predicted_seconds": round(makespan(tasks, known, workers), 1)}
    atomic_write(path, json.dumps(whole, indent=1).encode())
    return known


def _remember(folder: Path, sizes: dict[str, int], predicted: float, took: float, workers: int) -> None:
    """One session's times, those predicted for what was done in it, and what it ran on."""
    path = folder / "manifest.json"
    sessions = read_json(path, "a study's folder")["sessions"] if path.exists() else []
    versions = {"driftway": __version__, "python": platform.python_version(), "torch": torch.__version__}
    session = {"predicted_seconds": round(predicted, 1), "seconds": round(took, 1), "workers": workers, **versions}
    manifest = {
        **versions,
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "weights": sizes,
        "sessions": [*sessions, session],
    }
    atomic_write(path, json.dumps(manifest, indent=1).encode())


def measured(folder: Path, tasks: Mapping[str, Task]) -> dict[str, float]:
    """Seconds that each finished task took."""
    return {
        name: float(read_json(record_of(folder, task), "a study")["seconds"])
        for name, task in tasks.items()
        if done(folder, task)
    }
