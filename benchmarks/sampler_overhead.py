"""What a sampler costs outside of the network: one physical step of 64 states of the demo's latents.

    python benchmarks/sampler_overhead.py [--quick] [--json]

Everything but the network's own forward pass counts: keyed noise, coefficients, joining of the inputs, updates. The
network is that of the demo's steppers, with 8×8 latents of 16 channels. CPU time on one thread, medians of repeats
that alternate between the samplers; the overhead is the median of outside / inside.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from driftway.networks import UNet
from driftway.randomness import seeded, stream
from driftway.samplers import Ancestral, EulerMaruyama, Heun, Sampler
from driftway.steppers import Generative

CHANNELS, SIZE, ROWS = 16, 8, 64


class Timed(nn.Module):
    """A network that adds up its calls and their CPU time."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.calls, self.seconds = network, 0, 0.0

    def forward(self, x: Tensor, time_: Tensor | None, params: Tensor | None) -> Tensor:
        began = time.process_time()
        y = self.network(x, time_, params)
        self.seconds += time.process_time() - began
        self.calls += 1
        return y


def samplers(steps: int) -> tuple[Sampler, ...]:
    """One call a step, two calls a step, and steps along the path."""
    return EulerMaruyama(steps=steps), Heun(steps=steps), Ancestral(steps=steps)


@torch.no_grad()
def once(stepper: Generative, state: Tensor, lead: int) -> tuple[float, float, int]:
    """CPU time outside and inside of the network in one physical step, and the calls."""
    network: Any = stepper.network
    network.calls, network.seconds = 0, 0.0
    began = time.process_time()
    stepper.step(state, stream=stream(0, "forecast", lead, rows=range(len(state))))
    total = time.process_time() - began
    return total - network.seconds, network.seconds, network.calls


def measure(width: int, blocks: int, steps: int, repeats: int) -> list[dict[str, Any]]:
    """Milliseconds per network call, outside and inside of it."""
    with seeded("benchmark"):
        network = Timed(UNet(2 * CHANNELS, CHANNELS, ("periodic", "periodic"), width=width, blocks=blocks))
        state = torch.randn(ROWS, CHANNELS, SIZE, SIZE)
    steppers = [Generative(network, CHANNELS).with_sampler(sampler) for sampler in samplers(steps)]
    for stepper in steppers:
        once(stepper, state, 0)
    times = [[once(stepper, state, lead) for stepper in steppers] for lead in range(1, repeats + 1)]
    return [
        {
            "sampler": type(stepper.sampler).__name__,
            "calls": column[0][2],
            "outside_ms": 1e3 * statistics.median(outside / calls for outside, _, calls in column),
            "network_ms": 1e3 * statistics.median(inside / calls for _, inside, calls in column),
            "overhead": statistics.median(outside / inside for outside, inside, _ in column),
        }
        for stepper, column in zip(steppers, zip(*times, strict=True), strict=True)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5, help="steps of each sampler")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="a tiny network and one repeat, to see that it runs")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = measure(8, 1, 2, 1) if options.quick else measure(64, 4, options.steps, options.repeats)
    sys.stdout.write(json.dumps(rows, indent=1) + "\n" if options.json else table(rows))
    return 0


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Plain text, one line per sampler."""
    head = f"{'per network call':16} {'calls':>5} {'outside':>9} {'network':>9} {'overhead':>8}\n"
    return head + "".join(
        f"{row['sampler']:16} {row['calls']:5} {row['outside_ms']:6.2f} ms {row['network_ms']:6.2f} ms "
        f"{row['overhead']:8.1%}\n"
        for row in rows
    )


if __name__ == "__main__":
    sys.exit(main())
