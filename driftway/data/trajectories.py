"""What a data set is: named fields on axes, trajectories of states, and the transitions between them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d

from driftway.data.axes import Axis, Fields, check_sphere
from driftway.data.calendar import Calendar, hours_of
from driftway.data.conditioning import Conditioning, Transition, stacked
from driftway.data.seasons import ALL, Told, check_recurring, season_frames
from driftway.data.states import Lazy
from driftway.errors import DataError
from driftway.randomness import generator

SPLITS = ("train", "valid", "test")
RESERVED = ("trajectory", "time", "split")


@dataclass(frozen=True, repr=False)
class Trajectories:
    """A data set: states (N, T, C, *S) at equal time steps, what their channels and axes mean, and what is known.

    Arguments:
        states: float32, a numpy array or `Lazy`
        dt: time between two states, in `time_units`
        parameters: name → (N,), numbers that a trajectory's physics depend on
        static: name → (*S), fields that never change, such as orography, or (N, *S), one for each trajectory
        forcing: name → (T, *S), fields that are known in advance, or (N, T, *S), of each trajectory; with
            `forcing_recurs` (P, *S), P frames of one year from 1 January, 00:00, that hold in every year
        splits: 'train', 'valid' or 'test' for each trajectory; without them `split` draws 80, 10 and 10 %
        attributes: where the data come from
        digest: of the files behind the states, if they are on disk
        calendar: when each trajectory begins, where seasons matter
        forcing_recurs: whether forcing is found by the date
        told: what a step is told of the date
        known_axes: the grid of static and forcing fields, if it is not that of the states, as where states are latents
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
    forcing_recurs: bool = False
    told: Told = ALL
    known_axes: tuple[Axis, ...] | None = None

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
        self._check_dates()
        count, frames = self.shape[:2]
        space = tuple(len(axis) for axis in self.known_axes or self.axes)
        moving = [(frames, *space), (count, frames, *space)]
        if self.forcing_recurs:
            moving = [(len(values), *space) for values in self.forcing.values()]
        wanted = {"parameters": [(count,)], "static": [space, (count, *space)], "forcing": moving}
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

    def _check_dates(self) -> None:
        if self.forcing_recurs:
            check_recurring(self.calendar, [len(values) for values in self.forcing.values()])
        if self.calendar is not None:
            hours_of(self.time_units)
            if len(self.calendar) != self.shape[0]:
                raise DataError(f"the calendar has {len(self.calendar)} starts for {self.shape[0]} trajectories")

    def __repr__(self) -> str:
        splits = "" if self.splits is None else f", splits { ({name: self.splits.count(name) for name in SPLITS}) }"
        fields = ", ".join(self.fields.names)
        return f"Trajectories({fields}; shape {self.shape}, dt {self.dt:g} {self.time_units}{splits})"

    def _check_names(self) -> None:
        names = [*self.fields.names, *self.parameters, *self.static, *self.forcing, *(axis.name for axis in self.axes)]
        reserved = [*RESERVED, *self.date_names]
        reserved += ["start"] * (self.calendar is not None) + ["time_of_year"] * self.forcing_recurs
        twice = next((name for name in names if [*names, *reserved].count(name) > 1), None)
        if twice is not None:
            raise DataError(
                f"the name '{twice}' is taken: fields, parameters, static, forcing and axes need different ones, "
                f"and none may be {', '.join(reserved)}"
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
        """The parameters, in the order in which a step knows them; those that tell the date come last."""
        return (*sorted(self.parameters), *self.date_names)

    @property
    def date_names(self) -> tuple[str, ...]:
        """The parameters that tell the date."""
        return self.told.names(self.calendar)

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
            forcing={name: values[at] if self._own(values, 1) else values for name, values in self.forcing.items()},
            calendar=None if self.calendar is None else self.calendar.select(at),
        )

    def _own(self, values: np.ndarray, times: int = 0) -> bool:
        """Whether each trajectory has a static field, or with one dimension of times forcing, of its own."""
        return values.ndim > len(self.axes) + times

    def split(self, name: str, seed: int = 0) -> Trajectories:
        """The trajectories of 'train', 'valid' or 'test'; no trajectory is in two of them."""
        return self.select(self.rows(name, seed))

    def rows(self, name: str, seed: int = 0) -> list[int]:
        """The numbers of these trajectories; raises DataError where there is none."""
        splits = self.splits or _drawn(self.shape[0], seed)
        rows = [row for row, split in enumerate(splits) if split == name]
        if not rows:
            counts = {split: splits.count(split) for split in SPLITS}
            raise DataError(f"split '{name}' is empty; trajectories by split: {counts}")
        return rows

    def window(self, start: int, length: int) -> Trajectories:
        """Frames start … start + length − 1."""
        if start < 0 or length < 1 or start + length > self.shape[1]:
            raise DataError(f"frames {start} … {start + length - 1} lie outside the {self.shape[1]} that there are")
        return self._at(slice(start, start + length))

    def windows(self, frames: Sequence[int], length: int) -> Trajectories:
        """Frames f … f + length − 1 as trajectories of their own: all that begin at the first f, then at the next."""
        parts = [self.window(frame, length) for frame in frames]
        if len(parts) < 2:
            return parts[0]
        lazy = self.states.windows(frames, length) if isinstance(self.states, Lazy) else None
        dated = [part.calendar for part in parts if part.calendar is not None]
        return replace(
            parts[0].select([*range(self.shape[0])] * len(frames)),
            states=np.concatenate([np.asarray(part.states) for part in parts]) if lazy is None else lazy,
            forcing=self.forcing if self.forcing_recurs else _one_after_another([part._moved() for part in parts]),
            digest=self._derived("windows", (list(frames), length)),
            calendar=replace(dated[0], starts=sum((calendar.starts for calendar in dated), ())) if dated else None,
        )

    def _moved(self) -> dict[str, np.ndarray]:
        """Forcing of each trajectory, which most often is the same."""
        return {
            name: values if self._own(values, 1) else np.broadcast_to(values, (self.shape[0], *values.shape))
            for name, values in self.forcing.items()
        }

    def stride(self, step: int) -> Trajectories:
        """Every step-th frame; dt grows with it."""
        if step < 1:
            raise DataError(f"a stride must be at least 1, got {step}")
        return replace(self._at(slice(None, None, step)), dt=self.dt * step)

    def _at(self, times: slice) -> Trajectories:
        forcing = {name: self._cut(values, times) for name, values in self.forcing.items()}
        digest = self._derived("frames", str(times))
        later = None if self.calendar is None else self.calendar.later(self.hours(times.start or 0))
        return replace(self, states=self.states[:, times], forcing=forcing, digest=digest, calendar=later)

    def _cut(self, forcing: np.ndarray, times: slice) -> np.ndarray:
        """Forcing at some frames; what is found by the date stays whole."""
        return forcing if self.forcing_recurs else forcing[:, times] if self._own(forcing, 1) else forcing[times]

    def hours(self, frames: np.ndarray | int) -> Any:
        """Hours from the first state to some frames; raises DataError where time units are no measure of time."""
        return frames * self.dt * hours_of(self.time_units)

    def load(self) -> Trajectories:
        """The same with all states in memory."""
        return self if isinstance(self.states, np.ndarray) else replace(self, states=np.asarray(self.states))

    def transitions(self, stride: int = 1) -> Transitions:
        """Every pair of states `stride` frames apart."""
        return Transitions(self, stride)

    def conditioning(self, rows: np.ndarray, times: np.ndarray, stride: int = 1) -> Conditioning:
        """What a step of `stride` frames from (rows[i], times[i]) may know: fields (B, F, *S), parameters (B, P).

        Forcing and date are those of the frame that the step starts from or of the one that it makes, as `told` says.
        Raises DataError where forcing that does not recur ends before.
        """
        at = times + stride * self.told.valid(self.calendar)
        static = [self.static[name] for name in sorted(self.static)]
        fixed = [x[rows] if self._own(x) else np.broadcast_to(x, (len(rows), *x.shape)) for x in static]
        moving = [self._moving(self.forcing[name], rows, at) for name in sorted(self.forcing)]
        numbers = [self.parameters[name][rows] for name in sorted(self.parameters)]
        if self.calendar is not None:
            numbers += self.told.numbers(self.calendar, self.calendar.hours(rows, self.hours(at)))
        return Conditioning(stacked([*fixed, *moving]), stacked(numbers), len(self.date_names))

    def fixed(self, rows: np.ndarray) -> Tensor | None:
        """The parameters (B, P) that belong to some trajectories whatever the date, by name; None without any."""
        return stacked([self.parameters[name][rows] for name in sorted(self.parameters)])

    def _moving(self, forcing: np.ndarray, rows: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Forcing (B, *S) of trajectories at frames that, where it recurs, may lie beyond the last."""
        if self.forcing_recurs and self.calendar is not None:
            hours = self.calendar.hours(rows, self.hours(times))
            return forcing[season_frames(self.calendar, hours, len(forcing))]
        if len(times) and times.max() >= self.shape[1]:
            raise DataError(
                f"the forcing ends at frame {self.shape[1] - 1}, wanted is frame {times.max()}; forecast fewer leads, "
                "or mark forcing of a whole year as recurring (forcing_recurs)"
            )
        return forcing[rows, times] if self._own(forcing, 1) else forcing[times]

    def fingerprint(self) -> str:
        """A SHA-256 that changes with the data: of the files they are read from, or of the states in memory."""
        if self.digest:
            return self.digest
        dated = () if self.calendar is None else (self.calendar, self.forcing_recurs)
        about = (self.fields, self.axes, self.dt, self.time_units, self.splits, self.shape, *dated)
        digest = hashlib.sha256(repr(about).encode())
        for row in range(self.shape[0]):
            digest.update(np.asarray(self.states[[row]]).tobytes())
        for name, values in sorted({**self.parameters, **self.static, **self.forcing}.items()):
            digest.update(name.encode() + np.asarray(values).tobytes())
        return digest.hexdigest()

    def _derived(self, kind: str, what: Any) -> str:
        return hashlib.sha256(repr((self.digest, kind, what)).encode()).hexdigest() if self.digest else ""


def _one_after_another(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


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
            return Transition(source, source, self.data.conditioning(rows, times, self.stride))
        frames = np.stack([times, times + self.stride], 1).ravel()  # each pair side by side, as it is read
        both = torch.from_numpy(np.asarray(self.data.states[rows.repeat(2), frames], np.float32))
        return Transition(both[0::2], both[1::2], self.data.conditioning(rows, times, self.stride))


def coarsen(fields: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Fields (B, F, *S) averaged over the cells of a coarser grid."""
    pool: Any = (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[len(shape) - 1]
    return fields if tuple(fields.shape[2:]) == shape else pool(fields, shape)


def _drawn(count: int, seed: int) -> tuple[str, ...]:
    """80, 10 and 10 % of the trajectories, at least one of each where there are three."""
    tenth = max(1, round(count / 10))
    order = generator(seed, "split").permutation(count)
    names = ["test"] * tenth + ["valid"] * tenth + ["train"] * count
    return tuple(names[int(place)] for place in np.argsort(order))
