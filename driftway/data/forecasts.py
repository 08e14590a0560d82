"""Where an ensemble forecast goes as it is made: an array in memory, or a zarr folder in constant memory.

Dims are (realization, trajectory, lead_time, *axes), one variable per field, named by the CF conventions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr
import zarr

from driftway.data.axes import Axis
from driftway.data.layout import Layout
from driftway.data.zarr_store import SUMS, UNREADABLE, check_unchanged, chunk_options, zarr_sums
from driftway.errors import DataError
from driftway.randomness import Key
from driftway.storage import PLACE, atomic_folder, explained
from driftway.sums import files_in, write_sums

AXES = ("realization", "trajectory", "lead_time")
COORDINATES = {
    "realization": {"standard_name": "realization", "long_name": "ensemble member"},
    "trajectory": {"long_name": "initial state"},
    "lead_time": {"standard_name": "forecast_period", "long_name": "time since the initial state"},
}


class Sink(Protocol):
    """What a forecast is written to; `folder` is where it is made, if it is made on disk."""

    folder: Path | None

    def put(self, members: slice, trajectories: slice, lead: int, states: np.ndarray) -> None:
        """Take states (m, n, C, *S) at lead number `lead`, counted from 0."""

    def dataset(self) -> xr.Dataset:
        """Everything that was put."""
        ...


class _Memory:
    folder: Path | None = None

    def __init__(self, layout: Layout, members: int, names: Sequence[Key], leads: int, attributes: Mapping[str, Any]):
        self.layout, self.attributes = layout, attributes
        self.coordinates = _coordinates(layout, members, names, leads)
        channels, *space = layout.shape
        self.states = np.full((channels, members, len(names), leads, *space), np.nan, np.float32)

    def put(self, members: slice, trajectories: slice, lead: int, states: np.ndarray) -> None:
        self.states[:, members, trajectories, lead] = np.moveaxis(states, 2, 0)

    def dataset(self) -> xr.Dataset:
        dims = (*AXES, *(axis.name for axis in self.layout.axes))
        variables = {
            name: (dims, self.states[c], {"units": unit})
            for c, (name, unit) in enumerate(zip(self.layout.fields.names, self.layout.fields.units, strict=True))
        }
        return xr.Dataset(variables, self.coordinates, {"Conventions": "CF-1.11", **self.attributes})


class _Folder:
    def __init__(self, final: Path, partial: Path, arrays: Sequence[zarr.Array]):
        self.final, self.arrays = final, arrays
        self.folder: Path | None = partial

    def put(self, members: slice, trajectories: slice, lead: int, states: np.ndarray) -> None:
        with explained(self.final):
            for c, array in enumerate(self.arrays):
                array[members, trajectories, lead] = states[:, :, c]

    def dataset(self) -> xr.Dataset:
        return open_forecast(self.final)


@contextmanager
def in_memory(
    layout: Layout, members: int, names: Sequence[Key], leads: int, attributes: Mapping[str, Any]
) -> Iterator[Sink]:
    """A forecast kept in memory."""
    yield _Memory(layout, members, names, leads, attributes)


def on_disk(out: Path, members_per_chunk: int, force: bool = False, key: str = "") -> Callable[..., Any]:
    """A forecast streamed to the zarr folder `out`, which appears under its name, with checksums, when it is complete.

    Chunks hold one lead of one initial state, for as many members as run together. With a `key` it goes on in the
    folder that a process which was stopped has left of the same key.
    """

    @contextmanager
    def writer(
        layout: Layout, members: int, names: Sequence[Key], leads: int, attributes: Mapping[str, Any]
    ) -> Iterator[Sink]:
        with explained(out), atomic_folder(out, force=force, key=key) as partial:
            if not (partial / PLACE).is_file():
                about = {"Conventions": "CF-1.11", **attributes}
                template = xr.Dataset(coords=_coordinates(layout, members, names, leads), attrs=about)
                template.to_zarr(partial, mode="w", zarr_format=3, consolidated=False)
            group = zarr.open_group(partial, mode="r+")
            arrays = create_fields(group, layout, AXES, (members, len(names), leads), members_per_chunk)
            yield _Folder(out, partial, arrays)
            write_sums(partial, files_in(partial), SUMS)

    return writer


def create_fields(
    group: zarr.Group, layout: Layout, dims: Sequence[str], shape: Sequence[int], members_per_chunk: int
) -> list[zarr.Array]:
    """One array per field in a group, with the leading dims (realization, …) and then the axes; what is there stays.

    Chunks hold one state of some members.
    """
    _, *space = layout.shape
    rest = (1,) * (len(shape) - 1)
    return [
        group.require_array(
            name,
            shape=(*shape, *space),
            chunks=(members_per_chunk, *rest, *space),
            dimension_names=(*dims, *(axis.name for axis in layout.axes)),
            attributes={"units": unit},
            config={"write_empty_chunks": True},
            **chunk_options(),
        )
        for name, unit in zip(layout.fields.names, layout.fields.units, strict=True)
    ]


def write_coordinates(folder: Path, coordinates: Mapping[str, Any], variables: Mapping[str, Any], group: str) -> None:
    """Coordinates and variables in a group of a forecast's folder, in place of one that is there."""
    data = xr.Dataset(dict(variables), dict(coordinates))
    data.to_zarr(folder, group=group, mode="w", zarr_format=3, consolidated=False)


