"""The climate of long forecasts: moments, failures, what is refused, and what is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import zarr

import driftway.longterm.sources
from driftway.cli import main
from driftway.data import Trajectories, open_data, save_zarr
from driftway.data.axes import Axis, Fields
from driftway.data.calendar import Calendar
from driftway.data.zarr_store import SUMS
from driftway.errors import ConfigError, DataError
from driftway.longterm.bias import STATISTICS, Climate, climate, compared
from driftway.longterm.examination import Examination, examine
from driftway.longterm.figures import maps_figure
from driftway.longterm.page import climate_page, findings
from driftway.longterm.reading import area_of, gather, spectra
from driftway.longterm.results import described, maps
from driftway.longterm.sources import EPOCH, Sampling, of_data
from driftway.longterm.years import Blocks, Moments, Seasons, assembled
from driftway.metrics import isotropic_spectrum, spherical_spectrum
from tests.longrun import Truth, forecast
from tests.test_climate_network import sphere

YEAR = 365
AREA = np.array([0.6, 1.4, 1.4, 0.6])[:, None] * np.ones(8)
SEASONS = Seasons(Calendar((0.0,), EPOCH, "noleap"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two truth runs, and forecasts of two members: a perfect one, one that is off by 0.2, one that blows up."""
    folder, truth = tmp_path_factory.mktemp("longterm"), Truth()
    truth.saved(folder / "truth.zarr", 0, YEAR, 6)
    truth.saved(folder / "also.zarr", 1, 3 * YEAR, 3, follow=False)
    rng = np.random.default_rng(3)
    states = np.stack([truth.states(rng, 3 * YEAR + 1)[None, 1:] for _ in range(2)])
    forecast(folder / "good.zarr", truth, states, drifting="none", diverged="none")
    forecast(folder / "off.zarr", truth, states + np.array([0.2, 0.0], np.float32)[:, None, None])
    states[1, 0, 700, 1, 2, 3] = np.inf
    forecast(folder / "blown.zarr", truth, states, diverged="member 1 of test 0, not finite of w from lead 701 on")
    return folder


@pytest.fixture(scope="module")
def found(place: Path) -> Examination:
    paths = [place / f"{name}.zarr" for name in ("good", "off", "blown")]
    return examine(paths, place / "truth.zarr", also=place / "also.zarr", also_split="test")


# --- closed forms ---------------------------------------------------------------------------------------------------


def test_a_known_bias_is_found_and_nothing_else(found: Examination) -> None:
    also, good, off, _ = found.compared
    assert (also.truth, good.label, off.label) == (True, "good", "off")
    assert good.pooled is not None and off.pooled is not None and also.pooled is not None
    for own in (also, good):
        assert all(own.pooled.inside(name).all() for name in STATISTICS), own.label
    assert [off.pooled.inside(name).tolist() for name in ("bias", "rmsb")] == [[False, True]] * 2
    assert all(off.pooled.inside(name).all() for name in ("season", "variance", "pattern"))
    np.testing.assert_allclose(off.pooled.values["bias"] - good.pooled.values["bias"], [0.2, 0], atol=1e-5)
    assert sorted(good.alone) == ["member 0", "member 1"] and len(good.members["member 0"]) == 3


def test_means_seasons_and_variance_are_those_of_the_law(found: Examination) -> None:
    truth, own = Truth(), found.reference
    area, scale = area_of(found.layout), np.array([1.0, 2.0])
    error = 5 * ((1 + truth.memory) / (1 - truth.memory) / (6 * YEAR)) ** 0.5  # of the mean at a point
    np.testing.assert_allclose(own.mean[0], truth.mean + truth.map(), atol=error)
    # January's mean of 3 cos 2πY, from the 1st 00:00 to the 31st 00:00
    january = truth.season * np.cos(2 * np.pi * np.arange(31) / YEAR).mean()
    seasonal = (area * (own.months[0] - own.mean)).mean((1, 2))
    np.testing.assert_allclose(seasonal, scale * january, atol=0.1)
    # V = σ² and what the season changes within months, about (2π·3)²/2 · (1/12)²/12
    inside = (2 * np.pi * truth.season / 12) ** 2 / 24
    np.testing.assert_allclose((area * own.variance).mean((1, 2)), scale**2 * (1 + inside), rtol=0.05)


