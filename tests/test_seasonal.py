"""Climatology by date against closed forms and brute force, and the anomaly correlation that is taken from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from driftway.data import moments, open_data, save_zarr
from driftway.data.climatologies import DATE, climatologies, climatology_at
from driftway.data.layout import Layout
from driftway.data.row_by_row import row_by_row
from driftway.data.seasonal import analogues, climatology_of
from driftway.data.starts import begun
from driftway.data.trajectories import Trajectories
from driftway.evaluation import score
from driftway.glossary import is_reference
from driftway.metrics import anomaly_correlation
from driftway.scoring import baselines, truth_for, usual
from tests.dated import YEAR, dated, seasons

FRAMES = 730


def times(rows: int, frames: int = FRAMES, dt: float = 12.0, start: float = 0.0) -> np.ndarray:
    return start + YEAR * np.arange(rows)[:, None] + dt * np.arange(frames)


def noisy(rows: int = 3, splits: tuple[str, ...] | None = None, seed: int = 0) -> Trajectories:
    """Years that differ from the seasons by noise."""
    hours = times(rows)
    noise = np.random.default_rng(seed).standard_normal((*hours.shape, 1, 4, 6))
    return dated(seasons(hours) + noise, tuple(hours[:, 0]), splits=splits)


def layout_of(data: Trajectories) -> Layout:
    return Layout(data.fields, data.axes, data.dt, data.time_units)


# --- the fit -------------------------------------------------------------------------------------------------------


def test_seasons_without_noise_are_found_exactly() -> None:
    hours = times(2)
    found = climatology_of(dated(seasons(hours), tuple(hours[:, 0])))
    assert found.harmonics == 3 and found.hours.tolist() == [0, 12]
    later = 7 * YEAR + np.array([0.0, 12.0, 4000 * 1.2, 8748.0])
    np.testing.assert_allclose(found.at(later), seasons(later), atol=2e-5)
    assert np.abs(found.coefficients[:, [3, 6]]).max() < 1e-5  # of the third harmonic, which is not there


def test_the_fit_is_that_of_least_squares() -> None:
    data = noisy()
    found = climatology_of(data, harmonics=2)
    hours, states = times(3).ravel(), np.asarray(data.states, np.float64).reshape(-1, 24)
    for kind, hour in enumerate((0, 12)):
        here = hours % 24 == hour
        phase = 2 * np.pi * (hours[here] % YEAR) / YEAR
        basis = np.stack([phase**0, np.cos(phase), np.cos(2 * phase), np.sin(phase), np.sin(2 * phase)], 1)
        expected = np.linalg.lstsq(basis, states[here], rcond=None)[0]
        np.testing.assert_allclose(found.coefficients[kind].reshape(5, 24), expected, atol=1e-10)


def test_blocks_do_not_matter_and_no_more_than_one_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = noisy()
    whole = climatology_of(data).coefficients
    stored = open_data(save_zarr(data, tmp_path / "x.zarr"))
    monkeypatch.setattr(moments, "BLOCK_BYTES", 100 * 4 * 24)
    np.testing.assert_allclose(climatology_of(stored).coefficients, whole, atol=1e-10)


def test_the_29th_of_february_lies_between_its_neighbours() -> None:
    data = noisy()
    found = climatology_of(replace(data, calendar=replace(data.calendar, name="proleptic_gregorian")))
    assert found.calendar is not None
    leap = found.calendar.hours_since(1, "2000-02-29T00:00")
    year = found.at(leap + 24 * np.arange(-1, 2))
    assert np.abs(np.diff(year, axis=0)).max() < 0.2


@pytest.mark.parametrize("kept", [0.5, 0.85])
def test_a_part_of_the_year_has_no_seasons_but_a_mean(kept: float) -> None:
    data = noisy(2)
    part = data.window(0, int(kept * FRAMES))
    found = climatology_of(part)
    assert found.harmonics == 0 and "mean state" in found.description
    np.testing.assert_allclose(found.at(np.zeros(2))[1], np.asarray(part.states).mean((0, 1)), atol=1e-4)


def test_trajectories_that_cover_the_year_together_have_seasons() -> None:
    data = noisy(1)
    halves = np.asarray(data.states).reshape(2, FRAMES // 2, 1, 4, 6)
    found = climatology_of(dated(halves, (0.0, FRAMES // 2 * 12.0)))
    np.testing.assert_allclose(found.coefficients, climatology_of(data).coefficients, atol=1e-9)
    assert "3 annual harmonics at each of 2 hours" in found.description


def test_without_a_calendar_it_is_the_mean_whatever_the_time() -> None:
    data = replace(noisy(2), calendar=None)
    found = climatology_of(data).at(np.array([0.0, 1e6]))
    np.testing.assert_allclose(
        found, np.broadcast_to(np.asarray(data.states, float).mean((0, 1)), found.shape), atol=1e-5
    )


# --- states of other years -----------------------------------------------------------------------------------------


def test_analogues_are_the_nearest_frames_at_the_same_hour_of_each_year() -> None:
    hours = np.stack([times(1, start=s)[0] for s in (480.0, 480.0 + 6, 3 * YEAR)])
    data = dated(seasons(hours), tuple(hours[:, 0]))
    wanted = 5 * YEAR + np.array([12.0, 24 * 300.0, 24 * 364.0 + 12])
    found = analogues(data, wanted)
    assert found is not None and found.rows.tolist() == [0, 2]  # the second has other hours of the day
    for row, frames in zip(found.rows, found.frames, strict=True):
        for time, frame in zip(wanted, frames, strict=True):
            apart = np.abs(hours[row] % YEAR - time % YEAR)
            apart = np.where(hours[row] % 24 == time % 24, np.minimum(apart, YEAR - apart), np.inf)
            assert apart[frame] == apart.min() <= 24
    np.testing.assert_array_equal(found.states(data)[1, 2], data.states[2, found.frames[1, 2]])


def test_a_trajectory_of_several_years_gives_a_state_of_each() -> None:
    hours = times(1, frames=3 * FRAMES)
    found = analogues(dated(seasons(hours), (0.0,)), np.array([10 * YEAR + 240.0]))
    assert found is not None and found.rows.tolist() == [0, 0, 0]
    assert found.frames[:, 0].tolist() == [20, 20 + FRAMES, 20 + 2 * FRAMES]


def test_there_are_none_of_one_year_or_of_dates_that_are_not_covered() -> None:
    assert analogues(noisy(1), np.array([0.0])) is None
    assert analogues(noisy(3).window(0, 400), np.array([24.0 * 300])) is None
    assert analogues(replace(noisy(3), calendar=None), np.array([0.0])) is None


# --- as references -------------------------------------------------------------------------------------------------


def split_years() -> Trajectories:
    return noisy(4, ("train", "train", "train", "test"))


def test_references_have_the_dates_of_the_truth() -> None:
    data = split_years()
    part = begun(data.split("test"), [5])
    truth = truth_for(part, 4, stride=3)
    np.testing.assert_array_equal(truth[DATE].values[0], 3 * YEAR + 12.0 * (5 + 3 * np.arange(1, 5)))
    found = baselines(data, part, truth, layout_of(data))
    assert list(found) == ["persistence", "climatology", "climatology, ensemble"] and all(map(is_reference, found))
    usual_there = climatology_of(data.split("train")).at(truth[DATE].values[0])
    np.testing.assert_array_equal(found["climatology"]["tas"].values[0, 0], usual_there[:, 0])
    years = found["climatology, ensemble"]["tas"]
    assert years.sizes["realization"] == 3
    np.testing.assert_array_equal(years.values[:, 0], np.asarray(data.states)[:3, [8, 11, 14, 17], 0])


def test_one_training_year_has_no_ensemble() -> None:
    data = noisy(2, ("train", "test"))
    truth = truth_for(data.split("test"), 2)
    assert list(climatologies(data.split("train"), truth, layout_of(data))) == ["climatology"]


def test_only_what_is_looked_at_is_made() -> None:
    data = split_years()
    truth = truth_for(data.select([0, 1, 2]), 2)
    made: list[int] = []

    def states(row: int) -> np.ndarray:
        made.append(row)
        return np.full((2, 2, 1, 4, 6), row, np.float32)

    found = row_by_row(states, 2, truth, layout_of(data), {})
    assert made == []
    assert found.isel(trajectory=1)["tas"].values.shape == (2, 2, 4, 6) and made == [1]
    assert found.isel(trajectory=1, realization=0)["tas"].values.mean() == 1 and made == [1]
    assert found["tas"].values.shape == (2, 3, 2, 4, 6)
    assert found["tas"].values[:, :, 0, 0, 0].tolist() == [[0, 1, 2]] * 2


# --- anomaly correlation -------------------------------------------------------------------------------------------


def test_the_anomaly_correlation_is_neither_centred_nor_blind_to_weights() -> None:
    rng = np.random.default_rng(0)
    forecast, truth, usual_there = (torch.from_numpy(rng.standard_normal((3, 2, 4, 6)) + 5) for _ in range(3))
    weights = torch.arange(1.0, 5, dtype=torch.float64)[:, None].expand(4, 6)
    found = anomaly_correlation(forecast, truth, usual_there, space=2, weights=weights)
    f, u, w = (forecast - usual_there).numpy(), (truth - usual_there).numpy(), weights.numpy()
    expected = (w * f * u).sum((2, 3)) / np.sqrt((w * f**2).sum((2, 3)) * (w * u**2).sum((2, 3)))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_what_known_forecasts_get() -> None:
    rng = np.random.default_rng(1)
    truth, usual_there, other = (torch.from_numpy(rng.standard_normal((1, 1, 64, 64))) for _ in range(3))

    def acc(forecast: torch.Tensor) -> float:
        return float(anomaly_correlation(forecast, truth, usual_there, space=2))

    assert acc(truth) == pytest.approx(1) and acc(2 * usual_there - truth) == pytest.approx(-1)
    assert acc(usual_there + 0.01 * (truth - usual_there)) == pytest.approx(1)
    assert acc(usual_there) == 0 and abs(acc(usual_there + other)) < 0.05
    assert np.isnan(acc(truth * np.nan))


def test_scores_have_it_with_bounds_where_a_climatology_is_given() -> None:
    data = noisy(12, ("train",) * 2 + ("test",) * 10)
    truth, layout = truth_for(data.split("test"), 3), layout_of(data)
    beside = baselines(data, data.split("test"), truth, layout)
    expected = usual(beside, truth)
    found = score(beside, truth, layout, climatology=expected)
    assert "acc" not in score(beside, truth, layout)
    assert float(np.abs(found["acc"].sel({"method": "climatology"})).max()) == 0
    assert "annual harmonics" in found.attrs["climatology"]
    there = climatology_at(data.split("train"), truth, layout)["tas"].values
    start = np.asarray(data.split("test").states)[:, :1, 0]
    weights = np.asarray(layout.weights)
    f, u = start - there, truth["tas"].values - there
    each = (weights * f * u).sum((2, 3)) / np.sqrt((weights * f**2).sum((2, 3)) * (weights * u**2).sum((2, 3)))
    ours = found.sel({"method": "persistence"}).isel(field=0)
    np.testing.assert_allclose(ours["acc"], each.mean(0), atol=1e-5)
    assert (ours["acc_low"] < ours["acc"]).all() and (ours["acc"] < ours["acc_high"]).all()


def test_a_forecast_that_diverges_has_none_from_there_on() -> None:
    data = split_years()
    truth, layout = truth_for(data.split("test"), 3), layout_of(data)
    bad = truth[["tas"]].expand_dims("realization").copy(deep=True)
    bad["tas"][:, :, 1:] = np.nan
    found = score({"bad": bad}, truth, layout, climatology=climatology_at(data.split("train"), truth, layout))
    values = found["acc"].values.ravel()
    assert values[0] == pytest.approx(1) and np.isnan(values[1:]).all()


def test_the_root_of_the_member_error_is_taken_last() -> None:
    data = split_years()
    truth, layout = truth_for(data.select([0, 1, 2]), 3), layout_of(data)
    rng = np.random.default_rng(3)
    noise = xr.DataArray(rng.standard_normal((5, 3, 3, 4, 6)), dims=("realization", *truth["tas"].dims))
    members = (truth[["tas"]] + noise).transpose("realization", ...)
    found = score({"x": members.astype("float32")}, truth, layout)
    weights = xr.DataArray(layout.weights / layout.weights.sum(), dims=("lat", "lon"))
    square = (weights * (members["tas"] - truth["tas"]) ** 2).sum(("lat", "lon")).mean(("realization", "trajectory"))
    np.testing.assert_allclose(found["rmse_member"].values.ravel(), np.sqrt(square), rtol=1e-5)
    square = (weights * (members["tas"].mean("realization") - truth["tas"]) ** 2).sum(("lat", "lon")).mean("trajectory")
    np.testing.assert_allclose(found["skill"].values.ravel(), np.sqrt(square), rtol=1e-5)
