"""A system with a known answer: x1 | x0 ~ N(A·x0 + c, S), independently per entry, and its exact network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from driftway.interpolants import Coefficients, Interpolant
from driftway.modes import to_modes
from driftway.noise import White
from driftway.predictions import Prediction
from driftway.randomness import Stream, generator
from driftway.samplers import Sampler
from driftway.transport import Transport


class Law(NamedTuple):
    """A normal law at a time."""

    time: float
    mean: float
    std: float


@dataclass(frozen=True)
class Gaussian:
    """The law of one step, with noise of standard deviation `noise` on the path."""

    slope: float = 0.8
    offset: float = 0.3
    std: float = 0.5
    source: float = 0.7
    noise: float = 1.0

    @property
    def mean(self) -> float:
        return self.slope * self.source + self.offset

    def marginal(self, interpolant: Interpolant, t: float) -> tuple[float, float]:
        """Mean and standard deviation of x_t given x0."""
        alpha, beta, gamma = (float(c) for c in interpolant.coefficients(t))
        return alpha * self.source + beta * self.mean, ((beta * self.std) ** 2 + (gamma * self.noise) ** 2) ** 0.5

    def means(self, interpolant: Interpolant, x: Tensor, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """E[x1 | x_t, x0] and E[z | x_t, x0]."""
        alpha, beta, gamma = interpolant.coefficients(t)
        mean = self.slope * x0 + self.offset
        surprise = (x - alpha * x0 - beta * mean) / ((beta * self.std) ** 2 + (gamma * self.noise) ** 2).clamp_min(
            1e-300
        )
        return mean + beta * self.std**2 * surprise, gamma * self.noise**2 * surprise

    def transport(self, interpolant: Interpolant, prediction: Prediction, rows: int, error: float = 0.0) -> Transport:
        """What a perfectly trained network would be; with an `error`, its answer y is y·(1 + error) + error·size."""
        x0 = torch.full((rows, 1, 1), self.source, dtype=torch.float64)

        def predict(x: Tensor, t: Tensor) -> Tensor:
            data, noise = self.means(interpolant, x, x0, t)
            combine: Coefficients = prediction.coefficients(interpolant, t)
            size = sum(float(c) ** 2 for c in combine) ** 0.5
            return combine(x0, data, noise) * (1 + error) + error * size

        return Transport(interpolant, prediction, predict, x0, White(1, self.noise).double())


class OneStream(Stream):
    """Many rows from one generator: the law is the same and drawing 1e5 rows is cheap."""

    def __init__(self, *key: int | str):
        super().__init__([generator(*key)])

    def normal(self, like: Tensor) -> Tensor:
        return torch.from_numpy(self.generators[0].standard_normal(tuple(like.shape))).to(like)


class Probes(Stream):
    """Fixed noise for three rows, 0, 0 and 1: with states 0, 1 and 0 they reveal an affine step exactly."""

    def __init__(self) -> None:
        super().__init__([generator("probe")] * 3)

    def normal(self, like: Tensor) -> Tensor:
        return torch.tensor([0.0, 0.0, 1.0]).to(like).reshape(3, 1, 1)


def sampled_law(
    system: Gaussian, sampler: Sampler, interpolant: Interpolant, prediction: Prediction, error: float = 0.0
) -> list[Law]:
    """Mean and standard deviation after every step, exactly: on a Gaussian system each step is affine in (x, z)."""
    transport, stream = system.transport(interpolant, prediction, rows=3, error=error), Probes()
    times = sampler.times(transport)
    start = transport.start(times[0], stream).flatten()
    mean, variance = float(start[0]), float(start[2] - start[0]) ** 2
    laws = [Law(float(times[0]), mean, variance**0.5)]
    probes = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).reshape(3, 1, 1)
    for t, s in pairwise(times):
        constant, with_state, with_noise = sampler.move(transport, probes, t, s, stream).flatten().tolist()
        slope, spread = with_state - constant, with_noise - constant
        mean, variance = constant + slope * mean, slope**2 * variance + spread**2
        laws.append(Law(float(s), mean, variance**0.5))
    return laws


def covariance(power: Tensor, boundary: Sequence[str], size: Sequence[int]) -> Tensor:
    """The matrix over points (N, N) of a law with this power in each mode (*K), from the modes of single points."""
    count = math.prod(size)
    modes = to_modes(torch.eye(count, dtype=power.dtype).reshape(count, 1, *size), boundary).reshape(count, -1)
    copies = torch.ones_like(power)
    waves = [axis for axis, name in enumerate(boundary) if name == "periodic"]
    if waves:  # all waves but the mean and, of an even number of points, the shortest are one of a pair
        copies.movedim(waves[-1], -1)[..., 1 : (size[waves[-1]] + 1) // 2] = 2
    return ((modes * (copies * power).flatten()) @ modes.conj().T).real
