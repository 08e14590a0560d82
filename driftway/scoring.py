"""Forecasts on disk against the data they started from: scores with references beside them, and the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from driftway.checkpoints import read_json
from driftway.codecs import Identity
from driftway.data import Trajectories, open_data
from driftway.data.forecasts import open_forecast
from driftway.data.layout import Layout
from driftway.emulator import Emulator
from driftway.errors import ConfigError, DataError
from driftway.evaluation import SCORES, score
from driftway.findings import findings
from driftway.forecasting import COST
from driftway.pictures import Case
from driftway.report import build
from driftway.steppers import Climatology, Persistence
from driftway.storage import atomic_write, explained
from driftway.training import history

ORIGIN = ("split", "start", "stride")


def evaluate_forecasts(paths: Sequence[Path], data: Path, out: Path) -> dict[str, Any]:
    """Score forecasts of the same initial states, beside persistence, climatology and the autoencoder's own floor.

    Every score goes to the JSON file `out`; returned are their means over lead times.
    """
    forecasts = open_forecasts(paths)
    whole = open_data(data)
    truth, layout = matching_truth(forecasts, whole)
    scores = score({**references(forecasts, whole, truth, layout), **forecasts}, truth, layout)
    for name in COST:
        values = [
            float(forecasts[m].attrs.get(name, np.nan)) if m in forecasts else np.nan for m in scores.method.values
        ]
        scores[name] = ("method", values)
    save_scores(scores, out)
    return {"scores": str(out), "findings": findings(scores), **summary(scores)}


def open_forecasts(paths: Sequence[Path]) -> dict[str, xr.Dataset]:
    """Forecasts by the label they carry."""
    if not paths:
        raise ConfigError("give at least one forecast to evaluate")
    opened = [open_forecast(path) for path in paths]
    labels = [str(f.attrs.get("label", path.stem)) for f, path in zip(opened, paths, strict=True)]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ConfigError(f"two forecasts have the label '{twice}'; make one again with another --label")
    return dict(zip(labels, opened, strict=True))


def matching_truth(forecasts: Mapping[str, xr.Dataset], data: Trajectories) -> tuple[xr.Dataset, Layout]:
    """What happened at the leads of forecasts that share their initial states."""
    sizes = ("lead_time", "trajectory")
    origins = {
        name: (*(f.attrs.get(key) for key in ORIGIN), *(f.sizes[dim] for dim in sizes)) for name, f in forecasts.items()
    }
    if len(set(origins.values())) > 1:
        raise DataError(f"forecasts differ in ({', '.join((*ORIGIN, *sizes))}): {origins}; score them apart")
    split, start, stride, leads, count = next(iter(origins.values()))
    if split is None or start is None or stride is None:
        raise DataError("the forecasts do not say what they started from; make them with `driftway forecast`")
    part = data.split(str(split))
    part = part.select(range(min(int(count), part.shape[0])))
    layout = Layout(part.fields, part.axes, part.dt * int(stride), part.time_units)
    return truth_for(part, int(start), int(leads), int(stride)), layout


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


# --- references ----------------------------------------------------------------------------------------------------


def references(
    forecasts: Mapping[str, xr.Dataset], data: Trajectories, truth: xr.Dataset, layout: Layout
) -> dict[str, xr.Dataset]:
    """What any forecast is measured against: persistence, climatology, and the truth encoded and decoded."""
    first = next(iter(forecasts.values())).attrs
    states = _initial_states(data, first, truth.sizes["trajectory"])
    steppers = {"persistence": Persistence(), "climatology": Climatology(_mean_state(data))}
    leads = truth.sizes["lead_time"]
    found = {name: Emulator(Identity(), s, layout).forecast(states, leads) for name, s in steppers.items()}
    run = Path(str(first.get("run", "")))
    return {**found, "autoencoder floor": floor(Emulator.load(run), truth)} if _has_floor(run) else found


def _initial_states(data: Trajectories, origin: Mapping[str, Any], count: int) -> np.ndarray:
    part = data.split(str(origin["split"])).select(range(count))
    return np.asarray(part.window(int(origin["start"]), 1).states)[:, 0]


def _mean_state(data: Trajectories) -> torch.Tensor:
    """The mean over trajectories and times of the training split, (C, *S)."""
    train = data.split("train")
    total = sum(np.asarray(train.states[[row]], np.float64).mean((0, 1)) for row in range(train.shape[0]))
    return torch.from_numpy(np.asarray(total / train.shape[0], np.float32))


def _has_floor(run: Path) -> bool:
    """Whether a run's codec loses something: standardisation alone does not. Parameters are not known here."""
    if not (run / "emulator.json").is_file():
        return False
    spec = read_json(run / "emulator.json", "a run")
    return any(codec["type"] == "autoencoder" for codec in spec["codec"]) and not spec["parameters"]


