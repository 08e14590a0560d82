"""From spherical harmonics to the Gaussian grid, as PlaSim has both: triangular truncation, latitudes from the north.

    f(λ, μ) = Σ_m Σ_{n ≥ |m|} f_mn P_mn(μ) e^{imλ} ,    ½ ∫ P_mn² dμ = 1 ,    P_mn > 0 near μ = 1 for m ≤ n

with μ = sin φ; the sum over m < 0 is the conjugate of that over m > 0. Vorticity ζ and divergence D give the wind by
way of the stream function ψ = ∇⁻² ζ and the velocity potential χ = ∇⁻² D.
Reference: Krishnamurti et al. 2006, An Introduction to Global Spectral Modeling, ch. 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

RADIUS = 6371220.0  # of PlaSim's Earth, m


@dataclass(frozen=True)
class Synthesis:
    """Sums of harmonics up to the total wavenumber `truncation` on `latitudes` Gaussian latitudes, twice as many
    longitudes from 0 eastward.
    """

    truncation: int
    latitudes: int

    @cached_property
    def sines(self) -> np.ndarray:
        """μ of the Gaussian latitudes from north to south, (lat,)."""
        return np.polynomial.legendre.leggauss(self.latitudes)[0][::-1].copy()

    @cached_property
    def degrees(self) -> np.ndarray:
        """The latitudes in degrees north, (lat,)."""
        return np.rad2deg(np.arcsin(self.sines))

    @cached_property
    def orders(self) -> tuple[np.ndarray, np.ndarray]:
        """m and n of every mode, (modes,) each: order by order, degree by degree."""
        count = self.truncation + 1
        pairs = [(m, n) for m in range(count) for n in range(m, count)]
        m, n = np.array(pairs).T
        return m, n

    @cached_property
    def legendre(self) -> np.ndarray:
        """P_mn at the latitudes, (modes, lat)."""
        table = normalized_legendre(self.truncation, self.sines)
        return table[self.orders]

    @cached_property
    def derivative(self) -> np.ndarray:
        """(1 − μ²) dP_mn/dμ = (n + 1) ε_mn P_m,n−1 − n ε_m,n+1 P_m,n+1 , ε_mn² = (n² − m²)/(4n² − 1); (modes, lat)."""
        table = normalized_legendre(self.truncation + 1, self.sines)
        m, n = self.orders
        below = np.where((n > m)[:, None], table[m, np.maximum(n - 1, 0)], 0.0)
        return ((n + 1) * _epsilon(m, n))[:, None] * below - (n * _epsilon(m, n + 1))[:, None] * table[m, n + 1]

    def scalar(self, coefficients: np.ndarray) -> np.ndarray:
        """A scalar field (..., lat, lon) of coefficients (..., modes)."""
        return self._sum(coefficients, self.legendre)

    def wind(self, vorticity: np.ndarray, divergence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Eastward and northward wind (..., lat, lon) of the coefficients (..., modes) of ζ and D.

        u cos φ = (∂χ/∂λ − (1 − μ²) ∂ψ/∂μ)/a ,    v cos φ = (∂ψ/∂λ + (1 − μ²) ∂χ/∂μ)/a
        """
        m, n = self.orders
        inverse = np.where(n > 0, -(RADIUS**2) / np.maximum(n * (n + 1), 1), 0.0)
        stream, potential = vorticity * inverse, divergence * inverse
        scale = RADIUS * np.sqrt(1 - self.sines**2)[:, None]
        u = self._sum(1j * m * potential, self.legendre) - self._sum(stream, self.derivative)
        v = self._sum(1j * m * stream, self.legendre) + self._sum(potential, self.derivative)
        return u / scale, v / scale

    def _sum(self, coefficients: np.ndarray, table: np.ndarray) -> np.ndarray:
        longitudes = 2 * self.latitudes
        waves = np.zeros((*coefficients.shape[:-1], longitudes // 2 + 1, self.latitudes), complex)
        ends = np.cumsum([0, *range(self.truncation + 1, 0, -1)])
        for m, (start, end) in enumerate(pairwise(ends)):
            waves[..., m, :] = coefficients[..., start:end] @ table[start:end]
        return np.fft.irfft(np.swapaxes(waves, -1, -2), longitudes, norm="forward")


def normalized_legendre(truncation: int, sines: np.ndarray) -> np.ndarray:
    """P_mn(μ) for 0 ≤ m ≤ n ≤ truncation, (m, n, lat), by the recurrence in n that is stable.

    P_mm = √((2m + 1)/(2m)) cos φ P_m−1,m−1 ,    ε_m,n+1 P_m,n+1 = μ P_mn − ε_mn P_m,n−1
    """
    count = truncation + 1
    table = np.zeros((count, count + 1, len(sines)))
    cosines = np.sqrt(1 - sines**2)
    for m in range(count):
        table[m, m] = 1.0 if m == 0 else np.sqrt((2 * m + 1) / (2 * m)) * cosines * table[m - 1, m - 1]
        for n in range(m, count):
            before = _epsilon(m, n) * table[m, n - 1] if n > m else 0.0
            table[m, n + 1] = (sines * table[m, n] - before) / _epsilon(m, n + 1)
    return table[:, :count]


def _epsilon(m: np.ndarray | int, n: np.ndarray | int) -> np.ndarray:
    return np.sqrt((np.square(n) - np.square(m)) / (4.0 * np.square(n) - 1.0))
