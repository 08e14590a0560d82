"""Interpolants: where you are between a source x0 (the current state) and a target x1 (the next one).

Notation, here and in `predictions`, `transport` and `samplers`:

    x_t = α(t)·x0 + β(t)·x1 + γ(t)·z ,    t from 0 (source) to 1 (data),    z ~ N(0, C) with C = I unless stated

`t` is the time of the generative process, never physical time. x0 is known both in training and in forecasting, so
every law below is conditional on it. A `Coefficients` is one linear combination of (x0, x1, z); all that can be
learned or integrated is such a combination:

    the interpolant             (α, β, γ)
    velocity v                  (α̇, β̇, γ̇)             dx = v dt carries the marginals of x_t
    drift b for diffusion g     (α̇, β̇, γ̇ − g²/2γ)     dx = b dt + g dw has the same marginals, for any g(t) ≥ 0
    data, noise                 (0, 1, 0), (0, 0, 1)

References: Albergo, Boffi & Vanden-Eijnden 2023 (arXiv 2303.08797); Chen et al. 2024 (2403.13724) for `Follmer`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from driftway.grids import Grid, KarrasSpacing, Uniform


class Coefficients(NamedTuple):
    """The linear combination a·x0 + b·x1 + c·z; each coefficient has shape () or (B,), float64."""

    x0: Tensor
    x1: Tensor
    z: Tensor

    def __call__(self, x0: Tensor, x1: Tensor, z: Tensor) -> Tensor:
        """The combination of three (B, C, *S) tensors, in their dtype; the one place that broadcasts."""
        return (expand(self.x0, x0) * x0).addcmul_(expand(self.x1, x1), x1).addcmul_(expand(self.z, z), z)


def expand(coefficient: Tensor, x: Tensor) -> Tensor:
    """A coefficient () or (B,) made to multiply x (B, ...), in x's dtype and device."""
    c = coefficient.to(x)
    return c.reshape(c.shape + (1,) * (x.ndim - c.ndim)) if c.ndim else c


def as_time(t: float | Tensor) -> Tensor:
    """A time or a batch of times as float64."""
    return torch.as_tensor(t, dtype=torch.float64)


class Interpolant(ABC):
    """A path x_t = α(t)·x0 + β(t)·x1 + γ(t)·z, given by three functions of a float64 tensor.

    `rates` come from forward-mode differentiation unless overridden. `domain` is where rates and conversions between
    predictions are finite; what is singular at an end is evaluated at the end of the domain. What samplers find out
    of a path they remember by its value: a subclass with settings is a frozen dataclass.
    """

    domain: tuple[float, float] = (1e-6, 1 - 1e-6)

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Weight of the source."""

    @abstractmethod
    def beta(self, t: Tensor) -> Tensor:
        """Weight of the target."""

    @abstractmethod
    def gamma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise."""

    def sigma(self, t: Tensor) -> Tensor:
        """The natural diffusion coefficient: that of the process which the drift belongs to (0: the velocity's ODE)."""
        return torch.zeros_like(t)

    def coefficients(self, t: float | Tensor) -> Coefficients:
        """(α, β, γ)."""
        t = as_time(t)
        return Coefficients(self.alpha(t), self.beta(t), self.gamma(t))

    def origin(self, t: float | Tensor) -> Coefficients:
        """(α, 0, γ): what a sampler starts from, which does not know x1."""
        alpha, beta, gamma = self.coefficients(t)
        return Coefficients(alpha, torch.zeros_like(beta), gamma)

    def rates(self, t: float | Tensor) -> Coefficients:
        """(α̇, β̇, γ̇): the velocity."""
        t = as_time(t)
        return Coefficients(*(_derivative(f, t) for f in (self.alpha, self.beta, self.gamma)))

    def increments(self, t: Tensor, s: Tensor) -> Coefficients:
        """(α, β, γ) at s less those at t: the probability-flow ODE over a step is dx = x0·dα + ξ·dβ + η·dγ."""
        return Coefficients(*(b - a for a, b in zip(self.coefficients(t), self.coefficients(s), strict=True)))

    def drift(self, t: float | Tensor, g: Tensor | None = None) -> Coefficients:
        """(α̇, β̇, γ̇ − g²/2γ): the drift that goes with diffusion g, by default the natural σ."""
        t = self.inside(t)
        g = self.sigma(t) if g is None else as_time(g)
        alpha, beta, gamma = self.rates(t)
        correction = torch.where(g > 0, g**2 / (2 * self.gamma(t)), torch.zeros_like(g * gamma))
        return Coefficients(alpha, beta, gamma - correction)

    def follmer(self, t: float | Tensor) -> Tensor:
        """The Föllmer diffusion g_F = √(2γ(γ·β̇/β − γ̇)), of smallest path-KL to the prior.

        On the paths of diffusion models it is the coefficient of the ordinary reverse SDE. Reference: Chen et al. 2024.
        """
        t = as_time(t)
        _, beta_rate, gamma_rate = self.rates(t)
        gamma = self.gamma(t)
        return (2 * gamma * (gamma * beta_rate / self.beta(t) - gamma_rate)).clamp_min(0).sqrt()

    def inside(self, t: float | Tensor) -> Tensor:
        """t clamped to the domain."""
        return as_time(t).clamp(*self.domain)

    @property
    def grid(self) -> Grid:
        """Where a sampler stops that is given no grid."""
        return Uniform()

    @cached_property
    def starts_at_point(self) -> bool:
        """Whether the law at t = 0 is a point mass (γ(0) = 0), from which no ODE can spread."""
        return bool(self.gamma(as_time(0.0)) == 0)


