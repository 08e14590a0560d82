"""Evaluation: forecasts against the truth, one initial state at a time, into one xarray dataset of scores.

Averaging, everywhere: space first, for each initial state, field and lead time; then the mean over initial states.
Spread and skill average variance and squared error over initial states before the root and the ratio. A forecast that
is not finite, or so large that its square is not, counts in `failures` and makes its scores NaN from there on; it is
never dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import repeat

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from driftway.data.axes import Axis, is_sphere
from driftway.data.layout import Layout
from driftway.data.stacks import check_alike, ensembles, states_of
from driftway.errors import DataError
from driftway.glossary import OTHERS, SCORES, THRESHOLD
from driftway.metrics import (
    anomaly_correlation,
    correlation,
    correlation_time,
    crps,
    energy_score,
    ensemble_squared_error,
    ensemble_variance,
    interval,
    isotropic_spectrum,
    nrmse,
    nyquist,
    rank_histogram,
    resampled_means,
    rmse,
    spatial_mean,
    spectral_log_error,
    spectral_rmse,
    spectral_rmse_paper,
    spherical_spectrum,
    spread_skill_ratio,
    vrmse,
)
from driftway.metrics.errors import quotient
from driftway.physics.comparison import compared
from driftway.physics.quantities import Measured, measure
from driftway.progress import progress
from driftway.sphere import largest_degree

ROLLOUT = ("vrmse", "crps")
Variable = tuple[tuple[str, ...], np.ndarray, dict[str, str]]
LEAD = ("method", "field", "lead_time")


@dataclass
class _Tally:
    """Scores of one method: (L, C) of every initial state, sums (L, C, …) over them, and what its states measure."""

    members: int
    states: dict[str, list[Tensor]] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)
    measured: list[Measured] = field(default_factory=list)

    def add(self, scores: Mapping[str, Tensor], sums: Mapping[str, Tensor]) -> None:
        """One initial state more."""
        for name, value in scores.items():
            self.states.setdefault(name, []).append(value.double())
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, torch.zeros(())) + value.double()

    def values(self) -> dict[str, Tensor]:
        """Score → (N, L, C)."""
        return {name: torch.stack(values) for name, values in self.states.items()}


def score(
    forecasts: Mapping[str, xr.Dataset],
    truth: xr.Dataset,
    layout: Layout,
    *,
    weights: Tensor | None = None,
    climatology: xr.Dataset | None = None,
    seed: int = 0,
    physics: bool = True,
) -> xr.Dataset:
    """Scores of several forecasts of the same initial states.

    forecasts: name → (realization, trajectory, lead_time, *axes) per field; truth: (trajectory, lead_time, *axes).
    weights: (*S), quadrature weights of the mean over space; None: those of the layout's axes, as
        `driftway.calculus.rule` finds them. climatology: what is usual at the dates of the truth, with its dims, for
        the anomaly correlation `acc`, which is left out without. seed: of the intervals. physics: whether to measure
        what the fields allow of `driftway.physics.quantities`, with the numbers (trajectory) among the truth's
        coordinates as parameters.

    Returns dims (method, field, lead_time), each score with 95 % bootstrap bounds over initial states in `…_low` and
    `…_high`; VRMSE and CRPS of each initial state over the rollout in `…_states` (method, field, trajectory); spectra
    (…, wavenumber) along the periodic axes and their errors by band; rank histograms (…, rank); correlation times and
    in `censored` how many lie beyond the last lead; quantities and profiles as `driftway.physics.comparison.compared`
    gives them; per method `members`, `failures` and the lead time of the first.
    """
    for name, forecast in forecasts.items():
        check_alike(name, forecast, truth, layout)
    weights = layout.weights if weights is None else weights
    reference, variance = _reference_spectrum(truth, layout, weights), _variance(truth, layout, weights)
    given = _parameters(truth) if physics else None
    tallies = {
        name: _tally(name, forecast, truth, layout, weights, given, climatology) for name, forecast in forecasts.items()
    }
    leads = torch.tensor(truth["lead_time"].values, dtype=torch.float64)
    variables = {
        **_by_lead(tallies, variance, seed),
        **_correlation_times(tallies, leads, seed),
        **_spectra(tallies, reference, layout),
        **_ranks(tallies, len(leads), len(layout.fields)),
        **_failures(tallies, leads),
        "members": (("method",), np.array([tally.members for tally in tallies.values()]), {}),
    }
    measures, names = _physics(tallies, truth, layout, given)
    coordinates = {
        **names,
        "method": list(tallies),
        "field": list(layout.fields.names),
        "lead_time": truth["lead_time"],
    }
    units = xr.DataArray(list(layout.fields.units), dims="field")
    about = {"initial_states": truth.sizes["trajectory"], "quadrature": layout.quadrature}
    about |= {} if climatology is None else {"climatology": climatology.attrs.get("description", "as given")}
    return xr.Dataset({**variables, **measures}, coordinates, about).assign(units=units)


# --- one initial state ---------------------------------------------------------------------------------------------


def _tally(
    name: str,
    forecast: xr.Dataset,
    truth: xr.Dataset,
    layout: Layout,
    weights: Tensor | None,
    given: list[dict[str, float]] | None,
    climatology: xr.Dataset | None,
) -> _Tally:
    tally = _Tally(forecast.sizes["realization"])
    count = truth.sizes["trajectory"]
    usual = repeat(None, count) if climatology is None else states_of(climatology, layout)
    rows = zip(ensembles(forecast, layout), states_of(truth, layout), usual, strict=True)
    with progress(f"scoring {name}", count) as task:
        for row, (ensemble, states, expected) in enumerate(rows):
            tally.add(*_scores(ensemble, states, layout, weights, expected))
            if given is not None:
                tally.measured.append(measure(ensemble, layout, given[row]).condensed())
            task.advance()
    return tally


def _scores(
    ensemble: Tensor, truth: Tensor, layout: Layout, weights: Tensor | None, climatology: Tensor | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Scores (L, C) and sums (L, C, …) of one initial state: ensemble (M, L, C, *S), truth, climatology (L, C, *S)."""
    mean, space = ensemble.mean(0), layout.space
    found = {
        name: error(mean, truth, space=space, weights=weights)
        for name, error in {"rmse": rmse, "nrmse": nrmse, "vrmse": vrmse, "correlation": correlation}.items()
    }
    found |= {
        "vrmse_member": vrmse(ensemble, truth.expand_as(ensemble), space=space, weights=weights).mean(0),
        "crps": crps(ensemble, truth, space=space, weights=weights),
        "squared_error": ensemble_squared_error(ensemble, truth, space=space, weights=weights),
    }
    if climatology is not None:
        found["acc"] = anomaly_correlation(mean, truth, climatology, space=space, weights=weights)
    sums = {"spectrum": power.mean(0)} if (power := spectrum(ensemble, layout, weights)) is not None else {}
    if len(ensemble) > 1:
        found["energy_score"] = energy_score(ensemble, truth, space=space, weights=weights)
        found["variance"] = ensemble_variance(ensemble, truth, space=space, weights=weights)
        sums["ranks"] = rank_histogram(ensemble, truth, space=space, weights=weights)
    failed = ~(found["crps"].isfinite() & found["squared_error"].isfinite())
    return (
        {name: value.masked_fill(failed, torch.nan) for name, value in found.items()},
        {name: value.masked_fill(failed[..., None], torch.nan) for name, value in sums.items()},
    )


