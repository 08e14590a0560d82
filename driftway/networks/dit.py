"""A transformer over patches, modulated by the label: DiT with rotary positions on any grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from driftway.errors import ConfigError
from driftway.networks.layers import (
    EPSILON,
    Embedding,
    check_sizes,
    coordinate_channels,
    pointwise,
    shuffle,
    unshuffle,
    with_coordinates,
    zero,
)


class DiT(nn.Module):
    """Patches of `patch` points per axis attend to each other; the label scales, shifts and gates branches.

    A shift of a periodic axis by a patch shifts the output. inputs, outputs: channels; boundary: per axis;
    parameters: physical parameters per state; width: numbers per token, a multiple of `heads`; ratio: hidden
    over outer width of the perceptron; embedding: width of the label's vector. Good starting values: width
    128, depth 4, at most a few hundred tokens on a CPU.

    References: Peebles & Xie 2022 (arXiv 2212.09748), AdaLN-zero; Su et al. 2021 (arXiv 2104.09864), rotary.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        boundary: tuple[str, ...],
        *,
        parameters: int = 0,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        patch: int = 1,
        ratio: float = 4.0,
        embedding: int = 128,
    ):
        super().__init__()
        dims = len(boundary)
        if width % heads or (width // heads) % 2 or width // heads < 2 * dims:
            need = f"an even number of channels per head, at least {2 * dims}"
            raise ConfigError(f"DiT needs {need}, got width {width} over {heads} heads: change either")
        self.boundary, self.patch, self.heads, self.width = tuple(boundary), patch, heads, width
        self.embedding = Embedding(parameters, embedding)
        self.lift = pointwise((inputs + coordinate_channels(boundary)) * patch**dims, width, dims)
        self.blocks = nn.ModuleList(Block(width, heads, ratio, embedding) for _ in range(depth))
        self.modulation = zero(nn.Linear(embedding, 2 * width))
        self.project = zero(pointwise(width, outputs * patch**dims, dims))

    def forward(self, x: Tensor, time: Tensor | None = None, params: Tensor | None = None) -> Tensor:
        check_sizes(x.shape[2:], self.patch, "use a smaller patch")
        vector = self.embedding(x, time, params)
        h = self.lift(unshuffle(with_coordinates(x, self.boundary), self.patch))
        sizes = h.shape[2:]
        rotation = rotations(sizes, self.boundary, self.width // self.heads).to(h)
        tokens = h.flatten(2).mT
        for block in self.blocks:
            tokens = block(tokens, vector, rotation)
        shift, scale = self.modulation(vector)[:, None].chunk(2, -1)
        tokens = normed(tokens, shift, scale)
        return shuffle(self.project(tokens.mT.unflatten(2, sizes)), self.patch)


class Block(nn.Module):
    """Attention and a perceptron, each behind a modulated norm and a gate that starts closed."""

    def __init__(self, width: int, heads: int, ratio: float, embedding: int):
        super().__init__()
        self.heads = heads
        self.modulation = zero(nn.Linear(embedding, 6 * width))
        self.queries = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        hidden = int(ratio * width)
        self.perceptron = nn.Sequential(nn.Linear(width, hidden), nn.GELU("tanh"), nn.Linear(hidden, width))

    def forward(self, h: Tensor, vector: Tensor, rotation: Tensor | None = None) -> Tensor:
        shift, scale, gate, shift2, scale2, gate2 = self.modulation(vector)[:, None].chunk(6, -1)
        h = h + gate * self.attention(normed(h, shift, scale), rotation)
        return h + gate2 * self.perceptron(normed(h, shift2, scale2))

    def attention(self, h: Tensor, rotation: Tensor | None) -> Tensor:
        """Softmax attention over all tokens, queries and keys rotated by their positions if given: (B, N, width)."""
        q, k, v = self.queries(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.mix(mixed.transpose(1, 2).flatten(2))


def normed(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer normalisation, then h·(1 + scale) + shift."""
    return torch.addcmul(shift, F.layer_norm(h, h.shape[-1:], eps=EPSILON), 1 + scale)


def rotations(sizes: Sequence[int], boundary: Sequence[str], width: int) -> Tensor:
    """Cosine and sine of the angle by which each token turns each pair of numbers of a head: (2, N, width/2).

        θ = 2πk·i/L,   k whole numbers from 1 to L/2, shared out among the axes

    L is the axis's size if it is periodic, so that a shift turns all tokens alike, and twice the size if not,
    so that no two distances look the same. Pairs that are left over do not turn.
    """
    pairs = width // 2 // len(sizes)
    angles = []
    for axis, (size, kind) in enumerate(zip(sizes, boundary, strict=True)):
        period = size if kind == "periodic" else 2 * size
        exponents = torch.linspace(0, 1, pairs, dtype=torch.float64)
        wavenumbers = (max(period / 2, 1.0) ** exponents).round()
        line = 2 * math.pi / period * torch.arange(size, dtype=torch.float64)[:, None] * wavenumbers
        shape = [size if k == axis else 1 for k in range(len(sizes))]
        angles.append(line.reshape(*shape, pairs).expand(*sizes, pairs))
    angles.append(torch.zeros(*sizes, width // 2 - pairs * len(sizes), dtype=torch.float64))
    turned = torch.cat(angles, -1).flatten(0, -2)
    return torch.stack([turned.cos(), turned.sin()])


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn the pairs (x_j, x_{j+width/2}) of each head by their angles: x (B, heads, N, width)."""
    cos, sin = rotation
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
