"""Errors of one forecast against the truth: space is averaged, every other axis is kept.

Notation: û forecast, u truth, ⟨·⟩ the mean over space, weighted by the quadrature weights if there are any. A
score belongs to one sample, lead time and channel; averaging scores over samples is the caller's, after the
root is taken. NaN in the fields gives NaN in the score: a diverged forecast is never dropped. Where a
relative score would be 0/0 it is 0, because the forecast is exact; no epsilon with a hidden unit enters.
float32 and float64 both work.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from driftway.errors import ConfigError, DataError

# A variance below (ROUNDING · machine epsilon)² ⟨u²⟩ is what rounding leaves of a constant field: up to 3.9
# measured on grids of 7 to 110,592 points.
ROUNDING = 8.0


class Metric(Protocol):
    """A score of forecast (..., C, *S) against truth (..., C, *S): (..., C).

    `space` counts the trailing spatial axes S; `weights` (*S) are quadrature weights of any scale.
    """

    def __call__(self, forecast: Tensor, truth: Tensor, *, space: int, weights: Tensor | None = None) -> Tensor: ...


def spatial_mean(values: Tensor, *, space: int, weights: Tensor | None = None) -> Tensor:
    """Mean over the trailing `space` axes.

    ⟨v⟩ = Σᵢ wᵢ vᵢ / Σᵢ wᵢ

    values: (..., *S)
    weights: (*S), non-negative, any scale: cell areas, Gaussian or Clenshaw–Curtis weights; None: all equal.
        A weight of 0 does not hide a NaN.
    """
    axes = tuple(range(-space, 0))
    if not 1 <= space <= values.ndim:
        raise DataError(f"{space} spatial axes asked of shape {tuple(values.shape)}; give 1 to {values.ndim}")
    if weights is None:
        return values.mean(axes)
    return (values * _normalised(weights, values, space)).sum(axes)


def rmse(forecast: Tensor, truth: Tensor, *, space: int, weights: Tensor | None = None) -> Tensor:
    """Root-mean-square error, in the units of the field; with area weights, the latitude-weighted RMSE.

    RMSE = √⟨(û − u)²⟩

    forecast, truth: (..., C, *S), giving (..., C)

    Perfect 0; the constant field ⟨u⟩ scores the spatial standard deviation of u. The mean of roots over
    samples is at most the root of the mean (Jensen). Rewards smoothing. Rasp et al. 2023, arXiv:2308.15560.
    """
    return _mean_square(forecast, truth, space, weights).sqrt()


def mae(forecast: Tensor, truth: Tensor, *, space: int, weights: Tensor | None = None) -> Tensor:
    """Mean absolute error, in the units of the field.

    MAE = ⟨|û − u|⟩

    forecast, truth: (..., C, *S), giving (..., C)

    Perfect 0; the constant field at the median of u scores the mean absolute deviation. It is the CRPS of a
    single forecast (Gneiting and Raftery 2007).
    """
    check_fields(forecast, truth, space)
    return spatial_mean((forecast - truth).abs(), space=space, weights=weights)


def bias(forecast: Tensor, truth: Tensor, *, space: int, weights: Tensor | None = None) -> Tensor:
    """Mean error, signed, in the units of the field: positive where the forecast is too large.

    bias = ⟨û − u⟩

    forecast, truth: (..., C, *S), giving (..., C)

    Perfect 0, and 0 for any forecast with the right mean. Of time means of a long forecast and of the truth,
    it is the bias of the climatology.
    """
    check_fields(forecast, truth, space)
    return spatial_mean(forecast - truth, space=space, weights=weights)


def nrmse(forecast: Tensor, truth: Tensor, *, space: int, weights: Tensor | None = None) -> Tensor:
    """Error relative to the size of the truth, per channel.

    NRMSE = ‖û − u‖ / ‖u‖ = √(⟨(û − u)²⟩ / ⟨u²⟩)

    forecast, truth: (..., C, *S), giving (..., C)

    Perfect 0; the zero field scores 1. A large mean of u makes it small for free, so it depends on the origin
    of the unit. A truth that vanishes gives ∞ (0 if forecast exactly).
    """
    return quotient(_mean_square(forecast, truth, space, weights), _square(truth, space, weights)).sqrt()


def vrmse(
    forecast: Tensor, truth: Tensor, *, space: int, weights: Tensor | None = None, epsilon: float = 0.0
) -> Tensor:
    """Error relative to the spatial standard deviation of the truth.

    VRMSE = √(⟨(û − u)²⟩ / (⟨(u − ⟨u⟩)²⟩ + ε))

    forecast, truth: (..., C, *S), giving (..., C): one mean and variance (divided by N, not N − 1) per
        sample, lead time and channel, averaged by the caller afterwards.
    epsilon: ε, in squared units of the field; 0 makes the score free of units, 1e-7 is The Well's choice.

    Perfect 0; the constant field ⟨u⟩ scores 1; an independent draw of the same law √2. A constant truth gives
    ∞ (0 if forecast exactly). Ohana et al. 2024 (The Well), arXiv:2412.00568, which divides by N − 1.
    """
    return quotient(_mean_square(forecast, truth, space, weights), _variance(truth, space, weights) + epsilon).sqrt()


def correlation(forecast: Tensor, truth: Tensor, *, space: int, weights: Tensor | None = None) -> Tensor:
    """Pearson correlation over space; of anomalies from a climatology, the centred anomaly correlation.

    r = ⟨(û − ⟨û⟩)(u − ⟨u⟩)⟩ / √(⟨(û − ⟨û⟩)²⟩ ⟨(u − ⟨u⟩)²⟩)

    forecast, truth: (..., C, *S), giving (..., C) in [−1, 1]

    Perfect 1; an unrelated field 0 on average; a constant field 0, having nothing to correlate. Blind to the
    amplitude and to the mean of the forecast.
    """
    check_fields(forecast, truth, space)
    product = _anomaly(forecast, space, weights) * _anomaly(truth, space, weights)
    covariance = spatial_mean(product, space=space, weights=weights)
    scale = _variance(forecast, space, weights).sqrt() * _variance(truth, space, weights).sqrt()
    return torch.where(scale == 0, scale, covariance / scale).clamp(-1, 1)


def anomaly_correlation(
    forecast: Tensor, truth: Tensor, climatology: Tensor, *, space: int, weights: Tensor | None = None
) -> Tensor:
    """Anomaly correlation: how far the departures from what is usual at the date agree; they are not centred.

    ACC = ⟨(û − c)(u − c)⟩ / √(⟨(û − c)²⟩ ⟨(u − c)²⟩)

    forecast, truth: (..., C, *S), giving (..., C) in [−1, 1]
    climatology: c (..., C, *S), of the dates that the forecast is of

    Perfect 1; a state of the same date in another year 0 on average. Without any anomaly, as of the climatology itself,
    it is 0: such a forecast says nothing of the departures (0/0, which other programs call NaN). Blind to the size of
    the forecast's anomaly, so that an ensemble mean does not lose by being smooth. Rasp et al. 2023 (WeatherBench 2),
    arXiv:2308.15560, eq. 3.
    """
    check_fields(forecast, truth, space)
    check_fields(climatology, truth, space)
    predicted, happened = forecast - climatology, truth - climatology
    covariance = spatial_mean(predicted * happened, space=space, weights=weights)
    scale = _square(predicted, space, weights).sqrt() * _square(happened, space, weights).sqrt()
    return torch.where(scale == 0, scale, covariance / scale).clamp(-1, 1)


class CorrelationTime(NamedTuple):
    """Time of the first crossing, and whether it lies beyond the last lead (`time` is then a lower bound)."""

    time: Tensor
    censored: Tensor


def correlation_time(correlations: Tensor, lead_times: Tensor, threshold: float = 0.8) -> CorrelationTime:
    """First lead time at which the correlation falls below a threshold, for each sample on its own.

    τ = inf {t : r(t) < r*}, with r linear between the leads and r(0) = 1

    correlations: (..., T), as from `correlation` with the lead times last
    lead_times: (T,), increasing, not negative; their unit is the unit of τ
    threshold: r*, at most 1

    A forecast that never crosses gets the last lead and `censored`: a mean over such times is a lower bound.
    NaN before the crossing gives NaN, NaN after it changes nothing. Perfect: censored; an unrelated forecast:
    about (1 − r*) of the first lead. Crossing first and averaging afterwards keeps the result free of the
    batch size.
    """
    leads = _checked_leads(correlations, lead_times, threshold)
    curve = torch.cat([torch.ones_like(correlations[..., :1]), correlations], -1)
    # NaN stops the search as a crossing does, and then makes the interpolated time NaN.
    crossed = ~(curve >= threshold)
    after = crossed.to(torch.uint8).argmax(-1, keepdim=True).clamp(min=1)
    high, low = curve.gather(-1, after - 1), curve.gather(-1, after)
    start, end = leads[after - 1], leads[after]
    time = (start + (end - start) * (high - threshold) / (high - low)).squeeze(-1)
    censored = ~crossed.any(-1)
    return CorrelationTime(torch.where(censored, leads[-1], time), censored)


def quotient(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient of an error and its scale, 0/0 = 0: an exact forecast is exact even where truth is 0."""
    return torch.where(numerator == 0, numerator, numerator / denominator)


