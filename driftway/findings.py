"""What the scores say, in sentences made from the numbers."""

from __future__ import annotations

import numpy as np
import xarray as xr

REFERENCES = ("persistence", "climatology", "autoencoder floor")


def findings(scores: xr.Dataset) -> list[str]:
    """The winners by error, by CRPS and by calibration, against persistence and the deterministic stepper."""
    methods = [str(m) for m in scores["method"].values if str(m) not in REFERENCES]
    means = scores.mean(("lead_time", "field"), skipna=False)
    return [
        _lowest(means["vrmse"], methods, "VRMSE of the (ensemble) mean over the rollout"),
        _lowest(means["crps"], methods, "fair CRPS over the rollout (for one member: its absolute error)"),
        *_calibration(scores, methods),
        *_against(scores, methods, "deterministic"),
        *_spectra(scores, methods),
        *_failures(scores),
    ]


def of(values: xr.DataArray, method: str) -> xr.DataArray:
    """The values of one method; xarray's `sel` has an argument of the same name."""
    return values.sel({"method": method})


def _value(values: xr.DataArray, method: str) -> float:
    return float(of(values, method)) if method in values["method"] else float("nan")


def _lowest(values: xr.DataArray, methods: list[str], what: str) -> str:
    ranked = sorted((_value(values, m), m) for m in methods)
    (first, winner), (second, runner) = ranked[0], ranked[min(1, len(ranked) - 1)]
    rest = f"next {runner}, {second:.3f}; persistence {_value(values, 'persistence'):.3f}"
    return f"Lowest {what}: {winner}, {first:.3f}; {rest}."


def _calibration(scores: xr.Dataset, methods: list[str]) -> list[str]:
    """The range of spread–skill over lead times, best calibrated first."""
    ratios = scores["spread_skill"].mean("field")
    rows = []
    for method in methods:
        ratio = of(ratios, method).values
        if np.isfinite(ratio).all():
            worst = float(np.abs(np.log(np.maximum(ratio, 1e-9))).max())
            rows.append((worst, f"{method} {ratio.min():.2f}–{ratio.max():.2f}"))
    ranges = "; ".join(text for _, text in sorted(rows))
    return [f"Spread–skill ratio over all leads (1 is calibrated): {ranges}."] if rows else []


def _against(scores: xr.Dataset, methods: list[str], reference: str) -> list[str]:
    """Which ensembles have a lower CRPS than the deterministic stepper at every lead time."""
    if reference not in methods:
        return []
    crps = scores["crps"].mean("field")
    ours = [m for m in methods if _value(scores["members"], m) > 1]
    better = [m for m in ours if bool((of(crps, m) < of(crps, reference)).all())]
    return [f"Lower CRPS than the {reference} stepper's absolute error at every lead: {', '.join(better) or 'none'}."]


def _spectra(scores: xr.Dataset, methods: list[str]) -> list[str]:
    errors = scores["spectral_rmse"].mean("field")
    sentences = []
    for band in [b for b in errors["band"].values if str(b) in ("low", "mid")]:
        part = errors.sel(band=band)
        value, best = min((_value(part, m), m) for m in methods)
        floor = _value(part, "autoencoder floor")
        sentences.append(f"Spectral error, {band} band: {best} {value:.3f}; the autoencoder's own floor {floor:.3f}.")
    return sentences


def _failures(scores: xr.Dataset) -> list[str]:
    failed = {str(m): int(of(scores["failures"], str(m))) for m in scores["method"].values}
    bad = {m: n for m, n in failed.items() if n}
    total = scores.attrs["initial_states"]
    if not bad:
        return [f"No forecast diverged, of {total} initial states for each method."]
    counts = ", ".join(f"{m} {n} of {total}" for m, n in bad.items())
    return [f"Diverged forecasts, which count as failures: {counts}."]
