"""The viscous Burgers equation, deterministic or stirred by noise of a known law."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    state ½s² = ν⟨u_x²⟩. Good values: ν = 0.02 with 256 points on 2π; s = 0.5 to 1.

    Arguments:
        viscosity: ν; 256 points on 2π resolve shocks of a jump below 2 down to 0.02
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
        self._require(self.viscosity > 0, "viscosity", "> 0")
        self._require(self.forcing >= 0, "forcing", "≥ 0")
        highest = int(self.dealiasing * (self.size[0] // 2) - 1)
        self._require(1 <= self.forced <= highest, "forced", f"within 1..{highest}, the resolved wavenumbers")

    def linear(self, k: tuple[Tensor, ...]) -> Tensor:
        return -self.viscosity * k[0] ** 2

    def nonlinear(self, v: Tensor) -> Tensor:
        return -0.5 * self.derivative(0) * self.to_modes(self.to_grid(v) ** 2)

    def initial(self, stream: Stream) -> Tensor:
        return self.amplitude * self.random_waves(stream, self.cutoff)

    def kicks(self, v: Tensor, stream: Stream | None) -> Tensor | None:
        if self.forcing == 0:
            return None
        if stream is None:
            raise ValueError("a forced Burgers solver draws from a stream with one row per batch row")
        normal = stream.normal(v.real.new_empty(len(v), self.substeps, 1, self.forced, 2))
        a, b = normal.transpose(0, 1).unbind(-1)
        # A real wave a·cos + b·sin of n points has the one-sided coefficient n/2·(a − ib).
        scale = self.size[0] / 2 * self.forcing * math.sqrt(self.dt / self.forced)
        kicks = v.new_zeros(self.substeps, *v.shape)
        kicks[..., 1 : self.forced + 1] = scale * torch.complex(a, -b)
        return kicks
