"""Paths: rates against automatic differentiation, signal-to-noise, finiteness, and a path of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from driftway.build import Signature, build_stepper
from driftway.errors import ConfigError
from driftway.interpolants import (
    INTERPOLANTS,
    Bridge,
    Follmer,
    Interpolant,
    Rectified,
    Residual,
    VarianceExploding,
    VariancePreserving,
)

PATHS = [
    Follmer(),
    Follmer(0.3, power=2),
    Bridge(0.7),
    Rectified(),
    VariancePreserving(),
    VarianceExploding(),
    Residual(Rectified()),
    Residual(VariancePreserving()),
]
TIMES = torch.linspace(0.013, 0.987, 75, dtype=torch.float64)


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_closed_form_rates_are_the_derivatives(path: Interpolant) -> None:
    for ours, autodiff in zip(path.rates(TIMES), Interpolant.rates(path, TIMES), strict=True):
        assert ours.numpy() == pytest.approx(autodiff.numpy(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("path", [Follmer(0.4), Follmer(0.4, power=2), Bridge(0.4)], ids=repr)
def test_closed_form_drift_is_the_general_one(path: Interpolant) -> None:
    for ours, general in zip(path.drift(TIMES), Interpolant.drift(path, TIMES, path.sigma(TIMES)), strict=True):
        assert ours.numpy() == pytest.approx(general.numpy(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("power", [1, 2])
def test_closed_form_follmer_diffusion(power: int) -> None:
    path = Follmer(0.6, power)
    assert path.follmer(TIMES).numpy() == pytest.approx(Interpolant.follmer(path, TIMES).numpy(), rel=1e-7)


def test_follmer_diffusion_of_the_preserving_path_is_the_reverse_sde() -> None:
    """g² = β_s of Song et al. 2021: minus twice the rate of log a, where a falls as noise is added."""
    path = VariancePreserving()
    _, rate = path._log_beta(TIMES)
    assert path.follmer(TIMES).numpy() == pytest.approx((2 * rate).sqrt().numpy(), rel=1e-9)


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_signal_to_noise_increases(path: Interpolant) -> None:
    assert bool(((path.beta(TIMES) / path.gamma(TIMES)).diff() > 0).all())


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_ends(path: Interpolant) -> None:
    """Every path ends in the data; those of an interpolant start in the source."""
    assert [float(c) for c in path.coefficients(1.0)] == pytest.approx([0.0, 1.0, 0.0], abs=1e-12)
    alpha, beta, gamma = (float(c) for c in path.coefficients(0.0))
    assert path.starts_at_point == (gamma == 0.0)
    if path.starts_at_point:
        assert (alpha, beta) == (1.0, 0.0)


@given(t=st.floats(0, 1), scale=st.floats(0.01, 10), power=st.sampled_from([1, 2]))
@settings(deadline=None, max_examples=100)
def test_the_follmer_drift_is_bounded_on_the_closed_interval(t: float, scale: float, power: int) -> None:
    for c, bound in zip(Follmer(scale, power).drift(t), (1.0, 2.0, scale), strict=True):
        assert abs(float(c)) <= bound


def test_preserving_path_at_its_nodes_is_ddpm() -> None:
    path = VariancePreserving(nodes=50, start=1e-3, stop=0.1)
    bars = (1 - torch.linspace(1e-3, 0.1, 50, dtype=torch.float64)).cumprod(0)
    nodes = 1 - torch.arange(1, 51, dtype=torch.float64) / 50
    assert path.beta(nodes).square().numpy() == pytest.approx(bars.numpy(), rel=1e-12)
    assert (path.beta(TIMES) ** 2 + path.gamma(TIMES) ** 2).numpy() == pytest.approx(1.0)


@dataclass(frozen=True)
class Cosine(Interpolant):
    """A user's path: three functions."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.cos(torch.pi * t / 2) ** 2

    def beta(self, t: Tensor) -> Tensor:
        return torch.sin(torch.pi * t / 2) ** 2

    def gamma(self, t: Tensor) -> Tensor:
        return torch.sin(torch.pi * t) / 2


def test_a_path_of_ones_own_needs_three_functions() -> None:
    alpha, beta, gamma = Cosine().rates(torch.tensor([0.25, 0.5], dtype=torch.float64))
    assert (alpha + beta).abs().max() < 1e-12
    assert float(gamma[1]) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Follmer(power=3),
        lambda: Follmer(scale=0.0),
        lambda: Follmer(scale=float("nan")),
        lambda: Bridge(scale=-1.0),
        lambda: VarianceExploding(scale=0.0),
        lambda: VarianceExploding(scale=1.0, smallest=1.0),
        lambda: VariancePreserving(start=0.5, stop=0.1),
        lambda: Residual(Follmer()),
    ],
)
def test_impossible_paths_are_refused(bad: Callable[[], Interpolant]) -> None:
    with pytest.raises(ValueError, match=r"need|starts at the state"):
        bad()


def test_a_residual_of_edms_path_is_refused_in_one_line() -> None:
    """Its β is 1 throughout, so that the source would never enter."""
    with pytest.raises(ConfigError) as error:
        build_stepper(
            {"type": "generative", "interpolant": {"type": "residual", "path": "variance_exploding"}},
            Signature(1, ("periodic",)),
        )
    assert "needs a path whose β grows from 0" in str(error.value) and "\n" not in str(error.value)


@dataclass(frozen=True)
class Rough(Cosine):
    """A user's path with a diffusion of its own and an infinite slope of γ at t = 0."""

    def gamma(self, t: Tensor) -> Tensor:
        return (1 - t) * t.sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        return 1 - t


def test_the_general_drift_is_finite_at_both_ends() -> None:
    for c in Rough().drift(torch.tensor([0.0, 1.0], dtype=torch.float64)):
        assert bool(torch.isfinite(c).all())


def test_table_names_every_path() -> None:
    assert set(INTERPOLANTS.values()) == {Follmer, Bridge, Rectified, VariancePreserving, VarianceExploding, Residual}
