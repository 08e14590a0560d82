"""A small forecast study whose law is known: every Fourier mode is a rotating, noisy, damped oscillator.

The truth draws its own noise; a method is how much noise it adds and how strongly it damps small scales.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from driftway.pictures import Case
from driftway.randomness import generator

TRUE_NOISE = 0.25


@dataclass(frozen=True)
class Method:
    noise: float = 1.0
    smoothing: float = 0.0
    members: int = 16
    calls: int = 1


METHODS = {
    "SI-EM": Method(calls=2),
    "SI-E": Method(noise=0.0, smoothing=0.2, calls=2),
    "flow matching": Method(noise=0.8, smoothing=0.15, calls=2),
    "DDIM": Method(noise=0.6, smoothing=0.1, calls=10),
    "EDM": Method(noise=1.2, calls=10),
    "FNO": Method(noise=0.0, smoothing=1.0, members=1),
    "persistence": Method(members=1, calls=0),
    "climatology": Method(members=1, calls=0),
}


@dataclass(frozen=True)
class Size:
    grid: int = 64
    leads: int = 20
    members: int = 16
    trajectories: int = 3
    fields: tuple[str, ...] = ("vorticity", "temperature")
    methods: dict[str, Method] = field(default_factory=lambda: METHODS)


SMALL = Size(grid=16, leads=6, members=4, trajectories=2, fields=("vorticity",))


def wavenumbers(grid: int) -> np.ndarray:
    k = np.fft.fftfreq(grid, 1 / grid)
    return np.hypot(*np.meshgrid(k, k, indexing="ij"))


def noise(grid: int, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Fourier coefficients of real fields of unit variance with a steep spectrum."""
    k = wavenumbers(grid)
    amplitude = np.where((k > 0) & (k < grid / 2), np.maximum(k, 3.0) ** -3.0, 0)
    amplitude *= grid / np.sqrt((amplitude**2).sum()) * 1.0
    return np.fft.fft2(rng.standard_normal((rows, grid, grid))) * amplitude


def evolve(start: np.ndarray, leads: int, method: Method, rng: np.random.Generator) -> np.ndarray:
    """Fields (rows, leads, y, x) from coefficients (rows, y, x)."""
    grid = start.shape[-1]
    k = wavenumbers(grid)
    ky, kx = np.meshgrid(np.fft.fftfreq(grid, 1 / grid), np.fft.fftfreq(grid, 1 / grid), indexing="ij")
    turn = np.exp(-1j * (0.22 * kx + 0.08 * np.abs(ky)) * (kx != -grid / 2))
    turn = np.where(kx == 0, 1, turn)
    share = TRUE_NOISE * np.minimum(1, (k / 12) ** 0.7)
    keep = np.sqrt(1 - share**2) * np.exp(-method.smoothing * (k / (grid / 3)) ** 2)
    states, state = [], start
    for _ in range(leads):
        state = keep * turn * state + method.noise * share * noise(grid, len(start), rng)
        states.append(np.fft.ifft2(state).real)
    return np.stack(states, 1).astype(np.float32)


