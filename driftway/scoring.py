"""Forecasts on disk against the data they started from: scores with references beside them, and the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from driftway.build import AUTOENCODERS
from driftway.checkpoints import read_json
from driftway.codecs import Identity, same_weights
from driftway.data import Trajectories, open_data
from driftway.data.axes import Axis
from driftway.data.cf import land_of
from driftway.data.climatologies import DATE, climatologies, valid_times
from driftway.data.forecasts import open_forecast
from driftway.data.layout import Layout
from driftway.data.starts import begun, first_states
from driftway.emulator import Emulator
from driftway.errors import ConfigError, DataError
from driftway.evaluation import score
from driftway.forecasting import COST, digest_of
from driftway.glossary import REFERENCES, SCORES, is_reference
from driftway.report.findings import findings
from driftway.report.page import build
from driftway.report.pictures import Case
from driftway.report.plotting import of
from driftway.report.styling import field_names
from driftway.steppers import Persistence
from driftway.storage import atomic_write, explained, without_nan
from driftway.training import history


def evaluate_forecasts(paths: Sequence[Path], data: Path, out: Path) -> dict[str, Any]:
    """Score forecasts of the same initial states, beside persistence, climatology and the autoencoder's own floor.

    Every score goes to the JSON file `out`; returned are their means over lead times.
    """
    forecasts = open_forecasts(paths)
    whole = open_data(data)
    truth, layout = matching_truth(forecasts, whole)
    beside = references(forecasts, whole, truth, layout)
    everyone = {**beside, **forecasts}
    scores = score(everyone, truth, layout, climatology=usual(beside, truth)).assign(_origins(everyone))
    save_scores(scores, out)
    return {"scores": str(out), "findings": findings(scores), **summary(scores)}


def _origins(forecasts: Mapping[str, xr.Dataset]) -> dict[str, tuple[str, list[Any]]]:
    """What each forecast says of itself: its run and sampler, which choose how it is drawn, and its cost."""
    names = run_names(forecasts)
    attributes = {name: forecast.attrs for name, forecast in forecasts.items()}
    found: dict[str, list[Any]] = {name: [float(a.get(name, np.nan)) for a in attributes.values()] for name in COST}
    found["run"] = [names.get(str(a.get("run", "")), "") for a in attributes.values()]
    found["sampler"] = [str(a.get("sampler", "")) for a in attributes.values()]
    return {name: ("method", values) for name, values in found.items()}


def run_names(forecasts: Mapping[str, xr.Dataset]) -> dict[str, str]:
    """Folder of a run → what it is called: the folder's name, or its path where two have one name."""
    paths = list(dict.fromkeys(str(f.attrs["run"]) for f in forecasts.values() if "run" in f.attrs))
    names = [Path(path).name for path in paths]
    return {path: name if names.count(name) == 1 else path for path, name in zip(paths, names, strict=True)}


def open_forecasts(paths: Sequence[Path]) -> dict[str, xr.Dataset]:
    """Forecasts by the label they carry."""
    if not paths:
        raise ConfigError("give at least one forecast to evaluate")
    opened = [open_forecast(path) for path in paths]
    labels = [str(f.attrs.get("label", path.stem)) for f, path in zip(opened, paths, strict=True)]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ConfigError(f"two forecasts have the label '{twice}'; make one again with another --label")
    taken = next((label for label in labels if is_reference(label)), None)
    if taken is not None:
        raise ConfigError(
            f"a forecast has the label '{taken}', which is a reference's; make it again with another --label"
        )
    return dict(zip(labels, opened, strict=True))


def matching_truth(forecasts: Mapping[str, xr.Dataset], data: Trajectories) -> tuple[xr.Dataset, Layout]:
    """What happened at the leads of forecasts that share their initial states."""
    origins = {name: _origin(name, forecast) for name, forecast in forecasts.items()}
    (first, origin), *others = origins.items()
    for name, other in others:
        for key, mine, its in zip(Origin._fields, origin, other, strict=True):
            if mine != its:
                raise DataError(f"forecasts '{first}' and '{name}' differ in {key}, {mine} and {its}; score them apart")
    part = begun_in(data, origin)
    if origin.initial and digest_of(first_states(part)) != origin.initial:
        raise DataError(f"forecast '{first}' did not start from these data: give --data what it was made from")
    layout = Layout(part.fields, part.axes, part.dt * origin.stride, part.time_units)
    return truth_for(part, origin.leads, origin.stride), layout


