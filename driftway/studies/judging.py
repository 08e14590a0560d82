"""Scores of a fitted run on one split, with what its forecast costs; a training that diverged scores as a failure."""

from __future__ import annotations

import contextlib
import ctypes
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from driftway.data import Trajectories, open_data
from driftway.data.cf import land_of
from driftway.data.climatologies import DATE, climatology_at
from driftway.data.forecasts import open_forecast
from driftway.data.layout import Layout
from driftway.data.starts import begun, start_frames
from driftway.evaluation import score
from driftway.forecasting import COST, forecast_run
from driftway.report.pictures import Case
from driftway.samplers import Sampler
from driftway.schema import EvaluationSection
from driftway.scoring import baselines, case_of, floors, truth_for, usual
from driftway.tuning import field_scales
from driftway.workflow import finished

COSTS = (*COST, "forecast_seconds", "peak_memory")
MEMORY = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def judge(
    run: Path,
    data: Path,
    judged: EvaluationSection,
    label: str,
    stride: int = 1,
    sampler: Sampler | None = None,
    picture: Path | None = None,
    anomalies: bool = False,
) -> xr.Dataset:
    """All scores of a run as `driftway.evaluation.score` gives them, of the one method `label`, and its costs.

    label: different for those that judge one run at a time; stride: frames of the data in one step; picture: where to
    keep the forecast from the first initial state; anomalies: score them too, where data have a calendar
    """
    whole = open_data(data)
    truth, layout = _truth(_part(whole, judged, stride), judged, stride)
    expected = climatology_at(whole.split("train"), truth, layout) if anomalies and DATE in truth.coords else None
    if not finished(run):
        diverged = truth.expand_dims("realization") * np.nan
        return _costs(score({label: diverged}, truth, layout, climatology=expected), {})
    scratch = run / f"forecast-{label}.zarr"
    settings: dict[str, Any] = {**judged.model_dump(), "sampler": sampler, "label": label, "force": True}
    try:
        with peak_memory() as memory:
            began = time.perf_counter()
            forecast_run(run, data, scratch, **settings)
            seconds = time.perf_counter() - began
        forecast = open_forecast(scratch)
        found = score({label: forecast}, truth, layout, climatology=expected)
        costs = {name: forecast.attrs[name] for name in COST if name in forecast.attrs}
        if picture is not None:
            forecast_run(run, data, picture, **{**settings, "trajectories": 1, "starts": 1})
        return _costs(found, {**costs, "forecast_seconds": seconds, "peak_memory": memory[0]})
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def mean_crps(found: xr.Dataset, data: Path, judged: EvaluationSection, stride: int = 1) -> float:
    """The CRPS of one method over leads and fields, of several fields in their standard deviations.

    Infinite where a forecast diverged: a mean over the leads before would be that of a short forecast.
    """
    scales = field_scales(*_truth(_part(open_data(data), judged, stride), judged, stride))
    mean = float((found["crps"] / scales).mean(skipna=False))
    return mean if math.isfinite(mean) else math.inf


def judge_references(
    runs: Mapping[str, str], data: Path, judged: EvaluationSection, stride: int
) -> dict[str, xr.Dataset]:
    """Scores of persistence, climatology and the truth through the autoencoders of runs (folder → name)."""
    whole = open_data(data)
    part = _part(whole, judged, stride)
    truth, layout = _truth(part, judged, stride)
    rows = np.arange(part.shape[0])
    params = part.fixed(rows)
    beside = {**baselines(whole, part, truth, layout), **floors(runs, truth, params)}
    expected = usual(beside, truth)
    return {n: _costs(score({n: f}, truth, layout, climatology=expected), {}) for n, f in beside.items()}


def pictured(forecasts: Mapping[str, Path], data: Path, judged: EvaluationSection, stride: int) -> Case | None:
    """The first initial state with the forecasts that `judge` kept of it; None where there are none, or no data."""
    found = {name: open_forecast(path) for name, path in forecasts.items() if path.exists()}
    if not found or not data.exists():
        return None
    part = _part(open_data(data), judged, stride).select([0])
    truth, layout = _truth(part, judged, stride)
    return case_of(found, truth, layout, 0, land_of(part.static))


def _part(data: Trajectories, judged: EvaluationSection, stride: int) -> Trajectories:
    """The trajectories that are forecast, from their initial states on."""
    part = data.split(judged.split)
    some = part if judged.trajectories is None else part.select(range(min(judged.trajectories, part.shape[0])))
    return begun(some, start_frames(some.shape[1], judged.leads * stride, judged.starts))


def _truth(part: Trajectories, judged: EvaluationSection, stride: int) -> tuple[xr.Dataset, Layout]:
    layout = Layout(part.fields, part.axes, part.dt * stride, part.time_units)
    return truth_for(part, judged.leads, stride), layout


def _costs(scores: xr.Dataset, costs: dict[str, float]) -> xr.Dataset:
    return scores.assign({name: ("method", [float(costs.get(name, math.nan))]) for name in COSTS})


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """By how many bytes the block raised the process's resident memory at most; NaN where Linux does not tell."""
    grown = [math.nan]
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed before would hide what is needed now
    before = _resident("VmRSS")
    try:
        MEMORY[0].write_text("5")  # forget the peak so far
    except OSError:
        before = math.nan
    yield grown
    grown[0] = _resident("VmHWM") - before


def _resident(name: str) -> float:
    try:
        lines = MEMORY[1].read_text().splitlines()
    except OSError:
        return math.nan
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith(name)), math.nan)
