"""Spherical harmonics and their transform against scipy, torch-harmonics, closed forms and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.polynomial.legendre import leggauss
from scipy.special import sph_harm_y

from driftway.data.axes import Axis, Fields
from driftway.data.layout import Layout
from driftway.errors import DataError
from driftway.evaluation import resolved, spectrum
from driftway.metrics import spherical_spectrum, zonal_spectrum
from driftway.randomness import generator
from driftway.sphere import Transform, gaussian_latitudes, largest_degree, power, spherical_harmonics

GRIDS = {
    "Gauss": gaussian_latitudes(16).flip(0).numpy(),
    "cells": np.linspace(-84.375, 84.375, 16),
    "poles": np.linspace(90, -90, 17),
    "one pole": 90 - 10.0 * np.arange(18),
    "any": np.array([-80, -70, -52, -40, -30, -15, 0, 11, 20, 30, 42, 50, 60, 70, 85.0]),
}
every_grid = pytest.mark.parametrize("name", list(GRIDS))


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


# --- transforms ----------------------------------------------------------------------------------------------------


def transform(name: str, degree: int | None = None, radius: float = 1.0) -> Transform:
    return Transform(GRIDS[name], np.arange(36) * 10.0 + 3.0, degree, radius)


def coefficients(degree: int, *batch: int, first: int = 0) -> torch.Tensor:
    """Random ones of a real field, without those below the degree `first`."""
    draws = generator(0, "coefficients").standard_normal((2, *batch, degree + 1, degree + 1))
    found = torch.complex(*torch.from_numpy(draws)).tril()
    found[..., 0] = found[..., 0].real.to(found)
    found[..., :first, :] = 0
    return found


def brute_force(a: torch.Tensor, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Σ f̂_lm Y_lm by scipy's harmonics."""
    theta, phi = np.pi / 2 - np.deg2rad(lat)[:, None], np.deg2rad(lon)
    total = np.zeros((len(lat), len(lon)))
    for n in range(len(a)):
        for m in range(n + 1):
            wave = (-1) ** m * sph_harm_y(n, m, theta, phi) * a[n, m].item()
            total += wave.real * (1 if m == 0 else 2)
    return total


@every_grid
def test_synthesis_is_the_sum_and_analysis_undoes_it(name: str) -> None:
    found = transform(name)
    assert found.degree == {"Gauss": 15, "cells": 15, "poles": 15, "one pole": 17, "any": 14}[name]
    a = coefficients(found.degree, 2, 3)
    fields = found.synthesis(a)
    expected = brute_force(a[1, 2], GRIDS[name], np.arange(36) * 10.0 + 3.0)
    np.testing.assert_allclose(fields[1, 2], expected, atol=1e-12)
    torch.testing.assert_close(found.analysis(fields), a, rtol=0, atol=1e-11)
    single = found.analysis(fields.float())
    assert single.dtype == torch.complex64 and found.synthesis(single).dtype == torch.float32
    assert float((single - a).abs().max()) < 3e-5


def test_analysis_is_the_integral_over_the_sphere_on_gaussian_rows() -> None:
    found = transform("Gauss", degree=10)
    lat, lon = GRIDS["Gauss"], np.arange(36) * 10.0 + 3.0
    f = np.exp(np.cos(np.deg2rad(lat))[:, None] * np.cos(np.deg2rad(lon)))
    area = leggauss(16)[1][::-1, None] * 2 * np.pi / 36
    a = found.analysis(torch.from_numpy(f))
    for n, m in ((0, 0), (3, 1), (7, 5), (10, 10)):
        harmonic = (-1) ** m * sph_harm_y(n, m, np.pi / 2 - np.deg2rad(lat)[:, None], np.deg2rad(lon))
        assert a[n, m].item() == pytest.approx((area * f * harmonic.conj()).sum(), abs=1e-13)


@every_grid
def test_winds_are_undone_and_obey_their_definition(name: str) -> None:
    found = transform(name, radius=2.5)
    vorticity, divergence = coefficients(found.degree, 2, first=1)
    u, v = found.winds(vorticity, divergence)
    for back, a in zip(found.vorticity_divergence(u, v), (vorticity, divergence), strict=True):
        torch.testing.assert_close(back, a, rtol=0, atol=1e-10)
    # u = −∂ψ/∂φ + ∂χ/∂λ/cos φ and v = ∂ψ/∂λ/cos φ + ∂χ/∂φ, by differences of the fields in between
    potentials = torch.stack([found.inverse_laplacian(a) for a in (vorticity, divergence)])
    lat, lon, h = GRIDS[name][3:6], np.arange(36) * 10.0 + 3.0, 1e-4
    psi, chi = ([brute_force(p, lat + s, lon) for s in (h, -h)] for p in potentials)
    east = [(brute_force(p, lat, lon + h) - brute_force(p, lat, lon - h)) for p in potentials]
    step, across = 2 * np.deg2rad(h) * 2.5, np.cos(np.deg2rad(lat))[:, None]
    np.testing.assert_allclose(u[3:6], (psi[1] - psi[0] + east[1] / across) / step, atol=1e-5)
    np.testing.assert_allclose(v[3:6], (east[0] / across + chi[0] - chi[1]) / step, atol=1e-5)