def spectrum(states: Tensor, layout: Layout, weights: Tensor | None = None) -> Tensor | None:
    """Power (..., C, K) along the periodic axes of states (..., C, *S); None without any.

    One spectrum per place along the other axes, averaged with `weights` (*S), so that Σ_κ P(κ) = ⟨u²⟩; None: those of
    the layout's axes. Across walls nothing is transformed. On a sphere it is that of spherical harmonics, by degree.
    """
    if is_sphere(layout.axes):
        lat, lon = (axis.coordinates for axis in layout.axes)
        return spherical_spectrum(states, lat, lon).power
    periodic = [i for i, axis in enumerate(layout.axes) if axis.boundary == "periodic"]
    if not periodic:
        return None
    first, others = states.ndim - layout.space, [i for i in range(layout.space) if i not in periodic]
    ahead = states.movedim([first + i for i in others], list(range(len(others))))
    lengths = [layout.axes[i].length for i in periodic]
    power = isotropic_spectrum(ahead, space=len(periodic), lengths=lengths).power
    if not others:
        return power
    found = layout.weights if weights is None else weights
    levels = power.new_ones([states.shape[first + i] for i in others]) if found is None else found.sum(periodic)
    levels = (levels / levels.sum()).to(power).flatten()
    return torch.tensordot(levels, power.flatten(0, len(others) - 1), 1)


