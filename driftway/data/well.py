"""Data sets in The Well's HDF5 layout, read file by file when needed. `driftway.data.well_writer` writes them.

A vector field v on the axes x, y is the channels v_x, v_y, a tensor field the channels v_xx, v_xy, …; scalars are
parameters. Fields that do not change with time are static, those that change with time alone forcing.
Reference: Ohana et al. 2024 (arXiv 2412.00568).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from driftway.data.axes import Axis, Fields
from driftway.data.states import Lazy
from driftway.data.trajectories import SPLITS, Trajectories
from driftway.data.well_reader import UNREADABLE, Field, WellReader, damaged, frames_together, opened
from driftway.errors import DataError
from driftway.storage import stamp

SUFFIXES = (".hdf5", ".h5")
BOUNDARIES = {"PERIODIC": "periodic", "OPEN": "open", "WALL": "wall"}
STATE, STATIC, OWN, FORCING = (True, True), (False, False), (True, False), (False, True)
"""(sample_varying, time_varying) of the states, of what never changes, of what each trajectory has of its own, and of
what is known in advance."""


# --- several files -------------------------------------------------------------------------------------------------


def open_well(path: str | Path) -> Trajectories:
    """One file, a folder of files, or a folder with train, valid and test (in it or in `data/`)."""
    opened.cache_clear()
    files = list(_files(Path(path)))
    parts = [_described(file) for file, _ in files]
    first, counts = parts[0], tuple(part.count for part in parts)
    for part, (file, _) in zip(parts, files, strict=True):
        odd = first.difference(part)
        if odd is not None:
            raise DataError(f"{file} and {files[0][0]} differ in {odd}: they are two data sets, keep them apart")
    axes = tuple(axis.name for axis in first.axes)
    names = [(name, field.unit) for field in first.fields for name in field.channels(axes)]
    shape = (sum(counts), first.frames, len(names), *(len(axis) for axis in first.axes))
    splits = [split for (_, split), count in zip(files, counts, strict=True) for _ in range(count)]
    together = max(part.together for part in parts)
    return Trajectories(
        states=Lazy(WellReader(tuple(file for file, _ in files), counts, first.fields, shape, together)),
        fields=Fields(tuple(name for name, _ in names), tuple(unit for _, unit in names)),
        axes=first.axes,
        dt=first.dt,
        time_units=first.time_units,
        parameters={name: np.concatenate([part.parameters[name] for part in parts]) for name in first.parameters},
        static=first.static | {name: np.concatenate([part.own[name] for part in parts]) for name in first.own},
        forcing=first.forcing,
        splits=tuple(splits) if all(splits) else None,
        attributes={"dataset_name": first.name},
        digest=hashlib.sha256(repr((stamp(file for file, _ in files), splits)).encode()).hexdigest(),
    )


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    """Files with their split, or with '' where there are no splits."""
    if path.is_file():
        yield path, ""
        return
    base = path / "data" if (path / "data").is_dir() else path
    folders = [(base / split, split) for split in SPLITS if (base / split).is_dir()] or [(base, "")]
    found = [(file, split) for folder, split in folders for file in sorted(folder.glob("*")) if file.suffix in SUFFIXES]
    if not found:
        raise DataError(f"{path} holds no {' or '.join(SUFFIXES)} files, nor do train, valid and test in it")
    yield from found


def verify_well(path: str | Path) -> list[str]:
    """Reads every number of every file, so that HDF5's checksums are compared."""
    problems = []
    for file, _ in _files(Path(path)):
        try:
            _described(file)
            with h5py.File(file, "r") as opened:
                opened.visititems(lambda _, item: _read_all(item))
        except UNREADABLE as error:
            problems.append(f"{file.name}: {' '.join(str(error).split())}")
        except DataError as error:
            problems.append(str(error))
    return problems


def _read_all(item: Any) -> None:
    """In parts of two dimensions less, since a field of many trajectories may not fit in memory."""
    if isinstance(item, h5py.Dataset):
        for place in np.ndindex(item.shape[:-2]):
            item[place]