class Origin(NamedTuple):
    """Which states a forecast started from, and how far it went."""

    split: str
    start: int | tuple[int, ...]
    stride: int
    initial: str
    leads: int
    trajectories: int


def _origin(name: str, forecast: xr.Dataset) -> Origin:
    known: list[Any] = [forecast.attrs.get(key) for key in ("split", "start", "stride")]
    if None in known:
        raise DataError(f"forecast '{name}' does not say what it started from; make it with `driftway forecast`")
    split, start, stride = known
    frames: list[int] = np.atleast_1d(start).tolist()
    initial, sizes = str(forecast.attrs.get("initial", "")), forecast.sizes
    first = tuple(frames) if len(frames) > 1 else frames[0]
    return Origin(split, first, int(stride), initial, sizes["lead_time"], sizes["trajectory"])


def begun_in(data: Trajectories, origin: Origin) -> Trajectories:
    """The trajectories of a data set that forecasts of this origin are of, from their initial states on."""
    part, frames = data.split(origin.split), np.atleast_1d(origin.start).tolist()
    count = origin.trajectories // len(frames)
    return begun(part.select(range(min(count, part.shape[0]))), frames)


def truth_for(part: Trajectories, leads: int, stride: int = 1) -> xr.Dataset:
    """What a forecast of `leads` steps from the first frame is compared with: (trajectory, lead_time, *axes)."""
    last = leads * stride
    if last >= part.shape[1]:
        raise DataError(
            f"{leads} leads of {stride} frames need {last + 1}; there are {part.shape[1]} from the start on"
        )
    window = part.window(0, last + 1).load()
    states = np.asarray(window.states)[:, stride::stride]
    layout = Layout(part.fields, part.axes, part.dt * stride, part.time_units)
    dims = ("trajectory", "lead_time", *(axis.name for axis in part.axes))
    variables = {name: (dims, states[:, :, c]) for c, name in enumerate(part.fields.names)}
    lead = (("lead_time",), layout.lead_times(leads), {"time_units": layout.time_units})
    axes = {a.name: ((a.name,), np.asarray(a.coordinates), _about(a)) for a in part.axes}
    parameters = {name: (("trajectory",), np.asarray(values)) for name, values in part.parameters.items()}
    dates = {} if part.calendar is None else {DATE: valid_times(window, stride * np.arange(1, leads + 1))}
    return xr.Dataset(variables, {"lead_time": lead, **axes, **parameters, **dates})


def _about(axis: Axis) -> dict[str, Any]:
    return {"length": axis.length, "boundary": axis.boundary}


# --- references ----------------------------------------------------------------------------------------------------


def references(
    forecasts: Mapping[str, xr.Dataset], data: Trajectories, truth: xr.Dataset, layout: Layout
) -> dict[str, xr.Dataset]:
    """What any forecast is measured against: persistence, climatology, and the truth encoded and decoded."""
    part = begun_in(data, _origin(*next(iter(forecasts.items()))))
    params = part.fixed(np.arange(part.shape[0]))
    return {**baselines(data, part, truth, layout), **floors(run_names(forecasts), truth, params)}


def baselines(data: Trajectories, part: Trajectories, truth: xr.Dataset, layout: Layout) -> dict[str, xr.Dataset]:
    """The forecasts that need no training: persistence and, where `data` has a training split, climatology.

    part: the trajectories that are forecast, from their initial states on. Climatology is by date where there is a
    calendar, and then also an ensemble of the training years where there are several.
    """
    states = first_states(part)
    found = {"persistence": Emulator(Identity(), Persistence(), layout).forecast(states, truth.sizes["lead_time"])}
    if data.splits is None or "train" in data.splits:
        found |= climatologies(data.split("train"), truth, layout)
    return found


def usual(beside: Mapping[str, xr.Dataset], truth: xr.Dataset) -> xr.Dataset | None:
    """The climatology among references, as what anomalies are taken from; None where there are no dates."""
    return beside[REFERENCES[1]].isel(realization=0) if DATE in truth.coords and REFERENCES[1] in beside else None


