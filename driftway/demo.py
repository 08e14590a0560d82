"""The main job from end to end: simulate turbulence, fit, forecast ensembles, score them, and report.

Parts that are done are reused, so that a demo that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from driftway.build import check_codec, check_stepper
from driftway.checkpoints import read_json
from driftway.data import open_data
from driftway.emulator import Emulator
from driftway.errors import ConfigError
from driftway.forecasting import forecast_run
from driftway.report.findings import findings
from driftway.samplers import EulerMaruyama, Heun, Sampler
from driftway.schema import Experiment, load_experiment
from driftway.scoring import evaluate_forecasts, load_scores, report_folder
from driftway.simulate import make_data
from driftway.storage import atomic_write, explained
from driftway.version import __version__
from driftway.workflow import finished, fit_autoencoder, fit_stepper, use_threads

EXPERIMENTS = Path(__file__).parent / "experiments" / "demo"
PRESET = "kolmogorov"
TITLE = "Kolmogorov flow: ensembles from a stochastic interpolant"
LEADS, MEMBERS = 20, 16
QUICK = {
    "data": ("size=[32, 32]", "frames=24", "trajectories=[8, 2, 2]", "burn_in=2.0"),
    "run": ("training.steps=20", "training.warmup=2", "training.validate_every=20", "training.validation.leads=3"),
}


@dataclass(frozen=True)
class Row:
    """One line of the comparison: a run with a sampler, and how many members it takes."""

    label: str
    run: str
    sampler: Sampler | None = None
    members: int = MEMBERS

    @property
    def file(self) -> str:
        """The name of its forecast's folder."""
        return self.label.replace(", ", "-").replace(" ", "_") + ".zarr"


def _samplers(run: str) -> tuple[Row, ...]:
    """The same weights with every sampler; a forecast without noise has one member."""
    sde = EulerMaruyama(steps=2)
    return (
        Row(f"{run}, noise-free drift, 2 steps", run, replace(sde, temperature=0.0), 1),
        Row(f"{run}, SDE, 1 step", run, replace(sde, steps=1)),
        Row(f"{run}, SDE, 2 steps", run, sde),
        Row(f"{run}, flow ODE, 5 steps", run, Heun(steps=5)),
    )


ROWS = (Row("deterministic", "deterministic", members=1), *_samplers("interpolant"), *_samplers("guess"))
RUNS: dict[str, Callable[..., Emulator]] = {
    "autoencoder": fit_autoencoder,
    "deterministic": fit_stepper,
    "interpolant": fit_stepper,
    "guess": fit_stepper,
}


def run_demo(folder: Path, overrides: Sequence[str] = (), *, quick: bool = False) -> dict[str, Any]:
    """Everything into `folder`: data.zarr, runs/, forecasts/, scores.json, report.html; returns the headline.

    Raises ConfigError where the folder holds a demo with other settings.
    """
    began, data = time.time(), folder / "data.zarr"
    settings = (*(QUICK["run"] if quick else ()), *overrides)
    _check(folder, settings)
    _claim(folder, {"quick": quick, "overrides": list(overrides), "driftway": __version__})
    use_threads(experiment("base", folder, settings).training.threads)
    made = [*_simulate(data, quick), *_fit(folder, settings), *_forecast(folder, data)]
    if made or not (folder / "report.html").exists():
        evaluate_forecasts([folder / "forecasts" / row.file for row in ROWS], data, folder / "scores.json")
        report_folder(folder, folder / "report.html", TITLE)
    found = findings(load_scores(folder / "scores.json"))
    minutes = round((time.time() - began) / 60, 2)
    return {"findings": found, "made": made or "nothing new", "minutes": minutes, "report": str(folder / "report.html")}


def experiment(name: str, folder: Path, overrides: Sequence[str]) -> Experiment:
    """One of the demo's experiments with its paths under `folder`."""
    loaded = load_experiment(EXPERIMENTS / f"{name}.yaml", overrides)
    codec = tuple(
        {**entry, "path": str(folder / "runs" / Path(entry["path"]).name)} if "path" in entry else entry
        for entry in loaded.codec
    )
    guess = None if loaded.guess is None else str(folder / "runs" / Path(loaded.guess).name)
    source = loaded.data.model_copy(update={"path": str(folder / "data.zarr")})
    return loaded.model_copy(update={"data": source, "codec": codec, "guess": guess})


def _check(folder: Path, overrides: Sequence[str]) -> None:
    """Find mistakes in overrides before anything is made."""
    for name in RUNS:
        chosen = experiment(name, folder, overrides)
        check_codec(chosen.codec)
        check_stepper(chosen.stepper)


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Keep parts made with different settings out of one folder."""
    path = folder / "demo.json"
    if path.exists() and read_json(path, "a demo") != settings:
        raise ConfigError(f"{folder} holds a demo with other settings, see {path}: remove it or choose another --out")
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(settings, indent=1).encode())


def _simulate(data: Path, quick: bool) -> Iterator[str]:
    if not data.exists():
        make_data(PRESET, data, overrides=QUICK["data"] if quick else ())
        yield "data"


def _fit(folder: Path, overrides: Sequence[str]) -> Iterator[str]:
    """The autoencoder, then three steppers on its latents; finished runs are kept, stopped ones resumed."""
    for name, fitter in RUNS.items():
        run = folder / "runs" / name
        if not finished(run):
            chosen = experiment(name, folder, overrides)
            use_threads(chosen.training.threads)
            fitter(chosen, run, resume=run.exists())
            yield f"run {name}"


def _forecast(folder: Path, data: Path) -> Iterator[str]:
    """Every row's forecast of the test split, made where it is not there yet."""
    leads = min(LEADS, open_data(data).shape[1] - 1)
    for row in ROWS:
        path = folder / "forecasts" / row.file
        if not path.exists():
            settings = {"leads": leads, "members": row.members, "sampler": row.sampler, "label": row.label}
            forecast_run(folder / "runs" / row.run, data, path, **settings)
            yield f"forecast {row.label}"
