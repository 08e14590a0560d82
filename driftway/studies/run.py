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
from driftway.errors import ConfigError
from driftway.runs import locked
from driftway.storage import atomic_write, explained
from driftway.studies.costs import estimate
from driftway.studies.engine import carry_out, executor, makespan
from driftway.studies.file import Study, load_study
from driftway.studies.plan import Task, plan
from driftway.studies.protocol import check_fair, shape_of
from driftway.studies.tasks import STUDY, done, record_of
from driftway.version import __version__

ESTIMATE = "estimate.json"
MEASURED = ("data", "autoencoder", "trial", "fit", "score", "curve")


def plan_study(path: Path, *, workers: int | None = None, scheduler: str | None = None) -> dict[str, Any]:
    """Check a study and predict how long it takes, without writing anything."""
    workers = workers or os.cpu_count() or 1
    study = load_study(path)
    sizes, tasks = check_fair(study, shape_of(study)), plan(study)
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
    workers = workers or os.cpu_count() or 1
    study = load_study(path)
    sizes, tasks = check_fair(study, shape_of(study)), plan(study)
    with locked(folder / "lock"):
        _claim(study, folder, path)
        with executor(workers, scheduler) as pool:
            seconds = _estimated(study, folder, tasks, pool, workers)
            left = {name: task for name, task in tasks.items() if not done(folder, task)}
            predicted, began = makespan(left, seconds, workers), time.time()
            carry_out(folder, tasks, seconds, pool, workers)
        took = time.time() - began
        _remember(folder, sizes, predicted, took, workers)
    return {
        "study": str(folder),
        "done": len(left),
        "of": len(tasks),
        "predicted_minutes": round(predicted / 60, 1),
        "minutes": round(took / 60, 1),
        "next": f"driftway study report {folder}",
    }


def _claim(study: Study, folder: Path, source: Path) -> None:
    """Write what the study is. One that is under way may get rows and lose them, but what it has keeps its meaning."""
    path, described = folder / STUDY, study.described()
    if path.exists():
        before = read_json(path, "a study's folder")
        kept = {"about": described["about"], "autoencoders": described["autoencoders"]}
        changed = [name for name, value in kept.items() if before[name] != value]
        changed += [f"row '{n}'" for n, row in described["rows"].items() if before["rows"].get(n, row) != row]
        if changed:
            raise ConfigError(
                f"{source}: {changed[0]} is not as in {folder}, whose test scores would mix two settings: undo the "
                "change, rename the row, or choose another --out"
            )
    with explained(path):
        atomic_write(path, json.dumps(described, indent=1, ensure_ascii=False).encode())


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
    """One session's times, and what it ran on."""
    path = folder / "manifest.json"
    sessions = read_json(path, "a study's folder")["sessions"] if path.exists() else []
    session = {"predicted_seconds": round(predicted, 1), "seconds": round(took, 1), "workers": workers}
    manifest = {
        "driftway": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
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