def test_variance_and_season_of_another_law_are_told(tmp_path: Path) -> None:
    truth = Truth()
    truth.saved(tmp_path / "truth.zarr", 0, YEAR, 4)
    other = replace(truth, std=2.0, season=4.0)
    states = other.states(np.random.default_rng(5), 4 * YEAR + 1)[None, None, 1:]
    own = examine([forecast(tmp_path / "f.zarr", truth, states)], tmp_path / "truth.zarr").compared[0].pooled
    assert own is not None
    within = [(2 * np.pi * s / 12) ** 2 / 24 for s in (3.0, 4.0)]
    expected = np.log((4 + within[1]) / (1 + within[0]))
    np.testing.assert_allclose(own.values["variance"], expected, atol=0.05)
    # √(½·1²) of a cosine's months, and chance: months of AR(1) states at each point
    chance = np.mean((own.high["season"] / np.array([1, 2])) ** 2)
    np.testing.assert_allclose(own.values["season"] / [1, 2], np.sqrt(0.5 * 0.98**2 + chance), rtol=0.15)
    assert not own.inside("variance").any() and not own.inside("season").any() and own.inside("bias").all()


# --- against an independent library ---------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 4])
def test_moments_are_those_of_xarray(tmp_path: Path, every: int) -> None:
    """Six-hourly states over two leap years and two others, of which each day's first is kept."""
    truth = Truth(dt=6.0, calendar="proleptic_gregorian", axes=sphere(4, 4))
    leap = 4 * 1461
    calendar = Calendar((0.0,), "2000-01-01", "proleptic_gregorian")
    data = replace(truth.data(np.random.default_rng(2), leap), calendar=calendar)
    save_zarr(data, tmp_path / "t.zarr")
    source = of_data(tmp_path / "t.zarr", "test")
    kept = Sampling(6.0 * every, source.runs[0][0].start)
    ((member,),) = gather(source, bins := Seasons(source.calendar), kept, Sampling(6.0, kept.phase))
    own = assembled([member.kept], [member.every], bins, kept.step, 6.0)
    time = np.datetime64("2000-01-01", "ns") + np.arange(leap) * np.timedelta64(6, "h")
    states = xr.DataArray(np.asarray(data.states)[0].astype(float), dims=("time", "c", "y", "x"), coords={"time": time})
    months = states.groupby("time.month").mean()
    weights = xr.DataArray(np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) / 365, dims="month")
    here = climate([own])
    by_year = states.resample(time="MS").mean().groupby("time.month").mean()  # each year weighs alike
    np.testing.assert_allclose(here.months, by_year.values, rtol=1e-9)
    np.testing.assert_allclose(here.mean, (by_year * weights).sum("month").values, rtol=1e-9)
    assert abs(months - by_year).max() < 0.1
    some = states[::every]
    about = some.groupby("time.month") - some.resample(time="MS").mean().groupby("time.month").mean()
    square = (about**2).resample(time="MS").mean().groupby("time.month").mean()
    np.testing.assert_allclose(here.variance, (square * weights).sum("month").values, rtol=1e-7)
    assert len(own) == 4 and own.left_out == 0 and member.failure is None


def test_moments_in_groups_are_those_of_all() -> None:
    states = 1e4 + np.random.default_rng(0).standard_normal((20, 2, 3))
    found = Moments.of(states[:3])
    for part in (states[3:4], states[4:15], states[15:]):
        found.add(Moments.of(part))
    np.testing.assert_allclose(found.mean, states.mean(0), rtol=1e-14)
    np.testing.assert_allclose(found.squares / found.count, states.var(0), rtol=1e-9)


