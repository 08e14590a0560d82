"""Modes: the orthonormal basis in which stationary statistics are diagonal, waves or, between walls, cosines.

Along periodic axes a state is a sum of waves, along others of cosines whose slope is zero at the ends. White noise has
white modes; `Coloured` noise and the linear model act on each of them alone.

Cosines count points, not distances: on points that are not uniform, the shortest cosine still changes sign from each
point to the next, wherever they lie. White noise per point is therefore white in them on any grid, and the sum of
squares that they keep is that over points, without quadrature weights. On the roots of Chebyshev's polynomials,
yⱼ = −cos(π(j + ½)/n), they are those polynomials.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn


class OnGrid(nn.Module):
    """A module whose buffers take the grid of the states that it is fitted to: those of any grid can be loaded."""

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        for name, own in self.named_buffers(recurse=False):
            found = state_dict.get(prefix + name)
            if found is not None and found.ndim == own.ndim and found.shape[0] == own.shape[0]:
                setattr(self, name, own.new_empty(found.shape))
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def to_modes(x: Tensor, boundary: Sequence[str]) -> Tensor:
    """Amplitudes (B, C, *K) of fields (B, C, *S); K is S, but for half the waves of the last periodic axis.

        x̂_k = Πᵢ Nᵢ^(−½) Σ_j x_j exp(−2πi k·j/N)    along periodic axes,
        x̂_k = √((2 − δ_k0)/N) Σ_j x_j cos(πk(j + ½)/N)    along others

    boundary: 'periodic' or another name for each axis of S. Complex where any axis is periodic. Orthonormal: the
    squares of all amplitudes, those of the waves that are left out being the conjugates of others, add up to Σ x².
    """
    waves, cosines = _split(boundary)
    for axis in cosines:
        x = _along(x, axis, _cosines(x.shape[axis]))
    return torch.fft.rfftn(x, dim=waves, norm="ortho") if waves else x


def from_modes(modes: Tensor, boundary: Sequence[str], size: Sequence[int]) -> Tensor:
    """Fields (B, C, *S) of S = `size` from their amplitudes (B, C, *K); undoes `to_modes`."""
    waves, cosines = _split(boundary)
    x = torch.fft.irfftn(modes, s=[size[axis - 2] for axis in waves], dim=waves, norm="ortho") if waves else modes
    for axis in cosines:
        x = _along(x, axis, _cosines(x.shape[axis]).T)
    return x


def mean_over_modes(power: Tensor, boundary: Sequence[str], size: Sequence[int]) -> Tensor:
    """Mean (B, C) over all modes of a real quantity (B, C, *K) that is the same for conjugate waves."""
    waves, _ = _split(boundary)
    if not waves:
        return power.flatten(2).mean(-1)
    count = torch.full((power.shape[waves[-1]],), 2.0, dtype=power.dtype)
    count[0] = 1
    if size[waves[-1] - 2] % 2 == 0:
        count[-1] = 1  # the shortest wave of an even number of points is its own conjugate
    return (power.movedim(waves[-1], -1) * count).flatten(2).sum(-1) / math.prod(size)


def _split(boundary: Sequence[str]) -> tuple[list[int], list[int]]:
    """Dimensions of (B, C, *S) along which there are waves, and cosines."""
    waves = [axis for axis, name in enumerate(boundary, 2) if name == "periodic"]
    return waves, [axis for axis in range(2, 2 + len(boundary)) if axis not in waves]


def _along(x: Tensor, axis: int, matrix: Tensor) -> Tensor:
    return (x.movedim(axis, -1) @ matrix.T.to(x)).movedim(-1, axis)


@lru_cache
def _cosines(size: int) -> Tensor:
    """The orthogonal matrix of the cosine transform (DCT-II): a row for each wavenumber."""
    points = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    rows = torch.cos(math.pi * torch.arange(size, dtype=torch.float64)[:, None] * points) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows
