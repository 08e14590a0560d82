"""Keyed randomness: every random number is a function of a key, never of how many were drawn before.

A `Stream` holds one counter-based generator (Philox, Salmon et al. 2011) per row of a batch. Row r of
`stream(seed, "forecast", lead, rows=[...])` is the same whether it is drawn alone, in a batch of eight, or a week
later: resuming needs no generator state and two processes see what one would.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Key = int | str


def generator(*key: Key) -> np.random.Generator:
    """The generator that belongs to `key`, e.g. `generator(seed, "shuffle", epoch)`."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


class Stream:
    """One generator per batch row; successive draws continue each row's own sequence."""

    def __init__(self, generators: Sequence[np.random.Generator]):
        self.generators = tuple(generators)

    def __len__(self) -> int:
        return len(self.generators)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers of the shape (B, ...), dtype and device of `like`; B is the number of rows."""
        dtype = np.float64 if like.dtype == torch.float64 else np.float32
        draws = [g.standard_normal(like.shape[1:], dtype=dtype) for g in self._rows(like)]
        return torch.from_numpy(np.stack(draws)).to(like)

    def uniform(self, like: Tensor) -> Tensor:
        """One number in [0, 1) per row, float64, on the device of `like`: shape (B,)."""
        return torch.tensor([g.random() for g in self._rows(like)], dtype=torch.float64, device=like.device)

    def integers(self, high: int, like: Tensor) -> Tensor:
        """One integer in [0, high) per row, on the device of `like`: shape (B,)."""
        return torch.tensor([int(g.integers(high)) for g in self._rows(like)], device=like.device)

    def _rows(self, like: Tensor) -> tuple[np.random.Generator, ...]:
        if len(like) != len(self.generators):
            raise ValueError(f"the stream has {len(self.generators)} rows, the batch {len(like)}")
        return self.generators


def stream(*key: Key, rows: Sequence[Key | tuple[Key, ...]]) -> Stream:
    """A stream whose row i is keyed by `key` and `rows[i]`, e.g. `stream(seed, "train", step, rows=range(16))`."""
    return Stream([generator(*key, *(row if isinstance(row, tuple) else (row,))) for row in rows])
