"""Distances between laws, against POT, brute force and closed forms of normal laws; at chance where laws are one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance_nd
from torch import Tensor

from driftway.errors import DataError
from driftway.metrics import classifier_test, mmd, mmd_test, principal_components, sliced_wasserstein
from driftway.randomness import generator


def normal(count: int, size: int, key: int | str = 0, shift: float = 0.0, std: float = 1.0) -> Tensor:
    return torch.from_numpy(shift + std * generator("normal", key, count, size).standard_normal((count, size)))


# --- sliced Wasserstein --------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 30), m=st.integers(2, 30), key=st.integers(0, 9))
def test_on_one_axis_it_is_pots_and_scipys_transport(n: int, m: int, key: int) -> None:
    x, y = normal(n, 1, key), normal(m, 1, key + 10, shift=0.5, std=2)
    found = float(sliced_wasserstein(x, y, directions=1))
    assert found == pytest.approx(ot.wasserstein_1d(x[:, 0].numpy(), y[:, 0].numpy(), p=2) ** 0.5, rel=1e-9)
    # the least mean distance is at most the root of the least mean square
    assert wasserstein_distance_nd(x.numpy(), y.numpy()) <= found * (1 + 1e-9)


@pytest.mark.parametrize(("n", "m"), [(200, 200), (150, 201)])
def test_it_is_that_of_pot(n: int, m: int) -> None:
    x, y = normal(n, 12), normal(m, 12, 1, shift=0.4, std=1.5)
    expected = ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), n_projections=20000, seed=0)
    assert float(sliced_wasserstein(x, y, directions=2400)) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("size", [3, 40, 700])
def test_a_shift_counts_by_its_projection(size: int) -> None:
    """Of one sample and itself shifted by δ it is |δ|/√D."""
    x = normal(100, size)
    shift = normal(1, size, "shift")
    expected = float(shift.norm()) / size**0.5
    assert float(sliced_wasserstein(x, x + shift, directions=700)) == pytest.approx(expected, rel=0.02)


def test_of_normal_laws_it_is_the_closed_form() -> None:
    x, y = normal(20000, 10), normal(20000, 10, 1, shift=0.6, std=1.4)
    assert float(sliced_wasserstein(x, y)) == pytest.approx((0.6**2 + 0.4**2) ** 0.5, rel=0.02)


# --- maximum mean discrepancy --------------------------------------------------------------------------------------


def test_mmd_is_the_sum_over_pairs() -> None:
    x, y = normal(9, 3).numpy(), normal(7, 3, 1, shift=0.5).numpy()
    xx, yy, xy = (np.exp(-(cdist(a, b) ** 2) / (2 * 1.3**2)) for a, b in ((x, x), (y, y), (x, y)))
    expected = (xx.sum() - 9) / (9 * 8) + (yy.sum() - 7) / (7 * 6) - 2 * xy.mean()
    assert float(mmd(torch.from_numpy(x), torch.from_numpy(y), bandwidth=1.3)) == pytest.approx(expected, rel=1e-9)


def test_the_bandwidth_is_the_median_distance() -> None:
    x, y = normal(9, 3), normal(6, 3, 1)
    rows = torch.cat([x, y]).numpy()
    median = np.sort(cdist(rows, rows)[np.triu_indices(15, 1)])[52]
    assert float(mmd(x, y)) == pytest.approx(float(mmd(x, y, bandwidth=float(median))))


def test_of_normal_laws_mmd_is_the_closed_form() -> None:
    """Of N(0, I) and N(δ, I) with a kernel of width h: 2 (h²/(h²+2))^(D/2) (1 − exp(−|δ|²/2(h²+2)))."""
    size, h, shift = 4, 1.5, 0.7
    expected = 2 * (h**2 / (h**2 + 2)) ** (size / 2) * (1 - np.exp(-(size * shift**2) / (2 * (h**2 + 2))))
    pairs = [(normal(500, size, 2 * k), normal(400, size, 2 * k + 1, shift=shift)) for k in range(40)]
    found = np.array([float(mmd(x, y, bandwidth=h)) for x, y in pairs])
    assert abs(found.mean() - expected) < 3 * found.std() / 40**0.5
    assert found.mean() == pytest.approx(expected, rel=0.05)


def test_of_one_law_mmd_is_unbiased_and_its_interval_holds_it_as_often_as_it_says() -> None:
    found = [mmd_test(normal(40, 5, 2 * k), normal(30, 5, 2 * k + 1), permutations=300) for k in range(400)]
    values = np.array([each.value for each in found])
    assert abs(values.mean()) < 3 * values.std() / 20
    assert 0.92 <= np.mean([each.low <= each.value <= each.high for each in found]) <= 0.98


def test_mmd_of_other_laws_is_beyond_its_interval() -> None:
    assert mmd_test(normal(60, 5), normal(60, 5, 1, shift=0.6)).distinct
    assert not mmd_test(normal(60, 5), normal(60, 5, 1)).distinct


# --- classifier ----------------------------------------------------------------------------------------------------


def test_a_classifier_is_at_chance_on_one_law() -> None:
    found = [classifier_test(normal(80, 4, 2 * k), normal(60, 4, 2 * k + 1)) for k in range(60)]
    values = np.array([each.value for each in found])
    assert abs(values.mean() - 0.5) < 4 * values.std() / 60**0.5
    assert np.mean([each.low <= each.value <= each.high for each in found]) >= 0.9


@pytest.mark.parametrize(("shift", "std", "least"), [(6.0, 1.0, 0.999), (0.0, 4.0, 0.9)])
def test_a_classifier_tells_laws_apart_by_their_mean_or_their_spread(shift: float, std: float, least: float) -> None:
    found = classifier_test(normal(300, 4), normal(200, 4, 1, shift=shift, std=std))
    assert found.distinct and found.value > least


def test_a_classifiers_accuracy_is_that_of_the_best_rule() -> None:
    """N(0, 1) and N(δ, 1) are told apart in Φ(δ/2) of all cases."""
    found = classifier_test(normal(4000, 1), normal(4000, 1, 1, shift=1.5))
    assert found.value == pytest.approx(0.7734, abs=0.02)


# --- projection ----------------------------------------------------------------------------------------------------


def test_principal_components_are_those_of_the_union() -> None:
    x, y = normal(30, 8) * torch.arange(1, 9), normal(20, 8, 1) * torch.arange(1, 9) + 3
    found = principal_components(x, y, count=3)
    union = torch.cat([x, y]) - torch.cat([x, y]).mean(0)
    u, s, _ = torch.linalg.svd(union, full_matrices=False)
    expected = (u * s)[:, :3]
    both = torch.cat([found.x, found.y])
    torch.testing.assert_close(both.abs(), expected.abs())
    assert found.share == pytest.approx(float((s[:3] ** 2).sum() / (s**2).sum()))


def test_many_samples_of_few_numbers_are_turned_into_their_axes() -> None:
    x, y = normal(5000, 3) * torch.tensor([3.0, 1.0, 0.1]), normal(4000, 3, 1) * torch.tensor([3.0, 1.0, 0.1])
    found = principal_components(x, y, count=2)
    assert found.share == pytest.approx(10 / 10.01, abs=1e-3)
    assert float(found.x.std(0)[0]) == pytest.approx(3, rel=0.05)
    with pytest.raises(DataError, match="ask for 1 to 3"):
        principal_components(x, y, count=4)


def test_with_all_components_distances_are_kept() -> None:
    x, y = normal(6, 50), normal(5, 50, 1, shift=0.3)
    found = principal_components(x, y, count=10)
    torch.testing.assert_close(torch.cdist(found.x, found.y), torch.cdist(x, y))
    assert found.share == pytest.approx(1)


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [sliced_wasserstein, mmd, mmd_test, classifier_test])
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (normal(1, 3), normal(5, 3), "at least two rows"),
        (normal(5, 3), normal(5, 3)[:, 0], "at least two rows"),
        (normal(5, 3), normal(5, 4), "3 and 4 numbers"),
        (normal(5, 3), torch.full((5, 3), torch.nan), "NaN or infinity"),
    ],
)
def test_bad_samples_are_refused(distance: Callable[..., object], x: Tensor, y: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        distance(x, y)


def test_what_says_nothing_is_refused() -> None:
    same = torch.ones(6, 2)
    with pytest.raises(DataError, match="most samples are equal"):
        mmd(same, same)
    with pytest.raises(DataError, match="all samples are equal"):
        principal_components(same, same, count=2)
    with pytest.raises(DataError, match="ask for 1 to 11"):
        principal_components(normal(6, 40), normal(6, 40, 1), count=12)
    with pytest.raises(DataError, match="8 samples of 40 numbers"):
        classifier_test(normal(8, 40), normal(9, 40, 1))
