"""The folder of a small study that is over, whose laws are known: forecasts of oscillators, as `report_example` has.

Each row is how much noise its forecasts add and how strongly they damp small scales, a little more so with each seed.
One row diverges, one was not scored with its last seed. Curves are formulas of the number of steps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import driftway
from driftway.data.layout import Layout
from driftway.evaluation import score
from driftway.randomness import generator
from driftway.scoring import save_scores
from driftway.storage import atomic_write, without_nan
from driftway.studies.file import Row, Study, expand_dial, load_study
from driftway.studies.plan import Task, plan
from driftway.studies.run import ESTIMATE
from driftway.studies.tasks import STUDY, record_of
from tests.report_example import Method, Size, evolve, noise, transform

EXPERIMENTS = Path(driftway.__file__).parent / "experiments"
STEPS = (1, 2, 5, 10, 20, 50)
SHARED = ("ddim", "edm_euler")  # with another file, but the network of a row above
UNSTABLE, PARTIAL = "edm_euler", "ddpm"


@dataclass(frozen=True)
class Law:
    """How a row forecasts, the file and changes that it is written as, and the network it shares."""

    method: Method
    file: str = ""
    like: str = ""
    sampler: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)


LAWS = {
    "deterministic": Law(Method(noise=0.0, smoothing=0.5, members=1), "unet"),
    "fno": Law(
        Method(noise=0.0, smoothing=1.0, members=1), "fno", more={"exempt": "a Fourier network of its own size"}
    ),
    "interpolant": Law(
        Method(calls=2),
        "interpolant",
        more={"dials": [{"steps": 5, "temperature": [0.0, 0.5, 1.0, 1.5]}, {"diffusion.factor": [0.0, 1.0, 2.0]}]},
    ),
    "interpolant_5": Law(Method(noise=1.02, smoothing=0.02, calls=5), like="interpolant", sampler={"steps": 5}),
    "interpolant_noise_free": Law(
        Method(noise=0.0, smoothing=0.2, members=1, calls=2), like="interpolant", sampler={"temperature": 0.0}
    ),
    "interpolant_ode": Law(Method(noise=0.7, calls=10), like="interpolant", sampler={"type": "heun", "steps": 5}),
    "flow_matching": Law(
        Method(noise=0.8, smoothing=0.15, calls=10),
        "flow_matching",
        more={"dials": [{"grid.type": "karras", "grid.rho": [1.0, 3.0, 7.0]}]},
    ),
    "ddpm": Law(Method(noise=0.8, smoothing=0.3, calls=100), "ddpm"),
    "ddim": Law(Method(noise=0.5, smoothing=0.1, calls=10), "ddim"),
    "edm": Law(Method(noise=1.4, calls=36), "edm"),
    "edm_euler": Law(Method(noise=1.2, calls=10, diverges=True), "edm_euler"),
    "tsm": Law(Method(noise=1.1, smoothing=0.4, calls=10), "tsm"),
}


@dataclass(frozen=True)
class Example:
    """How large a study is."""

    size: Size = field(
        default_factory=lambda: Size(grid=16, leads=12, members=4, trajectories=12, fields=("vorticity",))
    )
    rows: tuple[str, ...] = tuple(LAWS)
    seeds: tuple[int, ...] = (0, 1, 2)

    def __hash__(self) -> int:
        return hash((self.size.fields, self.size.leads, self.size.trajectories, self.rows, self.seeds))


# --- scores --------------------------------------------------------------------------------------------------------


@cache
def truth_of(example: Example) -> tuple[np.ndarray, np.ndarray]:
    """Initial coefficients (N, *S) and what happened (N, L, *S)."""
    size = example.size
    start = noise(size, size.trajectories, generator(3, "start"))
    return start, evolve(start, size, Method(), generator(3, "truth"))


def dataset(size: Size, values: np.ndarray, dims: tuple[str, ...]) -> xr.Dataset:
    """One history for all fields, the temperature in K about its mean."""
    axes = tuple(axis.name for axis in size.layout.axes)
    scale = {"vorticity": (0, 1), "temperature": (288, 4)}
    lead = ("lead_time", size.layout.lead_times(size.leads), {"time_units": "s"})
    fields = {f: (dims + axes, (scale[f][0] + scale[f][1] * values).astype(np.float32)) for f in size.fields}
    return xr.Dataset(fields, {"lead_time": lead})


def forecast(example: Example, row: str, seed: int) -> np.ndarray:
    """(M, N, L, *S), by a row's law; each further seed damps a little more."""
    start, truth = truth_of(example)
    size, how = example.size, LAWS[row].method
    members = min(how.members, size.members)
    worse = replace(how, smoothing=how.smoothing + 0.004 * seed)
    found = evolve(np.concatenate([start] * members), size, worse, generator(3, row, seed))
    found = found.reshape(members, *truth.shape)
    if how.diverges and seed > 0:
        found[0, 1, size.leads // 2 :] = np.inf
    return found


def scored(example: Example, name: str, values: np.ndarray) -> xr.Dataset:
    size: Size = example.size
    happened = dataset(size, truth_of(example)[1], ("trajectory", "lead_time"))
    layout: Layout = size.layout
    return score({name: dataset(size, values, ("realization", "trajectory", "lead_time"))}, happened, layout)


@cache
def scores_of(example: Example, row: str, seed: int) -> xr.Dataset:
    """What `driftway.studies.judging.judge` gives."""
    calls = float(LAWS[row].method.calls)
    costs = {
        "calls": calls,
        "parameters": 100_000.0,
        "ms_per_step": 0.3 + 0.5 * calls,
        "forecast_seconds": 2 + calls,
        "peak_memory": 2e8,
    }
    found = scored(example, row, forecast(example, row, seed))
    return found.assign({name: ("method", [value]) for name, value in costs.items()})


@cache
def references_of(example: Example) -> dict[str, xr.Dataset]:
    start, truth = truth_of(example)
    still = transform(start, example.size, inverse=True)
    found = {
        "persistence": np.repeat(still[:, None], truth.shape[1], 1)[None],
        "climatology": np.zeros_like(truth)[None],
    }
    return {name: scored(example, name, values) for name, values in found.items()}


# --- curves --------------------------------------------------------------------------------------------------------


def crps_at(row: str, steps: float) -> float:
    """CRPS falls as 1/steps to a limit of its own."""
    limit = 0.10 + 0.01 * list(LAWS).index(row)
    return limit * (1 + 1 / steps)


def point(row: str, dial: str, value: float, seed: int) -> dict[str, Any]:
    """What `driftway.tuning.scores_of_samplers` gives; along a dial CRPS is lowest at 1, VRMSE at 0."""
    steps, off = (value, 0.0) if dial == "steps" else (5.0, abs(value - 1))
    crps = crps_at(row, steps) * (1 + off) * (1 + 0.01 * seed)
    vrmse = 2 * crps_at(row, steps) * (1.0 if dial == "steps" else 0.8 + 0.2 * value**2)
    failed = row == UNSTABLE and steps == 1
    scores = {
        "crps": crps,
        "vrmse": vrmse,
        "vrmse_member": 1.4 * vrmse,
        "nrmse": 0.9 * vrmse,
        "energy_score": 1.1 * crps,
        "spread_skill": value if dial != "steps" else 1.0,
        "spread_skill_low": 0.9 * value if dial != "steps" else 0.9,
        "spread_skill_high": 1.1 * value if dial != "steps" else 1.1,
        **{f"spectral_rmse_{band}": 0.1 / steps + off for band in ("low", "mid", "high")},
        **{f"spectral_log_error_{band}": 0.2 / steps + 0.1 * off for band in ("low", "mid", "high")},
    }
    states = {f"{name}_states": [crps] * 4 for name in ("crps", "vrmse", "spectral")}
    if failed:
        scores, states = dict.fromkeys(scores, math.inf), {name: [math.inf] * 4 for name in states}
    about = {"sampler": {"type": "euler", "steps": steps}, "repr": f"{row}, {dial} {value}", "name": f"{dial} {value}"}
    calls = {"calls": steps * (2 if "ode" in row or row == "edm" else 1), "ms_per_step": 0.5 * steps}
    return {"dial": dial, "value": value, **about, **calls, **scores, "failures": int(failed), **states}


def points_of(row: Row, seed: int) -> list[dict[str, Any]]:
    dials = [("steps", list(STEPS)), *((d, [v for v, _ in values]) for d, values in map(expand_dial, row.dials))]
    return [point(row.name, dial, value, seed) for dial, values in dials for value in values]


# --- the folder ----------------------------------------------------------------------------------------------------


def document(example: Example) -> dict[str, Any]:
    """The study file."""
    size = example.size

    def row(name: str) -> dict[str, Any]:
        law = LAWS[name]
        members = {"evaluation": {"members": 1}} if law.method.members == 1 else {}
        base: dict[str, Any] = (
            {"like": law.like} if law.like else {"file": str(EXPERIMENTS / "methods" / f"{law.file}.yaml")}
        )
        tune = {} if law.like or name in SHARED else {"tune": {"training.learning_rate": [0.001, 0.002]}}
        return {
            **base,
            "set": {"stepper": {"sampler": dict(law.sampler)} if law.sampler else {}, **members},
            **tune,
            **law.more,
        }

    return {
        "name": "oscillators",
        "title": "Oscillators: how well twelve rows forecast",
        "data": {"preset": "kolmogorov"},
        "seeds": list(example.seeds),
        "common": {
            "training": {"steps": 400, "batch": 8},
            "evaluation": {"leads": size.leads, "members": size.members},
        },
        "tuning": {"trials": 2},
        "curves": {"steps": list(STEPS)},
        "rows": {name: row(name) for name in example.rows},
    }


def record(study: Study, task: Task) -> dict[str, Any]:
    """What a task leaves behind."""
    k = list(LAWS).index(task.about) if task.about in LAWS else 0
    if task.kind == "trial":
        return {"change": study.rows[task.about].trials[task.number], "crps": 0.3 + 0.01 * k - 0.1 * task.number}
    if task.kind == "choose":
        changes = study.rows[task.about].trials
        trials = [{"change": change, "crps": 0.3 + 0.01 * k - 0.1 * i} for i, change in enumerate(changes)]
        return {"chosen": len(trials) - 1, "change": trials[-1]["change"], "trials": trials}
    if task.kind == "fit":
        return {"diverged": False, "parameters": 100_000, "train_seconds": 100.0 + k + task.number}
    if task.kind == "curve":
        return {"points": points_of(study.rows[task.about], task.number)}
    return {}


def written(folder: Path, example: Example = Example()) -> Path:
    """A study's folder in which every task is over, but for the last seed of one row."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "study.yaml"
    source.write_text(json.dumps(document(example)))
    study = load_study(source)
    atomic_write(folder / STUDY, json.dumps(study.described()).encode())
    tasks = plan(study)
    for name, task in tasks.items():
        if (
            task.kind == "score"
            and (task.about, task.number) == (PARTIAL, example.seeds[-1])
            and len(example.seeds) > 1
        ):
            continue
        if task.kind == "score":
            save_scores(
                scores_of(example, task.about, task.number), folder / "scores" / task.about / f"seed-{task.number}.json"
            )
        whole = {"task": name, "seconds": 10.0, **record(study, task)}
        atomic_write(record_of(folder, task), json.dumps(without_nan(whole)).encode())
    for name, scores in references_of(example).items():
        save_scores(scores, folder / "references" / f"{name}.json")
    seconds = {"tasks": dict.fromkeys(tasks, 8.0), "workers": 2, "predicted_seconds": 4.0 * len(tasks)}
    atomic_write(folder / ESTIMATE, json.dumps(seconds).encode())
    manifest = {
        "driftway": "0.1.0",
        "torch": "2.13.0",
        "weights": {row.name: 100_000 for row in study.networks},
        "sessions": [{"predicted_seconds": 4.0 * len(tasks), "seconds": 5.0 * len(tasks), "workers": 2}],
    }
    atomic_write(folder / "manifest.json", json.dumps(manifest).encode())
    return folder
