"""Data sets and forecasts as stores in the layout of WeatherBench 2: zarr 2, levels along one dim, dates as times.

Reference: Rasp et al. 2024, WeatherBench 2 (arXiv 2308.15560).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from driftway.config import dump_yaml
from driftway.data import cf
from driftway.data.axes import Axis, Fields
from driftway.data.calendar import Calendar, hours_of
from driftway.data.forecasts import AXES, axes_of, open_forecast
from driftway.data.joined import chains
from driftway.data.trajectories import SPLITS, Trajectories
from driftway.data.weather_names import Variable, channel_of, variables_of
from driftway.errors import DataError
from driftway.storage import atomic_folder, atomic_write, explained

CHUNK_BYTES = 4_000_000
SPACE = ("latitude", "longitude")
EARTH = ("degrees_north", "degrees_east")


@dataclass(frozen=True)
class _Store:
    """One zarr folder: its leading dims and their sizes, its levels and its variables."""

    group: zarr.Group
    lead: Mapping[str, int]
    levels: Sequence[int]
    variables: Sequence[Variable]

    @classmethod
    def create(
        cls, folder: Path, lead: Mapping[str, Any], fields: Fields, axes: Sequence[Axis], about: Mapping[str, Any]
    ) -> _Store:
        """Coordinates of the leading dims, levels and axes, and empty variables."""
        levels, variables = variables_of(fields)
        placed = {"level": ("level", np.array(levels), {"units": "hPa"})} if levels else {}
        points = {
            name: (name, np.asarray(axis.coordinates), {"units": axis.units, **cf.AXES[axis.units]})
            for name, axis in zip(SPACE, axes, strict=True)
        }
        template = xr.Dataset(coords={**lead, **placed, **points}, attrs={"Conventions": "CF-1.11", **about})
        template.to_zarr(folder, mode="w", zarr_format=2, consolidated=False)
        store = cls(zarr.open_group(folder, mode="r+"), {n: template.sizes[n] for n in lead}, levels, variables)
        for variable in variables:
            store._create(variable.name, variable.units, bool(variable.places), [len(axis) for axis in axes])
        return store

    def _create(self, name: str, units: str, aloft: bool, space: Sequence[int]) -> None:
        deep = {"level": len(self.levels)} if aloft else {}
        sizes = {**self.lead, **deep, **dict(zip(SPACE, space, strict=True))}
        self.group.create_array(
            name,
            shape=tuple(sizes.values()),
            chunks=self._chunks(sizes),
            dtype="float32",
            fill_value=float("nan"),
            attributes={"units": units, "_ARRAY_DIMENSIONS": list(sizes)},
        )

    def _chunks(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Whole states; of the last leading dim that streams (times, or leads), as many as fit."""
        streamed = "prediction_timedelta" if "prediction_timedelta" in sizes else "time"
        found = {name: 1 if name == "time" else size for name, size in sizes.items()} | {streamed: 1}
        fitting = CHUNK_BYTES // (4 * int(np.prod(list(found.values()))))
        return tuple((found | {streamed: max(1, min(fitting, sizes[streamed]))}).values())

    def block(self) -> int:
        """How many times or leads are written at once: chunks of the largest variable."""
        largest = self.group[max(self.variables, key=lambda variable: len(variable.channels)).name]
        return int(largest.chunks[1 if "prediction_timedelta" in self.lead else 0])  # type: ignore[union-attr]

    def put(self, place: tuple[Any, ...], field: Any) -> None:
        """Numbers of all variables at a place along the leading dims; field: number of one of ours → its own."""
        for variable in self.variables:
            self.group[variable.name][place] = variable.gathered(len(self.levels), field)  # type: ignore[index]

    def still(self, name: str, values: np.ndarray) -> None:
        """A field (lat, lon) that never changes."""
        channel = channel_of(name, None)
        array = self.group.create_array(
            channel.variable,
            shape=values.shape,
            dtype="float32",
            fill_value=float("nan"),
            attributes={"units": channel.units, "_ARRAY_DIMENSIONS": list(SPACE)},
        )
        array[...] = channel.convert(values).astype(np.float32)

    def close(self) -> None:
        """Gather what describes the arrays in one file, which readers look for."""
        zarr.consolidate_metadata(self.group.store, zarr_format=2)


