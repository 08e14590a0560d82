"""Errors of one forecast: brute force, scipy, symmetries and degenerate fields."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from driftway.errors import ConfigError, DataError
from driftway.metrics import (
    METRICS,
    Metric,
    bias,
    correlation,
    correlation_time,
    mae,
    nrmse,
    rmse,
    spatial_mean,
    vrmse,
)
from driftway.randomness import generator

SHAPES = {1: (7,), 2: (6, 9), 3: (3, 4, 5)}
metrics = pytest.mark.parametrize("name", METRICS)
cases = given(seed=st.integers(0, 10**6), space=st.sampled_from([1, 2, 3]))
quick = settings(deadline=None, max_examples=50)


def normal(*shape: int, key: int | str = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(generator("metrics", key).standard_normal(shape)).to(dtype)


def pair(space: int, seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Forecast and truth (2, 3, C=2, *S), correlated and off the origin, with weights (*S)."""
    size = (2, 3, 2, *SHAPES[space])
    truth = 0.7 + normal(*size, key=seed, dtype=dtype)
    forecast = 0.3 + 0.8 * truth + 0.5 * normal(*size, key=f"forecast {seed}", dtype=dtype)
    weights = torch.from_numpy(generator("weights", seed).uniform(0.1, 2, SHAPES[space])).to(dtype)
    return forecast, truth, weights


def reference(name: str, x: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    """One sample and channel, in flat numpy."""
    square = np.average((x - y) ** 2, weights=w)
    covariance = np.cov(x, y, aweights=w, ddof=0)
    return {
        "rmse": math.sqrt(square),
        "mae": np.average(np.abs(x - y), weights=w),
        "bias": np.average(x, weights=w) - np.average(y, weights=w),
        "nrmse": math.sqrt(square / np.average(y**2, weights=w)),
        "vrmse": math.sqrt(square / covariance[1, 1]),
        "correlation": covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1]),
    }[name]


@metrics
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("space", SHAPES)
def test_brute_force(name: str, weighted: bool, space: int) -> None:
    forecast, truth, weights = pair(space, 1)
    score = METRICS[name](forecast, truth, space=space, weights=weights if weighted else None)
    assert score.shape == (2, 3, 2)
    w = weights.numpy().ravel() if weighted else np.ones(weights.numel())
    for index in np.ndindex(2, 3, 2):
        expected = reference(name, forecast[index].numpy().ravel(), truth[index].numpy().ravel(), w)
        assert score[index].item() == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_correlation_is_pearsons() -> None:
    forecast, truth, _ = pair(2, 2)
    score = correlation(forecast, truth, space=2)
    expected = stats.pearsonr(forecast.flatten(3).numpy(), truth.flatten(3).numpy(), axis=-1).statistic
    np.testing.assert_allclose(score.numpy(), expected, rtol=1e-10)


@metrics
def test_perfect_and_trivial_forecasts(name: str) -> None:
    _, truth, weights = pair(2, 3)
    perfect = METRICS[name](truth, truth, space=2, weights=weights)
    torch.testing.assert_close(perfect, torch.full_like(perfect, float(name == "correlation")))
    mean = spatial_mean(truth, space=2, weights=weights)[..., None, None].expand_as(truth)
    trivial = {"vrmse": 1.0, "correlation": 0.0, "bias": 0.0}
    if name in trivial:
        score = METRICS[name](mean, truth, space=2, weights=weights)
        torch.testing.assert_close(score, torch.full_like(score, trivial[name]), rtol=1e-12, atol=1e-12)
    if name == "nrmse":
        score = nrmse(torch.zeros_like(truth), truth, space=2, weights=weights)
        torch.testing.assert_close(score, torch.ones_like(score))


def test_independent_draw_of_the_law_has_vrmse_root_two() -> None:
    # 2·10⁵ points: the relative scatter of the ratio of two sample variances is about √(3/N) = 0.4 %.
    score = vrmse(normal(1, 200_000, key=4), normal(1, 200_000, key=5), space=1).item()
    assert score == pytest.approx(math.sqrt(2), rel=0.01)


