"""From a finished run to forecasts, scores and a report on disk: what the command line's last three verbs do."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from driftway.build import build_sampler
from driftway.config import parse_value
from driftway.data import Trajectories, open_data
from driftway.data.forecasts import open_forecast
from driftway.data.layout import Layout
from driftway.emulator import Emulator
from driftway.errors import ConfigError, DataError
from driftway.evaluation import SCORES, score
from driftway.samplers import Sampler
from driftway.storage import atomic_write, explained


def forecast_run(
    run: Path,
    data: Path,
    out: Path,
    *,
    leads: int,
    members: int,
    split: str = "test",
    trajectories: int | None = None,
    start: int = 0,
    sampler: str | None = None,
    seed: int = 0,
    batch: int = 64,
    force: bool = False,
) -> dict[str, Any]:
    """Forecast from one frame of each trajectory of a split and stream the ensemble to `out`."""
    emulator = Emulator.load(run)
    part = open_data(data).split(split)
    part = part if trajectories is None else part.select(range(min(trajectories, part.shape[0])))
    chosen = None if sampler is None else build_sampler(parse_value(sampler, "--sampler"))
    origin = {"run": str(run), "data": str(data), "split": split, "start": start}
    return forecast_to(
        emulator, part, out, leads, members, sampler=chosen, start=start, seed=seed, batch=batch, force=force, origin=origin
    )


def forecast_to(
    emulator: Emulator,
    part: Trajectories,
    out: Path,
    leads: int,
    members: int,
    *,
    sampler: Sampler | None = None,
    start: int = 0,
    seed: int = 0,
    batch: int = 64,
    force: bool = False,
    origin: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Stream the forecast of every trajectory of `part` to `out`; returns what it cost."""
    check_fit(emulator.layout, part)
    if not 0 <= start < part.shape[1]:
        raise ConfigError(f"start {start} lies outside the {part.shape[1]} frames of the data")
    began = time.perf_counter()
    states = np.asarray(part.window(start, 1).load().states)[:, 0]
    emulator.forecast(
        states,
        leads,
        members,
        seed=seed,
        sampler=sampler,
        batch=batch,
        out=out,
        force=force,
        attributes={"start": start, **(origin or {})},
    )
    seconds = time.perf_counter() - began
    steps = leads * members * len(states)
    return {"forecast": str(out), "seconds": round(seconds, 2), "ms_per_member_step": round(1e3 * seconds / steps, 3)}


def check_fit(layout: Layout, data: Trajectories) -> None:
    """Raise unless a data set has the fields and the grid that an emulator works on."""
    found = (len(data.fields), *(len(axis) for axis in data.axes))
    if data.fields.names != layout.fields.names or found != layout.shape:
        raise DataError(
            f"the emulator takes {', '.join(layout.fields.names)} on {layout.shape[1:]}, the data hold "
            f"{', '.join(data.fields.names)} on {found[1:]}: choose data of the same fields and grid"
        )


def truth_for(part: Trajectories, start: int, leads: int, stride: int = 1) -> xr.Dataset:
    """What the forecast of `leads` steps from frame `start` is compared with: (trajectory, lead_time, *axes)."""
    last = start + leads * stride
    if last >= part.shape[1]:
        raise DataError(f"{leads} leads from frame {start} need {last + 1} frames; the data have {part.shape[1]}")
    window = part.window(start, last - start + 1).load()
    states = np.asarray(window.states)[:, stride::stride]
    layout = Layout(part.fields, part.axes, part.dt * stride, part.time_units)
    dims = ("trajectory", "lead_time", *(axis.name for axis in part.axes))
    variables = {name: (dims, states[:, :, c]) for c, name in enumerate(part.fields.names)}
    lead = (("lead_time",), layout.lead_times(leads), {"time_units": layout.time_units})
    return xr.Dataset(variables, {"lead_time": lead})


def evaluate_forecasts(paths: Sequence[Path], data: Path, out: Path) -> dict[str, Any]:
    """Score forecasts on disk, write every score to `out`, return the means over lead times."""
    forecasts = {path.stem: open_forecast(path) for path in paths}
    truth, layout = _matching_truth(forecasts, open_data(data))
    scores = score(forecasts, truth, layout)
    save_scores(scores, out)
    return {"scores": str(out), **summary(scores)}


def _matching_truth(forecasts: Mapping[str, xr.Dataset], data: Trajectories) -> tuple[xr.Dataset, Layout]:
    if not forecasts:
        raise ConfigError("give at least one forecast to evaluate")
    origins = {(f.attrs.get("split"), f.attrs.get("start"), f.sizes["lead_time"], f.sizes["trajectory"]) for f in forecasts.values()}
    if len(origins) > 1:
        raise DataError(f"the forecasts differ in split, start, leads or number of states: {sorted(map(str, origins))}")
    split, start, leads, count = origins.pop()
    part = data if split is None else data.split(str(split))
    part = part.select(range(min(count, part.shape[0])))
    first = next(iter(forecasts.values()))
    stride = max(1, round(float(first["lead_time"][0]) / part.dt))
    layout = Layout(part.fields, part.axes, part.dt * stride, part.time_units)
    return truth_for(part, int(start or 0), int(leads), stride), layout


def summary(scores: xr.Dataset) -> dict[str, dict[str, float]]:
    """Each method's scores, mean over lead times and fields."""
    means = scores[list(SCORES)].mean(("lead_time", "field"), skipna=False)
    return {
        str(method): {name: float(means[name].sel(method=method)) for name in SCORES}
        for method in scores["method"].values
    }


def save_scores(scores: xr.Dataset, path: Path) -> None:
    """All scores as JSON, with dims, coordinates and attributes."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(_without_nan(scores.to_dict())).encode())


def load_scores(path: Path) -> xr.Dataset:
    """What `save_scores` wrote."""
    try:
        return xr.Dataset.from_dict(_with_nan(json.loads(path.read_text())))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} holds no scores ({error}); make it with `driftway evaluate`") from error


def _without_nan(value: Any) -> Any:
    """NaN and infinities, which JSON has not, as null."""
    if isinstance(value, dict):
        return {key: _without_nan(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _with_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: v if key in ("attrs", "dims") else _with_nan(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_with_nan(v) for v in value]
    return float("nan") if value is None else value


def seconds_per_step(emulator: Emulator, sampler: Sampler | None, batch: int = 16, repeats: int = 5) -> tuple[float, int]:
    """Measured seconds of one step of one member in encoded space, and the network calls that it makes."""
    chosen = emulator.with_sampler(sampler)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    network = getattr(chosen.stepper, "network", None)
    handle = network.register_forward_hook(count) if isinstance(network, torch.nn.Module) else None
    u = torch.zeros(batch, *emulator.layout.shape)
    keys = [(i, 0) for i in range(batch)]
    with torch.no_grad():
        v = chosen.codec.encode(u)
        began = time.perf_counter()
        for lead in range(repeats):
            v = chosen.stepper.step(v, stream=chosen.noise_stream(0, lead, keys))
        seconds = (time.perf_counter() - began) / repeats / batch
    if handle is not None:
        handle.remove()
    return seconds, calls // repeats
