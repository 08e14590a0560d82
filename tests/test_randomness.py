"""Keyed randomness: a number belongs to its key, whatever else is drawn."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from driftway.randomness import generator, seeded, stream

KEYS = st.lists(st.one_of(st.integers(0, 2**40), st.text(max_size=4)), min_size=1, max_size=3).map(tuple)


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(KEYS, min_size=2, max_size=6, unique=True), data=st.data())
def test_a_row_is_the_same_alone_in_a_batch_and_later(rows: list[tuple[int | str, ...]], data: st.DataObject) -> None:
    chosen, like = data.draw(st.integers(0, len(rows) - 1)), torch.zeros(1, 2, 3)
    together, alone = stream(5, "test", rows=rows), stream(5, "test", rows=[rows[chosen]])
    for _ in range(2):
        assert torch.equal(together.normal(like.expand(len(rows), 2, 3))[chosen], alone.normal(like)[0])
    assert together.uniform(torch.zeros(len(rows)))[chosen] == alone.uniform(like)[0]
    assert together.integers(1000, torch.zeros(len(rows)))[chosen] == alone.integers(1000, like)[0]


def test_rows_steps_and_purposes_are_uncorrelated() -> None:
    like, count = torch.zeros(1, 4000, dtype=torch.float64), 60
    keys = [(seed, purpose, step) for seed in range(3) for purpose in ("train", "shuffle") for step in range(10)]
    draws = torch.cat([stream(seed, purpose, rows=[step]).normal(like) for seed, purpose, step in keys])
    off = np.corrcoef(draws.numpy()) - np.eye(count)
    assert np.abs(off).max() < 5.5 / 4000**0.5


def test_normals_have_the_normal_law_in_both_precisions() -> None:
    for dtype in (torch.float32, torch.float64):
        draws = stream("law", rows=range(50)).normal(torch.zeros(50, 400, dtype=dtype))
        assert draws.dtype == dtype
        assert stats.kstest(draws.double().flatten().numpy(), "norm").pvalue > 1e-3
    assert len(torch.unique(draws)) == draws.numel()  # float64 has no ties where float32 has some


def test_uniforms_and_integers_have_their_laws() -> None:
    rows = stream("law", rows=range(5000))
    like = torch.zeros(5000)
    assert stats.kstest(rows.uniform(like).numpy(), "uniform").pvalue > 1e-3
    counts = np.bincount(rows.integers(7, like).numpy(), minlength=7)
    assert len(counts) == 7 and stats.chisquare(counts).pvalue > 1e-3


def test_integers_of_numpy_are_the_same_key_as_pythons() -> None:
    assert generator(np.int64(3), np.str_("a")).random() == generator(3, "a").random()
    assert generator(3).random() != generator("3").random()


def test_the_generator_is_numpys_sfc64_with_a_hashed_key() -> None:
    """The numbers do not depend on how the key is handed over, so that they can be had without driftway."""
    digest = hashlib.blake2b(repr((0, "forecast", 3)).encode(), digest_size=24).digest()
    words = [int.from_bytes(digest[i : i + 8], "little") for i in (0, 8, 16)]
    sfc = np.random.SFC64(0)
    sfc.state = {**sfc.state, "state": {"state": np.array([*words, 1], np.uint64)}}
    sfc.random_raw(12)  # the rounds that its inventor prescribes
    expected = np.random.Generator(sfc).random(8)
    assert generator(0, "forecast", 3).random(8).tolist() == expected.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 2, 7, 16, 33, 1024, 4099])
def test_a_large_batch_holds_the_rows_that_would_be_drawn_alone(count: int, dtype: torch.dtype) -> None:
    together = stream("batch", rows=range(5)).normal(torch.zeros(5, count, dtype=dtype))
    alone = [stream("batch", rows=[row]).normal(torch.zeros(1, count, dtype=dtype)) for row in range(5)]
    assert torch.equal(together, torch.cat(alone))


def test_normals_of_one_pair_are_independent_and_have_tails() -> None:
    draws = stream("pairs", rows=[0]).normal(torch.zeros(1, 2_000_000))[0].double()
    a, b = draws.chunk(2)
    for first, second in ((a, b), (a**2, b**2), (a, b**2)):
        assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 5 / 1000
    beyond = int((draws.abs() > 4).sum())
    assert stats.poisson(2e6 * 2 * stats.norm.sf(4)).cdf(beyond) == pytest.approx(0.5, abs=0.4999)


def test_initial_weights_are_a_function_of_the_key_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with seeded(7, "weights"):
        first = nn.Linear(4, 4).weight
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    with seeded(7, "weights"):
        second = nn.Linear(4, 4).weight
    with seeded(8, "weights"):
        third = nn.Linear(4, 4).weight
    assert torch.equal(first, second) and not torch.equal(first, third)


def test_a_batch_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="3 rows, the batch 2"):
        stream(0, rows=range(3)).normal(torch.zeros(2, 1))
