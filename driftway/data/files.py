"""Any data set by its path: which reader is its, what it holds, whether it is whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from driftway.data.moments import Scale
from driftway.data.trajectories import SPLITS, Trajectories
from driftway.data.weather import is_weather, open_weather, verify_weather
from driftway.data.well import SUFFIXES, open_well, verify_well
from driftway.data.well_statistics import read_statistics
from driftway.data.zarr_store import open_zarr, verify_zarr
from driftway.errors import DataError


@dataclass(frozen=True)
class Kind:
    """One kind of data set: how to tell it, open it and verify it."""

    name: str
    matches: Callable[[Path], bool]
    open: Callable[[Path], Trajectories]
    verify: Callable[[Path], list[str]]
    scale: Callable[[Path, Trajectories], Scale | None]


def _is_zarr(path: Path) -> bool:
    return path.suffix == ".zarr" or any((path / name).is_file() for name in ("zarr.json", ".zgroup"))


def _is_well(path: Path) -> bool:
    inside = any(file.suffix in SUFFIXES for file in path.glob("*")) if path.is_dir() else path.suffix in SUFFIXES
    return inside or any((path / base / split).is_dir() for base in ("", "data") for split in SPLITS)


KINDS = [
    Kind("zarr folder", _is_zarr, open_zarr, verify_zarr, lambda path, data: None),
    Kind("description of a weather store", is_weather, open_weather, verify_weather, lambda path, data: None),
    Kind("HDF5 files in The Well's layout", _is_well, open_well, verify_well, read_statistics),
]


def open_data(path: str | Path) -> Trajectories:
    """The data set at `path`; its states are read when they are needed."""
    return _kind(Path(path)).open(Path(path))


def stored_scale(path: str | Path, data: Trajectories) -> Scale | None:
    """What a file beside the data at `path` says of the fields' mean and deviation; None where there is none."""
    return _kind(Path(path)).scale(Path(path), data)


def verify(path: str | Path) -> list[str]:
    """Everything that is missing or damaged, one line each."""
    return _kind(Path(path)).verify(Path(path))


def is_data(path: Path) -> bool:
    """Whether a reader takes this for its own."""
    return any(kind.matches(path) for kind in KINDS)


def _kind(path: Path) -> Kind:
    if not path.exists():
        raise DataError(f"{path} does not exist; make a data set with `driftway data make PRESET --out {path}`")
    for kind in KINDS:
        if kind.matches(path):
            return kind
    raise DataError(f"{path} is none of the known kinds of data sets: {', '.join(kind.name for kind in KINDS)}")


def inspect(data: Trajectories) -> dict[str, Any]:
    """What a data set holds, for people and machines."""
    count, frames, *_ = data.shape
    splits = None if data.splits is None else {name: data.splits.count(name) for name in SPLITS}
    return {
        "trajectories": count,
        "splits": splits or "none stored; 80, 10 and 10 % are drawn by trajectory",
        "frames": frames,
        "dt": data.dt,
        "time_units": data.time_units,
        **_dates(data),
        "fields": dict(zip(data.fields.names, data.fields.units, strict=True)),
        "axes": {
            axis.name: f"{len(axis)} points, length {axis.length:g} {axis.units}, {axis.boundary}"
            + (f", symmetric under shifts by {axis.symmetry}" if axis.symmetry else "")
            for axis in data.axes
        },
        "parameters": {name: f"{min(v):g} … {max(v):g}" for name, v in data.parameters.items()},
        "static": list(data.static),
        "forcing": list(data.forcing),
        "megabytes": round(4e-6 * float(np.prod(data.shape)), 1),
        "fingerprint": data.fingerprint(),
        "attributes": dict(data.attributes),
    }


def _dates(data: Trajectories) -> dict[str, str]:
    """The calendar, with the dates of the first and last state of all."""
    if data.calendar is None:
        return {}
    starts, calendar = data.calendar.starts, data.calendar
    last = max(starts) + data.hours(data.shape[1] - 1)
    return {"calendar": f"{calendar.name}, {calendar.date(min(starts))} to {calendar.date(last)}"}
