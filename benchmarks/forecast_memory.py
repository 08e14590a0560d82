"""Peak memory of a short and a long ensemble forecast that are streamed to zarr, each in a process of its own.

    python benchmarks/forecast_memory.py [--quick] [--json]

A generative stepper of random weights on 64×64 fields, 32 members of 2 states. The 200 leads of the long forecast
are 210 MB, which would show if they were kept.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from driftway.codecs import Identity
from driftway.data.axes import Axis, Fields
from driftway.data.layout import Layout
from driftway.emulator import Emulator
from driftway.networks import UNet
from driftway.steppers import Generative

STATES = 2
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def forecast(leads: int, members: int, size: int) -> float:
    """Stream a forecast to a temporary folder; returns this process's peak resident memory in MB."""
    torch.set_num_threads(1)
    axes = (Axis.uniform("x", size, 1.0), Axis.uniform("y", size, 1.0))
    stepper = Generative(UNet(2, 1, ("periodic", "periodic"), width=8, blocks=1), 1)
    emulator = Emulator(Identity(), stepper, Layout(Fields(("u",), ("1",)), axes, 1.0))
    with tempfile.TemporaryDirectory() as folder:
        emulator.forecast(torch.zeros(STATES, 1, size, size), leads, members, out=Path(folder) / "forecast.zarr")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT / 1e6


def measured(leads: int, members: int, size: int) -> dict[str, Any]:
    """The same in a process of its own."""
    numbers = [str(number) for number in (leads, members, size)]
    done = subprocess.run([sys.executable, __file__, "--child", *numbers], check=True, capture_output=True, text=True)
    return {"leads": leads, "output_mb": 4e-6 * STATES * leads * members * size**2, "peak_mb": float(done.stdout)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=32)
    parser.add_argument("--quick", action="store_true", help="a few leads of small fields, to see that it runs")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--child", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        sys.stdout.write(f"{forecast(*options.child):.1f}\n")
        return 0
    sizes, members, size = ((2, 4), 2, 8) if options.quick else ((20, 200), options.members, 64)
    rows = [measured(leads, members, size) for leads in sizes]
    found = {"forecasts": rows, "ratio": rows[1]["peak_mb"] / rows[0]["peak_mb"]}
    sys.stdout.write(json.dumps(found, indent=1) + "\n" if options.json else table(found))
    return 0


def table(found: dict[str, Any]) -> str:
    """Plain text, one line per forecast."""
    head = f"{'leads':>5} {'output':>10} {'peak memory':>12}\n"
    rows = (f"{r['leads']:5} {r['output_mb']:7.0f} MB {r['peak_mb']:9.0f} MB\n" for r in found["forecasts"])
    return head + "".join(rows) + f"ratio of the peaks {found['ratio']:.2f}\n"


if __name__ == "__main__":
    sys.exit(main())
