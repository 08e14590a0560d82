"""Long forecasts: what is kept, means of periods, a guard, constant memory, and going on after a kill."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import driftway.record
from driftway.codecs import Identity
from driftway.data import save_zarr
from driftway.data.axes import Axis, Fields
from driftway.data.calendar import Calendar
from driftway.data.forecasts import open_forecast
from driftway.data.layout import Layout
from driftway.data.summaries import (
    KINDS,
    Bounds,
    Guard,
    Made,
    PeriodMeans,
    Summary,
    months,
    open_means,
    stretches,
)
from driftway.emulator import Emulator
from driftway.errors import ConfigError, DataError
from driftway.forecasting import forecast_run
from driftway.workflow import fit_stepper
from tests import small

LEADS, MEMBERS = 23, 3
LAYOUT = Layout(Fields(("u", "v"), ("m", "K")), (Axis.uniform("x", 8, 1.0),), 6.0, "h")
STARTS = np.random.default_rng(0).standard_normal((2, *LAYOUT.shape)).astype(np.float32)


class Walk:
    """A random walk, which at `after` steps goes astray in member 1 of state 0 as `astray` says."""

    random = True

    def __init__(self, after: int = 10**9, astray: Callable[[torch.Tensor], torch.Tensor] = torch.clone):
        self.after, self.astray, self.steps = after, astray, 0

    def step(self, state: torch.Tensor, conditioning: Any = None, stream: Any = None) -> torch.Tensor:
        self.steps += 1
        ahead = 0.9 * state + 0.1 * stream.normal(state)
        if self.steps >= self.after:
            ahead[2, 1] = self.astray(ahead[2, 1])  # rows run member by member: (1, 0)
        return ahead


def walk(stepper: Any = None) -> Emulator:
    return Emulator(Identity(), stepper or Walk(), LAYOUT)


def whole() -> xr.Dataset:
    return walk().forecast(STARTS, LEADS, MEMBERS, seed=4)


def made(out: Path, emulator: Emulator | None = None, **settings: Any) -> xr.Dataset:
    return (emulator or walk()).forecast(STARTS, LEADS, MEMBERS, out=out, **{"seed": 4, **settings})


# --- what is kept ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "batch"), [(1, 64), (4, 64), (4, 2), (5, 3), (23, 1)])
def test_every_so_many_leads_are_kept(tmp_path: Path, every: int, batch: int) -> None:
    kept, full = made(tmp_path / "f.zarr", every=every, batch=batch), whole()
    chosen = slice(every - 1, None, every)
    assert np.array_equal(kept["lead_time"], full["lead_time"][chosen]) and not list(tmp_path.rglob("place*"))
    for name in ("u", "v"):
        np.testing.assert_allclose(kept[name], full[name][:, :, chosen], rtol=1e-6)
    assert walk().forecast(STARTS, LEADS, MEMBERS, seed=4, every=every)["u"].equals(kept["u"].load()) or batch < 6


class Counted(Identity):
    """Counts the states that it decodes."""

    rows = 0

    def decode(self, v: torch.Tensor, params: torch.Tensor | None = None) -> torch.Tensor:
        self.rows += len(v)
        return v


@pytest.mark.parametrize(("gathered", "decoded"), [(False, 5), (True, LEADS)])
def test_states_that_nothing_sees_are_not_decoded(tmp_path: Path, gathered: bool, decoded: int) -> None:
    codec = Counted()
    summaries: list[Summary] = [PeriodMeans([stretches(LEADS, 4)] * 2)] if gathered else []
    found = made(tmp_path / "f.zarr", Emulator(codec, Walk(), LAYOUT), every=4, summaries=summaries)
    assert codec.rows == decoded * 2 * MEMBERS
    np.testing.assert_allclose(found["u"], whole()["u"][:, :, 3::4], rtol=1e-6)


@pytest.mark.parametrize("every", [0, 24])
def test_as_many_leads_as_there_are_may_be_left_out(every: int) -> None:
    with pytest.raises(ConfigError, match="from 1 to the number of leads, 23"):
        walk().forecast(STARTS, LEADS, every=every)


def test_summaries_need_a_place_on_disk() -> None:
    with pytest.raises(ConfigError, match="give `out`"):
        walk().forecast(STARTS, LEADS, summaries=[PeriodMeans([stretches(LEADS, 5)] * 2)])


# --- means ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [64, 2, 1])
def test_means_are_those_of_the_whole_forecast(tmp_path: Path, batch: int) -> None:
    """Also where the periods of trajectories end at different leads and are not equally many."""
    periods = [stretches(LEADS, 5), ["a"] * 9 + ["b"] * 14]
    made(tmp_path / "f.zarr", every=7, batch=batch, summaries=[PeriodMeans(periods)])
    found, full = open_means(tmp_path / "f.zarr"), whole()
    assert found["u"].dims == ("realization", "trajectory", "period", "x") and found.sizes["period"] == 5
    for row, names in enumerate(periods):
        for period, label in enumerate(dict.fromkeys(names)):
            leads = [lead for lead, name in enumerate(names) if name == label]
            here = found.isel(trajectory=row, period=period)
            assert (str(here["label"].values), int(here["count"])) == (label, len(leads))
            for name in ("u", "v"):
                expected = full[name].values[:, row, leads].astype(np.float64).mean(1)
                np.testing.assert_allclose(here[name], expected, rtol=0, atol=1e-6)
    assert bool(np.isnan(found["u"][:, 1, 2:]).all()) and found["count"][1, 2:].values.tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", ["noleap", "360_day", "proleptic_gregorian"])
def test_months_follow_the_calendar(name: str) -> None:
    calendar = Calendar((0.0, 24.0 * 15), "2000-01-20T06:00", name)
    days = 60
    found = months(calendar, np.arange(1, 4 * days + 1) / 4, "days")
    ends = {"noleap": (31, 28), "360_day": (30, 30), "proleptic_gregorian": (31, 29)}[name]
    january = 4 * (ends[0] - 19) - 2  # from 12:00 of the 20th on
    assert (found[0].count("2000-01"), found[0].count("2000-02")) == (january, 4 * ends[1])
    assert found[0][january] == "2000-02" and set(found[1]) == {"2000-02", "2000-03", "2000-04"}


def test_periods_that_come_back_or_are_too_few_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one stretch of leads"):
        PeriodMeans([["1", "2", "1"]])
    with pytest.raises(ConfigError, match="the period of each of 23 leads of 2 initial states"):
        made(tmp_path / "f.zarr", summaries=[PeriodMeans([stretches(LEADS, 5)])])
    made(tmp_path / "g.zarr")
    with pytest.raises(DataError, match="holds no means"):
        open_means(tmp_path / "g.zarr")


# --- memory ---------------------------------------------------------------------------------------------------------


class Counting:
    """Counts states that are still alive."""

    def __init__(self) -> None:
        self.seen, self.most = list[weakref.ref[Any]](), 0

    def open(self, made: Made) -> None:
        pass

    def see(self, members: slice, trajectories: slice, lead: int, states: np.ndarray) -> None:
        self.seen.append(weakref.ref(states.base if states.base is not None else states))
        self.most = max(self.most, sum(ref() is not None for ref in self.seen))

    def state(self) -> dict[str, np.ndarray]:
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        pass

    def close(self) -> dict[str, str]:
        return {}


def test_the_number_of_states_in_memory_does_not_grow(tmp_path: Path) -> None:
    counting = Counting()
    summaries: list[Summary] = [PeriodMeans([stretches(LEADS, 5)] * 2), Guard(bounds()), counting]
    made(tmp_path / "f.zarr", every=4, batch=2, summaries=summaries, key="memory")
    assert len(counting.seen) == 4 * LEADS and counting.most <= 2  # blocks of two members and of one


# --- the guard ------------------------------------------------------------------------------------------------------


def bounds(low: float = -8.0, high: float = 8.0) -> Bounds:
    edges = np.array([[low], [0.0], [low], [low]]), np.array([[high], [high**2], [high], [high]])
    return Bounds(*(np.repeat(edge, 2, 1) for edge in edges))


@pytest.mark.parametrize(
    ("astray", "kinds"),
    [
        (lambda u: u * 100, {"minimum", "maximum", "energy"}),
        (lambda u: u + torch.nan, set(KINDS)),
        (lambda u: u + 100, {"mean", "minimum", "maximum"}),
    ],
    ids=["blow-up", "not a number", "drift"],
)
def test_the_guard_tells_where_a_member_goes_astray(tmp_path: Path, astray: Any, kinds: set[str]) -> None:
    said: list[str] = []
    found = made(tmp_path / "f.zarr", walk(Walk(9, astray)), summaries=[Guard(bounds(), said.append)])
    guard = xr.open_zarr(tmp_path / "f.zarr", group="guard", consolidated=False)
    outside = {str(kind) for kind in guard["kind"].values if bool((guard["first"].sel(kind=kind) > 0).any())}
    assert outside >= kinds if "mean" in kinds else kinds <= outside
    flagged = guard["first"].sel(kind="maximum").values
    assert flagged[1, 0].tolist() == [0, 9] and np.count_nonzero(flagged) == 1
    assert guard["since"].sel(kind="maximum").values[1, 0, 1] == 9
    assert guard["count"].sel(kind="maximum").values[1, 0, 1] == LEADS - 8
    assert (
        found.attrs["diverged"].startswith("member 1 of 0, ")
        and "of v from lead 9 (54 h) on" in found.attrs["diverged"]
    )
    assert len(said) == 1 + (found.attrs["drifting"] != "none") and said[0] == f"diverged: {found.attrs['diverged']}"
    healthy = whole()
    np.testing.assert_array_equal(found["v"].values[0], healthy["v"].values[0])  # others are as they were
    strayed = found["v"].values[1, 0]
    np.testing.assert_array_equal(strayed[:8], healthy["v"].values[1, 0, :8])
    assert not np.isclose(strayed[8:], healthy["v"].values[1, 0, 8:]).any() and (strayed[8:] != 0).all()


def test_a_member_that_comes_back_is_not_said_to_be_astray(tmp_path: Path) -> None:
    def once(u: torch.Tensor) -> torch.Tensor:
        return u + (20 if stepper.steps == 9 else -18 if stepper.steps == 10 else 0)

    stepper = Walk(9, once)
    found = made(tmp_path / "f.zarr", walk(stepper), summaries=[Guard(bounds())])
    guard = xr.open_zarr(tmp_path / "f.zarr", group="guard", consolidated=False)
    here = guard.sel(kind="maximum").isel(realization=1, trajectory=0, field=1)
    assert (int(here["first"]), int(here["since"]), int(here["count"])) == (9, 0, 1)
    assert found.attrs["diverged"] == found.attrs["drifting"] == "none"


# --- stopping and going on ------------------------------------------------------------------------------------------


class Stopped(BaseException):
    """As a kill would be, but that the test goes on."""


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def summaries() -> list[Summary]:
    return [PeriodMeans([stretches(LEADS, 5), stretches(LEADS, 8)]), Guard(bounds(-1.5, 1.5))]


@pytest.mark.parametrize("batch", [64, 3])
@pytest.mark.parametrize("stop", [3, 11, 22, 30, 45])
def test_a_forecast_that_was_stopped_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, batch: int
) -> None:
    """Stopped before and after there is a note of how far it has come, and in the second block."""
    monkeypatch.setattr(driftway.record, "SAVED", 5)
    settings: dict[str, Any] = {"every": 4, "batch": batch}
    made(tmp_path / "whole.zarr", **settings, summaries=summaries(), key="k")

    class Stopping(Walk):
        def step(self, state: torch.Tensor, conditioning: Any = None, stream: Any = None) -> torch.Tensor:
            if self.steps == stop:
                raise KeyboardInterrupt
            return super().step(state, conditioning, stream)

    rows, total = Walk(), LEADS * (1 if batch == 64 else 2)
    if stop < total:
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path / "f.zarr", walk(Stopping()), **settings, summaries=summaries(), key="k")
        assert not (tmp_path / "f.zarr").exists()
    made(tmp_path / "f.zarr", walk(rows), **settings, summaries=summaries(), key="k")
    assert digests(tmp_path / "f.zarr") == digests(tmp_path / "whole.zarr")
    block, lead = divmod(stop, LEADS)
    noted = LEADS * block + lead - lead % 5 if stop < total else 0
    assert rows.steps == total - noted


def test_one_that_was_killed_before_it_noted_anything_starts_anew(tmp_path: Path) -> None:
    """Also where it left files that are not whole."""
    made(tmp_path / "whole.zarr", every=4, summaries=summaries(), key="k")
    left = tmp_path / ".f.zarr.k.4194305.partial"  # larger than any process number
    for name in ("zarr.json", "u/zarr.json", "means/zarr.json", "means/junk", ".place.safetensors.1.partial"):
        (left / name).parent.mkdir(parents=True, exist_ok=True)
        (left / name).write_text("{")
    made(tmp_path / "f.zarr", every=4, summaries=summaries(), key="k")
    assert digests(tmp_path / "f.zarr") == digests(tmp_path / "whole.zarr")


def test_another_forecast_does_not_go_on_with_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driftway.record, "SAVED", 5)

    class Stopping(Walk):
        def step(self, state: torch.Tensor, conditioning: Any = None, stream: Any = None) -> torch.Tensor:
            if self.steps == 12:
                raise KeyboardInterrupt
            return super().step(state, conditioning, stream)

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "f.zarr", walk(Stopping()), key="one")
    other = Walk()
    made(tmp_path / "f.zarr", walk(other), key="two")
    assert other.steps == LEADS and [path.name for path in tmp_path.iterdir()] == ["f.zarr"]


# --- from the command line ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set that has a calendar, and a run on it."""
    folder = tmp_path_factory.mktemp("long")
    given = small.known_trajectories()
    dated = replace(given, parameters={}, static={}, forcing={}, dt=6.0, time_units="h")
    dated = replace(dated, calendar=Calendar(tuple(24.0 * row for row in range(10)), "2001-01-28T00:00"))
    data = save_zarr(dated, folder / "dated.zarr")
    fit_stepper(small.experiment(folder, data), folder / "run")
    return folder


