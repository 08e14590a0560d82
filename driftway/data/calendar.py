"""When the trajectories of a data set begin, for systems that know seasons and hours of the day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Calendar:
    """Hours from `epoch` to the first state of each trajectory, in a calendar of the CF conventions.

    Arguments:
        starts: (N,) hours since `epoch`
        epoch: a date and time, such as 2000-01-01T00:00
        name: `noleap` (365 days every year), `360_day` or `proleptic_gregorian`
    """

    starts: tuple[float, ...]
    epoch: str = "2000-01-01T00:00"
    name: str = "noleap"

    def select(self, rows: Sequence[int] | np.ndarray) -> Calendar:
        """That of some trajectories."""
        return replace(self, starts=tuple(self.starts[int(row)] for row in rows))
