"""Times of a weather store: checked, dated and cut into whole years."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from driftway.data.calendar import Calendar, from_cf
from driftway.errors import DataError

REFORM = 1582  # in which year the calendar `standard` goes over from Julian to Gregorian dates


@dataclass(frozen=True)
class Times:
    """Times of a store in hours since the calendar's epoch, and their step in hours."""

    hours: np.ndarray
    calendar: Calendar
    step: float

    @property
    def per_year(self) -> int:
        """Frames of the shortest year."""
        return round(24 / self.step * min(365, int(self.calendar.days(2001))))


def times_of(path: Path, stored: xr.DataArray) -> Times:
    """The times of a store, equally spaced and increasing.

    Raises DataError for units or a calendar that are not known, dates in two calendars, times that come twice or run
    backwards, and gaps, with the dates on both sides.
    """
    about = stored.attrs
    if "units" not in about:
        raise DataError(f"{path}: time '{stored.name}' has no units such as 'hours since 1959-01-01'")
    if not np.isfinite(np.asarray(stored.values, float)).all():
        raise DataError(f"{path}: time '{stored.name}' holds times that are not finite: drop them, with their states")
    name = str(about.get("calendar", "standard"))
    calendar = from_cf(stored.values[:1] * 0, str(about["units"]), name)
    hours = np.asarray(from_cf(stored.values, str(about["units"]), name).starts)
    if len(hours) < 2:
        raise DataError(f"{path} holds {len(hours)} times; a year of them is needed")
    if name.lower() in ("standard", "gregorian") and int(calendar.year(hours.min())) < REFORM + 1:
        raise DataError(
            f"{path}: dates before {REFORM + 1} in the calendar '{name}' are Julian and later ones Gregorian: leave "
            "these years out of the store, or write its times in the calendar proleptic_gregorian"
        )
    return Times(hours, calendar, _step(path, hours, calendar))


def _step(path: Path, hours: np.ndarray, calendar: Calendar) -> float:
    steps = np.diff(hours)
    if (steps <= 0).any():
        at = int(np.argmax(steps <= 0))
        dates = f"{calendar.date(hours[at])} is followed by {calendar.date(hours[at + 1])}"
        what = "comes twice" if steps[at] == 0 else f"{dates}: times run backwards"
        raise DataError(
            f"{path}: {calendar.date(hours[at]) + ' ' if steps[at] == 0 else ''}{what}; sort the times and drop those "
            "that come twice, such as by sortby('time').drop_duplicates('time')"
        )
    step = float(np.median(steps))
    odd = np.flatnonzero(~np.isclose(steps, step, rtol=1e-4))
    if len(odd):
        before, after = (calendar.date(float(hours[odd[0] + place])) for place in (0, 1))
        leap = "; without a 29th of February, the calendar is noleap" if before[5:10] == "02-28" else ""
        raise DataError(
            f"{path}: a gap in time between {before} and {after}, elsewhere a step is {step:g} h; fill it, or cut the "
            f"store there{leap}"
        )
    if abs(round(24 / step) * step - 24) > 1e-3:
        raise DataError(f"{path}: a step of {step:g} h does not divide a day; choose times that do")
    return step


@dataclass(frozen=True)
class Year:
    """A whole year: which it is, the number of its first time in the store, and its split, if that is given."""

    year: int
    first: int
    split: str | None


def whole_years(path: Path, times: Times, wanted: Mapping[str, Sequence[int]] | None) -> tuple[list[Year], str]:
    """The years that become trajectories, and what is to be said of those that do not.

    wanted: split → a year, or the first and last of a range; None: all whole years of the store

    Raises DataError for a year that is wanted and not whole, or in two splits, and where there is no whole year.
    """
    years, firsts, counts = np.unique(times.calendar.year(times.hours), return_index=True, return_counts=True)
    needed = np.round(times.calendar.days(years) * 24 / times.step).astype(int)
    whole = {
        int(year): int(first) for year, first, n, all_ in zip(years, firsts, counts, needed, strict=True) if n == all_
    }
    span = f"{times.calendar.date(times.hours[0])} to {times.calendar.date(times.hours[-1])}"
    if not whole:
        raise DataError(f"{path} holds no whole year, but {span}; a trajectory is one year")
    if wanted is None:
        parts = sorted(set(map(int, years)) - whole.keys())
        said = f"years that are not whole left out: {', '.join(map(str, parts))}" if parts else ""
        return [Year(year, first, None) for year, first in whole.items()], said
    chosen: dict[int, str] = {}
    for split, ends in wanted.items():
        if len(ends) not in (1, 2) or list(ends) != sorted(ends):
            raise DataError(f"years: {split} is {list(ends)}, must be one year, or the first and the last")
        for year in range(min(ends), max(ends) + 1):
            if year in chosen:
                raise DataError(f"years: {year} is in {chosen[year]} and in {split}; a year belongs to one split")
            if year not in whole:
                raise DataError(f"years: {split} wants {year}, which {path} ({span}) does not hold as a whole")
            chosen[year] = split
    return [Year(year, whole[year], split) for year, split in sorted(chosen.items())], ""
