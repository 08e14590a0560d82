"""Functions between two walls at y = 0 and 1: Legendre polynomials, quadrature, and modes that keep conditions there.

Coefficients f̂ are those of the orthonormal polynomials, so that inner products are sums:

    f(y) = Σₙ f̂ₙ P̃ₙ(y) ,   P̃ₙ(y) = √(2n + 1) Pₙ(2y − 1) ,   ∫₀¹ P̃ₙ P̃ₘ dy = δₙₘ

A mode is an eigenfunction of the Laplacian, or of the Stokes operator, within the polynomials of a degree: it makes
diffusion diagonal. Bases of Shen 1994, SIAM J. Sci. Comput. 15, 1489. All in double precision.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor


class Modes(NamedTuple):
    """Modes by row: their Legendre coefficients (..., n, degree + 1), and the rates (..., n) at which they decay."""

    coefficients: Tensor
    rates: Tensor


def gauss(count: int) -> tuple[Tensor, Tensor]:
    """Points and weights on [0, 1] that integrate polynomials of a degree < 2·count exactly."""
    points, weights = legendre.leggauss(count)
    return torch.from_numpy((points + 1) / 2), torch.from_numpy(weights / 2)


def chebyshev(count: int) -> Tensor:
    """yⱼ = ½(1 − cos π(j + ½)/n): dense at the walls, none on them."""
    angles = np.pi * (np.arange(count) + 0.5) / count
    return torch.from_numpy((1 - np.cos(angles)) / 2)


def values(count: int, points: Tensor) -> Tensor:
    """P̃ₙ(y) for n < count: (points, count)."""
    scales = np.sqrt(2 * np.arange(count) + 1)
    return torch.from_numpy(legendre.legvander(2 * points.numpy() - 1, count - 1) * scales)


def derivative(count: int) -> Tensor:
    """(count, count): f̂ ↦ that of df/dy, as P̃ₙ' = 2 Σₘ √((2n + 1)(2m + 1)) P̃ₘ over m < n with n − m odd."""
    n = torch.arange(count, dtype=torch.float64)
    below = (n[:, None] < n) & ((n - n[:, None]) % 2 == 1)
    return torch.where(below, 2 * torch.sqrt((2 * n + 1) * (2 * n[:, None] + 1)), 0.0)


def dirichlet(count: int) -> Modes:
    """Eigenfunctions e of −d²/dy² with e = 0 at the walls: count − 2 of them, ∫eᵢeⱼ = δᵢⱼ, of the rates ∫e'²."""
    ones = torch.ones(count - 2, dtype=torch.float64)
    basis = _combined(count, {0: ones, 2: -ones})
    return _modes(basis, basis @ basis.T, _gram(basis, 1))


def neumann(count: int) -> Modes:
    """Eigenfunctions of −d²/dy² with derivative 0 at the walls, the constant first: count of them."""
    basis = torch.eye(count, dtype=torch.float64)
    rates, vectors = torch.linalg.eigh(_gram(basis, 1))
    return Modes(vectors.T, rates.clamp_min(0))


def stokes(count: int, wavenumbers: Tensor) -> Modes:
    """Stream functions ψ(y) of the modes of a viscous fluid at rest, for each wavenumber k along the walls.

        u = (ψ', −ikψ) ,   ψ = ψ' = 0 at the walls ,   ∫ψᵢ'ψⱼ' + k²ψᵢψⱼ = δᵢⱼ ,   rates ∫ψ''² + 2k²ψ'² + k⁴ψ²

    There are count − 4. At k = 0 the mean flow ψ' is a Dirichlet mode and ψ its integral.
    """
    basis = _clamped(count)
    energy, zero, one = _gram(basis, 2), _gram(basis, 0), _gram(basis, 1)
    k2 = wavenumbers.view(-1, 1, 1) ** 2
    moving = _modes(basis, one + k2 * zero, energy + 2 * k2 * one + k2**2 * zero)
    mean = dirichlet(count - 2)
    still = (wavenumbers == 0).view(-1, 1, 1)
    coefficients = torch.where(still, _integral(mean.coefficients, count), moving.coefficients)
    return Modes(coefficients, torch.where(still[..., 0], mean.rates, moving.rates))


def _integral(coefficients: Tensor, count: int) -> Tensor:
    """The coefficients, count of them, of ∫₀ʸ f up to a constant."""
    slopes = derivative(count)[: coefficients.shape[-1], 1 : coefficients.shape[-1] + 1]
    integrals = torch.linalg.solve_triangular(slopes, coefficients.T, upper=True).T
    return torch.nn.functional.pad(integrals, (1, count - 1 - integrals.shape[-1]))


def _modes(basis: Tensor, mass: Tensor, stiffness: Tensor) -> Modes:
    """S e = λ M e with eᵀMe = 1, by M/S, whose large eigenvalues are the ones that matter."""
    inverse = torch.linalg.inv(torch.linalg.cholesky(stiffness))
    shares, vectors = torch.linalg.eigh(inverse @ mass @ inverse.mT)
    rates = 1 / shares.flip(-1)
    vectors = (inverse.mT @ vectors).flip(-1) * rates.sqrt()[..., None, :]
    return Modes(vectors.mT @ basis, rates)


def _gram(basis: Tensor, order: int) -> Tensor:
    """∫ fᵢ⁽ᵒʳᵈᵉʳ⁾ fⱼ⁽ᵒʳᵈᵉʳ⁾ of the functions of a basis."""
    slopes = basis @ torch.linalg.matrix_power(derivative(basis.shape[-1]).T, order)
    return slopes @ slopes.T


def _clamped(count: int) -> Tensor:
    """Pₙ − 2(2n + 5)/(2n + 7) Pₙ₊₂ + (2n + 3)/(2n + 7) Pₙ₊₄: zero with its slope at the walls, scaled to ∫f''² = 1."""
    n = torch.arange(count - 4, dtype=torch.float64)
    basis = _combined(count, {0: torch.ones_like(n), 2: -2 * (2 * n + 5) / (2 * n + 7), 4: (2 * n + 3) / (2 * n + 7)})
    return basis / _gram(basis, 2).diagonal().sqrt()[:, None]


def _combined(count: int, weights: dict[int, Tensor]) -> Tensor:
    """Row n is Σ weights[offset][n] Pₙ₊ₒ, as coefficients of the P̃."""
    rows = torch.stack([row.new_zeros(len(row), count).diagonal_scatter(row, o) for o, row in weights.items()]).sum(0)
    return rows / torch.sqrt(2 * torch.arange(count, dtype=torch.float64) + 1)
