"""How fast small errors of a solver grow: the leading Lyapunov exponent."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from driftway.pdes.spectral import SpectralPDE
from driftway.randomness import Stream


def leading_exponents(
    solver: SpectralPDE, state: Tensor, steps: int, discarded: int, stream: Stream, size: float = 1e-7
) -> Tensor:
    """The leading Lyapunov exponent from each state (B, C, *S) over `steps` stored intervals: (B,), per unit of time.

        λ = Σ_n log(‖δ_n‖ / δ) / (steps·Δt) ,   δ_n = φ(u_n + δ·e_{n−1}) − φ(u_n)

    φ is one stored interval Δt and e the direction of the last difference, so that a second solution stays at the
    distance δ = `size`·‖u‖ of the first. The first `discarded` intervals turn e, which is drawn from the stream, into
    the direction that grows the most. Give states and solver in double precision. A mean over states of one long enough
    time is the exponent of the system. Raises ValueError for states in single precision, where δ would be lost.

    Reference: Benettin, Galgani, Giorgilli & Strelcyn 1980 (Meccanica 15, 9).
    """
    if state.dtype != torch.float64 or solver.dtype != "float64":
        raise ValueError("give state and solver in float64: differences of 1e-7 are lost in less")
    axes = tuple(range(1, state.ndim))
    direction, grown = _unit(stream.normal(state), axes), state.new_zeros(len(state))
    for n in range(discarded + steps):
        distance = size * torch.linalg.vector_norm(state, dim=axes, keepdim=True)
        both = solver.step(torch.cat([state, state + distance * direction]))
        state, other = both.chunk(2)
        difference = other - state
        growth = torch.linalg.vector_norm(difference, dim=axes) / distance.flatten()
        grown = grown + growth.log() * (n >= discarded)
        direction = _unit(difference, axes)
    return grown / (steps * solver.interval)


def doubling_time(exponent: float) -> float:
    """The time in which a small error doubles, infinite where it does not grow."""
    return math.log(2) / exponent if exponent > 0 else math.inf


def _unit(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return x / torch.linalg.vector_norm(x, dim=axes, keepdim=True)