def test_spectra_are_averaged_over_time(place: Path) -> None:
    source = of_data(place / "also.zarr", "test")
    members = [run[0] for run in gather(source, SEASONS, Sampling(24.0, source.runs[0][0].start))]
    states = np.asarray(open_data(place / "also.zarr").states)[1].astype(float)
    u, lat = torch.from_numpy(states), source.layout.axes[0]
    expected = spherical_spectrum(u, lat.coordinates, source.layout.axes[1].coordinates).power.mean(0)
    np.testing.assert_allclose(members[1].spectra["power"], expected, rtol=1e-9)
    rows = isotropic_spectrum(u, space=1).power.mean(0).numpy()
    area = area_of(source.layout)[:, :1] / 4
    np.testing.assert_allclose(members[1].spectra["zonal"], (rows * area).sum(1), rtol=1e-9)
    assert sorted(spectra(np.asarray(states[:2], np.float32), source.layout)) == ["power", "zonal"]


def test_reading_block_by_block_changes_nothing(
    place: Path, found: Examination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driftway.longterm.sources, "BLOCK_BYTES", 50_000)
    paths = [place / f"{name}.zarr" for name in ("good", "off", "blown")]
    again = examine(paths, place / "truth.zarr", also=place / "also.zarr", also_split="test")
    np.testing.assert_allclose(again.reference.months, found.reference.months, rtol=1e-12)
    np.testing.assert_allclose(again.reference.variance, found.reference.variance, rtol=1e-12)
    for own, before in zip(again.compared, found.compared, strict=True):
        assert own.failures == before.failures
        for name in STATISTICS if own.pooled is not None and before.pooled is not None else ():
            np.testing.assert_allclose(own.pooled.values[name], before.pooled.values[name], rtol=1e-7)  # type: ignore[union-attr]


# --- failures -------------------------------------------------------------------------------------------------------


def test_a_member_that_leaves_the_finite_numbers_is_a_failure(found: Examination) -> None:
    blown = found.compared[-1]
    assert blown.pooled is None and blown.climate is None and not blown.spectra and list(blown.members) == ["member 0"]
    assert blown.failures == {"member 1": "'w' is not finite at lead time 16824 h"}  # 701 · 24
    said = [sentence for sentence in findings(found) if sentence.startswith("blown")]
    assert "member 1 is a failure" in said[0] and "diverged by the guard: member 1" in said[1] and len(said) == 2
    assert described(found)["compared"]["blown"]["pooled"] is None


def test_fields_of_the_papers_bias_are_told_first(found: Examination) -> None:
    names = replace(found, layout=replace(found.layout, fields=Fields(("tas", "zg500"), ("K", "m"))))
    told = [sentence for sentence in findings(names) if sentence.startswith("off: rmsb of")]
    off = found.compared[2].pooled
    assert off is not None and len(told) == 1
    assert told[0].startswith("off: rmsb of zg500 ") and ", tas ✗ 0.2" in told[0]
    assert not any("rmsb of zg500" in sentence for sentence in findings(found))


# --- without dates --------------------------------------------------------------------------------------------------


def test_without_a_calendar_there_are_blocks_and_no_season(tmp_path: Path) -> None:
    truth = Truth(axes=(Axis.uniform("x", 16, 2.0),), calendar=None, dt=0.5)
    truth.saved(tmp_path / "truth.zarr", 0, 2000, 3, follow=False)
    states = np.stack([truth.states(np.random.default_rng(k), 1000)[None] for k in (7, 8)])
    path = forecast(tmp_path / "f.zarr", replace(truth, mean=5.3), states + np.float32(0.3))
    own = examine([path], tmp_path / "truth.zarr")
    assert (
        not own.seasons
        and own.noun == "block"
        and len(own.truth) == 60
        and own.facts["means are of"] == "the states kept"
    )
    pooled = own.compared[0].pooled
    assert pooled is not None and not pooled.inside("bias")[0] and pooled.inside("variance").all()
    np.testing.assert_allclose(pooled.values["season"], 0, atol=1e-12)
    assert "season" not in own.statistics and "season" not in "".join(findings(own))
    happened = np.asarray(open_data(tmp_path / "truth.zarr").states).astype(float)
    np.testing.assert_allclose(own.reference.mean, happened.mean((0, 1)), rtol=1e-6)
    np.testing.assert_allclose(own.reference.variance, happened.var((0, 1)), rtol=1e-6)
    assert climate_page(tmp_path / "page.html", own).is_file()
    assert len(examine([path], tmp_path / "truth.zarr", block=250).truth) == 24
    with pytest.raises(ConfigError, match="--block 1001: the shortest forecast keeps 1000 states"):
        examine([path], tmp_path / "truth.zarr", block=1001)


