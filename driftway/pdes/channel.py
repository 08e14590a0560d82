"""Flow and heat between two walls, periodic along them: modes of diffusion, and the grids on which they are products.

The modes (B, n, K) of a channel are, for each of K wavenumbers along x, its Stokes modes and then its modes of heat:

    u = ∂_y ψ ,  w = −∂ₓψ ,  ψ = Σ aₖⱼ ψₖⱼ(y) eⁱᵏˣ ,      θ = Σ cₖⱼ eⱼ(y) eⁱᵏˣ

Velocity and θ vanish at the walls and ∇·(u, w) = 0 to rounding, whatever the modes are. They are orthonormal: the
kinetic energy is half the sum of |aₖⱼ|². Products are taken on a grid of 3/2 as many points along either axis, where
all integrals of them with modes are exact: nothing aliases, and advection conserves energy and ⟨θ²⟩.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from driftway.pdes import legendre


@dataclass(frozen=True)
class Channel:
    """The channel [0, width] × [0, 1], of `size` points along and across, in the precision `dtype`.

    Arguments:
        size: (nx, ny); waves below nx/2 and polynomials of a degree below ny are kept
        width: its length over its height
    """

    size: tuple[int, int]
    width: float
    dtype: torch.dtype
    device: str

    @property
    def flow(self) -> int:
        """How many of the modes of a wavenumber are the flow's; the others are the heat's."""
        return self.size[1] - 4

    @cached_property
    def y(self) -> Tensor:
        """Heights of the grid of states: Chebyshev points."""
        return legendre.chebyshev(self.size[1])

    @cached_property
    def k(self) -> Tensor:
        """Wavenumbers along x, (K,), float64."""
        return 2 * math.pi / self.width * torch.arange(self.size[0] // 2, dtype=torch.float64)

    @cached_property
    def rates(self) -> tuple[Tensor, Tensor]:
        """At unit diffusivity flow and heat decay at these rates, (n, K) each, float64."""
        return self._stokes.rates.T, self._heat.rates[:, None] + self.k**2

    # --- modes to grid ---------------------------------------------------------------------------------------------

    def products_grid(self, v: Tensor) -> Tensor:
        """u, w, the vorticity ∂ₓw − ∂_yu and θ on the fine grid: (B, 4, ny·3/2, nx·3/2), y before x."""
        return self._along(self._fields(v, self._fine), self._fine_width)

    def states_grid(self, v: Tensor) -> Tensor:
        """u, w, the vorticity and θ on the grid of states: (B, 4, ny, nx), y before x."""
        return self._along(self._fields(v, self._coarse), self.size[0])

    def pressure_grid(self, p: Tensor) -> Tensor:
        """Pressure modes on the grid of states: (B, ny, nx)."""
        at = self._coarse[: self.size[1]] @ self._table(self._pressure.coefficients.T)
        return self._along(_across(at, p), self.size[0])

    def _fields(self, v: Tensor, table: Tensor) -> Tensor:
        psi, slope, curvature = _across(table, self._stream(v)).chunk(3, 1)
        theta = _across(table[: len(table) // 3] @ self._heat_table.T, v[:, self.flow :])
        return torch.stack([slope, -self._ik * psi, self._k2 * psi - curvature, theta], 1)

    def _stream(self, v: Tensor) -> Tensor:
        """Legendre coefficients (B, ny, K) of ψ."""
        return _per_wave(self._stokes_table.mT, v[:, : self.flow])

    def _along(self, rows: Tensor, count: int) -> Tensor:
        return torch.fft.irfft(rows, n=count, norm="forward")

    # --- grid to modes ---------------------------------------------------------------------------------------------

    def from_products(self, products: Tensor) -> Tensor:
        """Legendre coefficients (B, ·, ny, K) of values on the fine grid (B, ·, ny·3/2, nx·3/2)."""
        return _across(self._integrate, self._waves(products))

    def from_states(self, fields: Tensor) -> Tensor:
        """Legendre coefficients (B, ·, ny, K) of values on the grid of states (B, ·, ny, nx)."""
        return _across(self._interpolate, self._waves(fields))

    def _waves(self, fields: Tensor) -> Tensor:
        return torch.fft.rfft(fields, norm="forward")[..., : len(self.k)]

    def onto_flow(self, u: Tensor, w: Tensor) -> Tensor:
        """The flow's modes of a vector field: ∫ψ'u + ikψw, which sees nothing of its gradients."""
        return _per_wave(self._stokes_table, _across(self._slope.T, u) + self._ik * w)

    def onto_heat(self, f: Tensor) -> Tensor:
        """The heat's modes of a field: ∫ef."""
        return _across(self._heat_table, f)

    def convergence(self, u: Tensor, w: Tensor) -> Tensor:
        """The heat's modes of −∇·(u, w): ∫e'w − ikeu."""
        return _across(self._heat_table, _across(self._slope.T, w) - self._ik * u)

    def onto_pressure(self, u: Tensor, w: Tensor, v: Tensor, viscosity: Tensor) -> Tensor:
        """Modes (B, ny, K) of the p that balances the gradients in (u, w) + ν Δ(flow), of mean 0.

        ∫∇p·∇q = ∫((u, w) + ν Δ(flow))·∇q for every q, where Δ(flow) = (−∂_yω, ∂ₓω) leaves ikν[ωq] at the walls.
        """
        psi = self._stream(v)
        vorticity = self._k2 * psi - _across(self._slope @ self._slope, psi)
        w = w + viscosity * self._ik * vorticity
        u = u - viscosity * _across(self._slope, vorticity)
        gradients = _across(self._slope.T, w) - self._ik * u
        rates = self._table(self._pressure.rates)[:, None] + self._k2
        return _across(self._table(self._pressure.coefficients), gradients) * torch.where(rates > 1e-3, 1 / rates, 0.0)

    # --- numbers of fields -----------------------------------------------------------------------------------------

    @cached_property
    def product_heights(self) -> Tensor:
        """Heights of the fine grid: Gauss points."""
        return legendre.gauss(self._fine_height)[0]

    def mean(self, field: Tensor) -> Tensor:
        """The mean (B,) of a field (B, ny·3/2, nx·3/2) on the fine grid, exact for products of two."""
        return self._table(legendre.gauss(self._fine_height)[1]) @ field.mean(-1).T

    def wall_slopes(self, v: Tensor) -> Tensor:
        """∂_y⟨θ⟩ at either wall, (B, 2)."""
        walls = legendre.values(self.size[1], torch.tensor([0.0, 1.0])) @ legendre.derivative(self.size[1])
        return v[:, self.flow :, 0].real @ self._heat_table @ self._table(walls.T)

    def turnover(self, velocity: Tensor) -> Tensor:
        """The largest |u|/Δx + |w|/Δy of velocities (B, 2, ·, ·) on the fine grid: (B,), cells crossed in unit time."""
        u, w = velocity.abs().unbind(1)
        return (u * (self.size[0] / self.width) + w / self._cells).amax((1, 2))

    @cached_property
    def _cells(self) -> Tensor:
        """Δy around the heights of the fine grid, of the coarser grid that the modes are worth."""
        return self._table(torch.gradient(self.product_heights)[0] * (self._fine_height / self.size[1]))[:, None]

    @property
    def _fine_width(self) -> int:
        return 3 * self.size[0] // 2

    @property
    def _fine_height(self) -> int:
        return -(-3 * self.size[1] // 2)

    # --- tables ----------------------------------------------------------------------------------------------------

    def _table(self, table: Tensor) -> Tensor:
        return table.to(self.device, self.dtype)

    @cached_property
    def _stokes(self) -> legendre.Modes:
        return legendre.stokes(self.size[1], self.k)

    @cached_property
    def _heat(self) -> legendre.Modes:
        return legendre.dirichlet(self.size[1])

    @cached_property
    def _pressure(self) -> legendre.Modes:
        return legendre.neumann(self.size[1])

    @cached_property
    def _stokes_table(self) -> Tensor:
        return self._table(self._stokes.coefficients)

    @cached_property
    def _heat_table(self) -> Tensor:
        return self._table(self._heat.coefficients)

    @cached_property
    def _slope(self) -> Tensor:
        return self._table(legendre.derivative(self.size[1]))

    @cached_property
    def _ik(self) -> Tensor:
        return 1j * self._table(self.k)

    @cached_property
    def _k2(self) -> Tensor:
        return self._table(self.k**2)

    @cached_property
    def _fine(self) -> Tensor:
        return self._evaluation(self.product_heights)

    @cached_property
    def _coarse(self) -> Tensor:
        return self._evaluation(self.y)

    def _evaluation(self, y: Tensor) -> Tensor:
        """Legendre coefficients to f, f' and f'' at some heights, one below the other: (3 heights, ny)."""
        at, slope = legendre.values(self.size[1], y), legendre.derivative(self.size[1])
        return self._table(torch.cat([at, at @ slope, at @ slope @ slope]))

    @cached_property
    def _integrate(self) -> Tensor:
        y, weights = legendre.gauss(self._fine_height)
        return self._table(legendre.values(self.size[1], y).T * weights)

    @cached_property
    def _interpolate(self) -> Tensor:
        return self._table(torch.linalg.inv(legendre.values(self.size[1], self.y)))


def _across(matrix: Tensor, f: Tensor) -> Tensor:
    """A real matrix (p, n) times complex columns (..., n, K)."""
    real = torch.view_as_real(f.contiguous()).flatten(-2)
    return torch.view_as_complex((matrix @ real).unflatten(-1, (-1, 2)))


def _per_wave(matrices: Tensor, f: Tensor) -> Tensor:
    """A real matrix (K, p, n) of each wavenumber times the complex columns (B, n, K)."""
    real = torch.view_as_real(f.permute(2, 1, 0).contiguous()).flatten(-2)
    return torch.view_as_complex((matrices @ real).unflatten(-1, (-1, 2))).permute(2, 1, 0)
