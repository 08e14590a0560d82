"""Pairs of states some frames apart, in units that make fields comparable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from driftway.data import Trajectories
from driftway.errors import DataError


@dataclass(frozen=True)
class Pairs:
    """States (P, C, *S) and those `lag` frames later, as anomalies in standard deviations of each field.

    The anomaly is what differs from the mean state; `rows` says from which trajectory each pair is.
    """

    lag: int
    rows: np.ndarray
    source: Tensor
    target: Tensor

    def half(self, first: bool) -> Pairs:
        """The pairs of the first or the second half of the trajectories, or of their frames where there is one."""
        middle = np.unique(self.rows)[len(np.unique(self.rows)) // 2]
        within = self.rows < middle if middle > self.rows.min() else np.arange(len(self.rows)) < len(self.rows) // 2
        at = torch.from_numpy(np.flatnonzero(within if first else ~within))
        return Pairs(self.lag, self.rows[at], self.source[at], self.target[at])

    def by_trajectory(self, values: Tensor) -> Tensor:
        """Means of values (P,) over the pairs of each trajectory: (N,)."""
        return torch.stack([values[torch.from_numpy(self.rows == row)].mean() for row in np.unique(self.rows)])


@dataclass(frozen=True)
class Scale:
    """The mean state (1, C, *S) and one standard deviation (1, C, 1, …) per field of the anomalies."""

    mean: Tensor
    std: Tensor

    def __call__(self, states: Tensor) -> Tensor:
        return (states - self.mean) / self.std


def checked(data: Trajectories) -> None:
    """Raise DataError for data in which there is no step to look at."""
    if data.shape[1] < 2:
        raise DataError(
            f"trajectories have {data.shape[1]} frame: a diagnosis compares states at two times, give it at least 2"
        )


def scale_of(data: Trajectories, states: int) -> Scale:
    """Mean and standard deviation over states that are evenly spread. Raises DataError for NaN and constant fields."""
    rows, times = _spread(data.shape[0], data.shape[1], states)
    sample = _read(data, rows, times)
    mean = sample.mean(0, keepdim=True)
    axes = tuple(i for i in range(sample.ndim) if i != 1)
    std = (sample - mean).square().mean(axes, keepdim=True).sqrt()
    size = sample.abs().amax(axes, keepdim=True)
    still = (std <= 1e-6 * size).flatten()
    if bool(still.any()):
        name = data.fields.names[int(still.nonzero()[0])]
        raise DataError(
            f"field '{name}' has the same values in all of {len(rows)} states: there is nothing to forecast, "
            "leave the field out"
        )
    return Scale(mean, std)


def pairs_of(data: Trajectories, scale: Scale, lag: int, count: int) -> Pairs:
    """At most `count` pairs `lag` frames apart, evenly spread over trajectories and times."""
    rows, times = _spread(data.shape[0], data.shape[1] - lag, count)
    source, target = _read(data, np.concatenate([rows, rows]), np.concatenate([times, times + lag])).chunk(2)
    return Pairs(lag, rows, scale(source), scale(target))


def frames_of(data: Trajectories, scale: Scale, rows: np.ndarray, times: np.ndarray) -> Tensor:
    """The states (P, C, *S) of these rows and times."""
    return scale(_read(data, rows, times))


def _spread(rows: int, times: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `count` places of a table of rows and times: some of every row, or every so many rows one."""
    number = min(count, rows * times)
    at = (np.arange(number) + 0.5) * (rows * times / number)
    where, when = np.divmod(at.astype(int), times)
    return where, when


def _read(data: Trajectories, rows: np.ndarray, times: np.ndarray) -> Tensor:
    """States (P, C, *S). Raises DataError for a value that is not finite."""
    states = torch.from_numpy(np.asarray(data.states[rows, times], dtype=np.float32))
    bad = (~torch.isfinite(states)).nonzero()
    if len(bad):
        row, channel = int(bad[0][0]), int(bad[0][1])
        raise DataError(
            f"field '{data.fields.names[channel]}' holds {float(states[tuple(bad[0])])} at trajectory {rows[row]}, "
            f"frame {times[row]} of the split, counted from 0: fill such values, or leave the trajectory out"
        )
    return states
