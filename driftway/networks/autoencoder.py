"""A deep-compression autoencoder: a fixed linear code, the data's principal components, plus learned parts.

Every change of resolution is a fixed linear map of the folded channels and a convolution that learns what the
map misses. Before `initialise` the maps average and duplicate channels, as in Chen et al. 2024 (arXiv
2410.10733); after it, the untrained network is the principal component analysis of the data's patches, and
training starts there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from driftway.data.trajectories import Transition
from driftway.errors import ConfigError, DataError
from driftway.networks.layers import (
    Conv,
    Embedding,
    ResidualBlock,
    check_sizes,
    folded,
    shuffle,
    unshuffle,
    zero,
)
from driftway.randomness import Stream

GAIN = 0.1  # of learned parts: small, since the linear code that they correct is good already
LATENT_STD = 0.5  # of the leading latent channel after `initialise`: far below the bound, nothing saturates
LOG_VARIANCE = -6.0  # of the latent samples at the start, if there is a KL weight
FEWER = "use a smaller stem or fewer widths"  # where fields have too few points
EMBEDDING = 128  # width of the parameters' embedding


class LearnedCodec(nn.Module, ABC):
    """A codec with weights, which `loss` trains.

    factor: points per axis of the fields for each point of the latents; latent: channels of these.
    """

    factor: int
    latent: int

    @abstractmethod
    def encode(self, u: Tensor, params: Tensor | None = None) -> Tensor:
        """Latents (B, latent, *S/factor) of standardised fields u (B, channels, *S)."""

    @abstractmethod
    def decode(self, z: Tensor, params: Tensor | None = None) -> Tensor:
        """Standardised fields (B, channels, *S) of latents z (B, latent, *S/factor)."""

    @abstractmethod
    def loss(self, batch: Transition, stream: Stream) -> Tensor:
        """Mean over the batch's sources of what training lowers; a scalar. `stream` has a row for each."""

    def initialise(self, frames: Tensor) -> LearnedCodec:
        """Start from what frames (N, channels, *S), standardised, tell; by default from random weights."""
        return self


class Linear(nn.Module):
    """A fixed affine map of the channels at every point, plus a convolution that starts at zero.

        W h + b + gain·Conv h

    forward: (B, inputs, *S) → (B, outputs, *S).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, inputs: int, outputs: int, boundary: tuple[str, ...]):
        super().__init__()
        self.register_buffer("weight", averaging(inputs, outputs))
        self.register_buffer("bias", torch.zeros(outputs))
        self.learned = zero(Conv(inputs, outputs, boundary))

    def forward(self, h: Tensor) -> Tensor:
        return torch.add(self.fixed(h), self.learned(h), alpha=GAIN)

    def fixed(self, h: Tensor) -> Tensor:
        """The affine part alone."""
        points = self.weight @ h.flatten(2) + self.bias[:, None]
        return points.unflatten(2, h.shape[2:])

    def set(self, weight: Tensor, bias: Tensor) -> None:
        """Put `weight` and `bias` first, zeros in the rows and columns that are left; unlearn the rest."""
        self.weight.zero_()[: weight.shape[0], : weight.shape[1]] = weight
        self.bias.zero_()[: len(bias)] = bias
        zero(self.learned)


def averaging(inputs: int, outputs: int) -> Tensor:
    """The matrix (outputs, inputs) that averages groups of channels, or repeats them for more outputs."""
    places = torch.arange(max(inputs, outputs))
    matrix = torch.zeros(outputs, inputs)
    matrix[places * outputs // len(places), places * inputs // len(places)] = 1
    return matrix / matrix.sum(1, keepdim=True)


class Stage(nn.Module):
    """One resolution: folds space into channels and maps them to `width`, or back.

    narrow: (B, inputs, *S) → (B, width, *S/factor); widen: (B, width, *S/factor) → (B, inputs, *S).
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        factor: int,
        blocks: tuple[int, int],
        boundary: tuple[str, ...],
        embedding: int,
    ):
        super().__init__()
        folded = inputs * factor ** len(boundary)
        self.factor = factor
        self.fold, self.unfold = Linear(folded, width, boundary), Linear(width, folded, boundary)
        self.encoder, self.decoder = (
            nn.ModuleList(ResidualBlock(width, boundary, embedding, GAIN) for _ in range(count)) for count in blocks
        )

    def narrow(self, h: Tensor, vector: Tensor | None) -> Tensor:
        h = self.fold(unshuffle(h, self.factor))
        for block in self.encoder:
            h = block(h, vector)
        return h

    def widen(self, h: Tensor, vector: Tensor | None) -> Tensor:
        for block in self.decoder:
            h = block(h, vector)
        return shuffle(self.unfold(h), self.factor)


