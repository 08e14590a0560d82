"""What is usual at a date: the mean state by season and hour of the day, and the states of other years at that date."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from driftway.data.calendar import Calendar
from driftway.data.moments import blocks
from driftway.data.seasons import FEATURES
from driftway.data.trajectories import Trajectories

HARMONICS = 3
YEAR = 365 * 24.0  # hours
MOST_HOURS = 24  # hours of the day that are told apart


@dataclass(frozen=True)
class Seasonal:
    """The climatology of a training split: a mean and annual harmonics for each hour of the day.

        c(t) = a₀(h) + Σₖ aₖ(h) cos 2πkφ + bₖ(h) sin 2πkφ ,  k = 1 … K

    h: hour of the day of t; φ: share of the year that is over

    Arguments:
        coefficients: (H, 1 + 2K, C, *S), float64, in the order a₀, a₁ … a_K, b₁ … b_K
        hours: (H,) hours of the day; a date between them takes the nearest
        calendar: in which dates are told; None: the mean state, whatever the date
    """

    coefficients: np.ndarray
    hours: np.ndarray
    calendar: Calendar | None = None

    @property
    def harmonics(self) -> int:
        """K."""
        return (self.coefficients.shape[1] - 1) // 2

    @property
    def description(self) -> str:
        """What it is, in words."""
        if self.calendar is None:
            return "mean state of the training split"
        hours = f" at each of {len(self.hours)} hours of the day" if len(self.hours) > 1 else ""
        return f"mean and {self.harmonics} annual harmonics{hours}, of the training split"

    def at(self, times: np.ndarray) -> np.ndarray:
        """The usual states (B, C, *S), float32, at times (B,) in hours since the calendar's epoch."""
        if self.calendar is None:
            return np.repeat(self.coefficients[0, :1], len(times), 0).astype(np.float32)
        basis, kinds = _basis(self.calendar, times, self.harmonics), _nearest(self.calendar, times, self.hours)
        states = [np.tensordot(row, self.coefficients[kind], 1) for row, kind in zip(basis, kinds, strict=True)]
        return np.stack(states).astype(np.float32)


def climatology_of(data: Trajectories, harmonics: int = HARMONICS) -> Seasonal:
    """The climatology of a training split by least squares, in one pass and double precision.

    It is the mean state alone where there is no calendar, and where at some hour of the day the dates leave more than
    1/(3K + 1) of the year out, as the harmonics would be free there. That of the files read last is kept.
    """
    return _kept(_Source(data.digest, harmonics, data)) if data.digest else _fitted(data, harmonics)


@dataclass(frozen=True)
class _Source:
    digest: str
    harmonics: int
    data: Trajectories = field(compare=False)


@lru_cache(maxsize=1)
def _kept(source: _Source) -> Seasonal:
    return _fitted(source.data, source.harmonics)


def _fitted(data: Trajectories, harmonics: int) -> Seasonal:
    calendar, hours = data.calendar, _hours_of_day(data)
    if calendar is None or not _covered(data, hours, harmonics):
        calendar, hours, harmonics = None, np.zeros(1), 0
    terms, size = 1 + 2 * harmonics, int(np.prod(data.shape[2:]))
    gram, moments = np.zeros((len(hours), terms, terms)), np.zeros((len(hours), terms, size))
    for row, first, block in blocks(data):
        flat = block.reshape(len(block), size)
        basis, kinds = np.ones((len(block), 1)), np.zeros(len(block), int)
        if calendar is not None:
            times = calendar.hours(np.array(row), data.hours(first + np.arange(len(block))))
            basis, kinds = _basis(calendar, times, harmonics), _nearest(calendar, times, hours)
        for kind in np.unique(kinds):
            here = basis[kinds == kind]
            gram[kind] += here.T @ here
            moments[kind] += here.T @ flat[kinds == kind].astype(np.float64)
    return Seasonal(np.linalg.solve(gram, moments).reshape(len(hours), terms, *data.shape[2:]), hours, calendar)


