"""Is a preset's burn-in long enough? Means and trends of an ensemble before, during and after the stored frames.

    python benchmarks/stationarity.py [PRESET] [NAME=VALUE ...] [--rows 96] [--quick] [--json]

Three half mean squares stand for large, middle and small scales: of ∇⁻¹u, u and ∇u. For vorticity they are energy,
enstrophy and palinstrophy. A drift is the fitted slope times the length of the span, averaged over trajectories; z is
the drift over its standard error. In a stationary flow the means of the spans agree and |z| rarely exceeds 2.
Trajectories are at rest if their ½⟨u²⟩ varies in time less than a twentieth of what the median trajectory's does.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from driftway.pdes import Preset, ShallowWater, SpectralPDE, simulate
from driftway.simulate import preset_named
from driftway.sphere import power

SCALES = {"large": -1, "middle": 0, "small": 1}


def on_box(solver: SpectralPDE, states: torch.Tensor) -> torch.Tensor:
    """½⟨||∇|ᵖ u|²⟩ for p = −1, 0, 1 of states (T, C, *S): (T, 3)."""
    squared = torch.stack(torch.broadcast_tensors(*solver.wavenumbers)).square().sum(0)
    modes = solver.to_modes(states.double())
    columns = []
    for p in SCALES.values():
        weight = torch.where(squared > 0, squared ** (p / 2), float(p == 0))
        columns.append(solver.to_grid(modes * weight).square().flatten(1).mean(1) / 2)
    return torch.stack(columns, 1)


def on_sphere(solver: ShallowWater, states: torch.Tensor) -> torch.Tensor:
    """The same of the vorticity of states (T, 3, nlat, nlon)."""
    by_degree = power(solver.modes(states)[:, 1])[:, 1:]
    return torch.stack([(by_degree * solver.transform.rates[1:] ** p).sum(1) / 2 for p in SCALES.values()], 1)


SQUARES: dict[type, Any] = {SpectralPDE: on_box, ShallowWater: on_sphere}


def half_squares(solver: Any, states: torch.Tensor) -> torch.Tensor:
    """Those of the kind of solver."""
    return next(squares for kind, squares in SQUARES.items() if isinstance(solver, kind))(solver, states)


def histories(preset: Preset, rows: int) -> np.ndarray:
    """(rows, T, 3) from the initial states until the length of the stored frames after them."""
    frames = preset.steps + preset.frames
    whole = preset.override({"burn_in": 0.0, "frames": frames, "trajectories": [rows, 0, 0]})
    chunks = simulate(whole, 0, range(rows))
    return np.stack([half_squares(whole.solver, torch.from_numpy(row)).numpy() for chunk in chunks for row in chunk])


def spans(preset: Preset) -> dict[str, tuple[int, int]]:
    """First and last frame of each span."""
    first, last = preset.spin_up, preset.steps
    found = {"burn-in": (0, first), "stored": (first, last), "after": (last, 2 * last - first)}
    return {name: (start, stop) for name, (start, stop) in found.items() if stop > start}


def summary(history: np.ndarray) -> dict[str, dict[str, float]]:
    """Mean, drift and their standard errors over the rows of (rows, T, 3), by scale."""
    times = np.linspace(-0.5, 0.5, history.shape[1])
    means, drifts = history.mean(1), np.einsum("rts,t->rs", history, times) / np.square(times).sum()
    error = lambda values: values.std(0, ddof=1) / math.sqrt(len(values))  # noqa: E731
    columns = (means.mean(0), error(means), drifts.mean(0), error(drifts))
    names = ("mean", "mean_error", "drift", "drift_error")
    by_scale = zip(SCALES, np.stack(columns, 1).tolist(), strict=True)
    return {scale: dict(zip(names, numbers, strict=True)) for scale, numbers in by_scale}


def at_rest(history: np.ndarray) -> int:
    """How many trajectories have left the chaos of the others for a steady state."""
    spread = history[..., list(SCALES).index("middle")].std(1)
    return int((spread < np.median(spread) / 20).sum())


def examine(preset: Preset, rows: int) -> dict[str, Any]:
    """The summary of each span."""
    history, found = histories(preset, rows), {}
    for name, (start, stop) in spans(preset).items():
        limits = {"from": start * preset.interval, "to": stop * preset.interval}
        span = history[:, start : stop + 1]
        found[name] = {**limits, "at_rest": at_rest(span), **summary(span)}
    return {"preset": preset.name, "trajectories": rows, "spans": found}


def table(found: dict[str, Any]) -> str:
    """Plain text, two lines per span."""
    lines = [f"{found['preset']}, {found['trajectories']} trajectories: mean ± error, drift ± error (z)"]
    for name, span in found["spans"].items():
        lines.append(f"{name}, {span['from']:g} to {span['to']:g}; at rest: {span['at_rest']}")
        for scale in SCALES:
            mean, error, drift, of_drift = span[scale].values()
            z = drift / of_drift
            lines.append(f"  {scale:8} {mean:9.4g} ± {error:<8.2g} {drift:+9.3g} ± {of_drift:<8.2g} ({z:+.1f})")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", nargs="?", default="kolmogorov")
    parser.add_argument("overrides", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--rows", type=int, default=96, help="trajectories")
    parser.add_argument("--quick", action="store_true", help="two short trajectories, to see that it runs")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    preset, rows = preset_named(options.preset, options.overrides), options.rows
    if options.quick:
        preset, rows = preset.override({"frames": 4, "burn_in": 3 * preset.interval}), 2
    torch.set_num_threads(1)
    found = examine(preset, rows)
    sys.stdout.write(json.dumps(found, indent=1) + "\n" if options.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
