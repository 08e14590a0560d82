"""The raw output of PlaSim: unformatted Fortran records, a header of eight integers before each field.

Codes are those of ECHAM: 130 temperature, 133 humidity, 138 vorticity, 152 log surface pressure, 155 divergence as
spherical harmonics, all else on the Gaussian grid. The first record holds the vertical coordinate.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from driftway.errors import DataError

HEADER = 333
RECORD = 10  # words of a header record: eight integers between two markers


class Place(NamedTuple):
    """Where a field is: the words of the file that it takes."""

    start: int
    end: int


@dataclass(frozen=True)
class Raw:
    """One file, by code and level.

    Arguments:
        words: the file as four-byte words
        places: (code, level) → the field's place in each state, in order of time
        half: (L,) lower edges of the layers in sigma, from the top; the last is 1
        grid: latitudes and longitudes
        truncation: the largest total wavenumber
    """

    words: np.ndarray
    places: dict[tuple[int, int], list[Place]]
    half: np.ndarray
    grid: tuple[int, int]
    truncation: int

    def __len__(self) -> int:
        return len(next(iter(self.places.values()), []))

    def field(self, code: int, level: int = 0) -> np.ndarray:
        """The field of a code on the grid, (T, lat, lon)."""
        return self._numbers(code, level).reshape(-1, *self.grid)

    def spectral(self, code: int, level: int = 0) -> np.ndarray:
        """The coefficients of a code, (T, modes) complex, order m by order, degree n from m upward within each."""
        pairs = self._numbers(code, level).astype(float)
        return pairs[:, 0::2] + 1j * pairs[:, 1::2]

    def layers(self, code: int) -> np.ndarray:
        """The coefficients of a code in all layers from the top, (T, L, modes)."""
        return np.stack([self.spectral(code, level) for level in range(1, len(self.half) + 1)], 1)

    def _numbers(self, code: int, level: int) -> np.ndarray:
        return np.stack([self.words[start:end].view("<f4") for start, end in self.places[code, level]])


def read_raw(path: str | Path) -> Raw:
    """An output file of PlaSim. Raises DataError where it is no such file or ends in the middle of a state."""
    words = np.memmap(path, dtype="<i4", mode="r") if Path(path).stat().st_size >= 4 * RECORD else np.empty(0, "<i4")
    if len(words) < RECORD or words[1] != HEADER:
        raise DataError(f"{path} is no output of PlaSim: it does not begin with the record {HEADER}")
    _, _, _, _, longitudes, latitudes, layers, truncation = (int(word) for word in words[1:9])
    half = words[RECORD + 1 : RECORD + 1 + layers].view("<f4").astype(float)
    places: dict[tuple[int, int], list[Place]] = defaultdict(list)
    at = _skip(path, words, RECORD)
    while at < len(words):
        code, level = (int(word) for word in words[at + 1 : at + 3])
        begin = at + RECORD
        at = _skip(path, words, begin)
        places[code, level].append(Place(begin + 1, at - 1))
    counts = {len(found) for found in places.values()}
    if len(counts) > 1:
        raise DataError(
            f"{path} ends in the middle of a state: its fields are there {min(counts)} to {max(counts)} times"
        )
    return Raw(words, dict(places), half, (latitudes, longitudes), truncation)


def _skip(path: str | Path, words: np.ndarray, at: int) -> int:
    """The word after the record that begins at a marker."""
    after = at + 2 + int(words[at]) // 4 if at < len(words) else len(words) + 1
    if after > len(words) or words[after - 1] != words[at]:
        raise DataError(f"{path} ends in the middle of a record: the run was stopped or the disk was full")
    return after


def read_surface(path: str | Path) -> np.ndarray:
    """A surface file of PlaSim as text, (T, lat, lon): a header of eight integers before the numbers of each field."""
    numbers = np.array(Path(path).read_text().split(), float)
    longitudes, latitudes = (int(n) for n in numbers[4:6])
    each = 8 + longitudes * latitudes
    if len(numbers) % each:
        raise DataError(f"{path} ends in the middle of a field of {latitudes} × {longitudes} numbers")
    return numbers.reshape(-1, each)[:, 8:].reshape(-1, latitudes, longitudes)