def test_vrmse_with_epsilon_is_the_wells_up_to_its_divisor() -> None:
    forecast, truth, _ = pair(2, 6)
    points = truth[0, 0, 0].numel()
    theirs = (
        (forecast - truth).square().mean((-2, -1)) / (truth.std((-2, -1)).square() * (points - 1) / points + 0.1)
    ).sqrt()
    torch.testing.assert_close(vrmse(forecast, truth, space=2, epsilon=0.1), theirs, rtol=1e-10, atol=0)


def test_area_weights_integrate_the_sphere() -> None:
    # Gauss–Legendre weights integrate polynomials in sin φ exactly: ⟨sin²φ⟩ = 1/3; equal weights do not.
    nodes, weights = np.polynomial.legendre.leggauss(8)
    field = torch.from_numpy(nodes)[:, None].expand(1, 8, 16)
    area = torch.from_numpy(weights)[:, None].expand(8, 16)
    assert rmse(field, torch.zeros_like(field), space=2, weights=area).item() == pytest.approx(3**-0.5, rel=1e-12)
    assert rmse(field, torch.zeros_like(field), space=2).item() != pytest.approx(3**-0.5, rel=1e-2)


@quick
@cases
def test_constant_weights_are_no_weights(seed: int, space: int) -> None:
    forecast, truth, _ = pair(space, seed)
    weights = torch.full(SHAPES[space], 3.7, dtype=torch.float64)
    for metric in METRICS.values():
        torch.testing.assert_close(
            metric(forecast, truth, space=space, weights=weights),
            metric(forecast, truth, space=space),
            rtol=1e-10,
            atol=1e-12,
        )


@quick
@cases
def test_rolling_both_fields_changes_nothing(seed: int, space: int) -> None:
    forecast, truth, weights = pair(space, seed)
    axes = tuple(range(-space, 0))
    shift = tuple(int(s) for s in generator("roll", seed).integers(-3, 4, space))
    for metric in METRICS.values():
        rolled = metric(
            forecast.roll(shift, axes),
            truth.roll(shift, axes),
            space=space,
            weights=weights.roll(shift, axes),
        )
        torch.testing.assert_close(
            rolled, metric(forecast, truth, space=space, weights=weights), rtol=1e-10, atol=1e-12
        )


@quick
@cases
def test_units(seed: int, space: int) -> None:
    """Under u → a u + b errors scale by a, relative errors not at all; only NRMSE sees b."""
    forecast, truth, weights = pair(space, seed)
    a, b = 3e-4, 0.02
    powers: dict[str, tuple[Metric, int]] = {
        "rmse": (rmse, 1),
        "mae": (mae, 1),
        "bias": (bias, 1),
        "vrmse": (vrmse, 0),
        "correlation": (correlation, 0),
    }
    for metric, power in powers.values():
        torch.testing.assert_close(
            metric(a * forecast + b, a * truth + b, space=space, weights=weights),
            a**power * metric(forecast, truth, space=space, weights=weights),
            rtol=1e-9,
            atol=1e-13,
        )
    torch.testing.assert_close(
        nrmse(a * forecast, a * truth, space=space), nrmse(forecast, truth, space=space), rtol=1e-10, atol=0
    )


@metrics
def test_float32_far_from_the_origin(name: str) -> None:
    # Pressures of 10⁵ Pa with a standard deviation of 10³ Pa: float32 has 24 bits, 1e-5 of the deviation.
    forecast, truth, weights = (f.float() for f in pair(2, 8))
    forecast, truth = 1e5 + 1e3 * forecast, 1e5 + 1e3 * truth
    single = METRICS[name](forecast, truth, space=2, weights=weights)
    double = METRICS[name](forecast.double(), truth.double(), space=2, weights=weights.double())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=2e-4, atol=2e-4)


@metrics
@pytest.mark.parametrize("place", ["forecast", "truth"])
def test_nan_stays_in_its_sample_and_channel(name: str, place: str) -> None:
    forecast, truth, weights = pair(2, 9)
    clean = METRICS[name](forecast, truth, space=2, weights=weights)
    (forecast if place == "forecast" else truth)[1, 0, 1, 2, 3] = torch.nan
    weights[2, 3] = 0
    score = METRICS[name](forecast, truth, space=2, weights=weights)
    assert score.isnan().nonzero().tolist() == [[1, 0, 1]]
    assert not clean.isnan().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -273.15])
