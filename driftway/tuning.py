"""Tuning: the sampler of a trained emulator, its steps and its two dials, chosen by scores on the validation split.

Every candidate forecasts the same initial states with the same noise, so that scores differ by the sampler alone and
their differences are paired. A candidate from which any rollout leaves the finite numbers scores infinite.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from driftway.build import describe_sampler, save_sampler
from driftway.by_field import check_states, halves
from driftway.candidates import candidates, in_short
from driftway.checkpoints import read_json
from driftway.data import Trajectories, open_data
from driftway.data.layout import Layout
from driftway.data.starts import begun, start_frames, start_names
from driftway.data.trajectories import Conditioning
from driftway.emulator import Emulator, Known
from driftway.errors import ConfigError, DataError, naming
from driftway.evaluation import resolved, score, spectrum
from driftway.forecasting import cost, initial_states, stride_of
from driftway.glossary import SCORES
from driftway.metrics import spectral_log_error
from driftway.progress import progress
from driftway.purposes import LARGE, PURPOSES, Record, no_spectra
from driftway.runs import locked, seal
from driftway.samplers import Sampler
from driftway.schema import load_experiment
from driftway.scoring import truth_for
from driftway.steppers import Generative
from driftway.storage import atomic_write, without_nan
from driftway.tried import tried_of
from driftway.version import __version__

SPLIT, RECORD = "valid", "tuned.json"
STATES = 16  # initial states that a search starts from, where there are as many

MEANS = ("crps", "vrmse", "vrmse_member", "nrmse", "energy_score")
STATE_LISTS = ("crps_states", "vrmse_states", "spectral_states", "spectral_half_states")
SPECTRAL, BANDS = ("spectral_rmse", "spectral_log_error"), ("low", "mid", "high")


# --- the scores of samplers ----------------------------------------------------------------------------------------


def scores_of_samplers(
    emulator: Emulator,
    data: Trajectories,
    samplers: Sequence[Sampler],
    *,
    split: str,
    leads: int,
    members: int,
    trajectories: int | None = None,
    starts: int = 1,
    seed: int = 0,
    batch: int = 64,
    by_field: bool = False,
) -> list[Record]:
    """One plain record of scores for each sampler, all from the same initial states and noise.

    trajectories: how many of the split, at most and by default all; starts: frames of each, evenly spaced, to start
    from. Scores are means over leads and fields, of one field in its units; of several, `crps` and `energy_score`
    count in units of each field's standard deviation over the truth.

    A record holds `sampler` (its description), `repr`, `name` (in short), `calls`, `ms_per_step`, `failures`; scores
    `crps`, `vrmse`, `vrmse_member`, `nrmse`, `energy_score`, `spread_skill` and its lowest and highest lead in `…_low`
    and `…_high`, `spectral_rmse_low`, `…_mid`, `…_high`, and `spectral_log_error` alike; and lists over initial states,
    `crps_states`, `vrmse_states` and `spectral_states`, the jackknife pseudo-values of the spectral log error, its low
    and mid band averaged. Scores are infinite where `failures` is not 0, and NaN where they are not defined.

    by_field: a record then also holds under `fields`, by name, the same scores and lists of each field alone, in `half`
    which half of the initial states each belongs to, and in `spectral_half_states` the jackknife within halves.
    """
    part = emulator.told(data.split(split))
    emulator.check_known(part)
    part = part if trajectories is None else part.select(range(min(trajectories, part.shape[0])))
    cases = _cases(emulator.layout, part, leads, starts, split)
    records = []
    with progress("samplers", len(samplers)) as task:
        for sampler in samplers:
            other = emulator.with_sampler(sampler)
            ensemble = other.forecast(
                cases.states, leads, members, seed=seed, batch=batch, keys=cases.keys, conditioning=cases.known
            )
            half = cases.half if by_field else None
            records.append({**_about(other, sampler), **_scores(ensemble, cases.truth, emulator.layout, seed, half)})
            task.advance()
    return records


class Cases(NamedTuple):
    """Initial states (N, C, *S), the keys of their noise, what is known at each lead, what happened, and which half."""

    states: np.ndarray
    keys: list[str]
    known: Known
    truth: xr.Dataset
    half: list[int]


def _cases(layout: Layout, part: Trajectories, leads: int, starts: int, split: str) -> Cases:
    stride = stride_of(layout, part)
    frames = start_frames(part.shape[1], leads * stride, starts)
    every = begun(part, frames)
    rows = np.arange(every.shape[0])

    def known(lead: int) -> Conditioning:
        return every.conditioning(rows, np.full(len(rows), (lead - 1) * stride), stride)

    called, half = start_names(split, part.shape[0], frames), halves(part.shape[0], len(frames))
    return Cases(initial_states(layout, every, called), called, known, truth_for(every, leads, stride), half)


def _about(emulator: Emulator, sampler: Sampler) -> Record:
    spent = cost(emulator)
    return {
        "sampler": describe_sampler(sampler),
        "repr": repr(sampler),
        "name": in_short(sampler),
        **{name: spent[name] for name in ("calls", "ms_per_step") if name in spent},
    }


def _scores(ensemble: xr.Dataset, truth: xr.Dataset, layout: Layout, seed: int, half: Sequence[int] | None) -> Record:
    """Means over fields; with the halves of the initial states also the scores of each field."""
    found = score({"it": ensemble}, truth, layout, seed=seed, physics=False).isel(method=0)
    scales, names = field_scales(truth, layout), [*MEANS, "spread_skill", "crps_states", "vrmse_states"]
    dimensional = {name: found[name] / scales for name in names if SCORES[name.removesuffix("_states")].dimensional}
    states = {"spectral_states": _spectral_states(ensemble, truth, layout)}
    if half is not None:
        states["spectral_half_states"] = _within_halves(ensemble, truth, layout, half)
    spectral = {name: (("trajectory", "field"), values) for name, values in states.items()}
    found = found.assign({**dimensional, **spectral})
    record = _averaged(found)
    if half is None:
        return record
    return {**record, "half": list(half), "fields": {n: _averaged(found.sel(field=[n])) for n in layout.fields.names}}


def _averaged(found: xr.Dataset) -> Record:
    """Scores as means over leads and the fields that there are, and of each initial state."""

    def mean(name: str) -> float:
        return float(found[name].mean(skipna=False))

    ratio, failures = found["spread_skill"], int(found["failures"])
    scores = {name: mean(name) for name in (*MEANS, "spread_skill")}
    scores |= {"spread_skill_low": float(ratio.min(skipna=False)), "spread_skill_high": float(ratio.max(skipna=False))}
    scores |= {f"{name}_{band}": _in_band(found, name, band) for name in SPECTRAL for band in BANDS}
    lists = [str(name) for name in found if str(name) in STATE_LISTS]
    states = {name: found[name].mean("field", skipna=False).values for name in lists}
    if failures:
        scores = dict.fromkeys(scores, math.inf)
        states = {name: np.where(np.isnan(values), math.inf, values) for name, values in states.items()}
    return {**scores, "failures": failures, **{name: values.tolist() for name, values in states.items()}}


def field_scales(truth: xr.Dataset, layout: Layout) -> xr.DataArray:
    """What the errors of a field count in: its own units if it is alone, else its standard deviation over the truth."""
    names = list(layout.fields.names)
    stds = [1.0] if len(names) == 1 else [_std(truth[name], layout) for name in names]
    return xr.DataArray(stds, {"field": names}, "field")


def _std(field: xr.DataArray, layout: Layout) -> float:
    values = field.transpose(..., *(axis.name for axis in layout.axes)).values.astype(np.float64)
    weights = None if layout.weights is None else np.broadcast_to(layout.weights.numpy(), values.shape)
    return float(np.average((values - np.average(values, weights=weights)) ** 2, weights=weights) ** 0.5)


def _in_band(found: xr.Dataset, name: str, band: str) -> float:
    return float(found[name].sel(band=band).mean(skipna=False)) if name in found else math.nan


def _spectral_states(ensemble: xr.Dataset, truth: xr.Dataset, layout: Layout) -> np.ndarray:
    """Jackknife pseudo-values Nθ − (N−1)θ₋ᵢ (N, C) of the spectral log error θ, whose spectra are means over N states.

    Their scatter tells how much θ, which no state has by itself, depends on the states that there happen to be.
    """
    powers, truths = (_spectra(found, layout) for found in (ensemble, truth.expand_dims("realization")))
    count = len(truth["trajectory"])
    if powers is None or truths is None:
        return np.full((count, len(layout.fields)), math.nan)
    last = resolved(truths.mean(0), layout)
    whole = _log_error(powers.mean(0, keepdim=True), truths.mean(0, keepdim=True), last)
    if count == 1:
        return whole.numpy()
    one_less, truth_less = ((spectra.sum(0) - spectra) / (count - 1) for spectra in (powers, truths))
    return (count * whole - (count - 1) * _log_error(one_less, truth_less, last)).numpy()


def _within_halves(ensemble: xr.Dataset, truth: xr.Dataset, layout: Layout, half: Sequence[int]) -> np.ndarray:
    """The same of each half alone, so that neither knows of the other."""
    found = np.empty((len(half), len(layout.fields)))
    for rows in (np.flatnonzero(np.equal(half, which)) for which in (0, 1)):
        if len(rows):
            found[rows] = _spectral_states(ensemble.isel(trajectory=rows), truth.isel(trajectory=rows), layout)
    return found


def _spectra(states: xr.Dataset, layout: Layout) -> Tensor | None:
    """Power (N, L, C, K) of each initial state, averaged over members."""
    dims = ("realization", "lead_time", *(axis.name for axis in layout.axes))
    found = []
    for row in range(states.sizes["trajectory"]):
        one = states.isel(trajectory=row)
        values = [one[name].transpose(*dims).values for name in layout.fields.names]
        power = spectrum(torch.from_numpy(np.stack(values, 2)), layout)
        if power is None:
            return None
        found.append(power.double().mean(0))
    return torch.stack(found)


def _log_error(power: Tensor, truth: Tensor, last: Sequence[float]) -> Tensor:
    """(N, C) from spectra (N, L, C, K): the mean over leads and the low and mid bands."""
    if min(last) < 3:
        return torch.full((len(power), len(last)), math.nan, dtype=torch.float64)
    errors = [spectral_log_error(power[:, :, c], truth[:, :, c], k_max=k) for c, k in enumerate(last)]
    return torch.stack([torch.stack([error[band].mean(1) for band in LARGE]).mean(0) for error in errors], 1)


# --- a run ---------------------------------------------------------------------------------------------------------


def tune_run(
    run: Path,
    *,
    purpose: str,
    data: Path | None = None,
    calls: int = 10,
    leads: int = 10,
    members: int = 8,
    trajectories: int | None = None,
    starts: int | None = None,
    seed: int = 0,
    batch: int = 64,
    by: str = "run",
) -> dict[str, Any]:
    """Choose a run's sampler on the validation split and store it with the emulator; weights stay as they are.

    purpose: a key of `PURPOSES`; data: by default the data set that the run was fitted to; calls: most network calls a
    step; trajectories, starts: as in `scores_of_samplers`, by default what makes 16 initial states of forecasts that
    do not overlap; by: `run`, one sampler for all fields, or `field`, one for each besides.

    Every candidate and its scores go to `tuned.json` in the run folder, the best first. Returns the sampler chosen and
    the one before, with their scores, how many candidates there were and how many diverged, and the five best in words;
    by field also what `choose_by_field` tells.
    """
    emulator, source = Emulator.load(run), _data_of(run) if data is None else data
    stepper, by_field = _tunable(emulator, run, purpose, members), _by_field(by)
    with naming(source), locked(run / "lock"):
        began, whole = time.monotonic(), open_data(source)
        settings = _settings(emulator.layout, whole, leads, trajectories, starts)
        if by_field:
            check_states(settings["trajectories"] * settings["starts"])
        settings |= {"split": SPLIT, "leads": leads, "members": members, "seed": seed}
        samplers = candidates(stepper, calls)
        records = scores_of_samplers(emulator, whole, samplers, **settings, batch=batch, by_field=by_field)
        tried = tried_of(records, purpose, calls, by_field)
        about = {
            "driftway": __version__,
            "for": purpose,
            "by": by,
            "score": PURPOSES[purpose].about,
            "at_most": calls,
            **settings,
            "data": str(source.resolve()),
            "fingerprint": whole.fingerprint(),
            "sha256": read_json(run / "emulator.json", "a run")["sha256"],
            "seconds": round(time.monotonic() - began, 1),
        }
        own = {name: samplers[found["chosen"]] for name, found in tried.by_field.get("fields", {}).items()}
        _store(run, {**about, **tried.record()}, samplers[tried.chosen], own)
    return {"run": str(run), "for": purpose, "by": by, **tried.summary(), "record": str(run / RECORD)}


def _by_field(by: str) -> bool:
    if by not in ("run", "field"):
        raise ConfigError(f"by '{by}' is neither run, one sampler for all fields, nor field, one for each")
    return by == "field"


def _tunable(emulator: Emulator, run: Path, purpose: str, members: int) -> Generative:
    """The stepper, if there is something to tune, and it can be told when it is good."""
    stepper, axes = emulator.stepper, emulator.layout.axes
    if not isinstance(stepper, Generative):
        raise ConfigError(f"{run} steps by {type(stepper).__name__}, which has no sampler: there is nothing to tune")
    if purpose not in PURPOSES:
        raise ConfigError(f"purpose '{purpose}' is none of {', '.join(PURPOSES)}: choose one of these")
    if members < 2:
        raise ConfigError(f"{members} member has no spread to be judged by: give at least 2 members")
    if PURPOSES[purpose].spectral and not any(axis.boundary == "periodic" for axis in axes):
        raise ConfigError(no_spectra(purpose))
    return stepper


def _data_of(run: Path) -> Path:
    """The data set that a run was fitted to."""
    config = run / "config.yaml"
    if not config.is_file():
        raise ConfigError(f"{config} is missing, which tells the data set that the run was fitted to: give --data")
    path = Path(load_experiment(config).data.path)
    if not path.exists():
        raise DataError(f"{path}, which {run} was fitted to, is not there: give --data")
    return path


def _settings(
    layout: Layout, data: Trajectories, leads: int, trajectories: int | None, starts: int | None
) -> dict[str, Any]:
    """Trajectories, and starts from each: by default for 16 initial states, where forecasts need not overlap."""
    valid = data.split(SPLIT)
    count = min(trajectories or STATES, valid.shape[0])
    apart = (valid.shape[1] - 1) // (leads * stride_of(layout, valid))
    return {"trajectories": count, "starts": starts or max(1, min(math.ceil(STATES / count), apart))}


def _store(run: Path, record: Mapping[str, Any], sampler: Sampler, samplers: Mapping[str, Sampler]) -> None:
    """First the record, then the choice: a crash between them leaves the emulator as it was."""
    atomic_write(run / RECORD, json.dumps(without_nan(record), indent=1, ensure_ascii=False).encode())
    save_sampler(run, sampler, samplers)
    seal(run)
