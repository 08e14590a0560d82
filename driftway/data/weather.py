"""Weather and climate stores (WeatherBench 2, ERA5, CF netCDF) as data sets, by a short description in YAML.

A trajectory is one year, so that years belong to splits and forcing of a year to each. Reference: Rasp et al. 2024,
WeatherBench 2 (arXiv 2308.15560).
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr

from driftway.config import construct, load_yaml
from driftway.data.axes import Axis, Fields
from driftway.data.states import Lazy
from driftway.data.trajectories import Trajectories
from driftway.data.weather_grid import channel_of, grid_of, levels_of
from driftway.data.weather_reader import UNREADABLE, Channel, Grid, WeatherReader, check_present, opened, present
from driftway.data.weather_time import Times, Year, times_of, whole_years
from driftway.data.weather_units import conversion
from driftway.errors import DataError, naming
from driftway.storage import stamp

LOG = logging.getLogger(__name__)
SUFFIXES = (".yaml", ".yml")
LEAP_DAY = 59  # days before the 29th of February
SAMPLED = 4  # years, and frames of each, whose numbers are looked at when a store is opened


@dataclass(frozen=True)
class Weather:
    """What of a store is learned.

    Arguments:
        store: a zarr folder or a netCDF file, beside the description or by its full path
        fields: variables of the state; `temperature@850` is the one at 850 hPa
        static: variables that never change
        forcing: variables that are known in advance
        forcing_recurs: take the mean of the training years for the forcing of every year
        years: split → a year, or the first and the last; by default all whole years, without splits
        units: variable → the units that it has, where the store says none or wrong ones
        fill: variable → what stands for missing numbers, a number in SI units or the mean of those that are there
    """

    store: str
    fields: tuple[str, ...]
    static: tuple[str, ...] = ()
    forcing: tuple[str, ...] = ()
    forcing_recurs: bool = False
    years: dict[Literal["train", "valid", "test"], list[int]] | None = None
    units: dict[str, str] = field(default_factory=dict)
    fill: dict[str, float | Literal["mean"]] = field(default_factory=dict)


def is_weather(path: Path) -> bool:
    """Whether this is the description of a weather store."""
    return path.suffix in SUFFIXES and path.is_file()


def open_weather(path: str | Path) -> Trajectories:
    """The data set that a description stands for; its states are read from the store when they are needed.

    What is converted is logged, and is in the attribute `reading`. Raises ConfigError for a description, and DataError
    for a store, that cannot be what was meant.
    """
    about = construct({"weather": Weather}, {"type": "weather", **load_yaml(path)})
    store = Path(path).resolve().parent / about.store
    if not store.exists():
        raise DataError(f"{path}: the store {store} is not there; 'store' is a path from the description's folder")
    try:
        opened.cache_clear()
        with naming(store):
            found = _Store.of(store, opened(store, os.getpid()), about)
            return _trajectories(found, about, Path(path))
    except UNREADABLE as error:
        raise DataError(
            f"{store} is not a readable zarr folder or netCDF file: {' '.join(str(error).split())}"
        ) from error


@dataclass(frozen=True)
class _Store:
    """A store with what was found out about it; `said` grows as it is read."""

    path: Path
    data: xr.Dataset
    grid: Grid
    axes: tuple[Axis, Axis]
    times: Times
    years: tuple[Year, ...]
    said: list[str]

    @classmethod
    def of(cls, path: Path, data: xr.Dataset, about: Weather) -> _Store:
        grid, axes, said = grid_of(path, data)
        times = times_of(path, data[grid.time])
        years, left_out = whole_years(path, times, None if about.years is None else {**about.years})
        long = [str(y.year) for y in years if times.calendar.days(y.year) * 24 / times.step > times.per_year + 0.5]
        if long:
            left_out += f"{'; ' * bool(left_out)}31 December left out of the leap years {', '.join(long)}"
        return cls(path, data, grid, axes, times, tuple(years), [*said, *([left_out] if left_out else [])])

    @property
    def sample(self) -> list[int]:
        """Times at which numbers are looked at, of the training years or of all."""
        firsts = self.training
        some = firsts[:: max(1, len(firsts) // SAMPLED)][:SAMPLED]
        return [first + season * self.times.per_year // SAMPLED for first in some for season in range(SAMPLED)]

    @property
    def training(self) -> list[int]:
        """The first times of the training years, or of all where there are no splits."""
        return [year.first for year in self.years if year.split == "train"] or [year.first for year in self.years]

    def channel(self, name: str, about: Weather) -> Channel:
        """A variable with its units checked and what fills it, by some of its numbers."""
        found = channel_of(self.path, self.data, self.grid, name)
        moving = self.grid.time in self.data[found.variable].dims
        times = [slice(at, at + 1) for at in self.sample] if moving else [slice(0, 1)]
        stored = np.stack([self.grid.frames(self.data, found, at) for at in times])
        numbers = np.where(present(stored), stored, np.nan)
        level = None if found.level is None else levels_of(self.data, str(self.grid.level))[found.level]
        unit = about.units.get(found.variable, self.data[found.variable].attrs.get("units"))
        unit, factor, offset, said = conversion(found.variable, None if unit is None else str(unit), numbers, level)
        self.said.extend([said] if said else [])
        fill = about.fill.get(found.variable)
        known = replace(found, unit=unit, factor=factor, offset=offset)
        if fill is None:
            check_present(self.path, known, numbers, times[0].start)
            return known
        value = float(np.nanmean(factor * numbers + offset)) if fill == "mean" else float(fill)
        self.said.append(f"missing numbers of '{found.name}' filled with {value:.6g} {unit}")
        return replace(known, fill=value)


def _check_named(about: Weather) -> None:
    """Raise DataError where units or fill are given of a variable that is not read."""
    read = {name.partition("@")[0] for name in (*about.fields, *about.static, *about.forcing)}
    for key, given in (("units", about.units), ("fill", about.fill)):
        odd = next((name for name in given if name not in read), None)
        if odd is not None:
            raise DataError(f"{key}: '{odd}' is none of the variables that are read: {', '.join(sorted(read))}")


def _trajectories(store: _Store, about: Weather, path: Path) -> Trajectories:
    _check_named(about)
    channels = tuple(store.channel(name, about) for name in about.fields)
    _check_moves(store, channels, True, "fields")
    static = {c.name: c for c in (store.channel(name, about) for name in about.static)}
    _check_moves(store, list(static.values()), False, "static")
    forcing = [store.channel(name, about) for name in about.forcing]
    _check_moves(store, forcing, True, "forcing")
    frames, starts = store.times.per_year, tuple(year.first for year in store.years)
    shape = (len(starts), frames, len(channels), *(len(axis) for axis in store.axes))
    together = max(
        store.data[c.variable].encoding.get("preferred_chunks", {}).get(store.grid.time, 1) for c in channels
    )
    splits = tuple(str(year.split) for year in store.years) if about.years else None
    moving = {c.name: _recurring(store, c) if about.forcing_recurs else _yearly(store, c) for c in forcing}
    for line in store.said:
        LOG.warning("%s: %s", store.path.name, line)
    return Trajectories(
        states=Lazy(WeatherReader(store.path, channels, store.grid, starts, shape, together)),
        fields=Fields(tuple(c.name for c in channels), tuple(c.unit for c in channels)),
        axes=store.axes,
        dt=store.times.step,
        time_units="h",
        static={name: _checked(store, c, slice(0, 1)) for name, c in static.items()},
        forcing=moving,
        splits=splits,
        attributes={"store": store.path.name, "reading": store.said},
        digest=_digest(store, path),
        calendar=replace(store.times.calendar, starts=tuple(store.times.hours[list(starts)].tolist())),
        forcing_recurs=about.forcing_recurs,
    )


def _check_moves(store: _Store, channels: Sequence[Channel], moves: bool, kind: str) -> None:
    odd = next((c for c in channels if (store.grid.time in store.data[c.variable].dims) != moves), None)
    if odd is not None:
        found, other = ("does not vary", "static") if moves else ("varies", "forcing or fields")
        raise DataError(f"{store.path}: '{odd.variable}' of {kind} {found} with time; name it under {other}")


def _checked(store: _Store, channel: Channel, times: slice) -> np.ndarray:
    values = store.grid.converted(store.data, channel, times)
    check_present(store.path, channel, values, times.start)
    return values


def _yearly(store: _Store, channel: Channel) -> np.ndarray:
    """Forcing (N, T, lat, lon) of every year."""
    frames = store.times.per_year
    return np.stack([_checked(store, channel, slice(y.first, y.first + frames)) for y in store.years])


def _recurring(store: _Store, channel: Channel) -> np.ndarray:
    """The mean (T, lat, lon) of the training years, by date; a 29th of February does not enter."""
    calendar, day = store.times.calendar, 24 / store.times.step
    frames = store.times.per_year
    total = np.zeros((frames, *(len(axis) for axis in store.axes)))
    for first in store.training:
        leap = int(calendar.days(calendar.year(store.times.hours[first]))) == 366
        whole = _checked(store, channel, slice(first, first + frames + round(day) * leap))
        total += np.delete(whole, np.s_[round(LEAP_DAY * day) : round((LEAP_DAY + 1) * day)], axis=0) if leap else whole
    return (total / len(store.training)).astype(np.float32)


def _digest(store: _Store, path: Path) -> str:
    files = sorted(p for p in store.path.rglob("*") if p.is_file()) if store.path.is_dir() else [store.path]
    return hashlib.sha256(path.read_bytes() + stamp(files).encode()).hexdigest()


def verify_weather(path: str | Path) -> list[str]:
    """Reads every number of every year; a line for each year that cannot be read or lacks numbers."""
    data, problems = open_weather(path), []
    for row in range(data.shape[0]):
        try:
            np.asarray(data.states[[row]])
        except DataError as error:
            problems.append(str(error))
    return problems
