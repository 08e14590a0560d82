"""Exponential time differencing: v_t = L v + N(v) with L diagonal and integrated exactly.

With z = L·h for the step h, and

    φ₁(z) = (eᶻ − 1)/z,   φ₂(z) = (eᶻ − 1 − z)/z²,   φ₃(z) = (eᶻ − 1 − z − z²/2)/z³

order 1 is v ← eᶻ v + h φ₁ N(v). Orders 2 and 4 are the Runge–Kutta schemes ETD2RK and ETD4RK of Cox &
Matthews 2002, J. Comput. Phys. 176, 430. The fractions cancel near z = 0: there the φ are means over a circle
around z (Kassam & Trefethen 2005, SIAM J. Sci. Comput. 26, 1214). All in double precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Cast = Callable[[Tensor], Tensor]
Nonlinear = Callable[[Tensor], Tensor]


class Scheme(Protocol):
    """One time step of the modes v."""

    def __call__(self, v: Tensor, nonlinear: Nonlinear) -> Tensor:
        """v one step h later."""
        ...


def phi(z: Tensor, points: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    """φ₁, φ₂ and φ₃ at complex z: where |z| < 1, means over a circle of `points` around z that keeps off 0."""
    z = z.to(torch.complex128)
    angles = 2 * math.pi * torch.arange(points, dtype=torch.float64, device=z.device) / points
    circle = z[..., None] + torch.polar(torch.full_like(angles, 2.0), angles)
    pairs = zip(_fractions(circle), _fractions(z), strict=True)
    one, two, three = (torch.where(z.abs() < 1, mean.mean(-1), at_z) for mean, at_z in pairs)
    return one, two, three


def _fractions(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    e = torch.exp(z)
    return (e - 1) / z, (e - 1 - z) / z**2, (e - 1 - z - z**2 / 2) / z**3


@dataclass(frozen=True)
class First:
    """v ← eᶻ v + h φ₁ N(v)."""

    decay: Tensor
    weight: Tensor

    @classmethod
    def of(cls, z: Tensor, gain: Tensor, cast: Cast) -> First:
        """The scheme of z = L·h, with h times the dealiasing mask as gain of N."""
        return cls(cast(torch.exp(z)), cast(gain * phi(z)[0]))

    def __call__(self, v: Tensor, nonlinear: Nonlinear) -> Tensor:
        return self.decay * v + self.weight * nonlinear(v)


@dataclass(frozen=True)
class Second:
    """a = eᶻ v + h φ₁ N(v);  v ← a + h φ₂ (N(a) − N(v))."""

    decay: Tensor
    predict: Tensor
    correct: Tensor

    @classmethod
    def of(cls, z: Tensor, gain: Tensor, cast: Cast) -> Second:
        one, two, _ = phi(z)
        return cls(cast(torch.exp(z)), cast(gain * one), cast(gain * two))

    def __call__(self, v: Tensor, nonlinear: Nonlinear) -> Tensor:
        n = nonlinear(v)
        a = self.decay * v + self.predict * n
        return a + self.correct * (nonlinear(a) - n)


@dataclass(frozen=True)
class Fourth:
    """Three half and full stages a, b, c, then v ← eᶻ v + h (f₁ N(v) + 2 f₂ (N(a) + N(b)) + f₃ N(c)).

    f₁ = φ₁ − 3φ₂ + 4φ₃,  f₂ = φ₂ − 2φ₃,  f₃ = 4φ₃ − φ₂.
    """

    decay: Tensor
    decay_half: Tensor
    half: Tensor
    first: Tensor
    middle: Tensor
    last: Tensor

    @classmethod
    def of(cls, z: Tensor, gain: Tensor, cast: Cast) -> Fourth:
        one, two, three = phi(z)
        return cls(
            cast(torch.exp(z)),
            cast(torch.exp(z / 2)),
            cast(gain / 2 * phi(z / 2)[0]),
            cast(gain * (one - 3 * two + 4 * three)),
            cast(gain * 2 * (two - 2 * three)),
            cast(gain * (4 * three - two)),
        )

    def __call__(self, v: Tensor, nonlinear: Nonlinear) -> Tensor:
        n = nonlinear(v)
        v_half = self.decay_half * v
        a = v_half + self.half * n
        n_a = nonlinear(a)
        b = v_half + self.half * n_a
        n_b = nonlinear(b)
        c = self.decay_half * a + self.half * (2 * n_b - n)
        return self.decay * v + self.first * n + self.middle * (n_a + n_b) + self.last * nonlinear(c)


SCHEMES: dict[int, type[First] | type[Second] | type[Fourth]] = {1: First, 2: Second, 4: Fourth}


def scheme(order: int, z: Tensor, gain: Tensor, cast: Cast) -> Scheme:
    """The scheme of that order: z = L·h per mode, `gain` = h where N acts and 0 where it is cut off."""
    return SCHEMES[order].of(z, gain, cast)
