"""Statistics of a data set in one pass: what standardisation and people need to know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from driftway.data.cf import on_earth
from driftway.data.trajectories import Trajectories
from driftway.data.weather_units import contradiction
from driftway.errors import DataError

BLOCK_BYTES = 32_000_000  # of the states that are looked at at once


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each field (C,), and where they are from."""

    mean: np.ndarray
    std: np.ndarray
    source: str = "computed"


@dataclass(frozen=True)
class Statistics:
    """Per field (C,), over all trajectories, times and points, in float64."""

    mean: np.ndarray
    std: np.ndarray
    increment_std: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray
    count: int
    increment_mean: np.ndarray = field(default_factory=lambda: np.zeros(()))

    @property
    def scale(self) -> Scale:
        """What standardisation needs of it."""
        return Scale(self.mean, self.std)


@dataclass
class _Moments:
    """Mean and sum of squared deviations of one field, merged block by block (Chan, Golub & LeVeque 1979)."""

    count: int = 0
    mean: float = 0.0
    deviation: float = 0.0

    def add(self, values: np.ndarray) -> None:
        """A block of any shape, in float64."""
        if values.size:
            count, mean = values.size, float(values.mean())
            rest = (values - mean).ravel()
            total, shift = self.count + count, mean - self.mean
            self.deviation += float(np.dot(rest, rest)) + shift**2 * (self.count * count / total)
            self.mean, self.count = self.mean + shift * (count / total), total

    @property
    def std(self) -> float:
        return float(np.sqrt(self.deviation / max(self.count, 1)))


def statistics(data: Trajectories) -> Statistics:
    """Mean, standard deviation, that of one step, and range of each field; give it the training split alone.

    Raises DataError for a value that is not finite, and for a field that never changes.
    """
    channels = range(len(data.fields))
    states, steps = [_Moments() for _ in channels], [_Moments() for _ in channels]
    low, high = np.full(len(channels), np.inf), np.full(len(channels), -np.inf)
    last = np.empty(0)
    for row, first, block in blocks(data):
        _check_finite(data, block, row, first)
        over = (0, *range(2, block.ndim))
        low, high = np.minimum(low, block.min(over)), np.maximum(high, block.max(over))
        both = np.concatenate([last, block]) if first else block
        for channel in channels:
            values = both[:, channel].astype(np.float64)
            states[channel].add(values[len(both) - len(block) :])
            steps[channel].add(np.diff(values, axis=0))
        last = block[-1:]
    mean, std = (np.array([getattr(moments, name) for moments in states]) for name in ("mean", "std"))
    drift, step = (np.array([getattr(moments, name) for moments in steps]) for name in ("mean", "std"))
    _check_varying(data, std, low, high)
    _check_meant(data, mean)
    return Statistics(mean, std, step, low, high, states[0].count, drift)


def blocks(data: Trajectories) -> Iterator[tuple[int, int, np.ndarray]]:
    """Trajectory, first frame, and frames (t, C, *S): whole trajectories, or as much as fits."""
    length = max(1, BLOCK_BYTES // (4 * int(np.prod(data.shape[2:]))))
    for row in range(data.shape[0]):
        for first in range(0, data.shape[1], length):
            yield row, first, np.asarray(data.states[[row], first : first + length])[0]


def _check_finite(data: Trajectories, block: np.ndarray, row: int, first: int) -> None:
    if not np.isfinite(block).all():
        bad = np.argwhere(~np.isfinite(block))
        time, channel = bad[0][:2]
        raise DataError(
            f"field '{data.fields.names[channel]}' holds {block[tuple(bad[0])]} at trajectory {row}, frame "
            f"{first + time} (of {data.shape[0]} and {data.shape[1]}, counted from 0), one of {len(bad)} such values "
            "in this trajectory: fill them, or leave the trajectory out"
        )


def _check_meant(data: Trajectories, means: np.ndarray) -> None:
    """Raise DataError where, on latitudes and longitudes, the mean of a field contradicts its name and unit."""
    if on_earth([axis.units for axis in data.axes]):
        said = map(contradiction, data.fields.names, data.fields.units, means.tolist())
        if wrong := next(filter(None, said), ""):
            raise DataError(wrong)


def _check_varying(data: Trajectories, std: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    for name, deviation, least, most in zip(data.fields.names, std, low, high, strict=True):
        if least == most or deviation < 1e-7 * max(abs(least), abs(most)):
            raise DataError(
                f"field '{name}' is constant ({least:g}) in the training split and cannot be standardised: drop it, "
                "or make it a static field"
            )