def floors(runs: Mapping[str, str], truth: xr.Dataset, params: torch.Tensor | None) -> dict[str, xr.Dataset]:
    """The truth through the autoencoder of runs (folder → name), or through each of them where they differ."""
    emulators = {name: Emulator.load(Path(path)) for path, name in runs.items() if _has_floor(Path(path))}
    different: dict[str, Emulator] = {}
    for name, emulator in emulators.items():
        if not any(same_weights(emulator.codec, other.codec) for other in different.values()):
            different[name] = emulator
    title = REFERENCES[-1]
    names = {name: title if len(different) == 1 else f"{title}, {name}" for name in different}
    return {names[name]: floor(emulator, truth, params) for name, emulator in different.items()}


def _has_floor(run: Path) -> bool:
    """Whether a run's codec loses something: standardisation alone does not."""
    if not (run / "emulator.json").is_file():
        return False
    codecs = read_json(run / "emulator.json", "a run")["codec"]
    return any((codec if isinstance(codec, str) else codec["type"]) in AUTOENCODERS for codec in codecs)


@torch.no_grad()
def floor(emulator: Emulator, truth: xr.Dataset, params: torch.Tensor | None = None) -> xr.Dataset:
    """The truth encoded and decoded: no forecast through this codec can be expected to do better.

    params: (N, P), of each trajectory of the truth
    """
    layout = emulator.layout
    dims = ("trajectory", "lead_time", *(axis.name for axis in layout.axes))
    states = torch.from_numpy(np.stack([truth[name].transpose(*dims).values for name in layout.fields.names], 2))
    known = [None if params is None else params[[row]].expand(states.shape[1], -1) for row in range(len(states))]
    pairs = zip(states, known, strict=True)
    decoded = torch.stack([emulator.codec.decode(emulator.codec.encode(u, p), p) for u, p in pairs]).numpy()
    variables = {name: (dims, decoded[:, :, c]) for c, name in enumerate(layout.fields.names)}
    return xr.Dataset(variables, {"lead_time": truth["lead_time"]}).expand_dims("realization")


# --- scores on disk ------------------------------------------------------------------------------------------------


def summary(scores: xr.Dataset) -> dict[str, dict[str, float]]:
    """Each method's cost and scores, these as means over lead times and fields."""
    names = [name for name in (*SCORES, "correlation_time", "members", "failures", *COST) if name in scores]
    table = scores[names].mean([dim for dim in ("lead_time", "field") if dim in scores.dims], skipna=False)
    if "spectral_rmse" in scores:
        bands = scores["spectral_rmse"].mean("field", skipna=False)
        table = table.assign(
            {f"spectral_rmse_{b}": bands.sel(band=b, drop=True) for b in map(str, bands["band"].values)}
        )
    if "physics_error" in scores:
        errors = {f"{q}_error": scores["physics_error"].sel(quantity=q, drop=True) for q in scores["quantity"].values}
        table = table.assign(errors)
    return {str(m): {str(n): float(of(table[n], str(m))) for n in table.data_vars} for m in scores["method"].values}