# --- one file ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """What one file says of itself."""

    name: str
    fields: tuple[Field, ...]
    axes: tuple[Axis, ...]
    dt: float
    time_units: str
    count: int
    frames: int
    parameters: Mapping[str, np.ndarray]
    static: dict[str, np.ndarray]
    own: dict[str, np.ndarray]
    forcing: dict[str, np.ndarray]
    together: int

    def difference(self, other: _Part) -> str | None:
        """What keeps two files from being one data set."""
        grids = ("×".join(str(len(axis)) for axis in part.axes) for part in (self, other))
        alone = ", ".join(sorted(self.parameters.keys() ^ other.parameters.keys()))
        same = {
            "fields": self.fields == other.fields,
            f"grid ({' and '.join(grids)} points, their coordinates or boundaries)": self.axes == other.axes,
            f"number of times ({self.frames} and {other.frames})": self.frames == other.frames,
            "time step": np.isclose(self.dt, other.dt, rtol=1e-3) and self.time_units == other.time_units,
            f"scalars ({alone} in one of them alone)": not alone,
            "static fields": _equal(self.static, other.static) and self.own.keys() == other.own.keys(),
            "forcing": _equal(self.forcing, other.forcing),
        }
        return next((name for name, equal in same.items() if not equal), None)


def _equal(some: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]) -> bool:
    return some.keys() == others.keys() and all(np.array_equal(some[name], others[name]) for name in some)


def _described(path: Path) -> _Part:
    try:
        with h5py.File(path, "r") as file:
            return _part(path, file)
    except UNREADABLE as error:
        raise damaged(path, error) from error


def _part(path: Path, file: Any) -> _Part:
    axes = tuple(_axis(path, file, name) for name in _texts(file["dimensions"].attrs["spatial_dims"]))
    names, space = tuple(axis.name for axis in axes), tuple(len(axis) for axis in axes)
    fields = list(_fields(path, file, len(axes)))
    states = tuple(field for field, kind in fields if kind == STATE)
    if not states:
        raise DataError(f"{path} has no field that varies with sample and time")
    count, frames = states[0].stored(file).shape[:2]
    for field, kind in fields:
        _check_shape(path, field.stored(file), field, kind, (count, frames, *space))
    parameters, series = _scalars(path, file, count, frames)
    static = {name: values[0] for name, values in _known(file, fields, STATIC, names, space).items()}
    own = _known(file, fields, OWN, names, space)
    forcing = {name: np.broadcast_to(v.reshape(-1, *(1,) * len(space)), (frames, *space)) for name, v in series.items()}
    forcing |= _known(file, fields, FORCING, names, space)
    dt, units = _time_step(file, frames)
    name = _text(file.attrs.get("dataset_name", ""))
    together = max(frames_together(field.stored(file)) for field in states)
    return _Part(name, states, axes, dt, units, count, frames, parameters, static, own, forcing, together)


def _fields(path: Path, file: Any, space: int) -> Iterator[tuple[Field, tuple[bool, bool]]]:
    """Every field with its kind."""
    for order in range(3):
        group = f"t{order}_fields"
        for name in _names(file, group):
            about = _listed(path, file, group, name).attrs
            kind = bool(about.get("sample_varying", True)), bool(about.get("time_varying", True))
            constant = tuple(axis for axis, varies in enumerate(about.get("dim_varying", [True] * space)) if not varies)
            yield Field(group, name, order, _text(about.get("units", "1")), constant), kind


def _names(file: Any, group: str) -> list[str]:
    return _texts(file[group].attrs.get("field_names", [])) if group in file else []


def _listed(path: Path, file: Any, group: str, name: str) -> Any:
    """A data set that field_names lists."""
    if name not in file[group]:
        raise DataError(
            f"{path}: {group} lists '{name}' in field_names and holds {', '.join(file[group]) or 'nothing'}: write it, "
            "or take it out of field_names"
        )
    return file[group][name]