@torch.no_grad()
def floor(emulator: Emulator, truth: xr.Dataset) -> xr.Dataset:
    """The truth encoded and decoded: no forecast through this codec can be expected to do better."""
    layout = emulator.layout
    dims = ("trajectory", "lead_time", *(axis.name for axis in layout.axes))
    states = torch.from_numpy(np.stack([truth[name].transpose(*dims).values for name in layout.fields.names], 2))
    decoded = torch.stack([emulator.codec.decode(emulator.codec.encode(part)) for part in states]).numpy()
    variables = {name: (dims, decoded[:, :, c]) for c, name in enumerate(layout.fields.names)}
    return xr.Dataset(variables, {"lead_time": truth["lead_time"]}).expand_dims("realization")


# --- scores on disk ------------------------------------------------------------------------------------------------


def summary(scores: xr.Dataset) -> dict[str, dict[str, float]]:
    """Each method's cost and scores, these as means over lead times and fields."""
    means = scores[list(SCORES)].mean(("lead_time", "field"), skipna=False)
    table = means.assign({name: scores[name] for name in ("members", "failures", *COST) if name in scores})
    return {str(m): {str(n): float(table[n].sel({"method": m})) for n in table.data_vars} for m in scores["method"].values}


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


# --- the report ----------------------------------------------------------------------------------------------------


def report_folder(folder: Path, out: Path, title: str = "", trajectory: int = 0) -> Path:
    """One HTML page from `scores.json` and `forecasts/*.zarr` in a folder; the runs behind them are described."""
    scores = load_scores(folder / "scores.json")
    forecasts = open_forecasts(sorted((folder / "forecasts").glob("*.zarr")))
    source = Path(str(next(iter(forecasts.values())).attrs["data"]))
    data = open_data(source)
    truth, _ = matching_truth(forecasts, data)
    ordered = [str(m) for m in scores["method"].values if str(m) in forecasts]
    runs = {Path(str(forecasts[name].attrs["run"])) for name in ordered}
    return build(
        out,
        title=title or f"Forecasts of {', '.join(data.fields.names)}",
        cases=[_case({name: forecasts[name] for name in ordered}, truth, trajectory)],
        scores=scores,
        summary=[{"method": name, **values} for name, values in summary(scores).items()],
        run=_facts(data, source, runs),
        findings=findings(scores),
        curves={run.name: history(run) for run in sorted(runs)},
    )


def _case(forecasts: Mapping[str, xr.Dataset], truth: xr.Dataset, trajectory: int) -> Case:
    """One initial state to look at."""
    shown = {name: f.isel(trajectory=trajectory).load() for name, f in forecasts.items() if f.sizes["realization"] > 1}
    return Case(f"test trajectory {trajectory}", truth.isel(trajectory=trajectory), shown)


def _facts(data: Trajectories, source: Path, runs: set[Path]) -> dict[str, Any]:
    from driftway.doctor import examine

    manifests = [(run.name, run / "manifest.json") for run in sorted(runs)]
    return {
        "data": {"path": str(source), "fingerprint": data.fingerprint(), **dict(data.attributes)},
        "machine": examine(),
        "runs": {name: read_json(path, "a run") for name, path in manifests if path.is_file()},
    }