def asked(place: Path, out: Path, **settings: Any) -> dict[str, Any]:
    return forecast_run(place / "run", place / "dated.zarr", out, **{"leads": 40, "members": 2, **settings})


def test_months_of_a_run(place: Path, tmp_path: Path) -> None:
    asked(place, tmp_path / "full.zarr", start=2)
    said = asked(place, tmp_path / "f.zarr", start=2, every=4, means="month", guard=True)
    full, kept, means = (
        f(tmp_path / n) for f, n in ((open_forecast, "full.zarr"), (open_forecast, "f.zarr"), (open_means, "f.zarr"))
    )
    np.testing.assert_array_equal(kept["u"], full["u"][:, :, 3::4])
    assert kept.attrs["stride"] == 4 and {"diverged", "drifting"} <= set(said)
    calendar = Calendar((24.0 * 8, 24.0 * 9), "2001-01-28T00:00")  # the test split
    for row, labels in enumerate(months(calendar, 6.0 * np.arange(3, 43), "h")):
        for period, label in enumerate(dict.fromkeys(labels)):
            leads = [k for k, name in enumerate(labels) if name == label]
            expected = full["u"].values[:, row, leads].astype(float).mean(1)
            np.testing.assert_allclose(means["u"][:, row, period], expected, rtol=0, atol=1e-6)
            assert str(means["label"].values[row, period]) == label


