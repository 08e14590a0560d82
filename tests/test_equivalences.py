"""What different authors call by different names, and is the same: on one network, step by step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from driftway.grids import Grid, KarrasSpacing, Uniform
from driftway.interpolants import Interpolant, Rectified, Residual, VarianceExploding, VariancePreserving
from driftway.noise import White
from driftway.predictions import Data, Karras, Noise, Prediction, Velocity
from driftway.randomness import stream
from driftway.samplers import Ancestral, Euler, EulerMaruyama, Heun, Sampler
from driftway.transport import Transport
from tests.gaussian import Gaussian, OneStream, sampled_law
from tests.test_experiments import generative

SHAPE = (4, 2, 9)
SOURCE = OneStream("source").normal(torch.empty(SHAPE, dtype=torch.float64))
LEVELS = torch.tensor([80.0, 30.0, 11.0, 5.0, 1.7, 0.6, 0.21, 0.07, 0.02], dtype=torch.float64)
EXPLODING = VarianceExploding()
FROM_NOISE: dict[str, tuple[Interpolant, Prediction]] = {
    "preserving": (VariancePreserving(), Noise()),
    "rectified": (Rectified(), Velocity()),
    "residual": (Residual(Rectified()), Velocity()),
    "residual preserving": (Residual(VariancePreserving()), Karras(0.7)),
}


@dataclass(frozen=True)
class At(Grid):
    """Given times, and then the data."""

    stops: tuple[float, ...]

    def __call__(self, steps: int) -> Tensor:
        return torch.tensor([*self.stops, 1.0], dtype=torch.float64)


def denoiser(x: Tensor, level: Tensor) -> Tensor:
    """E[x1 | x1 + level·z = x, x0], had someone trained a network of no particular form."""
    near = x / (1 + level**2).sqrt()
    return torch.tanh(2 * near + 0.5 * near.roll(1, 2) + near.flip(1) ** 2 / 4) + 0.3 * SOURCE * torch.sin(near + level)


def wrapped(path: Interpolant, prediction: Prediction) -> Transport:
    """The denoiser as the network of a path and a prediction: noise levels are ratios of noise to signal."""

    def predict(x: Tensor, t: Tensor) -> Tensor:
        alpha, beta, gamma = path.coefficients(path.inside(t))
        seen = (x - alpha * SOURCE) / beta
        data = denoiser(seen, gamma / beta)
        return prediction.coefficients(path, t)(SOURCE, data, (seen - data) * beta / gamma)

    return Transport(path, prediction, predict, SOURCE, White(SHAPE[1]).double())


def at_levels(path: Interpolant) -> At:
    """The times at which a path has the noise levels γ/β, by bisection."""
    low, high = torch.zeros_like(LEVELS), torch.ones_like(LEVELS)
    for _ in range(60):
        middle = (low + high) / 2
        _, beta, gamma = path.coefficients(middle)
        noisy = gamma > LEVELS * beta
        low, high = torch.where(noisy, middle, low), torch.where(noisy, high, middle)
    return At(tuple(high.tolist()))


def visited(sampler: Sampler, path: Interpolant, prediction: Prediction) -> list[Tensor]:
    """The states at all stops from LEVELS[0]·z, in the units of the exploding path: (x − α·x0)/β."""
    transport, noise = wrapped(path, prediction), stream("equal", rows=range(SHAPE[0]))
    states, times = [LEVELS[0] * noise.normal(SOURCE)], sampler.times(transport)
    for t, s in pairwise(times):
        alpha, beta, _ = path.coefficients(t)
        x = sampler.move(transport, alpha * SOURCE + beta * states[-1], t, s, noise)
        alpha, beta, _ = path.coefficients(s)
        states.append((x - alpha * SOURCE) / beta)
    return states


def assert_equal(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert float((one - other).abs().max()) < 1e-6 * (1 + float(other.abs().max()))


@pytest.mark.parametrize("name", FROM_NOISE)
def test_euler_on_edms_path_is_ddim_on_any_path_from_noise(name: str) -> None:
    """One network as EDM's and as an ε-, velocity or residual network, at the same ratios of signal to noise."""
    path, prediction = FROM_NOISE[name]
    steps = len(LEVELS)
    edm = visited(Euler(steps, at_levels(EXPLODING)), EXPLODING, Karras(0.5))
    assert_equal(visited(Ancestral(steps, at_levels(path), eta=0.0), path, prediction), edm)
    assert_equal(visited(Euler(steps, at_levels(path)), path, prediction), edm)
    assert float((edm[-1] - edm[0] / LEVELS[0]).abs().max()) > 0.5  # far from where it started


@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize("name", FROM_NOISE)
def test_ancestral_sampling_depends_on_signal_to_noise_alone(name: str, eta: float) -> None:
    path, prediction = FROM_NOISE[name]
    steps = len(LEVELS)
    exploding = visited(Ancestral(steps, at_levels(EXPLODING), eta=eta), EXPLODING, Data())
    assert_equal(visited(Ancestral(steps, at_levels(path), eta=eta), path, prediction), exploding)


