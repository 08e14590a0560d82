"""What is checked of a zarr folder that is read: its dims, the ends of its axes and its times."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from driftway.data import cf
from driftway.errors import DataError

LOG = logging.getLogger(__name__)
TIMES = ((), ("time",), ("time_of_year",))
BEFORE = {(*rows, *times) for rows in ((), ("trajectory",)) for times in TIMES}


def check_used(path: Path, variables: Mapping[str, xr.DataArray], space: tuple[str, ...]) -> None:
    """Raise DataError for numbers on the grid that would be passed over, for other dims than a data set's."""
    for name, v in variables.items():
        if set(space) <= set(v.dims) and v.dims not in {(*lead, *space) for lead in BEFORE}:
            raise DataError(
                f"{path}: '{name}' has the dims ({', '.join(map(str, v.dims))}), must have ({', '.join(space)}), "
                "after trajectory and time if it has these: give forcing the times of the states, make each level a "
                "variable of its own, and transpose, or drop it"
            )


def say_open(path: Path, dataset: xr.Dataset, space: Sequence[str]) -> None:
    """Log that latitudes and longitudes of another program do not say what happens at their ends."""
    about = {name: dataset[name].attrs for name in space if name in dataset.coords}
    silent = [name for name, attrs in about.items() if attrs.get("units") in cf.AXES and "boundary" not in attrs]
    if silent:
        LOG.warning(
            "%s: %s taken as open, a part of the globe; of all of it the attribute boundary is pole for latitudes and "
            "periodic for longitudes",
            path,
            " and ".join(silent),
        )


def time_step(path: Path, dataset: xr.Dataset) -> float:
    """The time between two states, by the attribute dt and by the coordinate, which must agree where there are both."""
    said = float(dataset.attrs["dt"]) if "dt" in dataset.attrs else None
    times = dataset["time"].values.astype(float) if "time" in dataset.coords else np.empty(0)
    steps = np.diff(times)
    if len(times) == 1 and said is None:
        raise DataError(f"{path} holds one time: give the attribute dt")
    step = said or float(np.median(steps) if len(steps) else 1)
    odd = np.flatnonzero(~np.isclose(steps, step, rtol=1e-3))
    if len(odd):
        before, after = times[odd[0] : odd[0] + 2]
        raise DataError(
            f"{path}: times must be equally spaced{'' if said is None else f', by the attribute dt = {said:g}'}, but "
            f"{before:g} is followed by {after:g}: sort them, fill gaps, drop what comes twice, or correct dt"
        )
    return step