def _basis(calendar: Calendar, times: np.ndarray, harmonics: int) -> np.ndarray:
    """1, cos 2πkφ and sin 2πkφ at times, (B, 1 + 2K)."""
    angles = 2 * np.pi * np.outer(FEATURES["day"](calendar, times), np.arange(1, harmonics + 1))
    return np.hstack([np.ones((len(angles), 1)), np.cos(angles), np.sin(angles)])


def _nearest(calendar: Calendar, times: np.ndarray, hours: np.ndarray) -> np.ndarray:
    """Which of some hours of the day is nearest to times, (B,)."""
    apart = np.abs(calendar.hour_of_day(times)[:, None] - hours)
    return np.minimum(apart, 24 - apart).argmin(1)


def _times(data: Trajectories) -> np.ndarray:
    """The times (N, T) of all states, in hours since the calendar's epoch."""
    assert data.calendar is not None
    rows, frames = np.arange(data.shape[0])[:, None], np.arange(data.shape[1])
    return data.calendar.hours(rows, data.hours(frames))


def _hours_of_day(data: Trajectories) -> np.ndarray:
    """The hours of the day that the data have, or one for all where there are too many to tell apart."""
    if data.calendar is None:
        return np.zeros(1)
    hours = np.unique(np.round(data.calendar.hour_of_day(_times(data)), 3))
    return hours if len(hours) <= MOST_HOURS else np.zeros(1)


def _covered(data: Trajectories, hours: np.ndarray, harmonics: int) -> bool:
    """Whether at each hour of the day no part of the year is left out that is longer than harmonics allow."""
    assert data.calendar is not None
    times = _times(data).ravel()
    kinds, dates = _nearest(data.calendar, times, hours), FEATURES["day"](data.calendar, times)
    for kind in range(len(hours)):
        here = np.sort(dates[kinds == kind])
        if np.diff(here, append=here[0] + 1).max() > 1 / (3 * harmonics + 1):
            return False
    return True


# --- states of other years -----------------------------------------------------------------------------------------


class Analogues(NamedTuple):
    """Where the states of other years are: trajectories (M,), and their frames (M, B) at B dates."""

    rows: np.ndarray
    frames: np.ndarray

    def states(self, data: Trajectories) -> np.ndarray:
        """The states (M, B, C, *S)."""
        rows = np.repeat(self.rows, self.frames.shape[1])
        return np.asarray(data.states[rows, self.frames.ravel()]).reshape(*self.frames.shape, *data.shape[2:])


def analogues(data: Trajectories, times: np.ndarray) -> Analogues | None:
    """States of a training split at the time of year and hour of the day of times (B,), one from each of its years.

    A year is a stretch of 365 days of a trajectory, from its first state on; one enters if at every time it has a state
    at the same hour of the day and not more than a day, or half a time step, off the time of year. None where there is
    no calendar or fewer than two years enter. The probabilistic climatology of Rasp et al. 2024 (WeatherBench 2, arXiv
    2308.15560) draws its members from a window of days around the date.
    """
    if data.calendar is None:
        return None
    own = _times(data)
    close = max(24.0, float(data.hours(1)) / 2) / YEAR + 1e-6
    found = []
    for row, hours in enumerate(own):
        years = ((hours - hours[0] + 1e-6) // YEAR).astype(int)
        for year in range(years[-1] + 1):
            frames = np.flatnonzero(years == year)
            nearest, apart = _same_date(data.calendar, hours[frames], times)
            if (apart <= close).all():
                found.append((row, frames[nearest]))
    if len(found) < 2:
        return None
    rows, frames = zip(*found, strict=True)
    return Analogues(np.array(rows), np.stack(frames))


def _same_date(calendar: Calendar, hours: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of the hours (n,) is nearest by time of year to each of times (B,), and how far off in years.

    Of another hour of the day, none is near.
    """
    day, hour = FEATURES["day"], FEATURES["hour"]
    apart = np.abs(day(calendar, hours)[:, None] - day(calendar, times))
    apart = np.minimum(apart, 1 - apart)
    other = np.abs(hour(calendar, hours)[:, None] - hour(calendar, times))
    apart = np.where(np.minimum(other, 1 - other) * 24 > 1e-3, np.inf, apart)
    nearest = apart.argmin(0)
    return nearest, apart[nearest, np.arange(len(times))]
