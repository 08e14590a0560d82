"""Data sets in The Well's HDF5 layout: read file by file when needed, and written.

A vector field v on the axes x, y is the channels v_x, v_y, a tensor field the channels v_xx, v_xy, …; scalars are
parameters, fields that change neither with sample nor time are static. Reference: Ohana et al. 2024 (arXiv 2412.00568).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from driftway.data.trajectories import SPLITS, Axis, Fields, Lazy, Trajectories
from driftway.errors import DataError
from driftway.storage import explained

SUFFIXES = (".hdf5", ".h5")
BOUNDARIES = {"PERIODIC": "periodic", "WALL": "wall", "OPEN": "open"}
UNREADABLE = (OSError, KeyError, ValueError, RuntimeError, TypeError)


@dataclass(frozen=True)
class Channel:
    """Where one channel is: group, data set, and the component of a vector or tensor."""

    group: str
    field: str
    component: tuple[int, ...] = ()
    name: str = ""
    unit: str = "1"


@dataclass(frozen=True)
class WellReader:
    """The trajectories of several files, one after the other."""

    files: tuple[Path, ...]
    counts: tuple[int, ...]
    channels: tuple[Channel, ...]
    shape: tuple[int, ...]

    def read(self, row: int, start: int, stop: int) -> np.ndarray:
        ends = np.cumsum(self.counts)
        number = int(np.searchsorted(ends, row, side="right"))
        path, inside = self.files[number], row - int(ends[number]) + self.counts[number]
        try:
            file = _opened(path, os.getpid())
            frames = [_values(file, channel, inside, slice(start, stop)) for channel in self.channels]
        except UNREADABLE as error:
            raise _damaged(path, error) from error
        return np.stack(frames, 1).astype(np.float32, copy=False)


def _values(file: h5py.File, channel: Channel, row: int, times: slice) -> np.ndarray:
    stored: Any = file[channel.group][channel.field]  # type: ignore[index]
    return stored[(row, times, ..., *channel.component)]


@lru_cache(maxsize=16)
def _opened(path: Path, process: int) -> h5py.File:
    """One handle per process: HDF5 handles do not survive a fork."""
    return h5py.File(path, "r")


def _damaged(path: Path, error: Exception) -> DataError:
    size = f"{path.stat().st_size} bytes" if path.is_file() else "missing"
    return DataError(f"{path} ({size}) is not a readable file of The Well's layout: {error}; copy it again")


# --- reading -------------------------------------------------------------------------------------------------------


def open_well(path: str | Path) -> Trajectories:
    """One file, a folder of files, or a folder with train, valid and test (in it or in `data/`)."""
    path = Path(path)
    files = list(_files(path))
    parts = [_described(file) for file, _ in files]
    first, path_first = parts[0], files[0][0]
    for part, (file, _) in zip(parts, files, strict=True):
        if (part.channels, part.axes, part.frames) != (first.channels, first.axes, first.frames):
            raise DataError(f"{file} differs from {path_first} in fields, grid or number of times; keep them apart")
    counts = tuple(part.count for part in parts)
    reader = WellReader(
        tuple(file for file, _ in files),
        counts,
        first.channels,
        (sum(counts), first.frames, len(first.channels), *(len(axis) for axis in first.axes)),
    )
    splits = [split for (_, split), count in zip(files, counts, strict=True) for _ in range(count)]
    return Trajectories(
        states=Lazy(reader),
        fields=Fields(tuple(c.name for c in first.channels), tuple(c.unit for c in first.channels)),
        axes=first.axes,
        dt=first.dt,
        parameters={name: np.concatenate([part.parameters[name] for part in parts]) for name in first.parameters},
        static=first.static,
        splits=tuple(splits) if all(splits) else None,
        attributes={"dataset_name": first.name},
        digest=_digest(files),
    )


def _digest(files: list[tuple[Path, str]]) -> str:
    """Of names, sizes and times of change: a hash of terabytes would take hours."""
    about = [(file.name, split, file.stat().st_size, file.stat().st_mtime_ns) for file, split in files]
    return hashlib.sha256(repr(about).encode()).hexdigest()


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    """Files with their split, or with '' where there are no splits."""
    if path.is_file():
        yield path, ""
        return
    base = path / "data" if (path / "data").is_dir() else path
    folders = [(base / split, split) for split in SPLITS if (base / split).is_dir()] or [(base, "")]
    found = [(file, split) for folder, split in folders for file in sorted(folder.iterdir()) if file.suffix in SUFFIXES]
    if not found:
        raise DataError(f"{path} holds no {' or '.join(SUFFIXES)} files, nor do train, valid and test in it")
    yield from found


@dataclass(frozen=True)
class _Part:
    """What one file says of itself."""

    name: str
    channels: tuple[Channel, ...]
    axes: tuple[Axis, ...]
    dt: float
    count: int
    frames: int
    parameters: dict[str, np.ndarray]
    static: dict[str, np.ndarray]


def _described(path: Path) -> _Part:
    try:
        with h5py.File(path, "r") as file:
            return _part(file)
    except UNREADABLE as error:
        raise _damaged(path, error) from error


def _part(file: Any) -> _Part:
    names = [_text(name) for name in file["dimensions"].attrs["spatial_dims"]]
    channels = tuple(_channels(file, names))
    if not channels:
        raise ValueError("no field varies with time")
    count, frames = file[channels[0].group][channels[0].field].shape[:2]
    times = np.asarray(file["dimensions"]["time"], dtype=float).reshape(-1)[:frames]
    if len(times) < 2 or not np.allclose(np.diff(times), times[1] - times[0], rtol=1e-3):
        raise ValueError("dimensions/time must hold equally spaced times, two at least")
    return _Part(
        _text(file.attrs.get("dataset_name", "")),
        channels,
        tuple(_axis(file, name) for name in names),
        float(times[1] - times[0]),
        count,
        frames,
        {name: _scalar(file["scalars"][name], count) for name in _names(file, "scalars")},
        {
            name: np.asarray(file["t0_fields"][name])
            for name in _names(file, "t0_fields")
            if _fixed(file["t0_fields"][name])
        },
    )


def _channels(file: Any, axes: list[str]) -> Iterator[Channel]:
    for order in range(3):
        group = f"t{order}_fields"
        for field in _names(file, group):
            unit = _text(file[group][field].attrs.get("units", "1"))
            if not _fixed(file[group][field]):
                for component in product(range(len(axes)), repeat=order):
                    suffix = "_" + "".join(axes[i] for i in component) if order else ""
                    yield Channel(group, field, component, field + suffix, unit)


def _names(file: Any, group: str) -> list[str]:
    return [_text(name) for name in file[group].attrs.get("field_names", [])] if group in file else []


def _fixed(stored: Any) -> bool:
    """Whether a field is one grid for all samples and times."""
    flags = stored.attrs.get("sample_varying", True), stored.attrs.get("time_varying", True)
    if any(flags) and not all(flags):
        raise ValueError(f"{stored.name} varies with {'sample' if flags[0] else 'time'} alone, which is not read")
    return not any(flags)


def _scalar(stored: Any, count: int) -> np.ndarray:
    values = np.asarray(stored, dtype=np.float64).reshape(-1)
    return np.broadcast_to(values, (count,)).copy()


def _axis(file: Any, name: str) -> Axis:
    points = np.asarray(file["dimensions"][name], dtype=float).reshape(-1)
    kinds = [
        BOUNDARIES[_text(b.attrs["bc_type"]).upper()]
        for b in file["boundary_conditions"].values()
        if name in [_text(dim) for dim in b.attrs["associated_dims"]]
    ]
    boundary = kinds[0] if kinds else "open"
    extent = float(np.ptp(points))
    length = extent * len(points) / (len(points) - 1) if boundary == "periodic" else extent
    return Axis(name, tuple(points.tolist()), boundary, length)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def verify_well(path: str | Path) -> list[str]:
    """Reads every number of every file, so that HDF5's checksums are compared."""
    problems = []
    for file, _ in _files(Path(path)):
        try:
            with h5py.File(file, "r") as opened:
                _part(opened)
                opened.visititems(lambda _, item: None if isinstance(item, h5py.Group) else item[()] is None)
        except UNREADABLE as error:
            problems.append(f"{file.name}: {error}")
    return problems


