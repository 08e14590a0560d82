"""Snapshots per CPU second of the solvers, beside exponax in the same run, on one thread each.

    python benchmarks/solvers.py [--quick] [--json]

Both step the same batch in float32 with ETDRK4 at the same time step; repeats alternate after a warm-up, and the
ratio of the medians is what two machines agree on. CPU time, as other work on the machine does not change it
much. Needs `pip install "driftway[reference]"`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

# XLA reads this when jax is imported, and takes every core without it.
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import exponax
import jax
import torch

from driftway.pdes import Kolmogorov, KuramotoSivashinsky, SpectralPDE
from driftway.randomness import stream

Advance = Callable[[], object]


class Case(NamedTuple):
    """One equation in both libraries, with the same numbers."""

    name: str
    ours: SpectralPDE
    theirs: Any
    batch: int


def cases() -> list[Case]:
    """Two equations with the presets' grids and time steps; the last batch of each is what `simulate` steps at once."""
    flow, flames = Kolmogorov(), KuramotoSivashinsky()
    theirs = exponax.stepper.KolmogorovFlowVorticity(
        2, flow.length[0], flow.size[0], flow.dt, diffusivity=flow.viscosity, drag=-flow.drag, order=4
    )
    fronts = exponax.stepper.KuramotoSivashinskyConservative(1, flames.length[0], flames.size[0], flames.dt, order=4)
    return [
        *(Case("Kolmogorov 64²", flow, theirs, batch) for batch in (1, 4, flow.chunk)),
        *(Case("Kuramoto–Sivashinsky 256", flames, fronts, batch) for batch in (1, 64, flames.chunk)),
    ]


def advances(case: Case, intervals: int) -> tuple[Advance, Advance]:
    """Ours and theirs: each call moves the same batch on by that many stored intervals."""
    start = case.ours.initial(stream(0, "benchmark", rows=range(case.batch)))
    interval = exponax.RepeatedStepper(case.theirs, case.ours.substeps)
    rollout = jax.jit(jax.vmap(exponax.rollout(interval, intervals)))
    theirs = jax.numpy.asarray(start.numpy())

    def step_ours() -> object:
        state, states = start, []
        for _ in range(intervals):
            state = case.ours.step(state)
            states.append(state)
        return torch.stack(states, 1)

    return step_ours, lambda: rollout(theirs).block_until_ready()


def seconds(advance: Advance) -> float:
    """CPU time of one call, all threads together."""
    began = time.process_time()
    advance()
    return time.process_time() - began


def measure(case: Case, intervals: int, repeats: int) -> dict[str, Any]:
    """Snapshots per CPU second of both, from the medians of alternating repeats."""
    both = advances(case, intervals)
    for advance in both:
        advance()
    times = [[seconds(advance) for advance in both] for _ in range(repeats)]
    ours, theirs = (case.batch * intervals / statistics.median(column) for column in zip(*times, strict=True))
    return {"case": case.name, "batch": case.batch, "driftway": ours, "exponax": theirs, "ratio": ours / theirs}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--intervals", type=int, default=20, help="stored intervals per repeat")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="one short repeat for each equation, to see that it runs")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    intervals, repeats = (2, 1) if options.quick else (options.intervals, options.repeats)
    torch.set_num_threads(1)
    rows = [measure(case, intervals, repeats) for case in (cases()[::3] if options.quick else cases())]
    sys.stdout.write(json.dumps(rows, indent=1, ensure_ascii=False) + "\n" if options.json else table(rows))
    return 0


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Plain text, one line per case."""
    head = f"{'snapshots per CPU second':26} {'batch':>5} {'driftway':>9} {'exponax':>9} {'ratio':>6}\n"
    return head + "".join(
        f"{row['case']:26} {row['batch']:5} {row['driftway']:9.0f} {row['exponax']:9.0f} {row['ratio']:6.2f}\n"
        for row in rows
    )


if __name__ == "__main__":
    sys.exit(main())
