"""The main job from end to end: simulate turbulence, fit, forecast ensembles, score them, and report.

Parts that are done are reused, so that a demo that was stopped goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from driftway.codecs import Identity
from driftway.data import Trajectories, open_data
from driftway.data.forecasts import open_forecast
from driftway.data.layout import Layout
from driftway.diffusions import Diffusion
from driftway.emulator import Emulator
from driftway.evaluation import score
from driftway.findings import findings
from driftway.forecasting import forecast_to, save_scores, seconds_per_step, summary, truth_for
from driftway.report import Case, build
from driftway.samplers import EulerMaruyama, Heun, Sampler
from driftway.schema import Experiment, load_experiment
from driftway.simulate import make_data
from driftway.steppers import Climatology, Persistence
from driftway.training import history
from driftway.version import __version__
from driftway.workflow import finished, fit_autoencoder, fit_stepper, layout_of, use_threads

EXPERIMENTS = Path(__file__).parent / "experiments" / "demo"
PRESET = "kolmogorov"
LEADS, MEMBERS = 20, 16
MEAN = EulerMaruyama(steps=1, temperature=0.0)
ODE = Heun(steps=2)
QUICK = {
    "data": ("size=32", "frames=24", "train=8", "valid=2", "test=2", "burn_in=2.0"),
    "run": ("training.steps=20", "training.warmup=2", "training.validate_every=20", "training.validation.leads=3"),
}


@dataclass(frozen=True)
class Row:
    """One line of the comparison: a run with a sampler, and how many members it takes."""

    label: str
    run: str
    sampler: Sampler | None = None
    members: int = MEMBERS


ROWS = (
    Row("deterministic", "deterministic", members=1),
    Row("interpolant, noise-free drift, 2 calls", "interpolant", replace(MEAN, steps=2), 1),
    Row("interpolant, SDE, 1 call", "interpolant", EulerMaruyama(steps=1)),
    Row("interpolant, SDE, 2 calls", "interpolant", EulerMaruyama(steps=2)),
    Row("interpolant, flow ODE, 2 calls", "interpolant", ODE),
    Row("guess, noise-free drift, 1 call", "guess", MEAN, 1),
    Row("guess, SDE, 1 call", "guess", EulerMaruyama(steps=1)),
    Row("guess, SDE, 2 calls", "guess", EulerMaruyama(steps=2)),
    Row("guess, flow ODE, 2 calls", "guess", ODE),
)


def run_demo(folder: Path, overrides: Sequence[str] = (), *, quick: bool = False) -> dict[str, Any]:
    """Everything into `folder`: data.zarr, runs/, forecasts/, scores.json, report.html; returns the headline."""
    began = time.time()
    path = folder / "data.zarr"
    if not path.exists():
        make_data(PRESET, path, overrides=QUICK["data"] if quick else ())
    extra = (*(QUICK["run"] if quick else ()), *overrides)
    fit_all(folder, extra)
    data = open_data(path)
    test = data.split("test")
    leads = min(LEADS, test.shape[1] - 1)
    forecasts, costs = forecast_all(folder, test, leads)
    layout = layout_of(data)
    truth = truth_for(test, 0, leads)
    forecasts = {**_references(folder, data, test, truth, leads), **forecasts}
    scores = score(forecasts, truth, layout)
    save_scores(scores, folder / "scores.json")
    told = findings(scores)
    report = build(
        folder / "report.html",
        title="Kolmogorov flow: ensembles from a stochastic interpolant",
        cases=[_case(forecasts, truth, test)],
        scores=scores,
        summary=[{"method": name, **costs.get(name, {}), **values} for name, values in summary(scores).items()],
        run=_facts(folder, data, began),
        findings=told,
        curves={name: history(folder / "runs" / name) for name in ("autoencoder", "deterministic", "interpolant", "guess")},
    )
    return {"findings": told, "report": str(report), "seconds": round(time.time() - began, 1)}


def experiment(name: str, folder: Path, overrides: Sequence[str]) -> Experiment:
    """One of the demo's experiments with its paths under `folder`."""
    loaded = load_experiment(EXPERIMENTS / f"{name}.yaml", overrides)
    codec = [
        {**entry, "path": str(folder / "runs" / Path(entry["path"]).name)} if "path" in entry else entry
        for entry in loaded.codec
    ]
    guess = None if loaded.guess is None else str(folder / "runs" / Path(loaded.guess).name)
    paths = {"data": loaded.data.model_copy(update={"path": str(folder / "data.zarr")}), "codec": codec, "guess": guess}
    return loaded.model_copy(update=paths)


