"""Predictions: which linear combination of (x0, x1, z) a network regresses, and how it sees its input and the time.

A network trained by squared error on a·x0 + b·x1 + c·z returns that combination's conditional mean given (x_t, x0);
`transport` turns it into any other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from driftway.diffusions import NATURAL, Diffusion
from driftway.interpolants import Coefficients, Interpolant, as_time


class Prediction(ABC):
    """What a network regresses; equal by value."""

    @abstractmethod
    def coefficients(self, interpolant: Interpolant, t: float | Tensor) -> Coefficients:
        """The combination of (x0, x1, z) that is the regression target at t."""

    def scale(self, interpolant: Interpolant, t: float | Tensor) -> Tensor:
        """Factor on x_t at the network's input."""
        return torch.ones_like(as_time(t))

    def label(self, interpolant: Interpolant, t: float | Tensor) -> Tensor:
        """The time as the network sees it, of order one."""
        return as_time(t)


@dataclass(frozen=True)
class Drift(Prediction):
    """The drift that goes with a diffusion g, by default the path's own σ (bounded at both ends for `Follmer`).

    b = α̇·x0 + β̇·x1 + (γ̇ − g²/2γ)·z
    """

    diffusion: Diffusion = NATURAL

    def coefficients(self, interpolant: Interpolant, t: float | Tensor) -> Coefficients:
        if self.diffusion == NATURAL:
            return interpolant.drift(t)
        t = interpolant.inside(t)
        return interpolant.drift(t, self.diffusion(interpolant, t))


@dataclass(frozen=True)
class Velocity(Prediction):
    """The velocity of the probability-flow ODE: α̇·x0 + β̇·x1 + γ̇·z."""

    def coefficients(self, interpolant: Interpolant, t: float | Tensor) -> Coefficients:
        return interpolant.rates(interpolant.inside(t))


@dataclass(frozen=True)
class Data(Prediction):
    """The target x1 (what EDM and others call the denoiser)."""

    def coefficients(self, interpolant: Interpolant, t: float | Tensor) -> Coefficients:
        zero = torch.zeros_like(as_time(t))
        return Coefficients(zero, zero + 1, zero)


@dataclass(frozen=True)
class Noise(Prediction):
    """The noise z (DDPM's ε)."""

    def coefficients(self, interpolant: Interpolant, t: float | Tensor) -> Coefficients:
        zero = torch.zeros_like(as_time(t))
        return Coefficients(zero, zero, zero + 1)


@dataclass(frozen=True)
class Score(Prediction):
    """−z/γ: the score ∇ log p(x_t | x0) of white unit noise, and C times the score of noise with covariance C."""

    def coefficients(self, interpolant: Interpolant, t: float | Tensor) -> Coefficients:
        t = interpolant.inside(t)
        zero = torch.zeros_like(t)
        return Coefficients(zero, zero, -1 / interpolant.gamma(t))


@dataclass(frozen=True)
class Karras(Prediction):
    """EDM's preconditioned target, of unit variance at every noise level σ = γ/β.

        F = (x1 − c_skip·x_t)/c_out ,  c_skip = d²/(σ²+d²) ,  c_out = σd/√(σ²+d²) ,  c_in = 1/√(σ²+d²)

    `data_std` d is the standard deviation of what the path ends in (1 for standardised states).
    Reference: Karras et al. 2022 (arXiv 2206.00364), table 1.
    """

    data_std: float = 1.0

    def coefficients(self, interpolant: Interpolant, t: float | Tensor) -> Coefficients:
        t = interpolant.inside(t)
        alpha, beta, gamma = interpolant.coefficients(t)
        sigma = gamma / beta
        total = sigma**2 + self.data_std**2
        skip, out = self.data_std**2 / total / beta, sigma * self.data_std / total.sqrt()
        return Coefficients(-skip * alpha / out, (1 - skip * beta) / out, -skip * gamma / out)

    def scale(self, interpolant: Interpolant, t: float | Tensor) -> Tensor:
        _, beta, gamma = interpolant.coefficients(interpolant.inside(t))
        return 1 / (gamma**2 + (beta * self.data_std) ** 2).sqrt()

    def label(self, interpolant: Interpolant, t: float | Tensor) -> Tensor:
        _, beta, gamma = interpolant.coefficients(interpolant.inside(t))
        return (gamma / beta).log() / 4


PREDICTIONS: dict[str, type[Prediction]] = {
    "drift": Drift,
    "velocity": Velocity,
    "data": Data,
    "noise": Noise,
    "score": Score,
    "karras": Karras,
}
