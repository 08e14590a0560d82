"""Grids: the times at which a sampler stops, from the source side to the data side, float64."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from driftway.errors import ConfigError


class Grid(ABC):
    """A function of the number of steps; equal by value."""

    @abstractmethod
    def __call__(self, steps: int) -> Tensor:
        """steps + 1 increasing times."""


@dataclass(frozen=True)
class Uniform(Grid):
    """Equal steps from `start` to `stop`."""

    start: float = 0.0
    stop: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop <= 1:
            raise ValueError(f"need 0 ≤ start < stop ≤ 1, got {self}")

    def __call__(self, steps: int) -> Tensor:
        return torch.linspace(self.start, self.stop, steps + 1, dtype=torch.float64)


@dataclass(frozen=True)
class Power(Grid):
    """Times (k/N)^exponent: dense near the source, where an ODE that leaves a point needs it (exponent 2)."""

    exponent: float = 2.0

    def __post_init__(self) -> None:
        if not self.exponent > 0:
            raise ValueError(f"need exponent > 0, got {self}")

    def __call__(self, steps: int) -> Tensor:
        return torch.linspace(0, 1, steps + 1, dtype=torch.float64) ** self.exponent


@dataclass(frozen=True)
class KarrasSpacing(Grid):
    """EDM's noise levels on a path whose noise is linear in time, σ = largest·(1−t), with a last step to σ = 0.

        σ_k = (largest^(1/ρ) + k/(N−1)·(smallest^(1/ρ) − largest^(1/ρ)))^ρ

    Large ρ makes them geometric: each is the same part of the one before.
    Reference: Karras et al. 2022 (arXiv 2206.00364), eq. 5.
    """

    rho: float = 7.0
    smallest: float = 0.002
    largest: float = 80.0

    def __post_init__(self) -> None:
        if not (self.rho > 0 and 0 < self.smallest < self.largest):
            raise ValueError(f"need rho > 0 and 0 < smallest < largest, got {self}")

    def __call__(self, steps: int) -> Tensor:
        ends = torch.tensor([self.largest, self.smallest], dtype=torch.float64) ** (1 / self.rho)
        levels = torch.lerp(ends[0], ends[1], torch.linspace(0, 1, max(steps, 2), dtype=torch.float64)) ** self.rho
        return torch.cat([1 - levels[:steps] / self.largest, torch.ones(1, dtype=torch.float64)])


@dataclass(frozen=True)
class Truncated(Grid):
    """Equal steps of stop/N, the last of which goes on to the data: truncated sampling (TSM).

    A network that is asked at these times needs training below `stop` alone.
    Reference: Shehata, Holzschuh & Thuerey 2025, Improved sampling of diffusion models in fluid dynamics with
    Tweedie's formula.
    """

    stop: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.stop <= 1:
            raise ValueError(f"need 0 < stop ≤ 1, got {self}")

    def __call__(self, steps: int) -> Tensor:
        times = torch.linspace(0, self.stop, steps + 1, dtype=torch.float64)
        return torch.cat([times[:-1], torch.ones(1, dtype=torch.float64)])


@dataclass(frozen=True)
class Leading(Grid):
    """DDIM's 'leading' spacing of N among `nodes` noise levels: k = 1 + j·nodes/N for j = N−1 … 0, then the data.

    It leaves out the noisiest levels, so that few steps start from noise where half the signal should be: kept to
    match published settings. `Uniform` starts where the noise is.
    """

    nodes: int = 100

    def __post_init__(self) -> None:
        if self.nodes < 1:
            raise ValueError(f"need nodes ≥ 1, got {self}")

    def __call__(self, steps: int) -> Tensor:
        if steps > self.nodes:
            raise ConfigError(f"leading has {self.nodes} nodes for {steps} steps: at most one step per node")
        level = 1 + torch.arange(steps - 1, -1, -1, dtype=torch.float64) * (self.nodes // steps)
        return torch.cat([1 - level / self.nodes, torch.ones(1, dtype=torch.float64)])


GRIDS: dict[str, type[Grid]] = {
    "uniform": Uniform,
    "power": Power,
    "karras": KarrasSpacing,
    "truncated": Truncated,
    "leading": Leading,
}
