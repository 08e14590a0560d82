"""Steppers: anything that takes one physical step. Solvers, baselines and learned emulators all are.

A stepper maps a state (B, C, *S), one time Δt ahead, given what else is known (`Conditioning`) and, where it is
random, a `Stream` with one row per batch row. A `LearnedStepper` also has a `loss`; the training loop knows no more.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from driftway.codecs import Standardize
from driftway.data.trajectories import Conditioning, Transition, coarsen
from driftway.densities import Density, UniformTime
from driftway.interpolants import Follmer, Interpolant, expand
from driftway.noise import Fitted, White
from driftway.predictions import Drift, Prediction
from driftway.randomness import Stream
from driftway.samplers import EulerMaruyama, Sampler
from driftway.transport import Transport, check_determined

NOTHING = Conditioning()
OBSERVED = 2  # rows of a batch, at most, from which noise follows the residual
Network = Callable[..., Tensor]


class Stepper(Protocol):
    """One physical step."""

    def step(self, state: Tensor, conditioning: Conditioning = NOTHING, stream: Stream | None = None) -> Tensor:
        """The state (B, C, *S) one time Δt later."""
        ...


class Persistence:
    """The next state is the current one: the forecast that every other must beat."""

    def step(self, state: Tensor, conditioning: Conditioning = NOTHING, stream: Stream | None = None) -> Tensor:
        return state


class Climatology:
    """The next state is the mean state (C, *S): what is left when nothing can be predicted."""

    def __init__(self, mean: Tensor):
        self.mean = mean

    def step(self, state: Tensor, conditioning: Conditioning = NOTHING, stream: Stream | None = None) -> Tensor:
        return self.mean.to(state).expand_as(state)


class LearnedStepper(nn.Module, ABC):
    """A stepper with weights: `prepare` fits what is not trained, `loss` is what training lowers.

    `random` says whether a step draws noise, `trained` whether there is anything to train once it is prepared.
    """

    random: bool = False
    trained: bool = True

    def scale_fields(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take the mean and standard deviation of each known field; networks see fields in these."""
        known = self._modules.get("known")
        if isinstance(known, Standardize):
            known.fit(mean, std)

    def prepare(self, transitions: Callable[[], Iterable[Transition]]) -> None:
        """Fit constants (such as the noise scale) to training data; nothing by default."""

    @abstractmethod
    def loss(self, batch: Transition, stream: Stream) -> Tensor:
        """Mean over the batch of what training lowers; a scalar."""

    @abstractmethod
    def step(self, state: Tensor, conditioning: Conditioning = NOTHING, stream: Stream | None = None) -> Tensor:
        """The state (B, C, *S) one time Δt later."""


class Deterministic(LearnedStepper):
    """A network that predicts the next state, or by default the increment to it: û(t+Δt) = u(t) + f(u(t)).

    Trained by mean squared error, so that its answer tends to the conditional mean.
    """

    def __init__(self, network: nn.Module, residual: bool = True, fields: int = 0):
        super().__init__()
        self.network, self.residual, self.known = network, residual, _scale(fields)

    def loss(self, batch: Transition, stream: Stream) -> Tensor:
        return (self.step(batch.source, batch.conditioning) - batch.target).square().mean()

    def step(self, state: Tensor, conditioning: Conditioning = NOTHING, stream: Stream | None = None) -> Tensor:
        seen = _seen(self.network, self.known, conditioning, tuple(state.shape[2:]))
        y = _called(self.network, None, seen, state)
        return state + y if self.residual else y


