"""Transport: a trained network bound to its interpolant, its prediction and one source; all that a sampler sees.

The network returns the conditional mean y of a·x0 + b·x1 + c·z. With x_t = α·x0 + β·x1 + γ·z, any other combination
(A, B, C) follows by one 2×2 solve:

    λ·y + μ·x_t + ν·x0 ,   λ = (Bγ − Cβ)/det ,  μ = (bC − cB)/det ,  ν = A − λa − μα ,   det = bγ − cβ
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from driftway.diffusions import Diffusion
from driftway.interpolants import Coefficients, Interpolant
from driftway.noise import White
from driftway.predictions import Data, Drift, Prediction, Velocity
from driftway.randomness import Stream


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

    def drift(self, x: Tensor, t: Tensor, diffusion: Diffusion = Diffusion()) -> Tensor:
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
        return y if wanted == self.prediction else self._conversion(t, wanted)(y, x, self.source)

    def _conversion(self, t: Tensor, wanted: Prediction) -> Coefficients:
        """(λ, μ, ν), of network output, x_t and source."""
        t = self.interpolant.inside(t)
        alpha, beta, gamma = self.interpolant.coefficients(t)
        a, b, c = self.prediction.coefficients(self.interpolant, t)
        A, B, C = wanted.coefficients(self.interpolant, t)
        det = b * gamma - c * beta
        if bool(det == 0):
            raise ValueError(f"{self.prediction} at t = {float(t)} does not determine {wanted} on {self.interpolant}")
        lam, mu = (B * gamma - C * beta) / det, (b * C - c * B) / det
        return Coefficients(lam, mu, A - lam * a - mu * alpha)

    def draw(self, stream: Stream) -> Tensor:
        """Noise of the law that the network was trained with: the only source of noise for samplers."""
        return self.noise.draw(self.source, stream)

    def start(self, t: Tensor, stream: Stream) -> Tensor:
        """x_t = α·x0 + γ·z at the first time of a grid; nothing is drawn where γ = 0."""
        alpha, _, gamma = self.interpolant.coefficients(t)
        x = alpha.to(self.source) * self.source
        return x + gamma.to(x) * self.draw(stream) if bool(gamma > 0) else x

    def leap(self, s: Tensor, stream: Stream, temperature: float = 1.0) -> Tensor:
        """x_s = α·x0 + β·ξ(x0) + γ·z in one network call: how a sampler leaves a point, where an ODE is singular."""
        t = s.new_tensor(self.interpolant.departure)
        z = temperature * self.draw(stream) if temperature else self.source * 0
        near = self.interpolant.coefficients(t)(self.source, self.source, z)
        return self.interpolant.coefficients(s)(self.source, self.data(near, t), z)
