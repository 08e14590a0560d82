"""Dates of trajectories: against numpy and hand-made answers, through selections, files and fingerprints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from driftway.data import inspect, open_data, save_well, save_zarr
from driftway.data.calendar import Calendar, from_cf, hours_of
from driftway.errors import DataError
from tests.datasets import example

HOURS = np.arange(0, 24 * 365 * 9, 7.0)


def test_gregorian_dates_are_those_of_numpy() -> None:
    calendar = Calendar((0.0,), "1999-03-01T06:00", "proleptic_gregorian")
    dates = np.datetime64("1999-03-01T06:00") + HOURS.astype(int).astype("m8[h]")
    years = dates.astype("M8[Y]")
    assert [calendar.date(hours) for hours in HOURS[::11]] == [str(date)[:16] for date in dates[::11].astype("M8[m]")]
    assert (calendar.year(HOURS) == years.astype(int) + 1970).all()
    assert np.allclose(calendar.hour_of_year(HOURS), (dates - years) / np.timedelta64(1, "h"))
    assert np.allclose(calendar.hour_of_day(HOURS), (6 + HOURS) % 24)
    assert calendar.days(np.array([1900, 1999, 2000, 2004])).tolist() == [365, 365, 366, 366]


@pytest.mark.parametrize(
    ("name", "epoch", "hours", "date", "hour_of_year"),
    [
        ("noleap", "2000-02-28T18:00", 6, "2000-03-01T00:00", 59 * 24),
        ("noleap", "2000-12-31T18:00", 6, "2001-01-01T00:00", 0),
        ("noleap", "2000-01-01T00:00", -6, "1999-12-31T18:00", 8754),
        ("noleap", "0001-01-01", 100 * 8760 + 24.5, "0101-01-02T00:30", 24.5),
        ("360_day", "2000-02-30T12:00", 12, "2000-03-01T00:00", 60 * 24),
        ("360_day", "1999-12-30", 24, "2000-01-01T00:00", 0),
        ("proleptic_gregorian", "2000-02-28T18:00", 6, "2000-02-29T00:00", 59 * 24),
        ("proleptic_gregorian", "1900-02-28T18:00", 6, "1900-03-01T00:00", 59 * 24),
    ],
)
def test_dates_in_every_calendar(name: str, epoch: str, hours: float, date: str, hour_of_year: float) -> None:
    calendar = Calendar((0.0,), epoch, name)
    assert calendar.date(hours) == date
    assert float(calendar.hour_of_year(hours)) == hour_of_year


def test_a_tenth_of_a_day_falls_on_its_hours() -> None:
    calendar = Calendar((0.0,))
    elapsed = 0.1 * np.arange(1000) * 24
    assert calendar.hour_of_day(elapsed)[::10].tolist() == [0.0] * 100


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "julian"}, "calendar 'julian' is none of noleap, 360_day, proleptic_gregorian"),
        ({"epoch": "2000-02-29"}, "'2000-02-29' is no date of the calendar noleap"),
        ({"epoch": "2000-01-31", "name": "360_day"}, "'2000-01-31' is no date of the calendar 360_day"),
        ({"epoch": "1900-02-29", "name": "proleptic_gregorian"}, "'1900-02-29' is no date"),
        ({"epoch": "yesterday"}, "'yesterday' is no date"),
        ({"starts": (0.0, float("nan"))}, "must be finite"),
    ],
)
def test_what_is_no_calendar_is_named(changes: dict, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Calendar(**{"starts": (0.0,), **changes})


def test_cf_times() -> None:
    calendar = from_cf(np.array([1.5, 2]), "days since 1979-01-01 06:00:00", "standard")
    assert calendar == Calendar((36.0, 48.0), "1979-01-01 06:00:00", "proleptic_gregorian")
    assert calendar.date(calendar.starts[0]) == "1979-01-02T18:00"
    assert from_cf([1.0], "hours since 1-1-1", "365_day").date(1.0) == "0001-01-01T01:00"
    for units, name, said in (
        ("hours", "noleap", "not of the form"),
        ("months since 2000-01-01", "noleap", "time units 'months' cannot be turned into hours"),
        ("hours since 2000-01-01", "julian", "calendar 'julian' is none of"),
    ):
        with pytest.raises(DataError, match=said):
            from_cf([1.0], units, name)


# --- of a data set -------------------------------------------------------------------------------------------------

CALENDAR = Calendar((0.0, 10.0, 20.0, 30.0, 40.0), "2001-01-01T00:00", "noleap")


def test_select_split_window_and_stride_move_the_starts() -> None:
    data = example(calendar=CALENDAR)  # frames a quarter of an hour apart
    assert data.select([3, 1]).calendar == replace(CALENDAR, starts=(30.0, 10.0))
    assert data.split("test").calendar == replace(CALENDAR, starts=(30.0,))
    assert data.window(2, 3).calendar == CALENDAR.later(0.5)
    assert data.window(2, 5).stride(2).calendar == CALENDAR.later(0.5)
    assert data.stride(2).window(2, 1).calendar == CALENDAR.later(1.0)
    assert replace(data, time_units="days").window(1, 2).calendar == CALENDAR.later(6.0)


def test_a_calendar_needs_time_units_and_a_start_for_each_trajectory() -> None:
    with pytest.raises(DataError, match="time units 'm' cannot be turned into hours"):
        example(calendar=CALENDAR, time_units="m")
    with pytest.raises(DataError, match="the calendar has 5 starts for 4 trajectories"):
        example(count=4, calendar=CALENDAR)
    with pytest.raises(DataError, match="the name 'start' is taken"):
        example(calendar=CALENDAR, parameters={"start": np.zeros(5)})
    assert "start" in example(parameters={"start": np.zeros(5)}).parameters
    assert [hours_of(unit) for unit in ("h", "hours", "days", "s", "min")] == [1, 1, 24, 1 / 3600, 1 / 60]


@pytest.mark.parametrize("name", ["noleap", "360_day", "proleptic_gregorian"])
def test_zarr_keeps_the_calendar(tmp_path: Path, name: str) -> None:
    data = example(calendar=replace(CALENDAR, name=name, epoch="1850-01-01 12:30:00"))
    stored = open_data(save_zarr(data, tmp_path / "dated.zarr"))
    assert stored.calendar == data.calendar
    assert set(stored.parameters) == set(data.parameters)
    assert inspect(stored)["calendar"] == f"{name}, 1850-01-01T12:30 to 1850-01-03T06:00"


def test_xarray_decodes_the_starts(tmp_path: Path) -> None:
    data = example(calendar=replace(CALENDAR, name="proleptic_gregorian"))
    save_zarr(data, tmp_path / "dated.zarr")
    starts = xr.open_zarr(tmp_path / "dated.zarr", consolidated=False)["start"].values
    assert (starts == np.datetime64("2001-01-01T00:00") + np.arange(0, 50, 10).astype("m8[h]")).all()


def test_cftime_knows_the_starts_of_other_calendars(tmp_path: Path) -> None:
    pytest.importorskip("cftime")
    data = example(calendar=Calendar(tuple(1416.0 + np.arange(5)), "2000-01-01", "noleap"))
    save_zarr(data, tmp_path / "dated.zarr")
    starts = xr.open_zarr(tmp_path / "dated.zarr", consolidated=False)["start"].values
    assert [str(start) for start in starts[:2]] == ["2000-03-01 00:00:00", "2000-03-01 01:00:00"]


def test_folders_without_a_calendar_have_none(tmp_path: Path) -> None:
    stored = open_data(save_zarr(example(parameters={"start": np.arange(5.0)}), tmp_path / "plain.zarr"))
    assert stored.calendar is None
    assert stored.parameters["start"].tolist() == [0, 1, 2, 3, 4]
    assert "calendar" not in inspect(stored)


def test_the_fingerprint_changes_with_the_dates() -> None:
    plain, dated = example(), example(calendar=CALENDAR)
    later = replace(dated, calendar=CALENDAR.later(1.0))
    assert len({data.fingerprint() for data in (plain, dated, later)}) == 3


def test_the_wells_layout_has_no_place_for_dates(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="calendar"):
        save_well(example(calendar=CALENDAR), tmp_path / "dated.hdf5")