class Generative(LearnedStepper):
    """A sampler of the next state: a network learns one prediction along an interpolant, a sampler integrates it.

        loss = mean ‖network([scale·x_t, u, …], label(t)) − (a·x0 + b·x1 + c·z)‖²

    x0, where the path starts, is `guess.step(u)`: by default the current state u itself. The network always sees u,
    and the guess where it differs. `noise` is the law of z; `antithetic` adds −z for every z, at twice the cost.
    Raises ConfigError where the prediction does not determine x1 on the interpolant.

    `crps` is the share of another loss, the fair CRPS at every point of two samples x¹, x² of the sampler:

        mean ½|x¹ − x1| + ½|x² − x1| − ½|x¹ − x²|

    Its gradient goes through the last step alone: what starts from a trained run fine-tunes that step. With crps = 1,
    one step and a path from noise this is a network that takes noise in and is trained by CRPS alone. It is least where
    samples have the law of x1 point by point, and knows no patterns; it calls the network 2·steps times more.
    Reference: Lang et al. 2024 (arXiv 2412.15832), eq. 2.
    """

    random = True

    def __init__(
        self,
        network: nn.Module,
        channels: int,
        interpolant: Interpolant = Follmer(),
        prediction: Prediction = Drift(),
        density: Density = UniformTime(),
        sampler: Sampler = EulerMaruyama(steps=2),
        noise: White | None = None,
        guess: Stepper | None = None,
        antithetic: bool = False,
        crps: float = 0.0,
        fields: int = 0,
    ):
        super().__init__()
        check_determined(interpolant, prediction)
        if not 0 <= crps <= 1:
            raise ValueError(f"crps is a share of the loss, from 0 to 1, got {crps}")
        self.network, self.guess, self.known = network, guess, _scale(fields)
        self.noise = Fitted(channels) if noise is None else noise
        self.interpolant, self.prediction, self.density = interpolant, prediction, density
        self.sampler, self.antithetic, self.crps = sampler, antithetic, crps
        if isinstance(guess, nn.Module):
            guess.requires_grad_(False)

    @torch.no_grad()
    def prepare(self, transitions: Callable[[], Iterable[Transition]]) -> None:
        """Fit the noise law to target − source over batches of training transitions."""
        self.noise.fit(batch.target - self.source(batch.source, batch.conditioning) for batch in transitions())

    def source(self, state: Tensor, conditioning: Conditioning = NOTHING) -> Tensor:
        """x0, where the path starts."""
        with torch.no_grad():
            return state if self.guess is None else self.guess.step(state, conditioning)

    def loss(self, batch: Transition, stream: Stream) -> Tensor:
        if self.crps == 1:
            return self._of_samples(batch, stream)
        along = self._along(batch, stream)
        return along if self.crps == 0 else torch.lerp(along, self._of_samples(batch, stream), self.crps)

    def _along(self, batch: Transition, stream: Stream) -> Tensor:
        """The mean squared error of the prediction along the interpolant."""
        x0 = self.source(batch.source, batch.conditioning)
        t = self.density(self.interpolant, x0, stream)
        z = self.noise.draw(x0, stream)
        if self.training and self.noise.follows:
            self._observe(batch, x0, z)
        seen = batch._replace(conditioning=self._seen(batch.source, batch.conditioning))
        if not self.antithetic:
            return self._loss_at(seen, x0, t, z)
        return (self._loss_at(seen, x0, t, z) + self._loss_at(seen, x0, t, -z)) / 2

    def _of_samples(self, batch: Transition, stream: Stream) -> Tensor:
        """The fair CRPS of two samples."""
        one, other = (self._sample(batch, stream) for _ in range(2))
        near = (one - batch.target).abs() + (other - batch.target).abs()
        return (near - (one - other).abs()).mean() / 2

    def _sample(self, batch: Transition, stream: Stream) -> Tensor:
        """A sample of the next state, whose gradient goes through the last step."""
        transport = self.transport(batch.source, batch.conditioning)
        with torch.no_grad():
            x, last = self.sampler.approach(transport, stream)
        return self.sampler.move(transport, x, *last, stream)

    @torch.no_grad()
    def _observe(self, batch: Transition, x0: Tensor, z: Tensor) -> None:
        """Tell the noise what the network leaves of the first rows' targets."""
        few = batch.first(OBSERVED)
        bound = self._bound(few.source, x0[:OBSERVED], few.conditioning)
        self.noise.observe(few.target - bound.first_answer(z[:OBSERVED]))

    def _loss_at(self, batch: Transition, x0: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """The squared error at one time and noise, of a batch with what the network sees of its conditioning."""
        x = self.interpolant.coefficients(t)(x0, batch.target, z)
        target = self.prediction.coefficients(self.interpolant, t)(x0, batch.target, z)
        return (self._predict(x, t, batch.source, x0, batch.conditioning) - target).square().mean()

    def step(self, state: Tensor, conditioning: Conditioning = NOTHING, stream: Stream | None = None) -> Tensor:
        if stream is None:
            raise ValueError("a generative stepper draws its noise from a stream with one row per batch row")
        return self.sampler(self.transport(state, conditioning), stream)

    def with_sampler(self, sampler: Sampler) -> Generative:
        """The same weights, another sampler."""
        twin = copy.copy(self)
        twin.sampler = sampler
        return twin

    def transport(self, state: Tensor, conditioning: Conditioning = NOTHING) -> Transport:
        """The network bound to one current state: what samplers integrate."""
        return self._bound(state, self.source(state, conditioning), conditioning)

    def _bound(self, state: Tensor, x0: Tensor, conditioning: Conditioning) -> Transport:
        seen = self._seen(state, conditioning)

        def predict(x: Tensor, t: Tensor) -> Tensor:
            return self._predict(x, t.expand(len(x)), state, x0, seen)

        return Transport(self.interpolant, self.prediction, predict, x0, self.noise)

    def _seen(self, state: Tensor, conditioning: Conditioning) -> Conditioning:
        """What the network sees besides states, made once for all of its calls."""
        return _seen(self.network, self.known, conditioning, tuple(state.shape[2:]))

    def _predict(self, x: Tensor, t: Tensor, state: Tensor, x0: Tensor, seen: Conditioning) -> Tensor:
        scaled = expand(self.prediction.scale(self.interpolant, t), x) * x
        known = (state,) if self.guess is None else (state, x0)
        label = self.prediction.label(self.interpolant, t).to(x)
        return _called(self.network, label, seen, scaled, *known)


def _scale(fields: int) -> Standardize | None:
    return Standardize(fields) if fields else None


def _seen(network: Network, scale: Standardize | None, known: Conditioning, grid: tuple[int, ...]) -> Conditioning:
    """What a network sees besides states: fields in standard deviations, on the states' grid or as they are.

    Fields join the states on their grid, unless the network takes them apart (`fields_apart`).
    """
    if known.fields is None:
        return known
    fields = known.fields if scale is None else scale.encode(known.fields)
    apart = getattr(network, "fields_apart", False)
    return replace(known, fields=fields if apart else coarsen(fields, grid))


def _called(network: Network, label: Tensor | None, seen: Conditioning, *states: Tensor) -> Tensor:
    """A network's answer to states on one grid, joined along channels, and to what it sees besides."""
    if getattr(network, "fields_apart", False):
        return network(_joined(*states), label, seen.params, seen.fields)
    return network(_joined(*states, *(() if seen.fields is None else (seen.fields,))), label, seen.params)


def _joined(first: Tensor, *others: Tensor) -> Tensor:
    return torch.cat([first, *others], 1) if others else first
