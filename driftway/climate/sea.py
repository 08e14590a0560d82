"""The sea surface temperature that PlaSim is given: monthly means, linear in time between the middles of months."""

from __future__ import annotations

import numpy as np

MONTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def interpolated(months: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Fields (T, *S) at `days` (T,) since the beginning of a year of 365 days, of fields (14, *S).

    The fields are those of December, January to December, and January. The middle of a month of n days is where PlaSim
    has it, (n − 1)/2 days after its beginning.
    """
    ends = np.cumsum((0, *MONTHS))
    middles = ends[:-1] + (np.array(MONTHS) - 1) / 2
    middles = np.concatenate([[middles[-1] - 365], middles, [middles[0] + 365]])
    day = np.asarray(days) % 365
    after = np.searchsorted(middles, day, side="right")
    weight = (day - middles[after - 1]) / (middles[after] - middles[after - 1])
    shape = (-1,) + (1,) * (months.ndim - 1)
    return (1 - weight).reshape(shape) * months[after - 1] + weight.reshape(shape) * months[after]
