"""Ensemble scores: scoringrules, loops, Gaussian closed forms and what exchangeability implies."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import scoringrules
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from driftway.errors import DataError
from driftway.metrics import (
    ENSEMBLE_METRICS,
    crps,
    energy_score,
    ensemble_mean_vrmse,
    ensemble_squared_error,
    ensemble_variance,
    mae,
    rank_histogram,
    rmse,
    skill,
    spread,
    spread_skill_ratio,
    vrmse,
)
from driftway.randomness import generator

quick = settings(deadline=None, max_examples=50)
SIGMA = 1.7
# Spread and variance take only the shape of the truth.
NAN_CASES = [(name, "member") for name in (*ENSEMBLE_METRICS, "rank_histogram")] + [
    (name, "truth") for name in (*ENSEMBLE_METRICS, "rank_histogram") if name not in ("spread", "ensemble_variance")
]


def normal(*shape: int, key: int | str = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(generator("ensembles", key).standard_normal(shape)).to(dtype)


def case(members: int, key: int | str = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Ensemble (M, 2, C=3, 4, 5), truth and weights."""
    weights = torch.from_numpy(generator("weights", key).uniform(0.1, 2, (4, 5)))
    return 0.2 + normal(members, 2, 3, 4, 5, key=key), normal(2, 3, 4, 5, key=f"truth {key}"), weights


@pytest.mark.parametrize("members", [2, 3, 7, 16])
def test_equal_members_have_no_variance_at_all(members: int) -> None:
    truth = normal(2, 3, 32, key="equal", dtype=torch.float32)
    ensemble = (1e3 + 0.1 * truth).expand(members, *truth.shape)
    assert not ensemble_variance(ensemble, truth, space=1).any()


