"""States by what they mean: velocity, buoyancy and vorticity by name, and their means and gradients.

Names count without regard to case. Derivatives and means follow the axes (`driftway.calculus`): waves where an axis is
periodic, polynomials or three-point differences across walls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from driftway.calculus import at_ends, derivative, rule
from driftway.data.layout import Layout

# What fields and parameters may be called; a velocity along the axis x is velocity_x, v_x or u_x.
FIELDS = {"buoyancy": ("buoyancy", "temperature", "b"), "vorticity": ("vorticity", "omega")}
PARAMETERS = {
    "rayleigh": ("rayleigh", "ra"),
    "prandtl": ("prandtl", "pr"),
    "viscosity": ("viscosity", "nu"),
    "diffusivity": ("diffusivity", "kappa"),
}
COMPONENTS = ("velocity", "v", "u")


def _named(names: Iterable[str], wanted: Iterable[str]) -> str:
    """The first of the wanted names that is there, as it is written there; '' without any."""
    found = {name.casefold(): name for name in reversed(list(names))}
    return next((found[name.casefold()] for name in wanted if name.casefold() in found), "")


def known(layout: Layout, parameters: Iterable[str] = ()) -> frozenset[str]:
    """What can be said of states of this layout, whose trajectories have these parameters.

    'velocity': a component for each axis, or what of it follows from the vorticity of a periodic plane; 'components':
    the former; 'vorticity'; 'buoyancy'; 'wall': one axis between walls and all others periodic; 'viscosity' and
    'diffusivity': as parameters, or by Rayleigh and Prandtl numbers, then also 'convection'.
    """
    names, plane = layout.fields.names, layout.space == 2
    found = {role for role, aliases in FIELDS.items() if _named(names, aliases)}
    if all(_component(layout, axis) for axis in range(layout.space)):
        found |= {"velocity", "components"} | ({"vorticity"} if plane else set())
    elif plane and "vorticity" in found and set(layout.boundary) == {"periodic"}:
        found.add("velocity")
    if sorted(layout.boundary) == ["periodic"] * (layout.space - 1) + ["wall"]:
        found.add("wall")
    given = list(parameters)
    found |= {role for role in ("viscosity", "diffusivity") if _named(given, PARAMETERS[role])}
    if all(_named(given, PARAMETERS[role]) for role in ("rayleigh", "prandtl")):
        found |= {"viscosity", "diffusivity", "convection"}
    return frozenset(found)


def _component(layout: Layout, axis: int) -> str:
    name = layout.axes[axis].name
    return _named(layout.fields.names, [f"{kind}_{name}" for kind in COMPONENTS])


@dataclass(frozen=True)
class Flow:
    """States (..., C, *S) of a layout, and the parameters of their trajectory."""

    states: Tensor
    layout: Layout
    parameters: Mapping[str, float]

    # --- fields ----------------------------------------------------------------------------------------------------

    @cached_property
    def velocity(self) -> list[Tensor]:
        """The component along each axis (..., *S)."""
        names = [_component(self.layout, axis) for axis in range(self.layout.space)]
        return [self._field(name) for name in names] if all(names) else self._from_vorticity()

    @property
    def buoyancy(self) -> Tensor:
        """(..., *S)."""
        return self._field(_named(self.layout.fields.names, FIELDS["buoyancy"]))

    @cached_property
    def vorticity(self) -> Tensor:
        """∂ₓv − ∂_y u of a plane (..., *S), x and y being its first and second axis: as a field, or of the velocity."""
        name = _named(self.layout.fields.names, FIELDS["vorticity"])
        return self._field(name) if name else self.velocity_gradient[1][0] - self.velocity_gradient[0][1]

    def _from_vorticity(self) -> list[Tensor]:
        """u = −∂_y ψ and v = ∂ₓψ with ∇²ψ = ω; a mean flow, which has no vorticity, is lost."""
        lines = [
            2j * torch.pi * torch.fft.fftfreq(len(axis), axis.length / len(axis), dtype=torch.float64)
            for axis in self.layout.axes
        ]
        kx, ky = torch.meshgrid(*lines, indexing="ij")
        square = kx**2 + ky**2
        waves = torch.fft.fftn(self.vorticity, dim=(-2, -1)) * torch.where(square == 0, 0, 1 / square)
        return [torch.fft.ifftn(k * waves, dim=(-2, -1)).real for k in (-ky, kx)]

    def _field(self, name: str) -> Tensor:
        return self.states.select(-self.layout.space - 1, self.layout.fields.index(name))

    # --- derivatives and means -------------------------------------------------------------------------------------

    def gradient(self, u: Tensor) -> list[Tensor]:
        """∂u/∂xᵢ along each axis."""
        return [derivative(u, self.layout.axes, axis) for axis in range(self.layout.space)]

    @cached_property
    def velocity_gradient(self) -> list[list[Tensor]]:
        """∂uᵢ/∂xⱼ."""
        return [self.gradient(u) for u in self.velocity]

    def mean(self, u: Tensor) -> Tensor:
        """⟨u⟩ over the domain: (..., *S) → (...)."""
        for axis in reversed(self.layout.axes):
            u = u @ torch.from_numpy(rule(axis).weights / rule(axis).weights.sum()).to(u)
        return u

    def levels(self, u: Tensor) -> Tensor:
        """⟨u⟩ₓ, the mean along the periodic axes, at each level between the walls: (..., *S) → (..., n)."""
        axes = [axis - self.layout.space for axis in range(self.layout.space) if axis != self.upward]
        return u.mean(axes) if axes else u

    def fluctuation(self, u: Tensor) -> Tensor:
        """u − ⟨u⟩ₓ, what is left of a field beside the mean of its level."""
        axes = [axis - self.layout.space for axis in range(self.layout.space) if axis != self.upward]
        return u - u.mean(axes, keepdim=True) if axes else 0 * u

    # --- between walls ---------------------------------------------------------------------------------------------

    @property
    def upward(self) -> int:
        """The axis between walls."""
        return self.layout.boundary.index("wall")

    def slope(self, profile: Tensor) -> Tensor:
        """∂/∂y of a profile (..., n)."""
        return derivative(profile, (self.layout.axes[self.upward],), 0)

    def at_walls(self, profile: Tensor) -> Tensor:
        """A profile (..., n) at the lower and the upper wall (..., 2)."""
        return at_ends(profile, (self.layout.axes[self.upward],), 0)

    # --- coefficients ----------------------------------------------------------------------------------------------

    @property
    def viscosity(self) -> float:
        """ν, the parameter or √(Pr/Ra)."""
        return self._coefficient("viscosity", 1)

    @property
    def diffusivity(self) -> float:
        """κ, the parameter or 1/√(Ra Pr)."""
        return self._coefficient("diffusivity", -1)

    def _coefficient(self, role: str, power: int) -> float:
        name = _named(self.parameters, PARAMETERS[role])
        if name:
            return self.parameters[name]
        rayleigh, prandtl = (self.parameters[_named(self.parameters, PARAMETERS[r])] for r in ("rayleigh", "prandtl"))
        return (prandtl**power / rayleigh) ** 0.5
