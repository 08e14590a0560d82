"""An autoencoder whose latents are random, with a law that is held near the standard normal one."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from driftway.calculus import weights as areas
from driftway.data.axes import Axis
from driftway.data.trajectories import Transition
from driftway.errors import ConfigError
from driftway.networks.autoencoder import LearnedCodec
from driftway.networks.layers import CONVOLUTIONS, Conv, check_sizes, folded, norm, pad, pointwise, zero
from driftway.randomness import Stream

LOG_VARIANCES = (-30.0, 20.0)  # of latents; e to their powers is finite in single precision


class KLAutoencoder(LearnedCodec):
    """Fields (B, channels, *S) ↔ latents (B, latent, *S/factor), factor = 2^(levels − 1); a codec.

        q(z|u) = N(μ(u), s²(u)),   loss = ⟨w·|D(z) − u|²⟩ + kl·⟨½(μ² + s² − 1 − ln s²)⟩,   z = μ + s·ξ

    Means are over all numbers of a batch of fields or latents: where others sum the divergence over the n latents of a
    state, kl is n times their weight. w is the area of a point, one on average, times the weight of its channel.
    `encode` gives μ; z is drawn in training alone. The network knows no parameters.

    boundary: per axis; axes: of the fields, for areas (without them all points weigh alike); names: of the channels,
    for their weights; latent: channels per latent point; width: channels of the finest level; multipliers: of the
    width, level by level; blocks: per level of the encoder, one more in the decoder; kl: weight of the divergence;
    weights: channel → weight, 1 for those that are not named, where `*`, `?` and `[...]` stand for letters and the
    first pattern that fits a channel counts.

    Raises ConfigError for a weight that is negative or that no channel has.

    References: Kingma & Welling 2013 (arXiv 1312.6114), eq. 10; Rombach et al. 2022 (arXiv 2112.10752), the layers.
    """

    areas: Tensor | None
    channel_weights: Tensor

    def __init__(
        self,
        channels: int,
        boundary: tuple[str, ...],
        *,
        axes: tuple[Axis, ...] | None = None,
        names: tuple[str, ...] = (),
        latent: int = 32,
        width: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 4),
        blocks: int = 2,
        kl: float = 1e-3,
        weights: dict[str, float] | None = None,
    ):
        super().__init__()
        widths = [width * multiplier for multiplier in multipliers]
        self.factor, self.latent, self.kl = 2 ** (len(widths) - 1), latent, kl
        self.encoder = _encoder(channels, 2 * latent, widths, blocks, tuple(boundary))
        self.decoder = _decoder(latent, channels, widths, blocks + 1, tuple(boundary))
        self.register_buffer("areas", None if axes is None else _floats(areas(axes)), persistent=False)
        self.register_buffer("channel_weights", channel_weights(channels, names, weights or {}), persistent=False)

    def encode(self, u: Tensor, params: Tensor | None = None) -> Tensor:
        """The mean latents of standardised fields u (B, channels, *S)."""
        return self.posterior(u)[0]

    def decode(self, z: Tensor, params: Tensor | None = None) -> Tensor:
        """Standardised fields (B, channels, *S) of latents z (B, latent, *S/factor)."""
        return self.decoder(z)

    def posterior(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Mean μ and logarithm of the variance ln s² of the latents of u, each (B, latent, *S/factor)."""
        check_sizes(u.shape[2:], self.factor, "use fewer multipliers")
        mean, log = self.encoder(u).chunk(2, 1)
        return mean, log.clamp(*LOG_VARIANCES)

    def loss(self, batch: Transition, stream: Stream) -> Tensor:
        """The weighted error of the source, decoded from latents drawn from `stream`, plus kl times the divergence."""
        mean, log = self.posterior(batch.source)
        z = mean + (log / 2).exp() * stream.normal(mean)
        error = (self.decode(z) - batch.source).square() * self.point_weights(batch.source)
        return error.mean() + self.kl * divergence(mean, log).mean()

    def point_weights(self, u: Tensor) -> Tensor:
        """w: the weight of each channel at each point, (channels, *S) or with axes of one point."""
        by_channel = self.channel_weights.to(u).reshape(-1, *[1] * (u.ndim - 2))
        return by_channel if self.areas is None else by_channel * self.areas.to(u)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, s²) ‖ N(0, 1)) = ½(μ² + s² − 1 − ln s²) of each number."""
    return (mean.square() + log_variance.exp() - 1 - log_variance) / 2


def channel_weights(channels: int, names: tuple[str, ...], weights: Mapping[str, float]) -> Tensor:
    """The weight of each channel (channels,): that of the first pattern in `weights` that its name fits, else 1."""
    for pattern, weight in weights.items():
        if weight < 0:
            raise ConfigError(f"weights: {pattern} has {weight:g}, must be at least 0")
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(f"weights: no channel is named '{pattern}'; there are {', '.join(names) or 'no names'}")
    found = [next((w for pattern, w in weights.items() if fnmatchcase(name, pattern)), 1.0) for name in names]
    return torch.tensor(found or [1.0] * channels, dtype=torch.float32)


class Attention(nn.Module):
    """Every point attends to every other, added to what comes in; the identity at the start: (B, width, *S)."""

    def __init__(self, width: int, dims: int):
        super().__init__()
        self.norm = norm(width)
        self.queries = pointwise(width, 3 * width, dims)
        self.mix = zero(pointwise(width, width, dims))

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = self.queries(self.norm(h)).flatten(2).mT.chunk(3, -1)
        return h + self.mix(F.scaled_dot_product_attention(q, k, v).mT.unflatten(2, h.shape[2:]))


class ConvBlock(nn.Module):
    """Two convolutions beside a shortcut: (B, inputs, *S) → (B, outputs, *S).

    W h + Conv SiLU Norm Conv SiLU Norm h,   W the identity where widths are equal; the branch is zero at the start
    """

    def __init__(self, inputs: int, outputs: int, boundary: tuple[str, ...]):
        super().__init__()
        self.branch = nn.Sequential(
            norm(inputs),
            nn.SiLU(),
            Conv(inputs, outputs, boundary),
            norm(outputs),
            nn.SiLU(),
            zero(Conv(outputs, outputs, boundary)),
        )
        self.shortcut = nn.Identity() if inputs == outputs else pointwise(inputs, outputs, len(boundary))

    def forward(self, h: Tensor) -> Tensor:
        return self.shortcut(h) + self.branch(h)


class Halve(nn.Module):
    """Half as many points per axis, by a convolution of four taps that lie evenly about each new point."""

    def __init__(self, width: int, boundary: tuple[str, ...]):
        super().__init__()
        self.boundary = boundary
        self.taps = CONVOLUTIONS[len(boundary)](width, width, 4, 2)

    def forward(self, h: Tensor) -> Tensor:
        return self.taps(pad(h, self.boundary, 1))


class Double(nn.Module):
    """Twice as many points per axis: every point repeated, then a convolution."""

    def __init__(self, width: int, boundary: tuple[str, ...]):
        super().__init__()
        self.smooth = Conv(width, width, boundary)

    def forward(self, h: Tensor) -> Tensor:
        return self.smooth(F.interpolate(h, scale_factor=2, mode="nearest"))


def _encoder(inputs: int, outputs: int, widths: list[int], blocks: int, boundary: tuple[str, ...]) -> nn.Sequential:
    """From fields to the coarsest level, fine to coarse."""
    layers: list[nn.Module] = [Conv(inputs, widths[0], boundary)]
    ends = _ends(boundary, len(widths))
    for level, (before, width) in enumerate(zip([widths[0], *widths], widths, strict=False)):
        coarsest = level == len(widths) - 1
        layers += _level(before, width, blocks, ends[level], attends=coarsest)
        layers += [] if coarsest else [Halve(width, ends[level])]
    return nn.Sequential(*layers, *_middle(widths[-1], ends[-1]), *_head(widths[-1], outputs, ends[-1]))


def _decoder(inputs: int, outputs: int, widths: list[int], blocks: int, boundary: tuple[str, ...]) -> nn.Sequential:
    """From the coarsest level to fields."""
    ascending, ends = widths[::-1], _ends(boundary, len(widths))[::-1]
    layers: list[nn.Module] = [Conv(inputs, widths[-1], ends[0]), *_middle(widths[-1], ends[0])]
    for level, (before, width) in enumerate(zip([ascending[0], *ascending], ascending, strict=False)):
        layers += _level(before, width, blocks, ends[level], attends=level == 0)
        layers += [] if level == len(widths) - 1 else [Double(width, ends[level + 1])]
    return nn.Sequential(*layers, *_head(widths[0], outputs, boundary))


def _ends(boundary: tuple[str, ...], levels: int) -> list[tuple[str, ...]]:
    """The boundary of every level, fine to coarse."""
    return [boundary, *[folded(boundary, 2)] * (levels - 1)]


def _level(before: int, width: int, blocks: int, boundary: tuple[str, ...], attends: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for k in range(blocks):
        layers.append(ConvBlock(width if k else before, width, boundary))
        layers += [Attention(width, len(boundary))] if attends else []
    return layers


def _middle(width: int, boundary: tuple[str, ...]) -> list[nn.Module]:
    return [ConvBlock(width, width, boundary), Attention(width, len(boundary)), ConvBlock(width, width, boundary)]


def _head(width: int, outputs: int, boundary: tuple[str, ...]) -> list[nn.Module]:
    return [norm(width), nn.SiLU(), Conv(width, outputs, boundary)]


def _floats(weights: Tensor | None) -> Tensor | None:
    return None if weights is None else weights.float()
