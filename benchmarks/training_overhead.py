"""What the training loop costs beside a bare one: the same network, batches, optimiser, clipping and moving average.

    python benchmarks/training_overhead.py [--quick] [--json]

Both pick transitions, shift them, and train on the same drift; the bare loop draws what is random from torch's own
generator, driftway from one keyed generator per row. The size is that of the demo's steppers. Repeats alternate on one
thread, in CPU time; the overhead is the median of the ratios. Checkpoints come on top, once in 500 steps.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from driftway.checkpoints import save_checkpoint
from driftway.data.axes import Axis, Fields
from driftway.data.trajectories import Trajectories, Transitions
from driftway.networks import UNet
from driftway.randomness import generator, seeded
from driftway.schema import TrainingSection
from driftway.steppers import Generative
from driftway.training import Batches, Trainer

CHANNELS, SIZE, ROWS, CADENCE = 16, 8, 16, 500
Loop = Callable[[int], object]


def transitions() -> Transitions:
    """Random latents of the demo's shape."""
    states = generator("benchmark").standard_normal((16, 50, CHANNELS, SIZE, SIZE)).astype(np.float32)
    fields = Fields(tuple(f"latent_{c}" for c in range(CHANNELS)), ("1",) * CHANNELS)
    axes = (Axis.uniform("x", SIZE, 1.0, symmetry=1), Axis.uniform("y", SIZE, 1.0, symmetry=1))
    return Trajectories(states, fields, axes, 0.1).transitions()


def networks(width: int, blocks: int) -> tuple[nn.Module, nn.Module]:
    """The same network twice."""
    with seeded("benchmark"):
        network = UNet(2 * CHANNELS, CHANNELS, ("periodic", "periodic"), width=width, blocks=blocks)
    return network, copy.deepcopy(network)


def bare(network: nn.Module, states: Tensor, settings: TrainingSection) -> Loop:
    """The Föllmer drift by a loop of plain torch on states (N, T, C, *S)."""
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, fused=True)
    ema = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(settings.ema))

    def step(k: int) -> None:
        rows, times = torch.randint(len(states), (ROWS,)), torch.randint(states.shape[1] - 1, (ROWS,))
        shift = torch.randint(SIZE, (2,)).tolist()
        x0, x1 = (torch.roll(states[rows, times + n], shift, (2, 3)) for n in (0, 1))
        z, t = torch.randn_like(x0), torch.rand(ROWS)
        s = t[:, None, None, None]
        x, target = (1 - s) * x0 + s * x1 + (1 - s) * s.sqrt() * z, x1 - x0 - s.sqrt() * z
        loss = (network(torch.cat([x, x0], 1), t) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), settings.clip or 1.0)
        optimizer.step()
        ema.update_parameters(network)

    return step


def seconds(loop: Loop, steps: range) -> float:
    """CPU time of some steps."""
    began = time.process_time()
    for k in steps:
        loop(k)
    return time.process_time() - began


def checkpoint_seconds(trainer: Trainer) -> float:
    """Time of writing one checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        save_checkpoint(Path(folder), 1, trainer.model, trainer.ema, trainer.optimizer, 0)
        return time.perf_counter() - began


def measure(width: int, blocks: int, steps: int, repeats: int) -> dict[str, float]:
    """Milliseconds per step of both loops, the overhead, and what checkpoints add to it."""
    settings, source = TrainingSection(steps=10**6), transitions()
    mine, theirs = networks(width, blocks)
    trainer = Trainer(Generative(mine, CHANNELS), Batches(source, ROWS, 0, (1, 1)), settings, 0)
    loops = (trainer.step, bare(theirs, torch.from_numpy(np.asarray(source.data.states)), settings))
    for loop in loops:
        seconds(loop, range(3))
    times = []
    for repeat in range(repeats):
        at = range(repeat * steps, (repeat + 1) * steps)
        order = loops if repeat % 2 else loops[::-1]
        times.append({loop: seconds(loop, at) for loop in order})
    ours, plain = ([t[loop] for t in times] for loop in loops)
    step = statistics.median(ours) / steps
    return {
        "bare_ms": 1e3 * statistics.median(plain) / steps,
        "driftway_ms": 1e3 * step,
        "overhead": statistics.median(a / b for a, b in zip(ours, plain, strict=True)) - 1,
        "checkpoints": checkpoint_seconds(trainer) / step / CADENCE,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="steps per repeat")
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--quick", action="store_true", help="a tiny network for two steps, to see that it runs")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = measure(8, 1, 2, 1) if options.quick else measure(64, 4, options.steps, options.repeats)
    sys.stdout.write(json.dumps(found, indent=1) + "\n" if options.json else table(found))
    return 0


def table(found: dict[str, float]) -> str:
    """Plain text."""
    return (
        f"bare loop    {found['bare_ms']:7.2f} ms per step\n"
        f"driftway     {found['driftway_ms']:7.2f} ms per step\n"
        f"overhead     {found['overhead']:7.1%}\n"
        f"checkpoints  {found['checkpoints']:7.1%} more, one in {CADENCE} steps\n"
    )


if __name__ == "__main__":
    sys.exit(main())
