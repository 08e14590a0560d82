"""Polynomials between walls: quadrature, derivatives, and modes against their closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.polynomial import Polynomial

from driftway.pdes import legendre

N = 32


def one(modes: legendre.Modes, y: torch.Tensor, order: int = 0) -> torch.Tensor:
    """Values (..., n, points) of a derivative of the modes."""
    slopes = modes.coefficients @ torch.linalg.matrix_power(legendre.derivative(modes.coefficients.shape[-1]).T, order)
    return slopes @ legendre.values(slopes.shape[-1], y).T


def test_gauss_points_integrate_polynomials_exactly() -> None:
    y, weights = legendre.gauss(5)
    for degree in range(10):
        assert float(weights @ y**degree) == pytest.approx(1 / (degree + 1), rel=1e-14)
    assert float(weights @ y**10) != pytest.approx(1 / 11, rel=1e-7)


def test_polynomials_are_orthonormal_and_derivatives_exact() -> None:
    y, weights = legendre.gauss(N)
    at = legendre.values(N, y)
    assert torch.allclose(at.T * weights @ at, torch.eye(N, dtype=torch.float64), atol=1e-13)
    p = Polynomial(np.random.default_rng(0).normal(size=7))
    coefficients = at.T @ (weights * torch.from_numpy(p(y.numpy())))
    assert np.allclose(at @ legendre.derivative(N) @ coefficients, p.deriv()(y.numpy()), atol=1e-11)


def test_chebyshev_points_are_dedalus_s() -> None:
    """Gauss's, of the first kind, on [0, 1]."""
    y = legendre.chebyshev(32)
    assert float(y[0]) == pytest.approx(6.02271897e-04, rel=1e-8)
    assert float((y + y.flip(0) - 1).abs().max()) < 1e-15


def test_dirichlet_and_neumann_modes_are_sines_and_cosines() -> None:
    """∫sin² = ½, so that the modes are √2 sin(jπy), of the rates (jπ)², and √2 cos."""
    y = torch.linspace(0, 1, 41, dtype=torch.float64)
    j = torch.arange(1, 9, dtype=torch.float64)[:, None]
    walls, slopes = legendre.dirichlet(N), legendre.neumann(N)
    assert torch.allclose(walls.rates[:8], (math.pi * j[:, 0]) ** 2, rtol=1e-11)
    assert torch.allclose(one(walls, y)[:8].abs(), (math.sqrt(2) * torch.sin(math.pi * j * y)).abs(), atol=1e-9)
    assert torch.allclose(slopes.rates[1:9], (math.pi * j[:, 0]) ** 2, rtol=1e-9)
    assert torch.allclose(one(slopes, y)[1:9].abs(), (math.sqrt(2) * torch.cos(math.pi * j * y)).abs(), atol=1e-9)
    assert slopes.rates[0] < 1e-6 and torch.allclose(one(slopes, y)[0].abs(), torch.ones(41, dtype=torch.float64))


def test_stokes_modes_decay_at_the_roots_of_their_equation() -> None:
    """Even ψ ∝ cosh kη/cosh(k/2) − cos qη/cos(q/2), η = y − ½: k tanh(k/2) + q tan(q/2) = 0, of the rate k² + q²."""
    k = 3.0
    rates = legendre.stokes(N, torch.tensor([k], dtype=torch.float64)).rates[0]
    even, odd = [], []
    for n in range(3):
        even.append(
            _root(lambda q: k * math.tanh(k / 2) + q * math.tan(q / 2), (2 * n + 1) * math.pi, (2 * n + 2) * math.pi)
        )
        odd.append(
            _root(lambda q: k / math.tanh(k / 2) - q / math.tan(q / 2), (2 * n + 2) * math.pi, (2 * n + 3) * math.pi)
        )
    expected = sorted(k**2 + q**2 for q in even + odd)
    assert rates[:6].tolist() == pytest.approx(expected, rel=1e-10)


def _root(f, low: float, high: float) -> float:
    low, high = low + 1e-9, high - 1e-9
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if f(middle) * f(low) > 0 else (low, middle)
    return (low + high) / 2


@pytest.mark.parametrize("count", [16, 128])
def test_stokes_modes_are_orthonormal_and_still_at_the_walls(count: int) -> None:
    k = torch.arange(4, dtype=torch.float64) * 20
    modes = legendre.stokes(count, k)
    walls = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert float(one(modes, walls)[1:].abs().max()) < 1e-13
    assert float(one(modes, walls, 1).abs().max()) < 1e-10
    slopes = modes.coefficients @ legendre.derivative(count).T
    energy = slopes @ slopes.mT + k.view(-1, 1, 1) ** 2 * modes.coefficients @ modes.coefficients.mT
    assert torch.allclose(energy, torch.eye(count - 4, dtype=torch.float64).expand_as(energy), atol=1e-10)
    assert (modes.rates.diff(dim=-1) > 0).all()
    assert (modes.rates > k[:, None] ** 2).all()