def test_constant_truth(dtype: torch.dtype, value: float) -> None:
    truth = torch.full((1, 31, 57), value, dtype=dtype)
    wave = truth + torch.linspace(-1, 1, 57, dtype=dtype)
    for forecast in (wave, truth + 1):
        assert vrmse(forecast, truth, space=2).item() == math.inf
        assert correlation(forecast, truth, space=2).item() == 0
    assert vrmse(truth, truth, space=2).item() == 0
    assert nrmse(truth, truth, space=2).item() == 0


def test_correlation_time_by_hand() -> None:
    correlations = torch.tensor(
        [
            [0.95, 0.90, 0.70, 0.85],  # half way between the second and third lead
            [0.99, 0.95, 0.90, 0.85],  # never
            [0.60, 0.50, 0.40, 0.30],  # half way from the start, where r = 1
            [0.90, math.nan, 0.2, 0.1],  # unknown
            [0.90, 0.70, math.nan, math.nan],  # known before it is lost
            [0.80, 0.80, 0.70, 0.60],  # at the threshold is not below it
        ],
        dtype=torch.float64,
    )
    time, censored = correlation_time(correlations, torch.tensor([1.0, 2.0, 4.0, 8.0]))
    expected = torch.tensor([3.0, 8.0, 0.5, math.nan, 1.5, 2.0], dtype=torch.float64)
    torch.testing.assert_close(time, expected, equal_nan=True)
    assert censored.tolist() == [False, True, False, False, False, False]


def test_correlation_time_of_an_exponential() -> None:
    # r = e^{−t}: the crossing is at −ln 0.8, and linear interpolation errs by at most h²/8.
    leads = torch.arange(0, 101, dtype=torch.float64) / 50
    time, censored = correlation_time((-leads).exp().expand(2, 3, 101), leads)
    assert time.shape == (2, 3) and not censored.any()
    torch.testing.assert_close(time, torch.full_like(time, -math.log(0.8)), rtol=0, atol=0.02**2 / 8)


@quick
@given(seed=st.integers(0, 10**6))
def test_correlation_time_is_the_first_crossing(seed: int) -> None:
    curves = torch.from_numpy(generator("curves", seed).uniform(0.5, 1, (4, 6)))
    leads = torch.from_numpy(np.cumsum(generator("leads", seed).uniform(0.1, 1, 6)))
    time, censored = correlation_time(curves, leads)
    for curve, t, never in zip(curves.numpy(), time.tolist(), censored.tolist(), strict=True):
        fine = np.linspace(0, leads[-1].item(), 20_001)
        values = np.interp(fine, [0, *leads.tolist()], [1, *curve])
        below = np.flatnonzero(values < 0.8)
        assert never == (below.size == 0)
        assert t == pytest.approx(fine[below[0]] if below.size else leads[-1].item(), abs=2 * fine[1])


def test_misfits_are_refused_in_one_line() -> None:
    u = torch.zeros(2, 3, 8)
    bad = [
        lambda: rmse(u, u[:1], space=1),
        lambda: rmse(u, u, space=3),
        lambda: rmse(u, u, space=0),
        lambda: rmse(u, u, space=1, weights=torch.ones(7)),
        lambda: rmse(u, u, space=2, weights=torch.ones(8)),
        lambda: rmse(u, u, space=1, weights=-torch.ones(8)),
        lambda: rmse(u, u, space=1, weights=torch.zeros(8)),
        lambda: correlation_time(u, torch.arange(7)),
        lambda: correlation_time(u, torch.arange(8).flip(0)),
    ]
    for call in bad:
        with pytest.raises(DataError) as caught:
            call()
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError):
        correlation_time(u, torch.arange(8), threshold=1.5)


def test_every_metric_has_the_same_call() -> None:
    for metric in METRICS.values():
        names = list(inspect.signature(metric).parameters)
        assert names[:4] == ["forecast", "truth", "space", "weights"]
