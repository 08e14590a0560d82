"""A transformer on the sphere: tokens of the state attend to each other and to tokens of fields that are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from driftway.data.axes import Axis, is_sphere
from driftway.errors import ConfigError
from driftway.networks.dit import Block, normed
from driftway.networks.layers import EPSILON, Embedding, check_sizes, pad, pointwise, shuffle, unshuffle, zero
from driftway.sphere import spherical_harmonics


class ClimateDiT(nn.Module):
    """A DiT on latitude and longitude whose first half of blocks also attends to known fields at their own resolution.

        h ← Block(h, e) ,   then, in the first half,   h ← h + Attention(h, tokens of the fields) ,   h ← h + MLP(h)

    e embeds label and parameters. Both kinds of tokens carry a learned function of the spherical harmonics at their
    places. inputs, outputs: channels on the grid of `axes`, (latitude, longitude) in degrees; fields: known fields, on
    the grid of `known_axes`; patch, stride: points per axis of one token of the state and of the fields, whose last
    cells are filled up across pole and date line; degree: of the harmonics. Good starting values: at most some hundred
    tokens of the state, `stride` such that there are about as many of the fields.

    Raises ConfigError for axes that are not those of a sphere.

    References: Zhou et al. 2025 (arXiv 2509.26282), its climate network; Peebles & Xie 2022 (arXiv 2212.09748), the
    block; Rußwurm et al. 2024 (arXiv 2310.06743), positions by spherical harmonics.
    """

    fields_apart = True

    def __init__(
        self,
        inputs: int,
        outputs: int,
        boundary: tuple[str, ...],
        *,
        parameters: int = 0,
        fields: int = 0,
        axes: tuple[Axis, ...] | None = None,
        known_axes: tuple[Axis, ...] | None = None,
        width: int = 256,
        depth: int = 6,
        heads: int = 8,
        patch: int = 1,
        stride: int = 4,
        ratio: float = 4.0,
        embedding: int = 256,
        degree: int = 20,
    ):
        super().__init__()
        if width % heads:
            raise ConfigError(
                f"climate_dit needs a width that its heads divide, got {width} over {heads}: change either"
            )
        axes = checked_sphere(axes, boundary)
        self.sizes, self.patch = tuple(len(axis) for axis in axes), patch
        check_sizes(self.sizes, patch, "use a smaller patch")
        self.embedding = Embedding(parameters, embedding)
        self.lift = pointwise(inputs * patch**2, width, 2)
        self.place = Places(axes, patch, degree, width)
        self.blocks = nn.ModuleList(Block(width, heads, ratio, embedding) for _ in range(depth))
        self.fields = FieldTokens(fields, boundary, known_axes or axes, stride, degree, width) if fields else None
        crossed = (depth + 1) // 2 if fields else 0
        self.crossings = nn.ModuleList(CrossBlock(width, heads, ratio) for _ in range(crossed))
        self.modulation = zero(nn.Linear(embedding, 2 * width))
        self.project = zero(pointwise(width, outputs * patch**2, 2))

    def forward(
        self, x: Tensor, time: Tensor | None = None, params: Tensor | None = None, fields: Tensor | None = None
    ) -> Tensor:
        if tuple(x.shape[2:]) != self.sizes:
            raise ConfigError(f"this network was built for a grid of {self.sizes} and got {tuple(x.shape[2:])}")
        vector = self.embedding(x, time, params)
        h = self.lift(unshuffle(x, self.patch))
        sizes = h.shape[2:]
        tokens = h.flatten(2).mT + self.place(x)
        known = None if self.fields is None else self.fields(fields)
        for k, block in enumerate(self.blocks):
            tokens = block(tokens, vector)
            if k < len(self.crossings):
                tokens = self.crossings[k](tokens, known)
        shift, scale = self.modulation(vector)[:, None].chunk(2, -1)
        tokens = normed(tokens, shift, scale)
        return shuffle(self.project(tokens.mT.unflatten(2, sizes)), self.patch)


class FieldTokens(nn.Module):
    """Known fields (B, F, *S) as tokens (B, N, width), one for each cell of `stride` points per axis.

    Conv₁ SiLU Conv f + place,   Conv over whole cells, Conv₁ pointwise and zero at the start
    """

    def __init__(
        self, fields: int, boundary: tuple[str, ...], axes: tuple[Axis, ...], stride: int, degree: int, width: int
    ):
        super().__init__()
        self.boundary, self.stride = tuple(boundary), stride
        self.shape = (fields, *(len(axis) for axis in axes))
        self.cells = nn.Conv2d(fields, width, stride, stride)
        self.mix = zero(pointwise(width, width, 2))
        self.place = Places(axes, stride, degree, width)

    def forward(self, fields: Tensor | None) -> Tensor:
        if fields is None or tuple(fields.shape[1:]) != self.shape:
            got = "none" if fields is None else str(tuple(fields.shape[1:]))
            raise ConfigError(f"this network was built for known fields {self.shape} per state and got {got}")
        h = filled_up(fields, self.boundary, self.stride)
        return self.mix(F.silu(self.cells(h))).flatten(2).mT + self.place(fields)


class Places(nn.Module):
    """A learned function of the spherical harmonics at the centres of cells: (N, width), latitude by latitude."""

    harmonics: Tensor

    def __init__(self, axes: tuple[Axis, ...], size: int, degree: int, width: int):
        super().__init__()
        lat, lon = (centres(axis, size) for axis in axes)
        with torch.device("cpu"):  # also where weights are made elsewhere, or not at all
            table = spherical_harmonics(lat.tolist(), lon.tolist(), degree).flatten(1).mT
        self.register_buffer("harmonics", table.float().contiguous(), persistent=False)
        self.learned = nn.Sequential(
            nn.Linear(table.shape[1], width, bias=False),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, width),
        )

    def forward(self, like: Tensor) -> Tensor:
        return self.learned(self.harmonics.to(like))


class CrossBlock(nn.Module):
    """Attention of tokens h (B, N, width) to others (B, M, width), and a perceptron, each behind a norm."""

    def __init__(self, width: int, heads: int, ratio: float):
        super().__init__()
        self.heads, hidden = heads, int(ratio * width)
        self.norm, self.norm_known, self.norm_hidden = (nn.LayerNorm(width, eps=EPSILON) for _ in range(3))
        self.queries, self.keys = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.mix = nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, hidden), nn.GELU("tanh"), nn.Linear(hidden, width))

    def forward(self, h: Tensor, known: Tensor) -> Tensor:
        q = self.queries(self.norm(h)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.keys(self.norm_known(known)).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        h = h + self.mix(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return h + self.perceptron(self.norm_hidden(h))


def checked_sphere(axes: tuple[Axis, ...] | None, boundary: Sequence[str]) -> tuple[Axis, ...]:
    """The axes, if they are latitude and longitude in degrees, from pole to pole and all around."""
    if axes is None or not is_sphere(axes):
        names = ["unknown"] * len(boundary) if axes is None else [f"{a.name} of length {a.length:g}" for a in axes]
        found = ", ".join(f"{name} with boundary '{kind}'" for name, kind in zip(names, boundary, strict=True))
        raise ConfigError(
            "climate_dit needs the axes of a sphere, latitude with boundary 'pole' and then longitude with boundary "
            f"'periodic' and length 360 (degrees), got {found}: correct the data's axes, or use dit"
        )
    return axes


def centres(axis: Axis, size: int) -> np.ndarray:
    """The mean coordinate of each cell of `size` points; the last is filled up as `filled_up` does."""
    points = np.asarray(axis.coordinates)
    short = -len(points) % size
    around = np.copysign(axis.length, points[-1] - points[0])
    beyond = points[:short] + around if axis.boundary == "periodic" else np.full(short, points[-1])
    return np.concatenate([points, beyond]).reshape(-1, size).mean(1)


def filled_up(x: Tensor, boundary: Sequence[str], size: int) -> Tensor:
    """Points appended at the end of every axis, by its boundary, up to a multiple of `size`: (B, C, *S)."""
    short = [-n % size for n in x.shape[2:]]
    padded = pad(x, boundary, short)
    for axis, (amount, n) in enumerate(zip(short, x.shape[2:], strict=True), start=2):
        padded = padded.narrow(axis, amount, n + amount)
    return padded
