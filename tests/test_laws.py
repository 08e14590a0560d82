"""Every path, prediction and sampler ends in the right law, and meets the right laws on the way."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats

from driftway.diffusions import Diffusion
from driftway.errors import ConfigError
from driftway.grids import Grid, KarrasSpacing, Leading, Power, Truncated, Uniform
from driftway.interpolants import (
    Bridge,
    Follmer,
    Interpolant,
    Rectified,
    Residual,
    VarianceExploding,
    VariancePreserving,
)
from driftway.predictions import Data, Drift, Karras, Noise, Prediction, Score, Velocity
from driftway.samplers import Ancestral, Euler, EulerMaruyama, Heun, Sampler
from tests.gaussian import Gaussian, OneStream, sampled_law
from tests.test_interpolants import Cosine

SYSTEM = Gaussian()
PATHS: dict[str, Interpolant] = {
    "follmer": Follmer(),
    "follmer_2": Follmer(power=2),
    "bridge": Bridge(),
    "rectified": Rectified(),
    "preserving": VariancePreserving(),
    "exploding": VarianceExploding(),
    "residual": Residual(VariancePreserving()),
}
PREDICTIONS: dict[str, Prediction] = {
    "drift": Drift(),
    "velocity": Velocity(),
    "data": Data(),
    "noise": Noise(),
    "score": Score(),
    "karras": Karras(0.5),
}
GRIDS: dict[str, Grid | None] = {"exploding": KarrasSpacing()}


def samplers(steps: int, grid: Grid | None = None) -> dict[str, Sampler]:
    return {
        "euler": Euler(steps, grid),
        "heun": Heun(steps, grid),
        "natural": EulerMaruyama(steps, grid),
        "follmer": EulerMaruyama(steps, grid, Diffusion(base="follmer")),
        "half": EulerMaruyama(steps, grid, Diffusion(0.5)),
        "strong": EulerMaruyama(steps, grid, Diffusion(1.3)),
        "ancestral": Ancestral(steps, grid, eta=1.0),
        "mixed": Ancestral(steps, grid, eta=0.5),
        "ddim": Ancestral(steps, grid, eta=0.0),
    }


@pytest.mark.parametrize("sampler", samplers(1))
@pytest.mark.parametrize("path", PATHS)
def test_every_path_and_sampler_meets_the_right_law_on_the_way_and_at_the_end(path: str, sampler: str) -> None:
    """What 400 steps leave of first-order errors; the exploding path starts with its mean off by E[x1]/σ_max."""
    chosen = samplers(400, GRIDS.get(path))[sampler]
    laws = sampled_law(SYSTEM, chosen, PATHS[path], Data())
    for law in laws[len(laws) // 4 :: len(laws) // 8]:
        mean, std = SYSTEM.marginal(PATHS[path], law.time)
        assert law.mean == pytest.approx(mean, abs=0.02 * std + 0.005)
        assert law.std == pytest.approx(std, rel=0.04)
    assert laws[-1].mean == pytest.approx(SYSTEM.mean, abs=0.01)
    assert laws[-1].std == pytest.approx(SYSTEM.std, rel=0.04)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("path", PATHS)
def test_the_law_does_not_depend_on_what_the_network_predicts(path: str, prediction: str) -> None:
    """Apart from where a path that starts at a point is left: the earliest time at which the prediction tells x1."""
    for name, sampler in samplers(20, GRIDS.get(path)).items():
        end, reference = (sampled_law(SYSTEM, sampler, PATHS[path], p)[-1] for p in (PREDICTIONS[prediction], Data()))
        assert end.mean == pytest.approx(reference.mean, abs=0.03), name
        assert end.std == pytest.approx(reference.std, rel=0.06), name


@pytest.mark.parametrize(
    ("path", "prediction"), [*product(PATHS, PREDICTIONS), ("own", "drift"), ("own", "data"), ("own", "noise")]
)
def test_an_error_of_one_percent_in_the_network_stays_small(path: str, prediction: str) -> None:
    """Conversions amplify without bound at singular ends; samplers must not use them there."""
    chosen = samplers(20, GRIDS.get(path))
    for name in ("euler", "heun", "natural", "follmer", "ancestral"):
        exact, wrong = (
            sampled_law(SYSTEM, chosen[name], PATHS.get(path, Cosine()), PREDICTIONS[prediction], error)[-1]
            for error in (0.0, 0.01)
        )
        assert abs(wrong.mean - exact.mean) < 0.2, name
        assert abs(wrong.std / exact.std - 1) < (0.15 if path == "exploding" else 0.08), name


@pytest.mark.parametrize("sampler", [Euler(18), Heun(18)], ids=repr)
def test_edms_path_is_sampled_at_karras_times_without_a_grid(sampler: Sampler) -> None:
    """Equal steps would take all noise levels that matter in the last one."""
    path, system = VarianceExploding(), Gaussian(noise=1.0)
    assert torch.equal(sampler.times(system.transport(path, Karras(0.5), 1)), KarrasSpacing()(18))
    end = sampled_law(system, sampler, path, Karras(0.5))[-1]
    assert end.std == pytest.approx(system.std, rel=0.2)
    equal = sampled_law(system, type(sampler)(18, Uniform()), path, Karras(0.5))[-1]
    assert equal.std < 0.2 * system.std


def test_no_deterministic_sampler_spreads_a_point_but_every_other_does() -> None:
    """On a path of one's own without σ the natural dial is the ODE, which leaves the point by a leap like `Euler`."""
    for path in (Follmer(), Bridge(), Cosine()):
        for name, sampler in samplers(50).items():
            assert sampled_law(SYSTEM, sampler, path, Data())[-1].std == pytest.approx(SYSTEM.std, rel=0.15), name
        silent = EulerMaruyama(50, temperature=0.0)
        assert sampled_law(SYSTEM, silent, path, Data())[-1].std == 0.0


