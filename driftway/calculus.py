"""Integrals and derivatives along an axis, as its points and its boundary make them.

The points alone say which rule an axis has: Fourier where it is periodic, the polynomial through all points where they
are those of Gauss or Lobatto, and trapezoids with three-point derivatives on any others. Latitudes that end at poles
weigh by the area of the sphere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

from driftway.data.axes import Axis, is_sphere
from driftway.errors import DataError
from driftway.sphere import cell_areas, quadrature

FEWEST = 4  # points of a family: three that lie symmetric are those of every one
CLOSE = 1e-3  # of the distance to the next point, by which points may miss those of a family


@dataclass(frozen=True)
class Rule:
    """What linear maps of values u (n,) at the points of an axis give.

    weights (n,): ∫ u dx ≈ Σ wᵢ uᵢ over the extent of the domain; derivative (n, n): du/dx at the points; ends (2, n): u
    at the lower and at the upper end of the domain, where there need not be a point. All in float64. Latitudes have
    weights alone, ∫ u cos φ dφ ≈ Σ wᵢ uᵢ in degrees, so that those of a sphere add up to its 360²/π square degrees.
    """

    name: str
    weights: np.ndarray
    derivative: np.ndarray | None
    ends: np.ndarray | None


@lru_cache(maxsize=64)
def rule(axis: Axis) -> Rule:
    """How to integrate and differentiate along an axis.

    - periodic: equal weights and the derivative of the waves, exact for waves shorter than Nyquist's;
    - points of Gauss or Lobatto, Legendre's or Chebyshev's (roots or extrema), on any interval: the weights, derivative
      and ends of the polynomial through all n points, exact up to degree n − 1 (Gauss–Legendre weights up to 2n − 1,
      Gauss–Lobatto–Legendre up to 2n − 3). Of Chebyshev's these are Fejér's and Clenshaw and Curtis' weights;
    - any others: trapezoids, of second order, and derivatives by three points, of second order. Where the axis's
      `length` is more than the distance of its outermost points, half of the rest belongs to each of them, so that
      equal cells weigh alike; the ends are extrapolated linearly;
    - latitudes from pole to pole: the weights of `driftway.sphere.quadrature`, and neither derivatives nor ends.

    Families are recognised from four points on, by their coordinates to a thousandth of the distance to the next point.
    Waldvogel 2006 (Fejér, Clenshaw–Curtis); Trefethen 2000 (derivatives).
    """
    points = np.asarray(axis.coordinates)
    if axis.boundary == "periodic":
        return _fourier(len(points), axis.length, bool(points[-1] < points[0]))
    if axis.boundary == "pole":
        name, areas = quadrature(axis.coordinates)
        return Rule(name, np.rad2deg(areas), None, None)
    if points[-1] < points[0]:
        ahead = rule(_reversed(axis))
        slopes, ends = _given(ahead.derivative), _given(ahead.ends)
        return Rule(ahead.name, ahead.weights[::-1], slopes[::-1, ::-1], ends[:, ::-1])
    return _polynomial(points) or _pieces(points, axis.length)


def _given(matrix: np.ndarray | None) -> np.ndarray:
    if matrix is None:
        raise DataError(
            "fields have no derivatives or ends along a latitude alone, as a degree of longitude shrinks towards the "
            "poles: take driftway.sphere.Transform, its gradient, winds or vorticity_divergence"
        )
    return matrix


def derivative(u: Tensor, axes: Sequence[Axis], along: int) -> Tensor:
    """∂u/∂x of fields (..., *S) along the axis numbered `along`. Raises DataError on a sphere."""
    axis = along - len(axes)
    slopes = None if is_sphere(axes) else rule(axes[along]).derivative
    matrix = torch.from_numpy(np.ascontiguousarray(_given(slopes))).to(u)
    return (u.movedim(axis, -1) @ matrix.T).movedim(-1, axis)


def at_ends(u: Tensor, axes: Sequence[Axis], along: int) -> Tensor:
    """Fields (..., *S) at both ends of the domain along an axis, in its place: lower, then upper."""
    axis = along - len(axes)
    matrix = torch.from_numpy(np.ascontiguousarray(_given(rule(axes[along]).ends))).to(u)
    return (u.movedim(axis, -1) @ matrix.T).movedim(-1, axis)


def weights(axes: Sequence[Axis], areas: bool = False) -> Tensor | None:
    """Quadrature weights (*S) of the mean over space, one on average; None where all points weigh alike.

    areas: weigh latitudes from pole to pole by the areas of their cells, as WeatherBench 2 does, whatever their rule
    """
    found = np.ones(())
    for axis in axes:
        own = cell_areas(axis.coordinates) if areas and axis.boundary == "pole" else rule(axis).weights
        found = found[..., None] * (own / own.mean())
    return None if np.allclose(found, 1, rtol=1e-6) else torch.from_numpy(found)


def _reversed(axis: Axis) -> Axis:
    return Axis(axis.name, axis.coordinates[::-1], axis.boundary, axis.length, axis.units, axis.symmetry)


# --- periodic ------------------------------------------------------------------------------------------------------


def _fourier(count: int, length: float, falling: bool) -> Rule:
    k = 2j * np.pi / length * np.fft.rfftfreq(count, 1 / count)
    if count % 2 == 0:
        k[-1] = 0  # the shortest wave has no slope at the points
    matrix = np.fft.irfft(k[:, None] * np.fft.rfft(np.eye(count), axis=0), count, axis=0)
    ends = np.zeros((2, count))
    ends[:, 0] = 1
    return Rule("Fourier", np.full(count, length / count), -matrix if falling else matrix, ends)


# --- points of polynomials -----------------------------------------------------------------------------------------


def _jacobi(count: int) -> np.ndarray:
    """The roots of P'_{count + 1}, between which and ±1 Lobatto's weights are Legendre's."""
    k = np.arange(1, count)
    beside = np.sqrt(k * (k + 2) / ((2 * k + 1) * (2 * k + 3)))
    return np.linalg.eigvalsh(np.diag(beside, 1) + np.diag(beside, -1))


