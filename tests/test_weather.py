"""Weather stores by their description: what is read is what is stored, and what is wrong is named."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from driftway.data import Trajectories, inspect, open_data, save_zarr, verify
from driftway.data.states import Lazy
from driftway.data.weather_units import canonical, conversion
from driftway.errors import ConfigError, DataError
from tests.weather_store import FIELDS, LATITUDES, LONGITUDES, TEMPERATURE, WIND, weather, written

YEARS = {"train": [2019], "test": [2020]}
KNOWN = {"static": ["land_sea_mask", "geopotential_at_surface"], "forcing": ["sea_surface_temperature"], "years": YEARS}
SST = "sea_surface_temperature"


@pytest.fixture(scope="module")
def store() -> xr.Dataset:
    return weather()


@pytest.fixture(scope="module")
def path(store: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("weather"), store, **KNOWN)


@pytest.fixture(scope="module")
def data(path: Path) -> Trajectories:
    return open_data(path)


def truth(store: xr.Dataset, name: str, year: int, frames: slice = slice(0, 730)) -> np.ndarray:
    """(t, lat, lon) of a year, by xarray alone."""
    variable, _, level = name.partition("@")
    values = store[variable].sel(level=int(level)) if level else store[variable]
    values = values.sel(time=values["time"].dt.year == year).isel(time=frames)
    return values.transpose("time", "latitude", "longitude").values


def test_states_are_those_of_the_store(store: xr.Dataset, data: Trajectories) -> None:
    assert isinstance(data.states, Lazy)
    assert data.shape == (2, 730, 4, 4, 6)
    assert data.fields.names == (TEMPERATURE, "u_component_of_wind850", "geopotential500", "total_precipitation_6hr")
    assert data.fields.units == ("K", "m s-1", "m2 s-2", "m")
    whole = data.load().states
    for row, year in enumerate((2019, 2020)):
        for channel, name in enumerate(FIELDS):
            assert np.array_equal(whole[row, :, channel], truth(store, name, year))
    some = data.states[np.array([1, 0]), np.array([729, 3])]
    assert np.array_equal(some[:, 0], [truth(store, TEMPERATURE, 2020)[729], truth(store, TEMPERATURE, 2019)[3]])


def test_years_are_dated_and_split(data: Trajectories) -> None:
    assert data.splits == ("train", "test")
    assert data.calendar is not None
    assert [data.calendar.date(start) for start in data.calendar.starts] == ["2019-01-01T00:00", "2020-01-01T00:00"]
    assert (data.dt, data.time_units, data.calendar.name) == (12, "h", "proleptic_gregorian")
    assert inspect(data)["calendar"] == "proleptic_gregorian, 2019-01-01T00:00 to 2020-12-30T12:00"
    assert "31 December left out of the leap years 2020" in data.attributes["reading"]


def test_the_grid_is_the_globe(data: Trajectories) -> None:
    lat, lon = data.axes
    assert (lat.name, lat.boundary, lat.length, lat.coordinates) == ("lat", "pole", 180, tuple(LATITUDES))
    assert (lon.name, lon.boundary, lon.length, lon.coordinates) == ("lon", "periodic", 360, tuple(LONGITUDES))


def test_static_and_forcing_are_known_to_the_step_that_ends_at_their_time(
    store: xr.Dataset, data: Trajectories
) -> None:
    assert list(data.static) == ["geopotential_at_surface", "land_sea_mask"] or set(data.static) == set(KNOWN["static"])
    assert np.array_equal(data.static["land_sea_mask"], store["land_sea_mask"].values.T)
    fields = data.conditioning(np.array([0, 1]), np.array([5, 100])).fields
    assert fields is not None
    assert np.array_equal(fields[0, 2], truth(store, SST, 2019)[6])
    assert np.array_equal(fields[1, 2], truth(store, SST, 2020)[101])


def test_the_mean_year_recurs(store: xr.Dataset, tmp_path: Path) -> None:
    data = open_data(written(tmp_path, store, forcing=[SST], forcing_recurs=True))
    assert data.splits is None
    leap = truth(store, SST, 2020, slice(None))
    without = np.delete(leap, [2 * 59, 2 * 59 + 1], axis=0)  # its 29th of February
    assert np.allclose(data.forcing[SST], (truth(store, SST, 2019) + without) / 2, rtol=1e-6)
    fields = data.conditioning(np.array([1]), np.array([2 * 366 + 3])).fields  # 2 January of the year after, 12:00
    assert fields is not None
    assert np.allclose(fields[0, 0], data.forcing[SST][4], rtol=1e-6)


def test_what_was_read_goes_to_zarr_and_comes_back(data: Trajectories, tmp_path: Path) -> None:
    again = open_data(save_zarr(data, tmp_path / "mine.zarr"))
    assert np.array_equal(again.load().states, data.load().states)
    assert again.calendar is not None and data.calendar is not None
    assert again.calendar.starts == data.calendar.starts
    assert np.array_equal(again.forcing[SST], data.forcing[SST])


def test_any_order_of_dims_and_points_is_the_same_globe(store: xr.Dataset, data: Trajectories, tmp_path: Path) -> None:
    """Latitude before longitude from north to south, and longitudes from −180 to 180."""
    turned = store.transpose("time", "level", "latitude", "longitude").isel(latitude=slice(None, None, -1))
    turned = turned.assign_coords(longitude=(turned["longitude"] + 180) % 360 - 180).sortby("longitude")
    other = open_data(written(tmp_path, turned, **KNOWN))
    assert other.axes[0].coordinates == tuple(LATITUDES[::-1])
    assert other.axes[1].coordinates == tuple(LONGITUDES)
    assert np.array_equal(other.load().states, data.load().states[..., ::-1, :])
    assert np.array_equal(other.static["land_sea_mask"], data.static["land_sea_mask"][::-1])
    assert "longitudes from -180 to 120 turned to 0 to 300" in other.attributes["reading"]
    assert "latitudes run from 67.5 to -67.5, as in the store" in other.attributes["reading"]


def test_a_repeated_meridian_is_left_out(store: xr.Dataset, data: Trajectories, tmp_path: Path) -> None:
    first = store.isel(longitude=[0]).assign_coords(longitude=[360.0])
    wide = xr.concat([store, first], "longitude", data_vars="minimal")
    other = open_data(written(tmp_path, wide, years=YEARS))
    assert np.array_equal(other.load().states, data.load().states)
    assert "longitude 360 repeats 0 and is left out" in other.attributes["reading"]


def test_a_part_of_the_globe_is_open(store: xr.Dataset, tmp_path: Path) -> None:
    other = open_data(written(tmp_path, store.isel(longitude=slice(1, 4), latitude=slice(0, 2)), years=YEARS))
    assert other.boundary == ("open", "open")
    assert other.axes[1].coordinates == (60, 120, 180)


def test_gaussian_latitudes_reach_the_poles(store: xr.Dataset, tmp_path: Path) -> None:
    gaussian = np.degrees(np.arcsin(np.polynomial.legendre.leggauss(4)[0]))
    other = open_data(written(tmp_path, store.assign_coords(latitude=gaussian), years=YEARS))
    assert other.axes[0].boundary == "pole"
    assert np.allclose(other.axes[0].coordinates, gaussian, atol=1e-5)


def test_netcdf_files_are_read_alike(store: xr.Dataset, data: Trajectories, tmp_path: Path) -> None:
    store.to_netcdf(tmp_path / "era5.nc", engine="scipy")
    about = written(tmp_path, store, **KNOWN).read_text()
    (tmp_path / "file.yaml").write_text(about.replace("era5.zarr", "era5.nc"))
    assert np.array_equal(open_data(tmp_path / "file.yaml").load().states, data.load().states)


def test_names_and_pressure_in_pascal_as_cf_has_them(store: xr.Dataset, tmp_path: Path) -> None:
    renamed = store.rename(level="plev", latitude="lat", longitude="lon", time="valid_time")
    renamed = renamed.rename({WIND: "ua"}).assign_coords(plev=("plev", [50000, 85000], {"units": "Pa"}))
    renamed["time_bnds"] = (("valid_time", "bnds"), np.zeros((1466, 2)))
    renamed.to_zarr(tmp_path / "cf.zarr", zarr_format=3, consolidated=False)
    (tmp_path / "cf.yaml").write_text("store: cf.zarr\nfields: [ua@850]\n")
    other = open_data(tmp_path / "cf.yaml")
    assert other.fields.names == ("ua850",)
    assert np.array_equal(other.load().states[0, :, 0], truth(store, f"{WIND}@850", 2019))


def test_verify_reads_every_year(store: xr.Dataset, path: Path, tmp_path: Path) -> None:
    assert verify(path) == []
    holes = store[TEMPERATURE].copy(data=store[TEMPERATURE].values.copy())
    holes[1000, 0, 0] = np.nan  # in 2020, where nothing is looked at when the store is opened
    damaged = written(tmp_path, store.assign({TEMPERATURE: holes}), years=YEARS)
    problems = verify(damaged)
    assert len(problems) == 1 and f"of '{TEMPERATURE}' is missing" in problems[0]
    with pytest.raises(DataError, match=f"% of '{TEMPERATURE}' is missing or not finite, from time"):
        open_data(damaged).load()


# --- units and holes -----------------------------------------------------------------------------------------------


def celsius(store: xr.Dataset, units: str | None) -> xr.Dataset:
    degrees = (store[TEMPERATURE] - np.float32(273.15)).drop_attrs()
    return store.assign({TEMPERATURE: degrees if units is None else degrees.assign_attrs(units=units)})


def test_celsius_is_converted_and_logged(store: xr.Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        other = open_data(written(tmp_path, celsius(store, "C"), years=YEARS))
    assert f"'{TEMPERATURE}' converted from degC to K" in caplog.text
    assert np.allclose(other.load().states[0, :, 0], truth(store, TEMPERATURE, 2019), atol=1e-3)


def test_celsius_without_units_is_told_by_its_range(store: xr.Dataset, tmp_path: Path) -> None:
    other = open_data(written(tmp_path, celsius(store, None), years=YEARS))
    assert np.allclose(other.load().states[0, :, 0], truth(store, TEMPERATURE, 2019), atol=1e-3)
    assert any("has no units: taken as degC" in line for line in other.attributes["reading"])


def test_units_that_the_numbers_contradict_are_refused(store: xr.Dataset, tmp_path: Path) -> None:
    path = written(tmp_path, celsius(store, "K"), years=YEARS)
    with pytest.raises(DataError, match=r"says that it is in K, but its mean is \d\.\d+, which looks like degC"):
        open_data(path)
    path.write_text(path.read_text() + f"units: {{{TEMPERATURE}: degC}}\n")
    assert np.allclose(open_data(path).load().states[0, :, 0], truth(store, TEMPERATURE, 2019), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "unit", "mean", "expected"),
    [
        ("surface_pressure", "hPa", 1000.0, ("Pa", 100.0, 0.0)),
        ("surface_pressure", "Pa", 1e5, ("Pa", 1.0, 0.0)),
        ("total_precipitation_6hr", "mm", 0.5, ("m", 1e-3, 0.0)),
        ("specific_humidity", "g kg**-1", 5.0, ("kg kg-1", 1e-3, 0.0)),
        ("geopotential", "m^2/s^2", 5e4, ("m2 s-2", 1.0, 0.0)),
        ("total_precipitation", "kg m**-2", 0.5, ("m", 1e-3, 0.0)),
        ("potential_temperature", "K", 600.0, ("K", 1.0, 0.0)),
        ("vorticity", "s**-1", 1e-5, ("s-1", 1.0, 0.0)),
        ("geopotential", "m", 5e3, ("m2 s-2", 9.80665, 0.0)),
        ("geopotential_height", "m**2 s**-2", 5e4, ("m", 1 / 9.80665, 0.0)),
    ],
)
def test_conversions(name: str, unit: str, mean: float, expected: tuple[str, float, float]) -> None:
    assert conversion(name, unit, np.array([mean]))[:3] == expected


def test_units_that_are_not_expected_are_named() -> None:
    with pytest.raises(DataError, match="'geopotential' has the units 'km', expected is m2 s-2, m"):
        conversion("geopotential", "km", np.array([5.0]))
    with pytest.raises(DataError, match=r"its mean is 1000, which looks like hPa"):
        conversion("surface_pressure", "Pa", np.array([1000.0]))
    assert [canonical(unit) for unit in ("m s**-1", "m/s", "kg/kg", "W m**-2")] == [
        "m s-1",
        "m s-1",
        "kg kg-1",
        "W m-2",
    ]


def with_sea(store: xr.Dataset) -> xr.Dataset:
    """Sea surface temperature that is missing over two of the six longitudes."""
    return store.assign({SST: store[SST].where(store["longitude"] > 90)})


def test_missing_numbers_are_named_with_share_and_remedy(store: xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"33\.3 % of '{SST}' is missing .* give fill: {{{SST}: mean}} or a number"):
        open_data(written(tmp_path, with_sea(store), **KNOWN))


@pytest.mark.parametrize(("fill", "low", "high"), [(271.5, 271.5, 271.5), ("mean", 289.9, 290.1)])
def test_missing_numbers_are_filled(store: xr.Dataset, tmp_path: Path, fill: Any, low: float, high: float) -> None:
    data = open_data(written(tmp_path, with_sea(store), **{**KNOWN, "fill": {SST: fill}}))
    filled = data.forcing[SST]
    assert low <= filled[..., :2].min() == filled[..., :2].max() <= high
    assert np.array_equal(filled[0, ..., 2:], truth(store, SST, 2019)[..., 2:])
    assert any(line.startswith(f"missing numbers of '{SST}' filled with") for line in data.attributes["reading"])


# --- time ----------------------------------------------------------------------------------------------------------


def coded(
    store: xr.Dataset, hours: np.ndarray, calendar: str = "proleptic_gregorian", since: str = "2019"
) -> xr.Dataset:
    """The same states at times in hours that xarray does not look at."""
    units = {"units": f"hours since {since}-01-01", "calendar": calendar}
    return store.isel(time=slice(0, len(hours))).assign_coords(time=("time", hours, units))


HOURS = 12 * np.arange(1466)


@pytest.mark.parametrize(
    ("hours", "calendar", "since", "said"),
    [
        (
            np.delete(HOURS, slice(10, 14)),
            "standard",
            "2019",
            "a gap in time between 2019-01-05T12:00 and 2019-01-08T00:00",
        ),
        (np.delete(HOURS, slice(848, 850)), "standard", "2019", "02-28T12:00 and 2020-03-01T00:00.*calendar is noleap"),
        (np.insert(HOURS, 5, HOURS[5]), "standard", "2019", "2019-01-03T12:00 comes twice; sort the times"),
        (HOURS[::-1], "standard", "2019", "times run backwards; sort the times"),
        (HOURS, "julian", "2019", "calendar 'julian' is none of"),
        (HOURS, "standard", "1582", "are Julian and later ones Gregorian"),
        (HOURS * 13 // 12, "standard", "2019", "does not divide a day"),
        (HOURS[:500], "noleap", "2019", "holds no whole year, but 2019-01-01T00:00 to 2019-09-07T12:00"),
        (HOURS[:1400], "standard", "2019", "test wants 2020, which .* does not hold as a whole"),
    ],
)
def test_wrong_times_are_named(
    store: xr.Dataset, tmp_path: Path, hours: np.ndarray, calendar: str, since: str, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        open_data(written(tmp_path, coded(store, hours[:1466], calendar, since), years=YEARS))


@pytest.mark.parametrize(("calendar", "frames"), [("noleap", 730), ("360_day", 720)])
def test_calendars_of_models(store: xr.Dataset, tmp_path: Path, calendar: str, frames: int) -> None:
    data = open_data(written(tmp_path, coded(store, HOURS, calendar)))
    assert data.shape[:2] == (2, frames)
    assert data.calendar is not None and data.calendar.name == calendar
    assert [data.calendar.date(start) for start in data.calendar.starts] == ["2019-01-01T00:00", "2020-01-01T00:00"]
    assert any(line.startswith("years that are not whole left out: 2021") for line in data.attributes["reading"])


# --- descriptions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"fields": ["2m_temprature"]}, DataError, "no variable '2m_temprature'; did you mean '2m_temperature'"),
        ({"fields": [f"{WIND}@700"]}, DataError, "has no level 700 hPa; there are 500, 850"),
        ({"fields": [WIND]}, DataError, f"has the levels 500, 850: choose one each, as {WIND}@500"),
        ({"fields": [f"{TEMPERATURE}@850"]}, DataError, "has no levels"),
        ({"forcing": ["sea_ice_cover"]}, DataError, "no variable 'sea_ice_cover'"),
        ({"forcing": ["land_sea_mask"]}, DataError, "does not vary with time; name it under static"),
        ({"static": [SST]}, DataError, "varies with time; name it under forcing or fields"),
        ({"years": {"train": [2019, 2020], "test": [2020]}}, DataError, "2020 is in train and in test"),
        ({"years": {"train": [2019, 2020, 2020]}}, DataError, "must be one year, or the first and the last"),
        ({"fill": {SST: "mean"}}, DataError, f"fill: '{SST}' is none of the variables that are read"),
        ({"years": {"train": [2019], "tests": [2020]}}, ConfigError, "tests"),
        ({"fill": {SST: "median"}}, ConfigError, "fill"),
        ({"levels": [500]}, ConfigError, "unknown key 'levels'"),
        ({"store": "era6.zarr"}, DataError, "era6.zarr is not there"),
    ],
)
def test_descriptions_that_do_not_fit_are_named(
    path: Path, tmp_path: Path, changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    from driftway.config import dump_yaml

    about = {"store": str(path.parent / "era5.zarr"), "fields": [TEMPERATURE], **changes}
    (tmp_path / "odd.yaml").write_text(dump_yaml(about))
    with pytest.raises(error, match=said):
        open_data(tmp_path / "odd.yaml")


def test_the_fingerprint_is_that_of_store_and_description(path: Path, data: Trajectories, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(path.read_text().replace("era5.zarr", str(path.parent / "era5.zarr")))
    assert open_data(path).fingerprint() == data.fingerprint() != open_data(other).fingerprint()
