"""What a data set is: named fields on axes, trajectories of states, and the transitions between them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from textwrap import shorten
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d

from driftway.data.calendar import Calendar
from driftway.data.states import Lazy
from driftway.errors import DataError
from driftway.randomness import generator
from driftway.sphere import poles

BOUNDARIES = ("periodic", "wall", "open", "pole")
SPLITS = ("train", "valid", "test")
RESERVED = ("trajectory", "time", "split")
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

    def first(self, count: int) -> Transition:
        """The first rows of the batch."""
        few = (None if x is None else x[:count] for x in (self.conditioning.fields, self.conditioning.params))
        return Transition(self.source[:count], self.target[:count], Conditioning(*few))


@dataclass(frozen=True, repr=False)
class Trajectories:
    """A data set: states (N, T, C, *S) at equal time steps, what their channels and axes mean, and what is known.

    Arguments:
        states: float32, a numpy array or `Lazy`
        dt: time between two states, in `time_units`
        parameters: name → (N,), numbers that a trajectory's physics depend on
        static: name → (*S), fields that never change, such as orography, or (N, *S), one for each trajectory
        forcing: name → (T, *S), fields that are known in advance
        splits: 'train', 'valid' or 'test' for each trajectory; without them `split` draws 80, 10 and 10 %
        attributes: where the data come from
        digest: of the files behind the states, if they are on disk
        calendar: when each trajectory begins, where seasons matter
    """

    states: np.ndarray | Lazy
    fields: Fields
    axes: tuple[Axis, ...]
    dt: float
    time_units: str = "1"
    parameters: Mapping[str, np.ndarray] = field(default_factory=dict)
    static: Mapping[str, np.ndarray] = field(default_factory=dict)
    forcing: Mapping[str, np.ndarray] = field(default_factory=dict)
    splits: tuple[str, ...] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    calendar: Calendar | None = None

    def __post_init__(self) -> None:
        self._check_kinds()
        check_sphere(self.axes)
        for kind in ("parameters", "static", "forcing"):
            arrays = {name: np.asarray(values) for name, values in getattr(self, kind).items()}
            object.__setattr__(self, kind, arrays)
        space = tuple(len(axis) for axis in self.axes)
        if self.shape[2:] != (len(self.fields), *space) or min(self.shape) < 1:
            raise DataError(
                f"states have the shape {self.shape}; {len(self.fields)} fields on a grid of {space} "
                f"need (N, T, {len(self.fields)}, {', '.join(map(str, space))}), nothing empty"
            )
        if not self.dt > 0:
            raise DataError(f"dt must be above 0, got {self.dt}")
        if self.splits is not None and (len(self.splits) != self.shape[0] or not set(self.splits) <= set(SPLITS)):
            raise DataError(f"splits must name {', '.join(SPLITS)} for each of the {self.shape[0]} trajectories")
        self._check_names()
        count, frames = self.shape[:2]
        wanted = {"parameters": [(count,)], "static": [space, (count, *space)], "forcing": [(frames, *space)]}
        for kind, shapes in wanted.items():
            for name, values in getattr(self, kind).items():
                if values.shape not in shapes:
                    meant = " or ".join(map(str, shapes))
                    raise DataError(f"{kind} '{name}' has the shape {values.shape}, must have {meant}")

    def _check_kinds(self) -> None:
        if not hasattr(self.states, "shape"):
            raise DataError(f"states must be an array (N, T, C, *S), got {type(self.states).__name__}: np.asarray them")
        if not isinstance(self.fields, Fields):
            raise DataError(f"fields must be Fields(names, units), got {shorten(repr(self.fields), 80)}")

    def __repr__(self) -> str:
        splits = "" if self.splits is None else f", splits { ({name: self.splits.count(name) for name in SPLITS}) }"
        fields = ", ".join(self.fields.names)
        return f"Trajectories({fields}; shape {self.shape}, dt {self.dt:g} {self.time_units}{splits})"

    def _check_names(self) -> None:
        names = [*self.fields.names, *self.parameters, *self.static, *self.forcing, *(axis.name for axis in self.axes)]
        twice = next((name for name in names if [*names, *RESERVED].count(name) > 1), None)
        if twice is not None:
            raise DataError(
                f"the name '{twice}' is taken: fields, parameters, static, forcing and axes need different ones, "
                f"and none may be {', '.join(RESERVED)}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, T, C, *S)."""
        return tuple(self.states.shape)

    @property
    def boundary(self) -> tuple[str, ...]:
        """What happens at the ends of each axis."""
        return tuple(axis.continuation for axis in self.axes)

    @property
    def known(self) -> int:
        """How many static and forcing fields there are."""
        return len(self.static) + len(self.forcing)

    @property
    def field_names(self) -> tuple[str, ...]:
        """The static and forcing fields, in the order in which a step knows them."""
        return (*sorted(self.static), *sorted(self.forcing))

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The parameters, in the order in which a step knows them."""
        return tuple(sorted(self.parameters))

    def select(self, rows: Sequence[int]) -> Trajectories:
        """Some trajectories, by number."""
        at = np.asarray(list(rows), dtype=int)
        return replace(
            self,
            states=self.states[at],
            parameters={name: values[at] for name, values in self.parameters.items()},
            static={name: values[at] if self._own(values) else values for name, values in self.static.items()},
            splits=None if self.splits is None else tuple(self.splits[row] for row in at),
            digest=self._derived("rows", at.tolist()),
            calendar=None if self.calendar is None else self.calendar.select(at),
        )

    def _own(self, static: np.ndarray) -> bool:
        """Whether each trajectory has a static field of its own."""
        return static.ndim > len(self.axes)

    def split(self, name: str, seed: int = 0) -> Trajectories:
        """The trajectories of 'train', 'valid' or 'test'; no trajectory is in two of them."""
        splits = self.splits or _drawn(self.shape[0], seed)
        rows = [row for row, split in enumerate(splits) if split == name]
        if not rows:
            counts = {split: splits.count(split) for split in SPLITS}
            raise DataError(f"split '{name}' is empty; trajectories by split: {counts}")
        return self.select(rows)

    def window(self, start: int, length: int) -> Trajectories:
        """Frames start … start + length − 1."""
        if start < 0 or length < 1 or start + length > self.shape[1]:
            raise DataError(f"frames {start} … {start + length - 1} lie outside the {self.shape[1]} that there are")
        return self._at(slice(start, start + length))

    def stride(self, step: int) -> Trajectories:
        """Every step-th frame; dt grows with it."""
        if step < 1:
            raise DataError(f"a stride must be at least 1, got {step}")
        return replace(self._at(slice(None, None, step)), dt=self.dt * step)

    def _at(self, times: slice) -> Trajectories:
        forcing = {name: values[times] for name, values in self.forcing.items()}
        return replace(self, states=self.states[:, times], forcing=forcing, digest=self._derived("frames", str(times)))

    def load(self) -> Trajectories:
        """The same with all states in memory."""
        return self if isinstance(self.states, np.ndarray) else replace(self, states=np.asarray(self.states))

    def transitions(self, stride: int = 1) -> Transitions:
        """Every pair of states `stride` frames apart."""
        return Transitions(self, stride)

    def conditioning(self, rows: np.ndarray, times: np.ndarray) -> Conditioning:
        """What a step from the frames (rows[i], times[i]) may know: fields (B, F, *S), parameters (B, P) by name."""
        static = [self.static[name] for name in sorted(self.static)]
        fixed = [x[rows] if self._own(x) else np.broadcast_to(x, (len(rows), *self.shape[3:])) for x in static]
        moving = [self.forcing[name][times] for name in sorted(self.forcing)]
        numbers = [self.parameters[name][rows] for name in self.parameter_names]
        return Conditioning(_stacked([*fixed, *moving]), _stacked(numbers))

    def fingerprint(self) -> str:
        """A SHA-256 that changes with the data: of the files they are read from, or of the states in memory."""
        if self.digest:
            return self.digest
        about = (self.fields, self.axes, self.dt, self.time_units, self.splits, self.shape)
        digest = hashlib.sha256(repr(about).encode())
        for row in range(self.shape[0]):
            digest.update(np.asarray(self.states[[row]]).tobytes())
        for name, values in sorted({**self.parameters, **self.static, **self.forcing}.items()):
            digest.update(name.encode() + np.asarray(values).tobytes())
        return digest.hexdigest()

    def _derived(self, kind: str, what: Any) -> str:
        return hashlib.sha256(repr((self.digest, kind, what)).encode()).hexdigest() if self.digest else ""


@dataclass(frozen=True)
class Transitions:
    """The pairs (u(t), u(t+Δt)) of a data set, Δt = stride frames, numbered trajectory by trajectory."""

    data: Trajectories
    stride: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.stride < self.data.shape[1]:
            raise DataError(f"a stride of {self.stride} leaves no pair of states in {self.data.shape[1]} frames")

    def __len__(self) -> int:
        return self.data.shape[0] * self._per_row

    @property
    def _per_row(self) -> int:
        return self.data.shape[1] - self.stride

    def batch(self, indices: np.ndarray, targets: bool = True) -> Transition:
        """The transitions with these numbers, as float32 tensors on the CPU; `targets` may be left out for sources."""
        rows, times = np.divmod(np.asarray(indices), self._per_row)
        if not targets:
            source = torch.from_numpy(np.asarray(self.data.states[rows, times], np.float32))
            return Transition(source, source, self.data.conditioning(rows, times))
        frames = np.stack([times, times + self.stride], 1).ravel()  # each pair side by side, as it is read
        both = torch.from_numpy(np.asarray(self.data.states[rows.repeat(2), frames], np.float32))
        return Transition(both[0::2], both[1::2], self.data.conditioning(rows, times))


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


def coarsen(fields: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Fields (B, F, *S) averaged over the cells of a coarser grid."""
    pool: Any = (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[len(shape) - 1]
    return fields if tuple(fields.shape[2:]) == shape else pool(fields, shape)


def _extent(points: np.ndarray, boundary: str) -> float:
    """n·Δx of a periodic axis, 180 between poles, last − first point of another; 1 for a single point."""
    if boundary == "pole":
        return HALF_CIRCLE
    across, count = float(np.ptp(points)), len(points)
    return across * (count / (count - 1) if boundary == "periodic" else 1) if count > 1 else 1.0


def _drawn(count: int, seed: int) -> tuple[str, ...]:
    """80, 10 and 10 % of the trajectories, at least one of each where there are three."""
    tenth = max(1, round(count / 10))
    order = generator(seed, "split").permutation(count)
    names = ["test"] * tenth + ["valid"] * tenth + ["train"] * count
    return tuple(names[int(place)] for place in np.argsort(order))


def _stacked(columns: list[np.ndarray]) -> Tensor | None:
    return _tensor(np.stack(columns, 1)) if columns else None


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
