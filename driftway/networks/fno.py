"""A Fourier neural operator on one to three axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from driftway.networks.layers import (
    Embedding,
    FiLM,
    coordinate_channels,
    pad,
    pointwise,
    with_coordinates,
    zero,
)

EXTENSION = 4


class FNO(nn.Module):
    """Layers that multiply the lowest wavenumbers by learned matrices and the points by another.

        h + GELU(FiLM(F⁻¹(R·F h) + W h))

    A shift along a periodic axis shifts the output exactly. Axes with walls or open ends are extended at both
    ends by a quarter of their size with the edge value, and cropped at the end. inputs, outputs: channels;
    boundary: per axis; parameters: physical parameters per state; modes: largest wavenumber kept per axis;
    embedding: width of the label's vector. Good starting values: width 32, depth 4, modes 12 on 64×64 fields.

    Reference: Li et al. 2020 (arXiv 2010.08895), eq. 4.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        boundary: tuple[str, ...],
        *,
        parameters: int = 0,
        width: int = 32,
        depth: int = 4,
        modes: int = 12,
        embedding: int = 128,
    ):
        super().__init__()
        dims = len(boundary)
        self.boundary = tuple(boundary)
        self.embedding = Embedding(parameters, embedding)
        self.lift = pointwise(inputs + coordinate_channels(boundary), width, dims)
        self.layers = nn.ModuleList(FourierLayer(width, modes, dims, embedding) for _ in range(depth))
        self.hidden = pointwise(width, 4 * width, dims)
        self.project = zero(pointwise(4 * width, outputs, dims))

    def forward(self, x: Tensor, time: Tensor | None = None, params: Tensor | None = None) -> Tensor:
        vector = self.embedding(x, time, params)
        ends = [
            0 if kind == "periodic" else math.ceil(n / EXTENSION)
            for n, kind in zip(x.shape[2:], self.boundary, strict=True)
        ]
        h = self.lift(pad(with_coordinates(x, self.boundary), self.boundary, ends))
        for layer in self.layers:
            h = layer(h, vector)
        for axis, (n, end) in enumerate(zip(x.shape[2:], ends, strict=True), start=2):
            h = h.narrow(axis, end, n)
        return self.project(F.gelu(self.hidden(h)))


class FourierLayer(nn.Module):
    """One residual layer of the operator: (B, width, *S) → (B, width, *S)."""

    def __init__(self, width: int, modes: int, dims: int, embedding: int):
        super().__init__()
        self.spectral = SpectralConv(width, modes, dims)
        self.bypass = pointwise(width, width, dims)
        self.film = FiLM(embedding, width)

    def forward(self, h: Tensor, vector: Tensor) -> Tensor:
        return h + F.gelu(self.film(self.spectral(h) + self.bypass(h), vector))


class SpectralConv(nn.Module):
    """Multiply the Fourier coefficients with |k| ≤ modes by one complex matrix each, and drop the others.

    Grids too small for that many wavenumbers use those that they have; the Nyquist wavenumber is never used,
    since a shift does not act on it as a phase.
    """

    def __init__(self, width: int, modes: int, dims: int):
        super().__init__()
        self.modes, self.dims = modes, dims
        kept = [2 * modes + 1] * (dims - 1) + [modes + 1]
        self.weight = nn.Parameter(torch.randn(*kept, width, width, 2) / width)

    def forward(self, h: Tensor) -> Tensor:
        sizes, axes = h.shape[2:], tuple(range(2, h.ndim))
        spectrum = torch.fft.rfftn(h, dim=axes)
        rows, weights = self._kept(sizes, h.device)
        flat = spectrum.flatten(2)
        matrices = torch.view_as_complex(self.weight).flatten(0, -3)[weights]
        kept = flat.index_select(2, rows).permute(2, 0, 1) @ matrices
        filled = torch.zeros_like(flat).index_copy(2, rows, kept.permute(1, 2, 0))
        return torch.fft.irfftn(filled.unflatten(2, spectrum.shape[2:]), s=sizes, dim=axes)

    def _kept(self, sizes: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Flat indices of the kept wavenumbers in the half spectrum, and in the weight."""
        rows, weights = torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long)
        for axis, size in enumerate(sizes):
            last = axis == self.dims - 1
            largest = min(self.modes, (size - 1) // 2)
            k = torch.arange(0 if last else -largest, largest + 1)
            rows = (rows[:, None] * (size // 2 + 1 if last else size) + k % size).flatten()
            count, offset = (self.modes + 1, 0) if last else (2 * self.modes + 1, self.modes)
            weights = (weights[:, None] * count + k + offset).flatten()
        return rows.to(device), weights.to(device)
