"""The linear model of each mode: on periodic axes the best forecast that is linear in the anomaly and knows no place.

Fitted in closed form, it costs no training: a first guess, and a measure of how predictable a system is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from driftway.data.trajectories import Conditioning, Transition
from driftway.errors import DataError
from driftway.modes import OnGrid, from_modes, to_modes
from driftway.randomness import Stream
from driftway.steppers import NOTHING, LearnedStepper


class Linear(LearnedStepper, OnGrid):
    """Least squares for the channels of each mode, waves along periodic axes and cosines along others.

        û_k(t+Δt) = m'_k + A_k (û_k(t) − m_k) ,    A_k = Σ_x'x (Σ_xx + εI)⁻¹

    m and m' are the means of source and target over the training split, Σ their covariances in mode k, (C, C), and ε is
    `ridge` times the mean of Σ_xx's diagonal. It knows neither fields nor parameters. `prepare` fits all of it, and
    nothing is left to train. Raises DataError for transitions that are not more than channels + 1 or not finite.
    """

    trained = False
    before: Tensor
    after: Tensor
    matrix: Tensor

    def __init__(self, channels: int, boundary: Sequence[str], ridge: float = 1e-4):
        super().__init__()
        if not ridge >= 0:
            raise ValueError(f"ridge must not be negative, got {ridge}")
        self.channels, self.boundary, self.ridge = channels, tuple(boundary), ridge
        kind = torch.complex64 if "periodic" in self.boundary else torch.float32
        one = [1 for _ in self.boundary]
        self.register_buffer("before", torch.zeros(channels, *one, dtype=kind))
        self.register_buffer("after", torch.zeros(channels, *one, dtype=kind))
        self.register_buffer("matrix", torch.eye(channels, dtype=kind).reshape(channels, channels, *one))

    @torch.no_grad()
    def prepare(self, transitions: Callable[[], Iterable[Transition]]) -> None:
        """Fit means and matrices, in one pass over batches of training transitions."""
        sums, shape = _Sums(), torch.Size()
        for batch in transitions():
            x, y = (to_modes(state.double(), self.boundary) for state in (batch.source, batch.target))
            shape = x.shape[2:]
            sums.add(x.flatten(2), y.flatten(2))
        if sums.count <= self.channels + 1:
            raise DataError(
                f"{sums.count} transitions for a linear model of {self.channels} channels, which has "
                f"{self.channels + 1} numbers to fit for each mode and channel: give it more states"
            )
        matrix = sums.regression(self.ridge)
        if not bool(torch.isfinite(matrix).all()):
            raise DataError("the linear model cannot be fitted: states hold NaN or infinity")
        self.before, self.after = ((m / sums.count).reshape(-1, *shape).to(self.before) for m in (sums.x, sums.y))
        self.matrix = matrix.movedim(0, -1).reshape(self.channels, self.channels, *shape).to(self.matrix)

    def loss(self, batch: Transition, stream: Stream) -> Tensor:
        """Mean squared error."""
        return (self.step(batch.source) - batch.target).square().mean()

    def step(self, state: Tensor, conditioning: Conditioning = NOTHING, stream: Stream | None = None) -> Tensor:
        x = to_modes(state, self.boundary) - self.before
        y = torch.einsum("dc...,bc...->bd...", self.matrix, x) + self.after
        return from_modes(y, self.boundary, state.shape[2:])


class _Sums:
    """Σx, Σy, Σxxᴴ and Σyxᴴ of amplitudes (B, C, K), and their number."""

    def __init__(self) -> None:
        self.count, self.x, self.y, self.xx, self.yx = 0, torch.zeros(()), *(torch.zeros(()) for _ in range(3))

    def add(self, x: Tensor, y: Tensor) -> None:
        self.count += len(x)
        self.x, self.y = self.x + x.sum(0), self.y + y.sum(0)
        self.xx = self.xx + torch.einsum("bck,bdk->kcd", x, x.conj())
        self.yx = self.yx + torch.einsum("bck,bdk->kcd", y, x.conj())

    def regression(self, ridge: float) -> Tensor:
        """A (K, C, C)."""
        x, y = self.x.T, self.y.T
        xx = self.xx - torch.einsum("kc,kd->kcd", x, x.conj()) / self.count
        yx = self.yx - torch.einsum("kc,kd->kcd", y, x.conj()) / self.count
        power = xx.diagonal(dim1=1, dim2=2).real.mean(-1)
        kind = torch.finfo(power.dtype)
        least = kind.eps * power.max() + kind.tiny  # a mode without power has no matrix
        lift = (ridge * power + least)[:, None, None] * torch.eye(x.shape[1], dtype=xx.dtype)
        return torch.linalg.solve(xx + lift, yx, left=False)
