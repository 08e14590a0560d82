"""The channels of a state and the axes that it is on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driftway.errors import DataError
from driftway.sphere import poles

BOUNDARIES = ("periodic", "wall", "open", "pole")
HALF_CIRCLE = 180.0


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

    `symmetry` counts cells: the dynamics are the same after a shift by any multiple of it (0: by none). Without a
    `length` it is n·Δx where periodic, 180 from pole to pole, and last − first point otherwise. Points increase or
    decrease throughout, by equal cells where periodic. An axis of boundary 'pole' has latitudes in degrees; across its
    ends a field goes on along the meridian opposite.
    """

    name: str
    coordinates: tuple[float, ...]
    boundary: str = "periodic"
    length: float = None  # type: ignore[assignment]  # a float once made
    units: str = "1"
    symmetry: int = 0

    def __post_init__(self) -> None:
        if self.boundary not in BOUNDARIES:
            raise DataError(f"axis '{self.name}': boundary '{self.boundary}' is none of {', '.join(BOUNDARIES)}")
        points = np.asarray(self.coordinates, dtype=float).reshape(-1)
        ordered = (np.diff(points) > 0).all() or (np.diff(points) < 0).all()  # latitudes often run from north to south
        if not ordered or not np.isfinite(points).all():
            raise DataError(
                f"axis '{self.name}': coordinates must be finite and increase, or decrease, from each to the next: "
                "sort them and the states"
            )
        if self.boundary == "pole":
            self._check_latitudes(points)
        length = _extent(points, self.boundary) if self.length is None else float(self.length)
        if not 0 < length < np.inf:
            raise DataError(f"axis '{self.name}': length = {length:g}, must be above 0: the extent of the domain")
        object.__setattr__(self, "coordinates", tuple(points.tolist()))
        object.__setattr__(self, "length", length)
        if self.boundary == "periodic":
            self._check_cells(points)

    def _check_cells(self, points: np.ndarray) -> None:
        """A period is n equal cells; the point at its end is the first one again and is left out."""
        cell = self.length / max(len(points), 1)
        rounding = np.finfo(np.float32).eps * np.abs(points).max(initial=0)  # files keep points in single precision
        if not np.allclose(np.abs(np.diff(points)), cell, rtol=0, atol=1e-3 * cell + rounding):
            raise DataError(
                f"axis '{self.name}': a periodic axis of {len(points)} points and length {self.length:g} has equal "
                f"cells of {cell:g}; leave out the point that repeats the first, correct the length or choose another "
                "boundary"
            )

    def _check_latitudes(self, points: np.ndarray) -> None:
        """Latitudes go from pole to pole, in degrees."""
        if np.abs(points).max(initial=0) > 90 + 1e-4:
            raise DataError(
                f"axis '{self.name}': latitudes from {points.min():g} to {points.max():g}, must lie within −90 … 90: "
                "give degrees, or choose another boundary than 'pole'"
            )
        if not self.units.startswith("degree"):
            raise DataError(
                f"axis '{self.name}': units '{self.units}' of latitudes, must be degrees_north: convert them"
            )
        if self.length is not None and abs(self.length - HALF_CIRCLE) > 1e-3 * HALF_CIRCLE:
            raise DataError(
                f"axis '{self.name}': length = {self.length:g}, is 180 from pole to pole: leave it out, or choose the "
                "boundary 'open' for a part of the sphere"
            )

    @property
    def continuation(self) -> str:
        """The boundary as convolutions need it: that of latitudes says at which ends there is a row on the pole."""
        return poles(self.coordinates) if self.boundary == "pole" else self.boundary

    def __len__(self) -> int:
        return len(self.coordinates)

    def holds(self, points: np.ndarray) -> bool:
        """Whether these are the axis's points, to a thousandth of a cell: files may keep them in single precision."""
        cell = self.length / len(self)
        return len(points) == len(self) and np.allclose(points, self.coordinates, rtol=0, atol=1e-3 * cell)

    @classmethod
    def uniform(cls, name: str, size: int, length: float, symmetry: int = 0, units: str = "1") -> Axis:
        """A periodic axis of `size` equal cells over `length`."""
        points = tuple((np.arange(size) * (length / size)).tolist())
        return cls(name, points, "periodic", length, units, symmetry)


def is_sphere(axes: Sequence[Axis]) -> bool:
    """Whether these are the two axes of a sphere, latitude from pole to pole and longitude once around."""
    return len(axes) == 2 and axes[0].boundary == "pole" and _once_around(axes[1])


def check_sphere(axes: Sequence[Axis]) -> None:
    """Raise DataError where latitudes are not followed by the longitudes across which a field goes over the poles."""
    for place, axis in enumerate(axes):
        if axis.boundary == "pole":
            after = axes[place + 1] if place + 1 < len(axes) else None
            if after is None or not _once_around(after) or len(after) % 2:
                points = f"{len(after)} {after.boundary} points over {after.length:g}" if after else "no axis"
                raise DataError(
                    f"axis '{axis.name}' ends at poles, over which a field goes on along the meridian opposite: it "
                    f"must be followed by an even number of periodic longitudes over 360 degrees, not by {points}"
                )


def _once_around(axis: Axis) -> bool:
    return axis.boundary == "periodic" and abs(axis.length - 2 * HALF_CIRCLE) < 1e-3 * HALF_CIRCLE


def _extent(points: np.ndarray, boundary: str) -> float:
    """n·Δx of a periodic axis, 180 between poles, last − first point of another; 1 for a single point."""
    if boundary == "pole":
        return HALF_CIRCLE
    across, count = float(np.ptp(points)), len(points)
    return across * (count / (count - 1) if boundary == "periodic" else 1) if count > 1 else 1.0
