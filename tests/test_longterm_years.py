"""The climate of long forecasts: what chance gives, and how runs are divided into years and months."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from driftway.data import save_zarr
from driftway.data.calendar import Calendar
from driftway.errors import DataError
from driftway.longterm.bias import STATISTICS, band, by_chance, climate, compared
from driftway.longterm.examination import examine
from driftway.longterm.page import climate_page, findings
from driftway.longterm.reading import gather, month_means
from driftway.longterm.results import described
from driftway.longterm.sources import EPOCH, Sampling, of_data
from driftway.longterm.years import Seasons, Years, assembled
from tests.longrun import Truth, forecast
from tests.test_climate_network import sphere

YEAR = 365
AREA = np.array([0.6, 1.4, 1.4, 0.6])[:, None] * np.ones(8)
SEASONS = Seasons(Calendar((0.0,), EPOCH, "noleap"))


# --- bands ----------------------------------------------------------------------------------------------------------


def years(rng: np.random.Generator, count: int, off: float = 0.0) -> Years:
    monthly = 0.5 * rng.standard_normal((count, 12, 2, 4, 8)) + 10 + off
    return Years(monthly, monthly, rng.chisquare(30, (count, 2, 4, 8)) / 30, SEASONS.weights)


@pytest.mark.parametrize(("own", "truth", "also"), [(10, 10, 10), (4, 6, 8), (40, 10, 0), (10, 2, 2)])
def test_bands_hold_what_they_say(own: int, truth: int, also: int) -> None:
    """Of 100 pairs of climates of one law, 95 % lie inside; of those that are off by a known bias, few."""
    inside: dict[str, list[bool]] = {name: [] for name in STATISTICS}
    off = []
    for seed in range(100):
        rng = np.random.default_rng((seed, own))
        happened = years(rng, truth)
        parts = [happened, *([years(rng, also)] if also else [])]
        ends = band(by_chance(parts, AREA, own, truth, draws=300, seed=seed), 2)
        reference = climate([happened])
        values = compared(climate([years(rng, own)]), reference, AREA)
        for name in STATISTICS:
            inside[name] += ((values[name] >= ends[name][0]) & (values[name] <= ends[name][1])).tolist()
        wrong = compared(climate([years(rng, own, 0.15)]), reference, AREA)["bias"]
        off += ((wrong >= ends["bias"][0]) & (wrong <= ends["bias"][1])).tolist()
    share = {name: np.mean(values) for name, values in inside.items()}
    assert all(0.9 <= value <= 1 for value in share.values()), share
    assert max(share["bias"], share["rmsb"], share["pattern"]) < 0.999 and np.mean(off) < 0.1


def test_bands_are_those_of_years_that_are_drawn() -> None:
    """Every draw again, with its maps."""
    rng, draws = np.random.default_rng(1), 50
    parts = [years(rng, 3), years(rng, 4)]
    kept = years(rng, 7)
    parts = [replace(own, kept=kept.kept[at]) for own, at in zip(parts, (slice(0, 3), slice(3, 7)), strict=True)]
    chance = by_chance(parts, AREA, 5, 3, draws, seed=8)
    assert chance is not None
    again = np.random.default_rng(8)
    drawn, against = (again.multinomial(n, np.full(7, 1 / 7), draws) for n in (5, 3))
    whole = [np.concatenate([getattr(own, name) for own in parts]) for name in ("monthly", "kept")]
    wide = [u.mean(0) + np.sqrt(7 / 6) * (u - u.mean(0)) for u in whole]
    level = np.concatenate([(AREA * own.within).mean((2, 3)) for own in parts])
    level = level.mean(0) + np.sqrt(7 / 6) * (level - level.mean(0))
    within = np.broadcast_to(level[:, :, None, None], (7, 2, 4, 8))
    student = np.sqrt(6 / again.chisquare(6, draws))
    for k in range(draws):
        rows = [np.repeat(np.arange(7), counts[k]) for counts in (drawn, against)]
        own, truth = (climate([Years(wide[0][r], wide[1][r], within[r], SEASONS.weights)]) for r in rows)
        values = compared(own, truth, AREA)
        apart = drawn[k] / 5 - against[k] / 3
        stretch = np.sqrt((1 / 5 + 1 / 3) / (apart**2).sum())
        np.testing.assert_allclose(chance["bias"][k], student[k] * values["bias"], rtol=1e-6)
        np.testing.assert_allclose(chance["variance"][k], values["variance"], rtol=1e-6, atol=1e-12)
        for name in ("rmsb", "season", "pattern"):
            np.testing.assert_allclose(chance[name][k], stretch * values[name], rtol=1e-6)


def test_one_year_says_nothing_of_chance(tmp_path: Path) -> None:
    truth = Truth()
    truth.saved(tmp_path / "truth.zarr", 0, YEAR)
    states = truth.states(np.random.default_rng(5), YEAR + 1)[None, None, 1:]
    one = examine([forecast(tmp_path / "f.zarr", truth, states)], tmp_path / "truth.zarr")
    assert one.compared[0].pooled is not None and np.isnan(one.compared[0].pooled.high["rmsb"]).all()
    assert "says nothing of chance" in findings(one)[0]
    assert described(one)["compared"]["f"]["pooled"]["t"]["bias"]["inside"] is None
    assert climate_page(tmp_path / "page.html", one).is_file()


# --- years, months and hours ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "days"), [("noleap", 365), ("360_day", 360), ("proleptic_gregorian", 365)])
def test_years_begin_with_the_run_and_months_with_the_calendar(name: str, days: int) -> None:
    bins = Seasons(Calendar((0.0,), EPOCH, name))
    first = bins.clock.hours_since(0, "2001-01-21T06:00")
    times = first + 24.0 * np.arange(2 * days)
    places = bins.places(times, first)
    assert [year for year, _ in places] == [0] * days + [1] * days
    january = [k for k, (year, month) in enumerate(places) if (year, month) == (0, 0)]
    longest = 30 if name == "360_day" else 31
    assert january == [*range(longest - 20), *range(days - 20, days)] and places[longest - 20] == (0, 1)
    assert bins.weights.sum() == pytest.approx(1) and bins.expected(24.0).sum() == days
    assert bins.weights[1] == pytest.approx((30 if name == "360_day" else 28) / days)


def test_a_leap_year_has_its_day() -> None:
    bins = Seasons(Calendar((0.0,), EPOCH, "proleptic_gregorian"))
    first = bins.clock.hours_since(0, "2004-01-01")
    places = bins.places(first + 24.0 * np.arange(731), first)
    assert places.count((0, 1)) == 29 and places.count((1, 1)) == 28 and places[366] == (1, 0)


@pytest.mark.parametrize("start", [0.0, 24.0 * 20])
def test_means_of_months_stand_for_all_steps(tmp_path: Path, start: float) -> None:
    """Also where a forecast begins within a month, whose other half comes at the end."""
    truth = Truth(dt=6.0, axes=sphere(2, 4))
    leads = 8 * YEAR
    first = start + 6
    states = truth.states(np.random.default_rng(3), leads, first)[None, None]
    save_zarr(truth.data(np.random.default_rng(0), 12 * YEAR), tmp_path / "truth.zarr")
    kept = forecast(tmp_path / "kept.zarr", truth, states, every=4, means=True, start=start)
    whole = forecast(tmp_path / "whole.zarr", truth, states, start=start)
    by_means = examine([kept], tmp_path / "truth.zarr")
    by_states = examine([whole], tmp_path / "truth.zarr")
    assert by_means.facts["means are of"] == "all steps, from the means of months"
    ours, all_ = (own.compared[0].pooled for own in (by_means, by_states))
    assert ours is not None and all_ is not None
    for name in ("bias", "rmsb", "season", "pattern"):
        np.testing.assert_allclose(ours.values[name], all_.values[name], atol=2e-3)
    table = month_means(xr.open_zarr(kept, group="means", consolidated=False), 0, 0, truth.layout)
    assert sorted(table) == [(year, month) for year in range(2) for month in range(12)]


def test_trajectories_of_a_run_that_follow_each_other_are_one(tmp_path: Path) -> None:
    truth = Truth(axes=sphere(2, 4))
    rows = truth.data(np.random.default_rng(0), 100, 8)
    order = [3, 0, 1, 2, 7, 4, 5, 6]
    runs = [0 if row < 4 else 1 for row in order]
    mixed = replace(rows.select(order), attributes={"run": runs})
    source = of_data(save_zarr(mixed, tmp_path / "mixed.zarr"), "test")
    assert [len(run) for run in source.runs] == [4, 4] and source.length == 800
    assert [piece.start for piece in source.runs[0]] == sorted(piece.start for piece in source.runs[0])
    np.testing.assert_array_equal(source.runs[1][0].read(0, 100)[0], np.asarray(rows.states)[4])
    ((first,), (second,)) = gather(source, SEASONS, Sampling(24.0, source.runs[0][0].start))
    own = assembled([first.kept, second.kept], [first.kept, second.kept], SEASONS, 24.0, 24.0)
    assert len(own) == 2 and own.left_out == 70
    gap = replace(rows.select([0, 1, 3, 4]), attributes={})
    assert [len(run) for run in of_data(save_zarr(gap, tmp_path / "gap.zarr"), "all").runs] == [2, 2]


@pytest.mark.parametrize(("every", "hours"), [(4, 24), (2, 12), (1, 6)])
def test_the_truth_is_looked_at_when_forecasts_are(tmp_path: Path, every: int, hours: int) -> None:
    data = Truth(dt=6.0, axes=sphere(2, 4)).data(np.random.default_rng(0), 20)
    shifted = replace(data, calendar=Calendar((5.0,), "2001-01-01", "noleap"))
    (piece,) = of_data(save_zarr(shifted, tmp_path / "d.zarr"), "test").runs[0]
    places = piece.places(Sampling(hours, piece.start + 6 * 9 + 24 * 365 * 7))
    assert places.tolist() == list(range(9 % every, 20, every))
    with pytest.raises(DataError, match="cannot be looked at every"):
        piece.places(Sampling(hours, piece.start + 1))
    with pytest.raises(DataError, match="cannot be looked at every 3"):
        piece.places(Sampling(3, piece.start))
