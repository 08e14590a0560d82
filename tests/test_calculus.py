"""Integrals and derivatives along axes against closed forms, scipy's rules and measured orders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special

from driftway.calculus import FAMILIES, at_ends, derivative, rule, weights
from driftway.data.axes import Axis
from driftway.errors import DataError
from driftway.sphere import spherical_harmonics

N = 12
every_family = pytest.mark.parametrize("name", list(FAMILIES))


def wall(points: np.ndarray, **options: object) -> Axis:
    return Axis("y", tuple(points.tolist()), "wall", **options)  # type: ignore[arg-type]


def of_family(name: str, count: int = N, low: float = 0.0, high: float = 1.0) -> Axis:
    return wall(low + (high - low) * (FAMILIES[name](count) + 1) / 2)


def integral(axis: Axis, values: np.ndarray) -> float:
    return float(rule(axis).weights @ values)


@every_family
def test_polynomials_up_to_degree_n_minus_1_are_integrated_exactly(name: str) -> None:
    axis = of_family(name, low=0.5, high=2.5)
    y = np.asarray(axis.coordinates)
    assert rule(axis).name == name
    for degree in range(N):
        exact = (2.5 ** (degree + 1) - 0.5 ** (degree + 1)) / (degree + 1)
        assert integral(axis, y**degree) == pytest.approx(exact, rel=1e-12)


def test_the_exponential_is_integrated_by_each_rule_as_well_as_it_can() -> None:
    for name in FAMILIES:
        axis = of_family(name)
        assert abs(integral(axis, np.exp(axis.coordinates)) - (np.e - 1)) < 1e-13, name
    assert rule(wall(np.linspace(0, 1, N))).name == "trapezoid"
    errors = [
        integral(wall(y), np.exp(y)) - (np.e - 1) for y in (np.linspace(0, 1, n + 1) ** 1.5 for n in (20, 40, 80))
    ]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.05)
    assert np.log2(errors[1] / errors[2]) == pytest.approx(2, abs=0.05)


def test_weights_of_gauss_are_those_of_scipy() -> None:
    nodes, expected = special.roots_legendre(N)
    np.testing.assert_allclose(rule(wall(nodes)).weights, expected, rtol=1e-12)
    nodes, expected = special.roots_jacobi(N - 2, 1, 1)  # Lobatto's inside, up to the factor 1 − x²
    found = rule(wall(np.concatenate([[-1], nodes, [1]]))).weights
    np.testing.assert_allclose(found[1:-1], expected / (1 - nodes**2), rtol=1e-11)
    np.testing.assert_allclose(found[[0, -1]], 2 / (N * (N - 1)), rtol=1e-12)


def test_gauss_and_lobatto_of_legendre_are_exact_far_beyond_degree_n_minus_1() -> None:
    for name, highest in (("Gauss–Legendre", 2 * N - 1), ("Gauss–Lobatto–Legendre", 2 * N - 3)):
        axis = of_family(name)
        y = np.asarray(axis.coordinates)
        assert integral(axis, y**highest) == pytest.approx(1 / (highest + 1), rel=1e-12)
        assert abs(integral(axis, (2 * y - 1) ** (highest + 1)) * (highest + 2) - 1) > 1e-7


def test_chebyshev_weights_are_those_of_clenshaw_and_curtis_in_closed_form() -> None:
    # n = 5: 1/15, 8/15, 4/5, 8/15, 1/15
    found = rule(of_family("Chebyshev–Lobatto", 5, -1, 1)).weights
    np.testing.assert_allclose(found, np.array([1, 8, 12, 8, 1]) / 15, rtol=1e-13)
    theta = np.pi * (np.arange(N) + 0.5) / N  # Fejér 1933
    k = np.arange(1, N // 2 + 1)
    fejer = 2 / N * (1 - 2 * (np.cos(2 * np.outer(theta, k)) / (4 * k**2 - 1)).sum(1))
    np.testing.assert_allclose(rule(of_family("Chebyshev–Gauss", N, -1, 1)).weights, fejer, rtol=1e-12)


@pytest.mark.parametrize("count", [4, 5, 32, 128, 512])
@every_family
def test_families_are_told_apart_also_in_single_precision(name: str, count: int) -> None:
    axis = of_family(name, count)
    single = wall(np.asarray(axis.coordinates, np.float32).astype(float), length=1.0)
    assert rule(axis).name == rule(single).name == name


def test_points_that_are_nearly_of_a_family_are_of_none() -> None:
    y = np.asarray(of_family("Chebyshev–Lobatto").coordinates)
    assert rule(wall(y + 0.02 * np.sin(np.pi * y))).name == "trapezoid"


def test_what_lies_beyond_the_outermost_points_is_theirs() -> None:
    cells = wall((np.arange(8) + 0.5) / 8, length=1.0)
    np.testing.assert_allclose(rule(cells).weights, 1 / 8)
    assert weights((cells, Axis.uniform("x", 4, 2.0))) is None
    nodes = wall(np.linspace(0, 1, 9))
    np.testing.assert_allclose(rule(nodes).weights, np.array([0.5, *[1] * 7, 0.5]) / 8)
    np.testing.assert_allclose(rule(cells).ends @ (3 * np.asarray(cells.coordinates) + 2), [2, 5], rtol=1e-13)


@every_family
def test_derivatives_and_ends_are_those_of_the_polynomial(name: str) -> None:
    for axis in (of_family(name, 24), wall(np.asarray(of_family(name, 24).coordinates)[::-1])):
        u = torch.tensor(axis.coordinates, dtype=torch.float64).mul(3).sin().expand(2, -1)
        slope = 3 * torch.tensor(axis.coordinates, dtype=torch.float64).mul(3).cos().expand(2, -1)
        torch.testing.assert_close(derivative(u, (axis,), 0), slope, rtol=0, atol=1e-10)
        ends = torch.tensor([0.0, np.sin(3.0)], dtype=torch.float64).expand(2, -1)
        torch.testing.assert_close(at_ends(u, (axis,), 0), ends, rtol=0, atol=1e-12)


def test_derivatives_on_any_points_are_of_second_order_also_at_the_walls() -> None:
    errors = []
    for count in (20, 40, 80, 160):
        y = np.linspace(0, 1, count + 1) ** 1.5
        errors.append(np.abs(rule(wall(y)).derivative @ np.sin(3 * y) - 3 * np.cos(3 * y))[[0, count // 2, count]])
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert (np.abs(orders[-1] - [3, 2, 2]) < 0.25).all(), orders  # the first cell shrinks as h^1.5


def test_derivatives_of_waves_are_exact_in_their_own_direction() -> None:
    for points in (np.arange(16) * 0.25, -np.arange(16) * 0.25):
        axis = Axis("x", tuple(points.tolist()), "periodic", 4.0)
        x = torch.from_numpy(points)
        u = torch.sin(np.pi / 2 * 3 * x)
        torch.testing.assert_close(derivative(u, (axis,), 0), np.pi / 2 * 3 * torch.cos(np.pi / 2 * 3 * x))
        assert rule(axis).weights.sum() == pytest.approx(4.0)


def test_an_axis_of_a_field_is_found_among_several() -> None:
    x, y = Axis.uniform("x", 8, 2.0), of_family("Chebyshev–Lobatto")
    px, py = torch.meshgrid(*(torch.tensor(a.coordinates, dtype=torch.float64) for a in (x, y)), indexing="ij")
    u = torch.stack([torch.sin(np.pi * px) * py**2] * 3)
    torch.testing.assert_close(derivative(u, (x, y), 0), np.pi * torch.cos(np.pi * px) * py**2 + 0 * u)
    torch.testing.assert_close(derivative(u, (x, y), 1), 2 * torch.sin(np.pi * px) * py + 0 * u)
    found = weights((x, y))
    assert found is not None and found.shape == (8, N) and found.mean() == pytest.approx(1)
    mean = (found * torch.exp(py)).mean()
    assert float(mean) == pytest.approx(np.e - 1, rel=1e-13)
    assert abs(float(torch.exp(py).mean()) / (np.e - 1) - 1) > 0.02


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_points_have_a_rule_too(count: int) -> None:
    axis = wall(np.linspace(0, 1, count), length=1.0)
    assert rule(axis).name == "trapezoid" and rule(axis).weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(rule(axis).derivative @ np.asarray(axis.coordinates), 1 if count > 1 else 0, rtol=1e-12)


# --- latitudes ------------------------------------------------------------------------------------------------------

LON = Axis("lon", tuple(np.arange(24) * 15.0), "periodic", 360.0, "degrees_east")
ROWS = {
    "Gauss–Legendre in sin φ": np.rad2deg(np.arcsin(special.roots_legendre(N)[0])),
    "Fejér in sin φ": -90 + (np.arange(N) + 0.5) * 180 / N,
    "Clenshaw–Curtis in sin φ": np.linspace(-90, 90, N),
    "cell areas": np.array([-85.0, -70, -58, -41, -22, -8, 6, 21, 39, 60, 72, 84]),
}
# The largest degree up to which all spherical harmonics but the first have no mean.
EXACT = {"Gauss–Legendre in sin φ": 2 * N - 1, "Fejér in sin φ": N - 1, "Clenshaw–Curtis in sin φ": N - 1}
every_latitude = pytest.mark.parametrize("name", list(ROWS))


def latitudes(rows: np.ndarray, **options: object) -> Axis:
    return Axis("lat", tuple(rows.tolist()), "pole", units="degrees_north", **options)  # type: ignore[arg-type]


@every_latitude
def test_latitudes_weigh_by_the_area_of_the_sphere_in_either_direction(name: str) -> None:
    north, south = latitudes(ROWS[name]), latitudes(ROWS[name][::-1])
    assert rule(north).name == rule(south).name == name and north.length == 180
    np.testing.assert_array_equal(rule(north).weights, rule(south).weights[::-1])
    area = rule(north).weights.sum() * rule(LON).weights.sum()
    assert area == pytest.approx(360**2 / np.pi, rel=1e-12)  # square degrees
    assert (rule(north).weights > 0).all()
    found = weights((north, LON))
    assert found is not None and found.shape == (N, 24) and float(found.mean()) == pytest.approx(1)


@pytest.mark.parametrize("name", list(EXACT))
def test_spherical_harmonics_have_no_mean_up_to_the_degree_of_the_rule(name: str) -> None:
    axes = latitudes(ROWS[name]), Axis.uniform("lon", 64, 360.0, units="degrees_east")
    found = weights(axes)
    assert found is not None
    highest = EXACT[name]
    means = (spherical_harmonics(ROWS[name], axes[1].coordinates, highest + 1) * found).mean((1, 2))
    assert float(means[0]) == pytest.approx(1 / np.sqrt(4 * np.pi), rel=1e-14)
    assert float(means[1 : (highest + 1) ** 2].abs().max()) < 1e-14
    if name == "Gauss–Legendre in sin φ":
        assert float(means[(highest + 1) ** 2 :].abs().max()) > 1e-3
    # Equally spaced rows integrate odd degrees by symmetry: the first that they miss is even.
    later = spherical_harmonics(ROWS[name], axes[1].coordinates, highest + 2)
    assert float((later * found).mean((1, 2)).abs().max()) > 1e-3


def test_cells_between_any_rows_integrate_to_second_order() -> None:
    errors = []
    for count in (20, 40, 80):
        rows = 90 * np.sin(np.linspace(-1.4, 1.4, count)) / np.sin(1.45)
        errors.append(abs(rule(latitudes(rows)).weights @ np.sin(np.deg2rad(rows)) ** 2 / np.rad2deg(2 / 3) - 1))
        assert rule(latitudes(rows)).name == "cell areas"
    assert errors[-1] < errors[0] / 10 and errors[0] < 0.02


def test_the_exact_areas_of_equal_cells_are_the_worse_rule() -> None:
    rows = ROWS["Fejér in sin φ"]
    areas = np.diff(np.sin(np.deg2rad(np.linspace(-90, 90, N + 1))))
    p2 = special.eval_legendre(2, np.sin(np.deg2rad(rows)))
    assert abs(areas @ p2) > 5e-3 and abs(rule(latitudes(rows)).weights @ p2) < 1e-13


def test_latitudes_are_recognised_in_single_precision() -> None:
    for name, rows in ROWS.items():
        assert rule(latitudes(np.float32(rows).astype(float))).name == name


def test_what_a_sphere_does_not_offer_is_an_error() -> None:
    axes, u = (latitudes(ROWS["Fejér in sin φ"]), LON), torch.zeros(N, 24)
    for call in (lambda: derivative(u, axes, 0), lambda: derivative(u, axes, 1), lambda: at_ends(u, axes, 0)):
        with pytest.raises(DataError, match=r"driftway\.sphere\.Transform"):
            call()
