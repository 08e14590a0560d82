"""Data sets as zarr folders with CF names, one variable per field, that xarray opens as they are.

A chunk holds a few frames of one trajectory and ends in a CRC-32C. `trajectory/SHA256SUMS` lists every file, so that
`sha256sum -c` and `verify` find what is missing or changed; it lies in an array's folder since zarr takes every entry
of the root for an array.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from driftway.data import cf
from driftway.data.axes import Axis, Fields
from driftway.data.calendar import Calendar, from_cf
from driftway.data.seasons import season_step
from driftway.data.states import Lazy
from driftway.data.trajectories import SPLITS, Trajectories
from driftway.data.zarr_checks import check_used, say_open, time_step
from driftway.errors import DataError, naming
from driftway.storage import atomic_folder, explained, sha256, stamp
from driftway.sums import differences, files_in, read_sums, write_sums

FORMAT = 1
CHUNK_BYTES = 4_000_000
SUMS = "trajectory/SHA256SUMS"
SPLIT_FLAGS = {"flag_values": list(range(len(SPLITS))), "flag_meanings": " ".join(SPLITS)}
RESERVED = ("Conventions", "driftway_format", "dt", "fields", "forcing", "forcing_recurs")
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError)


def chunk_options() -> dict[str, Any]:
    """How a field's chunks are stored: fast compression, then a checksum; NaN where nothing was written."""
    return {
        "dtype": "float32",
        "compressors": [BloscCodec(cname="zstd", clevel=1), Crc32cCodec()],
        "fill_value": float("nan"),
    }


# --- writing -------------------------------------------------------------------------------------------------------


class ZarrWriter:
    """`writer[rows] = states` puts trajectories (n, T, C, *S) in place, in any order."""

    def __init__(
        self, path: Path, folder: Path, arrays: Sequence[zarr.Array], shape: tuple[int, ...], missing: Iterable[int]
    ):
        self.path, self.folder, self.arrays, self.shape = path, folder, arrays, shape
        self.missing = set(missing)

    def __setitem__(self, rows: Sequence[int], states: np.ndarray) -> None:
        expected = (len(rows), *self.shape[1:])
        if states.shape != expected:
            raise DataError(f"trajectories for {self.path} have the shape {states.shape}, must have {expected}")
        with explained(self.path):
            for row, trajectory in zip(rows, states, strict=True):
                for channel, array in enumerate(self.arrays):
                    array[row] = trajectory[:, channel]
        self.missing -= set(rows)

    def fill(self, known: Mapping[str, np.ndarray]) -> None:
        """Put static fields and forcing in place of those of the template, which a simulator may find out late."""
        with explained(self.path):
            for name, values in known.items():
                array: Any = zarr.open_array(self.folder / name, mode="r+")
                if array.shape != values.shape:
                    raise DataError(f"'{name}' for {self.path} has the shape {values.shape}, must have {array.shape}")
                array[...] = values

    def note(self, attributes: Mapping[str, Any]) -> None:
        """Add attributes that are known late, such as the version of a simulator."""
        with explained(self.path):
            zarr.open_group(self.folder, mode="r+").attrs.update(attributes)


def _written(array: zarr.Array, row: int) -> bool:
    """Whether every number of a trajectory is there; what was never written is NaN."""
    try:
        return bool(np.isfinite(np.asarray(array[row])).all())
    except UNREADABLE:
        return False


def _clear_torn(partial: Path) -> None:
    """Remove the chunk that was being written when a process was killed, which has not got its name yet."""
    for file in partial.rglob("*.partial"):
        file.unlink()