@pytest.mark.parametrize(("means", "said"), [("year", "'month' or a number"), ("0", "'month' or a number")])
def test_other_means_are_refused(place: Path, tmp_path: Path, means: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        asked(place, tmp_path / "f.zarr", means=means)


def test_months_need_a_calendar(tmp_path: Path, known: Path) -> None:
    with pytest.raises(ConfigError, match="no calendar; give a number of leads"):
        forecast_run(known / "generative", known / "known.zarr", tmp_path / "f.zarr", leads=2, members=1, means="month")


@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_same_bytes(place: Path, tmp_path: Path) -> None:
    options = ["--leads", "2000", "--members", "2", "--every", "4", "--means", "month", "--guard"]
    words = [sys.executable, "-m", "driftway.cli", "forecast", str(place / "run"), "--data", str(place / "dated.zarr")]

    def start(out: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*words, *options, "--out", str(tmp_path / out)], stderr=subprocess.DEVNULL)

    assert start("whole.zarr").wait(200) == 0
    process, deadline = start("f.zarr"), time.monotonic() + 200
    while not list(tmp_path.glob(".f.zarr.*.partial/place.safetensors")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL and not (tmp_path / "f.zarr").exists()
    assert start("f.zarr").wait(200) == 0
    one, other = digests(tmp_path / "f.zarr"), digests(tmp_path / "whole.zarr")
    told = {"zarr.json", "trajectory/SHA256SUMS"}  # what a step cost
    assert {name for name in one if one[name] != other[name]} <= told
    assert one.keys() == other.keys()
