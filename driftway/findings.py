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


def _lowest(values: xr.DataArray, methods: list[str], what: str) -> str:
    ranked = sorted((float(values.sel(method=m)), m) for m in methods)
    persistence = float(values.sel(method="persistence")) if "persistence" in values["method"] else float("nan")
    (first, winner), (second, runner) = ranked[0], ranked[min(1, len(ranked) - 1)]
    return f"Lowest {what}: {winner}, {first:.3f}; next {runner}, {second:.3f}; persistence {persistence:.3f}."


def _calibration(scores: xr.Dataset, methods: list[str]) -> list[str]:
    """The range of spread–skill over lead times, best calibrated first."""
    ratios = scores["spread_skill"].mean("field")
    rows = []
    for method in methods:
        ratio = ratios.sel(method=method).values
        if np.isfinite(ratio).all():
            worst = float(np.abs(np.log(np.maximum(ratio, 1e-9))).max())
            rows.append((worst, f"{method} {ratio.min():.2f}–{ratio.max():.2f}"))
    return [f"Spread–skill ratio over all leads (1 is calibrated): {'; '.join(t for _, t in sorted(rows))}."] if rows else []


def _against(scores: xr.Dataset, methods: list[str], reference: str) -> list[str]:
    """Which ensembles have a lower CRPS than the deterministic stepper at every lead time."""
    if reference not in methods:
        return []
    crps = scores["crps"].mean("field")
    ours = [m for m in methods if int(scores["members"].sel(method=m)) > 1]
    better = [m for m in ours if bool((crps.sel(method=m) < crps.sel(method=reference)).all())]
    return [f"Lower CRPS than the {reference} stepper's absolute error at every lead: {', '.join(better) or 'none'}."]


def _spectra(scores: xr.Dataset, methods: list[str]) -> list[str]:
    errors = scores["spectral_rmse"].mean("field")
    sentences = []
    for band in [b for b in errors["band"].values if str(b) in ("low", "mid")]:
        part = errors.sel(band=band)
        best = min(methods, key=lambda m, part=part: float(part.sel(method=m)))
        floor = float(part.sel(method="autoencoder floor")) if "autoencoder floor" in part["method"] else float("nan")
        sentences.append(
            f"Spectral error, {band} band: {best} {float(part.sel(method=best)):.3f}; the autoencoder's own floor {floor:.3f}."
        )
    return sentences


def _failures(scores: xr.Dataset) -> list[str]:
    failed = {str(m): int(scores["failures"].sel(method=m)) for m in scores["method"].values}
    bad = {m: n for m, n in failed.items() if n}
    total = scores.attrs["initial_states"]
    if not bad:
        return [f"No forecast diverged, of {total} initial states for each method."]
    return ["Diverged forecasts, which count as failures: " + ", ".join(f"{m} {n} of {total}" for m, n in bad.items()) + "."]