FAMILIES: dict[str, Callable[[int], np.ndarray]] = {
    "Gauss–Lobatto–Legendre": lambda n: np.concatenate([[-1.0], _jacobi(n - 2), [1.0]]),
    "Gauss–Legendre": lambda n: legendre.leggauss(n)[0],
    "Chebyshev–Lobatto": lambda n: -np.cos(np.pi * np.arange(n) / (n - 1)),
    "Chebyshev–Gauss": lambda n: -np.cos(np.pi * (np.arange(n) + 0.5) / n),
}


@lru_cache(maxsize=64)
def _nodes(name: str, count: int) -> np.ndarray:
    return FAMILIES[name](count)


def _polynomial(points: np.ndarray) -> Rule | None:
    """The rule of rising points if they are those of a family, from −1 to 1 moved and stretched."""
    count = len(points)
    if count < FEWEST:
        return None
    near = np.minimum(np.diff(points, prepend=-np.inf), np.diff(points, append=np.inf))
    allowed = CLOSE * near + np.finfo(np.float32).eps * np.abs(points).max()  # files keep points in single precision
    for name in FAMILIES:
        nodes = _nodes(name, count)
        half = (points[-1] - points[0]) / (nodes[-1] - nodes[0])
        if (np.abs(points[0] + half * (nodes - nodes[0]) - points) < allowed).all():
            return _through_all(name, nodes, half)
    return None


def _through_all(name: str, nodes: np.ndarray, half: float) -> Rule:
    """The rule of the polynomial through all nodes, in Legendre's polynomials."""
    count = len(nodes)
    basis = legendre.legvander(nodes, count - 1)
    slopes = basis[:, :-1] @ legendre.legder(np.eye(count))
    moments = np.zeros(count)
    moments[0] = 2  # ∫ Pₖ is 2 for k = 0 and nothing for others
    to_coefficients = np.linalg.inv(basis)
    ends = legendre.legvander(np.array([-1.0, 1.0]), count - 1)
    return Rule(name, half * (moments @ to_coefficients), slopes @ to_coefficients / half, ends @ to_coefficients)


# --- any others ----------------------------------------------------------------------------------------------------


def _pieces(points: np.ndarray, length: float) -> Rule:
    """Trapezoids and parabolas through neighbours, of rising points."""
    count = len(points)
    if count == 1:
        return Rule("trapezoid", np.array([length]), np.zeros((1, 1)), np.ones((2, 1)))
    beyond = max(length - (points[-1] - points[0]), 0.0) / 2
    steps = np.diff(points)
    weights = np.concatenate([[beyond], steps / 2]) + np.concatenate([steps / 2, [beyond]])
    matrix = np.asarray(np.gradient(np.eye(count), points, axis=0, edge_order=2 if count > 2 else 1))
    ends = np.zeros((2, count))
    ends[0, :2] = 1 + beyond / steps[0], -beyond / steps[0]
    ends[1, -2:] = -beyond / steps[-1], 1 + beyond / steps[-1]
    return Rule("trapezoid", weights, matrix, ends)
