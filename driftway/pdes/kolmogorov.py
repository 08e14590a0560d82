"""Kolmogorov flow: two-dimensional turbulence under a steady shear force."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from driftway.data.axes import Fields
from driftway.pdes.spectral import SpectralPDE
from driftway.randomness import Stream


class EnstrophyBudget(NamedTuple):
    """The terms of d/dt ½⟨ω²⟩, each (B,)."""

    production: Tensor
    viscous: Tensor
    drag: Tensor
    total: Tensor


@dataclass(frozen=True)
class Kolmogorov(SpectralPDE):
    """Vorticity ω(x, y) of an incompressible flow on a periodic square, forced along y.

        ω_t + u·∇ω = ν Δω − λ ω − k cos(k y),   ω = ∂ₓv − ∂_y u,   ∇·(u, v) = 0

    The force on the velocity is (sin(k y), 0). States are (B, 1, nx, ny): x is the first space axis, y the
    second. Good values: ν = 0.005 and λ = 0.1 on 64², dt = 0.02; at ν = 0.002, 64² has the energy and enstrophy
    of finer grids but not their smallest filaments; 160² needs dt ≤ 0.01. The steady laminar flow is ω =
    −k cos(k y)/(ν k² + λ), unstable at these ν. With ν = 0.01 it is APEBench's flow (Koehler et al. 2024,
    arXiv:2411.00180), whose ω has the opposite sign: its states are ours with x reversed.

    Arguments:
        viscosity: ν
        drag: λ, ≥ 0
        mode: k, the number of forcing waves along y
        amplitude: max|ω| of random initial states
        cutoff: their largest wavenumber
    """

    size: tuple[int, ...] = (64, 64)
    length: tuple[float, ...] = (2 * math.pi, 2 * math.pi)
    dt: float = 0.02
    substeps: int = 5
    viscosity: float = 0.005
    drag: float = 0.1
    mode: int = 4
    amplitude: float = 1.0
    cutoff: int = 5

    fields: ClassVar[Fields] = Fields(("vorticity",), ("1",))

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(len(self.size) == 2, "size", "two numbers")
        self._require_waves(self.amplitude, self.cutoff)
        self._require(0 < self.viscosity < math.inf, "viscosity", "> 0 and finite")
        self._require(0 <= self.drag < math.inf, "drag", "≥ 0 and finite")
        highest = int(self.dealiasing * (self.size[1] // 2) - 1)
        self._require(1 <= self.mode <= highest, "mode", f"within 1..{highest}, the resolved waves along y")

    @property
    def symmetry(self) -> tuple[int, ...]:
        """Any shift along x; along y whole waves of the force (no shift where a wave is not whole cells)."""
        nx_shift, ny = 1, self.size[1]
        return nx_shift, ny // self.mode if ny % self.mode == 0 else 0

    def linear(self, k: tuple[Tensor, ...]) -> Tensor:
        return -self.viscosity * (k[0] ** 2 + k[1] ** 2) - self.drag

    def nonlinear(self, v: Tensor) -> Tensor:
        u, w, u_x, u_y = self.to_grid(v * self._advection).unbind(1)
        return self._force - self.to_modes(u * u_x + w * u_y)[:, None]

    def initial(self, stream: Stream) -> Tensor:
        return self.amplitude * self.random_waves(stream, self.cutoff)

    def velocity(self, state: Tensor) -> Tensor:
        """(u, v) as (B, 2, nx, ny) of the vorticity (B, 1, nx, ny); of zero mean, as only ω is known."""
        return self.to_grid(self.to_modes(self._working(state)) * self._advection[:2]).to(state)

    def enstrophy_budget(self, state: Tensor) -> EnstrophyBudget:
        """What changes the enstrophy of the states (B, 1, nx, ny); advection conserves it.

            d/dt ½⟨ω²⟩ = ⟨f ω⟩ − ν⟨|∇ω|²⟩ − λ⟨ω²⟩,   f = −k cos(k y)

        The three terms sum to zero on average over a stationary flow.
        """
        omega = self._working(state)
        # By parts, ⟨ωΔω⟩: the waves at the limit of the grid have no first derivative on it.
        laplacian = self.to_grid(
            self.to_modes(omega) * self.cast(-torch.stack(torch.broadcast_tensors(*self._squares)).sum(0))
        )
        production = (self.to_grid(self._force) * omega).mean((1, 2, 3))
        viscous = self.viscosity * (omega * laplacian).mean((1, 2, 3))
        drag = -self.drag * omega.square().mean((1, 2, 3))
        return EnstrophyBudget(production, viscous, drag, production + viscous + drag)

    def _working(self, state: Tensor) -> Tensor:
        return state.to(self.device, self._real)

    @cached_property
    def _advection(self) -> Tensor:
        """Multipliers that turn ω̂ into the modes of u, v, ∂ₓω and ∂_yω, by ψ = −Δ⁻¹ω, u = ∂_yψ, v = −∂ₓψ."""
        kx, ky = torch.broadcast_tensors(*self.wavenumbers)
        squared = kx**2 + ky**2
        inverse = torch.where(squared > 0, 1 / squared, 0.0)
        return self.cast(1j * torch.stack([ky * inverse, -kx * inverse, kx, ky]))

    @cached_property
    def _force(self) -> Tensor:
        nx, ny = self.size
        k = 2 * math.pi * self.mode / self.length[1]
        phase = 2 * math.pi * self.mode * torch.arange(ny, dtype=torch.float64) / ny
        return self.cast(self.to_modes((-k * torch.cos(phase)).expand(1, 1, nx, ny)))
