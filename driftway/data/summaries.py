"""What is gathered of a long forecast as it runs, in memory that does not grow: means of periods, and a guard.

A summary sees every state once, block by block and lead by lead, and writes to a group of the forecast's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr
import zarr

from driftway.calculus import weights
from driftway.data.axes import Axis
from driftway.data.calendar import Calendar, hours_of
from driftway.data.forecasts import create_fields, keys, write_coordinates
from driftway.data.layout import Layout
from driftway.data.trajectories import Trajectories
from driftway.errors import ConfigError, DataError
from driftway.randomness import Key
from driftway.storage import PLACE

SAMPLE = 1000  # frames of a data set, at most, whose range the guard takes
BATCH = 100  # of these that are read at once
MARGIN = 0.5  # of that range, by which forecasts may leave it at either end
HARDLY = 0.01  # of a field's deviation in space: less than that a conserved mean may be off
MOST = 20  # members that are named; the arrays have all
STATISTICS = ("mean", "energy", "minimum", "maximum")
KINDS = (*STATISTICS, "not finite")
BLOWN = KINDS[2:]
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Made:
    """The forecast that a summary is of: its folder, layout, members, the names of its initial states and its leads."""

    folder: Path
    layout: Layout
    members: int
    names: Sequence[Key]
    leads: int
    together: int


class Summary(Protocol):
    """Something that is gathered of the states of a forecast."""

    def open(self, made: Made) -> None:
        """Make what is written to; where a forecast that was stopped has noted how far it came, what is there stays."""

    def see(self, members: slice, trajectories: slice, lead: int, states: np.ndarray) -> None:
        """Take states (m, n, C, *S) at a lead, counted from 1; of one block the leads follow each other."""

    def state(self) -> Arrays:
        """What has been gathered and is not written yet."""
        ...

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` gave."""

    def close(self) -> dict[str, str]:
        """Write what is left; returns what the forecast shall say of itself."""
        ...


# --- means of periods ----------------------------------------------------------------------------------------------


class PeriodMeans:
    """The mean state of each period of each trajectory and member, in the group `means` of the forecast's folder.

        means[member, trajectory, period] = mean of the states at the leads of the period

    periods: trajectory by trajectory the name of each lead's period, such as 2000-01; each stands in one stretch.

    The group holds, besides one variable per field (realization, trajectory, period, *axes), `label` and `count`, the
    number of states, of each period (trajectory, period). A period that a trajectory has not is NaN and counts 0.
    """

    def __init__(self, periods: Sequence[Sequence[str]]):
        self.labels = [list(dict.fromkeys(names)) for names in periods]
        self.numbers = [_numbered(names, labels) for names, labels in zip(periods, self.labels, strict=True)]
        self.total = np.zeros(0)

    def open(self, made: Made) -> None:
        if [len(numbers) for numbers in self.numbers] != [made.leads] * len(made.names):
            raise ConfigError(
                f"means need the period of each of {made.leads} leads of {len(made.names)} initial states"
            )
        self.leads, path = made.leads, made.folder / "means"
        count = max(map(len, self.labels))
        if not (made.folder / PLACE).is_file():
            write_coordinates(made.folder, self._coordinates(made, count), {}, "means")
        group = zarr.open_group(path, mode="r+")
        dims, shape = ("realization", "trajectory", "period"), (made.members, len(made.names), count)
        self.arrays = create_fields(group, made.layout, dims, shape, made.together)

    def _coordinates(self, made: Made, count: int) -> dict[str, Any]:
        labels = np.full((len(self.labels), count), "", object)
        counts = np.zeros((len(self.labels), count), np.int64)
        for row, (names, numbers) in enumerate(zip(self.labels, self.numbers, strict=True)):
            labels[row, : len(names)] = names
            counts[row] = np.bincount(numbers, minlength=count)
        dims = ("trajectory", "period")
        found = {"label": (dims, labels), "count": (dims, counts), "trajectory": ("trajectory", keys(made.names))}
        axes = {axis.name: (axis.name, np.asarray(axis.coordinates)) for axis in made.layout.axes}
        return {**found, "realization": ("realization", np.arange(made.members)), **axes}

    def see(self, members: slice, trajectories: slice, lead: int, states: np.ndarray) -> None:
        if lead == 1:
            self.total = np.zeros(states.shape)
        self.total += states
        for place, row in enumerate(range(trajectories.start, trajectories.stop)):
            numbers = self.numbers[row]
            if lead == self.leads or numbers[lead] != numbers[lead - 1]:
                self._write(members, row, int(numbers[lead - 1]), self.total[:, place])
                self.total[:, place] = 0

    def _write(self, members: slice, row: int, period: int, total: np.ndarray) -> None:
        mean = (total / np.count_nonzero(self.numbers[row] == period)).astype(np.float32)
        for c, array in enumerate(self.arrays):
            array[members, row, period] = mean[:, c]

    def state(self) -> Arrays:
        return {"total": self.total}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.total = state["total"].copy()

    def close(self) -> dict[str, str]:
        return {}


