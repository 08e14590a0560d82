"""Functions on the sphere: spherical harmonics, transforms and quadrature, at latitudes and longitudes in degrees.

    Y_lm(φ, λ) = P̄_l|m|(sin φ) · (√2 cos mλ, 1, √2 sin |m|λ)    for m > 0, m = 0, m < 0

P̄ are the associated Legendre functions without the sign (−1)^m of Condon and Shortley, scaled so that the Y_lm are
orthonormal: ∫ Y_lm Y_l'm' dΩ = δ over the unit sphere, whose area is 4π. Transforms have complex coefficients instead,

    f(φ, λ) = Σ_l Σ_|m|≤l f̂_lm P̄_l|m|(sin φ) e^{imλ} ,   f̂_l,−m = f̂_lm* ,

of which those with m ≥ 0 are kept: (..., l, m), with zeros for m > l.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.polynomial import chebyshev
from numpy.polynomial.legendre import leggauss
from torch import Tensor, nn

from driftway.errors import DataError

CLOSE = 1e-3  # of a row's distance to the next, by which it may miss its place on a known grid
# Whether there is a row on the pole at the first and at the last end of an axis of latitudes.
POLES = {"pole": (False, False), "pole-first": (True, False), "pole-last": (False, True), "pole-both": (True, True)}


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


# --- grids ---------------------------------------------------------------------------------------------------------


def gaussian_latitudes(count: int) -> Tensor:
    """The latitudes (count,) whose sines are Gauss's nodes, from south to north, in degrees and float64."""
    return torch.rad2deg(torch.asin(torch.from_numpy(leggauss(count)[0])))


def poles(lat: Sequence[float]) -> str:
    """The name in POLES that says at which ends of these latitudes there is a row on the pole."""
    ends = tuple(bool(abs(lat[end]) > 90 - 1e-4) for end in (0, -1))
    return next(name for name, rows in POLES.items() if rows == ends)


@lru_cache(maxsize=64)
def quadrature(lat: tuple[float, ...]) -> tuple[str, np.ndarray]:
    """The rule of an axis of latitudes by name, and its weights (nlat,): ∫ f cos φ dφ ≈ Σ wⱼ fⱼ from pole to pole.

    - rows whose sines are Gauss's nodes: his weights, exact for harmonics up to the degree 2n − 1;
    - equally spaced rows, with both poles or half a cell off them: Clenshaw and Curtis' or Fejér's weights in sin φ,
      exact up to the degree n − 1;
    - any others: the areas of the cells between the middles of neighbours, of second order.

    Rows are recognised to a thousandth of their distance, in whichever direction they run. Reference: Waldvogel 2006,
    BIT 46, 195.
    """
    rows = np.asarray(lat, dtype=float)
    if len(rows) > 1 and rows[-1] < rows[0]:
        name, weights = quadrature(tuple(rows[::-1].tolist()))
        return name, weights[::-1]
    count = len(rows)
    near = np.diff(rows).min() if count > 1 else 90.0
    for name, family in ROWS.items():
        nodes = family(count)
        if len(nodes) == count and (np.abs(np.rad2deg(np.arcsin(nodes)) - rows) < CLOSE * near).all():
            return name, leggauss(count)[1] if name == GAUSS else _through_all(nodes)
    return "cell areas", cell_areas(lat)


def cell_areas(lat: tuple[float, ...]) -> np.ndarray:
    """sin φ between the edges of each row, (nlat,): the middles between neighbours, and the poles. They add up to 2.

    The weights of WeatherBench 2 (Rasp et al. 2024, arXiv 2308.15560), of second order.
    """
    rows = np.asarray(lat, dtype=float)
    if len(rows) > 1 and rows[-1] < rows[0]:
        return cell_areas(tuple(rows[::-1].tolist()))[::-1]
    edges = np.concatenate([[-90.0], (rows[1:] + rows[:-1]) / 2, [90.0]])
    return np.diff(np.sin(np.deg2rad(edges)))


GAUSS = "Gauss–Legendre in sin φ"
ROWS = {
    GAUSS: lambda n: leggauss(n)[0],
    "Fejér in sin φ": lambda n: -np.cos(np.pi * (np.arange(n) + 0.5) / n),
    "Clenshaw–Curtis in sin φ": lambda n: -np.cos(np.pi * np.arange(n) / max(n - 1, 1)),
}


def _through_all(nodes: np.ndarray) -> np.ndarray:
    """The integral over −1 … 1 of the polynomial through all nodes, in Chebyshev's polynomials."""
    k = np.arange(0, len(nodes), 2)
    moments = np.zeros(len(nodes))
    moments[::2] = 2 / (1.0 - k**2)
    return np.linalg.solve(chebyshev.chebvander(nodes, len(nodes) - 1).T, moments)


