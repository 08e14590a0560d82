"""What a forecast step costs beside the solver that it emulates: states per CPU second, at the size of the demo.

    python benchmarks/emulator_cost.py [--quick] [--json]

The solver is the preset `kolmogorov` (64², five time steps a state); the emulators have the demo's networks with random
weights, which cost the same as fitted ones, and decode every state. One thread, batches of 16, alternating repeats,
medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import driftway
from driftway.build import Signature, build_codec, build_stepper
from driftway.data.layout import Layout
from driftway.emulator import Emulator
from driftway.pdes import PRESETS
from driftway.randomness import stream
from driftway.samplers import EulerMaruyama
from driftway.schema import load_experiment

DEMO = Path(driftway.__file__).parent / "experiments" / "demo"
PRESET = PRESETS["kolmogorov"]
ROWS = 16
Step = Callable[[int], object]


def emulators() -> dict[str, Emulator]:
    """The demo's steppers, each with the sampler that it is known by."""
    signature = Signature(len(PRESET.fields), tuple(axis.boundary for axis in PRESET.axes))
    codec, inner = build_codec(load_experiment(DEMO / "autoencoder.yaml").codec, signature)
    layout = Layout(PRESET.fields, PRESET.axes, PRESET.interval)
    guess = build_stepper(load_experiment(DEMO / "deterministic.yaml").stepper, inner)
    bridge = build_stepper(load_experiment(DEMO / "interpolant.yaml").stepper, inner)
    from_guess = build_stepper(load_experiment(DEMO / "guess.yaml").stepper, inner, guess)
    rows = {
        "deterministic": Emulator(codec, guess, layout),
        "interpolant, SDE, 1 step": Emulator(codec, bridge, layout).with_sampler(EulerMaruyama(steps=1)),
        "interpolant, SDE, 2 steps": Emulator(codec, bridge, layout).with_sampler(EulerMaruyama(steps=2)),
        "guess, SDE, 1 step": Emulator(codec, from_guess, layout).with_sampler(EulerMaruyama(steps=1)),
    }
    return rows


def steps() -> dict[str, Step]:
    """One step of everything, from 16 states."""
    state = PRESET.solver.initial(stream(0, "initial", rows=range(ROWS)))
    keys = [(row, 0) for row in range(ROWS)]

    def emulated(emulator: Emulator) -> Step:
        v = emulator.codec.encode(state)

        @torch.no_grad()
        def step(k: int) -> None:
            emulator.codec.decode(emulator.stepper.step(v, stream=emulator.noise_stream(0, k, keys)))

        return step

    with torch.no_grad():
        return {"solver": lambda k: PRESET.solver.step(state)} | {n: emulated(e) for n, e in emulators().items()}


def measure(repeats: int, count: int) -> dict[str, float]:
    """States per CPU second."""
    found: dict[str, list[float]] = {}
    chosen = steps()
    for repeat in range(repeats + 1):
        for name, step in chosen.items():
            began = time.process_time()
            for k in range(count):
                step(k)
            if repeat:  # the first warms up
                found.setdefault(name, []).append(ROWS * count / (time.process_time() - began))
    return {name: statistics.median(rates) for name, rates in found.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="once, to see that it runs")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = measure(1, 1) if options.quick else measure(options.repeats, 10)
    lines = [
        f"{name:28}{rate:8.0f} states/s {found['solver'] / rate:6.2f} × the solver's time\n"
        for name, rate in found.items()
    ]
    sys.stdout.write(json.dumps(found, indent=1) + "\n" if options.json else "".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
