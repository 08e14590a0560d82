"""Writes data sets in The Well's HDF5 layout (Ohana et al. 2024, arXiv 2412.00568).

Beyond the layout, `time` and the axes say their unit, `time` its exact step, axes their length and symmetry: attributes
that other readers pass over. All arrays carry Fletcher-32 checksums, which `verify` compares.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from driftway.data.axes import Axis, Fields
from driftway.data.trajectories import Trajectories
from driftway.data.well import BOUNDARIES, FORCING, STATIC, SUFFIXES
from driftway.errors import DataError
from driftway.storage import HeldFile, atomic_file


def save_well(data: Trajectories, path: str | Path, name: str | None = None, force: bool = False) -> Path:
    """Write all trajectories to one HDF5 file, v_x and v_y as one vector, and so on for tensors.

    Scalars come first when it is read, then vectors and tensors. Splits are folders in this layout: write
    `data.split("train")` to `FOLDER/data/train/NAME.hdf5`, and so on. `name` is the data set's, by default the one
    that it was read with, or the file's. Raises StorageError if `path` exists and `force` is not given, and where it
    cannot be written.
    """
    path = Path(path)
    if data.calendar is not None or any(values.ndim > len(data.axes) + 1 for values in data.forcing.values()):
        raise DataError(
            "The Well's layout has no place for a calendar, nor for each trajectory's own forcing: write a zarr folder"
        )
    poles = [axis.name for axis in data.axes if axis.boundary == "pole"]
    if poles:
        raise DataError(f"The Well's layout has no boundary for the poles of axis '{poles[0]}': write a zarr folder")
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path} must end in {' or '.join(SUFFIXES)}")
    # The format of HDF5 1.10 has checksums in its headers, the older one has none.
    with atomic_file(path, force) as held, h5py.File(held, "w", libver="v110") as file:
        _write(data, file, name or str(data.attributes.get("dataset_name", path.stem)), held)
    return path


def _write(data: Trajectories, file: Any, name: str, held: HeldFile) -> None:
    axes = [axis.name for axis in data.axes]
    dimensions, boundaries = file.create_group("dimensions"), file.create_group("boundary_conditions")
    dimensions.attrs["spatial_dims"] = axes
    time = _put(dimensions, "time", data.dt * np.arange(data.shape[1]), FORCING)
    time.attrs.update(dt=data.dt, units=data.time_units)
    for axis in data.axes:
        stored = _put(dimensions, axis.name, axis.coordinates, STATIC)
        stored.attrs.update(length=axis.length, units=axis.units, symmetry=axis.symmetry)
        _write_boundary(boundaries, axis)
    equal = [key for key, values in data.parameters.items() if np.all(values == values[0])]
    file.attrs.update({key: float(data.parameters[key][0]) for key in equal})
    file.attrs.update(dataset_name=name, grid_type="cartesian", simulation_parameters=equal)
    file.attrs.update(n_spatial_dims=len(axes), n_trajectories=data.shape[0])
    scalars = file.create_group("scalars")
    scalars.attrs["field_names"] = list(data.parameters)
    for key, values in data.parameters.items():
        _put(scalars, key, values[0] if key in equal else values, (key not in equal, False))
    _write_fields(data, file, axes, held)


def _put(group: Any, name: str, values: Any, kind: tuple[bool, bool]) -> Any:
    values = np.asarray(values, np.float32)
    stored = group.create_dataset(name, data=values, fletcher32=values.ndim > 0)
    stored.attrs.update(sample_varying=kind[0], time_varying=kind[1])
    return stored


def _write_boundary(group: Any, axis: Axis) -> None:
    kind = {ours: theirs for theirs, ours in BOUNDARIES.items()}[axis.boundary]
    mask = np.zeros(len(axis), bool)
    mask[[0, -1]] = True
    item = group.create_group(f"{axis.name}_{kind.lower()}")
    item.attrs.update(associated_dims=[axis.name], associated_fields=[], bc_type=kind)
    item.attrs.update(sample_varying=False, time_varying=False)
    item.create_dataset("mask", data=mask, fletcher32=True)


def _write_fields(data: Trajectories, file: Any, axes: list[str], held: HeldFile) -> None:
    groups = [file.create_group(f"t{order}_fields") for order in range(3)]
    named = grouped(data.fields, axes)
    for order, group in enumerate(groups):
        own = [field for field, kind, _ in named if kind == order]
        group.attrs["field_names"] = [*own, *(() if order else (*data.static, *data.forcing))]
    for field, order, channels in named:
        shape = (*data.shape[:2], *data.shape[3:], *(len(axes),) * order)
        stored = groups[order].create_dataset(field, shape, np.float32, chunks=(1, 1, *shape[2:]), fletcher32=True)
        units = data.fields.units[channels[0]]
        stored.attrs.update(dim_varying=[True] * len(axes), sample_varying=True, time_varying=True, units=units)
        for row in range(data.shape[0]):
            states = np.asarray(data.states[[row]])[0][:, channels]
            stored[row] = np.moveaxis(states, 1, -1).reshape(shape[1:])
            held.check()
    static = ((key, values, (values.ndim > len(axes), False)) for key, values in data.static.items())
    for key, values, kind in (*static, *((key, values, FORCING) for key, values in data.forcing.items())):
        _put(groups[0], key, values, kind).attrs["dim_varying"] = [True] * len(axes)


def grouped(fields: Fields, axes: list[str]) -> list[tuple[str, int, list[int]]]:
    """(field, order of the tensor, channels): v_x and v_y of one unit on the axes x, y are one vector, and so on."""
    found: list[tuple[str, int, list[int]]] = []
    left = dict(zip(fields.names, fields.units, strict=True))
    for name, unit in zip(fields.names, fields.units, strict=True):
        if name in left:
            parts = {order: _components(name, axes, order) for order in (2, 1, 0)}
            order = next(order for order in parts if all(left.get(part) == unit for part in parts[order]))
            base = name.rpartition("_")[0] if order else name
            found.append((base, order, [fields.index(part) for part in parts[order]]))
            left = {other: left[other] for other in left if other not in parts[order]}
    return found


def _components(name: str, axes: list[str], order: int) -> list[str]:
    """The channels of the tensor of this order that `name` is the first component of, else a name nobody has."""
    base, _, suffix = name.rpartition("_")
    if order == 0:
        return [name]
    if not base or suffix != axes[0] * order:
        return [""]
    return [f"{base}_{''.join(part)}" for part in product(axes, repeat=order)]