def spectrum(values: np.ndarray) -> np.ndarray:
    """Shell sums of power, (..., K)."""
    grid = values.shape[-1]
    power = np.abs(np.fft.fft2(values)) ** 2 / grid**4
    shell = np.rint(wavenumbers(grid)).astype(int)
    return np.stack([power[..., shell == k].sum(-1) for k in range(grid // 2)], -1)


def simulate(size: Size, name: str, number: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Truth (N, T, y, x) and forecasts (M, N, T, y, x)."""
    start = noise(size.grid, size.trajectories, generator(1, number, "start"))
    truth = evolve(start, size.leads, Method(), generator(1, number, "truth"))
    forecasts = {}
    for k, (method, how) in enumerate(size.methods.items()):
        members = min(how.members, size.members)
        if method == "persistence":
            forecast = np.repeat(np.fft.ifft2(start).real[:, None], size.leads, 1)[None]
        elif method == "climatology":
            forecast = np.zeros_like(truth)[None]
        else:
            many = np.concatenate([start] * members)
            forecast = evolve(many, size.leads, how, generator(1, number, "forecast", k))
            forecast = forecast.reshape(members, *truth.shape)
        forecasts[method] = forecast.astype(np.float32)
    if name == "temperature":
        return 288 + 4 * truth, {method: 288 + 4 * values for method, values in forecasts.items()}
    return truth, forecasts


def score_field(truth: np.ndarray, forecast: np.ndarray, leads: list[int], ranks: int) -> dict[str, tuple]:
    """Every score of one method and one field."""
    mean, members = forecast.mean(0), len(forecast)
    space = (-2, -1)
    error = np.sqrt(((mean - truth) ** 2).mean(space))
    ratio = error / truth.std(space)
    spread = (
        forecast.var(0, ddof=1).mean((0, -2, -1)) * (1 + 1 / members)
        if members > 1
        else np.full(truth.shape[1], np.nan)
    )
    skill = ((mean - truth) ** 2).mean((0, -2, -1))
    sorted_members = np.sort(forecast, 0)
    weight = np.arange(members).reshape(-1, 1, 1, 1, 1) * 2 - members + 1
    pairs = (weight * sorted_members).sum(0) / max(members * (members - 1), 1)
    crps = (np.abs(forecast - truth).mean(0) - pairs).mean((0, -2, -1))
    a, b = mean - mean.mean(space, keepdims=True), truth - truth.mean(space, keepdims=True)
    norm = np.sqrt((a**2).mean(space) * (b**2).mean(space))
    correlation = np.where(norm > 0, (a * b).mean(space) / np.where(norm > 0, norm, 1), np.nan).mean(0)
    true_power, power = spectrum(truth).mean(0), spectrum(forecast[:2]).mean((0, 1))
    gap = 1 - power[-1, 1:-1] / true_power[-1, 1:-1]
    counts = np.full(ranks, np.nan)
    if members > 1:
        counts[: members + 1] = np.bincount((forecast < truth).sum(0).ravel(), minlength=members + 1)
    deviation = ratio.std(0) / np.sqrt(len(ratio))
    lead = ("lead_time",)
    return {
        "vrmse": (lead, ratio.mean(0)),
        "vrmse_low": (lead, ratio.mean(0) - 2 * deviation),
        "vrmse_high": (lead, ratio.mean(0) + 2 * deviation),
        "correlation": (lead, correlation),
        "crps": (lead, crps),
        "spread": (lead, np.sqrt(spread)),
        "skill": (lead, np.sqrt(skill)),
        "spread_skill": (lead, np.sqrt(spread / skill) if members > 1 else spread),
        "spectrum": (("spectrum_lead", "wavenumber"), power[leads]),
        "spectral_rmse": (("band",), [np.sqrt((part**2).mean()) for part in np.array_split(gap, 3)]),
        "rank_histogram": (("rank",), counts),
    }


ATTRIBUTES = {
    "vrmse": (
        "VRMSE",
        "lower",
        "√(⟨(û − u)²⟩ / ⟨(u − ⟨u⟩)²⟩)",
        "per sample, then the mean over samples",
        "1: the mean field",
    ),
    "correlation": ("correlation", "higher", "⟨û′u′⟩ / √(⟨û′²⟩⟨u′²⟩)", "per sample, then the mean over samples", "0"),
    "crps": ("CRPS", "lower", "E|X − y| − ½E|X − X′|", "over space and samples", "MAE of a single forecast"),
    "spread": ("spread", "", "√⟨var(X)(M + 1)/M⟩", "variance over space and samples before the root", "0: one member"),
    "skill": (
        "RMSE of the mean",
        "lower",
        "√⟨(mean X − y)²⟩",
        "over space and samples before the root",
        "the spread of the truth",
    ),
    "spread_skill": ("spread–skill ratio", "one", "spread / skill", "both averaged before the ratio", "0: one member"),
    "spectral_rmse": ("SRMSE", "lower", "√⟨(1 − P̂/P)²⟩", "spectra over samples first", "1: no power"),
}


def scores_of(size: Size, data: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]]) -> xr.Dataset:
    """All scores, as an evaluation would hand them over."""
    leads = [0, size.leads // 2, size.leads - 1]
    rows = []
    for truth, forecasts in data.values():
        values = [score_field(truth, forecast, leads, size.members + 1) for forecast in forecasts.values()]
        methods = xr.concat([xr.Dataset(row) for row in values], "method")
        true_power = spectrum(truth).mean(0)[leads]
        rows.append(methods.assign(truth_spectrum=(("spectrum_lead", "wavenumber"), true_power)))
    times = 0.1 * np.arange(1, size.leads + 1)
    scores = xr.concat(rows, "field").assign_coords(
        method=list(size.methods),
        field=list(data),
        lead_time=("lead_time", times, {"time_units": "s"}),
        spectrum_lead=times[leads],
        wavenumber=np.arange(size.grid // 2),
        band=["low", "mid", "high"],
    )
    for name, (long, better, formula, averaging, trivial) in ATTRIBUTES.items():
        attributes = {
            "long_name": long,
            "better": better,
            "formula": formula,
            "averaging": averaging,
            "trivial": trivial,
        }
        scores[name].attrs.update(attributes)
    return scores


def case_of(size: Size, data: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]], label: str = "test 0") -> Case:
    """The first trajectory, with its forecasts."""
    lead = ("lead_time", 0.1 * np.arange(1, size.leads + 1), {"time_units": "s"})
    unit = {"vorticity": "1/s", "temperature": "K"}

    def dataset(dims: tuple[str, ...], values: dict[str, np.ndarray]) -> xr.Dataset:
        variables = {name: (dims, array, {"units": unit.get(name, "1")}) for name, array in values.items()}
        return xr.Dataset(variables, {"lead_time": lead})

    truth = dataset(("lead_time", "y", "x"), {name: truth[0] for name, (truth, _) in data.items()})
    forecasts = {
        method: dataset(
            ("realization", "lead_time", "y", "x"), {name: f[method][:, 0] for name, (_, f) in data.items()}
        )
        for method in size.methods
    }
    return Case(label, truth, forecasts)


def summary_of(size: Size, scores: xr.Dataset) -> list[dict[str, object]]:
    """One row per method: the first field's scores over the rollout, and made-up costs."""
    mean = scores.isel(field=0)[["vrmse", "crps", "spread_skill"]].mean("lead_time", skipna=False)
    return [
        {
            "method": method,
            "calls per step": how.calls,
            "members": min(how.members, size.members),
            **{name: float(mean[name].sel({"method": method})) for name in mean},
            "ms/step": 4.1 * how.calls + 0.3,
            "parameters": 2_345_678 if how.calls else 0,
        }
        for method, how in size.methods.items()
    ]


def study(size: Size) -> dict[str, object]:
    """The arguments of `driftway.report.build`, apart from the path."""
    data = {name: simulate(size, name, k) for k, name in enumerate(size.fields)}
    scores = scores_of(size, data)
    learned = [method for method, how in size.methods.items() if how.calls]
    steps = np.unique(np.geomspace(10, 20000, 60).astype(int))
    curves = {
        method: [{"step": int(s), "loss": float((1 + k / 5) * s**-0.3)} for s in steps]
        for k, method in enumerate(learned)
    }
    return {
        "title": "Kolmogorov flow: eight emulators",
        "cases": [case_of(size, data)],
        "scores": scores,
        "summary": summary_of(size, scores),
        "run": {
            "versions": {"driftway": "0.1.0", "torch": "2.13.0"},
            "seeds": {"training": 0, "forecast": 1},
            "data": {
                "path": "kolmogorov.zarr",
                "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            },
            "times": {"started": "2026-11-20T09:12:00Z", "seconds": 5400},
            "commands": ["driftway train experiments/kolmogorov/interpolant.yaml", "driftway evaluate runs/si"],
        },
        "findings": [
            "SI-EM has the lowest CRPS at every lead time, with 2 network calls per step.",
            "The deterministic FNO has a lower VRMSE than persistence but loses the small scales.",
        ],
        "curves": curves,
    }
