"""Evaluation: forecasts against the truth, one initial state at a time, into one xarray dataset of scores.

Averaging, everywhere: space first, for each initial state, field and lead time; then the mean over initial states.
Spread and skill average variance and squared error over initial states before the root and the ratio. A forecast with
a value that is not finite counts in `failures` and makes its scores NaN; it is never dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from driftway.data.layout import Layout
from driftway.errors import DataError
from driftway.metrics import (
    correlation,
    crps,
    energy_score,
    ensemble_squared_error,
    ensemble_variance,
    isotropic_spectrum,
    nrmse,
    nyquist,
    rank_histogram,
    rmse,
    spectral_log_error,
    spectral_rmse,
    spectral_rmse_paper,
    spread_skill_ratio,
    vrmse,
)
from driftway.progress import progress

LOWER, ONE, HIGHER = "lower", "one", "higher"
STATES = "space, then mean over initial states"


@dataclass(frozen=True)
class Score:
    """What a column of scores is: its name for people, what is better, and its averaging order."""

    long_name: str
    better: str
    formula: str
    averaging: str = STATES


SCORES = {
    "rmse": Score("RMSE of the ensemble mean", LOWER, "√⟨(ū−u)²⟩"),
    "nrmse": Score("NRMSE of the ensemble mean", LOWER, "‖ū−u‖/‖u‖"),
    "vrmse": Score("VRMSE of the ensemble mean", LOWER, "√(⟨(ū−u)²⟩/⟨(u−⟨u⟩)²⟩)"),
    "vrmse_member": Score("VRMSE of single members", LOWER, "√(⟨(uₘ−u)²⟩/⟨(u−⟨u⟩)²⟩)", f"{STATES} and members"),
    "correlation": Score("correlation of the ensemble mean", HIGHER, "Pearson over space"),
    "crps": Score("fair CRPS", LOWER, "⟨|uₘ−u|⟩ − ½⟨|uₘ−uₙ|⟩, m ≠ n"),
    "energy_score": Score("fair energy score", LOWER, "⟨‖uₘ−u‖⟩ − ½⟨‖uₘ−uₙ‖⟩, m ≠ n"),
    "spread": Score("spread", ONE, "√⟨ensemble variance⟩", "mean over space and initial states, then the root"),
    "skill": Score(
        "RMSE in the ratio's order", LOWER, "√⟨(ū−u)²⟩", "mean over space and initial states, then the root"
    ),
    "spread_skill": Score(
        "spread–skill ratio", ONE, "√((M+1)/M)·spread/skill", "mean over space and initial states, then root and ratio"
    ),
}


@dataclass
class _Sums:
    """Running means over initial states, each (L, C, …) in float64."""

    count: int = 0
    failures: int = 0
    values: dict[str, Tensor] = field(default_factory=dict)

    def add(self, values: Mapping[str, Tensor]) -> None:
        """One initial state more."""
        self.count += 1
        for name, value in values.items():
            self.values[name] = self.values.get(name, torch.zeros((), dtype=torch.float64)) + value.double()

    def means(self) -> dict[str, Tensor]:
        """The means so far."""
        return {name: value / self.count for name, value in self.values.items()}


def score(forecasts: Mapping[str, xr.Dataset], truth: xr.Dataset, layout: Layout, seed: int = 0) -> xr.Dataset:
    """Scores of several forecasts of the same initial states.

    forecasts: name → (realization, trajectory, lead_time, *axes) per field; truth: (trajectory, lead_time, *axes).
    Returns dims (method, field, lead_time), with spectra (…, wavenumber), rank histograms (…, rank) and, per
    method, the number of failures, of members and of initial states.
    """
    for name, forecast in forecasts.items():
        _check(name, forecast, truth, layout)
    per_method = {name: _score_one(name, forecast, truth, layout, seed) for name, forecast in forecasts.items()}
    reference = _mean_spectrum(truth, layout)
    return _dataset(per_method, reference, truth, layout, {n: f.sizes["realization"] for n, f in forecasts.items()})


def _score_one(name: str, forecast: xr.Dataset, truth: xr.Dataset, layout: Layout, seed: int) -> _Sums:
    sums = _Sums()
    with progress(f"scoring {name}", truth.sizes["trajectory"]) as task:
        for row, (ensemble, states) in enumerate(
            zip(_ensembles(forecast, layout), _states(truth, layout), strict=True)
        ):
            sums.failures += int(not bool(torch.isfinite(ensemble).all()))
            sums.add(_scores(ensemble, states, layout.space, (seed, row)))
            task.advance()
    return sums


def _scores(ensemble: Tensor, truth: Tensor, space: int, key: tuple[int, int]) -> dict[str, Tensor]:
    """All scores of one initial state: ensemble (M, L, C, *S), truth (L, C, *S) → each (L, C, …)."""
    mean, members = ensemble.mean(0), len(ensemble)
    found = {
        "rmse": rmse(mean, truth, space=space),
        "nrmse": nrmse(mean, truth, space=space),
        "vrmse": vrmse(mean, truth, space=space),
        "vrmse_member": vrmse(ensemble, truth.expand_as(ensemble), space=space).mean(0),
        "correlation": correlation(mean, truth, space=space),
        "crps": crps(ensemble, truth, space=space),
        "squared_error": ensemble_squared_error(ensemble, truth, space=space),
        "spectrum": isotropic_spectrum(ensemble, space=space)[1].mean(0),
    }
    if members > 1:
        found["energy_score"] = energy_score(ensemble, truth, space=space)
        found["variance"] = ensemble_variance(ensemble, truth, space=space)
        found["ranks"] = rank_histogram(ensemble, truth, space=space)
    return found


def _dataset(
    per_method: Mapping[str, _Sums], reference: Tensor, truth: xr.Dataset, layout: Layout, members: Mapping[str, int]
) -> xr.Dataset:
    methods, leads = list(per_method), truth["lead_time"].values
    means = {name: _finished(sums.means(), members[name]) for name, sums in per_method.items()}
    variables = {}
    for name, kind in SCORES.items():
        rows = [_or_nan(means[m].get(name), (len(leads), len(layout.fields))) for m in methods]
        attributes = {"long_name": kind.long_name, "better": kind.better, "formula": kind.formula}
        values = np.stack([r.T for r in rows])
        variables[name] = (("method", "field", "lead_time"), values, {**attributes, "averaging": kind.averaging})
    spectra = np.stack([means[m]["spectrum"].numpy().swapaxes(0, 1) for m in methods])
    variables["spectrum"] = (("method", "field", "lead_time", "wavenumber"), spectra)
    variables["truth_spectrum"] = (("field", "lead_time", "wavenumber"), reference.numpy().swapaxes(0, 1))
    variables |= _spectral_errors(means, reference, layout)
    variables["rank_histogram"] = (("method", "field", "lead_time", "rank"), _ranks(means, members, methods))
    variables["failures"] = (("method",), [per_method[m].failures for m in methods])
    variables["members"] = (("method",), [members[m] for m in methods])
    coordinates = {"method": methods, "field": list(layout.fields.names), "lead_time": truth["lead_time"]}
    return xr.Dataset(variables, coordinates, {"initial_states": truth.sizes["trajectory"]})


def _spectral_errors(
    means: Mapping[str, dict[str, Tensor]], reference: Tensor, layout: Layout
) -> dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, str]]]:
    """Errors of the mean spectra by band, at each lead and then averaged over leads."""
    k_max, found = resolved(reference, layout), {}
    order = f"spectra averaged over members and initial states; error at each lead, then mean; shells 1 to {k_max:g}"
    for measure in (spectral_rmse, spectral_rmse_paper, spectral_log_error):
        bands = [measure(mean["spectrum"], reference, k_max=k_max) for mean in means.values()]
        values = np.stack([np.stack([b.mean(0).numpy() for b in band.values()], -1) for band in bands])
        found[measure.__name__] = (("method", "field", "band"), values, {"averaging": order, "better": LOWER})
        found["band"] = (("band",), list(bands[0]), {})
    return found


def resolved(spectrum: Tensor, layout: Layout, floor: float = 1e-8) -> float:
    """The last wavenumber in which the truth (…, K) has more than `floor` of its power, at most Nyquist's.

    A dealiased solver leaves nothing above it, and a ratio to nothing says nothing.
    """
    share = spectrum.flatten(0, -2).mean(0) / spectrum.flatten(0, -2).mean(0).sum()
    last = int((share > floor).nonzero().max())
    return min(float(last), nyquist(layout.shape[1:]))


def _finished(means: dict[str, Tensor], members: int) -> dict[str, Tensor]:
    """Roots and ratios, once everything is averaged."""
    means["skill"] = means["squared_error"].sqrt()
    if members > 1:
        means["spread"] = means["variance"].sqrt()
        means["spread_skill"] = spread_skill_ratio(means["variance"], means["squared_error"], members, average=())
    return means


def _or_nan(value: Tensor | None, shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, np.nan) if value is None else value.numpy()


def _ranks(means: Mapping[str, dict[str, Tensor]], members: Mapping[str, int], methods: list[str]) -> np.ndarray:
    """Relative frequency of each rank of the truth, padded with NaN to the largest ensemble."""
    width = max(members.values()) + 1
    first = means[methods[0]]["rmse"]
    table = np.full((len(methods), first.shape[1], first.shape[0], width), np.nan)
    for i, method in enumerate(methods):
        if members[method] > 1:
            counts = means[method]["ranks"].numpy().swapaxes(0, 1)
            table[i, :, :, : members[method] + 1] = counts / counts.sum(-1, keepdims=True)
    return table


def _mean_spectrum(truth: xr.Dataset, layout: Layout) -> Tensor:
    spectra = [isotropic_spectrum(states, space=layout.space)[1].double() for states in _states(truth, layout)]
    return torch.stack(spectra).mean(0)


def _ensembles(forecast: xr.Dataset, layout: Layout) -> Iterator[Tensor]:
    """Ensemble after ensemble, (M, L, C, *S)."""
    for row in range(forecast.sizes["trajectory"]):
        yield _tensor(forecast.isel(trajectory=row), layout, ("realization", "lead_time"))


def _states(truth: xr.Dataset, layout: Layout) -> Iterator[Tensor]:
    """Truth after truth, (L, C, *S)."""
    for row in range(truth.sizes["trajectory"]):
        yield _tensor(truth.isel(trajectory=row), layout, ("lead_time",))


def _tensor(data: xr.Dataset, layout: Layout, dims: tuple[str, ...]) -> Tensor:
    order = (*dims, *(axis.name for axis in layout.axes))
    fields = [data[name].transpose(*order).values for name in layout.fields.names]
    return torch.from_numpy(np.stack(fields, len(dims)))


def _check(name: str, forecast: xr.Dataset, truth: xr.Dataset, layout: Layout) -> None:
    missing = [f for f in layout.fields.names if f not in forecast or f not in truth]
    if missing:
        raise DataError(f"forecast '{name}' and truth must both have the fields {', '.join(missing)}")
    for dim in ("trajectory", "lead_time", *(axis.name for axis in layout.axes)):
        if forecast.sizes.get(dim) != truth.sizes.get(dim):
            raise DataError(
                f"forecast '{name}' has {forecast.sizes.get(dim)} along {dim}, the truth {truth.sizes.get(dim)}: "
                "score the same initial states, leads and grid"
            )
