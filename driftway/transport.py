"""Transport: a trained network bound to its interpolant, its prediction and one source; all that a sampler sees.

The network returns the conditional mean y of a·x0 + b·x1 + c·z. With x_t = α·x0 + β·x1 + γ·z, any other combination
(A, B, C) follows by one 2×2 solve:

    λ·y + μ·x_t + ν·x0 ,   λ = (Bγ − Cβ)/det ,  μ = (bC − cB)/det ,  ν = A − λa − μα ,   det = bγ − cβ
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from driftway.diffusions import NATURAL, Diffusion
from driftway.errors import ConfigError
from driftway.interpolants import Coefficients, Interpolant
from driftway.noise import White
from driftway.predictions import Data, Drift, Prediction, Velocity
from driftway.randomness import Stream

TOLERABLE = 10.0  # amplification of a network's error beyond which its answer is not used to leave a point
BLIND = 1e4  # and to leave noise, where errors of the first steps are forgotten
INSIDE = torch.linspace(0.02, 0.98, 49, dtype=torch.float64)


@dataclass(frozen=True)
class Transport:
    """The learned map from `source` (B, C, *S) to the data; `predict(x, t)` is one network call."""

    interpolant: Interpolant
    prediction: Prediction
    predict: Callable[[Tensor, Tensor], Tensor]
    source: Tensor
    noise: White

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """v of the probability-flow ODE dx = v dt."""
        return self.evaluate(x, t, Velocity())

    def drift(self, x: Tensor, t: Tensor, diffusion: Diffusion = NATURAL) -> Tensor:
        """b of the SDE dx = b dt + g dw."""
        return self.evaluate(x, t, Drift(diffusion))

    def data(self, x: Tensor, t: Tensor) -> Tensor:
        """ξ = E[x1 | x_t, x0]."""
        return self.evaluate(x, t, Data())

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """∇ log p(x_t | x0) = −C⁻¹·E[z | x_t, x0]/γ."""
        _, noise = self.data_and_noise(x, t)
        return -self.noise.precision(noise) / self.interpolant.gamma(self.interpolant.inside(t)).to(x)

    def data_and_noise(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """ξ and η = E[z | x_t, x0] = (x_t − αx0 − βξ)/γ from one network call."""
        data = self.data(x, t)
        alpha, beta, gamma = self.interpolant.coefficients(self.interpolant.inside(t))
        return data, Coefficients(-alpha / gamma, -beta / gamma, 1 / gamma)(self.source, data, x)

    def evaluate(self, x: Tensor, t: Tensor, wanted: Prediction) -> Tensor:
        """The wanted combination at (x, t) from one network call; what the network predicts is never converted."""
        y = self.predict(x, t)
        if wanted == self.prediction:
            return y
        return conversion(self.interpolant, self.prediction, wanted, t)(y, x, self.source)

    def departure(self) -> Tensor:
        """The earliest time at which the network tells x1 well enough to leave the start."""
        return _departure(self.interpolant, self.prediction)

    def blind(self, wanted: Prediction) -> bool:
        """Whether the network says too little of `wanted` at t = 0 for a step from there."""
        return _blind(self.interpolant, self.prediction, wanted)

    def draw(self, stream: Stream) -> Tensor:
        """Noise of the law that the network was trained with: the only source of noise for samplers."""
        return self.noise.draw(self.source, stream)

    def start(self, t: Tensor, stream: Stream) -> Tensor:
        """x_t = α·x0 + γ·z at the first time of a grid; nothing is drawn where γ = 0."""
        alpha, _, gamma = self.interpolant.origin(t)
        x = alpha.to(self.source) * self.source
        return x + gamma.to(x) * self.draw(stream) if bool(gamma > 0) else x

    def leap(self, s: Tensor, stream: Stream, temperature: float = 1.0) -> Tensor:
        """x_s = α·x0 + β·ξ(x0) + γ·z in one network call: how a sampler leaves a start where its step is singular."""
        z = temperature * self.draw(stream) if temperature else self.source * 0
        return self.interpolant.coefficients(s)(self.source, self.first_answer(z), z)

    def first_answer(self, z: Tensor) -> Tensor:
        """ξ at the departure: what one network call tells of x1 before the path has told anything."""
        t = self.departure()
        return self.data(self.interpolant.coefficients(t)(self.source, self.source, z), t)


def conversion(path: Interpolant, given: Prediction, wanted: Prediction, t: Tensor) -> Coefficients:
    """(λ, μ, ν), of network output, x_t and source. Raises ConfigError where `given` does not determine `wanted`."""
    t = path.inside(t)
    alpha, beta, gamma = path.coefficients(t)
    a, b, c = given.coefficients(path, t)
    A, B, C = wanted.coefficients(path, t)
    det = b * gamma - c * beta
    if bool((det == 0).any()):
        raise ConfigError(f"{given} does not determine {wanted} on {path}: predict the latter")
    lam, mu = (B * gamma - C * beta) / det, (b * C - c * B) / det
    return Coefficients(lam, mu, A - lam * a - mu * alpha)


def check_determined(path: Interpolant, given: Prediction) -> None:
    """Raise ConfigError unless `given` and x_t determine x1 at all times inside the path: γ·det keeps its sign."""
    _, beta, gamma = path.coefficients(INSIDE)
    _, b, c = given.coefficients(path, INSIDE)
    weight = gamma * (b * gamma - c * beta)
    if not (bool((weight > 0).all()) or bool((weight < 0).all())):
        raise ConfigError(
            f"{given} and x_t do not determine x1 at every t inside {path}: "
            "choose another prediction, or a path whose γ is positive between its ends"
        )


def amplification(path: Interpolant, given: Prediction, wanted: Prediction, t: Tensor) -> Tensor:
    """By how much an error relative to the network's output grows in `wanted`: |λ|·√(a² + b² + c²)."""
    if wanted == given:
        return torch.ones_like(t)
    target = given.coefficients(path, path.inside(t))
    return conversion(path, given, wanted, t).x0.abs() * torch.stack(target).square().sum(0).sqrt()


@lru_cache
def _blind(path: Interpolant, given: Prediction, wanted: Prediction) -> bool:
    limit = TOLERABLE if path.starts_at_point else BLIND
    return bool(amplification(path, given, wanted, path.inside(0.0)) > limit)


@lru_cache
def _departure(path: Interpolant, given: Prediction) -> Tensor:
    times = torch.logspace(-6, 0, 61, dtype=torch.float64)[:-1]
    growth = amplification(path, given, Data(), times)
    return times[(growth <= growth.min().clamp_min(TOLERABLE)).nonzero()[0, 0]]