def _derivative(f: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    return torch.func.jvp(f, (t.clone(),), (torch.ones_like(t),))[1]


@dataclass(frozen=True)
class Follmer(Interpolant):
    """The stochastic interpolant of Chen et al.: starts at the current state and follows an SDE of bounded drift.

        x_t = (1−t)·x0 + tᵖ·x1 + s(1−t)√t·z ,    σ(t) = s(1−t) ,    b = −x0 + p·tᵖ⁻¹·x1 − s√t·z

    `scale` is s in units of the noise law's own scale: 1 with a fitted law, and the path's σ with a unit one.
    power = 2 leaves the source with zero velocity: its drift says nothing of x1 at t = 0, so it needs several steps.

    Reference: Chen, Goldstein, Hua, Albergo, Boffi & Vanden-Eijnden 2024 (arXiv 2403.13724).
    """

    scale: float = 1.0
    power: int = 1

    def __post_init__(self) -> None:
        if not self.scale > 0 or self.power not in (1, 2):
            raise ValueError(f"need scale > 0 and power 1 or 2, got {self}")

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def beta(self, t: Tensor) -> Tensor:
        return t**self.power

    def gamma(self, t: Tensor) -> Tensor:
        return self.sigma(t) * t.sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        return self.scale * (1 - t)

    def rates(self, t: float | Tensor) -> Coefficients:
        t = as_time(t)
        gamma = self.scale * (1 - 3 * t) / (2 * t.sqrt())
        return Coefficients(-torch.ones_like(t), self.power * t ** (self.power - 1), gamma)

    def drift(self, t: float | Tensor, g: Tensor | None = None) -> Coefficients:
        if g is not None:
            return super().drift(t, g)
        t = as_time(t)
        return Coefficients(-torch.ones_like(t), self.power * t ** (self.power - 1), -self.scale * t.sqrt())

    def follmer(self, t: float | Tensor) -> Tensor:
        """s√(1−t²) for power 1, s√((1−t)(3−t)) for power 2: finite at both ends."""
        t = as_time(t)
        return self.scale * ((1 - t) * ((1 + t) if self.power == 1 else (3 - t))).sqrt()


@dataclass(frozen=True)
class Bridge(Interpolant):
    """The Brownian bridge from the current state to the next one.

        x_t = (1−t)·x0 + t·x1 + s√(t(1−t))·z ,    σ = s constant

    Its drift grows as 1/√(1−t); predict velocity's bounded relatives (`Data`, `Noise`) when training on it.
    Reference: Albergo et al. 2023 (2303.08797); Liu et al. 2023 (I²SB, 2302.05872).
    """

    scale: float = 1.0

    domain = (1e-6, 1 - 1e-4)

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"need scale > 0, got {self}")

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def beta(self, t: Tensor) -> Tensor:
        return t

    def gamma(self, t: Tensor) -> Tensor:
        return self.scale * (t * (1 - t)).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.scale)

    def rates(self, t: float | Tensor) -> Coefficients:
        t = as_time(t)
        one = torch.ones_like(t)
        return Coefficients(-one, one, self.scale * (1 - 2 * t) / (2 * (t * (1 - t)).sqrt()))

    def drift(self, t: float | Tensor, g: Tensor | None = None) -> Coefficients:
        """With its natural σ the bridge's drift is (x1 − x_t)/(1−t): (−1, 1, −s√(t/(1−t)))."""
        if g is not None:
            return super().drift(t, g)
        t = self.inside(t)
        one = torch.ones_like(t)
        return Coefficients(-one, one, -self.scale * (t / (1 - t)).sqrt())