def _check_shape(path: Path, stored: Any, field: Field, kind: tuple[bool, bool], shape: tuple[int, ...]) -> None:
    leading = tuple(size for size, varies in zip(shape, kind, strict=False) if varies)
    space = tuple(size for axis, size in enumerate(shape[2:]) if axis not in field.constant)
    wanted = (*leading, *space, *(len(shape) - 2,) * field.order)
    if stored.shape != wanted:
        raise DataError(f"{path}: field '{field.name}' has the shape {stored.shape}, must have {wanted}")


def _known(
    file: Any,
    fields: list[tuple[Field, tuple[bool, bool]]],
    wanted: tuple[bool, bool],
    axes: tuple[str, ...],
    space: tuple[int, ...],
) -> dict[str, np.ndarray]:
    """Static fields (1, *S), those of each trajectory (N, *S) or forcing (T, *S), by the names of their components."""
    found: dict[str, np.ndarray] = {}
    for field, kind in fields:
        if kind == wanted:
            values = field.stored(file)[()]
            frames = field.components(values if any(kind) else values[np.newaxis], space)
            found |= zip(field.channels(axes), np.moveaxis(frames, 1, 0), strict=True)
    return found


def _scalars(path: Path, file: Any, count: int, frames: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Numbers per trajectory (N,), and those that change with time (T,)."""
    parameters, series = {}, {}
    for name in _names(file, "scalars"):
        stored = _listed(path, file, "scalars", name)
        values = np.asarray(stored, dtype=np.float64).reshape(-1)
        moving, size = bool(stored.attrs.get("time_varying", False)), len(values)
        if size not in (1, frames if moving else count) or (moving and stored.attrs.get("sample_varying", False)):
            raise DataError(
                f"{path}: scalar '{name}' has the shape {stored.shape}; must be one, one per trajectory or time"
            )
        if not np.isfinite(values).all():
            raise DataError(
                f"{path}: scalar '{name}' is {values[~np.isfinite(values)][0]}, must be finite: write its value, or "
                "take it out of field_names"
            )
        (series if moving else parameters)[name] = np.broadcast_to(values, (frames if moving else count,)).copy()
    return parameters, series


def _time_step(file: Any, frames: int) -> tuple[float, str]:
    """Δt and its unit; times are (T,) or (N, T) in single precision."""
    stored = file["dimensions"]["time"]
    times = np.atleast_2d(np.asarray(stored, dtype=float))[:, :frames]
    steps = np.diff(times, axis=1)
    step = float(stored.attrs.get("dt", steps.mean() if steps.size else np.nan))
    rounding = 4 * np.finfo(np.float32).eps * np.abs(times).max()
    if times.shape[1] < frames or not step > 0 or not np.allclose(steps, step, rtol=1e-3, atol=rounding):
        raise ValueError(f"dimensions/time must hold {frames} equally spaced times")
    return step, _text(stored.attrs.get("units", "1"))


def _axis(path: Path, file: Any, name: str) -> Axis:
    stored = file["dimensions"][name]
    points = np.asarray(stored, dtype=float).reshape(-1)
    boundary = _boundary(path, file, name)
    about = stored.attrs
    return Axis(
        name,
        tuple(points.tolist()),
        boundary,
        about.get("length"),
        _text(about.get("units", "1")),
        int(about.get("symmetry", 0)),
    )


def _boundary(path: Path, file: Any, name: str) -> str:
    """What happens at the ends of an axis; walls inside the domain do not count, nor does a mask without a point."""
    found = set()
    for label, condition in file["boundary_conditions"].items():
        dims, kind = _texts(condition.attrs["associated_dims"]), _text(condition.attrs["bc_type"])
        if kind.upper() not in BOUNDARIES:
            known = ", ".join(BOUNDARIES)
            raise DataError(f"{path}: bc_type of boundary_conditions/{label} is '{kind}', must be one of {known}")
        if name in dims:
            mask = np.moveaxis(np.asarray(condition["mask"]), dims.index(name) - len(dims), 0)
            if mask[[0, -1]].any() or not mask.any():
                found.add(BOUNDARIES[kind.upper()])
    return next((kind for kind in BOUNDARIES.values() if kind in found), "open")


def _texts(values: Any) -> list[str]:
    """A list of names, or the one name that stands for a list of one."""
    return [_text(value) for value in np.atleast_1d(values).tolist()]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
