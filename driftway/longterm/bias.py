"""How far a climate is from that of a truth run, and how far chance alone takes one run from another.

Of the means u_m of the months m, with their shares w_m of a year, of the mean ū = Σ_m w_m u_m and of the variance V,
all maps, and with the mean ⟨·⟩ over the area:

    bias      ⟨ū̂ − ū⟩
    rmsb      √⟨(ū̂ − ū)²⟩
    season    √Σ_m w_m ⟨(ŝ_m − s_m)²⟩ ,   s_m = u_m − ū
    variance  ln(⟨V̂⟩/⟨V⟩)
    pattern   √⟨(ū̂′ − ū′)²⟩ ,   ū′ = ū − ⟨ū⟩

Perfect: 0. A run that is perfect but not endless misses them by chance; the band says by how much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from driftway.longterm.years import Years

STATISTICS: Mapping[str, str] = {
    "bias": "⟨ū̂ − ū⟩, mean over the area",
    "rmsb": "√⟨(ū̂ − ū)²⟩, root-mean-square of the bias map",
    "season": "√Σ_m w_m⟨(ŝ_m − s_m)²⟩, s_m = u_m − ū of the months m",
    "variance": "ln(⟨V̂⟩/⟨V⟩), V the variance about the months' means",
    "pattern": "√⟨(b − ⟨b⟩)²⟩, b = ū̂ − ū: what is left of rmsb without the bias",
}
TAILS: Mapping[str, tuple[float | None, float | None]] = {  # shares of chance that are in the band, 95 % in all
    "bias": (0.025, 0.975),
    "rmsb": (None, 0.95),
    "season": (None, 0.95),
    "variance": (0.025, 0.975),
    "pattern": (None, 0.95),
}
DRAWS = 2000
FEWEST = 2  # years that can be resampled
Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class Climate:
    """Means of months (M, C, *S), variance about them (C, *S), and the months' shares of a year (M,)."""

    months: np.ndarray
    variance: np.ndarray
    weights: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Σ_m w_m u_m, (C, *S)."""
        return np.tensordot(self.weights, self.months, 1)


def climate(parts: Sequence[Years]) -> Climate:
    """That of years of one or several runs, each year weighing alike.

    V = Σ_m w_m ⟨(u − u_m)²⟩ = mean over years of the variance within months + Σ_m w_m Var_y(u_ym)
    """
    weights, count = parts[0].weights, sum(map(len, parts))
    monthly = sum((years.monthly.sum(0) for years in parts), np.zeros(())) / count
    within = sum((years.within.sum(0) for years in parts), np.zeros(())) / count
    between = [np.concatenate([years.kept[:, m] for years in parts]).var(0) for m in range(len(weights))]
    return Climate(monthly, within + np.tensordot(weights, np.stack(between), 1), weights)


def compared(own: Climate, truth: Climate, area: np.ndarray) -> Values:
    """The numbers of `STATISTICS`, each (C,); area (*S): weights of the mean over space, one on average."""
    axes = tuple(range(-area.ndim, 0))

    def mean(u: np.ndarray) -> np.ndarray:
        return (area * u).mean(axes)

    apart = own.mean - truth.mean
    season = (own.months - own.mean) - (truth.months - truth.mean)
    with np.errstate(invalid="ignore", divide="ignore"):  # a field that never changes has no ratio
        return {
            "bias": mean(apart),
            "rmsb": np.sqrt(mean(apart**2)),
            "season": np.sqrt(own.weights @ mean(season**2)),
            "variance": np.log(mean(own.variance) / mean(truth.variance)),
            "pattern": np.sqrt(mean((apart - mean(apart).reshape(-1, *(1,) * area.ndim)) ** 2)),
        }


# --- internal variability ------------------------------------------------------------------------------------------


def by_chance(
    parts: Sequence[Years], area: np.ndarray, own: int, truth: int, draws: int = DRAWS, seed: int = 0
) -> Values | None:
    """The numbers between a run of `own` years and one of `truth` years of one and the same climate, (draws, C).

    parts: true years, of which both runs are drawn with replacement; deviations from the mean of all P years are
    √(P/(P − 1)) as large, so that resampled years vary as years do. None where P < 2.

    Every number is a form of how often each year was drawn, d = p̂ − p, with the products of two years' maps averaged
    over the area, so that no map is drawn. Where it is a mean over many points (`rmsb`, `season`, `pattern`), d is
    stretched to the length |d|² = 1/n̂ + 1/n: it is the direction that chance chooses, and how uneven a resampling is
    would make them vary more than they do. `bias`, one number of a few years, is times √(ν/χ²_ν), ν = P − 1, in every
    draw, as in Student's law. Years are taken to be independent of each other. Efron 1979.
    """
    count = sum(map(len, parts))
    if count < FEWEST:
        return None
    rng = np.random.default_rng(seed)
    drawn, against = (rng.multinomial(n, np.full(count, 1 / count), draws) / n for n in (own, truth))
    wider = np.sqrt((count - 1) / rng.chisquare(count - 1, draws))
    drawing = _Drawing(drawn, against, 1 / own + 1 / truth, wider)
    channels = [_channel(parts, c, area, drawing) for c in range(parts[0].monthly.shape[2])]
    return {name: np.stack([found[name] for found in channels], 1) for name in STATISTICS}


@dataclass(frozen=True)
class _Drawing:
    """How often each year was drawn for a run and for the truth, as shares (draws, P); |d|² of both; and √(ν/χ²_ν)."""

    drawn: np.ndarray
    against: np.ndarray
    length: float
    wider: np.ndarray


def _channel(parts: Sequence[Years], channel: int, area: np.ndarray, drawing: _Drawing) -> dict[str, np.ndarray]:
    """The numbers of one channel, (draws,)."""
    weights, apart = parts[0].weights, drawing.drawn - drawing.against
    lengths = np.maximum(np.square(apart).sum(1), np.finfo(float).tiny)
    even = apart * np.sqrt(drawing.length / lengths)[:, None]
    monthly, kept = (
        _wider(np.concatenate([getattr(years, name)[:, :, channel] for years in parts])) for name in ("monthly", "kept")
    )
    within = _wider(np.concatenate([(area * y.within[:, channel]).reshape(len(y), -1).mean(1) for y in parts]))
    yearly = np.tensordot(weights, monthly, (0, 1))
    level = (area * yearly).reshape(len(yearly), -1).mean(1)
    seasons = monthly - yearly[:, None]
    shares = weights.reshape(-1, *(1,) * area.ndim) * area
    maps = yearly - level.reshape(-1, *(1,) * area.ndim)
    between = _products(_centred(kept), shares) * len(weights)

    def variance(p: np.ndarray) -> np.ndarray:
        return p @ (within + np.diag(between)) - _form(between, p)

    with np.errstate(invalid="ignore", divide="ignore"):  # a field that never changes has no ratio
        return {
            "bias": drawing.wider * (apart @ level),
            "rmsb": np.sqrt(_form(_products(_centred(yearly), area), even)),
            "season": np.sqrt(_form(_products(_centred(seasons), shares) * len(weights), even)),
            "variance": np.log(variance(drawing.drawn) / variance(drawing.against)),
            "pattern": np.sqrt(_form(_products(_centred(maps), area), even)),
        }


def _centred(years: np.ndarray) -> np.ndarray:
    return years - years.mean(0)


def _wider(years: np.ndarray) -> np.ndarray:
    """Deviations from the mean of P years √(P/(P − 1)) as large."""
    mean = years.mean(0)
    return mean + np.sqrt(len(years) / (len(years) - 1)) * (years - mean)


def _products(years: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean over space of the products of two years' maps, (P, P)."""
    flat = years.reshape(len(years), -1)
    return (flat * np.broadcast_to(weights, years.shape[1:]).reshape(-1)) @ flat.T / flat.shape[1]


def _form(matrix: np.ndarray, p: np.ndarray) -> np.ndarray:
    """pᵀ M p of each row of p, not below 0 by rounding."""
    return np.maximum(((p @ matrix) * p).sum(1), 0)


def band(drawn: Values | None, fields: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Between what 95 % of chance lie, (C,) each; of numbers that cannot be negative, from 0 to there.

    NaN where there were too few years.
    """

    def end(name: str, share: float | None) -> np.ndarray:
        if drawn is None:
            return np.full(fields, np.nan)
        return np.zeros(fields) if share is None else np.quantile(drawn[name], share, 0)

    return {name: (end(name, low), end(name, high)) for name, (low, high) in TAILS.items()}
