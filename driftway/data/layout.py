"""What a state in physical units looks like, apart from its numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from driftway.data.trajectories import Axis, Fields


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
        return tuple(axis.boundary for axis in self.axes)

    @property
    def space(self) -> int:
        """The number of spatial axes."""
        return len(self.axes)

    def lead_times(self, leads: int) -> np.ndarray:
        """Δt, 2Δt, …, leads·Δt in `time_units`."""
        return self.dt * np.arange(1, leads + 1)
