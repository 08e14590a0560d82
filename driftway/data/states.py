"""States on disk that are indexed like an array and read when they are looked at."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Reader(Protocol):
    """States on disk, opened when they are first read, in whichever process reads them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, T, C, *S)."""
        ...

    def read(self, row: int, start: int, stop: int) -> np.ndarray:
        """Frames start … stop − 1 of one trajectory: (t, C, *S), float32."""
        ...


class Lazy:
    """States (N, T, C, *S) on disk that are indexed like an array and read only when they are looked at."""

    def __init__(self, reader: Reader, rows: np.ndarray | None = None, times: np.ndarray | None = None):
        self.reader = reader
        self.rows = np.arange(reader.shape[0]) if rows is None else rows
        self.times = np.arange(reader.shape[1]) if times is None else times

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), len(self.times), *self.reader.shape[2:])

    def __getitem__(self, key: Any) -> Any:
        """A view for `[rows]` and `[rows, slice]`; values (B, C, *S) for two lists of indices, as numpy has it."""
        rows, times = key if isinstance(key, tuple) and len(key) == 2 else (key, slice(None))
        if isinstance(times, slice):
            if isinstance(rows, slice) or np.ndim(rows) == 1:
                return Lazy(self.reader, self.rows[rows], self.times[times])
        elif not isinstance(rows, slice) and np.ndim(rows) == np.ndim(times) == 1 and len(rows) == len(times):
            return self._frames(self.rows[rows], self.times[times])
        raise TypeError(
            "states on disk take [rows], [rows, slice] or two lists of one length; `load()` takes any index"
        )

    def _frames(self, rows: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Frames that follow one another are read together, since a chunk may hold several."""
        frames = np.empty((len(rows), *self.shape[2:]), np.float32)
        order = np.lexsort((times, rows))
        jumps = (np.diff(rows[order]) != 0) | (np.diff(times[order]) > 1)
        for run in np.split(order, np.flatnonzero(jumps) + 1) if len(order) else ():
            first, last = int(times[run[0]]), int(times[run[-1]])
            block = self.reader.read(int(rows[run[0]]), first, last + 1)
            frames[run] = block if len(block) == len(run) else block[times[run] - first]
        return frames

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        states = np.empty(self.shape, np.float32 if dtype is None else dtype)
        first, last = int(self.times.min()), int(self.times.max())
        for n, row in enumerate(self.rows.tolist()):
            states[n] = self.reader.read(row, first, last + 1)[self.times - first]
        return states


def unwritten(*shape: int) -> np.ndarray:
    """States that take no memory, for the template of a data set that is still to be written."""
    return np.broadcast_to(np.float32(np.nan), shape)
