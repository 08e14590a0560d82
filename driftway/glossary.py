"""What scores are called, how they are averaged, and what a perfect and a trivial forecast get."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

UNDEFINED = "–"
REFERENCES = ("persistence", "climatology", "autoencoder floor")
LOWER, ONE, HIGHER = "lower", "one", "higher"
STATES = "space, then mean over initial states"
SQUARES = "mean over space and initial states, then the root"
SHELLS = "spectra over members and initial states first; error at each lead, then mean over leads"
# the correlation below which a forecast has lost the truth
THRESHOLD = 0.8


@dataclass(frozen=True)
class Score:
    """What a score is: its name for people, what is better, formula, averaging order, and two forecasts to know.

    `dimensional` scores are in the units of their field; what `needs` something is left out where nobody has it.
    """

    long_name: str
    better: str
    formula: str
    averaging: str = STATES
    perfect: str = "0"
    trivial: str = ""
    dimensional: bool = False
    needs: str = ""


SCORES = {
    "rmse": Score(
        "RMSE of the mean", LOWER, "√⟨(ū−u)²⟩", trivial="the constant field: the std of u over space", dimensional=True
    ),
    "nrmse": Score("NRMSE of the mean", LOWER, "√(⟨(ū−u)²⟩/⟨u²⟩)", trivial="the field 0: 1"),
    "vrmse": Score("VRMSE of the mean", LOWER, "√(⟨(ū−u)²⟩/⟨(u−⟨u⟩)²⟩)", trivial="the constant field: 1"),
    "vrmse_member": Score(
        "VRMSE of members",
        LOWER,
        "√(⟨(uₘ−u)²⟩/⟨(u−⟨u⟩)²⟩)",
        f"{STATES} and members",
        trivial="an unrelated state: √2",
    ),
    "vrmse_pooled": Score(
        "pooled VRMSE of the mean",
        LOWER,
        "√(⟨(ū−u)²⟩/⟨(u−⟨u⟩)²⟩), both means over space and initial states",
        "mean over space and initial states, then the ratio and the root",
        trivial="the mean of all states and points: 1",
    ),
    "correlation": Score(
        "correlation of the mean", HIGHER, "Pearson's r of ū and u over space", perfect="1", trivial="unrelated: 0"
    ),
    "acc": Score(
        "anomaly correlation of the mean",
        HIGHER,
        "⟨(ū−c)(u−c)⟩/√(⟨(ū−c)²⟩⟨(u−c)²⟩), c the climatology of the date",
        perfect="1",
        trivial="another year: 0; climatology: 0, as it has no anomaly",
        needs="climatology",
    ),
    "crps": Score(
        "fair CRPS",
        LOWER,
        "⟨mean |uₘ−u| − ½ mean |uₘ−uₙ|⟩, m ≠ n",
        perfect="0 if certain, σ/√π for a calibrated Gaussian",
        trivial="one member: its mean absolute error",
        dimensional=True,
    ),
    "energy_score": Score(
        "fair energy score",
        LOWER,
        "mean ‖uₘ−u‖ − ½ mean ‖uₘ−uₙ‖, m ≠ n, ‖v‖ = √⟨v²⟩",
        perfect="0 if certain, about σ/√2 for calibrated white noise",
        trivial="equal members: their RMSE",
        dimensional=True,
    ),
    "spread": Score(
        "spread", "", "√⟨ensemble variance⟩", SQUARES, "skill·√(M/(M+1))", "equal members: 0", dimensional=True
    ),
    "skill": Score(
        "skill", LOWER, "√⟨(ū−u)²⟩", SQUARES, trivial="climatology: the std of u over all states", dimensional=True
    ),
    "rmse_member": Score(
        "RMSE of members",
        LOWER,
        "√⟨(uₘ−u)²⟩",
        "mean over space, members and initial states, then the root",
        trivial="a calibrated ensemble: √2 times its spread",
        dimensional=True,
    ),
    "spread_skill": Score(
        "spread–skill ratio",
        ONE,
        "√((M+1)/M)·spread/skill",
        "mean over space and initial states, then root and ratio",
        "1",
        "equal members: 0",
    ),
}
OTHERS = {
    "correlation_time": Score(
        f"correlation time (r > {THRESHOLD})",
        HIGHER,
        f"first lead time with r < {THRESHOLD}, r linear between leads; the last lead time if there is none",
        "each initial state by itself, then mean over initial states",
        "the last lead time",
        f"unrelated: {1 - THRESHOLD:.1f} of the first lead time",
    ),
    "spectral_rmse": Score(
        "spectral error", LOWER, "√⟨(1−P̂(k)/P(k))²⟩ over the shells of a band", SHELLS, trivial="no power: 1"
    ),
    "spectral_rmse_paper": Score(
        "spectral error, truth over forecast",
        LOWER,
        "√⟨(1−P(k)/P̂(k))²⟩ over the shells of a band",
        SHELLS,
        trivial="no power: ∞",
    ),
    "spectral_log_error": Score(
        "spectral log error", LOWER, "√⟨ln²(P̂(k)/P(k))⟩ over the shells of a band", SHELLS, trivial="no power: ∞"
    ),
}


def is_reference(method: str) -> bool:
    """Whether this is no forecast but what forecasts are measured against."""
    return method.casefold().startswith(REFERENCES)


def number(value: Any, like: float | None = None) -> str:
    """A value as a table shows it: three digits, thousands apart, `–` where it is not defined.

    like: a value whose decimals it gets, so that a small difference is written as what it is a difference of
    """
    if value is None:
        return UNDEFINED
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int | np.integer):
        return f"{value:,}".replace(",", "\u202f")
    if not math.isfinite(value):
        return UNDEFINED if math.isnan(value) else ("∞" if value > 0 else "−∞")
    size = abs(value if like is None else like)
    digits = f"{value:.2e}" if size >= 1e5 or 0 < size < 1e-3 else f"{value:.{_decimals(size)}f}"
    return digits.replace("-", "−")


def _decimals(size: float) -> int:
    return 3 if size < 1 else max(0, 2 - math.floor(math.log10(size)))
