"""How long a study will take, measured before it starts: at most a second or two of every part, by all workers at once.

Each row takes a few optimiser steps on random states of the right shape, forecasts a few of them to disk and scores
these; all else is counting.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from driftway.build import build_codec, build_sampler
from driftway.climate.presets import PlaSim
from driftway.codecs import Chain
from driftway.config.yaml import Document
from driftway.data import Trajectories
from driftway.data.trajectories import Conditioning, Transitions
from driftway.emulator import Emulator
from driftway.evaluation import score
from driftway.forecasting import unknown
from driftway.networks.autoencoder import LearnedCodec
from driftway.pdes.presets import Preset
from driftway.pdes.simulate import conditioning
from driftway.processes import processors
from driftway.randomness import generator, stream
from driftway.schema import Experiment
from driftway.simulate import preset_named
from driftway.studies.file import Row, Study, expand_dial, restore, sampler_of
from driftway.studies.plan import DATA, Task
from driftway.studies.protocol import Built, Shape, build_row, shape_of
from driftway.training import Batches, Trainer

T = TypeVar("T")
LONG, MANY = 1.0, 30  # seconds that a part is measured for, and repeats that are enough
ROWS = 64  # states that are stepped at once
LEADS = 2


@dataclass(frozen=True)
class Unit:
    """Seconds of a row: an optimiser step and a validation; and for each member and lead a forecast to disk, its
    sampling alone, and scoring."""

    step: float = 0.0
    validation: float = 0.0
    forecast: float = 0.0
    sampling: float = 0.0
    score: float = 0.0


def estimate(study: Study, tasks: dict[str, Task], pool: Executor) -> dict[str, float]:
    """Seconds that each of some tasks will take on one worker."""
    described, needed = study.described(), {task.about for task in tasks.values()}
    parts = {
        name: pool.submit(_quietly, _autoencoder_unit, described, name) for name in study.autoencoders if name in needed
    }
    rows = {name: pool.submit(_quietly, _row_unit, described, name) for name in study.rows if name in needed}
    simulation = pool.submit(_quietly, _simulation, described, "")
    units = {name: future.result() for name, future in rows.items()}
    encoding = {name: future.result() for name, future in parts.items()}
    known = {DATA: simulation.result()}
    for name, task in tasks.items():
        if task.kind == "autoencoder":
            known[name] = encoding[task.about]
        elif task.kind in COSTS:
            known[name] = COSTS[task.kind](study, study.rows[task.about], units[task.about])
    return known


# --- counting ------------------------------------------------------------------------------------------------------


def _training(row: Row, unit: Unit, steps: int) -> float:
    settings = row.experiment.training
    return steps * unit.step + -(-steps // settings.validate_every) * unit.validation


def _forecasts(unit: Unit, states: int, leads: int, members: int) -> float:
    return states * leads * members * (unit.forecast + unit.score)


def _trial(study: Study, row: Row, unit: Unit) -> float:
    tuning = study.about.tuning
    assert tuning is not None
    members = tuning.members if row.generative else 1
    judging = _forecasts(unit, tuning.trajectories * tuning.starts, tuning.leads, members)
    return _training(row, unit, tuning.steps or row.experiment.training.steps) + judging


def _fit(study: Study, row: Row, unit: Unit) -> float:
    return _training(row, unit, row.experiment.training.steps)


def _score(study: Study, row: Row, unit: Unit) -> float:
    evaluation = row.experiment.evaluation
    states = evaluation.trajectories or getattr(shape_of(study).trajectories, evaluation.split)
    members = evaluation.members if row.generative else 1
    return _forecasts(unit, states * evaluation.starts, evaluation.leads, members)


def _curve(study: Study, row: Row, unit: Unit) -> float:
    curves = study.about.curves
    assert curves is not None
    own = build_sampler(sampler_of(row.experiment.stepper)).steps
    dials = [change.get("steps", own) for dial in row.dials for _, change in expand_dial(dial)[1]]
    rows = curves.trajectories * curves.starts * curves.leads * curves.members
    fixed = unit.forecast - unit.sampling + unit.score
    return sum(rows * (fixed + unit.sampling * steps / own) for steps in (*curves.steps, *dials))


COSTS: dict[str, Callable[[Study, Row, Unit], float]] = {
    "trial": _trial,
    "fit": _fit,
    "score": _score,
    "curve": _curve,
}


# --- measuring, in a worker ----------------------------------------------------------------------------------------


def _timed(work: Callable[[int], object], least: int = 2) -> float:
    """Seconds of one of the repeats of `work` that fill `LONG`, or are `MANY`, after one that does not count."""
    work(0)
    began, k = time.perf_counter(), 0
    while k < least or (k < MANY and time.perf_counter() - began < LONG):
        k += 1
        work(k)
    return (time.perf_counter() - began) / k


def _quietly(measure: Callable[[Study, str], T], described: Document, name: str) -> T:
    """A measurement of a study's part; its progress is not shown."""
    with contextlib.redirect_stderr(io.StringIO()):
        return measure(restore(described, Path("study.json")), name)