# --- data sets -----------------------------------------------------------------------------------------------------


def export_weather(data: Trajectories, folder: str | Path) -> Path:
    """Write a data set as `folder/000.zarr`, `001.zarr`, …, a store for trajectories of a run that follow one another.

    Dims (time, level, latitude, longitude), latitudes as they are. Beside a store that holds whole years lies its
    description `000.yaml`, which `open_data` reads. The folder appears when all is written. Raises StorageError if it
    exists and where it cannot be written, DataError for data without calendar, latitude and longitude.
    """
    folder = Path(folder)
    _check_earth("these data", data.axes)
    if data.calendar is None:
        raise DataError("WeatherBench 2's layout has dates, and these data have no calendar: write The Well's layout")
    with explained(folder), atomic_folder(folder) as partial:
        for number, rows in enumerate(chains(data)):
            _write_chain(data.select(rows), rows, partial / f"{number:03d}.zarr")
    return folder


def _write_chain(data: Trajectories, rows: Sequence[int], folder: Path) -> None:
    assert data.calendar is not None
    frames = data.shape[1]
    hours = data.calendar.hours(np.arange(len(rows))[:, None], data.hours(np.arange(frames))).ravel()
    splits = {} if data.splits is None else {"splits": list(data.splits)}
    about = {**_plain(data.attributes), "trajectories": list(rows), **splits}
    store = _Store.create(folder, {"time": _times(hours, data.calendar)}, data.fields, data.axes, about)
    length = store.block()
    for row in range(len(rows)):
        for first in range(0, frames, length):
            states = np.asarray(data.states[[row], first : first + length])[0]
            at = row * frames + first
            store.put((slice(at, at + len(states)),), lambda c, states=states: states[:, c])
    for name, values in data.static.items():
        if values.ndim == len(data.axes):
            store.still(name, values)
    store.close()
    _describe(data, folder)


def _describe(data: Trajectories, folder: Path) -> None:
    """What `open_data` reads of a store whose trajectories are years."""
    assert data.calendar is not None
    starts, years = np.asarray(data.calendar.starts), data.calendar.year(np.asarray(data.calendar.starts))
    whole = np.abs(24 * data.calendar.days(years) - data.hours(data.shape[1])) < 1e-3
    if not (whole & (data.calendar.hour_of_year(starts) == 0)).all():
        return
    channels = [channel_of(name, units) for name, units in zip(data.fields.names, data.fields.units, strict=True)]
    about: dict[str, Any] = {"store": folder.name}
    about["fields"] = [c.variable if c.level is None else f"{c.variable}@{c.level}" for c in channels]
    about["static"] = [channel_of(n, None).variable for n, v in data.static.items() if v.ndim == len(data.axes)]
    spans = {} if data.splits is None else _spans(data.splits, years.tolist())
    about |= {"years": spans} if spans else {}
    atomic_write(folder.with_suffix(".yaml"), dump_yaml(about).encode())


def _spans(splits: Sequence[str], years: Sequence[int]) -> dict[str, list[int]]:
    """The first and last year of each split; nothing where they are no ranges."""
    found = {split: [year for year, other in zip(years, splits, strict=True) if other == split] for split in SPLITS}
    if any(own and own != list(range(own[0], own[-1] + 1)) for own in found.values()):
        return {}
    return {split: sorted({own[0], own[-1]}) for split, own in found.items() if own}


# --- forecasts -----------------------------------------------------------------------------------------------------