def save_scores(scores: xr.Dataset, path: Path) -> None:
    """All scores as JSON, with dims, coordinates and attributes."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(without_nan(scores.to_dict())).encode())


def load_scores(path: Path) -> xr.Dataset:
    """What `save_scores` wrote."""
    if not path.exists():
        raise DataError(f"{path} does not exist; make it with `driftway evaluate … --out {path}`")
    try:
        scores = xr.Dataset.from_dict(_with_nan(json.loads(path.read_text())))
        int(scores.attrs["initial_states"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path} holds no scores ({reason}); make it with `driftway evaluate`") from error
    return scores


def _with_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: v if key in ("attrs", "dims") else _with_nan(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_with_nan(v) for v in value]
    return float("nan") if value is None else value


# --- the report ----------------------------------------------------------------------------------------------------


def report_folder(folder: Path, out: Path, title: str = "", trajectory: int = 0) -> Path:
    """One HTML page from `scores.json` and `forecasts/*.zarr` in a folder; the runs behind them are described.

    Data and runs are looked for where the forecasts say, or in the folder itself if everything was moved.
    """
    scores = load_scores(folder / "scores.json")
    paths = sorted((folder / "forecasts").glob("*.zarr"))
    if not paths:
        raise DataError(f"{folder / 'forecasts'} has no forecasts: put those there that {folder} has the scores of")
    opened = open_forecasts(paths)
    forecasts = {str(m): opened[str(m)] for m in scores["method"].values if str(m) in opened}
    if not forecasts:
        raise DataError(f"{folder}/scores.json has none of {', '.join(opened)}; make it again with `driftway evaluate`")
    source = _data_of(forecasts, folder)
    data = open_data(source)
    truth, layout = matching_truth(forecasts, data)
    runs = {name: _now(path, folder / "runs") for path, name in run_names(forecasts).items()}
    return build(
        out,
        title=title or f"Forecasts of {field_names(data.fields.names)}",
        cases=[case_of(forecasts, truth, layout, trajectory, land_of(data.static))],
        scores=scores,
        run=_facts(data, source, forecasts, {*runs.values(), *(folder / "runs").glob("*")}),
        findings=findings(scores),
        curves={name: history(run) for name, run in runs.items()},
    )


def _frames(start: Any) -> str:
    frames = np.atleast_1d(start).tolist()
    return f"frame{'s' if len(frames) > 1 else ''} {', '.join(map(str, frames))}"


def _data_of(forecasts: Mapping[str, xr.Dataset], folder: Path) -> Path:
    recorded = str(next(iter(forecasts.values())).attrs["data"])
    found = _now(recorded, folder)
    if not found.exists():
        raise DataError(
            f"the data set {recorded} of these forecasts is not there: put it back, or make the forecasts again"
        )
    return found


def _now(recorded: str, folder: Path) -> Path:
    """Where a file is that was somewhere when it was recorded."""
    path = Path(recorded)
    return path if path.exists() else folder / path.name


def case_of(
    forecasts: Mapping[str, xr.Dataset],
    truth: xr.Dataset,
    layout: Layout,
    trajectory: int,
    land: np.ndarray | None = None,
) -> Case:
    """One initial state to look at, with the coasts of `land`; of fields on three axes, the middle section of the last.

    land: (lat, lon), the share of land of each cell, where it is known
    """
    label = f"{next(iter(forecasts.values())).attrs['split']} trajectory {trajectory}"
    chosen = {"trajectory": trajectory}
    if layout.space == 3:
        last = layout.axes[-1]
        chosen[last.name] = len(last) // 2
        label += f", section {last.name} = {float(last.coordinates[len(last) // 2]):.4g}"
    shown = {name: forecast.isel(chosen).load() for name, forecast in forecasts.items()}
    return Case(label, truth.isel(chosen), shown, land)


def _facts(data: Trajectories, source: Path, forecasts: Mapping[str, xr.Dataset], runs: set[Path]) -> dict[str, Any]:
    """What was run: in short, then in full."""
    from driftway.doctor import examine

    manifests = {run.name: run / "manifest.json" for run in sorted(runs)}
    fitted = {name: read_json(path, "a run") for name, path in manifests.items() if path.is_file()}
    first, now = next(iter(forecasts.values())).attrs, ("load", "advice")
    versions = [f"{key} {m[key]}" for m in fitted.values() for key in ("driftway", "torch", "python") if key in m]
    return {
        "data": str(source),
        "fingerprint": data.fingerprint(),
        "initial states": f"{_frames(first['start'])} of each trajectory of the split '{first['split']}'",
        "commands": sorted({str(m["command"]) for m in fitted.values() if "command" in m}),
        "fitted": [
            f"{name}: {m.get('started')}, {m.get('seconds')} s, seed {m.get('seed')}" for name, m in fitted.items()
        ],
        "seeds of the forecasts": ", ".join(sorted({str(f.attrs.get("seed")) for f in forecasts.values()})),
        "versions": list(dict.fromkeys(versions)),
        "Data": dict(data.attributes),
        "Runs": fitted,
        "Forecasts": {name: dict(forecast.attrs) for name, forecast in forecasts.items()},
        "Machine of this report": {key: value for key, value in examine().items() if key not in now},
    }
