"""Codecs: what stands between physical units and what a stepper sees (normalisation, autoencoder, a chain of them).

An autoencoder (`driftway.networks.autoencoder`) is a codec as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from driftway.errors import DataError


class Codec(Protocol):
    """encode: physical fields (B, C, *S) → what is emulated (B, D, *Z); decode: back."""

    def encode(self, u: Tensor, params: Tensor | None = None) -> Tensor: ...

    def decode(self, v: Tensor, params: Tensor | None = None) -> Tensor: ...


class Identity(nn.Module):
    """Leaves fields as they are, for solvers and baselines in physical units."""

    def encode(self, u: Tensor, params: Tensor | None = None) -> Tensor:
        return u

    def decode(self, v: Tensor, params: Tensor | None = None) -> Tensor:
        return v


class Standardize(nn.Module):
    """(u − mean)/std per channel, with the training split's mean and standard deviation.

    per "all" divides every channel by one number, √⟨std²⟩: right for the latents of an autoencoder that keeps
    distances, whose errors then cost what they cost when decoded.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, per: Literal["channel", "all"] = "channel"):
        super().__init__()
        self.per = per
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def fit(self, mean: Sequence[float], std: Sequence[float]) -> Standardize:
        """Take mean and standard deviation, one per channel."""
        if not len(mean) == len(std) == len(self.mean):
            raise DataError(f"{len(self.mean)} channels need one mean and std each, got {len(mean)} and {len(std)}")
        self.mean, self.std = self.mean.new_tensor(mean), self.std.new_tensor(std)
        if self.per == "all":
            self.std = self.std.square().mean().sqrt().expand_as(self.std).clone()
        return self

    def encode(self, u: Tensor, params: Tensor | None = None) -> Tensor:
        return (u - _channels(self.mean, u)) / _channels(self.std, u)

    def decode(self, v: Tensor, params: Tensor | None = None) -> Tensor:
        return v * _channels(self.std, v) + _channels(self.mean, v)


class Chain(nn.Module):
    """Codecs one after the other: encode from first to last, decode from last to first."""

    def __init__(self, *codecs: nn.Module):
        super().__init__()
        self.codecs = nn.ModuleList(codecs)

    def encode(self, u: Tensor, params: Tensor | None = None) -> Tensor:
        for codec in self.codecs:
            u = codec.encode(u, params)  # type: ignore[operator]
        return u

    def decode(self, v: Tensor, params: Tensor | None = None) -> Tensor:
        for codec in reversed(list(self.codecs)):
            v = codec.decode(v, params)  # type: ignore[operator]
        return v


def same_weights(one: Any, other: Any) -> bool:
    """Whether two codecs have the same weights."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _channels(values: Tensor, u: Tensor) -> Tensor:
    return values.to(u).reshape((1, -1) + (1,) * (u.ndim - 2))
