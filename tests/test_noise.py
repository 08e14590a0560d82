"""The noise law: what is fitted is the standard deviation of residuals, what is drawn has it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from driftway.data.trajectories import Transition
from driftway.errors import DataError
from driftway.noise import Coloured, Fitted, White
from driftway.randomness import generator, stream
from driftway.steppers import Conditioning, Generative, Stream
from tests.gaussian import OneStream, covariance


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


# --- noise with a spectrum -----------------------------------------------------------------------------------------

GRIDS = [(("periodic",), (6,)), (("wall", "periodic"), (3, 4)), (("wall",), (5,))]


def coloured(boundary: tuple[str, ...], size: tuple[int, ...], channels: int = 2) -> Coloured:
    """A law fitted to noise that is stronger at small wavenumbers and differs between channels."""
    law = Coloured(channels, boundary).double()
    white = torch.from_numpy(generator("coloured", *size).standard_normal((300, channels, *size)))
    smooth = white + sum(white.roll(1, axis) for axis in range(2, white.ndim))
    law.fit((smooth * torch.linspace(0.5, 2, channels).reshape(-1, *(1 for _ in size))).split(64))
    return law


@pytest.mark.parametrize(("boundary", "size"), GRIDS)
def test_a_coloured_law_draws_with_the_covariance_of_its_spectrum(boundary: Any, size: Any) -> None:
    law = coloured(boundary, size)
    z = law.draw(torch.zeros(60000, 2, *size, dtype=torch.float64), OneStream("draws"))
    for channel in range(2):
        expected = covariance(law.spectrum[channel] ** 2, law.boundary, size)
        error = torch.cov(z[:, channel].flatten(1).T) - expected
        assert float(error.abs().max()) < 0.03 * float(expected.diagonal().max())
        torch.testing.assert_close(expected.diagonal().mean().sqrt(), law.scale[channel])


@pytest.mark.parametrize(("boundary", "size"), GRIDS)
def test_precision_is_the_inverse_of_the_full_covariance(boundary: Any, size: Any) -> None:
    law = coloured(boundary, size)
    x = torch.from_numpy(generator("x").standard_normal((4, 2, *size)))
    for channel in range(2):
        expected = torch.linalg.solve(
            covariance(law.spectrum[channel] ** 2, law.boundary, size), x[:, channel].flatten(1).T
        ).T
        torch.testing.assert_close(law.precision(x)[:, channel].flatten(1), expected)


def test_the_fitted_spectrum_is_that_of_the_residuals() -> None:
    sample = torch.from_numpy(generator("sample").standard_normal((50, 2, 8, 6)))
    law, doubled = Coloured(2, ("periodic",) * 2), Coloured(2, ("periodic",) * 2, factor=2.0)
    for fitted in (law, doubled):
        fitted.fit((sample + 3.0).split(7))
    expected = np.fft.rfftn(sample.numpy(), axes=(2, 3), norm="ortho").std(0)
    np.testing.assert_allclose(law.spectrum, expected, rtol=1e-5)
    np.testing.assert_allclose(doubled.spectrum, 2 * expected, rtol=1e-5)
    np.testing.assert_allclose(law.scale, (sample - sample.mean(0)).square().mean((0, 2, 3)).sqrt(), rtol=1e-5)


def test_a_mode_without_residual_has_little_noise_and_a_channel_without_any_is_an_error() -> None:
    wave = torch.cos(2 * torch.pi * torch.arange(8) / 8)
    sample = torch.from_numpy(generator("wave").standard_normal((20, 1, 1))).float() * wave
    law = Coloured(1, ("periodic",))
    law.fit([sample])
    assert float(law.spectrum[0, 3] / law.scale[0]) == pytest.approx(1e-3)
    assert torch.isfinite(law.precision(sample)).all()
    with pytest.raises(DataError, match="constant in channel 1"):
        Coloured(2, ("periodic",)).fit([torch.cat([sample, sample * 0], 1)])
    with pytest.raises(ValueError, match="factor must be positive"):
        Coloured(1, ("periodic",), factor=0.0)


def test_a_coloured_law_is_saved_with_its_grid() -> None:
    law, again = coloured(("wall", "periodic"), (3, 4)), Coloured(2, ("wall", "periodic")).double()
    again.load_state_dict(law.state_dict())
    assert torch.equal(again.spectrum, law.spectrum) and torch.equal(again.scale, law.scale)
    for other in (Coloured(2, ("periodic",)), Coloured(3, ("wall", "periodic"))):
        with pytest.raises(RuntimeError, match="spectrum"):
            other.load_state_dict(law.state_dict())
