"""Climates whose moments are known, as truth runs and as long forecasts on disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from driftway.data import Trajectories, save_zarr
from driftway.data.axes import Axis, Fields
from driftway.data.calendar import Calendar
from driftway.data.forecasts import on_disk
from driftway.data.layout import Layout
from driftway.data.summaries import Made, PeriodMeans, months
from tests.test_climate_network import sphere


@dataclass(frozen=True)
class Truth:
    """u = mean + season·cos 2πY + AR(1) of variance `std`² at each point, independent of every other point.

    In steps of `dt` hours from 1 January on; Y: the share of the year that has gone by.
    """

    axes: tuple[Axis, ...] = sphere(4, 8)
    calendar: str | None = "noleap"
    dt: float = 24.0
    mean: float = 5.0
    season: float = 3.0
    std: float = 1.0
    memory: float = 0.8

    @property
    def layout(self) -> Layout:
        return Layout(Fields(("t", "w"), ("K", "m s-1")), self.axes, self.dt, "h")

    def states(self, rng: np.random.Generator, count: int, first: float = 0.0) -> np.ndarray:
        """(count, C, *S) from `first` hours after 1 January on; the second field is twice the first one's law."""
        shape = self.layout.shape
        noise = rng.standard_normal((count, *shape))
        for k in range(1, count):
            noise[k] = self.memory * noise[k - 1] + (1 - self.memory**2) ** 0.5 * noise[k]
        season = self.season * np.cos(2 * np.pi * self.share(count, first)).reshape(-1, *(1,) * len(shape))
        u = self.mean + self.map() + season * (self.calendar is not None) + self.std * noise
        return (u * np.array([1.0, 2.0]).reshape(-1, *(1,) * (len(shape) - 1))).astype(np.float32)

    def share(self, count: int, first: float) -> np.ndarray:
        hours = first + self.dt * np.arange(count)
        clock = Calendar((0.0,), "2001-01-01T00:00", self.calendar or "noleap")
        return clock.hour_of_year(hours) / (24 * clock.days(clock.year(hours)))

    def map(self) -> np.ndarray:
        """A pattern over space, (*S)."""
        return np.cos(np.arange(np.prod(self.layout.shape[1:]))).reshape(self.layout.shape[1:])

    def data(self, rng: np.random.Generator, count: int, rows: int = 1, follow: bool = True) -> Trajectories:
        """`rows` trajectories of `count` states each, one after the other or all from the same date on."""
        length = count * self.dt
        if follow:
            states = self.states(rng, count * rows).reshape(rows, count, *self.layout.shape)
        else:
            states = np.stack([self.states(rng, count) for _ in range(rows)])
        starts = tuple(length * row * follow for row in range(rows))
        calendar = None if self.calendar is None else Calendar(starts, "2001-01-01T00:00", self.calendar)
        layout = self.layout
        return Trajectories(
            states, layout.fields, layout.axes, self.dt, "h", splits=("test",) * rows, calendar=calendar,
            attributes={"run": [0 if follow else row for row in range(rows)]},
        )  # fmt: skip

    def saved(self, path: Path, seed: int, count: int, rows: int = 1, follow: bool = True) -> Path:
        return save_zarr(self.data(np.random.default_rng(seed), count, rows, follow), path)


def forecast(
    path: Path, truth: Truth, states: np.ndarray, every: int = 1, means: bool = False, start: float = 0.0, **about: Any
) -> Path:
    """A forecast (M, N, leads, C, *S) from `start` hours after 1 January 2001 on; each `every`-th lead is kept."""
    members, rows, leads = states.shape[:3]
    layout, names = truth.layout, [f"test {row}" for row in range(rows)]
    attributes = {"label": path.stem, "run": "run", **about}
    calendar = Calendar((start,) * rows, "2001-01-01T00:00", truth.calendar or "noleap")
    if truth.calendar is not None:
        attributes = {"initial_times": [calendar.date(start)] * rows, **attributes}
    kept = replace(layout, dt=layout.dt * every)
    summaries = []
    if means:
        summaries = [PeriodMeans(months(calendar, truth.dt * np.arange(1, leads + 1), "h"))]
    with on_disk(path, members, force=True)(kept, members, names, leads // every, attributes) as sink:
        for summary in summaries:
            summary.open(Made(sink.folder, layout, members, names, leads, members))
        for lead in range(leads):
            here = states[:, :, lead]
            for summary in summaries:
                summary.see(slice(0, members), slice(0, rows), lead + 1, here)
            if (lead + 1) % every == 0:
                sink.put(slice(0, members), slice(0, rows), (lead + 1) // every - 1, here)
    return path
