"""What a state in physical units looks like, apart from its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from driftway.calculus import rule, weights
from driftway.data.axes import Axis, Fields


@dataclass(frozen=True)
class Layout:
    """Channels, grid, and the time between two states."""

    fields: Fields
    axes: tuple[Axis, ...]
    dt: float
    time_units: str = "1"

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *S)."""
        return (len(self.fields), *(len(axis) for axis in self.axes))

    @property
    def boundary(self) -> tuple[str, ...]:
        """What happens at the ends of each axis."""
        return tuple(axis.continuation for axis in self.axes)

    @property
    def space(self) -> int:
        """The number of spatial axes."""
        return len(self.axes)

    @property
    def weights(self) -> Tensor | None:
        """Quadrature weights (*S) of the mean over space, one on average; None where all points weigh alike."""
        return weights(self.axes)

    @property
    def quadrature(self) -> str:
        """The rule of each axis by name, e.g. 'x Fourier, y Chebyshev–Gauss'."""
        return ", ".join(f"{axis.name} {rule(axis).name}" for axis in self.axes)

    def lead_times(self, leads: int) -> np.ndarray:
        """Δt, 2Δt, …, leads·Δt in `time_units`."""
        return self.dt * np.arange(1, leads + 1)

    def difference(self, other: Layout) -> str:
        """What of the other's states is not as here: fields, units, axes, coordinates, boundary or time units."""
        here, there = self._told(), other._told()
        told = next((name for name in here if here[name] != there[name]), "")
        return told or ("" if self._same_grid(other) else "coordinates")

    def _told(self) -> dict[str, object]:
        return {
            "fields": self.fields.names,
            "units": self.fields.units,
            "axes": tuple((axis.name, len(axis)) for axis in self.axes),
            "boundary": self.boundary,
            "time units": self.time_units,
        }

    def _same_grid(self, other: Layout) -> bool:
        pairs = zip(self.axes, other.axes, strict=True)
        return all(a.holds(np.asarray(b.coordinates)) and np.isclose(a.length, b.length, rtol=1e-3) for a, b in pairs)


def latent_axes(axes: tuple[Axis, ...], shape: tuple[int, ...]) -> tuple[Axis, ...]:
    """The axes of a latent grid; a shift that leaves the law unchanged must be a whole number of latent cells."""
    coarse = []
    for axis, size in zip(axes, shape, strict=True):
        factor = len(axis) // size
        points = np.asarray(axis.coordinates).reshape(size, factor).mean(1)
        symmetry = math.lcm(axis.symmetry, factor) // factor if axis.symmetry else 0
        coarse.append(replace(axis, coordinates=tuple(points.tolist()), symmetry=symmetry))
    return tuple(coarse)