@pytest.mark.parametrize(("steps", "tolerance"), [(10, 0.3), (50, 0.08), (200, 0.02)])
@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.3])
def test_the_dial_keeps_the_law(factor: float, steps: int, tolerance: float) -> None:
    end = sampled_law(SYSTEM, EulerMaruyama(steps, diffusion=Diffusion(factor)), Follmer(), Drift())[-1]
    assert end.mean == pytest.approx(SYSTEM.mean, abs=0.02)
    assert end.std == pytest.approx(SYSTEM.std, rel=tolerance)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 2.0])
def test_temperature_scales_the_spread(temperature: float) -> None:
    end = sampled_law(SYSTEM, EulerMaruyama(400, temperature=temperature), Follmer(), Drift())[-1]
    assert end.std == pytest.approx(temperature * SYSTEM.std, rel=0.01)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_noise_free_drift_is_the_conditional_mean_with_no_spread(steps: int) -> None:
    end = sampled_law(SYSTEM, EulerMaruyama(steps, temperature=0.0), Follmer(), Drift())[-1]
    assert end.std == 0.0
    assert end.mean == pytest.approx(SYSTEM.mean, abs=1e-12)


def test_fitted_noise_is_calibrated_in_one_step() -> None:
    """With σ equal to the conditional spread, x0 + b(x0, 0) + σz is the law itself."""
    system = Gaussian(noise=Gaussian.std)
    end = sampled_law(system, EulerMaruyama(1), Follmer(), Drift())[-1]
    assert (end.mean, end.std) == (pytest.approx(system.mean, abs=1e-12), pytest.approx(system.std, abs=1e-12))


@pytest.mark.parametrize("steps", [2, 5, 10])
def test_last_noise_of_euler_maruyama(steps: int) -> None:
    """It leaves σN^(−3/2) in the result, and `denoise_last` takes just that away."""
    kept = sampled_law(SYSTEM, EulerMaruyama(steps), Follmer(), Drift())[-1]
    cleaned = sampled_law(SYSTEM, EulerMaruyama(steps, denoise_last=True), Follmer(), Drift())[-1]
    assert kept.std**2 - cleaned.std**2 == pytest.approx(steps**-3.0, rel=1e-9)


