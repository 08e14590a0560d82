"""A convolutional network of residual blocks, at one resolution or as a U over several."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from driftway.networks.layers import (
    Conv,
    Embedding,
    ResidualBlock,
    check_sizes,
    coordinate_channels,
    folded,
    norm,
    pointwise,
    shuffle,
    unshuffle,
    with_coordinates,
    zero,
)


class UNet(nn.Module):
    """Residual blocks on each of `len(multipliers)` resolutions, with skips from the way down to the way up.

    One multiplier, the default, is a plain residual network without any coarsening: the right trunk for small
    latent grids. inputs, outputs: channels; boundary: per axis; parameters: physical parameters per state;
    width: channels of the finest level; multipliers: channels of each level in units of `width`; blocks:
    residual blocks per level and direction; embedding: width of the label's vector. Good starting values:
    width 64, blocks 4 on an 8×8 latent grid; multipliers (1, 2, 4), blocks 2 on 64×64 fields.

    Reference: Ronneberger, Fischer & Brox 2015 (arXiv 1505.04597).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        boundary: tuple[str, ...],
        *,
        parameters: int = 0,
        width: int = 64,
        multipliers: tuple[int, ...] = (1,),
        blocks: int = 4,
        embedding: int = 128,
    ):
        super().__init__()
        self.boundary, self.multiple = tuple(boundary), 2 ** (len(multipliers) - 1)
        dims, widths, coarse = len(boundary), [width * m for m in multipliers], folded(boundary, 2)
        corners, steps = 2**dims, list(pairwise(widths))

        def level(depth: int) -> nn.ModuleList:
            ends = coarse if depth else self.boundary
            return nn.ModuleList(ResidualBlock(widths[depth], ends, embedding) for _ in range(blocks))

        self.embedding = Embedding(parameters, embedding)
        self.lift = Conv(inputs + coordinate_channels(boundary), widths[0], self.boundary)
        self.down = nn.ModuleList(level(k) for k in range(len(steps)))
        self.coarsen = nn.ModuleList(pointwise(corners * fine, wide, dims) for fine, wide in steps)
        self.middle = level(len(steps))
        self.refine = nn.ModuleList(pointwise(wide, corners * fine, dims) for fine, wide in steps)
        self.merge = nn.ModuleList(pointwise(2 * w, w, dims) for w in widths[:-1])
        self.up = nn.ModuleList(level(k) for k in range(len(steps)))
        self.norm = norm(widths[0])
        self.project = zero(Conv(widths[0], outputs, self.boundary))

    def forward(self, x: Tensor, time: Tensor | None = None, params: Tensor | None = None) -> Tensor:
        check_sizes(x.shape[2:], self.multiple, "use fewer multipliers")
        vector = self.embedding(x, time, params)
        h = self.lift(with_coordinates(x, self.boundary))
        skips: list[Tensor] = []
        for blocks, coarsen in zip(self.down, self.coarsen, strict=True):
            h = _apply(blocks, h, vector)
            skips.append(h)
            h = coarsen(unshuffle(h, 2))
        h = _apply(self.middle, h, vector)
        for k in reversed(range(len(skips))):
            h = self.merge[k](torch.cat([shuffle(self.refine[k](h), 2), skips[k]], 1))
            h = _apply(self.up[k], h, vector)
        return self.project(F.silu(self.norm(h)))


def _apply(blocks: nn.Module, h: Tensor, vector: Tensor) -> Tensor:
    for block in blocks.children():
        h = block(h, vector)
    return h
