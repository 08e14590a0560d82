"""What a preset needs of a solver, whatever its equations and walls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from driftway.data.axes import Axis, Fields
from driftway.data.trajectories import Conditioning
from driftway.randomness import Stream

NOTHING = Conditioning()

# Points of a batch that are stepped together: 8 fields of 64², which stay in a core's cache.
CHUNK_POINTS = 2**15


class Values(tuple[float, ...]):
    """Numbers of which a preset may have any count, such as the Rayleigh numbers of its trajectories."""


class Names(tuple[str, ...]):
    """Names of which a preset may have any count, such as the fields to store."""


class Fault(NamedTuple):
    """The row of a batch that went wrong, what is wrong, with which numbers, and what to try."""

    row: int
    what: str
    numbers: str
    remedy: str


class Solver(Protocol):
    """A frozen dataclass of the numbers of an equation, which moves batches of states (B, C, *S) of its fields."""

    fields: ClassVar[Fields]
    time_units: ClassVar[str]

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes of a state, with the shifts that leave the equation unchanged."""
        ...

    @property
    def interval(self) -> float:
        """Time between stored states."""
        ...

    @property
    def chunk(self) -> int:
        """Rows that are stepped together."""
        ...

    def initial(self, stream: Stream) -> Tensor:
        """Random initial states (B, C, *S), one per row of the stream."""
        ...

    def parameters(self, rows: Sequence[int]) -> Mapping[str, np.ndarray]:
        """What the physics of these trajectories depend on, by name, each (B,)."""
        ...

    def rollout(self, state: Tensor, conditioning: Conditioning, stream: Stream | None) -> Iterator[Tensor]:
        """The states one stored interval after the other, without end; parameters are in the order of their names."""
        ...

    def fault(self, state: Tensor) -> Fault | None:
        """What is wrong with states that this solver has made, if anything is."""
        ...


def first_row(wrong: Tensor) -> int | None:
    """The first row of (B, ...) in which anything is true."""
    rows = wrong.flatten(1).any(1).nonzero()
    return int(rows[0]) if len(rows) else None


def not_finite(state: Tensor, numbers: str, remedy: str) -> Fault | None:
    """A fault where states (B, C, *S) have left the finite numbers."""
    row = first_row(torch.isfinite(state).logical_not())
    return None if row is None else Fault(row, "is not finite", numbers, remedy)


def usable(device: str) -> bool:
    """Whether torch can compute on this device here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        return False
    return True