def _numbered(names: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    places = {label: k for k, label in enumerate(labels)}
    numbers = np.array([places[name] for name in names])
    if (np.diff(numbers) < 0).any():
        raise ConfigError("a period of a mean must be one stretch of leads: give each its own name")
    return numbers


def months(calendar: Calendar, elapsed: np.ndarray, time_units: str) -> list[list[str]]:
    """The month, such as 2000-01, of each trajectory of a calendar at some times after its first state."""
    hours = np.asarray(elapsed, float) * hours_of(time_units)
    return [[calendar.date(time)[:-9] for time in calendar.hours(np.array(row), hours)] for row in range(len(calendar))]


def stretches(leads: int, length: int) -> list[str]:
    """The names 0, 1, … of periods of `length` leads each, lead by lead."""
    return [str(lead // length) for lead in range(leads)]


def open_means(path: Path) -> xr.Dataset:
    """The means of the periods of a forecast: (realization, trajectory, period, *axes), read lazily."""
    if not (path / "means").is_dir():
        raise DataError(f"{path} holds no means: make it with `driftway forecast … --means month`")
    return xr.open_zarr(path, group="means", consolidated=False, chunks=None)


# --- the guard -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bounds:
    """The lowest and the highest value that each statistic of each channel may have, each (4, C)."""

    low: np.ndarray
    high: np.ndarray


def bounds_of(data: Trajectories, margin: float = MARGIN, sample: int = SAMPLE) -> Bounds:
    """What the statistics of at most `sample` states, evenly spaced in a data set, span, and a margin at either end.

    The margin counts in what they span; that of minimum and maximum in the span from the one to the other, and that of
    a mean that hardly moves, since it is conserved, in a hundredth of the field's deviation in space.
    """
    total = data.shape[0] * data.shape[1]
    rows, times = np.divmod(np.linspace(0, total - 1, min(sample, total)).astype(int), data.shape[1])
    batches = [slice(start, start + BATCH) for start in range(0, len(rows), BATCH)]  # neighbours are read as one
    found = np.concatenate([statistics(np.asarray(data.states[rows[b], times[b]]), data.axes) for b in batches])
    low, high = found.min(0), found.max(0)
    low[2:], high[2:] = low[2], high[3]
    span = np.maximum(high - low, 1e-6 * np.maximum(abs(low), abs(high)))
    span[0] = np.maximum(span[0], HARDLY * np.sqrt(high[1]))
    return Bounds(low - margin * span, high + margin * span)


def statistics(states: np.ndarray, axes: Sequence[Axis]) -> np.ndarray:
    """Mean over space, energy, minimum and maximum of states (..., C, *S): (..., 4, C), in double precision.

    mean = ⟨u⟩ ,   energy = ⟨(u − ⟨u⟩)²⟩ ,   with the areas of points
    """
    found, space = weights(axes), tuple(range(-len(axes), 0))
    area = np.ones(states.shape[-len(axes) :]) if found is None else found.numpy()
    u = states.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # a state that has blown up is what this is to find
        mean = (area * u).mean(space)
        energy = (area * (u - mean[(..., *[None] * len(axes))]) ** 2).mean(space)
    return np.stack([mean, energy, u.min(space), u.max(space)], -2)


class Guard:
    """Tells at which lead a forecast leaves what its training data span, in the group `guard` of its folder.

    For each member, initial state, kind (mean, energy, minimum, maximum, not finite) and field: `first`, the first lead
    outside; `since`, that from which it is outside to the end; `count`, how many leads are outside; 0 for none. Members
    that are outside go on like all others.
    """

    def __init__(self, bounds: Bounds, warn: Callable[[str], None] | None = None):
        self.bounds, self.warn = bounds, warn

    def open(self, made: Made) -> None:
        self.made = made
        shape = (made.members, len(made.names), len(KINDS), len(made.layout.fields))
        self.found = {name: np.zeros(shape, np.int32) for name in ("first", "since", "count")}

    def see(self, members: slice, trajectories: slice, lead: int, states: np.ndarray) -> None:
        seen = statistics(states, self.made.layout.axes)
        inside = (seen >= self.bounds.low) & (seen <= self.bounds.high)
        space = tuple(range(-len(self.made.layout.axes), 0))
        finite = np.asarray(np.isfinite(states).all(space))
        outside = np.concatenate([~inside, ~finite[..., None, :]], -2)
        first, since, count = (array[members, trajectories] for array in self.found.values())
        first[outside & (first == 0)] = lead
        since[outside & (since == 0)] = lead
        since[~outside] = 0
        count += outside

    def state(self) -> Arrays:
        return self.found

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.found = {name: state[name].copy() for name in self.found}

    def close(self) -> dict[str, str]:
        dims = ("realization", "trajectory", "kind", "field")
        variables = {name: (dims, array) for name, array in self.found.items()}
        edges = {
            "low": (("kind", "field"), _padded(self.bounds.low)),
            "high": (("kind", "field"), _padded(self.bounds.high)),
        }
        coordinates = {
            "kind": ("kind", np.asarray(KINDS, dtype=object)),
            "field": ("field", np.asarray(self.made.layout.fields.names, dtype=object)),
            "trajectory": ("trajectory", keys(self.made.names)),
        }
        write_coordinates(self.made.folder, coordinates, {**variables, **edges}, "guard")
        said = {"diverged": "; ".join(self._told(BLOWN)), "drifting": "; ".join(self._told(KINDS[:2]))}
        for what, where in said.items():
            if where and self.warn is not None:
                self.warn(f"{what}: {where}")
        return {what: where or "none" for what, where in said.items()}

    def _told(self, kinds: Sequence[str]) -> list[str]:
        """One sentence for each member that is outside at the end, of what was outside first."""
        places = [KINDS.index(kind) for kind in kinds]
        since = self.found["since"][:, :, places]
        outside = [(member, row) for member, row in np.ndindex(*since.shape[:2]) if since[member, row].any()]
        told = [self._sentence(member, row, places, since[member, row]) for member, row in outside[:MOST]]
        return told + ([f"and {len(outside) - MOST} more"] if len(outside) > MOST else [])

    def _sentence(self, member: int, row: int, places: Sequence[int], since: np.ndarray) -> str:
        lead = int(since[since > 0].min())
        kind, channel = np.argwhere(since == lead)[-1]
        layout = self.made.layout
        what = f"{KINDS[places[kind]]} of {layout.fields.names[channel]}"
        unit = "" if layout.time_units == "1" else f" {layout.time_units}"
        return f"member {member} of {self.made.names[row]}, {what} from lead {lead} ({lead * layout.dt:g}{unit}) on"


def _padded(bounds: np.ndarray) -> np.ndarray:
    """With a row of NaN for what has no bounds."""
    return np.concatenate([bounds, np.full((len(KINDS) - len(bounds), bounds.shape[1]), np.nan)])
