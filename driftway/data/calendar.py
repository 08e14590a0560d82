"""Dates of the states of a data set, for systems that know seasons and hours of the day."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from driftway.errors import DataError

NAMES = {
    "noleap": "noleap",
    "365_day": "noleap",
    "360_day": "360_day",
    "proleptic_gregorian": "proleptic_gregorian",
    "gregorian": "proleptic_gregorian",  # the same from 1582-10-15 on
    "standard": "proleptic_gregorian",
}
HOURS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1 / 3600),
    **dict.fromkeys(("min", "minute", "minutes"), 1 / 60),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 1.0),
    **dict.fromkeys(("d", "day", "days"), 24.0),
}
MONTHS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
DATE = re.compile(r"(\d{1,4})-(\d\d?)-(\d\d?)(?:[T ](\d\d?):(\d\d)(?::(\d\d)(?:\.\d*)?)?)?\s*(?:Z|UTC|\+00:?00)?")


def hours_of(units: str) -> float:
    """One time unit in hours; raises DataError for a unit that no date can be counted in."""
    if units.strip().lower() not in HOURS:
        raise DataError(f"time units '{units}' cannot be turned into hours, as a calendar needs: use s, min, h or days")
    return HOURS[units.strip().lower()]


def from_cf(values: Sequence[float] | np.ndarray, units: str, name: str = "standard") -> Calendar:
    """The calendar of times (N,) as the CF conventions write them: `units` such as 'hours since 2000-01-01 00:00:00'.

    Raises DataError for units, a date or a calendar that are not known.
    """
    unit, since, epoch = units.partition(" since ")
    if not since:
        raise DataError(f"units '{units}' of a time are not of the form 'hours since 2000-01-01 00:00:00'")
    if name.lower() not in NAMES:
        raise DataError(f"calendar '{name}' is none of {', '.join(NAMES)}")
    hours = np.asarray(values, float) * hours_of(unit)
    return Calendar(tuple(hours.tolist()), epoch.strip(), NAMES[name.lower()])


@dataclass(frozen=True)
class Calendar:
    """Hours from `epoch` to the first state of each trajectory, in a calendar of the CF conventions.

    Arguments:
        starts: (N,) hours since `epoch`
        epoch: a date and time, such as 2000-01-01T00:00
        name: `noleap` (365 days every year), `360_day` or `proleptic_gregorian`

    Raises DataError for another calendar, an epoch that is no date in it, and starts that are not finite.
    """

    starts: tuple[float, ...]
    epoch: str = "2000-01-01T00:00"
    name: str = "noleap"

    def __post_init__(self) -> None:
        if self.name not in NAMES.values():
            raise DataError(f"calendar '{self.name}' is none of {', '.join(dict.fromkeys(NAMES.values()))}")
        object.__setattr__(self, "starts", tuple(float(start) for start in self.starts))
        if not np.isfinite(self.starts).all():
            raise DataError(f"starts of a calendar must be finite hours since {self.epoch}")
        self.hours_since(0, self.epoch)

    def __len__(self) -> int:
        return len(self.starts)

    def select(self, rows: Sequence[int] | np.ndarray) -> Calendar:
        """That of some trajectories."""
        return replace(self, starts=tuple(self.starts[int(row)] for row in rows))

    def later(self, hours: float) -> Calendar:
        """That of trajectories that begin some hours later."""
        return replace(self, starts=tuple(start + hours for start in self.starts))

    def hours(self, rows: np.ndarray, elapsed: np.ndarray | float) -> np.ndarray:
        """Hours since `epoch`, some hours after the first states of these trajectories."""
        return np.asarray(self.starts)[rows] + elapsed

    def cf(self) -> dict[str, str]:
        """The attributes `units` and `calendar` of times in hours since `epoch`."""
        return {"units": f"hours since {self.epoch.replace('T', ' ')}", "calendar": self.name}

    # --- dates -----------------------------------------------------------------------------------------------------

    def hours_since(self, year: int, date: str) -> float:
        """Hours from the first of January of a year to a date and time such as 2000-01-01T06:00."""
        found = DATE.fullmatch(date.strip())
        then, month, day, hour, minute, second = (int(part or 0) for part in found.groups()) if found else (0,) * 6
        lengths = self._months(then)
        if not 1 <= month <= 12 or not 1 <= day <= lengths[month - 1] or hour > 23 or minute > 59 or second > 59:
            raise DataError(f"'{date}' is no date of the calendar {self.name}, such as 2000-01-01T00:00")
        days = self._first_day(np.array(then)) - self._first_day(np.array(year)) + lengths[: month - 1].sum() + day - 1
        return 24.0 * float(days) + hour + minute / 60 + second / 3600

    def year(self, hours: np.ndarray | float) -> np.ndarray:
        """The year of times in hours since `epoch`."""
        days = np.floor(self._hours_since_year_0(hours) / 24).astype(int)
        if self.name == "proleptic_gregorian":
            return (days - _GREGORIAN_DAYS).astype("M8[D]").astype("M8[Y]").astype(int) + 1970
        return days // (365 if self.name == "noleap" else 360)

    def hour_of_year(self, hours: np.ndarray | float) -> np.ndarray:
        """Hours since the first of January, 00:00, of times in hours since `epoch`."""
        return self._hours_since_year_0(hours) - 24.0 * self._first_day(self.year(hours))

    def hour_of_day(self, hours: np.ndarray | float) -> np.ndarray:
        """0 ≤ h < 24."""
        return self._hours_since_year_0(hours) % 24

    def days(self, year: np.ndarray | int) -> np.ndarray:
        """The number of days in a year."""
        return self._first_day(np.asarray(year) + 1) - self._first_day(np.asarray(year))

    def date(self, hours: float) -> str:
        """A time in hours since `epoch` as a date, to the minute."""
        rounded = round(60 * float(hours)) / 60
        year, minutes = int(self.year(rounded)), round(60 * float(self.hour_of_year(rounded)))
        day, minute = divmod(minutes, 1440)
        ends = self._months(year).cumsum()
        month = int(np.searchsorted(ends, day, side="right"))
        first = ends[month - 1] if month else 0
        return f"{year:04d}-{month + 1:02d}-{day - first + 1:02d}T{minute // 60:02d}:{minute % 60:02d}"

    def _hours_since_year_0(self, hours: np.ndarray | float) -> np.ndarray:
        """To a hundredth of a second, so that 6 · 0.1 days and the like fall on their hours."""
        return np.round((np.asarray(hours, float) + self.hours_since(0, self.epoch)) * 360_000) / 360_000

    def _months(self, year: int) -> np.ndarray:
        if self.name == "360_day":
            return np.full(12, 30)
        leap = self.name == "proleptic_gregorian" and int(self.days(year)) == 366
        return MONTHS + leap * (np.arange(12) == 1)

    def _first_day(self, year: np.ndarray) -> np.ndarray:
        """Days from the first of January of year 0 to that of a year."""
        if self.name == "proleptic_gregorian":
            before = year - 1
            return 365 * year + before // 4 - before // 100 + before // 400 + 1
        return year * (365 if self.name == "noleap" else 360)


_GREGORIAN_DAYS = 719_528  # from 0000-01-01 to 1970-01-01
