"""Distances between two laws from samples of both: rows x (N, D) and y (M, D), each independent of the others.

Of finite samples no distance is zero, even where the laws are one; `Distance` says which values that gives. Rows that
depend on one another, such as frames of one trajectory, make it look as if laws differed.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from driftway.errors import DataError
from driftway.metrics.intervals import LEVEL
from driftway.randomness import generator, seeded

HIDDEN, FITTING_STEPS, FITTING_RATE = 32, 150, 1e-2  # of the classifier


class Distance(NamedTuple):
    """A distance, and the interval that holds 95 % of its values where both samples come from one law."""

    value: float
    low: float
    high: float

    @property
    def distinct(self) -> bool:
        """Whether the laws differ beyond chance."""
        return self.value > self.high


class Projection(NamedTuple):
    """Two samples in coordinates of their own, and the share of the variance that these hold."""

    x: Tensor
    y: Tensor
    share: float


def sliced_wasserstein(x: Tensor, y: Tensor, *, directions: int = 512, seed: int = 0) -> Tensor:
    """Sliced Wasserstein distance, in the units of the samples, float64.

    SW₂ = √(mean over θ of W₂²(θ·x, θ·y)), W₂²(a, b) = ∫₀¹ (F_a⁻¹(q) − F_b⁻¹(q))² dq

    x: (N, D); y: (M, D); θ: `directions` unit vectors, orthogonal in blocks of D, keyed by `seed`

    Of N(μ, σ²I) and N(ν, τ²I) it is √(|μ − ν|²/D + (σ − τ)²). Raises DataError for samples that are not finite, have
    fewer than two rows or other numbers of columns. Bonneel et al. 2015.
    """
    x, y = _checked(x, y)
    theta = _directions(x.shape[1], directions, seed)
    return _squared_transport((x @ theta).sort(0).values, (y @ theta).sort(0).values).mean().sqrt()


def mmd(x: Tensor, y: Tensor, *, bandwidth: float | None = None) -> Tensor:
    """Unbiased squared maximum mean discrepancy with a Gaussian kernel, float64; negative values occur.

    MMD² = mean_{i≠j} k(xᵢ, xⱼ) + mean_{i≠j} k(yᵢ, yⱼ) − 2 mean_{i,j} k(xᵢ, yⱼ), k(a, b) = exp(−|a − b|²/2h²)

    x: (N, D); y: (M, D); bandwidth: h, by default the median distance between rows of both

    Zero on average where the laws are one. Raises DataError as `sliced_wasserstein`, and where most rows are equal.
    Gretton et al. 2012, equation 3.
    """
    x, y = _checked(x, y)
    return _discrepancies(_kernel(torch.cat([x, y]), bandwidth), _labels(x, y)[:, None])[0]


def mmd_test(
    x: Tensor, y: Tensor, *, bandwidth: float | None = None, permutations: int = 400, seed: int = 0
) -> Distance:
    """`mmd` beside the interval of its values when rows are shuffled between the samples."""
    x, y = _checked(x, y)
    rng, labels = generator(seed, "mmd"), _labels(x, y)
    shuffled = [labels[torch.from_numpy(rng.permutation(len(labels)))] for _ in range(permutations)]
    values = _discrepancies(_kernel(torch.cat([x, y]), bandwidth), torch.stack([labels, *shuffled], 1)).numpy()
    low, high = np.quantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Distance(float(values[0]), float(low), float(high))


def classifier_test(x: Tensor, y: Tensor, *, seed: int = 0) -> Distance:
    """How often a classifier tells unseen rows of two samples apart: ½ where the laws are one, 1 where they are apart.

    accuracy = ½ (share of x taken for x + share of y taken for y), its band ½ ± 1.96 √((1/n + 1/m)/16)

    x: (N, D); y: (M, D); columns are standardised

    A network of one hidden layer is fitted to one half of the rows and judged on the other, n of x and m of y: judged
    on both halves in turn, accuracies would depend on each other and leave the band too often. Raises DataError as
    `sliced_wasserstein`, and where there are fewer rows than columns: project them first. Lopez-Paz and Oquab 2017,
    arXiv:1610.06545.
    """
    x, y = _checked(x, y)
    if min(len(x), len(y)) < max(x.shape[1], 4):
        raise DataError(
            f"{min(len(x), len(y))} samples of {x.shape[1]} numbers: a classifier needs at least as many samples as "
            "numbers, use `principal_components` first"
        )
    union = torch.cat([x, y])
    std = union.std(0)
    (x, unseen_x), (y, unseen_y) = (
        _halves((rows - union.mean(0)) / torch.where(std > 0, std, 1), seed) for rows in (x, y)
    )
    classify = _classifier(x, y, seed)
    with torch.no_grad():
        right = (classify(unseen_x) > 0).double().mean() + (classify(unseen_y) < 0).double().mean()
    band = NormalDist().inv_cdf((1 + LEVEL) / 2) * ((1 / len(unseen_x) + 1 / len(unseen_y)) / 16) ** 0.5
    return Distance(float(right / 2), 0.5 - band, 0.5 + band)


def principal_components(x: Tensor, y: Tensor, *, count: int) -> Projection:
    """Both samples along the `count` directions in which their union varies most, float64.

    x: (N, D); y: (M, D), giving (N, count), (M, count) and the share of the union's variance along these directions.
    Raises DataError as `sliced_wasserstein`, for a union that does not vary, and where `count` is above D or N + M − 1.
    """
    x, y = _checked(x, y)
    union = torch.cat([x, y])
    most = min(len(union) - 1, union.shape[1])
    if not 1 <= count <= most:
        raise DataError(f"{count} components of {len(union)} samples of {union.shape[1]} numbers: ask for 1 to {most}")
    union = union - union.mean(0)
    if not float(union.abs().max()) > 0:
        raise DataError("all samples are equal: there is no direction in which they vary")
    # of N + M and D, a matrix of the smaller number of rows
    wide = len(union) < union.shape[1]
    power, vectors = torch.linalg.eigh(union @ union.T if wide else union.T @ union)
    power, vectors = power.clamp_min(0).flip(0), vectors.flip(1)[:, :count]
    top = vectors * power[:count].sqrt() if wide else union @ vectors
    return Projection(top[: len(x)], top[len(x) :], float(power[:count].sum() / power.sum()))


def _checked(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    for sample in (x, y):
        if sample.ndim != 2 or len(sample) < 2:
            raise DataError(f"a sample of shape {tuple(sample.shape)}: give (N, D) with at least two rows")
        if not bool(torch.isfinite(sample).all()):
            raise DataError(f"a sample of {len(sample)} rows holds NaN or infinity: leave such rows out, and say so")
    if x.shape[1] != y.shape[1]:
        raise DataError(f"samples of {x.shape[1]} and {y.shape[1]} numbers cannot be compared")
    return x.double(), y.double()


# --- transport -----------------------------------------------------------------------------------------------------


def _directions(size: int, count: int, seed: int) -> Tensor:
    """(D, count): blocks of orthonormal columns, each block turned at random."""
    rng, blocks = generator(seed, "directions", size), list[Tensor]()
    for start in range(0, count, size):
        columns = torch.from_numpy(rng.standard_normal((size, min(size, count - start))))
        blocks.append(torch.linalg.qr(columns).Q)
    return torch.cat(blocks, 1)


def _squared_transport(a: Tensor, b: Tensor) -> Tensor:
    """W₂² of sorted columns (N, L) and (M, L): (L,)."""
    if len(a) == len(b):
        return (a - b).square().mean(0)
    n, m = len(a), len(b)
    # in units of 1/(N·M) the quantile functions step at multiples of M and of N
    ends = torch.unique(torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]))
    widths = torch.diff(ends, prepend=ends.new_zeros(1)).double() / (n * m)
    return ((a[(ends - 1) // m] - b[(ends - 1) // n]).square() * widths[:, None]).sum(0)


# --- kernel --------------------------------------------------------------------------------------------------------


def _kernel(rows: Tensor, bandwidth: float | None) -> Tensor:
    """k of all pairs (N, N), zero on the diagonal."""
    distances = torch.cdist(rows, rows)
    pairs = torch.triu_indices(len(rows), len(rows), 1)
    width = float(distances[pairs[0], pairs[1]].median()) if bandwidth is None else bandwidth
    if not width > 0:
        raise DataError(f"the kernel's bandwidth is {width:g}: most samples are equal, or give one above 0")
    return torch.exp(-(distances**2) / (2 * width**2)).fill_diagonal_(0)


def _labels(x: Tensor, y: Tensor) -> Tensor:
    """1 for the rows of x and 0 for those of y, (N + M,)."""
    return torch.cat([torch.ones(len(x)), torch.zeros(len(y))]).double()


def _discrepancies(kernel: Tensor, first: Tensor) -> Tensor:
    """MMD² for each column of labels (N + M, P): 1 where a row counts as x, 0 where as y."""
    second = 1 - first
    n, m = first[:, 0].sum(), second[:, 0].sum()
    to_first, to_second = kernel @ first, kernel @ second
    within = (first * to_first).sum(0) / (n * (n - 1)) + (second * to_second).sum(0) / (m * (m - 1))
    return within - 2 * (first * to_second).sum(0) / (n * m)


# --- classifier ----------------------------------------------------------------------------------------------------


def _halves(rows: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Rows in two halves at random: to fit to, and to be judged on."""
    order = torch.from_numpy(generator(seed, "halves", len(rows)).permutation(len(rows)))
    return rows[order[: len(rows) // 2]], rows[order[len(rows) // 2 :]]


def _classifier(x: Tensor, y: Tensor, seed: int) -> nn.Module:
    """A fitted network that is positive for rows of x and negative for those of y; both samples weigh alike."""
    rows = torch.cat([x, y])
    labels = _labels(x, y)[:, None]
    weights = torch.where(labels > 0, len(rows) / (2 * len(x)), len(rows) / (2 * len(y)))
    with seeded(seed, "classifier"):
        network = nn.Sequential(nn.Linear(rows.shape[1], HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 1)).double()
    optimiser = torch.optim.AdamW(network.parameters(), lr=FITTING_RATE, weight_decay=0.1)
    for _ in range(FITTING_STEPS):
        optimiser.zero_grad()
        binary_cross_entropy_with_logits(network(rows), labels, weights).backward()
        optimiser.step()
    return network
