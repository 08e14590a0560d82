"""The times that training draws: their laws, and the paths that they are for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from driftway.build import Signature, build_stepper
from driftway.data.trajectories import Transition
from driftway.densities import DENSITIES, Density, GridTime, LogNormalNoise, UniformTime
from driftway.errors import ConfigError
from driftway.grids import KarrasSpacing, Truncated
from driftway.interpolants import Follmer, Interpolant, Rectified, VarianceExploding, VariancePreserving
from driftway.randomness import stream
from driftway.steppers import Generative

ROWS = 4000


def drawn(density: Density, interpolant: Interpolant = VarianceExploding(), rows: int = ROWS) -> np.ndarray:
    times = density(interpolant, torch.zeros(rows, 1, 2), stream(0, "times", rows=range(rows)))
    assert times.shape == (rows,) and times.dtype == torch.float64
    return times.numpy()


@pytest.mark.parametrize(("start", "stop"), [(0.0, 1.0), (0.2, 0.7)])
def test_uniform_times_fill_their_interval(start: float, stop: float) -> None:
    times = drawn(UniformTime(start, stop))
    assert start <= times.min() and times.max() < stop
    assert stats.kstest(times, stats.uniform(start, stop - start).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("density", "times"),
    [
        (GridTime(4), [0.0, 0.25, 0.5, 0.75]),
        (GridTime(3, Truncated(0.3)), [0.0, 0.1, 0.2]),
        (GridTime(3, KarrasSpacing(rho=1e4, smallest=0.01, largest=1.0)), [0.0, 0.9, 0.99]),
        (GridTime(1), [0.0]),
    ],
)
def test_grid_times_are_those_of_a_sampler_with_equal_chances(density: GridTime, times: list[float]) -> None:
    values, counts = np.unique(drawn(density), return_counts=True)
    assert values == pytest.approx(times, abs=1e-3)
    assert len(times) == 1 or stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(("mean", "std", "scale"), [(-1.2, 1.2, 80.0), (0.0, 0.5, 20.0)])
def test_log_normal_noise_has_edms_law(mean: float, std: float, scale: float) -> None:
    path = VarianceExploding(scale=scale)
    levels = path.gamma(torch.from_numpy(drawn(LogNormalNoise(mean, std), path))).log().numpy()
    inside = levels[(levels > np.log(1.001 * path.smallest)) & (levels < np.log(0.999 * scale))]
    assert len(inside) > 0.99 * ROWS
    assert stats.kstest(inside, stats.norm(mean, std).cdf).pvalue > 1e-3


def test_noise_levels_stay_within_the_path() -> None:
    low, high = VarianceExploding().domain
    times = drawn(LogNormalNoise(0.0, 30.0))
    assert times.min() == low and times.max() == high


@pytest.mark.parametrize("path", [Follmer(), Rectified(), VariancePreserving()], ids=repr)
def test_edms_noise_levels_are_refused_on_another_path(path: Interpolant) -> None:
    with pytest.raises(ConfigError, match=r"^log_normal draws the noise levels of variance_exploding, not of .*$"):
        drawn(LogNormalNoise(), path, rows=2)


def test_a_stepper_with_a_density_of_another_path_does_not_train() -> None:
    network = {"type": "unet", "width": 8, "blocks": 1, "embedding": 8}
    stepper = build_stepper(
        {"type": "generative", "density": "log_normal", "network": network}, Signature(1, ("periodic",))
    )
    assert isinstance(stepper, Generative)
    batch = Transition(torch.zeros(2, 1, 16), torch.zeros(2, 1, 16))
    with pytest.raises(ConfigError, match="log_normal draws the noise levels of variance_exploding, not of Follmer"):
        stepper.loss(batch, stream(0, "loss", rows=range(2)))


def test_a_density_depends_on_the_row_alone() -> None:
    for density in (UniformTime(), GridTime(7), LogNormalNoise()):
        assert np.array_equal(drawn(density, rows=9)[:4], drawn(density, rows=4))


def test_impossible_densities_are_refused_and_the_table_names_every_one() -> None:
    assert set(DENSITIES.values()) == {UniformTime, GridTime, LogNormalNoise}
    for bad in (
        lambda: UniformTime(0.5, 0.5),
        lambda: UniformTime(-0.1),
        lambda: GridTime(0),
    ):
        with pytest.raises(ValueError, match="need"):
            bad()
