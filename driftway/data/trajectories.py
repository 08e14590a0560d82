"""What a data set is: named fields on axes, trajectories of states, and the transitions between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from driftway.errors import DataError

BOUNDARIES = ("periodic", "wall", "open")


@dataclass(frozen=True)
class Fields:
    """The channels of a state, by name and unit, in channel order."""

    names: tuple[str, ...]
    units: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.units) or len(set(self.names)) != len(self.names):
            raise DataError(f"fields need one unit each and different names, got {self.names} with {self.units}")

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """The channel that holds `name`."""
        if name not in self.names:
            raise DataError(f"no field '{name}'; there are {', '.join(self.names)}")
        return self.names.index(name)


@dataclass(frozen=True)
class Axis:
    """One spatial axis: where its points are, what happens at its ends, and which shifts leave the law unchanged.

    `symmetry` counts cells: the dynamics are the same after a shift by any multiple of it (0: by none).
    """

    name: str
    coordinates: tuple[float, ...]
    boundary: str = "periodic"
    length: float = 1.0
    units: str = "1"
    symmetry: int = 0

    def __post_init__(self) -> None:
        if self.boundary not in BOUNDARIES:
            raise DataError(f"axis '{self.name}': boundary '{self.boundary}' is none of {', '.join(BOUNDARIES)}")

    def __len__(self) -> int:
        return len(self.coordinates)

    @classmethod
    def uniform(cls, name: str, size: int, length: float, symmetry: int = 0, units: str = "1") -> Axis:
        """A periodic axis of `size` equal cells over `length`."""
        points = tuple((np.arange(size) * (length / size)).tolist())
        return cls(name, points, "periodic", length, units, symmetry)


@dataclass(frozen=True)
class Conditioning:
    """What a step may know besides the state: fields (B, F, *S) such as orography, and parameters (B, P)."""

    fields: Tensor | None = None
    params: Tensor | None = None


class Transition(NamedTuple):
    """One physical step: source u(t) and target u(t+Δt), each (B, C, *S)."""

    source: Tensor
    target: Tensor
    conditioning: Conditioning = Conditioning()
