"""Noise with a full covariance: scores, drifts and every sampler carry it, on a system whose law is known.

x1 | x0 ~ N(A·x0, S) on a periodic axis, S and the covariance C of the noise diagonal in Fourier space and different.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from driftway.diffusions import Diffusion
from driftway.interpolants import Follmer, Interpolant, Rectified, VariancePreserving
from driftway.modes import from_modes, to_modes
from driftway.noise import Coloured
from driftway.predictions import Data, Drift, Prediction, Velocity
from driftway.randomness import Stream, generator
from driftway.samplers import Ancestral, EulerMaruyama, Heun, Sampler
from driftway.transport import Transport
from tests.gaussian import covariance

SIZE, SLOPE = 8, 0.8
PERIODIC = ("periodic",)
K = torch.arange(SIZE // 2 + 1, dtype=torch.float64)
S, C = 0.4 / (1 + K**2), 0.3 + 0.7 / (1 + K)  # power of the next state, and of the noise, in each mode


def law(power: Tensor) -> Coloured:
    noise = Coloured(1, PERIODIC).double()
    noise.spectrum = power.sqrt()[None]
    return noise


def conditional(x: Tensor, x0: Tensor, path: Interpolant, t: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
    """E[x1 | x_t, x0] and E[z | x_t, x0], mode by mode."""
    alpha, beta, gamma = path.coefficients(t)
    total = (beta**2 * S + gamma**2 * power).clamp_min(1e-300)
    surprise = to_modes(x - (alpha + beta * SLOPE) * x0, PERIODIC) / total
    size = x.shape[2:]
    data = SLOPE * x0 + from_modes(beta * S * surprise, PERIODIC, size)
    return data, from_modes(gamma * power * surprise, PERIODIC, size)


def exact(path: Interpolant, prediction: Prediction, rows: int, power: Tensor = C) -> Transport:
    """What a perfectly trained network would be."""
    x0 = torch.from_numpy(generator("state").standard_normal((1, 1, SIZE))).expand(rows, -1, -1)

    def predict(x: Tensor, t: Tensor) -> Tensor:
        return prediction.coefficients(path, t)(x0, *conditional(x, x0, path, t, power))

    return Transport(path, prediction, predict, x0, law(power))


class Delta(Stream):
    """Noise for three rows: none, none, and 1 at the first point, which is every mode alike."""

    def __init__(self) -> None:
        super().__init__([generator("probe")] * 3)

    def normal(self, like: Tensor) -> Tensor:
        noise = torch.zeros_like(like)
        noise[2, 0, 0] = 1
        return noise


def sampled_law(transport: Transport, sampler: Sampler) -> tuple[Tensor, Tensor]:
    """Mean at each point and power of each mode at the end, exactly: here each step is affine in (x, z)."""
    stream, times = Delta(), sampler.times(transport)
    start = transport.start(times[0], stream)
    probes = torch.zeros_like(start)
    probes[1, 0, 0] = 1
    unit = to_modes(probes[1:2], PERIODIC)[0, 0]
    mean, power = start[:1], (to_modes(start[2:] - start[:1], PERIODIC)[0, 0] / unit).abs().square()
    for t, s in pairwise(times):
        moved = sampler.move(transport, probes + torch.cat([mean, mean, mean]), t, s, stream)
        with_state, with_noise = (to_modes(moved[1:] - moved[:1], PERIODIC)[:, 0] / unit).abs().square()
        mean, power = moved[:1], with_state * power + with_noise
    return mean[0, 0], power


@pytest.mark.parametrize(
    ("path", "prediction", "sampler"),
    [
        (Follmer(), Drift(), EulerMaruyama()),
        (Follmer(), Drift(), EulerMaruyama(diffusion=Diffusion(1.0, "follmer"))),
        (Follmer(), Drift(), Ancestral(eta=1.0)),
        (Follmer(), Data(), Heun()),
        (Rectified(), Velocity(), Heun()),
        (Rectified(), Velocity(), EulerMaruyama(diffusion=Diffusion(1.0, "follmer"))),
        (Rectified(), Data(), Ancestral(eta=0.0)),
        (Rectified(), Data(), Ancestral(eta=1.0)),
    ],
    ids=lambda part: type(part).__name__,
)
def test_every_sampler_ends_in_the_law_of_each_mode(
    path: Interpolant, prediction: Prediction, sampler: Sampler
) -> None:
    """With many steps; with twice as many, at most 0.6 of the error is left."""
    transport = exact(path, prediction, 3)
    errors = []
    for steps in (200, 400):
        mean, power = sampled_law(transport, replace(sampler, steps=steps))
        torch.testing.assert_close(mean, SLOPE * transport.source[0, 0], rtol=0, atol=1e-2)
        errors.append(float((power / S - 1).abs().max()))
    assert errors[0] < 0.12 and (errors[1] < 0.6 * errors[0] or errors[1] < 1e-3)


@pytest.mark.parametrize("path", [Follmer(), Rectified(), VariancePreserving()], ids=str)
def test_the_score_is_the_gradient_of_the_log_density_with_a_full_covariance(path: Interpolant) -> None:
    transport, t = exact(path, Data(), 5), torch.tensor(0.6, dtype=torch.float64)
    alpha, beta, gamma = path.coefficients(t)
    full = covariance(beta**2 * S + gamma**2 * C, PERIODIC, (SIZE,))
    x = torch.from_numpy(generator("x").standard_normal((5, 1, SIZE))).requires_grad_()
    mean = ((alpha + beta * SLOPE) * transport.source).flatten(1)
    density = torch.distributions.MultivariateNormal(mean, full).log_prob(x.flatten(1))
    (gradient,) = torch.autograd.grad(density.sum(), x)
    torch.testing.assert_close(transport.score(x.detach(), t), gradient)


def test_noise_with_the_spectrum_of_the_next_state_is_calibrated_in_one_step() -> None:
    """x0 + b(x0, 0) + z = E[x1 | x0] + z; with other noise the spectrum after one step is that of the noise."""
    for power in (S, C):
        mean, after = sampled_law(exact(Follmer(), Drift(), 3, power), EulerMaruyama(1))
        torch.testing.assert_close(after, power)
        torch.testing.assert_close(mean, SLOPE * exact(Follmer(), Drift(), 1).source[0, 0])
