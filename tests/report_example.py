"""A small forecast study whose law is known: every Fourier mode is a rotating, noisy, damped oscillator.

The truth draws its own noise; a method is how much noise it adds and how strongly it damps small scales. Noise 1
without damping is a perfect ensemble: its members and the truth are exchangeable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from driftway.data.axes import Axis, Fields
from driftway.data.layout import Layout
from driftway.evaluation import score
from driftway.randomness import generator
from driftway.report.findings import findings
from driftway.report.pictures import Case

TRUE_NOISE = 0.25
UNITS = {"vorticity": "1/s", "temperature": "K"}


@dataclass(frozen=True)
class Method:
    """How a forecast is made, and what it says it was made with."""

    noise: float = 1.0
    smoothing: float = 0.0
    members: int = 16
    calls: int = 1
    run: str = "si"
    sampler: str = "EulerMaruyama"
    diverges: bool = False


METHODS = {
    "SI, SDE": Method(calls=2),
    "SI, noise-free": Method(noise=0.0, smoothing=0.2, members=1, calls=2, sampler="EulerMaruyama(temperature=0)"),
    "flow matching": Method(noise=0.8, smoothing=0.15, calls=2, run="fm", sampler="Euler"),
    "DDIM": Method(noise=0.6, smoothing=0.1, calls=10, run="vp", sampler="Ancestral"),
    "EDM": Method(noise=1.5, calls=10, run="edm", sampler="Heun"),
    "FNO": Method(noise=0.0, smoothing=1.0, members=1, run="fno", sampler="None"),
    "persistence": Method(members=1, calls=0, run="", sampler=""),
    "climatology": Method(members=1, calls=0, run="", sampler=""),
}


@dataclass(frozen=True)
class Size:
    """How large a study is; `space` is its number of axes, 1 or 2."""

    grid: int = 64
    leads: int = 20
    members: int = 16
    trajectories: int = 10
    fields: tuple[str, ...] = ("vorticity", "temperature")
    methods: dict[str, Method] = field(default_factory=lambda: METHODS)
    space: int = 2

    @property
    def layout(self) -> Layout:
        names = ("y", "x")[2 - self.space :]
        axes = tuple(Axis.uniform(name, self.grid, 2 * np.pi) for name in names)
        return Layout(Fields(self.fields, tuple(UNITS[f] for f in self.fields)), axes, 0.1, "s")


SMALL = Size(grid=16, leads=6, members=4, fields=("vorticity",))


def wavenumbers(size: Size) -> np.ndarray:
    k = np.fft.fftfreq(size.grid, 1 / size.grid)
    return np.sqrt(sum(axis**2 for axis in np.meshgrid(*[k] * size.space, indexing="ij")))


def transform(values: np.ndarray, size: Size, inverse: bool = False) -> np.ndarray:
    axes = tuple(range(-size.space, 0))
    return np.fft.ifftn(values, axes=axes).real if inverse else np.fft.fftn(values, axes=axes)


def noise(size: Size, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Fourier coefficients of real fields of unit variance with a steep spectrum."""
    k = wavenumbers(size)
    amplitude = np.where((k > 0) & (k < size.grid / 2), np.maximum(k, 3.0) ** -3.0, 0)
    amplitude *= size.grid ** (size.space / 2) / np.sqrt((amplitude**2).sum())
    return transform(rng.standard_normal((rows, *k.shape)), size) * amplitude


def evolve(start: np.ndarray, size: Size, method: Method, rng: np.random.Generator) -> np.ndarray:
    """Fields (rows, leads, *S) from coefficients (rows, *S)."""
    k, along = wavenumbers(size), np.fft.fftfreq(size.grid, 1 / size.grid)
    turn = np.where(along == -size.grid / 2, 1, np.exp(-0.22j * along))
    share = TRUE_NOISE * np.minimum(1, (k / 12) ** 0.7)
    keep = np.sqrt(1 - share**2) * np.exp(-method.smoothing * (k / (size.grid / 3)) ** 2)
    states, state = [], start
    for _ in range(size.leads):
        state = keep * turn * state + method.noise * share * noise(size, len(start), rng)
        states.append(transform(state, size, inverse=True))
    return np.stack(states, 1)