class Autoencoder(LearnedCodec):
    """Fields (B, channels, *S) ↔ latents (B, latent, *S/factor), factor = stem·2^(stages − 1); a codec.

    boundary: per axis; latent: channels per latent point; widths: channels of each stage, fine to coarse;
    blocks: residual blocks of each stage's decoder; encoder_blocks: the same for its encoder; stem: points
    per axis that the first stage folds into channels; bound: latents saturate as z/√(1 + z²/bound²), None for
    no bound; kl: weight of the divergence from a standard normal, 0 for none; parameters: physical parameters
    per state, which modulate the blocks.

    Good starting values for 64×64 fields: stem 8, widths (128,), blocks 3, latent 16, `initialise` on a few
    hundred frames, AdamW at 2·10⁻³ with batches of 8.

    References: Chen et al. 2024 (arXiv 2410.10733), residual autoencoding; Rozet et al. 2025 (arXiv
    2507.02608), saturation.
    """

    def __init__(
        self,
        channels: int,
        boundary: tuple[str, ...],
        *,
        latent: int = 16,
        widths: tuple[int, ...] = (128,),
        blocks: int = 3,
        encoder_blocks: int = 0,
        stem: int = 8,
        bound: float | None = 5.0,
        kl: float = 0.0,
        parameters: int = 0,
    ):
        super().__init__()
        width = EMBEDDING if parameters else 0
        if parameters and not blocks and not encoder_blocks:
            raise ConfigError("the autoencoder has parameters but no blocks for them to modulate: set blocks")
        self.factor, self.latent, self.bound, self.kl = stem * 2 ** (len(widths) - 1), latent, bound, kl
        self.embedding = Embedding(parameters, width, timed=False) if parameters else None
        factors, stages = [stem, *[2] * (len(widths) - 1)], list[Stage]()
        for inputs, outputs, factor in zip([channels, *widths[:-1]], widths, factors, strict=True):
            boundary = folded(boundary, factor)
            stages.append(Stage(inputs, outputs, factor, (encoder_blocks, blocks), boundary, width))
        self.stages = nn.ModuleList(stages)
        self.fold, self.unfold = Linear(widths[-1], latent, boundary), Linear(latent, widths[-1], boundary)
        self.log_variance = zero(Conv(widths[-1], latent, boundary)) if kl else None

    def encode(self, u: Tensor, params: Tensor | None = None) -> Tensor:
        """Latents of standardised fields u (B, channels, *S), the mean if they are random in training."""
        return self._saturate(self.fold(self._narrow(u, params)))

    def decode(self, z: Tensor, params: Tensor | None = None) -> Tensor:
        """Standardised fields (B, channels, *S) of latents z (B, latent, *S/factor)."""
        vector = self._vector(z, params)
        h = self.unfold(z)
        for stage in reversed(self._stages()):
            h = stage.widen(h, vector)
        return h

    def loss(self, batch: Transition, stream: Stream) -> Tensor:
        """The mean squared error of the reconstructed source, plus kl times the divergence per latent.

            |D(z) − u|² + kl·½(μ² + s² − 1 − log s²),   z = μ + s·ξ

        batch.source: (B, channels, *S), standardised; stream: B rows, used only if there is a KL weight.
        """
        u, params = batch.source, batch.conditioning.fixed
        if self.log_variance is None:
            return (self.decode(self.encode(u, params), params) - u).square().mean()
        h = self._narrow(u, params)
        mean, log = self._saturate(self.fold(h)), self.log_variance(h) + LOG_VARIANCE
        z = mean + (log / 2).exp() * stream.normal(mean)
        divergence = (mean.square() + log.exp() - 1 - log).mean() / 2
        return (self.decode(z, params) - u).square().mean() + self.kl * divergence

    @torch.no_grad()
    def initialise(self, frames: Tensor) -> Autoencoder:
        """Set the linear code to the principal components of the patches of `frames`; unlearn the rest.

        frames: (N, channels, *S), standardised; they should hold many times channels·factorᵈ patches. Latent
        channels are then ordered by the variance they explain and all scaled by one number, with which the first
        has a standard deviation of one half: the code keeps distances, so that an error in any latent costs what it
        costs when decoded. A stage that is narrower than the channels folded into it keeps the leading components.
        """
        h = frames
        for stage in self._stages():
            h = unshuffle(h, stage.factor)
            _set_principal(h, stage.fold, stage.unfold)
            h = stage.fold.fixed(h)
        _set_principal(h, self.fold, self.unfold, LATENT_STD)
        for block in self.modules():
            if isinstance(block, ResidualBlock):
                zero(block.second)
        return self

    def _narrow(self, u: Tensor, params: Tensor | None) -> Tensor:
        check_sizes(u.shape[2:], self.factor, FEWER)
        vector, h = self._vector(u, params), u
        for stage in self._stages():
            h = stage.narrow(h, vector)
        return h

    def _saturate(self, z: Tensor) -> Tensor:
        return z * torch.rsqrt(1 + (z / self.bound).square()) if self.bound else z

    def _vector(self, like: Tensor, params: Tensor | None) -> Tensor | None:
        return self.embedding(like, None, params) if self.embedding is not None else None

    def _stages(self) -> list[Stage]:
        return [stage for stage in self.stages if isinstance(stage, Stage)]


def _set_principal(h: Tensor, fold: Linear, unfold: Linear, std: float | None = None) -> None:
    """Project the channels of h (N, C, *S) on their leading principal components, the first of `std` if given."""
    mean, covariance = _moments(h)
    if not torch.isfinite(covariance).all() or covariance.trace() <= 0:
        raise DataError("the frames given to the autoencoder are constant or not finite: give varying fields")
    variances, vectors = torch.linalg.eigh(covariance)
    count = min(len(fold.weight), len(variances))
    variances, vectors = variances.flip(0)[:count], vectors.flip(1)[:, :count]
    scale = 1.0 if std is None else std / float(variances[0]) ** 0.5
    down, up = scale * vectors.T, vectors / scale
    fold.set(down.to(fold.weight), -(down @ mean).to(fold.bias))
    unfold.set(up.to(unfold.weight), mean.to(unfold.bias))


def _moments(h: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (C,) and covariance (C, C) of the channels over samples and space, in float64 and pieces."""
    total, products, count = 0.0, 0.0, h[:, 0].numel()
    for piece in h.split(64):
        rows = piece.transpose(0, 1).flatten(1).double()
        total, products = total + rows.sum(1), products + rows @ rows.T
    mean = torch.as_tensor(total) / count
    return mean, torch.as_tensor(products) / count - torch.outer(mean, mean)