# --- all initial states --------------------------------------------------------------------------------------------


def _by_lead(tallies: Mapping[str, _Tally], variance: Tensor, seed: int) -> dict[str, Variable]:
    """Every score with its interval, and the scores of the rollout for each initial state."""
    tables, shape = [_means_and_bounds(tally, variance, seed) for tally in tallies.values()], tuple(variance.shape)
    found: dict[str, Variable] = {}
    for name, kind in SCORES.items():
        if kind.needs and not any(name in table for table in tables):
            continue
        for part in ("", "_low", "_high"):
            rows = [table.get(name + part, torch.full(shape, torch.nan)) for table in tables]
            found[name + part] = (LEAD, torch.stack(rows).mT.numpy(), asdict(kind) if not part else {})
    for name in ROLLOUT:
        values = [torch.stack(tally.states[name]).mean(1).T for tally in tallies.values()]
        found[f"{name}_states"] = (("method", "field", "trajectory"), torch.stack(values).numpy(), {})
    return found


def _means_and_bounds(tally: _Tally, variance: Tensor, seed: int) -> dict[str, Tensor]:
    values = tally.values()
    count = len(values["crps"])
    found = _finished({name: value.mean(0) for name, value in values.items()}, variance, tally.members)
    resampled = {name: resampled_means(v, seed=seed) for name, v in values.items()}
    resampled = _finished(resampled, variance, tally.members)
    for name in SCORES.keys() & resampled.keys():
        found[f"{name}_low"], found[f"{name}_high"] = interval(resampled[name], count)
    return found


def _finished(means: Mapping[str, Tensor], variance: Tensor, members: int) -> dict[str, Tensor]:
    """Roots and ratios, once everything is averaged."""
    error = means["squared_error"]
    found = {**means, "skill": error.sqrt(), "vrmse_pooled": quotient(error, variance.expand_as(error)).sqrt()}
    found["rmse_member"] = found["skill"]
    if members > 1:
        found["rmse_member"] = (error + means["variance"] * (members - 1) / members).sqrt()  # 1/M Σ (uₘ − u)²
        found["spread"] = means["variance"].sqrt()
        found["spread_skill"] = spread_skill_ratio(means["variance"], means["squared_error"], members, average=())
    return found


def _correlation_times(tallies: Mapping[str, _Tally], leads: Tensor, seed: int) -> dict[str, Variable]:
    rows = {"correlation_time": [], "correlation_time_low": [], "correlation_time_high": [], "censored": []}
    for tally in tallies.values():
        curves = torch.stack(tally.states["correlation"]).transpose(1, 2)
        time, censored = correlation_time(curves, leads, THRESHOLD)
        bounds = interval(resampled_means(time, seed=seed), len(time))
        for name, value in zip(rows, (time.mean(0), *bounds, censored.sum(0)), strict=True):
            rows[name].append(value)
    found = {name: (("method", "field"), torch.stack(values).numpy(), {}) for name, values in rows.items()}
    about = asdict(OTHERS["correlation_time"])
    return {**found, "correlation_time": (*found["correlation_time"][:2], about)}


def _spectra(tallies: Mapping[str, _Tally], reference: Tensor | None, layout: Layout) -> dict[str, Variable]:
    """Mean spectra, and their errors by band at each lead, averaged over leads."""
    if reference is None:
        return {}
    last = resolved(reference, layout)
    power = torch.stack([tally.sums["spectrum"] / len(tally.states["crps"]) for tally in tallies.values()])
    found: dict[str, Variable] = {
        "spectrum": ((*LEAD, "wavenumber"), power.transpose(1, 2).numpy(), {}),
        "truth_spectrum": (("field", "lead_time", "wavenumber"), reference.transpose(0, 1).numpy(), {}),
        "wavenumber": (("wavenumber",), np.arange(power.shape[-1]), {}),
        "resolved": (("field",), np.array(last), {"long_name": "last wavenumber that the truth resolves"}),
    }
    if min(last) < 3:
        return found
    for distance in (spectral_rmse, spectral_rmse_paper, spectral_log_error):
        errors = [
            distance(power[:, :, c], reference[:, c].expand_as(power[:, :, c]), k_max=k) for c, k in enumerate(last)
        ]
        bands = torch.stack([torch.stack([band.mean(1) for band in e.values()], -1) for e in errors], 1)
        found[distance.__name__] = (("method", "field", "band"), bands.numpy(), asdict(OTHERS[distance.__name__]))
        found["band"] = (("band",), np.array(list(errors[0])), {})
    return found