def order(errors: list[float], factor: float = 2.0) -> float:
    return math.log(errors[-2] / errors[-1]) / math.log(factor)


@pytest.mark.parametrize(("sampler", "expected"), [(Euler, 1.0), (Heun, 2.0)])
@pytest.mark.parametrize("path", ["follmer", "rectified"])
def test_order_of_the_ode_samplers(path: str, sampler: type[Sampler], expected: float) -> None:
    """The ODE carries noise z to m + S^½·z: the error of that map against the number of steps."""
    errors = []
    for steps in (64, 128, 256):
        end = sampled_law(SYSTEM, sampler(steps, Power(2.0)), PATHS[path], Data())[-1]
        errors.append(abs(end.std - SYSTEM.std))
    assert order(errors) == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("diffusion", [Diffusion(), Diffusion(base="follmer"), Diffusion(0.7)])
def test_weak_order_of_euler_maruyama(diffusion: Diffusion) -> None:
    errors = []
    for steps in (128, 256, 512):
        end = sampled_law(SYSTEM, EulerMaruyama(steps, diffusion=diffusion), Follmer(), Drift())[-1]
        errors.append(abs(end.std**2 - SYSTEM.std**2))
    assert order(errors) == pytest.approx(1.0, abs=0.2)


def test_euler_maruyama_follows_the_exact_path_of_the_same_noise() -> None:
    """Strong convergence: the SDE dX = b dt + σ(1−t) dW is linear here and has a closed solution per path of W."""
    system, rows, fine = Gaussian(noise=1.0), 64, 4096
    rng = np.random.default_rng(0)
    dw = rng.standard_normal((fine, rows)) * fine**-0.5
    reference = _linear_path(system, dw)
    errors = [
        np.sqrt(np.mean((_linear_path(system, dw.reshape(n, -1, rows).sum(1)) - reference) ** 2)) for n in (32, 64, 128)
    ]
    assert order([float(e) for e in errors]) > 0.4
    replay = _Replay(dw.reshape(64, -1, rows).sum(1) * 64**0.5)
    ours = EulerMaruyama(64)(system.transport(Follmer(), Drift(), rows), replay).flatten().numpy()
    assert ours == pytest.approx(_linear_path(system, dw.reshape(64, -1, rows).sum(1)), abs=1e-10)


