"""Noise that follows what a network leaves of the next state comes to its spread, without being told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from driftway.data.trajectories import Transition
from driftway.densities import UniformTime
from driftway.interpolants import INTERPOLANTS, Follmer, Interpolant, Rectified
from driftway.modes import from_modes, mean_over_modes, to_modes
from driftway.noise import Coloured, Fitted, White
from driftway.predictions import Data, Drift, Prediction
from driftway.randomness import generator, seeded, stream
from driftway.samplers import EulerMaruyama
from driftway.schema import TrainingSection
from driftway.steppers import Generative
from driftway.training import Trainer

SIZE = 16
PERIODIC = ("periodic",)
POWER = 0.02 + 0.2 / (1 + torch.arange(SIZE // 2 + 1.0) ** 2)
"""Variance of each mode of what cannot be predicted; the increment has more."""


class Affine(nn.Module):
    """The best network for a linear law: linear in its inputs, with coefficients that are affine in t."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        with seeded("affine"):
            self.still, self.moving = (nn.Conv1d(inputs, outputs, 1) for _ in range(2))

    def forward(self, x: Tensor, time: Tensor | None, params: Tensor | None) -> Tensor:
        return self.still(x) if time is None else self.still(x) + time[:, None, None] * self.moving(x)


def transitions(k: int) -> Transition:
    """x1 = 0.6·x0 + 0.5 + a Gaussian field of known spectrum."""
    rng = generator("transitions", k)
    source, white = (torch.from_numpy(rng.standard_normal((16, 1, SIZE))).float() for _ in range(2))
    return Transition(
        source, 0.6 * source + 0.5 + from_modes(POWER.sqrt() * to_modes(white, PERIODIC), PERIODIC, (SIZE,))
    )


def trained(
    noise: White, path: Interpolant = Follmer(), prediction: Prediction = Drift(), steps: int = 400
) -> Generative:
    torch.manual_seed(0)
    stepper = Generative(Affine(2, 1), 1, path, prediction, UniformTime(), EulerMaruyama(steps=1), noise)
    stepper.prepare(lambda: (transitions(k) for k in range(20)))
    trainer = Trainer(stepper, transitions, TrainingSection(steps=steps, batch=16, learning_rate=0.03), seed=0)
    for k in range(steps):
        trainer.step(k)
    averaged: Any = trainer.ema.module
    return averaged


SPREAD = float(mean_over_modes(POWER[None, None], PERIODIC, (SIZE,)).sqrt())


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_it_comes_to_the_conditional_spread(factor: float) -> None:
    increment, residual = trained(Fitted(1, factor), steps=1), trained(Fitted(1, factor, of="residual"))
    assert float(increment.noise.scale) > 1.3 * factor * SPREAD
    assert float(residual.noise.scale) == pytest.approx(factor * SPREAD, rel=0.08)


def test_coloured_noise_comes_to_the_spectrum_of_the_residual() -> None:
    noise: Any = trained(Coloured(1, PERIODIC, of="residual")).noise
    np.testing.assert_allclose(noise.spectrum[0], POWER.sqrt(), rtol=0.25)
    assert float(noise.scale) == pytest.approx(SPREAD, rel=0.08)


@pytest.mark.parametrize(
    ("path", "prediction"),
    [(Follmer(), Data()), (INTERPOLANTS["residual"](Rectified()), Data())],
    ids=["a bridge that learns data", "from noise to the increment"],
)
def test_it_follows_on_any_path(path: Interpolant, prediction: Prediction) -> None:
    assert float(trained(Fitted(1, of="residual"), path, prediction).noise.scale) == pytest.approx(SPREAD, rel=0.15)


def test_one_step_is_calibrated() -> None:
    """An ensemble of one call has the spread of its error, mode by mode."""
    stepper = trained(Coloured(1, PERIODIC, of="residual")).eval().requires_grad_(False)
    source = transitions(1000).source.repeat(64, 1, 1)
    members = stepper.step(source, stream=stream("ensemble", rows=range(len(source)))).unflatten(0, (64, 16))
    spread = to_modes((members - members.mean(0)).flatten(0, 1), PERIODIC).abs().square().mean((0, 1)) * 64 / 63
    np.testing.assert_allclose(spread, POWER, rtol=0.4)


def test_it_moves_a_hundredth_of_the_way_in_training_alone() -> None:
    residual = torch.full((2, 2, 8), 3.0)
    for law, start in ((Fitted(2, of="residual"), 1.0), (Coloured(2, PERIODIC, of="residual"), 1.0)):
        law.fit([torch.from_numpy(generator("start").choice([-start, start], (400, 2, 8))).float()])
        before = law.scale.square()
        law.observe(residual)
        torch.testing.assert_close(law.scale.square(), 0.99 * before + 0.01 * 9.0, rtol=2e-3, atol=0)
    stepper = Generative(Affine(2, 1), 1, noise=Fitted(1, of="residual")).eval()
    stepper.prepare(lambda: [transitions(0)])
    before = stepper.noise.scale.clone()
    stepper.loss(transitions(0), stream("loss", rows=range(16)))
    assert torch.equal(stepper.noise.scale, before)
    stepper.train().loss(transitions(0), stream("loss", rows=range(16)))
    assert not torch.equal(stepper.noise.scale, before)


@pytest.mark.parametrize("law", [Fitted, lambda channels, of: Coloured(channels, PERIODIC, of=of)])
def test_what_it_cannot_follow_is_an_error(law: Any) -> None:
    with pytest.raises(ValueError, match="of must be 'increment' or 'residual', got 'error'"):
        law(1, of="error")
