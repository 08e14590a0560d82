"""Moments of long runs year by year and month by month, as their states go by, in double precision.

What is kept grows with the number of years (a map of each field for each of their months), not with that of states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from driftway.data.calendar import Calendar
from driftway.data.summaries import months
from driftway.errors import DataError
from driftway.longterm.sources import EPOCH

COMPLETE = 0.9  # of the states of a month, from which it counts as complete
MONTHS = 12
Place = tuple[int, int]  # number of the year or block of a run, number of the month in it


# --- years and months, or blocks -----------------------------------------------------------------------------------


class Bins(Protocol):
    """What divides a run: years into months, or stretches of equal length that have no seasons."""

    noun: str
    weights: np.ndarray

    def places(self, times: np.ndarray, first: float) -> list[Place]:
        """Year (counted from the time `first`) and month of times."""
        ...

    def expected(self, step: float) -> np.ndarray:
        """How many states a step apart each month has, (M,)."""
        ...


class Seasons:
    """Years of twelve calendar months, counted from the first state of a run: its first ends a year after that.

        y = ⌊Y(t) − Y(t₀)⌋ ,   Y(t) = year + share of the year that has gone by

    A month that a run begins in the middle of is completed by its other half at the end of that year.
    """

    noun = "year"

    def __init__(self, calendar: Calendar):
        self.clock = Calendar((0.0,), EPOCH, calendar.name)
        firsts = [self.clock.hours_since(0, f"{1 + m // 12:04d}-{m % 12 + 1:02d}-01") for m in range(MONTHS + 1)]
        self.hours = np.diff(firsts)
        self.weights = self.hours / self.hours.sum()

    def places(self, times: np.ndarray, first: float) -> list[Place]:
        years = np.floor(self._years(times) - self._years(np.array([first])) + 1e-9).astype(int)
        named = months(self.clock, times, "h")[0]
        return [(int(y), int(name.rpartition("-")[2]) - 1) for y, name in zip(years, named, strict=True)]

    def _years(self, times: np.ndarray) -> np.ndarray:
        year = self.clock.year(times)
        return year + self.clock.hour_of_year(times) / (24 * self.clock.days(year))

    def expected(self, step: float) -> np.ndarray:
        return self.hours / step


class Blocks:
    """Stretches of equal length, counted from the first state of a run, without months."""

    noun, weights = "block", np.ones(1)

    def __init__(self, length: float):
        self.length = length

    def places(self, times: np.ndarray, first: float) -> list[Place]:
        return [(int(k), 0) for k in np.floor((times - first) / self.length + 1e-6)]

    def expected(self, step: float) -> np.ndarray:
        return np.array([self.length / step])


# --- moments -------------------------------------------------------------------------------------------------------


@dataclass
class Moments:
    """Count, mean and Σ(u − mean)² of states, which come in groups: Chan, Golub and LeVeque 1979.

    squares: None where means alone are wanted
    """

    count: int
    mean: np.ndarray
    squares: np.ndarray | None = None

    @classmethod
    def of(cls, states: np.ndarray, squares: bool = True) -> Moments:
        """Those of states (t, C, *S)."""
        mean = states.mean(0, dtype=np.float64)
        return cls(len(states), mean, np.square(states - mean).sum(0) if squares else None)

    def add(self, other: Moments) -> None:
        """Those of both together."""
        total, apart = self.count + other.count, other.mean - self.mean
        self.mean = self.mean + apart * (other.count / total)
        if self.squares is not None and other.squares is not None:
            self.squares = self.squares + other.squares + apart**2 * (self.count * other.count / total)
        self.count = total


Table = dict[Place, Moments]


def put(table: Table, place: Place, found: Moments) -> None:
    """Add moments to those at a place of a table."""
    if place in table:
        table[place].add(found)
    else:
        table[place] = found


@dataclass(frozen=True)
class Years:
    """Complete years of a member or of truth runs.

    monthly (Y, M, C, *S): means of months; kept (Y, M, C, *S): the same of the states that variances are of, which is
    `monthly` where these are all; within (Y, C, *S): their variance in months, with the months' shares of a year
    weights (M,); left_out: states that were in no complete year
    """

    monthly: np.ndarray
    kept: np.ndarray
    within: np.ndarray
    weights: np.ndarray
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.monthly)

    def means(self) -> np.ndarray:
        """The mean of each year, (Y, C, *S): Σ_m w_m u_ym."""
        return np.tensordot(self.weights, self.monthly, (0, 1))


def assembled(tables: Sequence[Table], fuller: Sequence[Table], bins: Bins, step: float, full_step: float) -> Years:
    """The complete years of runs, a table of each; `fuller` has those of all states where the first are of some.

    Raises DataError where there is none.
    """
    expected = bins.expected(step)
    whole = [(run, y) for run, table in enumerate(tables) for y in _complete(table, expected)]
    if fuller is not tables:
        wanted = bins.expected(full_step)
        also = {(run, y) for run, table in enumerate(fuller) for y in _complete(table, wanted)}
        whole = [place for place in whole if place in also]
    states = sum(moments.count for table in tables for moments in table.values())
    if not whole:
        need = f"{round(expected.sum())} states"
        raise DataError(
            f"{states} states at these hours hold no complete {bins.noun} of {need}"
            + (": make it longer, or give --block to compare without seasons" if bins.noun == "year" else "")
        )

    def stacked(source: Sequence[Table]) -> np.ndarray:
        return np.stack([np.stack([source[run][y, m].mean for m in range(len(bins.weights))]) for run, y in whole])

    within = np.stack([_within(tables[run], y, bins.weights) for run, y in whole])
    kept = stacked(tables)
    used = sum(tables[run][y, m].count for run, y in whole for m in range(len(bins.weights)))
    return Years(kept if fuller is tables else stacked(fuller), kept, within, bins.weights, states - used)


def _complete(table: Table, expected: np.ndarray) -> list[int]:
    """The years all of whose months have most of their states."""
    years = sorted({year for year, _ in table})
    return [y for y in years if all(_count(table, (y, m)) >= COMPLETE * n for m, n in enumerate(expected))]


def _count(table: Table, place: Place) -> int:
    return table[place].count if place in table else 0


def _within(table: Table, year: int, weights: np.ndarray) -> np.ndarray:
    """Σ_m w_m ⟨(u − u_m)²⟩ of a year, (C, *S)."""
    months = [(w, table[year, m]) for m, w in enumerate(weights)]
    return np.sum([w * own.squares / own.count for w, own in months if own.squares is not None], 0)
