"""All numbers of a climate as a file, and its maps as a zarr folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from driftway.longterm.bias import STATISTICS
from driftway.longterm.examination import TRUTH, Band, Compared, Examination
from driftway.longterm.figures import mean_over, regions
from driftway.longterm.reading import area_of
from driftway.longterm.years import Years
from driftway.storage import atomic_folder, atomic_write, explained, without_nan


def described(found: Examination) -> dict[str, Any]:
    """Every number but the maps, by field."""
    names = found.layout.fields.names
    truth = {"years": _yearly(found.truth, found), "spectra": _spectra(found.spectra, names)}
    return {
        **found.facts,
        "units": dict(zip(names, found.layout.fields.units, strict=True)),
        "numbers": dict(STATISTICS),
        "truth's climate": {**truth, "months": _months(found.reference.months, found)},
        "compared": {own.label: _compared(own, found) for own in found.compared},
    }


def _compared(own: Compared, found: Examination) -> dict[str, Any]:
    names = found.layout.fields.names
    return {
        "is": "truth" if own.truth else "forecast",
        "failures": dict(own.failures),
        "guard": dict(own.said),
        "pooled": None if own.pooled is None else _band(own.pooled, names),
        "members": {name: _band(band, names) for name, band in own.alone.items()},
        "years": {name: _yearly(years, found) for name, years in own.members.items()},
        "months": None if own.climate is None else _months(own.climate.months, found),
        "spectra": _spectra(own.spectra, names),
    }


def _band(band: Band, names: tuple[str, ...]) -> dict[str, Any]:
    def entry(statistic: str, c: int) -> dict[str, Any]:
        ends = [float(values[statistic][c]) for values in (band.values, band.low, band.high)]
        known = bool(np.isfinite(ends).all())
        inside = bool(band.inside(statistic)[c]) if known else None
        return dict(zip(("value", "low", "high"), ends, strict=True)) | {"inside": inside}

    return {name: {statistic: entry(statistic, c) for statistic in STATISTICS} for c, name in enumerate(names)}


def _yearly(years: Years, found: Examination) -> dict[str, list[float]]:
    """The mean over space of each year."""
    means = mean_over(years.means(), area_of(found.layout))
    return {name: means[:, c].tolist() for c, name in enumerate(found.layout.fields.names)}


def _months(months: np.ndarray, found: Examination) -> dict[str, dict[str, list[float]]]:
    """Means of the months over each region."""
    return {
        region: {name: mean_over(months[:, c], weights).tolist() for c, name in enumerate(found.layout.fields.names)}
        for region, weights in regions(found.layout).items()
    }


def _spectra(spectra: Mapping[str, np.ndarray], names: tuple[str, ...]) -> dict[str, dict[str, list[float]]]:
    return {kind: {name: power[c].tolist() for c, name in enumerate(names)} for kind, power in spectra.items()}


def save_numbers(found: Examination, path: Path) -> Path:
    """Write `described` as JSON."""
    text = json.dumps(without_nan(described(found)), indent=1, ensure_ascii=False)
    atomic_write(path, text.encode())
    return path


def maps(found: Examination) -> xr.Dataset:
    """Means of months (run, month, *axes) of each field, and its variance (run, *axes) as `…_variance`."""
    climates = {TRUTH: found.reference}
    climates |= {own.label: own.climate for own in found.compared if own.climate is not None}
    layout = found.layout
    space = [axis.name for axis in layout.axes]
    variables: dict[str, Any] = {}
    for c, (name, unit) in enumerate(zip(layout.fields.names, layout.fields.units, strict=True)):
        means = np.stack([own.months[:, c] for own in climates.values()])
        variables[name] = (("run", "month", *space), means, {"units": unit})
        variables[f"{name}_variance"] = (("run", *space), np.stack([own.variance[c] for own in climates.values()]))
    coordinates: dict[str, Any] = {axis.name: np.asarray(axis.coordinates) for axis in layout.axes}
    coordinates["run"] = np.asarray(list(climates), dtype=object)
    coordinates["share"] = ("month", found.reference.weights, {"long_name": "share of the year"})
    return xr.Dataset(variables, coordinates)


def save_maps(found: Examination, path: Path) -> Path:
    """Write `maps` as a zarr folder, complete or not at all."""
    with explained(path), atomic_folder(path, force=True) as partial:
        maps(found).to_zarr(partial, mode="w", zarr_format=3, consolidated=False)
    return path
