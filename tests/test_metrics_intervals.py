"""Bootstrap intervals: normal theory, coverage, pairing, and what they do with failures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from driftway.metrics import interval, resampled_means
from driftway.randomness import generator


def normal(*shape: int, key: str = "values") -> Tensor:
    return torch.from_numpy(generator("intervals", key).standard_normal(shape))


def test_resampled_means_are_means_of_rows_drawn_with_replacement() -> None:
    """Rows are powers of a base above their number: a mean shows how often each was drawn."""
    count, base = 5, 10.0
    means = resampled_means(base ** torch.arange(count, dtype=torch.float64), resamples=50) * count
    for total in means.tolist():
        digits = [int(c) for c in f"{round(total):05d}"]
        assert sum(digits) == count
    assert len({round(total) for total in means.tolist()}) > 20


def test_interval_of_many_samples_is_that_of_normal_theory() -> None:
    values = normal(400, 3) * 2 + 5
    low, high = interval(resampled_means(values, resamples=20000), 400)
    error = values.std(0) / 400**0.5
    torch.testing.assert_close(low, values.mean(0) - 1.96 * error, atol=0.02, rtol=0)
    torch.testing.assert_close(high, values.mean(0) + 1.96 * error, atol=0.02, rtol=0)


def test_intervals_of_24_normal_samples_cover_the_truth_about_95_times_in_a_hundred() -> None:
    values = normal(24, 3000)
    low, high = interval(resampled_means(values), 24)
    covered = float(((low < 0) & (high > 0)).double().mean())
    assert 0.90 < covered < 0.96


def test_equal_numbers_of_samples_are_resampled_alike_so_that_differences_are_paired() -> None:
    common = normal(12, 1)
    first, second = resampled_means(common + 3), resampled_means(common)
    torch.testing.assert_close(first - second, torch.full_like(first, 3.0))
    low, high = interval(first - second, 12)
    assert float(high - low) < 1e-12


def test_a_failure_is_never_resampled_away() -> None:
    values = normal(30, 2)
    values[4, 1] = torch.nan
    means = resampled_means(values)
    assert means[:, 0].isfinite().all() and means[:, 1].isnan().all()
    low, high = interval(means, 30)
    assert low[0].isfinite() and low[1].isnan() and high[1].isnan()


@pytest.mark.parametrize(("count", "defined"), [(7, False), (8, True)])
def test_too_few_samples_have_no_interval(count: int, defined: bool) -> None:
    low, high = interval(resampled_means(normal(count)), count)
    assert bool(low.isfinite()) is defined and bool(high.isfinite()) is defined


def test_seed_decides_the_draws() -> None:
    values = normal(10)
    assert torch.equal(resampled_means(values), resampled_means(values))
    assert not torch.equal(resampled_means(values), resampled_means(values, seed=1))