# --- writing -------------------------------------------------------------------------------------------------------


def save_well(data: Trajectories, path: str | Path, name: str = "driftway") -> Path:
    """Write all trajectories to one HDF5 file; parameters that are equal for all become scalars of the file."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        with explained(path), h5py.File(partial, "w") as file:
            _write(data, file, name)
        with explained(path):
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _write(data: Trajectories, file: Any, name: str) -> None:
    axes = [axis.name for axis in data.axes]
    file.attrs.update(
        dataset_name=name,
        grid_type="cartesian",
        n_spatial_dims=len(axes),
        n_trajectories=data.shape[0],
        simulation_parameters=list(data.parameters),
    )
    dimensions = file.create_group("dimensions")
    dimensions.attrs["spatial_dims"] = axes
    _put(dimensions, "time", data.dt * np.arange(data.shape[1]), sample=False, time=True)
    for axis in data.axes:
        _put(dimensions, axis.name, axis.coordinates, sample=False, time=False)
        _write_boundary(file.require_group("boundary_conditions"), axis)
    scalars = file.create_group("scalars")
    scalars.attrs["field_names"] = list(data.parameters)
    for key, values in data.parameters.items():
        equal = bool(np.all(values == values[0]))
        _put(scalars, key, values[0] if equal else values, sample=not equal, time=False)
        file.attrs[key] = float(values[0])
    _write_fields(data, file, axes)


def _put(group: Any, name: str, values: Any, *, sample: bool, time: bool) -> Any:
    stored = group.create_dataset(name, data=np.asarray(values, np.float32))
    stored.attrs.update(sample_varying=sample, time_varying=time)
    return stored


def _write_boundary(group: Any, axis: Axis) -> None:
    kind = {ours: theirs for theirs, ours in BOUNDARIES.items()}[axis.boundary]
    mask = np.zeros(len(axis), bool)
    mask[[0, -1]] = True
    item = group.create_group(f"{axis.name}_{kind.lower()}")
    item.attrs.update(associated_dims=[axis.name], associated_fields=[], bc_type=kind)
    item.attrs.update(sample_varying=False, time_varying=False)
    item.create_dataset("mask", data=mask)


def _write_fields(data: Trajectories, file: Any, axes: list[str]) -> None:
    named = _grouped(data.fields.names, axes)
    for order in range(3):
        group = file.create_group(f"t{order}_fields")
        own = {field: channels for field, (kind, channels) in named.items() if kind == order}
        group.attrs["field_names"] = [*own, *(data.static if order == 0 else ())]
        for field, channels in own.items():
            shape = (*data.shape[:2], *data.shape[3:], *(len(axes),) * order)
            stored = group.create_dataset(field, shape, np.float32, chunks=(1, 1, *shape[2:]), fletcher32=True)
            units = data.fields.units[channels[0]]
            stored.attrs.update(dim_varying=[True] * len(axes), sample_varying=True, time_varying=True, units=units)
            for row in range(data.shape[0]):
                states = np.asarray(data.states[[row]])[0][:, channels]
                stored[row] = np.moveaxis(states, 1, -1).reshape(shape[1:])
    for key, values in data.static.items():
        _put(file["t0_fields"], key, values, sample=False, time=False).attrs["dim_varying"] = [True] * len(axes)


def _grouped(names: tuple[str, ...], axes: list[str]) -> dict[str, tuple[int, list[int]]]:
    """field → (order of the tensor, channels): v_x and v_y on the axes x, y are one vector, and so on."""
    found: dict[str, tuple[int, list[int]]] = {}
    taken: set[str] = set()
    for name in names:
        if name in taken:
            continue
        order, parts = next(
            (order, parts) for order in (2, 1, 0) if set(parts := _components(name, axes, order)) <= set(names) - taken
        )
        base = name.rpartition("_")[0] if order else name
        found[base] = order, [names.index(part) for part in parts]
        taken |= set(parts)
    return found


def _components(name: str, axes: list[str], order: int) -> list[str]:
    """The channels of the tensor of this order that `name` is the first component of, else a name nobody has."""
    base, _, suffix = name.rpartition("_")
    if order == 0:
        return [name]
    if not base or suffix != axes[0] * order:
        return [""]
    return [f"{base}_{''.join(part)}" for part in product(axes, repeat=order)]
