"""What the guard of long forecasts measures of a state, and between what it must lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from driftway.calculus import weights
from driftway.data.axes import Axis, Fields
from driftway.data.summaries import (
    bounds_of,
    statistics,
)
from driftway.data.trajectories import Trajectories
from tests import small
from tests.test_climate_network import sphere


def test_statistics_weigh_points_by_their_areas() -> None:
    axes = sphere(6, 8)
    states = np.random.default_rng(1).standard_normal((3, 2, 6, 8)).astype(np.float32)
    area = weights(axes).numpy()  # type: ignore[union-attr]
    found = statistics(states, axes)
    for row, channel in np.ndindex(3, 2):
        u = states[row, channel].astype(float)
        mean = float(sum(area[at] * u[at] for at in np.ndindex(6, 8)) / 48)
        energy = float(sum(area[at] * (u[at] - mean) ** 2 for at in np.ndindex(6, 8)) / 48)
        np.testing.assert_allclose(
            found[row, :, channel], [mean, energy, float(u.min()), float(u.max())], rtol=1e-5, atol=1e-7
        )


def test_bounds_are_what_the_data_span_and_a_margin() -> None:
    data = small.known_trajectories()
    states = np.asarray(data.states).reshape(-1, 2, 16)
    found = bounds_of(data, margin=0.5)
    means, every = states.mean(-1), (states.min((0, 2)), states.max((0, 2)))
    span = means.max(0) - means.min(0)
    np.testing.assert_allclose(found.low[0], means.min(0) - 0.5 * span, rtol=1e-4)
    np.testing.assert_allclose(found.high[3], every[1] + 0.5 * (every[1] - every[0]), rtol=1e-5)
    np.testing.assert_allclose(found.low[2], found.low[3])
    one = replace(data, states=np.ones((10, 9, 2, 16), np.float32))
    assert (bounds_of(one).low < 1).all() and (bounds_of(one).high[[0, 2, 3]] > 1).all()


def test_a_conserved_mean_may_be_off_by_a_little_of_the_field_s_deviation() -> None:
    x = np.arange(16) * np.pi / 8
    states = (5 + np.sin(x + np.arange(6)[:, None])).astype(np.float32)[None, :, None]
    found = bounds_of(Trajectories(states, Fields(("u",), ("1",)), (Axis.uniform("x", 16, 1.0),), 1.0), margin=0.5)
    off = 0.5 * 0.01 / np.sqrt(2)
    np.testing.assert_allclose([found.low[0, 0], found.high[0, 0]], [5 - off, 5 + off], atol=1e-6)
