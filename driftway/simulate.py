"""Data sets from simulators: a preset's trajectories, streamed to zarr."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from driftway.climate.making import make as make_climate
from driftway.climate.presets import CLIMATES, PlaSim
from driftway.config import parse_value
from driftway.config.yaml import nearest, plain
from driftway.data import Trajectories, inspect, open_zarr, unwritten, write_zarr
from driftway.errors import ConfigError
from driftway.pdes import PRESETS, Preset, simulate
from driftway.processes import processors
from driftway.progress import progress
from driftway.version import __version__

AnyPreset = Preset | PlaSim
KNOWN: Mapping[str, AnyPreset] = {**PRESETS, **CLIMATES}
WORK = "work"  # folder inside a data set that is being made


def make_data(
    preset: str, out: str | Path, *, seed: int = 0, overrides: Sequence[str] = (), force: bool = False
) -> dict[str, Any]:
    """Simulate `preset`, with `name=value` overrides, into the zarr folder `out`; returns its description.

    Trajectory r is a function of (preset, seed, r) alone. A run that was killed or interrupted goes on when it is
    started again as it was, after the trajectories that it wrote, and ends with the same bytes. Raises ConfigError for
    an unknown preset or number, or a program that is missing, DivergedError where a solver blows up, StorageError where
    `out` exists or cannot be written, Suspended where it may go on later.
    """
    chosen, began = preset_named(preset, overrides), time.time()
    make = next(make for kind, make in MAKERS.items() if isinstance(chosen, kind))
    make(chosen, seed, Path(out), force)
    return {"path": str(out), "seconds": round(time.time() - began, 1), **inspect(open_zarr(out))}


def _solve(preset: Preset, seed: int, out: Path, force: bool) -> None:
    """The trajectories of a solver, chunk by chunk."""
    total = sum(preset.trajectories)
    with write_zarr(out, template_of(preset, seed), force, resume=True) as writer:
        rows = _to_do(total, preset.solver.chunk, writer.missing)
        done = (total - len(rows)) * preset.steps
        with progress(f"simulating {preset.name}", total * preset.steps, done) as task:
            for states in simulate(preset, seed, rows, task.advance, processors()):
                writer[rows[: len(states)]] = states
                rows = rows[len(states) :]


def _run(preset: PlaSim, seed: int, out: Path, force: bool) -> None:
    """The trajectories of a climate model, run by run."""
    with write_zarr(out, template_of(preset, seed), force, resume=True) as writer:
        total, left = preset.states(range(len(preset.splits))), preset.states(writer.missing)
        with progress(f"simulating {preset.name}", total, total - left) as task:
            make_climate(preset, seed, writer, writer.folder / WORK, task.advance, processors())


MAKERS: Mapping[type, Callable[[Any, int, Path, bool], None]] = {Preset: _solve, PlaSim: _run}


def template_of(preset: AnyPreset, seed: int = 0) -> Trajectories:
    """The data set that a preset would make, without its numbers."""
    return next(template for kind, template in TEMPLATES.items() if isinstance(preset, kind))(preset, seed)


def _to_do(total: int, chunk: int, missing: Set[int]) -> list[int]:
    """The rows of every chunk of which any is missing: rounding depends on the rows that are stepped together."""
    chunks = [range(start, min(start + chunk, total)) for start in range(0, total, chunk)]
    return [row for rows in chunks if not missing.isdisjoint(rows) for row in rows]


def describe_presets(name: str | None = None) -> dict[str, Any]:
    """A line on each preset; of one preset, all numbers that its overrides may change."""
    if name is None:
        return {preset.name: preset.description for preset in KNOWN.values()}
    preset = preset_named(name)
    return {"preset": name, "description": preset.description, **plain(preset.numbers)}


def preset_named(name: str, overrides: Sequence[str] = ()) -> AnyPreset:
    """A preset, with `name=value` overrides in place."""
    if name not in KNOWN:
        raise ConfigError(f"unknown preset '{name}'{nearest(name, KNOWN) or ';'} valid: {', '.join(KNOWN)}")
    numbers: dict[str, Any] = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ConfigError(f"override '{override}' must be name=value, e.g. viscosity=0.01")
        numbers[key] = parse_value(value, override, key)
    return KNOWN[name].override(numbers)


def _of_solver(preset: Preset, seed: int) -> Trajectories:
    shape = (sum(preset.trajectories), preset.frames, len(preset.fields), *(len(axis) for axis in preset.axes))
    origin = {"preset": preset.name, "solver": repr(preset.solver), "burn_in": preset.burn_in, "seed": seed}
    return Trajectories(
        states=unwritten(*shape),
        fields=preset.fields,
        axes=preset.axes,
        dt=preset.interval,
        time_units=preset.time_units,
        parameters=preset.solver.parameters(range(sum(preset.trajectories))),
        splits=preset.splits,
        attributes={**origin, "driftway": __version__},
    )


def _of_climate(preset: PlaSim, seed: int) -> Trajectories:
    return preset.template({"seed": seed, "driftway": __version__})


TEMPLATES: Mapping[type, Callable[[Any, int], Trajectories]] = {Preset: _of_solver, PlaSim: _of_climate}
