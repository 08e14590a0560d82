"""A study's results as arrays and as tidy tables: what the report and every later analysis start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from driftway.checkpoints import read_json
from driftway.errors import DataError
from driftway.scoring import load_scores
from driftway.studies.file import Study
from driftway.studies.plan import Task, plan
from driftway.studies.tasks import done, record_of


def collect(study: Study, folder: Path) -> xr.Dataset:
    """All test scores: the variables of `driftway.evaluation.score` with dims (row, seed, …) in place of method.

    Where a row was not scored with a seed its values are NaN. References stand last, under the first seed.
    `train_seconds` is the network's.
    """
    rows: list[xr.Dataset] = []
    for name, row in study.rows.items():
        seeds = [seed for seed in row.seeds if done(folder, Task("score", name, seed))]
        if not seeds:
            continue
        paths = [folder / "scores" / name / f"seed-{seed}.json" for seed in seeds]
        scores = [_scores(path) for path in paths]
        fits = [read_json(record_of(folder, Task("fit", row.network, seed)), "a study") for seed in seeds]
        costs = {key: ("seed", [float(fit.get(key, np.nan)) for fit in fits]) for key in ("train_seconds",)}
        together = xr.concat(scores, "seed", join="outer", combine_attrs="override").assign_coords(seed=seeds)
        rows.append(together.assign(costs).expand_dims(row=[name]))
    if not rows:
        raise DataError(f"{folder} has no scores yet; run the study first")
    first = study.about.seeds[:1]
    paths = sorted((folder / "references").glob("*.json"))
    rows += [_scores(path).expand_dims(row=[path.stem], seed=list(first)) for path in paths]
    return xr.concat(rows, "row", join="outer", combine_attrs="override")


def _scores(path: Path) -> xr.Dataset:
    """Scores of one row with one seed; its ranks are numbered, as ensembles of several sizes have several."""
    scores = load_scores(path).isel(method=0, drop=True)
    return scores.assign_coords(rank=np.arange(scores.sizes["rank"]))


def curves(study: Study, folder: Path) -> list[dict[str, Any]]:
    """Validation scores along steps and dials: one record per row, seed, dial and value."""
    found = []
    for task in plan(study).values():
        if task.kind == "curve" and done(folder, task):
            points = read_json(record_of(folder, task), "a study")["points"]
            found += [{"row": task.about, "seed": task.number, **point} for point in points]
    return found


def choices(study: Study, folder: Path) -> dict[str, dict[str, Any]]:
    """What tuning chose for each network, and what else it tried."""
    tasks = [Task("choose", row.name) for row in study.networks]
    return {task.about: read_json(record_of(folder, task), "a study") for task in tasks if done(folder, task)}
