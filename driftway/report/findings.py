"""What the scores say, in sentences made from the numbers. References and forecasts that diverged are never ranked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr

from driftway.glossary import REFERENCES, UNDEFINED, is_reference, number
from driftway.metrics import interval, resampled_means
from driftway.report.plotting import CALIBRATED, fields_of, of
from driftway.report.styling import headline

FLOOR = REFERENCES[-1]
BANDS = ("low", "mid")


def findings(scores: xr.Dataset) -> list[str]:
    """The best by VRMSE and by CRPS, calibration, gain over the deterministic stepper, spectra and divergence."""
    methods = [str(m) for m in scores["method"].values if not is_reference(str(m))]
    fields = fields_of(scores)
    told = headline(fields)
    crps = [_best(scores, "crps", methods, [f], _of_field("Lowest fair CRPS", f, fields)) for f in told]
    return [
        _best(scores, "vrmse", methods, fields, "Lowest VRMSE of the (ensemble) mean"),
        *crps,
        *_calibration(scores, ensembles(scores)),
        *_against_deterministic(scores, methods),
        *_spectra(scores, methods),
        *_failures(scores, methods),
    ]


def in_brief(scores: xr.Dataset) -> list[str]:
    """A line for each method: network calls, members, means of VRMSE and CRPS, the range of spread / skill."""
    return [f"{method}: {_brief(scores, method)}" for method in map(str, scores["method"].values)]


def _brief(scores: xr.Dataset, method: str) -> str:
    means = {name: float(of(scores[name], method).mean(skipna=False)) for name in ("vrmse", "crps")}
    calls, (low, high) = float(of(scores["calls"], method)), _range(of(scores["spread_skill"], method).values)
    parts = {
        "calls": UNDEFINED if np.isnan(calls) else f"{calls:g}",
        "members": str(int(of(scores["members"], method))),
        "VRMSE": number(means["vrmse"]),
        "CRPS": number(means["crps"]),
        "spread / skill": f"{low:.2f}–{high:.2f}" if np.isfinite(low) else UNDEFINED,
    }
    return ", ".join(f"{name} {value}" for name, value in parts.items())


def ensembles(scores: xr.Dataset) -> list[str]:
    """Methods that have several members, and members that differ: a forecast without noise has no spread."""
    return [str(m) for m in scores["method"].values if not is_reference(str(m)) and _has_spread(scores, str(m))]


def _has_spread(scores: xr.Dataset, method: str) -> bool:
    spread = of(scores["spread"], method).values
    return int(of(scores["members"], method)) > 1 and bool((spread > 0).any())


def rollout(scores: xr.Dataset, name: str, method: str, fields: Sequence[str] | None = None) -> np.ndarray:
    """A score of each initial state, as its mean over lead times and fields: (N,)."""
    chosen = of(scores[f"{name}_states"], method).sel(field=list(fields or fields_of(scores)))
    return chosen.mean("field", skipna=False).values


class Estimate(NamedTuple):
    """A mean over initial states and its 95 % bootstrap interval, NaN if there are too few states for one."""

    mean: float
    low: float
    high: float

    def ends(self, like: float) -> str:
        """The interval in words, with the decimals of `like`; empty if there is none."""
        return f"{number(self.low, like)} to {number(self.high, like)}" if np.isfinite(self.low) else ""


def estimate(states: np.ndarray) -> Estimate:
    """The mean of the scores of N initial states, with its interval."""
    values = torch.from_numpy(np.ascontiguousarray(states))
    low, high = interval(resampled_means(values), len(values))
    return Estimate(float(values.mean()), float(low), float(high))


def ranking(scores: xr.Dataset, name: str, methods: Sequence[str], fields: Sequence[str]) -> list[str]:
    """Methods from the lowest mean over the rollout on; without those whose score is not finite."""
    means = {method: float(rollout(scores, name, method, fields).mean()) for method in methods}
    return sorted((m for m in methods if np.isfinite(means[m])), key=lambda m: means[m])


def _best(scores: xr.Dataset, name: str, methods: Sequence[str], fields: Sequence[str], what: str) -> str:
    ranked = ranking(scores, name, methods, fields)
    if not ranked:
        return f"{what}: none, since no forecast stayed finite."
    first = rollout(scores, name, ranked[0], fields)
    best = estimate(first)
    ends = best.ends(best.mean)
    sentence = f"{what} over the rollout: {_named(ranked[0])}, {number(best.mean)}"
    sentence += f" (95 % interval {ends})" if ends else ""
    if len(ranked) > 1:
        second = rollout(scores, name, ranked[1], fields)
        sentence += f"; next {_named(ranked[1])}, {number(float(second.mean()), best.mean)}"
        sentence += _lead(estimate(second - first), best.mean)
    return f"{sentence}. {_references(scores, name, fields, best.mean)}".strip()


def _lead(difference: Estimate, like: float) -> str:
    """Whether a difference between forecasts of the same states, which is positive, may be chance."""
    ends = difference.ends(like)
    if not ends:
        return ""
    return f" (the difference, {ends}, {'is beyond' if difference.low > 0 else 'may be'} chance)"


def _references(scores: xr.Dataset, name: str, fields: Sequence[str], best: float) -> str:
    found = {m: float(rollout(scores, name, m, fields).mean()) for m in _compared(scores)}
    if not found:
        return ""
    text = ", ".join(f"{method} {number(value)}" for method, value in found.items())
    better = [method for method, value in found.items() if value <= best]
    warning = f" No forecast is better than {' or '.join(better)}." if better else ""
    return f"For comparison: {text}.{warning}"


def _compared(scores: xr.Dataset) -> list[str]:
    """Persistence and the climatologies that were scored."""
    return [m for m in map(str, scores["method"].values) if m.startswith(REFERENCES[:2])]


def _calibration(scores: xr.Dataset, methods: Sequence[str]) -> list[str]:
    """Which ensembles have a spread–skill ratio within the band at every lead and field, and the ranges of all."""
    ranges = {method: _range(of(scores["spread_skill"], method).values) for method in methods}
    ranges = {method: ends for method, ends in ranges.items() if np.isfinite(ends).all()}
    if not ranges:
        return []
    groups: dict[str, list[str]] = {"calibrated": [], "too wide": [], "too narrow": [], "too narrow and too wide": []}
    for method in sorted(ranges, key=lambda m: max(abs(np.log(max(end, 1e-9))) for end in ranges[m])):
        low, high = ranges[method]
        groups[_verdict(low, high)].append(f"{_named(method)} {low:.2f}–{high:.2f}")
    inside = "; ".join(groups.pop("calibrated")) or "none"
    outside = [f"{word.capitalize()}: {'; '.join(texts)}." for word, texts in groups.items() if texts]
    band = f"{CALIBRATED[0]}–{CALIBRATED[1]}"
    return [" ".join([f"Calibrated, with spread / skill within {band} at every lead: {inside}.", *outside])]


def _range(ratio: np.ndarray) -> tuple[float, float]:
    return float(ratio.min()), float(ratio.max())


def _verdict(lowest: float, highest: float) -> str:
    narrow, wide = lowest < CALIBRATED[0], highest > CALIBRATED[1]
    return {(False, False): "calibrated", (True, False): "too narrow", (False, True): "too wide"}.get(
        (narrow, wide), "too narrow and too wide"
    )


def deterministic(scores: xr.Dataset, methods: Sequence[str]) -> str | None:
    """The best of the forecasts of a stepper that draws no noise, by CRPS."""
    plain = [m for m in methods if "sampler" in scores and str(of(scores["sampler"], m).values) == "None"]
    found = ranking(scores, "crps", plain, fields_of(scores))
    return found[0] if found else None


def _against_deterministic(scores: xr.Dataset, methods: Sequence[str]) -> list[str]:
    """Which ensembles have a lower CRPS than the deterministic stepper at every lead time and field."""
    reference, ours = deterministic(scores, methods), ensembles(scores)
    if reference is None or not ours:
        return []
    bound = of(scores["crps"], reference)
    better = [m for m in ours if bool((of(scores["crps"], m) < bound).all())]
    which = f"all {len(ours)} ensembles" if better == ours and len(ours) > 1 else _listed(better)
    return [
        f"Lower CRPS than the absolute error of {_named(reference)}, the deterministic stepper, at every lead: {which}."
    ]


def _spectra(scores: xr.Dataset, methods: Sequence[str]) -> list[str]:
    """The lowest error of the spectrum by band, beside the error that the autoencoder makes by itself."""
    if "spectral_rmse" not in scores:
        return []
    errors, parts = scores["spectral_rmse"].mean("field", skipna=False), []
    for band in BANDS:
        values = {m: float(of(errors, m).sel(band=band)) for m in map(str, scores["method"].values)}
        ranked = sorted((m for m in methods if np.isfinite(values[m])), key=lambda m: values[m])
        if ranked:
            floor = min((v for m, v in values.items() if m.startswith(FLOOR)), default=np.nan)
            beside = f" (the autoencoder alone {number(floor)})" if np.isfinite(floor) else ""
            parts.append(f"{band} wavenumbers {_named(ranked[0])}, {number(values[ranked[0]])}{beside}")
    return [f"Lowest error of the spectrum: {'; '.join(parts)}."] if parts else []


def _failures(scores: xr.Dataset, methods: Sequence[str]) -> list[str]:
    total = scores.attrs["initial_states"]
    bad = {m: int(of(scores["failures"], m)) for m in methods if int(of(scores["failures"], m))}
    if not bad:
        return [f"No forecast diverged, from {_states(total)} each."]
    parts = [f"{_named(m)} from {n} of {_states(total)}, first at {_time(scores, m)}" for m, n in bad.items()]
    return [f"Diverged, so without scores from then on and not ranked: {'; '.join(parts)}."]


def _states(count: int) -> str:
    return f"{count} initial state{'' if count == 1 else 's'}"


def _time(scores: xr.Dataset, method: str) -> str:
    unit = str(scores["lead_time"].attrs.get("time_units", "1"))
    return f"lead {float(of(scores['first_failure'], method)):.4g}" + ("" if unit == "1" else f" {unit}")


def _of_field(text: str, field: str, fields: Sequence[str]) -> str:
    return text if len(fields) == 1 else f"{text} of {field}"


def _listed(methods: Sequence[str]) -> str:
    return "; ".join(map(_named, methods)) or "none"


def _named(method: str) -> str:
    """In quotes, since labels hold commas."""
    return f"“{method}”"
