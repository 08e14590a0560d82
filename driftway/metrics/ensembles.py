"""Scores of an ensemble against the truth: members M on the first axis, space averaged, other axes kept.

Notation: xᵢ member i of M, y truth, x̄ the ensemble mean, ⟨·⟩ the (weighted) mean over space. The fair form
of a score estimates, without bias, what an infinite ensemble of the same law would score (Ferro 2014); the
ordinary form favours ensembles that are too narrow when M is small. NaN in a member or in the truth gives NaN
in the score.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from driftway.errors import DataError
from driftway.metrics.errors import check_fields, quotient, rmse, spatial_mean, vrmse


class EnsembleMetric(Protocol):
    """A score of ensemble (M, ..., C, *S) against truth (..., C, *S): (..., C)."""

    def __call__(self, ensemble: Tensor, truth: Tensor, *, space: int, weights: Tensor | None = None) -> Tensor: ...


def crps(ensemble: Tensor, truth: Tensor, *, space: int, weights: Tensor | None = None, fair: bool = True) -> Tensor:
    """Continuous ranked probability score, in the units of the field, averaged over space.

    CRPS = ⟨1/M Σᵢ |xᵢ − y| − 1/(2 M (M − 1)) Σᵢⱼ |xᵢ − xⱼ|⟩  (fair; ordinary: M² in place of M (M − 1))

    ensemble: (M, ..., C, *S); truth: (..., C, *S), giving (..., C)
    fair: without bias for any M ≥ 2, and therefore possibly negative for one sample. The ordinary score of a
        perfect ensemble is (1 + 1/M) times that of an infinite one on average.

    In O(M log M) by the sorted form Σᵢⱼ |xᵢ − xⱼ| = 2 Σᵢ (2i − M − 1) x₍ᵢ₎. A perfect Gaussian ensemble of
    standard deviation σ scores σ/√π on average; equal members score their MAE, and so does M = 1, where the
    fair form is undefined: it is the CRPS of a point forecast. Linear, so any averaging order is the same.
    Scores points one by one, blind to their dependence. Gneiting and Raftery 2007; Ferro 2014; Zamo and
    Naveau 2018.
    """
    _check(ensemble, truth, space)
    errors = _sorted(ensemble - truth)
    distance = errors.abs().mean(0)
    between = (_rank_weights(errors) * errors).sum(0) / _pairs(len(errors), fair)
    return spatial_mean(distance - between, space=space, weights=weights)


def energy_score(
    ensemble: Tensor, truth: Tensor, *, space: int, weights: Tensor | None = None, fair: bool = True
) -> Tensor:
    """CRPS of whole fields: distances between fields in place of distances between numbers.

    ES = 1/M Σᵢ ‖xᵢ − y‖ − 1/(2 M (M − 1)) Σᵢⱼ ‖xᵢ − xⱼ‖, ‖v‖ = √⟨v²⟩

    ensemble: (M, ..., C, *S); truth: (..., C, *S), giving (..., C): one norm per channel, in its units
    fair: as in `crps`; ordinary: M² in place of M (M − 1)

    The norm is a mean, not a sum, so that the score does not grow with the grid. On one point it is the CRPS.
    A perfect white ensemble of standard deviation σ on many points scores about σ/√2; equal members, and M =
    1, score the RMSE. Hardly sees wrong correlations between points. O(M²) distances. Gneiting and Raftery
    2007.
    """
    _check(ensemble, truth, space)
    members = len(ensemble)
    distance = rmse(ensemble, truth.expand_as(ensemble), space=space, weights=weights).mean(0)
    # Member by member, so that no array is larger than the ensemble.
    between = [
        rmse(ensemble[i + 1 :], ensemble[i].expand_as(ensemble[i + 1 :]), space=space, weights=weights).sum(0)
        for i in range(members - 1)
    ]
    return distance - sum(between, torch.zeros_like(distance)) / _pairs(members, fair)


def ensemble_variance(ensemble: Tensor, truth: Tensor, *, space: int, weights: Tensor | None = None) -> Tensor:
    """Variance of the members around their mean, averaged over space.

    s² = ⟨1/(M − 1) Σᵢ (xᵢ − x̄)²⟩

    ensemble: (M, ..., C, *S), giving (..., C); truth: (..., C, *S), used for its shape only

    Without bias for the variance of the law the members come from. A perfect ensemble of standard deviation σ
    has σ²; equal members 0; one member NaN, because it has no variance. Linear, so any averaging order is the
    same.
    """
    _check(ensemble, truth, space)
    # from the first member on, or the rounding of the mean would give equal members a variance
    deviations = ensemble - ensemble[:1]
    squares = (deviations - deviations.mean(0)).square().sum(0)
    return spatial_mean(squares, space=space, weights=weights) / (len(ensemble) - 1)


def ensemble_squared_error(ensemble: Tensor, truth: Tensor, *, space: int, weights: Tensor | None = None) -> Tensor:
    """Squared error of the ensemble mean, averaged over space.

    e² = ⟨(x̄ − y)²⟩

    ensemble: (M, ..., C, *S); truth: (..., C, *S), giving (..., C)

    Larger than that of an infinite ensemble by σ²/M on average; `spread_skill_ratio` allows for it. A perfect
    ensemble of standard deviation σ scores σ² (1 + 1/M), a certain one 0; the climatological mean scores the
    variance of the truth. Linear, so any averaging order is the same.
    """
    _check(ensemble, truth, space)
    return spatial_mean((ensemble.mean(0) - truth).square(), space=space, weights=weights)


def spread(ensemble: Tensor, truth: Tensor, *, space: int, weights: Tensor | None = None) -> Tensor:
    """Standard deviation of the members, in the units of the field.

    s = √⟨1/(M − 1) Σᵢ (xᵢ − x̄)²⟩

    ensemble: (M, ..., C, *S), giving (..., C); truth: (..., C, *S), used for its shape only

    The root is taken per sample: for a ratio with the skill, average `ensemble_variance` instead. A perfect
    ensemble has about the standard deviation σ of the law; equal members 0, one member NaN.
    """
    return ensemble_variance(ensemble, truth, space=space, weights=weights).sqrt()


def skill(ensemble: Tensor, truth: Tensor, *, space: int, weights: Tensor | None = None) -> Tensor:
    """Root-mean-square error of the ensemble mean, in the units of the field.

    e = √⟨(x̄ − y)²⟩

    ensemble: (M, ..., C, *S); truth: (..., C, *S), giving (..., C)

    A perfect ensemble of standard deviation σ has e² = σ² (1 + 1/M) on average; one member scores its RMSE,
    the climatological mean the standard deviation of the truth. The root is taken per sample: for a ratio with
    the spread, average `ensemble_squared_error` instead. Rewards smoothing and cannot see the spread.
    """
    return ensemble_squared_error(ensemble, truth, space=space, weights=weights).sqrt()


def ensemble_mean_vrmse(ensemble: Tensor, truth: Tensor, *, space: int, weights: Tensor | None = None) -> Tensor:
    """VRMSE of the ensemble mean: see `vrmse`.

    √(⟨(x̄ − y)²⟩ / ⟨(y − ⟨y⟩)²⟩)

    ensemble: (M, ..., C, *S); truth: (..., C, *S), giving (..., C)

    A certain and exact ensemble 0; a perfect one without any predictability left √(1 + 1/M); the constant field
    ⟨y⟩ 1. The ratio and its root are taken per sample, averaged by the caller afterwards.
    """
    _check(ensemble, truth, space)
    return vrmse(ensemble.mean(0), truth, space=space, weights=weights)


def spread_skill_ratio(
    variance: Tensor, squared_error: Tensor, members: int, *, average: tuple[int, ...] = (0,)
) -> Tensor:
    """Spread over skill, both averaged over samples before the ratio and the root are taken.

    SSR = √((M + 1)/M · mean(s²) / mean(e²))

    variance, squared_error: of one shape, from `ensemble_variance` and `ensemble_squared_error`
    members: M
    average: axes of both that are averaged; () none, which makes the ratio of one sample a poor estimate

    Exchangeable members and truth give 1 for every M; below 1 the ensemble is too narrow, above 1 too wide.
    Equal members 0. Says nothing about where the spread is: random noise of the right size gives 1 too.
    Fortin et al. 2014.
    """
    if variance.shape != squared_error.shape:
        raise DataError(
            f"variance {tuple(variance.shape)} and squared error {tuple(squared_error.shape)} differ; "
            "take both from one ensemble"
        )
    mean_variance, mean_error = (v.mean(average) if average else v for v in (variance, squared_error))
    return quotient(mean_variance * (members + 1) / members, mean_error).sqrt()


def rank_histogram(ensemble: Tensor, truth: Tensor, *, space: int, weights: Tensor | None = None) -> Tensor:
    """How often the truth takes each rank among the members, counted over space.

    h(r) = #{x : r members below y}, r = 0, …, M

    ensemble: (M, ..., C, *S); truth: (..., C, *S), giving (..., C, M + 1): each row adds up to the number of
        grid points, by weight where there are `weights`. Pooling over samples is a sum over their axes.

    Ties are shared: with a members below and b equal, the ranks a, …, a + b get 1/(b + 1) each, the mean over
    ties broken at random. Exchangeable members and truth give a flat histogram; too narrow ∪, too wide ∩,
    biased sloped. Neighbouring points are dependent, so a χ² test that counts each overstates. Flat is
    needed, not enough: errors of opposite sign in different places cancel. Hamill 2001.
    """
    _check(ensemble, truth, space)
    below, not_above = (ensemble < truth).sum(0), (ensemble <= truth).sum(0)
    share = 1 / (not_above - below + 1).to(truth)
    # A comparison with NaN is merely false; the score of such a point has to be NaN.
    share = torch.where(ensemble.isnan().any(0) | truth.isnan(), torch.nan, share)
    points = truth.shape[-space:].numel()
    hits = [
        # A product with the mask, which keeps NaN where a selection would drop it.
        spatial_mean(share * ((below <= rank) & (rank <= not_above)), space=space, weights=weights)
        for rank in range(len(ensemble) + 1)
    ]
    return points * torch.stack(hits, -1)


def _check(ensemble: Tensor, truth: Tensor, space: int) -> None:
    if ensemble.ndim != truth.ndim + 1 or len(ensemble) == 0:
        raise DataError(f"ensemble {tuple(ensemble.shape)} for truth {tuple(truth.shape)}; give (M, ..., C, *S)")
    check_fields(ensemble[0], truth, space)


def _sorted(values: Tensor) -> Tensor:
    """Members in rising order, NaN last."""
    if values.requires_grad or values.device.type != "cpu" or values.dtype not in (torch.float32, torch.float64):
        return values.sort(0).values
    # Along contiguous memory numpy's sort takes about an eighth of torch's time, for 16 members and for 64.
    ordered = np.sort(np.ascontiguousarray(np.moveaxis(values.numpy(), 0, -1)), -1)
    return torch.from_numpy(np.moveaxis(ordered, -1, 0))


def _rank_weights(values: Tensor) -> Tensor:
    """2i − M − 1 for i = 1, …, M, along the first axis of `values`."""
    members = len(values)
    weights = torch.arange(1 - members, members, 2, dtype=values.dtype, device=values.device)
    return weights.view(-1, *[1] * (values.ndim - 1))


def _pairs(members: int, fair: bool) -> int:
    """Number of ordered pairs that the mean distance between members is divided by (1 if there are none)."""
    return max(members * (members - 1), 1) if fair else members**2
