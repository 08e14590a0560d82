"""Densities: which times a training step draws."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from driftway.errors import ConfigError
from driftway.grids import Grid, Uniform
from driftway.interpolants import Interpolant, VarianceExploding
from driftway.randomness import Stream

EQUAL_STEPS = Uniform()


class Density(ABC):
    """A law of t on [0, 1]; equal by value."""

    @abstractmethod
    def __call__(self, interpolant: Interpolant, like: Tensor, stream: Stream) -> Tensor:
        """One time per row of `like`: shape (B,), float64."""


@dataclass(frozen=True)
class UniformTime(Density):
    """t uniform on [start, stop): every number of sampling steps meets times that were trained."""

    start: float = 0.0
    stop: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop <= 1:
            raise ValueError(f"need 0 ≤ start < stop ≤ 1, got {self}")

    def __call__(self, interpolant: Interpolant, like: Tensor, stream: Stream) -> Tensor:
        return self.start + (self.stop - self.start) * stream.uniform(like)


@dataclass(frozen=True)
class GridTime(Density):
    """t uniform on the times at which a sampler of `points` steps on `grid` asks the network: all but the last.

    Of equal steps these are {0, 1/points, …, (points−1)/points}: the discrete times of DDPM.
    """

    points: int
    grid: Grid = EQUAL_STEPS

    def __post_init__(self) -> None:
        if self.points < 1:
            raise ValueError(f"need points ≥ 1, got {self}")

    def __call__(self, interpolant: Interpolant, like: Tensor, stream: Stream) -> Tensor:
        return self.grid(self.points)[stream.integers(self.points, like)]


@dataclass(frozen=True)
class LogNormalNoise(Density):
    """log σ ~ N(mean, std²) on EDM's path, σ = σ_max(1−t): EDM's choice. Raises ConfigError on another path.

    Reference: Karras et al. 2022 (arXiv 2206.00364), table 1.
    """

    mean: float = -1.2
    std: float = 1.2

    def __call__(self, interpolant: Interpolant, like: Tensor, stream: Stream) -> Tensor:
        if not isinstance(interpolant, VarianceExploding):
            raise ConfigError(f"log_normal draws the noise levels of variance_exploding, not of {interpolant}")
        z = stream.normal(torch.empty(len(like), dtype=torch.float64))
        largest = interpolant.gamma(z.new_zeros(()))
        return interpolant.inside(1 - (self.mean + self.std * z).exp() / largest)


DENSITIES: dict[str, type[Density]] = {"uniform": UniformTime, "grid": GridTime, "log_normal": LogNormalNoise}
