"""What every network is made of: boundary-aware convolutions, folding of space into channels, and modulation.

A network maps x (B, C, *S), a label `time` (B,) and parameters (B, P) to (B, D, *S). `boundary` names what
happens at the ends of each axis: "periodic" wraps around, "wall" and "open" repeat the value at the edge, and
latitudes go on over the "pole", along the meridian opposite: the axis after them is the longitude. Its length is
the number of axes: one, two or three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from driftway.errors import ConfigError
from driftway.sphere import POLES

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
EPSILON = 1e-5


class _Wrap(torch.autograd.Function):
    """Circular padding whose backward adds the borders in place: a third of the time of `F.pad`."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, amounts: tuple[int, ...]) -> Tensor:  # type: ignore[override]
        ctx.amounts = amounts  # type: ignore[attr-defined]
        sizes = [n + 2 * a for n, a in zip(x.shape[2:], amounts, strict=True)]
        y = x.new_empty(*x.shape[:2], *sizes)
        _inside(y, amounts).copy_(x)
        for axis, a, n in _padded_axes(y, amounts):
            y.narrow(axis, 0, a).copy_(y.narrow(axis, n, a))
            y.narrow(axis, n + a, a).copy_(y.narrow(axis, a, a))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        amounts: tuple[int, ...] = ctx.amounts  # type: ignore[attr-defined]
        g = gradient.clone()
        for axis, a, n in reversed(_padded_axes(g, amounts)):
            g.narrow(axis, n, a).add_(g.narrow(axis, 0, a))
            g.narrow(axis, a, a).add_(g.narrow(axis, n + a, a))
        return _inside(g, amounts).contiguous(), None


def _padded_axes(y: Tensor, amounts: Sequence[int]) -> list[tuple[int, int, int]]:
    """(axis, points per end, size without them) of the axes that are padded."""
    return [(2 + k, a, y.shape[2 + k] - 2 * a) for k, a in enumerate(amounts) if a]


def _inside(y: Tensor, amounts: Sequence[int]) -> Tensor:
    for axis, a, n in _padded_axes(y, amounts):
        y = y.narrow(axis, a, n)
    return y


def pad(x: Tensor, boundary: Sequence[str], amount: int | Sequence[int]) -> Tensor:
    """Append `amount` points at both ends of every axis: wrapped if periodic, over the poles, else the edge value.

    x: (B, C, *S); amount: points per end, at most the axis's size (less one where a row is on a pole), one number or
    one per axis. Raises ConfigError at poles without an even number of longitudes.
    """
    amounts = (amount,) * len(boundary) if isinstance(amount, int) else tuple(amount)
    wrapped = tuple(a if kind == "periodic" else 0 for a, kind in zip(amounts, boundary, strict=True))
    for axis, (a, kind) in enumerate(zip(amounts, boundary, strict=True), start=2):
        if a and kind in POLES:
            x = _over_poles(x, axis, a, boundary)
    edges = [a if kind in ("wall", "open") else 0 for a, kind in zip(amounts, boundary, strict=True)]
    if any(edges):
        x = F.pad(x, [a for a in reversed(edges) for _ in range(2)], mode="replicate")
    return cast(Tensor, _Wrap.apply(x, wrapped)) if any(wrapped) else x


def _over_poles(x: Tensor, axis: int, amount: int, boundary: Sequence[str]) -> Tensor:
    """Rows beyond both ends of the latitudes: those before them in reverse, half a circle further in longitude."""
    check_poles(x.shape[2:], boundary)
    first, last = POLES[boundary[axis - 2]]
    rows, half = x.shape[axis], x.shape[axis + 1] // 2
    before = x.narrow(axis, int(first), amount)
    after = x.narrow(axis, rows - amount - int(last), amount)
    return torch.cat([before.flip(axis).roll(half, axis + 1), x, after.flip(axis).roll(half, axis + 1)], axis)


def check_poles(sizes: Sequence[int], boundary: Sequence[str]) -> None:
    """Raise ConfigError unless latitudes are followed by an even number of periodic longitudes."""
    for axis, kind in enumerate(boundary):
        if kind in POLES:
            follows = tuple(boundary[axis + 1 : axis + 2]) == ("periodic",)
            if not follows or sizes[axis + 1] % 2:
                found = f"{sizes[axis + 1]} {boundary[axis + 1]}" if axis + 1 < len(boundary) else "nothing"
                raise ConfigError(
                    f"over a pole a field goes on along the meridian opposite: latitudes must be followed by an even "
                    f"number of periodic longitudes, not by {found}"
                )


