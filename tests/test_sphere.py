"""Spherical harmonics and their transform against scipy, closed forms and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.polynomial.legendre import leggauss
from scipy.special import sph_harm_y

from driftway.errors import DataError
from driftway.sphere import spherical_harmonics


def reference(n: int, m: int, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """The real harmonic of scipy's complex one, without its (−1)^m."""
    theta, phi = np.pi / 2 - np.deg2rad(lat)[:, None], np.deg2rad(lon)
    found = (-1) ** m * sph_harm_y(n, abs(m), theta, phi) * (1 if m == 0 else math.sqrt(2))
    return found.imag if m < 0 else found.real


def test_harmonics_are_those_of_scipy() -> None:
    lat, lon = np.linspace(90, -90, 7), np.linspace(-180, 170, 5)
    found = spherical_harmonics(lat, lon, 9)
    assert found.shape == (100, 7, 5) and found.dtype == torch.float64
    for n in range(10):
        for m in range(-n, n + 1):
            np.testing.assert_allclose(found[n * n + n + m], reference(n, m, lat, lon), atol=1e-13)


def test_harmonics_of_high_degree_are_finite_and_right() -> None:
    lat, lon = np.array([-89.99, -40.0, 0.1, 89.0]), np.array([10.0])
    found = spherical_harmonics(lat, lon, 150)
    for n, m in ((150, 0), (150, 150), (150, -97), (149, 1)):
        np.testing.assert_allclose(found[n * n + n + m], reference(n, m, lat, lon), atol=1e-11)


def test_harmonics_are_orthonormal_over_the_unit_sphere() -> None:
    heights, weights = leggauss(9)
    flat = spherical_harmonics(np.rad2deg(np.arcsin(heights)), np.arange(18) * 20.0, 8).flatten(1)
    area = (torch.from_numpy(weights)[:, None] * torch.full((18,), 2 * math.pi / 18, dtype=torch.float64)).flatten()
    torch.testing.assert_close(flat * area @ flat.T, torch.eye(81, dtype=torch.float64), atol=1e-12, rtol=0)


def test_latitudes_beyond_the_poles_are_refused() -> None:
    with pytest.raises(DataError, match="−90 … 90 degrees, got -3 … 91"):
        spherical_harmonics([-3.0, 91.0], [0.0], 1)
