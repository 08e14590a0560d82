"""How chaotic are the systems of the studies? Leading Lyapunov exponents, from trajectories after their burn-in.

    python benchmarks/chaos.py [--rows 16] [--quick] [--json]

The exponent is a mean over trajectories, ± is its standard error, "doubling" the time in which a small error doubles.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from driftway.pdes import simulate
from driftway.pdes.lyapunov import doubling_time, leading_exponents
from driftway.randomness import stream
from driftway.simulate import preset_named

TURNING = 0.2  # share of the intervals in which the perturbation turns into the direction that grows the most
SYSTEMS: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("kuramoto-sivashinsky", {"size": [128], "substeps": 2}, 2500),
    ("kolmogorov", {"viscosity": 0.005, "burn_in": 40.0}, 200),
    ("kolmogorov", {"viscosity": 0.02, "burn_in": 40.0}, 200),
    ("kolmogorov", {"viscosity": 0.04, "burn_in": 40.0}, 200),
)


def measure(name: str, overrides: dict[str, Any], rows: int, intervals: int) -> dict[str, Any]:
    """The exponent of one system."""
    preset = preset_named(name).override({**overrides, "frames": 2, "trajectories": [rows, 0, 0]})
    states = torch.from_numpy(np.concatenate([chunk[:, -1] for chunk in simulate(preset, 0, range(rows))])).double()
    solver, turning = replace(preset.solver, dtype="float64"), int(TURNING * intervals)
    directions = stream(0, "direction", rows=range(rows))
    found = leading_exponents(solver, states, intervals - turning, turning, directions)
    mean, error = float(found.mean()), float(found.std(correction=0)) / math.sqrt(max(rows - 1, 1))
    about = ", ".join(f"{key}={value}" for key, value in overrides.items())
    return {"system": f"{name} {about}", "exponent": mean, "error": error, "doubling": doubling_time(mean)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16, help="trajectories")
    parser.add_argument("--quick", action="store_true", help="one short trajectory, to see that it runs")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = 1 if options.quick else options.rows
    found = [measure(name, over, rows, 5 if options.quick else steps) for name, over, steps in SYSTEMS]
    lines = [f"{one['system']:50} {one['exponent']:7.3f} ± {one['error']:.3f} {one['doubling']:8.3g}" for one in found]
    sys.stdout.write(json.dumps(found, indent=1) + "\n" if options.json else "\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