def _row_unit(study: Study, name: str) -> Unit:
    row, shape = study.rows[name], shape_of(study)
    built = build_row(study, row, shape)
    emulator = Emulator(built.codec, built.stepper, shape.layout)
    states = generator("cost").standard_normal((8, *shape.layout.shape)).astype(np.float32)
    with torch.no_grad():
        encoded = built.codec.encode(torch.from_numpy(states), _known(shape, len(states)).fixed)
    transitions = _random(shape, tuple(encoded.shape[1:]))
    training = _training_step(built.stepper, transitions, row.experiment) if row.network == name else 0.0
    checked = row.experiment.training.validation
    rows = checked.trajectories * (checked.members if row.generative else 1)
    leads = min(checked.leads, shape.frames - 1)
    validation = leads * _steps(built, encoded, rows, _known(shape, rows)) if row.network == name else 0.0
    members = row.experiment.evaluation.members if row.generative else 1
    forecast, scoring = _forecast(emulator, states, members, shape)
    return Unit(training, validation, forecast, _steps(built, encoded, ROWS, _known(shape, ROWS)) / ROWS, scoring)


def _random(shape: Shape, inner: tuple[int, ...]) -> Transitions:
    """Random transitions of encoded states, enough of them for a linear model of all channels."""
    states = generator("cost").standard_normal((8, max(16, inner[0] // 8 + 3), *inner)).astype(np.float32)
    fields = type(shape.layout.fields)(tuple(map(str, range(inner[0]))), ("1",) * inner[0])
    axes = tuple(type(a).uniform(a.name, n, a.length) for a, n in zip(shape.layout.axes, inner[1:], strict=True))
    known = {
        "static": {f"field {k}": np.zeros(shape.layout.shape[1:]) for k in range(shape.signature.fields)},
        "parameters": {f"parameter {k}": np.zeros(len(states)) for k in range(shape.signature.parameters)},
    }
    return Trajectories(states, fields, axes, 1.0, **known, known_axes=shape.layout.axes).transitions()


def _known(shape: Shape, rows: int) -> Conditioning:
    signature = shape.signature
    return unknown(signature.fields, signature.parameters, rows, shape.layout.shape[1:], signature.dates)


def _training_step(model: nn.Module, transitions: Transitions, experiment: Experiment) -> float:
    size = experiment.training.batch
    prepare = getattr(model, "prepare", None)
    if prepare is not None:
        prepare(lambda: [transitions.batch(np.arange(len(transitions)))])
    periods = (1,) * (len(transitions.data.axes)) if experiment.training.augment else ()
    if not any(weight.requires_grad for weight in model.parameters()):
        return 0.0
    batches = Batches(transitions, size, 0, periods, experiment.training.input_noise)
    return _timed(Trainer(model, batches, experiment.training, 0).step, 5)


@torch.no_grad()
def _steps(built: Built, encoded: torch.Tensor, rows: int, known: Conditioning) -> float:
    """One step of `rows` states in encoded space."""
    state = encoded[[k % len(encoded) for k in range(rows)]]

    def step(k: int) -> object:
        return built.stepper.step(state, known, stream("cost", k, rows=range(rows)))

    return _timed(step, 1)


def _forecast(emulator: Emulator, states: np.ndarray, members: int, shape: Shape) -> tuple[float, float]:
    """Seconds of one step of one member, to disk, and of scoring one member at one lead."""
    some = states[: max(1, min(len(states), ROWS // members))]
    known = _known(shape, len(some))
    with tempfile.TemporaryDirectory() as folder:
        began, out = time.perf_counter(), Path(folder) / "f.zarr"
        forecast = emulator.forecast(some, LEADS, members, conditioning=known, out=out, batch=ROWS)
        made = time.perf_counter() - began
        truth = forecast.isel(realization=0, drop=True).load()
        began = time.perf_counter()
        score({"row": forecast}, truth, emulator.layout, physics=False)
        scored = time.perf_counter() - began
    number = len(some) * LEADS * members
    return made / number, scored / number


def _autoencoder_unit(study: Study, name: str) -> float:
    """All of an autoencoder: its steps, and encoding every state once."""
    experiment, shape = study.autoencoders[name], shape_of(study)
    codec, _ = build_codec(experiment.codec, shape.signature)
    *before, model = codec.codecs
    assert isinstance(model, LearnedCodec)
    step = _training_step(model, _random(shape, shape.layout.shape), experiment)
    frames = torch.randn(ROWS, *shape.layout.shape)
    chain = Chain(*before, model)
    with torch.no_grad():
        encode = _timed(lambda _: chain.encode(frames, _known(shape, ROWS).fixed)) / ROWS
    return experiment.training.steps * step + encode * sum(shape.trajectories) * shape.frames


def _simulation(study: Study, name: str) -> float:
    """The simulation, with as many processes as may be started."""
    source = study.about.data
    if source.preset is None:
        return 0.0
    preset = preset_named(source.preset, source.overrides)
    return next(cost for kind, cost in SIMULATIONS.items() if isinstance(preset, kind))(preset)


def _solving(preset: Preset) -> float:
    """A solver's, from the time of one interval."""
    solver, rows = preset.solver, min(preset.solver.chunk, sum(preset.trajectories))
    state, noise = solver.initial(stream("cost", rows=range(rows))), stream("cost", "forcing", rows=range(rows))
    following = solver.rollout(state, conditioning(solver, range(rows)), noise)
    step = _timed(lambda _: next(following))
    chunks = -(-sum(preset.trajectories) // rows)
    return step * preset.steps * -(-chunks // processors())


def _running(preset: PlaSim) -> float:
    """A climate model's, from the time of a year."""
    return preset.seconds / min(processors(), len(preset.members))


SIMULATIONS: Mapping[type, Callable[[Any], float]] = {Preset: _solving, PlaSim: _running}
