"""Keyed randomness: every random number is a function of a key, never of how many were drawn before.

A `Stream` holds one generator (numpy's SFC64, its state the hash of the key) per row of a batch. Row r of
`stream(seed, "forecast", lead, rows=[...])` is the same whether it is drawn alone, in a batch of eight, or a week
later: resuming needs no generator state and two processes see what one would.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

Key = int | str


class _Words(np.random.bit_generator.ISeedSequence):
    """A generator's state as it is; numpy would gather entropy from the system first, at four times the cost."""

    def __init__(self, words: np.ndarray):
        self.words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        return self.words


NO_WORDS = np.zeros(3, "<u8")


def generator(*key: Key) -> np.random.Generator:
    """The generator that belongs to `key`, e.g. `generator(seed, "shuffle", epoch)`."""
    plain = tuple(part.item() if isinstance(part, np.generic) else part for part in key)
    digest = hashlib.blake2b(repr(plain).encode(), digest_size=24).digest()
    words: Any = _Words(np.frombuffer(digest, dtype="<u8"))
    return np.random.Generator(np.random.SFC64(words))


def _twin(g: np.random.Generator) -> np.random.Generator:
    words: Any = _Words(NO_WORDS)
    bits = np.random.SFC64(words)
    bits.state = g.bit_generator.state  # pyright: ignore[reportAttributeAccessIssue]
    return np.random.Generator(bits)


@contextmanager
def seeded(*key: Key) -> Iterator[None]:
    """Within the block torch's own generator, from which initial weights are drawn, is a function of `key`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(*key).integers(2**63)))
        yield


class Stream:
    """One generator per batch row; successive draws continue each row's own sequence."""

    def __init__(self, generators: Sequence[np.random.Generator]):
        self.generators = tuple(generators)

    def __len__(self) -> int:
        return len(self.generators)

    def twin(self) -> Stream:
        """A stream that draws from here on what this one does."""
        return Stream([_twin(g) for g in self.generators])

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers of the shape (B, ...), dtype and device of `like`; B is the number of rows.

            z = √(−2 ln(1 − u))·(cos 2πw, sin 2πw) ,    u, w uniform in [0, 1)

        Over all rows at once, which is faster than numpy's own law row by row. Reference: Box & Muller 1958.
        """
        dtype: Any = np.float64 if like.dtype == torch.float64 else np.float32
        count = math.prod(like.shape[1:])
        half = (count + 1) // 2
        u, w = np.empty((2, len(like), half), dtype)
        for row, g in enumerate(self._rows(like)):
            g.random(out=u[row], dtype=dtype)
            g.random(out=w[row], dtype=dtype)
        radius, angle = np.sqrt(dtype(-2) * np.log(1 - u)), dtype(2 * math.pi) * w
        draws = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], 1)[:, :count]
        return torch.from_numpy(draws).reshape(like.shape).to(like)

    def uniform(self, like: Tensor) -> Tensor:
        """One number in [0, 1) per row, shape (B,); float64 on the CPU, where times are kept."""
        return torch.tensor([g.random() for g in self._rows(like)], dtype=torch.float64)

    def integers(self, high: int, like: Tensor) -> Tensor:
        """One integer in [0, high) per row, shape (B,), on the CPU."""
        return torch.tensor([int(g.integers(high)) for g in self._rows(like)])

    def _rows(self, like: Tensor) -> tuple[np.random.Generator, ...]:
        if len(like) != len(self.generators):
            raise ValueError(f"the stream has {len(self.generators)} rows, the batch {len(like)}")
        return self.generators


def stream(*key: Key, rows: Sequence[Key | tuple[Key, ...]]) -> Stream:
    """A stream whose row i is keyed by `key` and `rows[i]`, e.g. `stream(seed, "train", step, rows=range(16))`."""
    return Stream([generator(*key, *(row if isinstance(row, tuple) else (row,))) for row in rows])
