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

RATE = 0.01  # of a running mean, that of about the last hundred steps
FAINTEST = 1e-3  # of a channel's root mean square: the least noise of a mode, so that C can be inverted


class White(nn.Module):
    """White noise, z = s·ε with ε ~ N(0, I) and one standard deviation s per channel.

    `follows` says whether the law is told, at each step of a training, what the network leaves of the target.
    """

    scale: Tensor
    follows = False

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

    def observe(self, residual: Tensor) -> None:
        """Take in what a network in training leaves of targets (B, C, *S), where the law follows it."""

    def _broadcast(self, x: Tensor) -> Tensor:
        return self.scale.to(x).reshape((1, -1) + (1,) * (x.ndim - 2))


class Fitted(White):
    """White noise whose standard deviation is that of target − source, or of what the network leaves of it.

    With s equal to the conditional spread of the next state one Euler–Maruyama step is already calibrated:
    x0 + b(x0, 0) + s·ε = E[x1 | x0] + s·ε. Of the "increment", s is fitted once, before training: an upper bound of
    that spread. Of the "residual", s² then follows the mean square of x1 − E[x1 | x0], as the network knows it, while
    it trains: a running mean over about the last hundred steps. `factor` multiplies s; per "all" takes one s for all
    channels.
    """

    def __init__(self, channels: int, factor: float = 1.0, per: str = "channel", of: str = "increment"):
        super().__init__(channels)
        if per not in ("channel", "all"):
            raise ValueError(f"per must be 'channel' or 'all', got {per!r}")
        self.factor, self.per, self.follows = _checked(factor), per, _follows(of)

    def fit(self, residuals: Iterable[Tensor]) -> None:
        """Take the standard deviation of residuals (B, C, *S), in one pass."""
        count, first, second = 0, torch.zeros(()), torch.zeros(())
        for residual in residuals:
            rows = residual.double().movedim(1, -1).flatten(0, -2)
            count, first, second = count + len(rows), first + rows.sum(0), second + (rows**2).sum(0)
        variance = (second / count - (first / count) ** 2).clamp_min(0)
        _check_varying(variance)
        self._take(variance)

    def observe(self, residual: Tensor) -> None:
        """Move s² towards the mean square of residuals (B, C, *S) by a hundredth of the way."""
        power = residual.square().transpose(0, 1).flatten(1).mean(1)
        self._take(torch.lerp((self.scale / self.factor) ** 2, power, RATE))

    def _take(self, variance: Tensor) -> None:
        std = (variance if self.per == "channel" else variance.mean().expand_as(variance)).sqrt()
        self.scale = (self.factor * std).to(self.scale)


class Coloured(White, OnGrid):
    """Noise with the spectrum of target − source, or of what the network leaves of it: z = F⁻¹(s·F ε), ε ~ N(0, I).

    F goes to waves along periodic axes and to cosines between walls (`driftway.modes`), so that noise is stationary
    where the axis is periodic; there is one s per channel and mode. A residual without such modes gets noise of a
    thousandth of its root mean square there. `boundary` names what is at the ends of each axis; `factor` and `of` are
    as in `Fitted`. `scale` is the root mean square of s over modes: the standard deviation at a point, averaged over
    space.
    """

    spectrum: Tensor

    def __init__(self, channels: int, boundary: Sequence[str], factor: float = 1.0, of: str = "increment"):
        super().__init__(channels)
        self.boundary, self.factor, self.follows = tuple(boundary), _checked(factor), _follows(of)
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
        _check_varying(variance.flatten(1).sum(1))
        self._take(variance, size)

    def observe(self, residual: Tensor) -> None:
        """Move the square of every s towards the mean over residuals (B, C, *S) by a hundredth of the way."""
        power = to_modes(residual, self.boundary).abs().square().mean(0)
        self._take(torch.lerp((self.spectrum / self.factor) ** 2, power, RATE), residual.shape[2:])

    def _take(self, variance: Tensor, size: Sequence[int]) -> None:
        rms = mean_over_modes(variance[None], self.boundary, size)[0].sqrt()
        least = FAINTEST * rms.reshape(-1, *(1 for _ in size))
        self.spectrum = (self.factor * variance.sqrt().maximum(least)).to(self.spectrum)
        self.scale = (self.factor * rms).to(self.scale)

    def _through(self, x: Tensor, factors: Tensor) -> Tensor:
        return from_modes(to_modes(x, self.boundary) * factors.to(x), self.boundary, x.shape[2:])


def _checked(factor: float) -> float:
    if not factor > 0:
        raise ValueError(f"factor must be positive, got {factor}")
    return factor


def _follows(of: str) -> bool:
    if of not in ("increment", "residual"):
        raise ValueError(f"of must be 'increment' or 'residual', got {of!r}")
    return of == "residual"


def _check_varying(power: Tensor) -> None:
    if not bool((power > 0).all()):
        raise DataError(f"the noise cannot be fitted: target − source is constant in channel {int(power.argmin())}")


NOISES: dict[str, type[White]] = {"white": White, "fitted": Fitted, "coloured": Coloured}
