"""The viscous Burgers equation, deterministic or stirred by noise of a known law."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from driftway.pdes.spectral import SpectralPDE
from driftway.randomness import Stream


@dataclass(frozen=True)
class Burgers(SpectralPDE):
    """Steepening and diffusing waves in one dimension, with optional forcing F that is white in time.

        u_t + ½(u²)_x = ν u_xx + Ḟ,   F = s·K^(−½)·Σ_{m=1..K} (a_m(t) cos(k_m x) + b_m(t) sin(k_m x))

    a_m, b_m are independent Wiener processes and k_m = 2πm/length. After every internal step of length dt the
    state gains ΔF exactly: a Gaussian field of zero mean and covariance s² dt K⁻¹ Σ_m cos(k_m(x − x′)), so of
    variance s² dt at each point. The splitting is of first order in dt, in law. In a statistically steady
    state ½s² = ν⟨u_x²⟩. A shock of jump J is exact to 0.3 % of the largest value where ν ≥ 0.4 J Δx, with Δx
    between points. Good values: 256 points on 2π, ν = 0.02 for jumps below 2; s = 0.5 with ν = 0.03.

    Arguments:
        viscosity: ν
        forcing: s, in units of u per √time; 0 is the deterministic equation
        forced: K, the number of forced wavenumbers
        amplitude: max|u| of random initial states
        cutoff: their largest wavenumber
    """

    size: tuple[int, ...] = (256,)
    dt: float = 0.01
    substeps: int = 10
    viscosity: float = 0.02
    forcing: float = 0.0
    forced: int = 3
    amplitude: float = 1.0
    cutoff: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(len(self.size) == 1, "size", "one number")
        self._require_waves(self.amplitude, self.cutoff)
        self._require(0 < self.viscosity < math.inf, "viscosity", "> 0 and finite")
        self._require(0 <= self.forcing < math.inf, "forcing", "≥ 0 and finite")
        highest = int(self.dealiasing * (self.size[0] // 2) - 1)
        self._require(1 <= self.forced <= highest, "forced", f"within 1..{highest}, the resolved wavenumbers")

    def linear(self, k: tuple[Tensor, ...]) -> Tensor:
        return -self.viscosity * k[0] ** 2

    def nonlinear(self, v: Tensor) -> Tensor:
        return self._flux * self.to_modes(self.to_grid(v) ** 2)

    def initial(self, stream: Stream) -> Tensor:
        return self.amplitude * self.random_waves(stream, self.cutoff)

    def kicks(self, v: Tensor, stream: Stream | None) -> Tensor | None:
        if self.forcing == 0:
            return None
        if stream is None:
            raise ValueError("a forced Burgers solver draws from a stream with one row per batch row")
        # Drawn in double precision, so that the noise is the same in either.
        normal = stream.normal(torch.empty(len(v), self.substeps, 1, self.forced, 2, dtype=torch.float64))
        a, b = normal.transpose(0, 1).unbind(-1)
        # A real wave a·cos + b·sin of n points has the one-sided coefficient n/2·(a − ib).
        scale = self.size[0] / 2 * self.forcing * math.sqrt(self.dt / self.forced)
        kicks = v.new_zeros(self.substeps, *v.shape)
        kicks[..., 1 : self.forced + 1] = self.cast(scale * torch.complex(a, -b))
        return kicks

    @cached_property
    def _flux(self) -> Tensor:
        return -0.5 * self.derivative(0)
