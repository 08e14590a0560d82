"""States on disk that are indexed like an array and read when they are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np

BLOCK_BYTES = 32_000_000  # that are read at once where what is read is not all that is wanted


@runtime_checkable
class Reader(Protocol):
    """States on disk, opened when they are first read, in whichever process reads them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, T, C, *S)."""
        ...

    @property
    def together(self) -> int:
        """How many frames are stored as one and can only be read as one."""
        ...

    def read(self, row: int, start: int, out: np.ndarray) -> None:
        """Fill `out` (t, C, *S), float32 and contiguous, with frames start … start + t − 1 of one trajectory."""
        ...


class Lazy:
    """States (N, T, C, *S) on disk that are indexed like an array and read only when they are looked at.

    State (i, t) is frame first[i] + times[t] of the stored trajectory rows[i].
    """

    def __init__(
        self,
        reader: Reader,
        rows: np.ndarray | None = None,
        times: np.ndarray | None = None,
        first: np.ndarray | None = None,
    ):
        self.reader = reader
        self.rows = np.arange(reader.shape[0]) if rows is None else rows
        self.times = np.arange(reader.shape[1]) if times is None else times
        self.first = np.zeros_like(self.rows) if first is None else first

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), len(self.times), *self.reader.shape[2:])

    def __getitem__(self, key: Any) -> Any:
        """A view for `[rows]` and `[rows, slice]`; values (B, C, *S) for two lists of indices, as numpy has it."""
        rows, times = key if isinstance(key, tuple) and len(key) == 2 else (key, slice(None))
        if isinstance(times, slice):
            if isinstance(rows, slice) or np.ndim(rows) == 1:
                return Lazy(self.reader, self.rows[rows], self.times[times], self.first[rows])
        elif not isinstance(rows, slice) and np.ndim(rows) == np.ndim(times) == 1 and len(rows) == len(times):
            frames = np.empty((len(rows), *self.shape[2:]), np.float32)
            self._fill(frames, self.rows[rows], self.first[rows] + self.times[times])
            return frames
        raise TypeError(
            "states on disk take [rows], [rows, slice] or two lists of one length; `load()` takes any index"
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        states = np.empty(self.shape, np.float32)
        for out, row, first in zip(states, self.rows, self.first, strict=True):
            self._fill(out, np.full(len(self.times), row), first + self.times)
        return states if dtype is None else states.astype(dtype, copy=False)

    def windows(self, frames: Sequence[int], length: int) -> Lazy:
        """All trajectories from one frame on, then all from the next one, `length` frames each."""
        begun = [self.first + self.times[frame] - self.times[0] for frame in frames]
        rows = np.tile(self.rows, len(frames))
        return Lazy(self.reader, rows, self.times[:length], np.concatenate(begun))

    def _fill(self, out: np.ndarray, rows: np.ndarray, times: np.ndarray) -> None:
        """out[i] = frame times[i] of trajectory rows[i]; neighbours, and what is stored as one, are read together."""
        order = np.lexsort((times, rows))
        rows, times = rows[order], times[order]
        new = (rows[1:] != rows[:-1]) | (times[1:] - times[:-1] > max(1, self.reader.together - 1))
        ends = [0, *(np.flatnonzero(new) + 1).tolist(), len(order)]
        for start, end in pairwise(ends):
            if start < end:
                self._fill_run(out, int(rows[start]), times[start:end], order[start:end])

    def _fill_run(self, out: np.ndarray, row: int, times: np.ndarray, places: np.ndarray) -> None:
        """Increasing times of one trajectory: into their places at once, or by way of blocks of bounded size."""
        first, place, count = int(times[0]), int(places[0]), len(times)
        if int(times[-1]) - first == count - 1 and (places == np.arange(place, place + count)).all():
            self.reader.read(row, first, out[place : place + count])
            return
        length = max(self.reader.together, BLOCK_BYTES // out[:1].nbytes, 1)
        for start in range(first, int(times[-1]) + 1, length):
            within = slice(*np.searchsorted(times, [start, start + length]))
            if len(times[within]):
                block = np.empty((int(times[within][-1]) + 1 - start, *out.shape[1:]), np.float32)
                self.reader.read(row, start, block)
                out[places[within]] = block[times[within] - start]


def unwritten(*shape: int) -> np.ndarray:
    """States that take no memory, for the template of a data set that is still to be written."""
    return np.broadcast_to(np.float32(np.nan), shape)
