"""What a simulated year of climate costs, by PlaSim and by an emulator, on one core in one run; and its memory.

    DRIFTWAY_EXOPLASIM=… python benchmarks/climate_cost.py RUN DATA [--days 31] [--steps 124] [--quick] [--json]

RUN is a fitted run and DATA its data set, from which the test split is forecast. PlaSim runs for some days from rest,
as `driftway data make` has it, conversion included; how long it takes hardly depends on the state. The emulator makes
one member and eight, to disk, of which each day's last state and the means of months are kept. CPU seconds are those of
what comes after the start, scaled to 365 days. Memory is the peak of a process of its own that makes eight members over
so many steps, and over ten times as many.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from driftway.climate.program import INTERPRETER
from driftway.data import open_data
from driftway.emulator import Emulator
from driftway.forecasting import forecast_run
from driftway.simulate import make_data

MEMBERS = (1, 8)
YEAR = 365  # days
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def simulated(preset: str, days: int) -> float:
    """CPU seconds of PlaSim for a year, from a run over some days after one of one day, which leaves its start out."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = [_run(preset, count, Path(folder) / f"{count}.zarr") for count in (1, 1 + days)]
    return (seconds[1] - seconds[0]) / days * 365


def _run(preset: str, days: int, out: Path) -> float:
    before = _used()
    make_data(preset, out, overrides=["burn_in=0", f"days={days}", "trajectories=[0, 0, 1]", "consecutive=1"])
    return _used() - before


def _used() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    who = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in who)


def steps_a_day(run: Path) -> int:
    """Of an emulator whose steps are hours long."""
    return round(24 / Emulator.load(run).layout.dt)


def forecast(run: Path, data: Path, steps: int, members: int) -> float:
    """CPU seconds of so many steps."""
    kept = {"every": steps_a_day(run), "means": "month", "guard": False, "trajectories": 1}
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        forecast_run(run, data, Path(folder) / "f.zarr", leads=steps, members=members, **kept)
        return time.process_time() - began


def emulated(run: Path, data: Path, steps: int, members: int) -> float:
    """CPU seconds of one member's year: the difference of two forecasts, which leaves loading out."""
    few = steps // 4
    more = forecast(run, data, steps, members) - forecast(run, data, few, members)
    return more / (steps - few) / members * steps_a_day(run) * YEAR


def memory(run: Path, data: Path, steps: int) -> float:
    """Peak resident memory in MB of a process that makes eight members."""
    command = [sys.executable, __file__, str(run), str(data), "--child", str(steps)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(run: Path, data: Path, days: int, steps: int, times: int) -> dict[str, Any]:
    """Seconds of a year, and peaks of memory over so many steps and `times` as many."""
    preset = open_data(data).attributes.get("preset")
    found: dict[str, float] = {}
    if preset and INTERPRETER in os.environ:
        found["PlaSim"] = simulated(str(preset), days)
    for members in MEMBERS:
        found[f"emulator, {members} member{'s' * (members > 1)}"] = emulated(run, data, steps, members)
    weights = sum(weight.numel() for weight in Emulator.load(run).parameters())
    peaks = {str(count): memory(run, data, count) for count in (steps, times * steps)}
    return {"run": run.name, "weights": weights, "cpu_seconds_a_year": found, "peak_mb": peaks}


def table(found: dict[str, Any]) -> str:
    """Plain text."""
    cost = found["cpu_seconds_a_year"]
    lines = [f"{found['run']}, {found['weights']} weights\n"]
    for way, seconds in cost.items():
        ratio = f"{cost['PlaSim'] / seconds:8.1f} × as fast as PlaSim" if "PlaSim" in cost else ""
        lines.append(f"  {way:24}{seconds:9.2f} CPU s a year {ratio}\n")
    lines += [
        f"  eight members over {steps} steps: {peak:.0f} MB at most\n" for steps, peak in found["peak_mb"].items()
    ]
    return "".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--days", type=int, default=31, help="of PlaSim")
    parser.add_argument("--steps", type=int, default=124, help="of the emulator")
    parser.add_argument("--quick", action="store_true", help="a few steps, without PlaSim, to see that it runs")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.child:
        forecast(options.run, options.data, options.child, MEMBERS[-1])
        sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT / 1e6:.1f}\n")
        return 0
    if options.quick:
        os.environ.pop(INTERPRETER, None)
    found = measure(options.run, options.data, options.days, *((16, 1) if options.quick else (options.steps, 10)))
    sys.stdout.write(json.dumps(found, indent=1) + "\n" if options.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