@pytest.mark.parametrize("members", [2, 3, 10, 31])
@pytest.mark.parametrize(("fair", "estimator"), [(True, "fair"), (False, "nrg")])
def test_crps_is_scoringrules(members: int, fair: bool, estimator: str) -> None:
    ensemble, truth, weights = case(members)
    points = scoringrules.crps_ensemble(truth.numpy(), ensemble.numpy(), 0, estimator=estimator)
    expected = np.average(np.asarray(points).reshape(2, 3, 20), axis=-1, weights=weights.numpy().ravel())
    score = crps(ensemble, truth, space=2, weights=weights, fair=fair)
    np.testing.assert_allclose(score.numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("fair", [True, False])
@pytest.mark.parametrize("members", [1, 2, 5])
def test_crps_and_energy_score_by_loop(members: int, fair: bool) -> None:
    ensemble, truth, weights = case(members, 1)
    w = (weights / weights.sum()).numpy()
    pairs = max(members * (members - 1), 1) if fair else members**2
    x, y = ensemble.numpy(), truth.numpy()
    for index in np.ndindex(2, 3):
        near = sum(np.abs(x[i][index] - y[index]) for i in range(members)) / members
        apart = sum(np.abs(x[i][index] - x[j][index]) for i in range(members) for j in range(members))
        expected = np.sum(w * (near - apart / (2 * pairs)))
        assert crps(ensemble, truth, space=2, weights=weights, fair=fair)[index].item() == pytest.approx(
            expected, rel=1e-10
        )
        near = sum(np.sqrt(np.sum(w * (x[i][index] - y[index]) ** 2)) for i in range(members)) / members
        apart = sum(
            np.sqrt(np.sum(w * (x[i][index] - x[j][index]) ** 2)) for i in range(members) for j in range(members)
        )
        assert energy_score(ensemble, truth, space=2, weights=weights, fair=fair)[index].item() == pytest.approx(
            near - apart / (2 * pairs), rel=1e-10
        )


def test_ordinary_energy_score_is_scoringrules() -> None:
    ensemble, truth, _ = case(6, 2)
    expected = scoringrules.es_ensemble(truth.flatten(2).numpy(), ensemble.flatten(3).numpy(), 0, -1)
    score = energy_score(ensemble, truth, space=2, fair=False)
    # Theirs is the Euclidean norm, ours the mean over 20 points.
    np.testing.assert_allclose(score.numpy(), np.asarray(expected) / math.sqrt(20), rtol=1e-10)


def test_energy_score_on_one_point_is_the_crps() -> None:
    ensemble, truth = normal(7, 50, 1), normal(50, 1, key=1)
    torch.testing.assert_close(energy_score(ensemble, truth, space=1), crps(ensemble, truth, space=1))


@pytest.mark.parametrize("members", [2, 5, 10, 50])
def test_fair_crps_of_a_perfect_gaussian_ensemble_is_unbiased(members: int) -> None:
    """Fair: σ/√π for every M. Ordinary: (1 + 1/M) times as much, which the test resolves."""
    samples = 20_000
    ensemble, truth = (
        SIGMA * normal(members, samples, 1, 1, key=members),
        SIGMA * normal(samples, 1, 1, key="y"),
    )
    exact = SIGMA / math.sqrt(math.pi)
    for fair, expected in ((True, exact), (False, exact * (1 + 1 / members))):
        scores = crps(ensemble, truth, space=1, fair=fair).squeeze()
        error = scores.std().item() / math.sqrt(samples)
        assert abs(scores.mean().item() - expected) < 2 * error
        if not fair:
            assert abs(scores.mean().item() - exact) > 2 * error


def test_crps_tends_to_the_gaussian_closed_form() -> None:
    # Members at the quantiles (i − ½)/M; their ordinary CRPS differs from the closed form by O(1/M²).
    members = 2000
    quantiles = torch.from_numpy(stats.norm.ppf((np.arange(members) + 0.5) / members, 0.3, SIGMA))
    truth = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None, None]
    score = crps(quantiles[:, None, None, None].expand(members, 7, 1, 1), truth, space=1, fair=False)
    expected = np.asarray(scoringrules.crps_normal(truth.squeeze().numpy(), 0.3, SIGMA))
    np.testing.assert_allclose(score.squeeze().numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("fair", [True, False])
def test_one_member_is_a_point_forecast(fair: bool) -> None:
    ensemble, truth, weights = case(1)
    arguments = {"space": 2, "weights": weights}
    torch.testing.assert_close(crps(ensemble, truth, fair=fair, **arguments), mae(ensemble[0], truth, **arguments))
    torch.testing.assert_close(
        energy_score(ensemble, truth, fair=fair, **arguments), rmse(ensemble[0], truth, **arguments)
    )
    torch.testing.assert_close(skill(ensemble, truth, **arguments), rmse(ensemble[0], truth, **arguments))
    assert spread(ensemble, truth, **arguments).isnan().all()


def test_equal_members_score_as_one() -> None:
    member, truth = normal(2, 3, 8), normal(2, 3, 8, key=1)
    ensemble = member.expand(5, 2, 3, 8)
    torch.testing.assert_close(crps(ensemble, truth, space=1), mae(member, truth, space=1))
    torch.testing.assert_close(energy_score(ensemble, truth, space=1), rmse(member, truth, space=1))
    torch.testing.assert_close(spread(ensemble, truth, space=1), torch.zeros(2, 3, dtype=torch.float64))
    perfect = truth.expand(5, 2, 3, 8)
    for metric in ENSEMBLE_METRICS.values():
        torch.testing.assert_close(metric(perfect, truth, space=1), torch.zeros(2, 3, dtype=torch.float64))


def test_energy_score_of_a_perfect_white_ensemble() -> None:
    # E‖x − y‖ → √2 σ on many points, so ES → σ/√2; corrections are of order 1/N = 1/400.
    ensemble, truth = SIGMA * normal(5, 200, 1, 400), SIGMA * normal(200, 1, 400, key=1)
    score = energy_score(ensemble, truth, space=1).mean().item()
    assert score == pytest.approx(SIGMA / math.sqrt(2), rel=0.01)


def test_variance_and_mean_are_numpys() -> None:
    ensemble, truth, weights = case(6, 3)
    w = weights.numpy().ravel()
    flat = np.var(ensemble.numpy(), axis=0, ddof=1).reshape(2, 3, 20)
    expected = np.average(flat, axis=-1, weights=w)
    np.testing.assert_allclose(ensemble_variance(ensemble, truth, space=2, weights=weights).numpy(), expected)
    np.testing.assert_allclose(spread(ensemble, truth, space=2, weights=weights).numpy(), np.sqrt(expected))
    mean = ensemble.mean(0)
    torch.testing.assert_close(
        ensemble_mean_vrmse(ensemble, truth, space=2, weights=weights),
        vrmse(mean, truth, space=2, weights=weights),
    )
    torch.testing.assert_close(
        ensemble_squared_error(ensemble, truth, space=2, weights=weights),
        rmse(mean, truth, space=2, weights=weights).square(),
    )


@pytest.mark.parametrize("members", [2, 3, 10, 50])
@pytest.mark.parametrize("width", [1.0, 0.5, 2.0])
def test_spread_skill_ratio(members: int, width: float) -> None:
    """1 for exchangeable members at every M; for another width w the ratio is w √((M + 1)/(M + w²))."""
    samples = 40_000
    centre = 3 * normal(samples, 1, 1, key="centre")
    ensemble = centre + width * normal(members, samples, 1, 1, key=members)
    truth = centre + normal(samples, 1, 1, key="truth")
    ratio = spread_skill_ratio(
        ensemble_variance(ensemble, truth, space=1), ensemble_squared_error(ensemble, truth, space=1), members
    )
    expected = width * math.sqrt((members + 1) / (members + width**2))
    # Half the relative scatter of e² and s²: ½ √(2/N + 2/(N (M − 1))) is at most 0.5 %; three of them.
    assert ratio.shape == (1,) and ratio.item() == pytest.approx(expected, rel=0.015)


def test_ratio_averages_before_it_divides() -> None:
    variance, error = torch.tensor([[1.0, 4.0], [3.0, 4.0]]), torch.tensor([[2.0, 1.0], [6.0, 1.0]])
    factor = 4 / 3
    torch.testing.assert_close(spread_skill_ratio(variance, error, 3), torch.tensor([factor / 2, factor * 4]).sqrt())
    torch.testing.assert_close(
        spread_skill_ratio(variance, error, 3, average=(0, 1)), torch.tensor(factor * 12 / 10).sqrt()
    )
    torch.testing.assert_close(spread_skill_ratio(variance, error, 3, average=()), (factor * variance / error).sqrt())


def test_rank_histogram_by_loop() -> None:
    ensemble, truth, _ = case(4, 5)
    counts = rank_histogram(ensemble, truth, space=2)
    assert counts.shape == (2, 3, 5)
    for index in np.ndindex(2, 3):
        ranks = (ensemble.numpy()[:, *index] < truth.numpy()[index]).sum(0).ravel()
        assert counts[index].tolist() == np.bincount(ranks, minlength=5).tolist()


@pytest.mark.parametrize("width", [1.0, 0.8])
def test_rank_histogram_is_flat_for_exchangeable_members_only(width: float) -> None:
    ensemble, truth = width * normal(9, 50, 1, 400), normal(50, 1, 400, key=1)
    counts = rank_histogram(ensemble, truth, space=1).sum((0, 1))
    p = stats.chisquare(counts.numpy()).pvalue
    assert p > 0.01 if width == 1 else p < 1e-6


def test_ties_are_shared() -> None:
    ensemble = torch.tensor([0.0, 1.0, 1.0, 2.0], dtype=torch.float64)[:, None, None]
    truth = torch.tensor([[1.0]], dtype=torch.float64)
    expected = torch.tensor([[0, 1, 1, 1, 0]], dtype=torch.float64) / 3
    torch.testing.assert_close(rank_histogram(ensemble, truth, space=1), expected)
    # A field that is 0 half of the time, such as rain, is flat as well.
    rain = normal(10, 50, 1, 400).clamp(min=0)
    counts = rank_histogram(rain[1:], rain[0], space=1).sum((0, 1))
    assert stats.chisquare(counts.numpy()).pvalue > 0.01


def test_weighted_ranks_add_up_to_the_points() -> None:
    ensemble, truth, weights = case(4, 6)
    counts = rank_histogram(ensemble, truth, space=2, weights=weights)
    torch.testing.assert_close(counts.sum(-1), torch.full((2, 3), 20.0, dtype=torch.float64))
    single = torch.zeros(4, 5, dtype=torch.float64)
    single[1, 2] = 3
    rank = (ensemble[..., 1, 2] < truth[..., 1, 2]).sum(0)
    assert rank_histogram(ensemble, truth, space=2, weights=single).argmax(-1).tolist() == rank.tolist()


@quick
@given(seed=st.integers(0, 10**6), members=st.integers(2, 8))
def test_order_of_members_shift_scale_and_roll(seed: int, members: int) -> None:
    ensemble, truth, weights = case(members, seed)
    order = torch.from_numpy(generator("order", seed).permutation(members))
    roll = ((1, -2), (-2, -1))
    scales = dict.fromkeys(ENSEMBLE_METRICS, 1) | {
        "ensemble_variance": 2,
        "ensemble_squared_error": 2,
        "ensemble_mean_vrmse": 0,
    }
    for name, metric in ENSEMBLE_METRICS.items():
        score = metric(ensemble, truth, space=2, weights=weights)
        same = {
            "order": metric(ensemble[order], truth, space=2, weights=weights),
            "shift": metric(ensemble + 5, truth + 5, space=2, weights=weights),
            "scale": metric(-3 * ensemble, -3 * truth, space=2, weights=weights) / 3 ** scales[name],
            "roll": metric(ensemble.roll(*roll), truth.roll(*roll), space=2, weights=weights.roll(*roll)),
            "weights": metric(ensemble, truth, space=2, weights=1e3 * weights),
        }
        for other in same.values():
            torch.testing.assert_close(other, score, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(
            metric(ensemble, truth, space=2, weights=torch.full((4, 5), 0.3)),
            metric(ensemble, truth, space=2),
            rtol=1e-6,  # the weights are float32 here
            atol=1e-7,
        )
    counts = rank_histogram(ensemble, truth, space=2)
    assert rank_histogram(ensemble[order], truth, space=2).equal(counts)
    assert rank_histogram(-ensemble, -truth, space=2).equal(counts.flip(-1))


@pytest.mark.parametrize("name", ENSEMBLE_METRICS)
def test_float32_far_from_the_origin(name: str) -> None:
    ensemble, truth, weights = (f.float() for f in case(20, 7))
    ensemble, truth = 1e5 + 1e3 * ensemble, 1e5 + 1e3 * truth
    single = ENSEMBLE_METRICS[name](ensemble, truth, space=2, weights=weights)
    double = ENSEMBLE_METRICS[name](ensemble.double(), truth.double(), space=2, weights=weights.double())
    assert single.dtype == torch.float32
    # The mean of 20 numbers near 10⁵ is rounded to 0.01, 1e-5 of the deviation of 10³.
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=0)


@pytest.mark.parametrize(("name", "place"), NAN_CASES)
def test_nan_stays_in_its_sample_and_channel(name: str, place: str) -> None:
    metric = rank_histogram if name == "rank_histogram" else ENSEMBLE_METRICS[name]
    ensemble, truth, _ = case(4, 8)
    if place == "member":
        ensemble[2, 1, 0, 3, 3] = torch.nan
    else:
        truth[1, 0, 3, 3] = torch.nan
    score = metric(ensemble, truth, space=2)
    lost = score.isnan().all(-1) if name == "rank_histogram" else score.isnan()
    assert lost.nonzero().tolist() == [[1, 0]]
    assert score.isnan().sum() == lost.sum() * (5 if name == "rank_histogram" else 1)


def test_misfits_are_refused_in_one_line() -> None:
    ensemble, truth, _ = case(3)
    bad = [
        lambda: crps(ensemble[0], truth, space=2),
        lambda: crps(ensemble[:0], truth, space=2),
        lambda: crps(ensemble, truth[:1], space=2),
        lambda: energy_score(ensemble, truth, space=4),
        lambda: rank_histogram(ensemble, truth, space=2, weights=torch.ones(5, 4)),
        lambda: spread_skill_ratio(torch.ones(2, 3), torch.ones(2), 4),
    ]
    for call in bad:
        with pytest.raises(DataError) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_every_metric_has_the_same_call() -> None:
    for metric in (*ENSEMBLE_METRICS.values(), rank_histogram):
        names = list(inspect.signature(metric).parameters)
        assert names[:4] == ["ensemble", "truth", "space", "weights"]
