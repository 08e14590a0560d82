"""Forecasts of a finished run from the states of a data set, with what they cost."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from driftway.build import build_sampler
from driftway.checkpoints import read_json
from driftway.config import parse_value
from driftway.copies import in_words
from driftway.data import Conditioning, Trajectories, open_data
from driftway.data.layout import Layout
from driftway.data.starts import begun, first_states, start_frames, start_names
from driftway.data.summaries import Guard, PeriodMeans, bounds_of, months, stretches
from driftway.emulator import Emulator
from driftway.errors import ConfigError, DataError, naming
from driftway.samplers import Sampler
from driftway.steppers import Stepper


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
    starts: int = 1,
    sampler: str | Sampler | None = None,
    label: str | None = None,
    seed: int = 0,
    batch: int = 64,
    every: int = 1,
    means: str | None = None,
    guard: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Forecast from states of each trajectory of a split and stream the ensemble to `out`; returns what it cost.

    start: the first frame; starts: how many, evenly spaced so that the data reach as far; members: one is made,
    whatever is asked for, where the stepper is not random; every: of the leads, each how many-th is kept; means: of
    which periods, `month` or a number of leads, means are kept; guard: tell where members leave what the training split
    spans. One that was stopped goes on when the same is asked for again.
    """
    chosen = _sampler(sampler) if isinstance(sampler, str) else sampler
    emulator = Emulator.load(run).with_sampler(chosen)
    with naming(data):
        whole = _part(emulator, data, split, trajectories)
        stride = stride_of(emulator.layout, whole)
        frames = start_frames(whole.shape[1], leads * stride, starts, start)
        part, called = begun(whole, frames), start_names(split, whole.shape[0], frames)
        states = initial_states(emulator.layout, part, called)
    origin = {
        "label": label or out.stem,
        "run": str(run.resolve()),
        "data": str(data.resolve()),
        **_start(part, split, frames, states),
        **{"stride": stride * every, "sampler": _sampler_of(emulator)},
    }
    about, began = {**origin, **cost(emulator)}, time.perf_counter()
    made = emulator.forecast(
        states,
        leads,
        members if getattr(emulator.stepper, "random", True) else min(members, 1),
        seed=seed,
        batch=batch,
        keys=called,
        conditioning=lambda lead: _known(part, (lead - 1) * stride, stride),
        out=out,
        force=force,
        attributes=about,
        every=every,
        summaries=[*_means(means, part, leads, stride), *([_guard(data)] if guard else [])],
        key=_key(run, origin, leads, members, seed, batch, every, means, guard),
    )
    return {"forecast": str(out), "seconds": round(time.perf_counter() - began, 2), **_said(made.attrs)}


def _sampler_of(emulator: Emulator) -> str:
    return in_words(emulator.samplers) or repr(getattr(emulator.stepper, "sampler", None))