def describe_forecast(folder: Path, attributes: Mapping[str, Any]) -> None:
    """Add to what a forecast on disk says of itself."""
    zarr.open_group(folder, mode="r+").attrs.update(attributes)


def open_forecast(path: Path) -> xr.Dataset:
    """A forecast on disk, checked for missing files and read lazily."""
    if not (path / "zarr.json").is_file():
        raise DataError(
            f"{path} is not a forecast: it has no zarr.json; make one with `driftway forecast RUN --out {path}`"
        )
    try:
        sums = zarr_sums(path)
        check_unchanged(path, sums, _fields_of(sums))
        for name, array in zarr.open_group(path, mode="r").arrays():
            if array.ndim > len(AXES) and array.nchunks_initialized < array.nchunks:
                missing = array.nchunks - array.nchunks_initialized
                raise DataError(f"{path}: {missing} files of '{name}' are missing; copy the folder again")
        return xr.open_zarr(path, consolidated=False, chunks=None)
    except UNREADABLE as error:
        raise DataError(f"{path} is not a readable forecast: {' '.join(str(error).split())}; make it again") from error


def _fields_of(files: Iterable[str]) -> set[str]:
    """The arrays of a zarr folder whose chunks are numbered along space too, e.g. 'u' with the file 'u/c/0/0/3/0'."""
    parts = (name.partition("/c/") for name in files)
    return {array for array, _, chunk in parts if chunk.count("/") >= len(AXES)}


def axes_of(forecast: xr.Dataset) -> tuple[Axis, ...]:
    """The grid of a forecast."""
    fields = (values for values in forecast.data_vars.values() if values.dims[: len(AXES)] == AXES)
    return tuple(_axis(forecast[dim]) for dim in next(fields).dims[len(AXES) :])


def _axis(points: xr.DataArray) -> Axis:
    about = points.attrs
    values = tuple(map(float, points.values))
    return Axis(str(points.name), values, str(about["boundary"]), float(about["length"]), str(about["units"]))


def _coordinates(layout: Layout, members: int, names: Sequence[Key], leads: int) -> dict[str, Any]:
    values = {
        "realization": np.arange(members),
        "trajectory": keys(names),
        "lead_time": layout.lead_times(leads),
    }
    # xarray would turn bare time units into durations, so lead times keep their unit under another name
    coordinates = {name: ((name,), value, dict(COORDINATES[name])) for name, value in values.items()}
    coordinates["lead_time"][2]["time_units"] = layout.time_units
    for axis in layout.axes:
        attributes = {"boundary": axis.boundary, "length": axis.length, "units": axis.units}
        coordinates[axis.name] = ((axis.name,), np.asarray(axis.coordinates), attributes)
    return coordinates


def keys(names: Sequence[Key]) -> np.ndarray:
    """Numbers, or text of any length, which zarr has no other stable type for."""
    if all(isinstance(name, int) for name in names):
        return np.asarray(names)
    return np.asarray([str(name) for name in names], dtype=object)
