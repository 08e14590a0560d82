"""How a long forecast leaves the climate of its data: the size of encoded states, and errors, day by day.

    python benchmarks/climate_drift.py RUN DATA [--split valid] [--days 240] [--sampler YAML] [--again] [--json]

One forecast from the first state of each trajectory of the split, with forcing and date. Size: the standard
deviation of the encoded state over that of the first one. Errors: root-mean-square over points and forecasts, without
area weights. `--again` encodes each decoded state anew before the next step.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from driftway.build import build_sampler
from driftway.config import parse_value
from driftway.data import open_data
from driftway.emulator import Emulator
from driftway.forecasting import stride_of

DAYS = (1, 3, 5, 10, 20, 30, 60, 120, 240)
FIELDS = ("zg500", "tas", "pr_6h")


@torch.no_grad()
def drift(emulator: Emulator, data: Path, split: str, days: int, again: bool) -> Iterator[dict[str, Any]]:
    """Size and errors at some days."""
    part = emulator.told(open_data(data).split(split))
    stride, count = stride_of(emulator.layout, part), part.shape[0]
    rows, steps = np.arange(count), round(24 / float(part.hours(stride)))
    v = emulator.codec.encode(torch.from_numpy(np.asarray(part.window(0, 1).states)[:, 0]))
    size = v.std()
    for lead in range(1, days * steps + 1):
        known = part.conditioning(rows, np.full(count, (lead - 1) * stride), stride)
        v = emulator.stepper.step(v, known, emulator.noise_stream(0, lead, [(row, 0) for row in range(count)]))
        if again:
            v = emulator.codec.encode(emulator.codec.decode(v))
        day, rest = divmod(lead, steps)
        if rest == 0 and day in DAYS:
            off = emulator.codec.decode(v).numpy() - np.asarray(part.states[rows, np.full(count, lead * stride)])
            names = [name for name in FIELDS if name in part.fields.names]
            errors = {name: float(np.sqrt((off[:, part.fields.index(name)] ** 2).mean())) for name in names}
            yield {"day": day, "size": float(v.std() / size), **errors}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write a line a day."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="valid", help="part of the data")
    parser.add_argument("--days", type=int, default=DAYS[-1])
    parser.add_argument("--sampler", help="YAML, in place of the run's own")
    parser.add_argument("--again", action="store_true", help="encode decoded states anew")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    spec: Any = None if options.sampler is None else parse_value(options.sampler, "--sampler")
    emulator = Emulator.load(options.run).with_sampler(None if spec is None else build_sampler(spec))
    for found in drift(emulator, options.data, options.split, options.days, options.again):
        line = json.dumps(found) if options.json else "  ".join(f"{name} {value:.4g}" for name, value in found.items())
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
