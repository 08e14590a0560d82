"""Functions on the sphere: spherical harmonics, at latitudes and longitudes in degrees.

    Y_lm(φ, λ) = P̄_l|m|(sin φ) · (√2 cos mλ, 1, √2 sin |m|λ)    for m > 0, m = 0, m < 0

P̄ are the associated Legendre functions without the sign (−1)^m of Condon and Shortley, scaled so that the Y_lm are
orthonormal: ∫ Y_lm Y_l'm' dΩ = δ over the unit sphere, whose area is 4π.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from driftway.errors import DataError


def spherical_harmonics(lat: Sequence[float] | Tensor, lon: Sequence[float] | Tensor, degree: int) -> Tensor:
    """Real spherical harmonics up to a degree at every point of a grid: ((degree + 1)², nlat, nlon), float64.

    lat (nlat,), lon (nlon,): in degrees. Y_lm stands at l² + l + m: degree by degree, from m = −l to l. Raises
    DataError for latitudes beyond the poles.
    """
    heights, angles = torch.sin(latitudes(lat)), torch.deg2rad(_doubles(lon))
    m = torch.arange(degree + 1, dtype=torch.float64)
    waves = math.sqrt(2) * torch.exp(1j * m[:, None] * angles)
    waves[0] = 1
    table = legendre(heights, degree)
    found = torch.empty((degree + 1) ** 2, len(heights), len(angles), dtype=torch.float64)
    for order in range(degree + 1):
        for n in range(order, degree + 1):
            across = table[order, n][:, None]
            found[n * n + n - order] = across * waves[order].imag
            found[n * n + n + order] = across * waves[order].real
    return found


def legendre(heights: Tensor, degree: int) -> Tensor:
    """P̄_lm(sin φ) at sin φ = `heights` (nlat,): (m, l, nlat) with m and l from 0 to `degree`, zero for l < m; float64.

        P̄_mm = √((2m + 1)/2m) cos φ P̄_m−1,m−1 ,   ε_l+1 P̄_l+1,m = sin φ P̄_lm − ε_l P̄_l−1,m

    with ε_l = √((l² − m²)/(4l² − 1)). The recurrence in l is stable. Reference: Holmes & Featherstone 2002, J. Geodesy
    76, 279.
    """
    heights = heights.double()
    across = torch.sqrt((1 - heights) * (1 + heights))
    table = torch.zeros(degree + 1, degree + 1, len(heights), dtype=torch.float64)
    sectoral = torch.full_like(heights, 1 / math.sqrt(4 * math.pi))
    for m in range(degree + 1):
        below, here = torch.zeros_like(heights), sectoral
        for n in range(m, degree + 1):
            table[m, n] = here
            below, here = here, (heights * here - epsilon(n, m) * below) / epsilon(n + 1, m)
        sectoral = sectoral * across * math.sqrt((2 * m + 3) / (2 * m + 2))
    return table


def epsilon(n: int, m: int) -> float:
    """√((n² − m²)/(4n² − 1)), with which sin φ couples the degrees n − 1 and n."""
    return math.sqrt((n * n - m * m) / (4 * n * n - 1))


def latitudes(lat: Sequence[float] | Tensor) -> Tensor:
    """Latitudes given in degrees, in radians and float64. Raises DataError beyond the poles."""
    degrees = _doubles(lat)
    if not bool((degrees.abs() <= 90 + 1e-4).all()):
        raise DataError(f"latitudes must lie within −90 … 90 degrees, got {degrees.min():g} … {degrees.max():g}")
    return torch.deg2rad(degrees.clamp(-90, 90))


def _doubles(values: Sequence[float] | Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)
