"""What the date tells a step: season and hour of the day as numbers, and forcing that recurs every year."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from driftway.data.calendar import Calendar
from driftway.errors import DataError

LEAP_DAY = 59 * 24.0  # hours before the 29th of February
YEARS = {"noleap": (365,), "360_day": (360,), "proleptic_gregorian": (365, 366)}

# As angles of a circle: the season goes round once a year, be it of 365 or 366 days.
FEATURES: Mapping[str, Callable[[Calendar, np.ndarray], np.ndarray]] = {
    "day": lambda calendar, hours: calendar.hour_of_year(hours) / 24 / calendar.days(calendar.year(hours)),
    "hour": lambda calendar, hours: calendar.hour_of_day(hours) / 24,
}


@dataclass(frozen=True)
class Told:
    """What a step is told of the date, and of which date.

    Arguments:
        features: of `day` (season) and `hour` (of the day), those that enter as parameters; only where there is a
            calendar
        at: whether dates and forcing are those of the state that a step starts from (`start`) or of the one that it
            makes (`valid`); None: valid where there is a calendar, start where there is none
    """

    features: tuple[str, ...] = tuple(FEATURES)
    at: Literal["start", "valid"] | None = None

    def __post_init__(self) -> None:
        odd = next((name for name in self.features if name not in FEATURES), None)
        if odd is not None or len(set(self.features)) != len(self.features) or self.at not in (None, "start", "valid"):
            raise DataError(
                f"a step is told {' and '.join(FEATURES)}, each at most once, at start or valid; got "
                f"{list(self.features)} at {self.at}"
            )

    def valid(self, calendar: Calendar | None) -> bool:
        """Whether dates and forcing are those of the state that a step makes."""
        return calendar is not None if self.at is None else self.at == "valid"

    def names(self, calendar: Calendar | None) -> tuple[str, ...]:
        """The features by name, sine and cosine of each; none without a calendar."""
        chosen = () if calendar is None else tuple(name for name in FEATURES if name in self.features)
        return tuple(f"{name}_{wave}" for name in chosen for wave in ("sin", "cos"))

    def numbers(self, calendar: Calendar, hours: np.ndarray) -> list[np.ndarray]:
        """sin 2πd/D, cos 2πd/D, sin 2πh/24, cos 2πh/24 of times (B,) in hours since the calendar's epoch.

        d: days since the first of January of D, with their fraction; h: hours since midnight
        """
        angles = [2 * np.pi * angle(calendar, hours) for name, angle in FEATURES.items() if name in self.features]
        return [wave(angle) for angle in angles for wave in (np.sin, np.cos)]


ALL = Told()


def season_step(calendar: Calendar, frames: int) -> float:
    """Hours between the frames of forcing that covers one year from the first of January, 00:00.

    Of a Gregorian calendar, the year has the 365 or 366 days that the frames divide into whole seconds. Raises
    DataError where they divide neither.
    """
    for days in YEARS[calendar.name]:
        if frames > 0 and days * 86400 % frames == 0:
            return days * 24 / frames
    days = " or ".join(map(str, YEARS[calendar.name]))
    raise DataError(
        f"forcing of {frames} frames recurs every year, but {frames} frames do not divide the {days} days of a year in "
        f"the calendar {calendar.name} into whole seconds: give one whole year, from the first of January, 00:00"
    )


def season_frames(calendar: Calendar, hours: np.ndarray, frames: int) -> np.ndarray:
    """Which frame of forcing that recurs every year holds at times (B,), in hours since the calendar's epoch.

        ⌊hour of the year / step⌋

    Between two frames the earlier one holds. Forcing of 365 days has no 29th of February: that day takes the 28th's.
    Forcing of 366 days passes its 29th of February over in years that have none.
    """
    step = season_step(calendar, frames)
    of_year, days = calendar.hour_of_year(hours), calendar.days(calendar.year(hours))
    if step * frames == 365 * 24:
        of_year = of_year - 24 * ((days == 366) & (of_year >= LEAP_DAY))
    elif step * frames == 366 * 24:
        of_year = of_year + 24 * ((days == 365) & (of_year >= LEAP_DAY))
    return np.floor(of_year / step + 1e-6).astype(int)


def check_recurring(calendar: Calendar | None, lengths: Sequence[int]) -> None:
    """Raise DataError where forcing cannot recur every year: no calendar, no whole year, or fields of other lengths."""
    if calendar is None:
        raise DataError("forcing that recurs every year needs a calendar, which says when a trajectory begins")
    if len(set(lengths)) > 1:
        raise DataError(f"fields of recurring forcing have {' and '.join(map(str, lengths))} frames, must have as many")
    for frames in lengths:
        season_step(calendar, frames)