def test_winds_at_the_poles_are_one_vector() -> None:
    found = transform("poles")
    vorticity, divergence = coefficients(found.degree, 2, first=1)
    u, v = found.winds(vorticity, divergence)
    turn = torch.exp(1j * torch.deg2rad(torch.arange(36, dtype=torch.float64) * 10 + 3))
    for row, sign in ((0, 1), (-1, -1)):
        fixed = torch.complex(u[row], v[row]) * turn.conj() if sign < 0 else torch.complex(u[row], v[row]) * turn
        torch.testing.assert_close(fixed, fixed[:1].expand(36), rtol=0, atol=1e-11)


def test_the_laplacian_is_the_divergence_of_the_gradient() -> None:
    found = transform("cells", radius=3.0)
    a = coefficients(found.degree, first=1)
    curl, spread = found.vorticity_divergence(*found.gradient(a))
    torch.testing.assert_close(spread, found.laplacian(a), rtol=0, atol=1e-11)
    assert float(curl.abs().max()) < 1e-11
    torch.testing.assert_close(found.inverse_laplacian(found.laplacian(a)), a)
    torch.testing.assert_close(found.laplacian(a)[4], -20 / 9 * a[4])


def test_transforms_are_differentiable() -> None:
    found = Transform(gaussian_latitudes(4), np.arange(8) * 45.0)
    x = torch.from_numpy(generator(0, "x").standard_normal((2, 4, 8))).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: found.synthesis(found.laplacian(found.analysis(f))), (x,))
    assert torch.autograd.gradcheck(lambda f: torch.view_as_real(found.vorticity_divergence(f[0], f[1])[0]), (x,))


def test_a_degree_too_high_and_longitudes_that_do_not_go_around_are_refused() -> None:
    assert largest_degree(GRIDS["Gauss"], 20) == 9
    with pytest.raises(DataError, match="tells degrees up to 15 apart, 16 is asked: take fewer"):
        transform("Gauss", 16)
    with pytest.raises(DataError, match="rise by equal steps once around"):
        Transform(GRIDS["Gauss"], np.linspace(0, 180, 36))
    with pytest.raises(DataError, match=r"grids of \(16, 36\), got fields of \(36, 16\)"):
        transform("Gauss").analysis(torch.zeros(36, 16))


def test_the_transform_is_that_of_torch_harmonics() -> None:
    other = pytest.importorskip("torch_harmonics", reason="needs torch-harmonics, of which 0.9.3 agrees")
    theirs = other.RealSHT(16, 36, lmax=16, mmax=16, grid="legendre-gauss", norm="ortho", csphase=False).double()
    f = torch.from_numpy(generator(0, "f").standard_normal((3, 16, 36)))
    ours = Transform(GRIDS["Gauss"], np.arange(36) * 10.0)
    torch.testing.assert_close(theirs(f), ours.analysis(f), rtol=0, atol=1e-9)


# --- spectra -------------------------------------------------------------------------------------------------------


@every_grid
def test_power_by_degree_adds_up_to_the_mean_square_and_does_not_turn(name: str) -> None:
    found = transform(name)
    a = coefficients(found.degree, 2)
    fields = found.synthesis(a)
    by_degree = spherical_spectrum(fields, GRIDS[name], (np.arange(36) * 10.0 + 3.0).tolist())
    assert by_degree.wavenumbers.tolist() == list(range(found.degree + 1))
    fine = Transform(gaussian_latitudes(32), np.arange(64) * 5.625, found.degree)
    mean = fine.analysis(fine.synthesis(a).square())[..., 0, 0].real / math.sqrt(4 * math.pi)
    torch.testing.assert_close(by_degree.power.sum(-1), mean, rtol=1e-11, atol=0)
    # sin φ turned on its side is the same degree
    phi, lam = np.deg2rad(GRIDS[name])[:, None], np.deg2rad(np.arange(36) * 10.0 + 3.0)
    for f in (np.sin(phi) + 0 * lam, np.cos(phi) * np.cos(lam)):
        turned = power(found.analysis(torch.from_numpy(f)))
        assert float(turned[1]) == pytest.approx(1 / 3, rel=1e-12) and float(turned.sum() - turned[1]) < 1e-20


def test_zonal_spectra_are_one_for_each_latitude() -> None:
    lam = torch.deg2rad(torch.arange(12, dtype=torch.float64) * 30)
    f = torch.stack([2 + torch.cos(3 * lam), 3 * torch.sin(2 * lam)])
    found = zonal_spectrum(f)
    expected = torch.tensor([[4.0, 0, 0, 0.5, 0, 0, 0], [0, 0, 4.5, 0, 0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(found.power, expected, rtol=0, atol=1e-14)


def test_scores_take_the_spectrum_by_degree_where_the_axes_are_a_sphere() -> None:
    lat = Axis("lat", tuple(GRIDS["Gauss"].tolist()), "pole", units="degrees_north")
    layout = Layout(Fields(("h",), ("m",)), (lat, Axis.uniform("lon", 36, 360.0, units="degrees_east")), 6.0, "h")
    f = spherical_harmonics(GRIDS["Gauss"], layout.axes[1].coordinates, 6)[6 * 6 + 6 + 2].expand(2, 3, 1, -1, -1)
    found = spectrum(3 * f, layout)
    assert found is not None and found.shape == (2, 3, 1, 16)
    torch.testing.assert_close(found[..., 6], torch.full((2, 3, 1), 9 / (4 * math.pi), dtype=torch.float64))
    assert float(found.sum() - found[..., 6].sum()) < 1e-20
    assert resolved(found[0], layout) == [6.0]
    assert resolved(torch.ones(3, 1, 16), layout) == [15.0]  # the largest degree of 16 rows
