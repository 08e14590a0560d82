"""Lyapunov exponents: of a linear equation in closed form, of Kuramoto–Sivashinsky as published."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from driftway.pdes import KuramotoSivashinsky, SpectralPDE
from driftway.pdes.lyapunov import doubling_time, leading_exponents
from driftway.randomness import Stream, stream


@dataclass(frozen=True)
class Growing(SpectralPDE):
    """u_t = ν u_xx + ρ u: errors grow at the rate ρ of the mean, whatever the state."""

    rate: float = 0.3

    def linear(self, k: tuple[Tensor, ...]) -> Tensor:
        return self.rate - 0.5 * k[0] ** 2

    def nonlinear(self, v: Tensor) -> Tensor:
        return 0 * v

    def initial(self, stream: Stream) -> Tensor:
        return 1 + self.random_waves(stream, 3)


@pytest.mark.parametrize("rate", [0.3, -0.2])
def test_a_linear_equation_has_the_exponent_of_its_fastest_wave(rate: float) -> None:
    solver = Growing(size=(32,), dt=0.1, substeps=2, dtype="float64", rate=rate)
    state = solver.initial(stream("growing", rows=range(3))).double()
    found = leading_exponents(solver, state, 20, 100, stream("direction", rows=range(3)))
    torch.testing.assert_close(found, torch.full((3,), rate, dtype=torch.float64), rtol=1e-4, atol=0)


def test_kuramoto_sivashinsky_has_the_published_exponent() -> None:
    """0.043 to 0.048 on a length of 22 (Edson et al. 2019; Cvitanović et al. 2010)."""
    solver = KuramotoSivashinsky(size=(64,), length=(22.0,), dt=0.1, substeps=5, dtype="float64")
    rows = range(12)
    state = solver.initial(stream("ks", rows=rows)).double()
    for _ in range(200):
        state = solver.step(state)
    found = leading_exponents(solver, state, 800, 100, stream("direction", rows=rows))
    error = float(found.std()) / len(found) ** 0.5
    assert 0.043 - 3 * error < float(found.mean()) < 0.048 + 3 * error and error < 0.004


def test_single_precision_is_refused() -> None:
    solver = Growing(size=(32,), dtype="float64")
    with pytest.raises(ValueError, match="give state and solver in float64"):
        leading_exponents(solver, torch.ones(1, 1, 32), 1, 0, stream("direction", rows=[0]))


def test_a_doubling_time_is_that_of_the_exponent() -> None:
    assert doubling_time(0.5) == pytest.approx(2 * math.log(2)) and doubling_time(-0.1) == math.inf