def folded(boundary: Sequence[str], factor: int) -> tuple[str, ...]:
    """The boundary of a grid whose points are blocks of `factor`: such a cell never lies on a pole."""
    return tuple("pole" if kind in POLES and factor > 1 else kind for kind in boundary)


class Conv(nn.Module):
    """A convolution of three taps per axis that pads by the boundary: (B, inputs, *S) → (B, outputs, *S)."""

    def __init__(self, inputs: int, outputs: int, boundary: tuple[str, ...]):
        super().__init__()
        self.boundary = boundary
        self.taps = CONVOLUTIONS[len(boundary)](inputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.taps(pad(x, self.boundary, 1))


def pointwise(inputs: int, outputs: int, dims: int) -> nn.Conv1d | nn.Conv2d | nn.Conv3d:
    """The same linear map of the channels at every point."""
    return CONVOLUTIONS[dims](inputs, outputs, 1)


def zero(module: nn.Module) -> nn.Module:
    """The module with all its parameters set to zero, so that a residual branch starts as nothing."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def norm(width: int) -> nn.GroupNorm:
    """Group normalisation with about 16 channels per group: a sample never sees its batch neighbours."""
    return nn.GroupNorm(math.gcd(width, max(1, width // 16)), width, eps=EPSILON)


def unshuffle(x: Tensor, factor: int) -> Tensor:
    """Fold blocks of `factor` points per axis into channels: (B, C, *S) → (B, C·factorᵈ, *S/factor)."""
    if factor == 1:
        return x
    if x.ndim == 4:
        return F.pixel_unshuffle(x, factor)
    batch, channels, *sizes = x.shape
    dims = len(sizes)
    split = x.reshape(batch, channels, *(n for size in sizes for n in (size // factor, factor)))
    order = (0, 1, *range(3, 3 + 2 * dims, 2), *range(2, 2 + 2 * dims, 2))
    return split.permute(order).reshape(batch, channels * factor**dims, *(size // factor for size in sizes))


def shuffle(x: Tensor, factor: int) -> Tensor:
    """Undo `unshuffle`: (B, C·factorᵈ, *S) → (B, C, *S·factor)."""
    if factor == 1:
        return x
    if x.ndim == 4:
        return F.pixel_shuffle(x, factor)
    batch, folded, *sizes = x.shape
    dims = len(sizes)
    channels = folded // factor**dims
    split = x.reshape(batch, channels, *[factor] * dims, *sizes)
    order = (0, 1, *(axis for k in range(dims) for axis in (2 + dims + k, 2 + k)))
    return split.permute(order).reshape(batch, channels, *(size * factor for size in sizes))


def check_sizes(sizes: Sequence[int], multiple: int, remedy: str) -> None:
    """Raise unless every axis is a multiple of `multiple`; `remedy` says what to change."""
    if any(size % multiple for size in sizes):
        raise ConfigError(f"the network needs axes of multiples of {multiple}, got {tuple(sizes)}: {remedy}")


def with_coordinates(x: Tensor, boundary: Sequence[str]) -> Tensor:
    """Append one channel per axis that is not periodic, from −1 to 1, since position matters there."""
    channels = [x]
    for axis, kind in enumerate(boundary):
        if kind != "periodic":
            shape = [-1 if k == axis else 1 for k in range(len(boundary))]
            line = torch.linspace(-1, 1, x.shape[2 + axis], dtype=x.dtype, device=x.device).reshape(shape)
            channels.append(line.expand(len(x), 1, *x.shape[2:]))
    return torch.cat(channels, 1) if len(channels) > 1 else x


def coordinate_channels(boundary: Sequence[str]) -> int:
    """How many channels `with_coordinates` appends."""
    return sum(kind != "periodic" for kind in boundary)


class Sinusoids(nn.Module):
    """Numbers of order one as waves: slow ones tell distant values apart, fast ones near values.

        (cos ω₁v, ..., cos ω_Kv, sin ω₁v, ..., sin ω_Kv),   ω geometric from slowest to fastest, rad per unit

    forward: (B, P) → (B, P·2K).
    """

    frequencies: Tensor

    def __init__(self, slowest: float, fastest: float, count: int = 32):
        super().__init__()
        exponents = torch.linspace(0, 1, count, dtype=torch.float64)
        self.register_buffer("frequencies", slowest * (fastest / slowest) ** exponents, persistent=False)

    def __len__(self) -> int:
        return len(self.frequencies)

    def forward(self, values: Tensor) -> Tensor:
        angles = values[..., None] * self.frequencies.to(values)
        return torch.cat([angles.cos(), angles.sin()], -1).flatten(1)


class Scaling(nn.Module):
    """Parameters in physical units as numbers of order one: (p − mean)/std, of some of them (ln p − mean)/std.

    forward: (B, P) → (B, P). Until `fit` it leaves them as they are.
    """

    logarithmic: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, parameters: int):
        super().__init__()
        self.register_buffer("logarithmic", torch.zeros(parameters, dtype=torch.bool))
        self.register_buffer("mean", torch.zeros(parameters))
        self.register_buffer("std", torch.ones(parameters))

    def fit(self, logarithmic: Sequence[bool], mean: Sequence[float], std: Sequence[float]) -> None:
        """Take, of each parameter, whether its logarithm enters, and the mean and standard deviation of what enters."""
        self.logarithmic = torch.tensor(logarithmic, device=self.mean.device)
        self.mean, self.std = self.mean.new_tensor(mean), self.std.new_tensor(std)

    def forward(self, params: Tensor) -> Tensor:
        values = torch.where(self.logarithmic, params.log(), params)
        return (values - self.mean.to(params)) / self.std.to(params)


class Embedding(nn.Module):
    """One vector (B, width) of the label and the parameters, for `FiLM` and AdaLN.

    forward: like (B, ...) gives batch size, type and device; time (B,) of order one, or None for a network
    without label; params (B, parameters), which `scaling` makes numbers of order one. Without `timed` there never is
    a label.
    """

    def __init__(self, parameters: int, width: int, timed: bool = True):
        super().__init__()
        self.count, self.width = parameters, width
        self.waves = Sinusoids(1.0, 200.0)
        # at most 2 rad per standard deviation: faster waves tell trained values apart and are noise between them
        self.swells = Sinusoids(0.25, 2.0)
        self.time = nn.Linear(2 * len(self.waves), width) if timed else None
        self.scaling = Scaling(parameters) if parameters else None
        self.params = nn.Linear(2 * len(self.swells) * parameters, width) if parameters else None
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, like: Tensor, time: Tensor | None, params: Tensor | None) -> Tensor:
        vector = like.new_zeros(len(like), self.width)
        if self.time is not None and time is not None:
            vector = vector + self.time(self.waves(time[:, None].to(like)))
        if self.params is not None and self.scaling is not None:
            scaled = self.scaling(checked(params, self.count).to(like))
            vector = vector + self.params(self.swells(scaled))
        return self.mix(vector)


def checked(params: Tensor | None, count: int) -> Tensor:
    """The parameters, if they are as many as the network was built for."""
    if params is None or params.shape[-1] != count:
        got = "none" if params is None else str(params.shape[-1])
        raise ConfigError(f"this network was built for {count} parameters per state and got {got}")
    return params


class FiLM(nn.Module):
    """Scale and shift each channel by a function of an embedding, the identity at the start.

        h·(1 + a(e)) + b(e)

    Reference: Perez et al. 2018 (arXiv 1709.07871).
    """

    def __init__(self, embedding: int, width: int):
        super().__init__()
        self.linear = zero(nn.Linear(embedding, 2 * width))

    def forward(self, h: Tensor, vector: Tensor) -> Tensor:
        scale, shift = self.linear(vector).reshape(len(h), 2, -1, *[1] * (h.ndim - 2)).unbind(1)
        return torch.addcmul(shift, h, 1 + scale)


class ResidualBlock(nn.Module):
    """Two convolutions around a modulation, added to what comes in; the identity at the start.

        h + gain·Conv SiLU FiLM Conv SiLU Norm h

    embedding: width of the vector that modulates it, 0 for none; gain: small where the identity is good
    already, so that the first optimiser steps do not spoil it.
    """

    def __init__(self, width: int, boundary: tuple[str, ...], embedding: int = 0, gain: float = 1.0):
        super().__init__()
        self.gain = gain
        self.norm = norm(width)
        self.first = Conv(width, width, boundary)
        self.film = FiLM(embedding, width) if embedding else None
        self.second = zero(Conv(width, width, boundary))

    def forward(self, h: Tensor, vector: Tensor | None = None) -> Tensor:
        branch = self.first(F.silu(self.norm(h)))
        if self.film is not None and vector is not None:
            branch = self.film(branch, vector)
        return torch.add(h, self.second(F.silu(branch)), alpha=self.gain)
