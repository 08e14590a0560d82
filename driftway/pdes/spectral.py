"""Pseudo-spectral solvers on a periodic box: u_t = L u + N(u), in any number of space dimensions.

A solver is a stepper: `step` moves a state (B, C, *S) by one stored interval, dt·substeps. A new equation is
a frozen dataclass of its numbers with `linear` (the symbol of L), `nonlinear` (N on the modes) and `initial`:

    @dataclass(frozen=True)
    class FisherKPP(SpectralPDE):
        diffusivity: float = 0.1

        def linear(self, k):
            return 1 - self.diffusivity * k[0] ** 2

        def nonlinear(self, v):
            return -self.to_modes(self.to_grid(v) ** 2)

        def initial(self, stream):
            return 0.5 + 0.4 * self.random_waves(stream, cutoff=3)

Products alias: N sees and feeds only the integer wavenumbers |m| ≤ ⅔⌊n/2⌋ − 1 of every axis of n points
(Orszag 1971; exponax keeps the same set). Modes beyond feel L alone. Neither needs a line in `nonlinear`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from driftway.data.axes import Axis, Fields
from driftway.data.trajectories import Conditioning
from driftway.errors import ConfigError
from driftway.pdes.etdrk import SCHEMES, Scheme, scheme
from driftway.pdes.solver import CHUNK_POINTS, NOTHING, Fault, not_finite, usable
from driftway.randomness import Stream

AXIS_NAMES = ("x", "y", "z")


@dataclass(frozen=True)
class SpectralPDE(ABC):
    """u_t = L u + N(u), integrated by exponential time differencing of the order 1, 2 or 4.

    Arguments:
        size: points per axis; the axes of a state in order
        length: box length per axis
        dt: internal time step; halve it when a run diverges
        substeps: internal steps per stored interval
        order: of the time step, 1, 2 or 4; its cost is that many evaluations of N
        dealiasing: the kept fraction of wavenumbers, 2/3 for quadratic N, 1/2 for cubic
        dtype: precision of the computation; the answer has that of the state
        device: where the computation runs; the answer is on the device of the state
    """

    size: tuple[int, ...] = (128,)
    length: tuple[float, ...] = (2 * math.pi,)
    dt: float = 0.01
    substeps: int = 1
    order: int = 4
    dealiasing: float = 2 / 3
    dtype: Literal["float32", "float64"] = "float32"
    device: str = "cpu"

    fields: ClassVar[Fields] = Fields(("u",), ("1",))
    time_units: ClassVar[str] = "1"

    def __post_init__(self) -> None:
        require = self._require
        require(len(self.size) == len(self.length), "size", "as many numbers as length")
        require(min(self.size) >= 6, "size", "≥ 6 points on every axis")
        require(all(0 < length < math.inf for length in self.length), "length", "> 0 and finite on every axis")
        require(0 < self.dt < math.inf, "dt", "> 0 and finite")
        require(self.substeps >= 1, "substeps", "≥ 1")
        require(self.order in SCHEMES, "order", "1, 2 or 4")
        require(0 < self.dealiasing <= 1, "dealiasing", "in (0, 1]")
        require(self.dtype in ("float32", "float64"), "dtype", "float32 or float64")
        require(usable(self.device), "device", "one that torch can use here; cpu always works")

    def _require(self, holds: bool, name: str, limit: str) -> None:
        if not holds:
            raise ConfigError(f"{type(self).__name__}: {name} = {getattr(self, name)!r}, must be {limit}")

    def _require_waves(self, amplitude: float, cutoff: int) -> None:
        highest = max(self.size) // 2
        self._require(math.isfinite(amplitude), "amplitude", "finite")
        self._require(1 <= cutoff <= highest, "cutoff", f"within 1..{highest}, the waves on the grid")

    @abstractmethod
    def linear(self, k: tuple[Tensor, ...]) -> Tensor:
        """The Fourier symbol of L at the wavenumbers k (float64, broadcastable, 2π·integer/length)."""

    @abstractmethod
    def nonlinear(self, v: Tensor) -> Tensor:
        """The modes of N(u), given the modes v of u, as `to_modes` makes them, of shape (B, C, *K)."""

    @abstractmethod
    def initial(self, stream: Stream) -> Tensor:
        """Random initial states (B, C, *S), one per row of the stream."""

    def kicks(self, v: Tensor, stream: Stream | None) -> Tensor | None:
        """What random forcing adds to v after each internal step: (substeps, B, C, *K), or nothing."""
        return None

    def step(self, state: Tensor, conditioning: Conditioning = NOTHING, stream: Stream | None = None) -> Tensor:
        """The state (B, C, *S) one stored interval later; row r does not depend on the other rows."""
        starts = range(0, len(state), self.chunk)
        parts = [self._advance(*_rows(state, stream, slice(start, start + self.chunk))) for start in starts]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _advance(self, state: Tensor, stream: Stream | None) -> Tensor:
        modes = self.to_modes(state.to(self.device, self._real))
        v = self._kept * modes
        kicks = self.kicks(v, stream)
        for n in range(self.substeps):
            v = self._scheme(v, self.nonlinear)
            v = v if kicks is None else v + kicks[n]
        return self.to_grid(v + self._beyond * modes).to(state)

    def rollout(self, state: Tensor, conditioning: Conditioning, stream: Stream | None = None) -> Iterator[Tensor]:
        """The states one stored interval after the other, without end."""
        while True:
            state = self.step(state, conditioning, stream)
            yield state

    def parameters(self, rows: Sequence[int]) -> Mapping[str, np.ndarray]:
        """What the physics of a trajectory depend on, one by one: nothing."""
        return {}

    def fault(self, state: Tensor) -> Fault | None:
        """States that are not finite."""
        remedy = f"use dt = {self.dt / 2:g} and substeps = {2 * self.substeps}"
        return not_finite(state, f"with dt = {self.dt:g}", remedy)

    @property
    def interval(self) -> float:
        """Time between stored states."""
        return self.dt * self.substeps

    @property
    def channels(self) -> int:
        return len(self.fields)

    @property
    def chunk(self) -> int:
        """Rows that are stepped together."""
        return max(1, CHUNK_POINTS // (self.channels * math.prod(self.size)))

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes of a state, with the shifts that leave the equation unchanged."""
        names = AXIS_NAMES[: len(self.size)]
        rows = zip(names, self.size, self.length, self.symmetry, strict=True)
        return tuple(Axis.uniform(name, n, length, symmetry) for name, n, length, symmetry in rows)

    @property
    def symmetry(self) -> tuple[int, ...]:
        """Per axis, the cells of the smallest shift that changes nothing: 1 unless forced in place."""
        return (1,) * len(self.size)

    def to_modes(self, u: Tensor) -> Tensor:
        """Fourier coefficients (B, C, *K) of grid values (B, C, *S); the last axis holds n//2 + 1 of them."""
        return torch.fft.rfftn(u, dim=self._dims)

    def to_grid(self, v: Tensor) -> Tensor:
        """Grid values (B, C, *S) of Fourier coefficients (B, C, *K)."""
        return torch.fft.irfftn(v, s=self.size, dim=self._dims)

    def derivative(self, axis: int) -> Tensor:
        """i·k along one axis: multiplies modes."""
        return self.cast(1j * self.wavenumbers[axis])

    def cast(self, table: Tensor) -> Tensor:
        """A table of the computation: complex, in its precision, on its device."""
        return table.to(self.device, torch.complex64 if self.dtype == "float32" else torch.complex128)

    def random_waves(self, stream: Stream, cutoff: int) -> Tensor:
        """Smooth random states (B, C, *S) of the wavenumbers |m| ≤ cutoff, of zero mean and max|u| = 1."""
        white = stream.normal(torch.empty(len(stream), self.channels, *self.size, dtype=torch.float64))
        smooth = self.to_grid(self.to_modes(white) * self._within(cutoff) * (sum(self._squares) > 0))
        largest = smooth.flatten(1).abs().amax(1).view(-1, *(1,) * (white.ndim - 1))
        return (smooth / largest).to(self._real)

    @cached_property
    def wavenumbers(self) -> tuple[Tensor, ...]:
        """k per axis, float64, shaped to broadcast over (*K)."""
        return tuple(2 * math.pi / length * m for m, length in zip(self._integers, self.length, strict=True))

    @cached_property
    def _integers(self) -> tuple[Tensor, ...]:
        *outer, last = self.size
        counts = [torch.fft.fftfreq(n, 1 / n, dtype=torch.float64) for n in outer]
        counts.append(torch.fft.rfftfreq(last, 1 / last, dtype=torch.float64))
        return tuple(m.view(-1, *(1,) * (len(self.size) - 1 - axis)) for axis, m in enumerate(counts))

    @property
    def _squares(self) -> list[Tensor]:
        return [k**2 for k in self.wavenumbers]

    @property
    def _dims(self) -> tuple[int, ...]:
        return tuple(range(-len(self.size), 0))

    @property
    def _real(self) -> torch.dtype:
        return torch.float32 if self.dtype == "float32" else torch.float64

    def _within(self, *cutoffs: float) -> Tensor:
        """1 where |m| ≤ cutoff on every axis, else 0; one cutoff, or one per axis."""
        limits = cutoffs * len(self.size) if len(cutoffs) == 1 else cutoffs
        inside = torch.ones((), dtype=torch.bool)
        for m, limit in zip(self._integers, limits, strict=True):
            inside = inside & (m.abs() <= limit)
        return inside.to(torch.float64)

    @cached_property
    def _mask(self) -> Tensor:
        return self._within(*(self.dealiasing * (n // 2) - 1 for n in self.size))

    @cached_property
    def _symbol(self) -> Tensor:
        return self.linear(self.wavenumbers).to(torch.complex128)

    @cached_property
    def _kept(self) -> Tensor:
        return self.cast(self._mask)

    @cached_property
    def _beyond(self) -> Tensor:
        # Beyond the cut-off N is zero, so a whole interval is one multiplication.
        return self.cast((1 - self._mask) * torch.exp(self._symbol * self.interval))

    @cached_property
    def _scheme(self) -> Scheme:
        # N is only ever used times a gain, so that masking the gains dealiases it at no cost.
        return scheme(self.order, self._symbol * self.dt, self.dt * self._mask, self.cast)


def _rows(state: Tensor, stream: Stream | None, rows: slice) -> tuple[Tensor, Stream | None]:
    return state[rows], None if stream is None else Stream(stream.generators[rows])