@pytest.mark.parametrize("eta", [0.3, 0.9, 1.0])
def test_ancestral_sampling_is_edms_churn_with_eulers_steps(eta: float) -> None:
    """Algorithm 2 of Karras et al. 2022 without its second order, and γ such that 1/(1 + γ) of the noise is kept."""
    steps, noise = len(LEVELS), stream("equal", rows=range(SHAPE[0]))
    x = LEVELS[0] * noise.normal(SOURCE)
    states = [x]
    for raised, following in pairwise([*LEVELS, torch.zeros(())]):
        kept = (1 - eta**2 * (1 - (following / raised) ** 2)).sqrt()
        lowered = kept * following
        x = x + (lowered - raised) * (x - denoiser(x, raised)) / raised
        x = x + (following**2 - lowered**2).sqrt() * noise.normal(SOURCE) if following > 0 else x
        states.append(x)
    assert_equal(visited(Ancestral(steps, at_levels(EXPLODING), eta=eta), EXPLODING, Karras(0.5)), states)


def test_edms_largest_churn_is_the_eta_that_the_file_says() -> None:
    sampler = generative("edm_churned").sampler
    assert isinstance(sampler, Ancestral) and sampler.grid is not None
    levels = 1 - sampler.grid(sampler.steps)[:-1]
    etas = (0.5 / (1 - (levels[1:] / levels[:-1]) ** 2)).sqrt()
    assert (round(float(etas[0]), 1), round(float(etas[-1]), 1)) == (1.0, 0.7)
    assert sampler.eta == pytest.approx(float(etas.mean()), abs=0.03)


SAMPLERS: list[Sampler] = [Euler(5), Heun(5), EulerMaruyama(5), Ancestral(5), Ancestral(5, eta=0.0)]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
@pytest.mark.parametrize("path", [Rectified(), VariancePreserving()], ids=repr)
def test_a_residual_path_is_the_plain_path_on_the_increment(path: Interpolant, sampler: Sampler) -> None:
    plain = wrapped(path, Data())
    residual = replace(plain, interpolant=Residual(path), predict=lambda x, t: SOURCE + plain.predict(x - SOURCE, t))
    one, other = (sampler(transport, stream("equal", rows=range(SHAPE[0]))) for transport in (plain, residual))
    assert float((SOURCE + one - other).abs().max()) < 1e-6


def errors(eta: float, steps: int, at: tuple[float, ...]) -> list[float]:
    """How far standard deviations are from the exact ones at some times, relative to them."""
    system, path = Gaussian(), VariancePreserving()
    laws = {round(law.time, 9): law for law in sampled_law(system, Ancestral(steps, eta=eta), path, Noise())}
    return [laws[time].std / system.marginal(path, time)[1] - 1 for time in at]


TIMES = (0.2, 0.4, 0.6, 0.8, 0.9)


def test_ddim_in_a_hundred_steps_meets_the_marginals_of_ddpm() -> None:
    for ddim, ddpm in zip(errors(0.0, 100, TIMES), errors(1.0, 100, TIMES), strict=True):
        assert abs(ddim - ddpm) < 0.03 and abs(ddim) < 0.03 and abs(ddpm) < 0.03


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_and_ddpm_tend_to_the_exact_marginals_with_order_one(eta: float) -> None:
    coarse, fine = errors(eta, 400, TIMES), errors(eta, 800, TIMES)
    for before, after in zip(coarse, fine, strict=True):
        assert abs(after) < 0.005
        assert abs(after) < 1e-4 or before / after == pytest.approx(2.0, abs=0.3)


def test_pde_refiner_is_ancestral_sampling_on_its_levels() -> None:
    """Lippe et al. 2023: denoise, add fresh noise, k times; Ancestral keeps less than 1 % of the old noise."""
    stepper = generative("pde_refiner")
    system, path, sampler = Gaussian(), stepper.interpolant, stepper.sampler
    laws = sampled_law(system, sampler, path, stepper.prediction)
    variance = 0.0  # of the answer from noise alone
    for law in laws[1:]:
        _, beta, gamma = (float(c) for c in path.coefficients(law.time))
        assert law.mean == pytest.approx(beta * system.mean, abs=1e-5)
        assert law.std == pytest.approx((beta**2 * variance + gamma**2) ** 0.5, rel=0.01)
        gain = beta * system.std**2 / (beta**2 * system.std**2 + gamma**2)
        variance = gain**2 * (beta**2 * variance + gamma**2)


def test_acdm_has_the_levels_of_its_authors() -> None:
    """β from 1e-4 to 0.02 on 500 levels, times 500/20."""
    path: Any = generative("acdm").interpolant
    bars = (1 - 25 * torch.linspace(1e-4, 0.02, 20, dtype=torch.float64)).cumprod(0)
    assert path.beta(1 - torch.arange(1, 21) / 20).square().tolist() == pytest.approx(bars.tolist(), rel=1e-6)


def test_uniform_steps_of_ddpm_are_its_levels() -> None:
    stepper = generative("ddpm")
    assert stepper.sampler.times(wrapped(stepper.interpolant, Noise())).tolist() == Uniform()(100).tolist()
    assert KarrasSpacing()(18).tolist() == generative("edm").sampler.times(wrapped(EXPLODING, Data())).tolist()