# --- transforms ----------------------------------------------------------------------------------------------------


class Transform(nn.Module):
    """Fields (..., nlat, nlon) on a grid of the sphere ↔ coefficients (..., degree + 1, degree + 1) of a triangle.

    Arguments:
        lat: rows in degrees, in either direction
        lon: degrees, rising by equal steps once around
        degree: the largest total degree l; None: the largest that the grid tells apart

    Coefficients are those of the harmonics that fit the field best, in least squares with the areas as weights: sums
    with Gauss's weights on his rows, and the inverse of `synthesis` on every grid. The degree is at most the number of
    rows beside the poles, and below the number of rows and half that of longitudes. Linear, differentiable and batched;
    in the type of its input, with tables made in float64. `radius` is that of the sphere, in whose unit of length winds
    and derivatives are. Raises DataError for a degree that the grid does not tell apart and for other longitudes.
    """

    table: Tensor
    inverse: Tensor
    turn: Tensor
    spin: Tensor
    unspin: Tensor
    rates: Tensor

    def __init__(
        self,
        lat: Sequence[float] | Tensor,
        lon: Sequence[float] | Tensor,
        degree: int | None = None,
        radius: float = 1.0,
    ):
        super().__init__()
        rows, angles = latitudes(lat), torch.deg2rad(_doubles(lon))
        degrees = tuple(torch.rad2deg(rows).tolist())
        self.shape, self.radius = (len(rows), len(angles)), radius
        most = largest_degree(degrees, len(angles))
        self.degree = most if degree is None else degree
        _check_longitudes(angles)
        if not 0 <= self.degree <= most:
            raise DataError(f"a grid of {self.shape} tells degrees up to {most} apart, {degree} is asked: take fewer")
        weights = torch.from_numpy(quadrature(degrees)[1].copy())
        m = torch.arange(self.degree + 1, dtype=torch.float64)
        table, spin = legendre(torch.sin(rows), self.degree), _spins(torch.sin(rows), self.degree)
        for name, buffer in {
            "table": table,
            "inverse": _least_squares(table, weights),
            "turn": torch.exp(-1j * m * angles[0]),
            "spin": spin,
            "unspin": torch.stack([_least_squares(one, weights) for one in spin]),
            "rates": m * (m + 1) / radius**2,
        }.items():
            self.register_buffer(name, buffer, persistent=False)

    def analysis(self, f: Tensor) -> Tensor:
        """Coefficients of real fields."""
        return _contracted(self._waves(f), self.inverse)

    def synthesis(self, coefficients: Tensor) -> Tensor:
        """Real fields of coefficients."""
        return self._field(_contracted(coefficients, self.table.mT))

    def laplacian(self, coefficients: Tensor) -> Tensor:
        """∇²f: −l(l + 1)/a² f̂_lm on a sphere of radius a."""
        return -self.rates.to(coefficients.real)[:, None] * coefficients

    def inverse_laplacian(self, coefficients: Tensor) -> Tensor:
        """The field without a mean whose Laplacian is this one without its mean."""
        return -self._inverse_rates(coefficients) * coefficients

    def gradient(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """∂f/∂λ / (a cos φ) and ∂f/∂φ / a, eastward and northward, as fields; at the poles along their meridians."""
        north, east = (self.spin[0] + self.spin[1]) / 2, (self.spin[0] - self.spin[1]) / 2
        waves = _contracted(coefficients, east.mT) * 1j, _contracted(coefficients, north.mT)
        return self._field(waves[0] / self.radius), self._field(waves[1] / self.radius)

    def winds(self, vorticity: Tensor, divergence: Tensor) -> tuple[Tensor, Tensor]:
        """Eastward and northward wind, as fields, of coefficients of ζ and δ whose means do not count.

        u = a Σ (∂_φP̄ ζ̂ − i mP̄/cos φ δ̂)/(l(l + 1)) e^{imλ} ,   v = −a Σ (i mP̄/cos φ ζ̂ + ∂_φP̄ δ̂)/(l(l + 1)) e^{imλ}
        """
        scale = self._inverse_rates(vorticity) / self.radius
        plus, minus = (
            _contracted(scale * (vorticity - sign * 1j * divergence), table.mT)
            for sign, table in zip((1, -1), self.spin, strict=True)
        )
        return self._field((plus + minus) / 2), self._field((plus - minus) / 2j)

    def vorticity_divergence(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients of ζ = k·∇×(u, v) and δ = ∇·(u, v) of winds, the inverse of `winds`."""
        east, north = self._waves(u), self._waves(v) * 1j
        plus, minus = (
            _contracted(east + sign * north, table) for sign, table in zip((1, -1), self.unspin, strict=True)
        )
        scale = self.rates.to(plus.real)[:, None] * self.radius
        return scale * (plus + minus) / 2, scale * (plus - minus) * 0.5j

    def check(self, f: Tensor) -> None:
        """Raise DataError for fields on another grid."""
        if f.shape[-2:] != self.shape:
            raise DataError(f"this transform is for grids of {self.shape}, got fields of {tuple(f.shape[-2:])}")

    def _inverse_rates(self, like: Tensor) -> Tensor:
        rates = self.rates.to(like.real)[:, None]
        return torch.where(rates > 0, 1 / rates, 0)

    def _waves(self, f: Tensor) -> Tensor:
        """Waves e^{imλ} along each row: (..., nlat, degree + 1)."""
        self.check(f)
        waves = torch.fft.rfft(f, norm="forward")[..., : self.degree + 1]
        return waves * self.turn.to(waves)

    def _field(self, waves: Tensor) -> Tensor:
        return torch.fft.irfft(waves * self.turn.conj().to(waves), n=self.shape[1], norm="forward")


def largest_degree(lat: Sequence[float], longitudes: int) -> int:
    """The largest degree that a grid tells apart: its rows beside the poles, below rows and half the longitudes."""
    beside = sum(abs(row) <= 90 - 1e-4 for row in lat)
    return min(len(lat) - 1, beside, (longitudes - 1) // 2)


def power(coefficients: Tensor) -> Tensor:
    """Power by total degree (..., degree + 1) of coefficients (..., l, m), P_l = Σ_m |f̂_lm|²/4π: Σ_l P_l = ⟨f²⟩."""
    squares = coefficients.abs().square()
    return (2 * squares.sum(-1) - squares[..., 0]) / (4 * math.pi)


def _contracted(x: Tensor, table: Tensor) -> Tensor:
    """Σ_a T_mba x_am: (..., a, m) → (..., b, m) by a real table (m, b, a)."""
    real = torch.view_as_real(x)
    found = torch.einsum("...amr,mba->...bmr", real, table.to(real))
    return torch.view_as_complex(found.contiguous())


def _least_squares(table: Tensor, weights: Tensor) -> Tensor:
    """(T W Tᵀ)⁻¹ T W for each order: what undoes a table (m, l, nlat), zero where that is."""
    weighted = table * weights
    gram = weighted @ table.mT
    empty = torch.diag_embed((gram.diagonal(dim1=1, dim2=2) == 0).double())
    return torch.linalg.solve(gram + empty, weighted)


def _spins(heights: Tensor, degree: int) -> Tensor:
    """∂_φP̄_lm ± mP̄_lm/cos φ at sin φ = `heights`, finite at the poles: (2, m, l, nlat).

    ∂_φP̄_lm = ½ (√((l − m)(l + m + 1)) P̄_l,m+1 − √((l + m)(l − m + 1)) P̄_l,m−1)
    m P̄_lm / cos φ = ½ √((2l + 1)/(2l − 1)) (√((l − m)(l − m − 1)) P̄_l−1,m+1 + √((l + m)(l + m − 1)) P̄_l−1,m−1)
    """
    table = legendre(heights, degree)
    m = torch.arange(degree + 1, dtype=torch.float64)[:, None, None]
    n = m.transpose(0, 1)
    nothing = torch.zeros_like(table[:1])
    above = torch.cat([table[1:], nothing])
    below = torch.cat([-table[1:2] if degree else nothing, table[:-1]])  # P̄_l,−1 = −P̄_l1
    north = (_root((n - m) * (n + m + 1)) * above - _root((n + m) * (n - m + 1)) * below) / 2
    across = _root((n - m) * (n - m - 1)) * _lower(above) + _root((n + m) * (n + m - 1)) * _lower(below)
    east = torch.where(n > 0, torch.sqrt((2 * n + 1) / (2 * n - 1).clamp_min(1)) * across / 2, 0)
    inside = n >= m
    return torch.stack([north + east, north - east]) * inside


def _root(squares: Tensor) -> Tensor:
    return squares.clamp_min(0).sqrt()


def _lower(table: Tensor) -> Tensor:
    """The entries of the degree below."""
    return torch.cat([torch.zeros_like(table[:, :1]), table[:, :-1]], 1)


def _check_longitudes(angles: Tensor) -> None:
    steps = torch.diff(angles, append=angles[:1] + 2 * math.pi)
    if not bool((steps - 2 * math.pi / len(angles)).abs().lt(CLOSE * 2 * math.pi / len(angles)).all()):
        raise DataError(f"longitudes must rise by equal steps once around, got {torch.rad2deg(angles[:4]).tolist()} …")


def _doubles(values: Sequence[float] | Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)