def test_blocks_are_of_equal_length() -> None:
    bins = Blocks(2.5)
    assert bins.places(np.arange(10) * 0.5 + 3, 3.0) == [(k // 5, 0) for k in range(10)]
    assert bins.expected(0.5).tolist() == [5] and bins.weights.tolist() == [1]


# --- bad input ------------------------------------------------------------------------------------------------------


def spoilt(kind: str, data: Trajectories) -> Trajectories:
    """A truth with what does not go together with a forecast."""
    values = np.array(data.states)
    values[0, 40, 1] = np.nan
    changes: dict[str, dict[str, Any]] = {
        "fields": {"fields": Fields(("t", "q"), ("K", "m s-1"))},
        "units": {"fields": Fields(("t", "w"), ("K", "km s-1"))},
        "grid": {"states": np.asarray(data.states)[..., :1, :], "axes": sphere(1, 4)},
        "nan": {"states": values},
        "hours": {"calendar": Calendar((5.0,), "2001-01-01", "noleap")},
        "calendar": {"calendar": Calendar((0.0,), "2001-01-01", "360_day")},
    }
    return data.window(0, 200) if kind == "short truth" else replace(data, **changes.get(kind, {}))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("fields", "forecast 'f' has no field 'q'; it has [tw], [tw]"),
        ("units", "its units are not those of .*other.zarr"),
        ("grid", "its axes are not those of"),
        ("dates", "does not say the dates of its initial states.*--block"),
        ("short", "forecast 'f', member 0: 200 states at these hours hold no complete year of 365 states.*--block"),
        ("short truth", "other.zarr .test.: 200 states at these hours hold no complete year"),
        ("nan", "other.zarr .test.: field 'w' is not finite in state 41 of a run"),
        ("hours", "cannot be looked at every 24, 0 h after midnight"),
        ("calendar", "has the calendar 360_day, .* noleap"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, kind: str, said: str) -> None:
    truth = Truth(axes=sphere(2, 4))
    states = truth.states(np.random.default_rng(0), 200 if kind == "short" else YEAR)[None, None]
    path = forecast(tmp_path / "f.zarr", truth, states)
    if kind == "dates":
        del zarr.open_group(path, mode="r+").attrs["initial_times"]
        (path / SUMS).unlink()
    data = truth.data(np.random.default_rng(1), YEAR)
    happened, other = save_zarr(data, tmp_path / "truth.zarr"), save_zarr(spoilt(kind, data), tmp_path / "other.zarr")
    settings = {"also": other, "also_split": "all"} if kind == "calendar" else {}
    with pytest.raises(DataError, match=said):
        examine([path], happened if kind == "calendar" else other, **settings)
    if kind in ("dates", "short"):
        assert not examine([path], happened, block=20).seasons


def test_truths_are_two_and_no_forecast_takes_their_names(place: Path, tmp_path: Path) -> None:
    data = place / "truth.zarr"
    with pytest.raises(ConfigError, match="--also is the truth itself"):
        examine([place / "good.zarr"], data, also=data, also_split="test")
    path = forecast(tmp_path / "truth.zarr", Truth(), np.zeros((1, 1, 2, 2, 4, 8), np.float32))
    with pytest.raises(ConfigError, match=r"label 'truth', which is (the truth's|a reference's)"):
        examine([path], data)


def test_forecasts_that_keep_other_states_are_told_apart(tmp_path: Path) -> None:
    truth = Truth(axes=sphere(2, 4))
    states = truth.states(np.random.default_rng(0), 2 * YEAR)[None, None]
    data = truth.saved(tmp_path / "truth.zarr", 0, YEAR)
    paths = [forecast(tmp_path / f"every{n}.zarr", truth, states, every=n) for n in (1, 2)]
    with pytest.raises(DataError, match="'every2' keeps a state each 48, 'every1' each 24: compare them apart"):
        examine(paths, data)


# --- what is written ------------------------------------------------------------------------------------------------


def test_the_command_writes_numbers_maps_and_a_page(
    place: Path, tmp_path: Path, found: Examination, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(place / f"{name}.zarr") for name in ("good", "off", "blown")]
    words += ["--truth", str(place / "truth.zarr"), "--also", str(place / "also.zarr"), "--also-split", "test"]
    assert main(["climate", *words, "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "bias of t" in told and "member 1 is a failure" in told
    numbers = json.loads((tmp_path / "climate.json").read_text())
    off = found.compared[2].pooled
    assert off is not None
    assert numbers["compared"]["off"]["pooled"]["t"]["bias"] == {
        "value": off.values["bias"][0], "low": off.low["bias"][0], "high": off.high["bias"][0], "inside": False
    }  # fmt: skip
    assert len(numbers["compared"]["good"]["years"]["member 1"]["w"]) == 3 and len(numbers["units"]) == 2
    northern = numbers["truth's climate"]["months"]["northern hemisphere"]["t"]
    assert northern[6] == pytest.approx((area_of(found.layout) * found.reference.months[6, 0])[:2].mean(), rel=1e-9)
    stored = xr.open_zarr(tmp_path / "maps.zarr", consolidated=False)
    assert stored["run"].values.tolist() == ["truth", "other truth", "good", "off"]
    np.testing.assert_allclose(stored["t"].sel(run="truth"), found.reference.months[:, 0])
    np.testing.assert_allclose(stored["w_variance"].sel(run="good"), found.compared[1].climate.variance[1])  # type: ignore[union-attr]
    assert stored.equals(maps(found))
    page = (tmp_path / "climate.html").read_text()
    assert all(
        f'id="{section}"' in page for section in ("bias", "maps", "variance", "season", "years", "spectra", "guard")
    )
    assert "✗ 0.2" in page and page.count("<img") == 11


def test_land_is_drawn_where_it_is_known(tmp_path: Path) -> None:
    truth = Truth(axes=sphere(4, 8))
    land = np.zeros((4, 8))
    land[1:3, 2:5] = 1
    data = truth.data(np.random.default_rng(0), YEAR)
    save_zarr(replace(data, static={"lsm": land}), tmp_path / "truth.zarr")
    states = truth.states(np.random.default_rng(5), YEAR)[None, None]
    own = examine([forecast(tmp_path / "f.zarr", truth, states)], tmp_path / "truth.zarr")

    def lines(found: Examination) -> int:
        return sum(len(ax.collections) for ax in maps_figure(found, 0).axes if ax.images)

    assert own.land is not None and lines(own) == 2 and lines(replace(own, land=None)) == 0
    first = maps_figure(own, 0).axes[0].images[0].get_array()
    np.testing.assert_allclose(np.asarray(first), own.reference.mean[0][::-1])  # north is up, latitudes fall


def test_what_rounding_explains_is_inside(tmp_path: Path) -> None:
    """A field that every run conserves to the last digit, and a forecast that is off by half of one digit."""
    truth = Truth(axes=sphere(2, 4), std=0.0, season=0.0)
    truth.saved(tmp_path / "truth.zarr", 0, YEAR, 2)
    states = truth.states(np.random.default_rng(0), YEAR)[None, None]
    off = [forecast(tmp_path / f"f{k}.zarr", truth, states * np.float32(1 + k * 1e-7)) for k in (1, 50)]
    close, far = (own.pooled for own in examine(off, tmp_path / "truth.zarr").compared)
    assert close is not None and far is not None and close.values["bias"][0] > 0
    assert all(close.inside(name).all() for name in ("bias", "rmsb", "season", "pattern"))
    assert not far.inside("bias").any() and not far.inside("rmsb").any()


def test_what_never_changes_has_no_ratio_of_variances() -> None:
    still = Climate(np.ones((12, 1, 4, 8)), np.zeros((1, 4, 8)), SEASONS.weights)
    found = compared(still, still, AREA)
    assert found["bias"] == 0 and found["rmsb"] == 0 and np.isnan(found["variance"]).all()
