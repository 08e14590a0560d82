"""Climatology as a forecast: what is usual at the dates of the truth, and an ensemble of other years' states there."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from driftway.data.layout import Layout
from driftway.data.row_by_row import row_by_row
from driftway.data.seasonal import analogues, climatology_of
from driftway.data.trajectories import Trajectories

DATE = "valid_time"  # coordinate of a truth whose data have a calendar


def valid_times(data: Trajectories, frames: np.ndarray) -> Any:
    """The times (N, L) of some frames of every trajectory, in hours since the epoch of the calendar."""
    assert data.calendar is not None
    hours = data.calendar.hours(np.arange(data.shape[0])[:, None], data.hours(frames))
    return (("trajectory", "lead_time"), hours, data.calendar.cf())


def climatologies(train: Trajectories, truth: xr.Dataset, layout: Layout) -> dict[str, xr.Dataset]:
    """The reference `climatology`, and `climatology, ensemble` where the training split has several of its years.

    train: the training split; truth: (trajectory, lead_time, *axes), with the coordinate `valid_time` where dates are
    known
    """
    found = {"climatology": _by_date(train, truth, layout)}
    others = analogues(train, truth[DATE].values.ravel()) if DATE in truth.coords else None
    if others is None:
        return found

    def states(row: int) -> np.ndarray:
        leads = truth.sizes["lead_time"]
        here = others._replace(frames=others.frames[:, row * leads : (row + 1) * leads])
        return here.states(train)

    about = {"description": f"states of the {len(others.rows)} training years at the time of year and hour of the day"}
    return {**found, "climatology, ensemble": row_by_row(states, len(others.rows), truth, layout, about)}


def climatology_at(train: Trajectories, truth: xr.Dataset, layout: Layout) -> xr.Dataset:
    """The climatology of a training split at the dates of a truth, with its dims; made as it is looked at."""
    return _by_date(train, truth, layout).isel(realization=0)


def _by_date(train: Trajectories, truth: xr.Dataset, layout: Layout) -> xr.Dataset:
    seasonal = climatology_of(train)
    times = truth[DATE].values if DATE in truth.coords else np.zeros((truth.sizes["trajectory"], len(truth.lead_time)))
    about = {"description": seasonal.description}
    return row_by_row(lambda row: seasonal.at(times[row])[None], 1, truth, layout, about)
