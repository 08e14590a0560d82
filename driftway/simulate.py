"""Data sets from simulators: a preset's trajectories, streamed to zarr."""

from __future__ import annotations

import time
from collections.abc import Sequence, Set
from dataclasses import asdict
from pathlib import Path
from typing import Any

from driftway.config import parse_value
from driftway.config.yaml import nearest, plain
from driftway.data import Trajectories, inspect, open_zarr, unwritten, write_zarr
from driftway.errors import ConfigError
from driftway.pdes import PRESETS, Preset, simulate
from driftway.processes import processors
from driftway.progress import progress
from driftway.version import __version__


def make_data(
    preset: str, out: str | Path, *, seed: int = 0, overrides: Sequence[str] = (), force: bool = False
) -> dict[str, Any]:
    """Simulate `preset`, with `name=value` overrides, into the zarr folder `out`; returns its description.

    Trajectory r is a function of (preset, seed, r) alone. A run that was killed or interrupted goes on when it is
    started again as it was, after the trajectories that it wrote, and ends with the same bytes. Raises ConfigError for
    an unknown preset or number, DivergedError where a solver blows up, StorageError where `out` exists or cannot be
    written.
    """
    chosen = preset_named(preset, overrides)
    total, began = sum(chosen.trajectories), time.time()
    with write_zarr(out, _template(chosen, seed), force, resume=True) as writer:
        rows = _to_do(total, chosen.solver.chunk, writer.missing)
        done = (total - len(rows)) * chosen.steps
        with progress(f"simulating {preset}", total * chosen.steps, done) as task:
            for states in simulate(chosen, seed, rows, task.advance, processors()):
                writer[rows[: len(states)]] = states
                rows = rows[len(states) :]
    return {"path": str(out), "seconds": round(time.time() - began, 1), **inspect(open_zarr(out))}


def _to_do(total: int, chunk: int, missing: Set[int]) -> list[int]:
    """The rows of every chunk of which any is missing: rounding depends on the rows that are stepped together."""
    chunks = [range(start, min(start + chunk, total)) for start in range(0, total, chunk)]
    return [row for rows in chunks if not missing.isdisjoint(rows) for row in rows]


def describe_presets(name: str | None = None) -> dict[str, Any]:
    """A line on each preset; of one preset, all numbers that its overrides may change."""
    if name is None:
        return {preset.name: preset.description for preset in PRESETS.values()}
    preset = preset_named(name)
    solver: Any = preset.solver
    own = {"trajectories": list(preset.trajectories), "frames": preset.frames, "burn_in": preset.burn_in}
    return {"preset": name, "description": preset.description, **own, **plain(asdict(solver))}


def preset_named(name: str, overrides: Sequence[str] = ()) -> Preset:
    """A preset, with `name=value` overrides in place."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset '{name}'{nearest(name, PRESETS) or ';'} valid: {', '.join(PRESETS)}")
    numbers: dict[str, Any] = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ConfigError(f"override '{override}' must be name=value, e.g. viscosity=0.01")
        numbers[key] = parse_value(value, override, key)
    return PRESETS[name].override(numbers)


def _template(preset: Preset, seed: int) -> Trajectories:
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