def _said(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What a forecast cost and what its guard found, of all that it says of itself."""
    return {name: attributes[name] for name in (*COST, *SAID) if name in attributes}


def _start(part: Trajectories, split: str, frames: Sequence[int], states: np.ndarray) -> dict[str, Any]:
    """What tells the initial states of a forecast, with their dates where there is a calendar."""
    start = list(frames) if len(frames) > 1 else frames[0]
    found = {"split": split, "start": start, "initial": digest_of(states)}
    if part.calendar is None:
        return found
    dates = [part.calendar.date(hour) for hour in part.calendar.starts]
    return {**found, "initial_times": dates, "calendar": part.calendar.name}


def _part(emulator: Emulator, data: Path, split: str, trajectories: int | None) -> Trajectories:
    """The trajectories that are forecast."""
    part = emulator.told(open_data(data).split(split))
    emulator.check_known(part)
    return part if trajectories is None else part.select(range(min(trajectories, part.shape[0])))


def _means(means: str | None, part: Trajectories, leads: int, stride: int) -> list[PeriodMeans]:
    """What gathers the means of months, or of periods of a number of leads, if either is asked for."""
    if means is None:
        return []
    if means.isdecimal() and int(means):
        return [PeriodMeans([stretches(leads, int(means))] * part.shape[0])]
    if means != "month":
        raise ConfigError(f"--means: should be 'month' or a number of leads, got {means!r}")
    if part.calendar is None:
        raise ConfigError("--means month: the data have no calendar; give a number of leads in place of 'month'")
    elapsed = part.dt * stride * np.arange(1, leads + 1)
    return [PeriodMeans(months(part.calendar, elapsed, part.time_units))]


def _guard(data: Path) -> Guard:
    """The guard of the training split."""
    with naming(data):
        return Guard(bounds_of(open_data(data).split("train")), lambda said: warnings.warn(said, stacklevel=2))


def _key(run: Path, origin: Mapping[str, Any], *settings: Any) -> str:
    """What tells a forecast from every other that may be made to the same place."""
    weights = read_json(run / "emulator.json", "a finished run").get("sha256")
    return hashlib.sha256(repr((weights, dict(origin), settings)).encode()).hexdigest()[:16]


def _sampler(text: str) -> Sampler:
    """The sampler that a command-line option describes."""
    spec = parse_value(text, "--sampler")
    if not isinstance(spec, str | dict):
        raise ConfigError(f"--sampler: should be a name or a mapping with 'type', got {text!r}")
    return build_sampler(spec)


def stride_of(layout: Layout, data: Trajectories) -> int:
    """How many frames of a data set one step of an emulator spans."""
    stride = round(layout.dt / data.dt)
    if stride < 1 or abs(stride * data.dt - layout.dt) > 1e-6 * layout.dt:
        raise DataError(f"the emulator steps by {layout.dt:g}, not a multiple of the data's {data.dt:g}")
    return stride


def initial_states(layout: Layout, part: Trajectories, called: Sequence[str]) -> np.ndarray:
    """The first frame of each trajectory (N, C, *S), each with a name, checked against what was fitted to."""
    found = (len(part.fields), *(len(axis) for axis in part.axes))
    if part.fields.names != layout.fields.names or found != layout.shape:
        raise DataError(
            f"the emulator takes {', '.join(layout.fields.names)} on {layout.shape[1:]}, the data hold "
            f"{', '.join(part.fields.names)} on {found[1:]}: choose data of the same fields and grid"
        )
    what = layout.difference(Layout(part.fields, part.axes, part.dt, part.time_units))
    if what:
        raise DataError(f"the data's {what} are not those the emulator was fitted to: choose data of the same {what}")
    states = first_states(part)
    bad = np.argwhere(~np.isfinite(states))
    if len(bad):
        row, channel = bad[0][:2]
        raise DataError(
            f"field '{layout.fields.names[channel]}' holds {states[tuple(bad[0])]} in the initial state {called[row]}: "
            "fill it, or choose another start or split"
        )
    return states


def _known(part: Trajectories, time: int, stride: int) -> Conditioning:
    """What a step of some frames from one frame knows of every trajectory."""
    count = part.shape[0]
    return part.conditioning(np.arange(count), np.full(count, time), stride)


def digest_of(states: np.ndarray) -> str:
    """What tells the initial states of one forecast from those of another."""
    return hashlib.sha256(np.ascontiguousarray(states, np.float32).tobytes()).hexdigest()[:16]


SAID = ("beyond", "diverged", "drifting")
COST = ("calls", "parameters", "ms_per_step")


@torch.no_grad()
def cost(emulator: Emulator, batch: int = 16, repeats: int = 5) -> dict[str, float]:
    """Network calls, weights, and measured milliseconds of one step of one member in encoded space, guess included."""
    networks, calls = networks_of(emulator.stepper), 0
    if not networks:
        return {}

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    fields, parameters = emulator.spec.get("fields", 0), emulator.spec.get("parameters", 0)
    dates = len(emulator.spec.get("dates", {}).get("names", ()))
    nothing = unknown(0, parameters, 1, (), dates)
    codec, stepper = emulator.running
    encoded = codec.encode(torch.zeros(1, *emulator.layout.shape), nothing.fixed)
    v = encoded.new_zeros(batch, *encoded.shape[1:])
    known = unknown(fields, parameters, batch, emulator.layout.shape[1:])
    keys = [(i, 0) for i in range(batch)]
    stepper.step(v, known, emulator.noise_stream(0, 0, keys))
    handles = [network.register_forward_hook(count) for network in networks]
    began = time.perf_counter()
    for lead in range(repeats):
        v = stepper.step(v, known, emulator.noise_stream(0, lead, keys))
    seconds = time.perf_counter() - began
    for handle in handles:
        handle.remove()
    return {
        "calls": calls // repeats,
        "parameters": sum(p.numel() for network in networks for p in network.parameters()),
        "ms_per_step": round(1e3 * seconds / repeats / batch, 4),
    }


def networks_of(stepper: Stepper) -> list[torch.nn.Module]:
    """What one step of a stepper calls: its network, and that of its guess."""
    guess = getattr(stepper, "guess", None)
    own = getattr(stepper, "network", None)
    return [*([own] if isinstance(own, torch.nn.Module) else []), *([] if guess is None else networks_of(guess))]


def unknown(fields: int, parameters: int, rows: int, space: Sequence[int], dates: int = 0) -> Conditioning:
    """Zeros in place of what a step may know besides the state; the last `dates` of the parameters tell the date."""
    return Conditioning(
        torch.zeros(rows, fields, *space) if fields else None,
        torch.zeros(rows, parameters) if parameters else None,
        dates,
    )