class _Replay(OneStream):
    def __init__(self, draws: np.ndarray):
        super().__init__("replay")
        self.draws = iter(draws)

    def normal(self, like: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(next(self.draws)).to(like).reshape(like.shape)


def _linear_path(system: Gaussian, dw: np.ndarray) -> np.ndarray:
    """Euler–Maruyama written out for the drift −x0 + ξ − √t·η of the linear-Gaussian system."""
    x, steps = np.full(dw.shape[1], system.source), len(dw)
    for k in range(steps):
        t = k / steps
        variance = (t * system.std) ** 2 + ((1 - t) ** 2) * t
        surprise = (x - (1 - t) * system.source - t * system.mean) / max(variance, 1e-300)
        data, noise = system.mean + t * system.std**2 * surprise, (1 - t) * math.sqrt(t) * surprise
        x = x + (-system.source + data - math.sqrt(t) * noise) / steps + (1 - t) * dw[k]
    return x


@pytest.mark.parametrize("path", PATHS)
def test_euler_in_path_coordinates_is_ddim(path: str) -> None:
    for steps in (3, 9):
        euler = sampled_law(SYSTEM, Euler(steps, Uniform()), PATHS[path], Data())
        ddim = sampled_law(SYSTEM, Ancestral(steps, Uniform(), eta=0.0), PATHS[path], Data())
        assert np.array(euler) == pytest.approx(np.array(ddim), abs=1e-5)


def test_ancestral_on_the_preserving_path_is_ddpm() -> None:
    """The posterior of Ho et al. 2020, eqs. 6 and 7, written with β̃ and ᾱ."""
    path, steps = VariancePreserving(nodes=20), 20
    transport = SYSTEM.transport(path, Noise(), 1)
    x, (t, s) = torch.full((1, 1, 1), 0.4, dtype=torch.float64), Uniform()(steps)[8:10]
    beta = torch.linspace(path.start, path.stop, 20, dtype=torch.float64)[11]
    bar, bar_s = path.beta(t) ** 2, path.beta(s) ** 2
    data = transport.data(x, t)
    mean = bar_s.sqrt() * beta / (1 - bar) * data + (1 - beta).sqrt() * (1 - bar_s) / (1 - bar) * x
    variance = (1 - bar_s) / (1 - bar) * beta
    sampler = Ancestral(steps, eta=1.0)
    silent, loud = (sampler.step(transport, x, t, s, _Constant(z)) for z in (0.0, 1.0))
    assert float(silent) == pytest.approx(float(mean), abs=1e-12)
    assert float(loud - silent) ** 2 == pytest.approx(float(variance), abs=1e-12)


class _Constant(OneStream):
    def __init__(self, value: float):
        super().__init__("constant")
        self.value = value

    def normal(self, like: torch.Tensor) -> torch.Tensor:
        return torch.full_like(like, self.value)


def test_heun_on_the_exploding_path_is_edm() -> None:
    """Algorithm 1 of Karras et al. 2022, written with noise levels."""
    system, path, grid = Gaussian(), VarianceExploding(), KarrasSpacing()
    levels = 80 * (1 - grid(8))
    x = 80.0 * 0.3
    for a, b in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
        slope = _edm_slope(system, x, a)
        ahead = x + (b - a) * slope
        x = ahead if b == 0 else x + (b - a) / 2 * (slope + _edm_slope(system, ahead, b))
    ours = Heun(8, grid)(system.transport(path, Karras(0.5), 1), _Constant(0.3))
    assert float(ours) == pytest.approx(x, abs=1e-9)


def _edm_slope(system: Gaussian, x: float, level: float) -> float:
    denoised = system.mean + system.std**2 / (system.std**2 + level**2) * (x - system.mean)
    return (x - denoised) / level


def test_samples_pass_a_goodness_of_fit_test() -> None:
    """g = 0, σ and Föllmer's g give the same marginal: Kolmogorov–Smirnov on real draws, one failure in 12 allowed."""
    failures = 0
    for seed in range(4):
        for sampler in (Heun(40), EulerMaruyama(400), EulerMaruyama(400, diffusion=Diffusion(base="follmer"))):
            x = sampler(SYSTEM.transport(Follmer(), Drift(), 20000), OneStream("ks", seed, repr(sampler)))
            result = stats.kstest(x.flatten().numpy(), stats.norm(SYSTEM.mean, SYSTEM.std).cdf)
            failures += result.pvalue < 0.01
    assert failures <= 1


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Uniform(0.5, 0.5),
        lambda: Power(0.0),
        lambda: KarrasSpacing(rho=0.0),
        lambda: KarrasSpacing(smallest=0.0),
        lambda: KarrasSpacing(smallest=1.0, largest=1.0),
        lambda: Truncated(0.0),
        lambda: Leading(0),
    ],
)
def test_impossible_grids_are_refused(bad: Callable[[], Grid]) -> None:
    with pytest.raises(ValueError, match="need"):
        bad()


def test_more_leading_steps_than_nodes_are_refused() -> None:
    """They would stop at the same time twice."""
    with pytest.raises(ConfigError, match="leading has 10 nodes for 11 steps"):
        Leading(10)(11)


def test_grids() -> None:
    assert Leading(100)(10)[:2].tolist() == pytest.approx([0.09, 0.19])
    assert Truncated(0.1)(1).tolist() == [0.0, 1.0]
    assert Truncated(0.1)(10).tolist() == pytest.approx([k / 100 for k in range(10)] + [1.0])
    for grid in (Uniform(), Power(), KarrasSpacing(), Truncated(), Leading()):
        for steps in (1, 2, 5, 10):
            times = grid(steps)
            assert len(times) == steps + 1 and float(times[-1]) == 1.0 and bool((times.diff() > 0).all())