@dataclass(frozen=True)
class Rectified(Interpolant):
    """Flow matching: the straight path from noise, x_t = t·x1 + (1−t)·z.

    Reference: Lipman et al. 2022 (arXiv 2210.02747) with σ_min = 0; Liu et al. 2022 (2209.03003).
    """

    def alpha(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def beta(self, t: Tensor) -> Tensor:
        return t

    def gamma(self, t: Tensor) -> Tensor:
        return 1 - t

    def rates(self, t: float | Tensor) -> Coefficients:
        one = torch.ones_like(as_time(t))
        return Coefficients(torch.zeros_like(one), one, -one)


@dataclass(frozen=True)
class VariancePreserving(Interpolant):
    """The path of DDPM, DDIM and TSM: x_t = a(t)·x1 + √(1−a²)·z with a² = ᾱ.

    `nodes` noising steps with βₖ linear from `start` to `stop` give ᾱ at t = 1 − k/nodes; between nodes log ᾱ is
    linear, so that a uniform grid of `nodes` steps is DDPM's own. The defaults keep ᾱ at the noisy end at 2e-5.
    Reference: Ho, Jain & Abbeel 2020 (arXiv 2006.11239), eq. 4.
    """

    nodes: int = 100
    start: float = 1e-3
    stop: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.start <= self.stop < 1 or self.nodes < 1:
            raise ValueError(f"need 0 < start ≤ stop < 1 and nodes ≥ 1, got {self}")

    @cached_property
    def log_signal(self) -> Tensor:
        """½ log ᾱ at k = 0 … nodes, float64."""
        betas = torch.linspace(self.start, self.stop, self.nodes, dtype=torch.float64)
        return torch.cat([torch.zeros(1, dtype=torch.float64), (1 - betas).log().cumsum(0) / 2])

    def _log_beta(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """log β(t) and its rate."""
        table = self.log_signal.to(t.device)
        k = (1 - t) * self.nodes
        low = k.detach().floor().clamp(0, self.nodes - 1).long()
        slope = table[low + 1] - table[low]
        return table[low] + (k - low) * slope, -self.nodes * slope

    def alpha(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def beta(self, t: Tensor) -> Tensor:
        return self._log_beta(t)[0].exp()

    def gamma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(2 * self._log_beta(t)[0])).sqrt()

    def rates(self, t: float | Tensor) -> Coefficients:
        t = as_time(t)
        log_beta, rate = self._log_beta(t)
        beta, gamma = log_beta.exp(), (-torch.expm1(2 * log_beta)).sqrt()
        return Coefficients(torch.zeros_like(t), beta * rate, -(beta**2) * rate / gamma)


@dataclass(frozen=True)
class VarianceExploding(Interpolant):
    """The path of EDM: x_t = x1 + σ_max(1−t)·z, linear in t; Karras' spacing of noise levels belongs to the grid.

    Reference: Karras et al. 2022 (arXiv 2206.00364), with σ = σ_max(1−t).
    """

    scale: float = 80.0
    smallest: float = 0.002

    def __post_init__(self) -> None:
        if not 0 < self.smallest < self.scale:
            raise ValueError(f"need 0 < smallest < scale, got {self}")

    @property
    def domain(self) -> tuple[float, float]:  # type: ignore[override]
        """Up to the smallest noise level that a network is asked at."""
        return (0.0, 1 - self.smallest / self.scale)

    @property
    def grid(self) -> Grid:
        """Karras' spacing: equal steps would pass all small noise levels at once."""
        return KarrasSpacing(smallest=self.smallest, largest=self.scale)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def beta(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def gamma(self, t: Tensor) -> Tensor:
        return self.scale * (1 - t)

    def rates(self, t: float | Tensor) -> Coefficients:
        zero = torch.zeros_like(as_time(t))
        return Coefficients(zero, zero, zero - self.scale)


@dataclass(frozen=True)
class Residual(Interpolant):
    """Any path that starts from noise, on the increment x1 − x0 in place of x1: (α, β, γ) → (α + 1 − β, β, γ).

    Its samples start at state + noise. Reference: Mardani et al. 2023 (CorrDiff, arXiv 2309.15214) for the idea.
    """

    path: Interpolant

    def __post_init__(self) -> None:
        if self.path.starts_at_point:
            raise ValueError(f"needs a path that starts from noise, and {self.path} starts at the state already")
        if bool(self.path.beta(as_time(0.0)) == 1):
            raise ValueError(f"needs a path whose β grows from 0; on {self.path} the residual changes nothing")

    @property
    def domain(self) -> tuple[float, float]:  # type: ignore[override]
        """That of the path."""
        return self.path.domain

    @property
    def grid(self) -> Grid:
        """That of the path."""
        return self.path.grid

    def alpha(self, t: Tensor) -> Tensor:
        return self.path.alpha(t) + 1 - self.path.beta(t)

    def beta(self, t: Tensor) -> Tensor:
        return self.path.beta(t)

    def gamma(self, t: Tensor) -> Tensor:
        return self.path.gamma(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.path.sigma(t)

    def origin(self, t: float | Tensor) -> Coefficients:
        """(1, 0, γ): what is not known is the increment."""
        alpha, beta, gamma = self.path.origin(t)
        return Coefficients(alpha + 1, beta, gamma)

    def rates(self, t: float | Tensor) -> Coefficients:
        alpha, beta, gamma = self.path.rates(t)
        return Coefficients(alpha - beta, beta, gamma)


INTERPOLANTS: dict[str, type[Interpolant]] = {
    "follmer": Follmer,
    "bridge": Bridge,
    "rectified": Rectified,
    "variance_preserving": VariancePreserving,
    "variance_exploding": VarianceExploding,
    "residual": Residual,
}
