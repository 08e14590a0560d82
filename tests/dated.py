"""Small data sets with a calendar, whose states are known in closed form."""

from __future__ import annotations

import numpy as np

from driftway.data.axes import Axis, Fields
from driftway.data.calendar import Calendar
from driftway.data.trajectories import Trajectories

YEAR = 365 * 24.0
LATITUDES, LONGITUDES = (-60.0, -20.0, 20.0, 60.0), 6


def axes() -> tuple[Axis, Axis]:
    return Axis("lat", LATITUDES, "pole", units="degrees_north"), Axis.uniform(
        "lon", LONGITUDES, 360.0, units="degrees_east"
    )


def dated(
    states: np.ndarray,
    starts: tuple[float, ...],
    dt: float = 12.0,
    splits: tuple[str, ...] | None = None,
    names: tuple[str, ...] = ("tas",),
    units: tuple[str, ...] = ("K",),
) -> Trajectories:
    """States (N, T, C, 4, 6) that begin `starts` hours after the first of January of the year 1."""
    calendar = Calendar(starts, "0001-01-01T00:00", "noleap")
    return Trajectories(
        states.astype(np.float32), Fields(names, units), axes(), dt, "h", splits=splits, calendar=calendar
    )


def seasons(hours: np.ndarray, harmonics: int = 2) -> np.ndarray:
    """What a climatology of `harmonics` waves and hours of the day holds exactly, (..., 1, 4, 6)."""
    rng = np.random.default_rng(0)
    phase, day = (hours % YEAR) / YEAR, (hours % 24) / 12
    patterns = rng.standard_normal((2, 2 * harmonics + 1, 4, 6))
    waves = [np.ones_like(phase)]
    waves += [wave(2 * np.pi * k * phase) for wave in (np.cos, np.sin) for k in range(1, harmonics + 1)]
    states = np.einsum("k...,kij->...ij", np.stack(waves), patterns[0])
    states += np.where(day < 1, 0, 1)[..., None, None] * np.einsum("k...,kij->...ij", np.stack(waves), patterns[1])
    return 10 + states[..., None, :, :]
