"""Trajectories of a preset, chunk by chunk, each one a function of (seed, row) alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

import numpy as np
import torch
from torch import Tensor

from driftway.data.trajectories import Conditioning
from driftway.errors import DivergedError
from driftway.pdes.presets import Preset
from driftway.pdes.solver import Solver
from driftway.processes import one_thread, process_pool
from driftway.randomness import stream

Progress = Callable[[int], None]


def simulate(
    preset: Preset, seed: int, rows: Sequence[int], progress: Progress | None = None, workers: int = 1
) -> Iterator[np.ndarray]:
    """The trajectories `rows` of a preset in order, in chunks (b, T, C, *S) of float32.

    Trajectory r is the same whichever other rows are asked for, to rounding of the transforms.

    Arguments:
        preset: what to simulate
        seed: the initial states are keyed by (seed, "initial", row), random forcing by (seed, "forcing", row)
        rows: which trajectories
        progress: called with the number of stored intervals done since the last call, `preset.steps` per row
        workers: processes; beyond 1 they are spawned, so that a script needs `if __name__ == "__main__"`
    """
    size = preset.solver.chunk
    chunks = [list(rows[start : start + size]) for start in range(0, len(rows), size)]
    if min(workers, len(chunks)) > 1:
        yield from _pooled(preset, seed, chunks, progress, workers)
    else:
        for chunk in chunks:
            with one_thread():
                states = _trajectories(preset, seed, chunk, progress)
            yield states


def _pooled(
    preset: Preset, seed: int, chunks: list[list[int]], progress: Progress | None, workers: int
) -> Iterator[np.ndarray]:
    pending: deque[Future[np.ndarray]] = deque()
    pool = process_pool(workers)
    try:
        # A bounded queue: finished chunks would fill the memory if the caller were slower than the workers.
        for chunk in chunks:
            pending.append(pool.submit(_trajectories, preset, seed, chunk))
            if len(pending) > 2 * workers:
                yield _finished(pending, preset, progress)
        while pending:
            yield _finished(pending, preset, progress)
    finally:
        # What has not begun when a trajectory diverges or the caller stops is not waited for.
        pool.shutdown(cancel_futures=True)


def _finished(pending: deque[Future[np.ndarray]], preset: Preset, progress: Progress | None) -> np.ndarray:
    states = pending.popleft().result()
    if progress is not None:
        progress(len(states) * preset.steps)
    return states


def _trajectories(preset: Preset, seed: int, rows: list[int], progress: Progress | None = None) -> np.ndarray:
    solver = preset.solver
    state = solver.initial(stream(seed, "initial", rows=rows))
    states = np.empty((len(rows), preset.frames, *state.shape[1:]), np.float32)
    following = solver.rollout(state, conditioning(solver, rows), stream(seed, "forcing", rows=rows))
    for step in range(preset.steps + 1):
        if step > 0:
            state = next(following)
            _check(state, preset, rows, step)
            if progress is not None:
                progress(len(rows))
        if step >= preset.spin_up:
            states[:, step - preset.spin_up] = state.numpy()
    return states


def conditioning(solver: Solver, rows: Sequence[int]) -> Conditioning:
    """What the steps of these trajectories know besides the state: their parameters (B, P) in the order of names."""
    parameters = solver.parameters(rows)
    numbers = [torch.as_tensor(parameters[name], dtype=torch.float64) for name in sorted(parameters)]
    return Conditioning(params=torch.stack(numbers, 1) if numbers else None)


def _check(state: Tensor, preset: Preset, rows: list[int], step: int) -> None:
    fault = preset.solver.fault(state)
    if fault is None:
        return
    place = f"trajectory {rows[fault.row]} {fault.what} at time {step * preset.interval:g}"
    raise DivergedError(f"{preset.name}: {place} {fault.numbers}; {fault.remedy}")
