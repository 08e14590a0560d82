"""What training draws its batches from: the training split in memory where it fits, else the disk, batch by batch.

Both give the same bits, since a batch is a function of its indices alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from driftway.codecs import Chain
from driftway.data.trajectories import Trajectories, Transition, Transitions

PASS_BYTES = 64_000_000  # of the states of one batch in a pass over all of them
SAMPLE_BYTES = 256_000_000  # of the states of a sample that is looked at as a whole


@dataclass(frozen=True)
class Encoded:
    """Transitions as a codec of the same shape shows them; without `targets` only the sources are read."""

    transitions: Transitions
    codec: Chain
    targets: bool = True

    def __len__(self) -> int:
        return len(self.transitions)

    @property
    def data(self) -> Trajectories:
        """What the transitions are from."""
        return self.transitions.data

    @property
    def on_disk(self) -> bool:
        """Whether batches are read when they are drawn."""
        return not isinstance(self.data.states, np.ndarray)

    @torch.no_grad()
    def batch(self, indices: np.ndarray) -> Transition:
        """The encoded transitions with these numbers; without targets, the sources stand in their place."""
        source, target, known = self.transitions.batch(indices, self.targets)
        source = self.codec.encode(source, known.fixed).contiguous()
        return Transition(
            source, self.codec.encode(target, known.fixed).contiguous() if self.targets else source, known
        )

    def passes(self) -> Iterator[Transition]:
        """Every transition once, in batches."""
        size = fitting(self.data, PASS_BYTES, 64)
        return (self.batch(np.arange(i, min(i + size, len(self)))) for i in range(0, len(self), size))


def encoded(data: Trajectories, codec: Chain, stride: int, memory: float, targets: bool = True) -> Encoded:
    """The transitions of a data set, whose states are held in memory if they take no more than `memory` gigabytes."""
    fits = state_bytes(data) * data.shape[0] * data.shape[1] <= 1e9 * memory
    return Encoded((data.load() if fits else data).transitions(stride), codec, targets)


def fitting(data: Trajectories, size: int, most: int) -> int:
    """How many states take at most `size` bytes: at least one and at most `most`."""
    return max(1, min(most, size // state_bytes(data)))


def state_bytes(data: Trajectories) -> int:
    """What one state takes in memory."""
    return 4 * int(np.prod(data.shape[2:]))
