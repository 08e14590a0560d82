"""Long runs as they are read: states at equal steps, of data sets whose trajectories may follow each other, or of
forecasts. Times are hours since the year 0 where there is a calendar, and else time units since a run's first state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from driftway.data import Trajectories, open_data
from driftway.data.axes import Fields
from driftway.data.calendar import Calendar, hours_of
from driftway.data.cf import land_of
from driftway.data.forecasts import axes_of
from driftway.data.joined import chains
from driftway.data.layout import Layout
from driftway.errors import DataError, naming

BLOCK_BYTES = 16_000_000  # of states that are in memory at once
CLOSE = 1e-3  # of a step, by which times may miss those that are asked for
EPOCH = "0000-01-01T00:00"


@dataclass(frozen=True)
class Sampling:
    """States at the times phase + k·step, k = 0, 1, …; phase None: at every step from the first state on."""

    step: float
    phase: float | None = None


@dataclass(frozen=True)
class Piece:
    """States at equal steps: of all members from one initial state, or of one trajectory of a data set.

    read: (first, last + 1) → states (members, t, C, *S), float32
    """

    start: float
    step: float
    length: int
    read: Callable[[int, int], np.ndarray]

    @property
    def end(self) -> float:
        """The time one step after the last state."""
        return self.start + self.step * self.length

    def places(self, sampling: Sampling) -> np.ndarray:
        """Numbers of the states that a sampling takes; raises DataError where it asks for times between them."""
        stride = sampling.step / self.step
        offset = 0.0 if sampling.phase is None else (sampling.phase - self.start) % sampling.step / self.step
        offset = 0.0 if abs(offset - stride) < CLOSE else offset
        if round(stride) < 1 or max(abs(stride - round(stride)), abs(offset - round(offset))) > CLOSE:
            when = "" if sampling.phase is None else f", {sampling.phase % 24:g} h after midnight"
            raise DataError(
                f"states {self.step:g} apart from {self.start % 24:g} on cannot be looked at every {sampling.step:g}"
                f"{when}, as those they are compared with: take data with states at these times, or forecast from "
                "initial states of these data with another --every"
            )
        return np.arange(round(offset), self.length, round(stride))


@dataclass(frozen=True)
class Source:
    """Runs that are one climate: each a row of pieces that follow each other, of as many members.

    calendar: with the epoch of the year 0; None where there are no dates. land (*S): the share of land, if it is known
    """

    name: str
    layout: Layout
    calendar: Calendar | None
    runs: tuple[tuple[Piece, ...], ...]
    members: int = 1
    land: np.ndarray | None = None

    @property
    def length(self) -> int:
        """The number of states of each member, of all runs."""
        return sum(piece.length for run in self.runs for piece in run)

    def blocks(self, piece: Piece) -> Iterator[tuple[int, np.ndarray]]:
        """States of a piece by and by: the number of the first one, and states (members, t, C, *S)."""
        count = max(1, BLOCK_BYTES // (4 * self.members * int(np.prod(self.layout.shape))))
        for first in range(0, piece.length, count):
            yield first, piece.read(first, min(first + count, piece.length))


# --- data sets -----------------------------------------------------------------------------------------------------


def of_data(path: Path, split: str, fields: Sequence[str] | None = None) -> Source:
    """A split of a data set, or `all` of it, with the runs that `driftway.data.joined.chains` finds in it.

    fields: those that are looked at, by default all
    """
    data = open_data(path)
    with naming(path):
        rows = range(data.shape[0]) if split == "all" else data.rows(split)
        names = tuple(data.fields.names if fields is None else fields)
        channels = [data.fields.index(name) for name in names]
    layout = Layout(Fields(names, tuple(data.fields.units[c] for c in channels)), data.axes, data.dt, data.time_units)
    runs = tuple(tuple(_trajectory(data, row, channels) for row in chain) for chain in chains(data, rows))
    clock = None if data.calendar is None else Calendar((0.0,), EPOCH, data.calendar.name)
    return Source(f"{path} ({split})", layout, clock, runs, land=_land(data))


def _land(data: Trajectories) -> np.ndarray | None:
    """The share of land, where it is known on the grid of the states."""
    found = land_of(data.static)
    return found if found is not None and found.shape == data.shape[3:] else None


def _trajectory(part: Trajectories, row: int, channels: list[int]) -> Piece:
    start, step = 0.0, part.dt
    if part.calendar is not None:
        start = part.calendar.starts[row] + part.calendar.hours_since(0, part.calendar.epoch)
        step = part.hours(1)

    def read(first: int, end: int) -> np.ndarray:
        return np.asarray(part.states[[row], first:end])[:, :, channels]

    return Piece(start, step, part.shape[1], read)


# --- forecasts -----------------------------------------------------------------------------------------------------


def of_forecast(name: str, forecast: xr.Dataset, truth: Source) -> Source:
    """A forecast, with a run for each initial state, of the fields of a truth on its grid and in its calendar.

    Raises DataError where fields, units, grid or time units are not those of the truth, or dates are not known.
    """
    lead = forecast["lead_time"].values.astype(float)
    if len(lead) < 2:
        raise DataError(f"forecast '{name}' keeps {len(lead)} leads: a climate needs many, forecast more")
    step = float(lead[-1] - lead[0]) / (len(lead) - 1)
    layout = _layout(name, forecast, truth.layout, step)
    if what := truth.layout.difference(layout):
        raise DataError(f"forecast '{name}': its {what} are not those of {truth.name}: compare what is alike")
    hours = 1.0 if truth.calendar is None else hours_of(layout.time_units)
    starts = _starts(name, forecast, truth)
    pieces = [
        Piece(start + hours * lead[0], hours * step, len(lead), _reader(forecast, row, layout))
        for row, start in enumerate(starts)
    ]
    return Source(name, layout, truth.calendar, tuple((p,) for p in pieces), forecast.sizes["realization"])


def _layout(name: str, forecast: xr.Dataset, like: Layout, step: float) -> Layout:
    absent = next((field for field in like.fields.names if field not in forecast), None)
    if absent is not None:
        raise DataError(f"forecast '{name}' has no field '{absent}'; it has {', '.join(map(str, forecast.data_vars))}")
    units = tuple(str(forecast[field].attrs.get("units", "1")) for field in like.fields.names)
    return Layout(
        Fields(like.fields.names, units), axes_of(forecast), step, str(forecast["lead_time"].attrs["time_units"])
    )


def _starts(name: str, forecast: xr.Dataset, truth: Source) -> list[float]:
    """The times of the initial states."""
    if truth.calendar is None:
        return [0.0] * forecast.sizes["trajectory"]
    dates = forecast.attrs.get("initial_times")
    if dates is None:
        raise DataError(
            f"forecast '{name}' does not say the dates of its initial states, as {truth.name} does: make it again from "
            "data with a calendar, or give --block to compare without seasons"
        )
    return [truth.calendar.hours_since(0, str(date)) for date in dates]


def _reader(forecast: xr.Dataset, row: int, layout: Layout) -> Callable[[int, int], np.ndarray]:
    def read(first: int, end: int) -> np.ndarray:
        here = forecast.isel(trajectory=row, lead_time=slice(first, end))
        return np.stack([here[field].values for field in layout.fields.names], 2)

    return read


def undated(source: Source) -> Source:
    """The same without dates, in time units: each run begins at 0."""
    if source.calendar is None:
        return source
    hours = hours_of(source.layout.time_units)

    def moved(piece: Piece, origin: float) -> Piece:
        return replace(piece, start=(piece.start - origin) / hours, step=piece.step / hours)

    runs = tuple(tuple(moved(piece, run[0].start) for piece in run) for run in source.runs)
    return replace(source, calendar=None, runs=runs)
