"""The table of quantities: what each needs, and how it is computed.

To add one, extend the table: QUANTITIES["mine"] = Quantity("name", "formula", ("velocity",), function). Data that lack
what it needs get none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from driftway.data.layout import Layout
from driftway.physics.flow import Flow, known

CHUNK = 2**21  # numbers of a state that are looked at together, in float64


@dataclass(frozen=True)
class Quantity:
    """One number of a state, (...), or of a profile one per level, (..., n): its name, formula, needs and function.

    needs: what `driftway.physics.flow.known` must say of the data
    relative: whether errors are told in units of the truth's; not where that is zero but for rounding
    """

    long_name: str
    formula: str
    needs: tuple[str, ...]
    compute: Callable[[Flow], Tensor]
    relative: bool = True


def _energy(flow: Flow) -> Tensor:
    return _sum(u.square() for u in flow.velocity) / 2


def _square_gradient(flow: Flow) -> Tensor:
    return _sum(part.square() for row in flow.velocity_gradient for part in row)


def _divergence(flow: Flow) -> Tensor:
    total = _sum(row[axis] for axis, row in enumerate(flow.velocity_gradient))
    scale = flow.mean(_square_gradient(flow))
    return torch.where(scale == 0, 0, flow.mean(total.square()) / scale).sqrt()


def _flux(flow: Flow) -> Tensor:
    return flow.velocity[flow.upward] * flow.buoyancy


def _sum(parts: Iterable[Tensor]) -> Tensor:
    first, *others = parts
    return sum(others, first)


QUANTITIES: dict[str, Quantity] = {
    "kinetic_energy": Quantity("kinetic energy", "½⟨|u|²⟩", ("velocity",), lambda flow: flow.mean(_energy(flow))),
    "enstrophy": Quantity("enstrophy", "½⟨ω²⟩", ("vorticity",), lambda flow: flow.mean(flow.vorticity.square()) / 2),
    "divergence": Quantity("divergence", "√(⟨(∇·u)²⟩/⟨|∇u|²⟩)", ("components", "vorticity"), _divergence, False),
    "dissipation": Quantity(
        "dissipation of kinetic energy",
        "ν⟨|∇u|²⟩",
        ("velocity", "viscosity"),
        lambda flow: flow.viscosity * flow.mean(_square_gradient(flow)),
    ),
    "buoyancy_variance": Quantity(
        "variance of buoyancy",
        "⟨(b−⟨b⟩ₓ)²⟩",
        ("buoyancy", "wall"),
        lambda flow: flow.mean(flow.fluctuation(flow.buoyancy).square()),
    ),
    "thermal_dissipation": Quantity(
        "thermal dissipation",
        "κ⟨|∇b|²⟩",
        ("buoyancy", "diffusivity"),
        lambda flow: flow.diffusivity * flow.mean(_sum(part.square() for part in flow.gradient(flow.buoyancy))),
    ),
    "nusselt": Quantity(
        "Nusselt number",
        "1+⟨vb⟩/κ",
        ("components", "buoyancy", "wall", "convection"),
        lambda flow: 1 + flow.mean(_flux(flow)) / flow.diffusivity,
    ),
    "nusselt_walls": Quantity(
        "Nusselt number at the walls",
        "−∂_y⟨b⟩ₓ, mean of both walls",
        ("buoyancy", "wall", "convection"),
        lambda flow: -flow.at_walls(flow.slope(flow.levels(flow.buoyancy))).mean(-1),
    ),
}
PROFILES: dict[str, Quantity] = {
    "kinetic_energy": Quantity(
        "kinetic energy", "½⟨|u|²⟩ₓ", ("components", "wall"), lambda flow: flow.levels(_energy(flow))
    ),
    "buoyancy": Quantity("buoyancy", "⟨b⟩ₓ", ("buoyancy", "wall"), lambda flow: flow.levels(flow.buoyancy)),
    "buoyancy_variance": Quantity(
        "variance of buoyancy",
        "⟨(b−⟨b⟩ₓ)²⟩ₓ",
        ("buoyancy", "wall"),
        lambda flow: flow.levels(flow.fluctuation(flow.buoyancy).square()),
    ),
    "heat_flux": Quantity(
        "Nusselt number of a level",
        "⟨vb⟩ₓ/κ−∂_y⟨b⟩ₓ",
        ("components", "buoyancy", "wall", "convection"),
        lambda flow: flow.levels(_flux(flow)) / flow.diffusivity - flow.slope(flow.levels(flow.buoyancy)),
    ),
}


class Measured(NamedTuple):
    """Quantities (..., Q) and profiles (..., P, n) of states; Q, P and n may be 0."""

    quantities: Tensor
    profiles: Tensor

    def condensed(self) -> Measured:
        """The same with the mean (P, n) in place of all profiles, which many states are too large to keep."""
        axes = tuple(range(self.profiles.ndim - 2))
        return Measured(self.quantities, self.profiles.mean(axes))


def available(table: Mapping[str, Quantity], layout: Layout, parameters: Iterable[str] = ()) -> dict[str, Quantity]:
    """The quantities of a table that states of this layout have, whose trajectories have these parameters."""
    facts = known(layout, parameters)
    return {name: quantity for name, quantity in table.items() if facts.issuperset(quantity.needs)}


def measure(states: Tensor, layout: Layout, parameters: Mapping[str, float] | None = None) -> Measured:
    """All quantities and profiles that are available, of states (..., C, *S) of one trajectory, in float64.

    parameters: of the trajectory, by name. A state that is not finite gives NaN or infinity.
    """
    given = parameters or {}
    tables = [list(available(table, layout, given).values()) for table in (QUANTITIES, PROFILES)]
    ahead, inside = states.shape[: -layout.space - 1], states.shape[-layout.space - 1 :]
    rows = states.reshape(-1, *inside)
    parts = rows.split(max(1, CHUNK // inside.numel()))
    found = [_measured(Flow(part.double(), layout, given), *tables) for part in parts]
    quantities, profiles = (torch.cat(values).unflatten(0, ahead) for values in zip(*found, strict=True))
    return Measured(quantities, profiles)


def _measured(flow: Flow, quantities: list[Quantity], profiles: list[Quantity]) -> Measured:
    rows = len(flow.states)
    numbers = [quantity.compute(flow) for quantity in quantities]
    levels = [profile.compute(flow) for profile in profiles]
    return Measured(
        torch.stack(numbers, 1) if numbers else flow.states.new_zeros(rows, 0),
        torch.stack(levels, 1) if levels else flow.states.new_zeros(rows, 0, 0),
    )