@contextmanager
def write_zarr(
    path: str | Path, template: Trajectories, force: bool = False, resume: bool = False
) -> Iterator[ZarrWriter]:
    """Stream a data set to `path`, which appears when every trajectory is written, or not at all.

    `template` has everything but the numbers; its states may be `unwritten(N, T, C, *S)`. With `resume`, what a killed
    or interrupted process wrote of the same template stands, and `writer.missing` are the other rows.
    Raises StorageError if `path` exists and `force` is not given, and where it cannot be written.
    """
    path = Path(path)
    key = _key(template) if resume else ""
    with explained(path), atomic_folder(path, force=force, key=key) as partial:
        # The last array is made last: where it is, all that describes the data is.
        begun = (partial / template.fields.names[-1] / "zarr.json").is_file()
        if not begun:
            _make_arrays(partial, template)
        _clear_torn(partial)
        arrays: Any = [zarr.open_array(partial / name, mode="r+") for name in template.fields.names]
        rows = range(template.shape[0])
        missing = [row for row in rows if not (begun and all(_written(array, row) for array in arrays))]
        writer = ZarrWriter(path, partial, arrays, template.shape, missing)
        yield writer
        if writer.missing:
            raise DataError(f"{path}: {len(writer.missing)} trajectories were not written, first {min(writer.missing)}")
        write_sums(partial, files_in(partial), SUMS)


