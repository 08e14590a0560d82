"""Statistics in one pass: numpy's in double precision, whatever the mean and the order; bad values are named."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftway.data import Axis, Fields, Trajectories, moments, open_zarr, save_zarr, statistics
from driftway.data.moments import Statistics
from driftway.data.states import Lazy
from driftway.errors import DataError
from tests.datasets import Counted, example

NAMES = ("mean", "std", "increment_std", "increment_mean", "minimum", "maximum")


def reference(states: np.ndarray) -> Statistics:
    """All at once in double precision."""
    u = states.astype(np.float64)
    over = (0, 1, *range(3, u.ndim))
    steps = np.diff(u, axis=1)
    low, high, count = u.min(over), u.max(over), u[:, :, 0].size
    return Statistics(u.mean(over), u.std(over), steps.std(over), low, high, count, steps.mean(over))


def assert_same(found: Statistics, expected: Statistics, tolerance: float = 1e-12) -> None:
    assert found.count == expected.count
    for name in NAMES:
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=tolerance), name


def line(states: np.ndarray) -> Trajectories:
    """States (N, T, C, X) as a data set."""
    channels = states.shape[2]
    fields = Fields(tuple(f"u{c}" for c in range(channels)), ("1",) * channels)
    return Trajectories(states, fields, (Axis.uniform("x", states.shape[3], 1.0),), 1.0)


def test_they_are_numpys(tmp_path: Path) -> None:
    data = example()
    expected = reference(data.states)
    assert_same(statistics(data), expected)
    lazy = open_zarr(save_zarr(data, tmp_path / "data.zarr"))
    assert_same(statistics(lazy), expected)
    rows = [row for row, split in enumerate(data.splits or ()) if split == "train"]
    assert_same(statistics(lazy.split("train").stride(2)), reference(data.states[rows][:, ::2]))


@pytest.mark.parametrize("frames", [1, 2, 3, 7])
def test_long_trajectories_are_read_in_blocks(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = example()
    reader = Counted(data.states)
    monkeypatch.setattr(moments, "BLOCK_BYTES", frames * data.states[0, 0].nbytes)
    assert_same(statistics(replace(data, states=Lazy(reader))), reference(data.states))
    starts = range(0, 7, frames)
    assert reader.calls == [(row, start, min(start + frames, 7)) for row in range(5) for start in starts]
    data.states[3, 5, 1, 2, 2] = np.nan
    with pytest.raises(DataError, match=r"field 'v_x' holds nan at trajectory 3, frame 5 \(of 5 and 7"):
        statistics(data)


@pytest.mark.parametrize("mean", [1e4, 1e6])
def test_a_mean_far_above_the_spread_costs_no_digits(mean: float) -> None:
    noise = np.random.default_rng(0).standard_normal((6, 20, 2, 50))
    states = (mean + np.array([1.0, 30.0])[:, None] * noise).astype(np.float32)
    expected = reference(states)
    naive = np.sqrt((states.astype(np.float64) ** 2).mean((0, 1, 3)) - expected.mean**2)
    assert_same(statistics(line(states)), expected)
    assert naive[0] != pytest.approx(expected.std[0], rel=1e-12)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.permutations(range(7)))
def test_the_order_of_trajectories_does_not_matter(seed: int, order: list[int]) -> None:
    rng = np.random.default_rng(seed)
    states = (rng.standard_normal((7, 1, 1, 1)) * 10 + rng.standard_normal((7, 3, 2, 4))).astype(np.float32)
    assert_same(statistics(line(states[order])), statistics(line(states)), 1e-11)


def test_they_are_those_of_the_training_split_whatever_the_others_hold() -> None:
    data = example()
    states = data.states.copy()
    states[[row for row, split in enumerate(data.splits or ()) if split != "train"]] = np.nan
    assert_same(statistics(replace(data, states=states).split("train")), statistics(data.split("train")))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_with_its_place(value: float) -> None:
    data = example()
    states = data.states.copy()
    states[3, 5, 2, 1, 0] = states[3, 6, 0] = value
    with pytest.raises(DataError, match=rf"'v_y' holds {value} at trajectory 3, frame 5 .* one of 25 such"):
        statistics(replace(data, states=states))


@pytest.mark.parametrize("value", [0.0, 3.5, -1e6])
def test_a_constant_field_is_named(value: float) -> None:
    data = example()
    states = data.states.copy()
    states[:, :, 1] = value
    with pytest.raises(DataError, match=re.escape(f"field 'v_x' is constant ({value:g}) in the training split")):
        statistics(replace(data, states=states))


def test_a_small_field_is_not_a_constant_one() -> None:
    states = example().states * np.float32(1e-20)
    assert statistics(example(states=states)).std == pytest.approx(reference(states).std, rel=1e-12)


@pytest.mark.filterwarnings("error")
def test_one_frame_has_no_increments() -> None:
    data = example(frames=1)
    found = statistics(data)
    assert found.increment_std.tolist() == [0, 0, 0]
    assert found.std == pytest.approx(data.states.std((0, 1, 3, 4), dtype=np.float64), rel=1e-12)
