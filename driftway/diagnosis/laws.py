"""How far the law of states is from that of the next ones, and from noise: distances between unpaired samples.

Samples are one state of each trajectory at a time, of different trajectories on either side, so that they are
independent. What two halves of one law give is the floor that a distance has to be seen against.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from driftway.data import Trajectories
from driftway.diagnosis.pairs import Scale, frames_of
from driftway.metrics import Distance, classifier_test, mmd_test, principal_components, sliced_wasserstein
from driftway.randomness import generator

FEWEST, MOST = 32, 512  # trajectories without which distances say nothing, and of which no more are used
COMPONENTS = 16


class Gap(NamedTuple):
    """Distances between two laws, along the directions in which both vary most, in units of their spread there.

    sliced_wasserstein: √(mean over θ of W₂²); mmd, classifier: with what chance gives where the laws are one
    """

    sliced_wasserstein: float
    mmd: Distance
    classifier: Distance


class Laws(NamedTuple):
    """The law of u(t) beside that of u(t+Δ), of itself in the other half, and of Gaussian noise of the same size."""

    lag: int
    time: float
    at: float
    next: Gap
    floor: Gap
    noise: Gap


def laws_of(data: Trajectories, scale: Scale, lags: list[int], components: int | None = None) -> list[Laws]:
    """Distances over the lag, from the middle frame, and over the time, at the first lag.

    Empty where there are fewer than `FEWEST` trajectories. Raises DataError for more components than half of them.
    """
    rows = min(data.shape[0], MOST) // 2
    if 2 * rows < FEWEST:
        return []
    count = min(COMPONENTS, rows // 4) if components is None else components
    last = data.shape[1] - 1 - lags[0]
    middle = [(lag, min(last, (data.shape[1] - 1 - lag) // 2)) for lag in lags]
    times = [(lags[0], at) for at in sorted({0, last // 4, 3 * last // 4, last})]
    return [_laws(data, scale, lag, at, rows, count) for lag, at in [*middle, *times]]


def _laws(data: Trajectories, scale: Scale, lag: int, at: int, rows: int, count: int) -> Laws:
    first, second = np.arange(0, 2 * rows, 2), np.arange(1, 2 * rows, 2)
    now = frames_of(data, scale, first, np.full(rows, at)).flatten(1)
    other = frames_of(data, scale, second, np.full(rows, at)).flatten(1)
    later = frames_of(data, scale, second, np.full(rows, at + lag)).flatten(1)
    noise = torch.from_numpy(generator("diagnosis", at).standard_normal(now.shape).astype(np.float32))
    gaps = (gap(sample, reference, count) for sample, reference in ((now, later), (now, other), (noise, later)))
    return Laws(lag, lag * data.dt, at * data.dt, *gaps)


def gap(x: Tensor, y: Tensor, components: int) -> Gap:
    """Distances between two samples (N, D) along their first principal components, each of which counts in the units
    of the root mean square over all of them."""
    projected = principal_components(x, y, count=components)
    size = torch.cat([projected.x, projected.y]).square().mean().sqrt()
    x, y = projected.x / size, projected.y / size
    return Gap(float(sliced_wasserstein(x, y)), mmd_test(x, y), classifier_test(x, y))