def resolved(spectra: Tensor, layout: Layout, floor: float = 1e-8) -> list[float]:
    """For each field the last wavenumber in which the truth (L, C, K) has more than `floor` of its variance.

    A dealiased solver leaves nothing above it, and a ratio to nothing says nothing; at most Nyquist's.
    """
    most = _highest(layout.axes)
    variance = spectra.mean(0)[:, 1:]
    heard = variance > floor * variance.sum(-1, keepdim=True)
    return [min(float(row.nonzero().max() + 1), most) if row.any() else 0.0 for row in heard]


def _highest(axes: Sequence[Axis]) -> float:
    """The largest wavenumber that the periodic axes resolve, or degree that a sphere's grid does."""
    if is_sphere(axes):
        return largest_degree(axes[0].coordinates, len(axes[1]))
    periodic = [axis for axis in axes if axis.boundary == "periodic"]
    return nyquist([len(axis) for axis in periodic], [axis.length for axis in periodic])


def _ranks(tallies: Mapping[str, _Tally], leads: int, fields: int) -> dict[str, Variable]:
    """Relative frequency of each rank of the truth, padded with NaN to the largest ensemble."""
    width = max(tally.members for tally in tallies.values()) + 1
    table = torch.full((len(tallies), leads, fields, width), torch.nan, dtype=torch.float64)
    for row, tally in zip(table, tallies.values(), strict=True):
        if tally.members > 1:
            counts = tally.sums["ranks"]
            row[..., : tally.members + 1] = counts / counts.sum(-1, keepdim=True)
    return {"rank_histogram": ((*LEAD, "rank"), table.transpose(1, 2).numpy(), {})}


def _failures(tallies: Mapping[str, _Tally], leads: Tensor) -> dict[str, Variable]:
    """How many initial states a method failed from, and the earliest lead time of it."""
    failed = [torch.stack(tally.states["crps"]).isnan().any(-1) for tally in tallies.values()]
    first = [leads[bad.any(0)].min() if bad.any() else leads.new_tensor(torch.nan) for bad in failed]
    return {
        "failures": (("method",), np.array([int(bad.any(1).sum()) for bad in failed]), {}),
        "first_failure": (("method",), torch.stack(first).numpy(), {}),
    }


def _parameters(truth: xr.Dataset) -> list[dict[str, float]]:
    """The parameters of each trajectory: what numbers (trajectory) the truth has as coordinates."""
    numbers = {
        str(name): values.values.astype(float)
        for name, values in truth.coords.items()
        if values.dims == ("trajectory",) and values.dtype.kind in "fiu" and name != "trajectory"
    }
    return [{name: float(values[row]) for name, values in numbers.items()} for row in range(truth.sizes["trajectory"])]


def _physics(
    tallies: Mapping[str, _Tally], truth: xr.Dataset, layout: Layout, given: list[dict[str, float]] | None
) -> tuple[dict[str, Variable], dict[str, list[str]]]:
    """Quantities and profiles of forecasts against the truth's, and their names."""
    if given is None:
        return {}, {}
    pairs = zip(states_of(truth, layout), given, strict=True)
    happened = [measure(states[None], layout, known).condensed() for states, known in pairs]
    methods = {name: tally.measured for name, tally in tallies.items()}
    return compared(methods, happened, layout, list(given[0]))


def _variance(truth: xr.Dataset, layout: Layout, weights: Tensor | None) -> Tensor:
    """The truth's variance over space and initial states, (L, C)."""
    means = torch.zeros(2, truth.sizes["lead_time"], len(layout.fields), dtype=torch.float64)
    for states in states_of(truth, layout):
        u = states.double()
        means += torch.stack([spatial_mean(power, space=layout.space, weights=weights) for power in (u, u**2)])
    first, second = means / truth.sizes["trajectory"]
    return (second - first**2).clamp_min(0)


def _reference_spectrum(truth: xr.Dataset, layout: Layout, weights: Tensor | None) -> Tensor | None:
    """The truth's mean spectrum (L, C, K)."""
    spectra = []
    for row, states in enumerate(states_of(truth, layout)):
        if not states.isfinite().all():
            raise DataError(f"the truth of initial state {row} is not finite; choose trajectories without gaps")
        spectra.append(spectrum(states, layout, weights))
    return None if spectra[0] is None else torch.stack(spectra).double().mean(0)
