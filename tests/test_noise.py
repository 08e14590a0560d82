"""The noise law: what is fitted is the standard deviation of residuals, what is drawn has it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from driftway.data.trajectories import Transition
from driftway.errors import DataError
from driftway.noise import Fitted, White
from driftway.randomness import generator, stream
from driftway.steppers import Conditioning, Generative, Stream


def residuals(count: int, channels: int, key: int = 0) -> Tensor:
    """Of different mean and spread in each channel."""
    rng = generator("residuals", key)
    scales, means = rng.uniform(0.01, 10, (1, channels, 1)), rng.normal(0, 3, (1, channels, 1))
    return torch.from_numpy(means + scales * rng.standard_normal((count, channels, 6))).float()


@settings(max_examples=25, deadline=None)
@given(count=st.integers(2, 40), channels=st.integers(1, 4), size=st.integers(1, 50), key=st.integers(0, 9))
def test_fitted_scale_is_numpys_standard_deviation(count: int, channels: int, size: int, key: int) -> None:
    sample = residuals(count, channels, key)
    expected = np.std(sample.double().numpy(), axis=(0, 2))
    law, doubled, pooled = Fitted(channels), Fitted(channels, factor=2.0), Fitted(channels, per="all")
    for fitted in (law, doubled, pooled):
        fitted.fit(sample.split(size))
    np.testing.assert_allclose(law.scale, expected, rtol=1e-5)
    np.testing.assert_allclose(doubled.scale, 2 * expected, rtol=1e-5)
    np.testing.assert_allclose(pooled.scale, np.full(channels, np.sqrt((expected**2).mean())), rtol=1e-5)


def test_draws_have_the_fitted_covariance_and_precision_undoes_it() -> None:
    law = Fitted(2)
    law.fit([residuals(64, 2)])
    draws = law.draw(torch.zeros(40, 2, 500), stream("noise", rows=range(40)))
    np.testing.assert_allclose(draws.std((0, 2)), law.scale, rtol=0.02)
    np.testing.assert_allclose((draws * law.precision(draws)).mean((0, 2)), np.ones(2), rtol=0.03)


def test_a_given_scale_is_not_fitted() -> None:
    law = White(3, 0.5)
    law.fit([residuals(8, 3)])
    assert law.scale.tolist() == [0.5] * 3


def test_the_scale_is_saved_with_the_weights() -> None:
    law, again = Fitted(2), Fitted(2)
    law.fit([residuals(8, 2)])
    again.load_state_dict(law.state_dict())
    assert torch.equal(again.scale, law.scale)


class Halved:
    """A guess: the next state is half the current one."""

    def step(self, state: Tensor, conditioning: Conditioning = Conditioning(), stream: Stream | None = None) -> Tensor:
        return state / 2


def test_the_law_of_a_stepper_is_that_of_target_less_guess() -> None:
    source = residuals(60, 2)
    error = torch.from_numpy(generator("error").normal(0, [[[0.3]], [[0.02]]], (2, 60, 6))).float().movedim(1, 0)
    batch = Transition(source, source / 2 + error)
    for guess, residual in ((None, batch.target - source), (Halved(), error)):
        stepper = Generative(torch.nn.Identity(), 2, guess=guess)
        stepper.prepare(lambda: [Transition(*(x[i : i + 7] for x in batch[:2])) for i in range(0, 60, 7)])
        np.testing.assert_allclose(stepper.noise.scale, residual.double().std((0, 2), unbiased=False), rtol=1e-4)


def test_a_constant_residual_is_an_error_that_names_the_channel() -> None:
    sample = residuals(8, 3)
    sample[:, 1] = 4.0
    with pytest.raises(DataError, match="constant in channel 1"):
        Fitted(3).fit([sample])
    with pytest.raises(ValueError, match="'channel' or 'all', got 'pixel'"):
        Fitted(3, per="pixel")
