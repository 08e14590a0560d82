"""The Well's `stats.yaml`: mean, std and rms of each field and of its steps, over the training split.

A scalar field has one number, a vector or tensor a list with one for each component.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from driftway.config.yaml import dump_yaml, load_yaml
from driftway.data.moments import Scale, statistics
from driftway.data.states import Lazy
from driftway.data.trajectories import Trajectories
from driftway.data.well_reader import Field, WellReader
from driftway.data.well_writer import grouped
from driftway.errors import DataError
from driftway.storage import atomic_file

NAME = "stats.yaml"
REMEDY = "correct it, take it away, or set data.statistics to computed"


def read_statistics(path: Path, data: Trajectories) -> Scale | None:
    """What the file beside the data says of the fields' mean and standard deviation; None where there is none.

    Raises DataError for a field that it lacks, a number that is not finite, and a deviation that is not above 0.
    """
    places = (path, path.parent) if path.name == "data" else (path,)
    file = next((place / NAME for place in places if (place / NAME).is_file()), None)
    if file is None or not (isinstance(data.states, Lazy) and isinstance(data.states.reader, WellReader)):
        return None
    fields, document = data.states.reader.fields, load_yaml(file)
    mean, std = (_values(file, document, kind, fields, len(data.axes)) for kind in ("mean", "std"))
    for name, deviation in zip(data.fields.names, std, strict=True):
        if not deviation > 0:
            raise DataError(f"{file}: std of '{name}' is {deviation:g}, must be above 0: {REMEDY}")
    return Scale(mean, std, str(file))


def _values(file: Path, document: Mapping[str, Any], kind: str, fields: tuple[Field, ...], axes: int) -> np.ndarray:
    found = document.get(kind)
    values = list[np.ndarray]()
    for field in fields:
        if not isinstance(found, Mapping) or field.name not in found:
            raise DataError(f"{file}: {kind} lacks the field '{field.name}': {REMEDY}")
        try:
            numbers = np.asarray(found[field.name], np.float64).reshape(-1)
        except (TypeError, ValueError):
            numbers = np.empty(0)
        if len(numbers) != axes**field.order or not np.isfinite(numbers).all():
            raise DataError(
                f"{file}: {kind} of '{field.name}' is {found[field.name]}, must be {axes**field.order} finite numbers: "
                f"{REMEDY}"
            )
        values.append(numbers)
    return np.concatenate(values)


def save_statistics(data: Trajectories, path: str | Path, force: bool = False) -> Path:
    """Write `stats.yaml` for files that `save_well` wrote of these trajectories; give it the training split.

    It belongs beside the folder `data`, or beside train, valid and test. Raises DataError as `statistics` does and
    StorageError if `path` exists and `force` is not given.
    """
    found, path = statistics(data), Path(path)
    rows = {
        "mean": found.mean,
        "std": found.std,
        "rms": np.hypot(found.mean, found.std),
        "mean_delta": found.increment_mean,
        "std_delta": found.increment_std,
        "rms_delta": np.hypot(found.increment_mean, found.increment_std),
    }
    fields = grouped(data.fields, [axis.name for axis in data.axes])
    document: dict[str, dict[str, Any]] = {
        kind: {name: values[at].tolist() if order else float(values[at[0]]) for name, order, at in fields}
        for kind, values in rows.items()
    }
    for name, values in {**data.static, **data.forcing}.items():
        mean, std = float(np.mean(values, dtype=np.float64)), float(np.std(values, dtype=np.float64))
        for kind, number in (("mean", mean), ("std", std), ("rms", float(np.hypot(mean, std)))):
            document[kind][name] = number
    with atomic_file(path, force) as file:
        file.write(dump_yaml(document).encode())
    return path
