"""Samplers: how to move from the source to the data with a trained transport.

Which sampler to use is free after training. Two dials that must not be confused: the *diffusion* g of
`EulerMaruyama` changes the way and keeps the law; its *temperature* scales only the noise that is added and changes
the law, down to 0, the noise-free drift, which follows the conditional mean and has no spread. From the current state
alone no ODE can spread: `Euler` and `Heun` leave a point by one random `Transport.leap`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from driftway.diffusions import NATURAL, Diffusion
from driftway.grids import Grid, Power
from driftway.interpolants import Coefficients
from driftway.predictions import Data, Drift
from driftway.randomness import Stream
from driftway.transport import Transport


@dataclass(frozen=True)
class Sampler(ABC):
    """Steps along a grid of times; a subclass writes `step`. A grid of None is the path's own (see `times`)."""

    steps: int = 10
    grid: Grid | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")

    @abstractmethod
    def step(self, transport: Transport, x: Tensor, t: Tensor, s: Tensor, stream: Stream) -> Tensor:
        """x_s from x_t, t < s."""

    def leaps(self, transport: Transport) -> bool:
        """Whether the first step is a random leap: from a point, and where the network tells nothing of x1 at t = 0."""
        return transport.interpolant.starts_at_point or transport.blind(Data())

    def leap(self, transport: Transport, s: Tensor, stream: Stream) -> Tensor:
        """The first step, where `step` cannot make it."""
        return transport.leap(s, stream)

    def times(self, transport: Transport) -> Tensor:
        """The grid; by default the path's, and after a leap from a point quadratic, from where the network tells x1."""
        if self.grid is not None:
            return self.grid(self.steps)
        if not (transport.interpolant.starts_at_point and self.leaps(transport)):
            return transport.interpolant.grid(self.steps)
        times, earliest = Power()(self.steps), transport.departure()
        return torch.cat([times[:1], earliest + (1 - earliest) * times[1:]])

    def move(self, transport: Transport, x: Tensor, t: Tensor, s: Tensor, stream: Stream) -> Tensor:
        """`step`, or the leap at t = 0."""
        leaps = bool(t == 0) and self.leaps(transport)
        return self.leap(transport, s, stream) if leaps else self.step(transport, x, t, s, stream)

    def __call__(self, transport: Transport, stream: Stream) -> Tensor:
        """A sample of x1 given the transport's source: (B, C, *S)."""
        x, last = self.approach(transport, stream)
        return self.move(transport, x, *last, stream)

    def approach(self, transport: Transport, stream: Stream) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x_t before the last step, and the two times of that."""
        times = self.times(transport)
        x = transport.start(times[0], stream)
        *before, last = pairwise(times)
        for t, s in before:
            x = self.move(transport, x, t, s, stream)
        return x, last


@dataclass(frozen=True)
class Euler(Sampler):
    """Euler's method on the probability-flow ODE dx = x0·dα + ξ·dβ + η·dγ, with ξ and η frozen over a step; order 1.

    In this form the ODE has no singular rates. On a path linear in time it is Euler's method in t, and on every path
    it equals DDIM (`Ancestral` with eta = 0). One network call a step.
    """

    def step(self, transport: Transport, x: Tensor, t: Tensor, s: Tensor, stream: Stream) -> Tensor:
        return x + transport.interpolant.increments(t, s)(transport.source, *transport.data_and_noise(x, t))


@dataclass(frozen=True)
class Heun(Sampler):
    """Heun's method on dx = x0·dα + ξ·dβ + η·dγ: the mean of (ξ, η) at both ends of a step; order 2.

    Two network calls a step, and one where s ends the domain (EDM's rule for σ = 0).
    Reference: Karras et al. 2022 (arXiv 2206.00364), algorithm 1, which this is on EDM's path.
    """

    def step(self, transport: Transport, x: Tensor, t: Tensor, s: Tensor, stream: Stream) -> Tensor:
        increments = transport.interpolant.increments(t, s)
        data, noise = transport.data_and_noise(x, t)
        ahead = x + increments(transport.source, data, noise)
        if s > transport.interpolant.domain[1]:
            return ahead
        data_s, noise_s = transport.data_and_noise(ahead, s)
        return x + increments(transport.source, (data + data_s) / 2, (noise + noise_s) / 2)


@dataclass(frozen=True)
class EulerMaruyama(Sampler):
    """Euler–Maruyama on dx = b dt + g dw: x_s = x_t + h·b(x_t, t) + temperature·g(t)·√h·z, h = s − t; weak order 1.

    Where g = c·(base process), b dt is (1−c²) of the ODE's step and c² of the base's, so that c = 0 is `Euler` and
    c = 1 the base process itself. With few steps it adds spread when g exceeds the conditional spread of the next
    state; on N equal steps its last noise stays in the result with standard deviation σN^(−3/2), unless
    `denoise_last` ends on the mean of the last step. temperature = 0 is the noise-free drift: the conditional mean of
    a Gaussian law, with zero spread, and not the probability-flow ODE.
    """

    diffusion: Diffusion = NATURAL
    temperature: float = 1.0
    denoise_last: bool = False

    def step(self, transport: Transport, x: Tensor, t: Tensor, s: Tensor, stream: Stream) -> Tensor:
        h = s - t
        x = x + self._drift(transport, x, t, s)
        g = self.temperature * self.diffusion(transport.interpolant, t) * h.sqrt()
        silent = bool(g == 0) or (self.denoise_last and bool(s == 1))
        return x if silent else x + g.to(x) * transport.draw(stream)

    def _drift(self, transport: Transport, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """The deterministic part of the step."""
        share, path = self.diffusion.factor**2, transport.interpolant
        if share == 1:
            return (s - t).to(x) * transport.drift(x, t, self.diffusion)
        means = transport.source, *transport.data_and_noise(x, t)
        base = path.drift(path.inside(t), self.diffusion.process(path, t))(*means)
        return (1 - share) * path.increments(t, s)(*means) + share * (s - t).to(x) * base

    def leaps(self, transport: Transport) -> bool:
        """Unless g(0) is the path's own σ(0), whose noise builds the right spread, and the network tells its drift."""
        path = transport.interpolant
        start = path.inside(0.0)
        own = path.sigma(start)
        if bool((self.diffusion(path, start) - own).abs() > 1e-5 * own) or (path.starts_at_point and bool(own == 0)):
            return True
        return transport.blind(Drift(self.diffusion))

    def leap(self, transport: Transport, s: Tensor, stream: Stream) -> Tensor:
        return transport.leap(s, stream, self.temperature)


@dataclass(frozen=True)
class Ancestral(Sampler):
    """Steps along the path itself: x_s = α'x0 + β'ξ + γ'(ρη + √(1−ρ²)·z), with no singularity at either end.

    The fresh share of the noise is √(1−ρ²) = eta·√(1−r²), r = βγ'/(β'γ): eta = 1 is DDPM's ancestral sampling with
    the posterior variance, eta = 0 is DDIM, on any path. The last step returns ξ: no noise is left in the result.

    References: Ho, Jain & Abbeel 2020 (arXiv 2006.11239); Song, Meng & Ermon 2020 (2010.02502), eq. 12.
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], got {self.eta}")

    def step(self, transport: Transport, x: Tensor, t: Tensor, s: Tensor, stream: Stream) -> Tensor:
        data, noise = transport.data_and_noise(x, t)
        _, beta, gamma = transport.interpolant.coefficients(transport.interpolant.inside(t))
        alpha_s, beta_s, gamma_s = transport.interpolant.coefficients(s)
        fresh = self.eta * (1 - (beta * gamma_s / (beta_s * gamma)) ** 2).clamp_min(0).sqrt()
        x = Coefficients(alpha_s, beta_s, gamma_s * (1 - fresh**2).sqrt())(transport.source, data, noise)
        return x + (gamma_s * fresh).to(x) * transport.draw(stream) if bool(gamma_s * fresh > 0) else x


SAMPLERS: dict[str, type[Sampler]] = {
    "euler": Euler,
    "heun": Heun,
    "euler_maruyama": EulerMaruyama,
    "ancestral": Ancestral,
}