def check_fields(forecast: Tensor, truth: Tensor, space: int) -> None:
    """Refuse fields of different shapes, which would broadcast, and fields without a channel axis."""
    if forecast.shape != truth.shape:
        raise DataError(
            f"forecast {tuple(forecast.shape)} and truth {tuple(truth.shape)} differ in shape; make them one"
        )
    if not 1 <= space < truth.ndim:
        raise DataError(f"{space} spatial axes asked of shape {tuple(truth.shape)}; give 1 to {truth.ndim - 1}")


def _normalised(weights: Tensor, values: Tensor, space: int) -> Tensor:
    if weights.shape != values.shape[-space:]:
        raise DataError(
            f"weights {tuple(weights.shape)} do not fit fields {tuple(values.shape)}; give one per grid point"
        )
    if not bool((weights >= 0).all() & (weights.sum() > 0)):
        raise DataError("weights hold negative, NaN or only zero values; give non-negative quadrature weights")
    return (weights / weights.sum()).to(values)


def _square(values: Tensor, space: int, weights: Tensor | None) -> Tensor:
    return spatial_mean(values.square(), space=space, weights=weights)


def _mean_square(forecast: Tensor, truth: Tensor, space: int, weights: Tensor | None) -> Tensor:
    check_fields(forecast, truth, space)
    return _square(forecast - truth, space, weights)


