"""The grid of a weather store: which of its dims are which, how its points are ordered, and where its variables are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from driftway.config.yaml import nearest
from driftway.data.axes import Axis
from driftway.data.weather_reader import Channel, Grid
from driftway.data.weather_units import canonical
from driftway.errors import DataError

COORDINATES = {
    "time": ({"time", "valid_time"}, set[str]()),
    "latitude": ({"latitude", "lat"}, {"degrees_north", "degree_north"}),
    "longitude": ({"longitude", "lon"}, {"degrees_east", "degree_east"}),
}
GLOBE = 360.0
LOWEST = 2000.0  # no level in hPa is below this


def coordinate(path: Path, data: xr.Dataset, kind: str) -> str:
    """The dim of a store that is time, latitude or longitude, by its name, standard name or units."""
    names, units = COORDINATES[kind]
    for dim in map(str, data.dims):
        about = data[dim].attrs if dim in data.coords else {}
        if dim in names or about.get("standard_name") == kind or about.get("units") in units:
            if dim not in data.coords:
                raise DataError(f"{path}: dim '{dim}' has no coordinate; write its values beside the variables")
            return dim
    raise DataError(f"{path} has no {kind} among its dims {', '.join(map(str, data.dims))}; rename it to '{kind}'")


def grid_of(path: Path, data: xr.Dataset) -> tuple[Grid, tuple[Axis, Axis], list[str]]:
    """Dims, axes and order of the points of a store, and what is to be said of them.

    Latitudes keep their order. Longitudes from −180 to 180 are turned to 0 to 360; a last one that repeats the first
    is left out. Where they do not go round the globe, both axes are open.
    """
    time, lat, lon = (coordinate(path, data, kind) for kind in COORDINATES)
    fields = [set(map(str, v.dims)) for v in data.data_vars.values() if {lat, lon} <= set(v.dims)]
    levels = sorted(set[str]().union(*fields) - {time, lat, lon})
    latitudes, longitudes = (np.round(data[dim].values.astype(float), 5) for dim in (lat, lon))
    points, order = np.unique(longitudes % GLOBE, return_index=True)
    said = [f"latitudes run from {latitudes[0]:g} to {latitudes[-1]:g}, as in the store"]
    cell = GLOBE / len(points)
    if not np.allclose(np.diff(points), cell, rtol=0, atol=1e-3 * cell):
        said.append("longitudes do not go round the globe: both axes are open")
        axes = (
            Axis("lat", tuple(latitudes), "open", units="degrees_north"),
            Axis("lon", tuple(longitudes), "open", units="degrees_east"),
        )
        return Grid(time, lat, lon, _one(levels), tuple(range(len(longitudes)))), axes, said
    if len(points) < len(longitudes):
        said.append(f"longitude {longitudes.max():g} repeats {longitudes.min():g} and is left out")
    if not np.array_equal(points, longitudes[: len(points)]):
        said.append(
            f"longitudes from {longitudes[0]:g} to {longitudes[-1]:g} turned to {points[0]:g} to {points[-1]:g}"
        )
    axes = (_latitude(latitudes), Axis("lon", tuple(points), "periodic", GLOBE, "degrees_east"))
    return Grid(time, lat, lon, _one(levels), tuple(order.tolist())), axes, said


def _one(levels: list[str]) -> str | None:
    return levels[0] if levels else None


def _latitude(points: np.ndarray) -> Axis:
    """From pole to pole, where each is less than a cell away, as on Gaussian grids too."""
    cell = float(np.abs(np.diff(points)).max(initial=0))
    whole = bool((90 - points.max() < cell) and (points.min() + 90 < cell))
    return Axis("lat", tuple(points), "pole" if whole else "open", GLOBE / 2 if whole else None, "degrees_north")  # type: ignore[arg-type]


def channel_of(path: Path, data: xr.Dataset, grid: Grid, name: str) -> Channel:
    """The variable, and for `temperature@850` the level in hPa, that a name stands for: channel `temperature850`."""
    variable, at, level = name.partition("@")
    if variable not in data.data_vars:
        there = sorted(map(str, data.data_vars))
        raise DataError(
            f"{path} has no variable '{variable}'{nearest(variable, there) or ';'} it has {', '.join(there)}"
        )
    dims = tuple(map(str, data[variable].dims))
    extra = set(dims) - {grid.time, grid.latitude, grid.longitude}
    if not {grid.latitude, grid.longitude} <= set(dims) or len(extra) > 1 or extra - {grid.level}:
        raise DataError(
            f"{path}: '{variable}' has the dims ({', '.join(dims)}), must have latitude and longitude, and may have "
            "time and levels"
        )
    if not extra:
        if at:
            raise DataError(f"{path}: '{variable}' has no levels; write '{variable}' in place of '{name}'")
        return Channel(variable, variable)
    values = levels_of(data, str(grid.level))
    known = ", ".join(f"{value:g}" for value in values)
    if not at:
        raise DataError(f"{path}: '{variable}' has the levels {known}: choose one each, as {variable}@{values[0]:g}")
    found = [place for place, value in enumerate(values) if level == f"{value:g}"]
    if not found:
        raise DataError(f"{path}: '{variable}' has no level {level} hPa; there are {known}")
    return Channel(f"{variable}{level}", variable, level=found[0])


def levels_of(data: xr.Dataset, dim: str) -> Sequence[float]:
    """Pressure levels in hPa: without units those beyond 2000 are in Pa. Raises DataError for units of no pressure."""
    values = data[dim].values.astype(float)
    unit = canonical(str(data[dim].attrs.get("units", "")))
    if unit not in ("Pa", "hPa", "1"):
        raise DataError(
            f"levels '{dim}' are in {unit}, must be pressures in hPa or Pa: interpolate to pressure levels, or correct "
            "the attribute 'units'"
        )
    return (values / (100 if unit == "Pa" or (unit == "1" and values.max() > LOWEST) else 1)).tolist()