def simulate(size: Size, name: str, number: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Truth (N, T, *S) and forecasts (M, N, T, *S)."""
    start = noise(size, size.trajectories, generator(1, number, "start"))
    truth = evolve(start, size, Method(), generator(1, number, "truth"))
    forecasts = {}
    for k, (method, how) in enumerate(size.methods.items()):
        members = min(how.members, size.members)
        if method == "persistence":
            forecast = np.repeat(transform(start, size, inverse=True)[:, None], size.leads, 1)[None]
        elif method == "climatology":
            forecast = np.zeros_like(truth)[None]
        else:
            many = np.concatenate([start] * members)
            forecast = evolve(many, size, how, generator(1, number, "forecast", k)).reshape(members, *truth.shape)
        if how.diverges:
            forecast[0, 1, size.leads // 2 :] = np.inf
        forecasts[method] = forecast
    if name == "temperature":
        return 288 + 4 * truth, {method: 288 + 4 * values for method, values in forecasts.items()}
    return truth, forecasts


def datasets(size: Size) -> tuple[xr.Dataset, dict[str, xr.Dataset]]:
    """Truth and forecasts as an evaluation takes them."""
    data = {name: simulate(size, name, k) for k, name in enumerate(size.fields)}
    axes = [axis.name for axis in size.layout.axes]
    lead = ("lead_time", size.layout.lead_times(size.leads), {"time_units": "s"})

    def dataset(dims: list[str], values: dict[str, np.ndarray]) -> xr.Dataset:
        variables = {
            name: (dims + axes, array.astype(np.float32), {"units": UNITS[name]}) for name, array in values.items()
        }
        return xr.Dataset(variables, {"lead_time": lead})

    truth = dataset(["trajectory", "lead_time"], {name: values for name, (values, _) in data.items()})
    order = ["realization", "trajectory", "lead_time"]
    forecasts = {m: dataset(order, {name: found[m] for name, (_, found) in data.items()}) for m in size.methods}
    return truth, forecasts


def scores_of(size: Size, truth: xr.Dataset, forecasts: dict[str, xr.Dataset]) -> xr.Dataset:
    """All scores, with what a forecast on disk would say of itself."""
    hows = size.methods.values()
    return score(forecasts, truth, size.layout).assign(
        run=("method", [how.run for how in hows]),
        sampler=("method", [how.sampler for how in hows]),
        calls=("method", [float(how.calls) if how.calls else np.nan for how in hows]),
        ms_per_step=("method", [4.1 * how.calls + 0.3 for how in hows]),
    )


def study(size: Size) -> dict[str, Any]:
    """The arguments of `driftway.report.page.build`, apart from the path."""
    truth, forecasts = datasets(size)
    scores = scores_of(size, truth, forecasts)
    steps = np.unique(np.geomspace(10, 20000, 60).astype(int))
    runs = list(dict.fromkeys(how.run for how in size.methods.values() if how.run))
    learned = [method for method, how in size.methods.items() if how.run]
    return {
        "title": "Oscillators: six emulators",
        "cases": [
            Case("test 0", truth.isel(trajectory=0), {m: forecasts[m].isel(trajectory=0) for m in learned}),
        ],
        "scores": scores,
        "run": {
            "fingerprint": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "commands": ["driftway fit stepper interpolant.yaml", "driftway evaluate forecasts/si.zarr"],
            "Runs": {run: {"driftway": "0.1.0", "torch": "2.13.0", "seed": 0, "seconds": 5400} for run in runs},
        },
        "findings": findings(scores),
        "curves": {
            run: [{"step": int(s), "loss": float((1 + k / 5) * s**-0.3)} for s in steps] for k, run in enumerate(runs)
        },
    }
