"""How far a state moves: one state and its own future, and what of it can be told without a network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from driftway.data.trajectories import Transition
from driftway.diagnosis.pairs import Pairs
from driftway.errors import DataError
from driftway.linear import Linear
from driftway.metrics.intervals import interval, resampled_means
from driftway.modes import mean_over_modes, to_modes


class Estimate(NamedTuple):
    """A value, and its 95 % bootstrap interval over trajectories; the ends are NaN where there are fewer than eight."""

    value: float
    low: float
    high: float

    def root(self) -> Estimate:
        """Of a ratio of squares, that of the roots."""
        return Estimate(*(max(part, 0.0) ** 0.5 if part == part else part for part in self))


class Step(NamedTuple):
    """What lies between states `lag` frames apart, which is `time`.

    increment: √(⟨|u(t+Δ) − u(t)|²⟩ / ⟨|u − ū|²⟩); √2 for states that know nothing of each other
    autocorrelation: ⟨(u(t) − ū)·(u(t+Δ) − ū)⟩ / ⟨|u − ū|²⟩
    linear: √(⟨|u(t+Δ) − û|²⟩ / ⟨|u − ū|²⟩), û by the linear model of each wavenumber fitted to other trajectories
    flatness: of the spectrum of what the better of the two leaves, ⟨P⟩²/⟨P²⟩: the share of all waves that it fills
    """

    lag: int
    time: float
    increment: Estimate
    autocorrelation: Estimate
    linear: Estimate
    flatness: float

    @property
    def spread(self) -> float:
        """The least of the upper bounds on what a forecast of one step leaves open."""
        return min(self.increment.value, self.linear.value) if self.linear.value > 0 else self.increment.value


def step_of(pairs: Pairs, dt: float, boundary: tuple[str, ...]) -> Step:
    """What lies between the states of some pairs."""
    power = (_square(pairs.source) + _square(pairs.target)) / 2
    product = (pairs.source * pairs.target).flatten(1).mean(1)
    moved = pairs.target - pairs.source
    increment = _ratio(pairs, _square(moved), power).root()
    linear, left = _linear(pairs, boundary)
    return Step(
        pairs.lag,
        pairs.lag * dt,
        increment,
        _ratio(pairs, product, power),
        linear,
        flatness(left if linear.value < increment.value else moved, boundary),
    )


def flatness(residual: Tensor, boundary: tuple[str, ...]) -> float:
    """⟨P_k⟩² / ⟨P_k²⟩ of the mean power P_k of residuals (B, C, *S) in each mode, averaged over channels."""
    power, size = to_modes(residual.double(), boundary).abs().square().mean(0, keepdim=True), residual.shape[2:]
    first, second = (mean_over_modes(moment, boundary, size) for moment in (power, power**2))
    return float((first**2 / second).mean())


def _ratio(pairs: Pairs, above: Tensor, below: Tensor) -> Estimate:
    """Mean of one quantity of each pair over the mean of another, with the interval over trajectories."""
    parts = torch.stack([pairs.by_trajectory(above), pairs.by_trajectory(below)], 1)
    means = resampled_means(parts)
    low, high = interval(means[:, 0] / means[:, 1], len(parts))
    value = parts.mean(0)
    return Estimate(float(value[0] / value[1]), float(low), float(high))


def _linear(pairs: Pairs, boundary: tuple[str, ...]) -> tuple[Estimate, Tensor]:
    """The error of the linear model on the half of the pairs that it was not fitted to, and the residuals there."""
    fitted, judged = pairs.half(True), pairs.half(False)
    model = Linear(pairs.source.shape[1], boundary)
    try:
        model.prepare(lambda: [Transition(fitted.source, fitted.target)])
    except DataError:  # too few pairs for so many channels
        return Estimate(torch.nan, torch.nan, torch.nan), judged.target - judged.source
    left = judged.target - model.step(judged.source)
    power = (_square(judged.source) + _square(judged.target)) / 2
    return _ratio(judged, _square(left), power).root(), left


def _square(x: Tensor) -> Tensor:
    return x.square().flatten(1).mean(1).double()
