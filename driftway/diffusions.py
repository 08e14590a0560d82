"""Diffusions: how much noise a sampler puts in while it moves. Any g(t) ≥ 0 gives the same marginals.

The dial runs from factor 0, the probability-flow ODE, over 1, the base process itself, to beyond it. It changes how a
sample is reached, not its law; what changes the law is a sampler's `temperature`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from driftway.interpolants import Interpolant


@dataclass(frozen=True)
class Diffusion:
    """g(t) = factor · base(t), in units of the noise law.

    base "natural" is the path's own σ(t); "follmer" is g_F, of smallest path-KL to the prior. Paths that start from
    noise have no σ of their own (their drift is the velocity); for any factor but 1 they take g_F as base.
    """

    factor: float = 1.0
    base: Literal["natural", "follmer"] = "natural"

    def __post_init__(self) -> None:
        if not self.factor >= 0 or self.base not in ("natural", "follmer"):
            raise ValueError(f"need factor ≥ 0 and base natural or follmer, got {self}")

    def __call__(self, interpolant: Interpolant, t: Tensor) -> Tensor:
        """g(t), float64."""
        return self.factor * self.process(interpolant, t)

    def process(self, interpolant: Interpolant, t: Tensor) -> Tensor:
        """The base's own coefficient at t."""
        natural = interpolant.sigma(t)
        if self.base == "natural" and (self.factor == 1 or bool((natural > 0).any())):
            return natural
        return interpolant.follmer(interpolant.inside(t))


NATURAL = Diffusion()