def _make_arrays(partial: Path, template: Trajectories) -> None:
    _described(template).to_zarr(partial, mode="w", zarr_format=3, consolidated=False)
    group = zarr.open_group(partial, mode="r+")
    count, frames, _, *space = template.shape
    length = max(1, min(frames, CHUNK_BYTES // (4 * int(np.prod(space)))))
    for name, unit in zip(template.fields.names, template.fields.units, strict=True):
        group.create_array(
            name,
            shape=(count, frames, *space),
            chunks=(1, length, *space),
            dimension_names=("trajectory", "time", *(axis.name for axis in template.axes)),
            attributes={"units": unit, **cf.attributes(name, unit)},
            **chunk_options(),
        )


def _key(template: Trajectories) -> str:
    """A short name of everything that a template says."""
    described = _described(template)
    about = hashlib.sha256(repr((described.to_dict(data=False), template.shape, template.fields)).encode())
    for name in sorted(map(str, described.variables)):
        about.update(np.ascontiguousarray(described[name].values).tobytes())
    return about.hexdigest()[:16]


def save_zarr(data: Trajectories, path: str | Path, force: bool = False) -> Path:
    """Write a data set, trajectory by trajectory."""
    with write_zarr(path, data, force) as writer:
        for row in range(data.shape[0]):
            writer[[row]] = np.asarray(data.states[[row]])
    return Path(path)


def _described(data: Trajectories) -> xr.Dataset:
    """Everything but the states. Time units go by another name, since xarray makes durations of `units`."""
    axes = [axis.name for axis in data.axes]
    coordinates: dict[str, Any] = {
        "trajectory": ("trajectory", np.arange(data.shape[0])),
        "time": ("time", data.dt * np.arange(data.shape[1]), {"time_units": data.time_units, "axis": "T"}),
    }
    for axis in data.axes:
        about = {"boundary": axis.boundary, "length": axis.length, "units": axis.units, "symmetry": axis.symmetry}
        coordinates[axis.name] = (axis.name, np.asarray(axis.coordinates), about | cf.AXES.get(axis.units, {}))
    variables: dict[str, Any] = {name: ("trajectory", np.asarray(v)) for name, v in data.parameters.items()}
    for name, values in data.static.items():
        variables[name] = (axes if values.ndim == len(axes) else ["trajectory", *axes], values, _named(data, name))
    moving = ["time_of_year" if data.forcing_recurs else "time", *axes]
    for name, values in data.forcing.items():
        dims = moving if values.ndim == len(moving) else ["trajectory", *moving]
        variables[name] = (dims, np.asarray(values), _named(data, name))
    if data.splits is not None:
        variables["split"] = ("trajectory", np.array([SPLITS.index(s) for s in data.splits], np.int8), SPLIT_FLAGS)
    if data.calendar is not None:
        about = {"long_name": "time of the first state", **data.calendar.cf()}
        variables["start"] = ("trajectory", np.asarray(data.calendar.starts), about)
    if data.forcing_recurs and data.calendar is not None and data.forcing:
        frames = len(next(iter(data.forcing.values())))
        hours = season_step(data.calendar, frames) * np.arange(frames)
        coordinates["time_of_year"] = ("time_of_year", hours, {"time_units": "h", "long_name": "since 1 January"})
    # A group lists its arrays in no particular order, so that the order of the channels is kept beside them.
    about = {"Conventions": "CF-1.11", "driftway_format": FORMAT, "dt": data.dt, "fields": list(data.fields.names)}
    own = [name for name in data.forcing if "trajectory" in variables[name][0]]  # with the dims of fields
    about |= {"forcing": own} if own else {}
    about |= {"forcing_recurs": 1} if data.forcing_recurs else {}
    return xr.Dataset(variables, coordinates, {**data.attributes, **about})


def _named(data: Trajectories, name: str) -> dict[str, Any]:
    """What CF says of a static field or forcing, whose units are nowhere else, on latitudes and longitudes."""
    return cf.attributes(name) if cf.on_earth([axis.units for axis in data.axes]) else {}


# --- reading -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ZarrReader:
    """The fields of a zarr folder as states; a chunk holds `together` frames."""

    path: Path
    names: tuple[str, ...]
    shape: tuple[int, ...]
    together: int

    def read(self, row: int, start: int, out: np.ndarray) -> None:
        for channel, name in enumerate(self.names):
            try:
                out[:, channel] = _array(self.path, name)[row, start : start + len(out)]
            except UNREADABLE as error:
                raise DataError(
                    f"{self.path}: field '{name}' of trajectory {row} is damaged ({_line(error)}); `driftway "
                    "verify` lists the files, copy or make them again"
                ) from error


@lru_cache(maxsize=64)
def _array(path: Path, name: str) -> zarr.Array:
    return zarr.open_array(path / name, mode="r")


def open_zarr(path: str | Path) -> Trajectories:
    """A data set on disk, checked for missing files; its states are read when they are needed.

    Any zarr group will do whose fields have the dims (trajectory, time, *axes): what has the dims (trajectory) is a
    parameter, (*axes) or (trajectory, *axes) static, (time, *axes) forcing.
    """
    path = Path(path)
    sums = zarr_sums(path)
    absent = next((name for name in sums if not (path / name).is_file()), None)
    if absent is not None:
        raise DataError(f"{path}: {absent} is missing; copy the folder again, or make it again")
    _array.cache_clear()
    digest = sha256(path / SUMS) if sums else stamp(path / name for name in files_in(path))
    try:
        dataset = xr.open_zarr(path, consolidated=False, chunks=None, decode_times=False)
        check_unchanged(path, sums, dataset.attrs.get("fields", []))
        with naming(path):
            return _trajectories(path, dataset, digest)
    except UNREADABLE as error:
        raise DataError(f"{path} is not a readable zarr folder: {_line(error)}; copy or make it again") from error


def check_unchanged(path: Path, sums: Mapping[str, str], fields: Iterable[str]) -> None:
    """Raise DataError where a file has changed; the chunks of fields carry checksums of their own."""
    chunks = tuple(f"{name}/c/" for name in fields)
    changed = next((name for name in sums if not name.startswith(chunks) and sha256(path / name) != sums[name]), None)
    if changed is not None:
        raise DataError(
            f"{path}: {changed} has changed; `driftway verify` lists all, copy or make them again, or remove {SUMS} if "
            "the change is meant"
        )


def _trajectories(path: Path, dataset: xr.Dataset, digest: str) -> Trajectories:
    variables = {str(name): v for name, v in dataset.data_vars.items()}
    calendar = _calendar(variables)
    moving = ("trajectory", "time")
    known = [name for name in dataset.attrs.get("forcing", []) if name in variables]
    found = sorted(name for name, v in variables.items() if v.dims[:2] == moving and v.ndim > 2 and name not in known)
    order = list(dataset.attrs.get("fields", found))
    names = tuple(sorted(found, key=lambda name: order.index(name) if name in order else len(order)))
    if not names:
        raise DataError(
            f"{path} has no variable with the dims (trajectory, time, axes …); it has {', '.join(variables)}"
        )
    space = tuple(str(dim) for dim in variables[names[0]].dims[2:])
    odd = next((name for name in names if variables[name].dims[2:] != space), None)
    if odd is not None:
        raise DataError(f"{path}: '{odd}' has the dims {variables[odd].dims}, '{names[0]}' {variables[names[0]].dims}")
    check_used(path, variables, space)
    say_open(path, dataset, space)
    sizes = (dataset.sizes["trajectory"], dataset.sizes["time"], len(names), *(dataset.sizes[dim] for dim in space))
    together = max(variables[name].encoding["chunks"][1] for name in names)
    return Trajectories(
        states=Lazy(ZarrReader(path, names, sizes, together)),
        fields=Fields(names, tuple(str(variables[name].attrs.get("units", "1")) for name in names)),
        axes=tuple(_axis(dataset, name) for name in space),
        dt=time_step(path, dataset),
        time_units=_time_units(dataset),
        parameters=_with_dims(variables, ("trajectory",)),
        static=_with_dims(variables, space, ("trajectory", *space)),
        forcing=_with_dims(variables, ("time", *space), ("time_of_year", *space))
        | _with_dims({name: variables[name] for name in known}, (*moving, *space)),
        splits=_splits(path, dataset),
        attributes={k: v for k, v in dataset.attrs.items() if k not in RESERVED},
        digest=digest,
        calendar=calendar,
        forcing_recurs=bool(dataset.attrs.get("forcing_recurs", False)) or "time_of_year" in dataset.dims,
    )


def _calendar(variables: dict[str, xr.DataArray]) -> Calendar | None:
    """That of the variable `start`, which is taken out; a `start` whose units are no date is a parameter and stays."""
    about = variables["start"].attrs if "start" in variables else {}
    if " since " not in str(about.get("units", "")):
        return None
    return from_cf(variables.pop("start").values, str(about["units"]), str(about.get("calendar", "standard")))


def _with_dims(variables: Mapping[str, xr.DataArray], *dims: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Numbers with any of these dims, by name; the names of runs and the like are passed over."""
    found = {name: v for name, v in variables.items() if v.dims in dims and v.dtype.kind in "biuf" and name != "split"}
    return {name: found[name].values for name in sorted(found)}


def _splits(path: Path, dataset: xr.Dataset) -> tuple[str, ...] | None:
    if "split" not in dataset:
        return None
    codes = dataset["split"].values.tolist()
    if not set(codes) <= set(range(len(SPLITS))):
        raise DataError(f"{path}: 'split' must hold 0 ({SPLITS[0]}), 1 ({SPLITS[1]}) or 2 ({SPLITS[2]})")
    return tuple(SPLITS[code] for code in codes)


def _time_units(dataset: xr.Dataset) -> str:
    about = dataset["time"].attrs if "time" in dataset.coords else {}
    return str(about.get("time_units", about.get("units", "1")))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _axis(dataset: xr.Dataset, name: str) -> Axis:
    values = dataset[name].values if name in dataset.coords else np.arange(dataset.sizes[name])
    about: Any = dataset[name].attrs if name in dataset.coords else {}
    return Axis(
        name,
        tuple(float(v) for v in values),
        str(about.get("boundary", "open")),
        about.get("length"),
        str(about.get("units", "1")),
        int(about.get("symmetry", 0)),
    )


def zarr_sums(path: Path) -> dict[str, str]:
    """File → SHA-256, as written with the folder; empty for one that driftway did not write."""
    if not (path / SUMS).is_file() and not any((path / name).is_file() for name in ("zarr.json", ".zgroup")):
        raise DataError(f"{path} is not a zarr folder: it has no zarr.json")
    return read_sums(path, SUMS)


def verify_zarr(path: str | Path) -> list[str]:
    """What is missing, changed or foreign in a folder, file by file; nothing where all is well."""
    path = Path(path)
    sums = zarr_sums(path)
    if not sums:
        raise DataError(f"{path} has no {SUMS}: it was not written by driftway and cannot be verified")
    return differences(path, sums) + [f"{name} is not in {SUMS}" for name in files_in(path) if name not in sums]
