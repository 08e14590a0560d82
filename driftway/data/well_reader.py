"""States from files in The Well's layout: each file is opened once per process, what is contiguous is read at once."""

from __future__ import annotations

import math
import os
import threading
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, product
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from driftway.errors import DataError

UNREADABLE = (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError)
OPEN_FILES = 200  # per process; systems allow 256 and more
BLOCK_BYTES = 8_000_000  # of one field that are read before they are put in place


@dataclass(frozen=True)
class Field:
    """Where one scalar, vector or tensor is, and the axes along which it is constant and has one value."""

    group: str
    name: str
    order: int
    unit: str = "1"
    constant: tuple[int, ...] = ()

    def channels(self, axes: tuple[str, ...]) -> list[str]:
        """The names of its components."""
        suffixes = ("".join(part) for part in product(axes, repeat=self.order))
        return [f"{self.name}_{suffix}" if suffix else self.name for suffix in suffixes]

    def stored(self, file: Any) -> Any:
        """The data set that holds it."""
        return file[self.group][self.name]

    def components(self, values: np.ndarray, space: tuple[int, ...]) -> np.ndarray:
        """Stored frames as (t, D^order, *S)."""
        if self.constant:
            values = np.expand_dims(values, tuple(1 + axis for axis in self.constant))
            values = np.broadcast_to(values, (len(values), *space, *values.shape[1 + len(space) :]))
        return np.moveaxis(values.reshape(len(values), *space, -1), -1, 1)


@dataclass(frozen=True)
class WellReader:
    """The trajectories of several files, one after the other; `together` frames of them are stored as one."""

    files: tuple[Path, ...]
    counts: tuple[int, ...]
    fields: tuple[Field, ...]
    shape: tuple[int, ...]
    together: int = 1

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(self.counts))

    @cached_property
    def _channels(self) -> list[int]:
        """The first channel of each field, and the number of all."""
        dimensions = len(self.shape) - 3
        return list(accumulate((dimensions**field.order for field in self.fields), initial=0))

    def read(self, row: int, start: int, out: np.ndarray) -> None:
        number = bisect_right(self._ends, row)
        path, inside = self.files[number], row - self._ends[number] + self.counts[number]
        try:
            sources = opened(path, self.fields, os.getpid(), threading.get_ident())
            for source in sources:
                source.announce(inside, start, len(out))
            for field, source, first, end in zip(
                self.fields, sources, self._channels, self._channels[1:], strict=False
            ):
                length = max(BLOCK_BYTES // source.bytes, self.together, 1)
                for at in range(0, len(out), length):
                    part = out[at : at + length, first:end]
                    part[:] = field.components(source.read(inside, start + at, len(part)), self.shape[3:])
        except UNREADABLE as error:
            raise damaged(path, error) from error


class Source:
    """One stored field, with the selection of what is read of it, which one thread uses at a time."""

    def __init__(self, stored: Any):
        self.stored, self.space, self.frames, self.frame = (
            stored.id,
            stored.id.get_space(),
            stored.shape[1],
            stored.shape[2:],
        )
        self.bytes = stored.dtype.itemsize * math.prod(self.frame)
        self.offset = stored.id.get_offset() if hasattr(os, "posix_fadvise") else None  # None for chunks
        self.descriptor = None if self.offset is None else stored.file.id.get_vfd_handle()

    def announce(self, row: int, start: int, count: int) -> None:
        """Tell the system what will be read next, so that it fetches all fields from the disk at once."""
        if self.offset is not None and self.descriptor is not None:
            first = self.offset + (row * self.frames + start) * self.bytes
            os.posix_fadvise(self.descriptor, first, count * self.bytes, os.POSIX_FADV_WILLNEED)

    def read(self, row: int, start: int, count: int) -> np.ndarray:
        """Frames (count, *frame) of one trajectory."""
        values = np.empty((count, *self.frame), np.float32)
        self.space.select_hyperslab((row, start, *(0 for _ in self.frame)), (1, *values.shape))
        self.stored.read(h5py.h5s.create_simple((1, *values.shape)), self.space, values)
        return values


@lru_cache(maxsize=OPEN_FILES)
def opened(path: Path, fields: tuple[Field, ...], process: int, thread: int) -> list[Source]:
    """The data sets of some fields, once per process and thread: HDF5 handles do not survive a fork.

    HDF5 keeps no chunks, since every frame is read once, and what hundreds of open files keep adds up.
    """
    file = h5py.File(path, "r", rdcc_nbytes=0)
    return [Source(field.stored(file)) for field in fields]


def frames_together(stored: Any) -> int:
    """How many frames are read as one: those of a chunk that has to be unpacked or checked as a whole."""
    return stored.chunks[1] if stored.chunks and stored.id.get_create_plist().get_nfilters() else 1


def damaged(path: Path, error: Exception) -> DataError:
    """The error for a file that cannot be read."""
    size = f"{path.stat().st_size} bytes" if path.is_file() else "missing"
    cause = " ".join(str(error).split())
    return DataError(f"{path} ({size}) is not a readable file of The Well's layout: {cause}; copy it again")
