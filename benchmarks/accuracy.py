"""How accurate are the presets? Errors of time step, rounding and grid, and how fast small errors grow.

    python benchmarks/accuracy.py [PRESET ...] [--rows 32] [--quick] [--json]

From states after the burn-in, without random forcing, over ten stored intervals: the difference to a run in double
precision with a quarter of the time step ("step"), to one in double precision ("rounding"), and on top of the first
to one with twice the points along each axis ("grid", of the waves that both keep), as root mean squares over the
standard deviation of the state. "Doubling" is the time in which a small error doubles.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from scipy.signal import resample
from torch import Tensor

from driftway.pdes import PRESETS, Preset, SpectralPDE, simulate
from driftway.pdes.lyapunov import doubling_time, leading_exponents
from driftway.randomness import stream
from driftway.simulate import preset_named

INTERVALS = 10


def unforced(solver: SpectralPDE) -> SpectralPDE:
    """The solver in double precision, without noise."""
    silent: dict[str, Any] = {"forcing": 0.0} if "forcing" in {field.name for field in fields(solver)} else {}
    return replace(solver, dtype="float64", **silent)


def finer(solver: SpectralPDE, points: int = 1) -> SpectralPDE:
    """A quarter of the time step, and so many times the points."""
    size = tuple(points * n for n in solver.size)
    return replace(solver, size=size, dt=solver.dt / 4, substeps=4 * solver.substeps)


def states(preset: Preset, rows: int) -> Tensor:
    """The first stored states, (rows, C, *S)."""
    few = preset.override({"frames": 2, "trajectories": [rows, 0, 0]})
    return torch.from_numpy(np.concatenate([chunk[:, 0] for chunk in simulate(few, 0, range(rows))])).double()


def moved(solver: SpectralPDE, state: Tensor, intervals: int = INTERVALS) -> Tensor:
    """The state some stored intervals later."""
    for _ in range(intervals):
        state = solver.step(state)
    return state


def sampled(state: Tensor, size: Sequence[int]) -> Tensor:
    """The waves of a state on other points."""
    grid = state.numpy()
    for axis, n in zip(range(-len(size), 0), size, strict=True):
        grid = np.asarray(resample(grid, n, axis=axis))
    return torch.from_numpy(grid)


def difference(one: Tensor, other: Tensor) -> float:
    """Root mean square over the standard deviation, averaged over rows."""
    return float(((one - other).flatten(1).square().mean(1).sqrt() / other.flatten(1).std(1)).mean())


def kept(solver: SpectralPDE) -> list[int]:
    """Points that hold the waves |m| ≤ ⅔⌊n/2⌋ − 1 of each axis and no others."""
    return [2 * int(solver.dealiasing * (n // 2) - 1) + 1 for n in solver.size]


def doubling(solver: SpectralPDE, state: Tensor, intervals: int) -> float:
    """Time in which a small error doubles, from its growth over the second half; infinite if it shrinks."""
    first = intervals // 2
    noise = stream(1, "error", rows=range(len(state)))
    return doubling_time(float(leading_exponents(solver, state, intervals - first, first, noise).mean()))


def measure(preset: Preset, rows: int, intervals: int) -> dict[str, Any]:
    """All errors of one preset."""
    solver, start = unforced(preset.solver), states(preset, rows)
    there, fine = moved(solver, start), moved(finer(solver), start)
    double = finer(solver, 2)
    finest = moved(double, sampled(start, double.size))
    return {
        "preset": preset.name,
        "time": INTERVALS * solver.interval,
        "step": difference(there, fine),
        "rounding": difference(moved(replace(solver, dtype="float32"), start), there),
        "grid": difference(sampled(fine, kept(solver)), sampled(finest, kept(solver))),
        "doubling": doubling(solver, start, intervals),
    }


def table(found: Sequence[dict[str, Any]]) -> str:
    """Plain text, one line per preset."""
    lines = [f"{'preset':22} {'time':>5} {'step':>9} {'rounding':>9} {'grid':>9} {'doubling':>9}"]
    for row in found:
        errors = " ".join(f"{row[name]:9.1e}" for name in ("step", "rounding", "grid"))
        doubled = f"{row['doubling']:9.2g}" if math.isfinite(row["doubling"]) else f"{'never':>9}"
        lines.append(f"{row['preset']:22} {row['time']:5g} {errors} {doubled}")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", help="all on periodic boxes but the large one by default")
    parser.add_argument("--rows", type=int, default=32, help="trajectories")
    parser.add_argument("--intervals", type=int, default=200, help="stored intervals of the growing error")
    parser.add_argument("--quick", action="store_true", help="one short trajectory, to see that it runs")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    rows, intervals = (1, 4) if options.quick else (options.rows, options.intervals)
    periodic = [name for name, preset in PRESETS.items() if isinstance(preset.solver, SpectralPDE)]
    names = options.presets or [name for name in periodic if name != "kolmogorov-apebench"]
    presets = [preset_named(name) for name in names]
    if options.quick:
        presets = [preset.override({"burn_in": preset.interval}) for preset in presets]
    torch.set_num_threads(1)
    found = [measure(preset, rows, intervals) for preset in presets]
    sys.stdout.write(json.dumps(found, indent=1) + "\n" if options.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