def export_forecast(path: str | Path, folder: str | Path) -> Path:
    """Write a forecast as `folder/000.zarr`; initial times that come twice, as of other trajectories, in `001.zarr` …

    Dims (time, prediction_timedelta, number, level, latitude, longitude), `time` the initial time. The folder appears
    when all is written. Raises StorageError if it exists and where it cannot be written, DataError for a forecast that
    does not know its dates, latitude and longitude.
    """
    forecast, folder = open_forecast(Path(path)), Path(folder)
    names = [str(name) for name, values in forecast.data_vars.items() if values.dims[:3] == AXES]
    axes = axes_of(forecast)
    _check_earth(str(path), axes)
    dates, calendar = forecast.attrs.get("initial_times"), forecast.attrs.get("calendar")
    if not dates or not calendar:
        raise DataError(f"{path} does not know the dates that it starts from: make it again from data with a calendar")
    fields = Fields(tuple(names), tuple(str(forecast[name].attrs.get("units", "1")) for name in names))
    with explained(folder), atomic_folder(folder) as partial:
        for number, rows in enumerate(_apart(dates)):
            store, own = partial / f"{number:03d}.zarr", [dates[row] for row in rows]
            _write_forecast(forecast.isel(trajectory=rows), own, str(calendar), fields, axes, store)
    return folder


def _apart(dates: Sequence[str]) -> list[list[int]]:
    """Rows in groups in which no date comes twice, each in the order of dates."""
    found: list[list[int]] = []
    for row, date in enumerate(dates):
        group = next((rows for rows in found if date not in [dates[other] for other in rows]), None)
        if group is None:
            found.append([row])
        else:
            group.append(row)
    return [sorted(rows, key=lambda row: dates[row]) for rows in found]


def _write_forecast(
    forecast: xr.Dataset, dates: Sequence[str], calendar: str, fields: Fields, axes: Sequence[Axis], folder: Path
) -> None:
    epoch = Calendar((0.0,), f"{dates[0][:4]}-01-01T00:00", calendar)
    hours = np.array([epoch.hours_since(int(dates[0][:4]), date) for date in dates])
    leads = forecast["lead_time"].values * hours_of(str(forecast["lead_time"].attrs.get("time_units", "1")))
    lead = {
        "time": _times(hours, epoch),
        "prediction_timedelta": _whole(leads, "prediction_timedelta", {"standard_name": "forecast_period"}, ""),
        "number": ("number", np.arange(forecast.sizes["realization"]), {"standard_name": "realization"}),
    }
    store = _Store.create(folder, lead, fields, axes, _plain(forecast.attrs))
    length = store.block()
    for row in range(len(dates)):
        for first in range(0, len(leads), length):
            part = forecast.isel(trajectory=row, lead_time=slice(first, first + length))
            place = (row, slice(first, first + part.sizes["lead_time"]))
            store.put(place, lambda c, part=part: np.moveaxis(part[fields.names[c]].values, 0, 1))
    store.close()


# --- both ----------------------------------------------------------------------------------------------------------


def _check_earth(what: str, axes: Sequence[Axis]) -> None:
    units = tuple(axis.units for axis in axes)
    if units != EARTH:
        raise DataError(
            f"WeatherBench 2's layout has latitude and longitude; the axes of {what} have the units "
            f"{', '.join(units)}, must have {' and '.join(EARTH)}"
        )


def _times(hours: np.ndarray, calendar: Calendar) -> Any:
    about = {"standard_name": "time", "calendar": calendar.name, "axis": "T"}
    return _whole(hours, "time", about, calendar.cf()["units"].removeprefix("hours"))


def _whole(hours: np.ndarray, name: str, about: Mapping[str, Any], since: str) -> Any:
    """A coordinate in whole hours, or else in whole minutes."""
    for unit, factor in (("hours", 1), ("minutes", 60)):
        found = np.round(hours * factor).astype(np.int64)
        if np.allclose(found, hours * factor, rtol=0, atol=1e-3):
            return (name, found, {**about, "units": f"{unit}{since}"})
    raise DataError(f"{name}: times that are no whole minutes, such as {hours[0]:g} h, have no place in this layout")


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes that any reader of zarr takes: numbers, text and lists of these."""
    kept = (str, int, float, list, tuple)
    return {name: value for name, value in attributes.items() if isinstance(value, kept) and name != "Conventions"}
