"""States of a weather store, read when they are looked at: years of variables and levels, in one order of points."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import xarray as xr

from driftway.errors import DataError

MISSING = 1e19  # 1e20 of CMIP, 9.97e36 of netCDF
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError)


@dataclass(frozen=True)
class Channel:
    """One variable, at one level if it has several: where it is, and how its numbers become SI units.

    factor·x + offset ,  and `fill` (in SI units) where x is missing
    """

    name: str
    variable: str
    unit: str = "1"
    level: int | None = None
    factor: float = 1.0
    offset: float = 0.0
    fill: float | None = None


@dataclass(frozen=True)
class Grid:
    """The dims of a store in the order (time, latitude, longitude), that of levels, and the order of its longitudes."""

    time: str
    latitude: str
    longitude: str
    level: str | None
    order: tuple[int, ...]

    def frames(self, data: xr.Dataset, channel: Channel, times: slice) -> np.ndarray:
        """Frames (t, lat, lon) of one channel, or (lat, lon) where it does not vary with time, as they are stored."""
        stored = data[channel.variable]
        if channel.level is not None:
            stored = stored.isel({self.level: channel.level})
        moving = self.time in stored.dims
        stored = stored.isel({self.time: times}) if moving else stored
        dims = (self.time, self.latitude, self.longitude) if moving else (self.latitude, self.longitude)
        return np.asarray(stored.transpose(*dims).values)[..., list(self.order)]

    def converted(self, data: xr.Dataset, channel: Channel, times: slice) -> np.ndarray:
        """The same in SI units and single precision, filled where that is asked for."""
        values = channel.factor * self.frames(data, channel, times) + channel.offset
        if channel.fill is not None:
            values = np.where(present(values), values, channel.fill)
        return values.astype(np.float32)


@dataclass(frozen=True)
class WeatherReader:
    """One trajectory for each start, the number of its first time in the store."""

    path: Path
    channels: tuple[Channel, ...]
    grid: Grid
    starts: tuple[int, ...]
    shape: tuple[int, ...]
    together: int

    def read(self, row: int, start: int, out: np.ndarray) -> None:
        first = self.starts[row] + start
        data = opened(self.path, os.getpid())
        for place, channel in enumerate(self.channels):
            try:
                out[:, place] = self.grid.converted(data, channel, slice(first, first + len(out)))
            except UNREADABLE as error:
                cause = " ".join(str(error).split())
                raise DataError(f"{self.path}: '{channel.variable}' cannot be read ({cause}); copy it again") from error
            check_present(self.path, channel, out[:, place], first)


def present(values: np.ndarray) -> np.ndarray:
    """Where there are numbers, and not what is not finite or as large as what files write for missing ones."""
    return np.isfinite(values) & (np.abs(values) < MISSING)


def check_present(path: Path, channel: Channel, values: np.ndarray, first: int = 0) -> None:
    """Raise DataError where numbers are missing, with their share and the remedy."""
    missing = ~present(values)
    if missing.any():
        raise DataError(
            f"{path}: {100 * missing.mean():.3g} % of '{channel.variable}' is missing or not finite, from time {first} "
            f"on (often over sea or land): leave it out, or give fill: {{{channel.variable}: mean}} or a number"
        )


@lru_cache(maxsize=8)
def opened(path: Path, process: int) -> xr.Dataset:
    """A store, once per process; its numbers are unpacked and missing ones are NaN, times are numbers."""
    if path.is_dir():
        together = (path / ".zmetadata").is_file()
        return xr.open_zarr(path, decode_times=False, chunks=None, consolidated=together)
    return xr.open_dataset(path, decode_times=False)
