"""The noise law: z ~ N(0, C). Training and every sampler draw from the same one.

All formulas of `interpolants` hold for any covariance C; the score alone needs C⁻¹.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from driftway.errors import DataError
from driftway.modes import OnGrid, from_modes, mean_over_modes, to_modes
from driftway.randomness import Stream

FAINTEST = 1e-3  # of a channel's root mean square: the least noise of a mode, so that C can be inverted


class White(nn.Module):
    """White noise, z = s·ε with ε ~ N(0, I) and one standard deviation s per channel."""

    scale: Tensor

    def __init__(self, channels: int, scale: float = 1.0):
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}")
        self.register_buffer("scale", torch.full((channels,), float(scale)))

    def draw(self, like: Tensor, stream: Stream) -> Tensor:
        """z of the shape (B, C, *S) of `like`."""
        return stream.normal(like).mul_(self._broadcast(like))

    def precision(self, x: Tensor) -> Tensor:
        """C⁻¹x of (B, C, *S)."""
        return x / self._broadcast(x) ** 2

    def fit(self, residuals: Iterable[Tensor]) -> None:
        """A law of given scale has nothing to learn."""

    def _broadcast(self, x: Tensor) -> Tensor:
        return self.scale.to(x).reshape((1, -1) + (1,) * (x.ndim - 2))


class Fitted(White):
    """White noise whose standard deviation is that of target − source: the spread that one step must cover.

    With s equal to the conditional spread of the next state one Euler–Maruyama step is already calibrated:
    x0 + b(x0, 0) + s·ε = E[x1 | x0] + s·ε. `factor` multiplies the fitted value; per "all" takes one s for all
    channels.
    """

    def __init__(self, channels: int, factor: float = 1.0, per: str = "channel"):
        super().__init__(channels)
        if per not in ("channel", "all"):
            raise ValueError(f"per must be 'channel' or 'all', got {per!r}")
        if not factor > 0:
            raise ValueError(f"factor must be positive, got {factor}")
        self.factor, self.per = factor, per

    def fit(self, residuals: Iterable[Tensor]) -> None:
        """Take the standard deviation of residuals (B, C, *S), in one pass."""
        count, first, second = 0, torch.zeros(()), torch.zeros(())
        for residual in residuals:
            rows = residual.double().movedim(1, -1).flatten(0, -2)
            count, first, second = count + len(rows), first + rows.sum(0), second + (rows**2).sum(0)
        variance = second / count - (first / count) ** 2
        std = (variance if self.per == "channel" else variance.mean().expand_as(variance)).clamp_min(0).sqrt()
        if not bool((std > 0).all()):
            raise DataError(
                f"the noise scale cannot be fitted: target − source is constant in channel {int(std.argmin())}"
            )
        self.scale = (self.factor * std).to(self.scale)


class Coloured(White, OnGrid):
    """Noise with the spectrum of target − source: z = F⁻¹(s·F ε), ε ~ N(0, I), one s per channel and mode.

    F goes to waves along periodic axes and to cosines between walls (`driftway.modes`), so that noise is stationary
    where the axis is periodic. A residual without such modes gets noise of a thousandth of its root mean square there.
    `boundary` names what is at the ends of each axis, `factor` multiplies the fitted values. `scale` is the root mean
    square of s over modes: the standard deviation at a point, averaged over space.
    """

    spectrum: Tensor

    def __init__(self, channels: int, boundary: Sequence[str], factor: float = 1.0):
        super().__init__(channels)
        if not factor > 0:
            raise ValueError(f"factor must be positive, got {factor}")
        self.boundary, self.factor = tuple(boundary), factor
        self.register_buffer("spectrum", torch.ones(channels, *(1 for _ in self.boundary)))

    def draw(self, like: Tensor, stream: Stream) -> Tensor:
        """z of the shape (B, C, *S) of `like`."""
        return self._through(stream.normal(like), self.spectrum)

    def precision(self, x: Tensor) -> Tensor:
        """C⁻¹x of (B, C, *S)."""
        return self._through(x, self.spectrum**-2)

    def fit(self, residuals: Iterable[Tensor]) -> None:
        """Take the standard deviation of every mode of residuals (B, C, *S), in one pass."""
        count, first, second, size = 0, torch.zeros(()), torch.zeros(()), torch.Size()
        for residual in residuals:
            modes, size = to_modes(residual.double(), self.boundary), residual.shape[2:]
            count, first, second = count + len(modes), first + modes.sum(0), second + modes.abs().square().sum(0)
        variance = (second / count - (first / count).abs().square()).clamp_min(0)
        rms = mean_over_modes(variance[None], self.boundary, size)[0].sqrt()
        if not bool((rms > 0).all()):
            raise DataError(f"the noise cannot be fitted: target − source is constant in channel {int(rms.argmin())}")
        least = FAINTEST * rms.reshape(-1, *(1 for _ in size))
        self.spectrum = (self.factor * variance.sqrt().maximum(least)).to(self.spectrum)
        self.scale = (self.factor * rms).to(self.scale)

    def _through(self, x: Tensor, factors: Tensor) -> Tensor:
        return from_modes(to_modes(x, self.boundary) * factors.to(x), self.boundary, x.shape[2:])


NOISES: dict[str, type[White]] = {"white": White, "fitted": Fitted, "coloured": Coloured}