def fit_all(folder: Path, overrides: Sequence[str]) -> None:
    """The autoencoder, then three steppers on its latents; finished runs are kept, stopped ones resumed."""
    fitters = {
        "autoencoder": fit_autoencoder,
        "deterministic": fit_stepper,
        "interpolant": fit_stepper,
        "guess": fit_stepper,
    }
    for name, fitter in fitters.items():
        run = folder / "runs" / name
        if not finished(run):
            chosen = experiment(name, folder, overrides)
            use_threads(chosen.training.threads)
            fitter(chosen, run, resume=run.exists())


def forecast_all(folder: Path, test: Trajectories, leads: int) -> tuple[dict[str, xr.Dataset], dict[str, dict[str, Any]]]:
    """Every row's forecast, from disk where it is there, and its measured cost per step."""
    forecasts: dict[str, xr.Dataset] = {}
    costs: dict[str, dict[str, Any]] = {}
    for row in ROWS:
        emulator = Emulator.load(folder / "runs" / row.run)
        out = folder / "forecasts" / (row.label.replace(", ", "-").replace(" ", "_") + ".zarr")
        if not out.exists():
            forecast_to(emulator, test, out, leads, row.members, sampler=row.sampler)
        seconds, calls = seconds_per_step(emulator, row.sampler)
        parameters = sum(p.numel() for p in emulator.stepper.parameters())  # type: ignore[attr-defined]
        costs[row.label] = {"calls": calls, "members": row.members, "ms_per_step": 1e3 * seconds, "parameters": parameters}
        forecasts[row.label] = open_forecast(out)
    return forecasts, costs


def _references(
    folder: Path, data: Trajectories, test: Trajectories, truth: xr.Dataset, leads: int
) -> dict[str, xr.Dataset]:
    """Persistence, climatology, and the autoencoder's own floor: the truth encoded and decoded."""
    layout = layout_of(data)
    states = np.asarray(test.window(0, 1).load().states)[:, 0]
    mean = torch.from_numpy(np.asarray(data.split("train").load().states).mean((0, 1)))
    steppers = {"persistence": Persistence(), "climatology": Climatology(mean)}
    found = {name: Emulator(Identity(), s, layout).forecast(states, leads) for name, s in steppers.items()}
    return {**found, "autoencoder floor": _floor(Emulator.load(folder / "runs" / "autoencoder"), truth, layout)}


@torch.no_grad()
def _floor(emulator: Emulator, truth: xr.Dataset, layout: Layout) -> xr.Dataset:
    dims = ("trajectory", "lead_time", *(axis.name for axis in layout.axes))
    states = torch.from_numpy(np.stack([truth[name].transpose(*dims).values for name in layout.fields.names], 2))
    decoded = [emulator.codec.decode(emulator.codec.encode(part)) for part in states]
    fields = torch.stack(decoded).numpy()
    variables = {name: (dims, fields[:, :, c]) for c, name in enumerate(layout.fields.names)}
    return xr.Dataset(variables, {"lead_time": truth["lead_time"]}).expand_dims("realization")


def _case(forecasts: Mapping[str, xr.Dataset], truth: xr.Dataset, test: Trajectories, trajectory: int = 0) -> Case:
    """One initial state to look at."""
    shown = {name: f.isel(trajectory=trajectory) for name, f in forecasts.items() if f.sizes["realization"] > 1}
    return Case(f"test trajectory {trajectory}", truth.isel(trajectory=trajectory), shown)


def _facts(folder: Path, data: Trajectories, began: float) -> dict[str, Any]:
    from driftway.checkpoints import read_json
    from driftway.doctor import examine

    runs = {path.parent.name: read_json(path, "a run") for path in sorted((folder / "runs").glob("*/manifest.json"))}
    return {
        "driftway": __version__,
        "command": "driftway demo",
        "seconds, this call": round(time.time() - began, 1),
        "machine": examine(),
        "data": {"fingerprint": data.fingerprint(), **{k: str(v) for k, v in data.attributes.items()}},
        "runs": runs,
    }