def _anomaly(values: Tensor, space: int, weights: Tensor | None) -> Tensor:
    mean = spatial_mean(values, space=space, weights=weights)
    return values - mean[(..., *[None] * space)]


def _variance(values: Tensor, space: int, weights: Tensor | None) -> Tensor:
    """⟨(u − ⟨u⟩)²⟩, and exactly 0 where nothing but rounding is left."""
    variance = _square(_anomaly(values, space, weights), space, weights)
    rounding = (ROUNDING * torch.finfo(values.dtype).eps) ** 2 * _square(values, space, weights)
    return torch.where(variance <= rounding, torch.zeros_like(variance), variance)


def _checked_leads(correlations: Tensor, lead_times: Tensor, threshold: float) -> Tensor:
    """Lead times with the start, where the forecast is the truth, before them."""
    if not threshold <= 1:
        raise ConfigError(f"correlation threshold {threshold} is above 1; give a number such as 0.8")
    if lead_times.ndim != 1 or lead_times.shape != correlations.shape[-1:] or len(lead_times) == 0:
        raise DataError(
            f"{tuple(lead_times.shape)} lead times for correlations {tuple(correlations.shape)}; "
            "give one per entry of the last axis"
        )
    leads = torch.cat([torch.zeros_like(lead_times[:1]), lead_times]).to(correlations)
    if not bool((lead_times >= 0).all() & (lead_times.diff() > 0).all()):
        raise DataError(f"lead times {lead_times.tolist()} must be 0 or more and increase; sort them")
    return leads
