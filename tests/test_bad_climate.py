"""Climate data that are not what they seem, by the command line: converted and said so, or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from driftway.cli import main
from driftway.data import open_data, save_zarr
from tests import small
from tests.refusals import Refused, refusal
from tests.test_climate_network import planet
from tests.weather_store import TEMPERATURE, WIND, weather, written

SST, MASK, PRECIPITATION = "sea_surface_temperature", "land_sea_mask", "total_precipitation_6hr"
KNOWN = {"static": [MASK], "forcing": [SST]}
Change = Callable[[xr.Dataset], xr.Dataset]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    return partial(refusal, capsys)


def on(name: str, change: Callable[[xr.DataArray], xr.DataArray], units: str | None) -> Change:
    """One variable changed, in these units or without any."""

    def put(store: xr.Dataset) -> xr.Dataset:
        values = change(store[name]).drop_attrs()
        return store.assign({name: values if units is None else values.assign_attrs(units=units)})

    return put


def timed(places: Callable[[np.ndarray], np.ndarray], calendar: str = "proleptic_gregorian") -> Change:
    """Times, in hours since 2019 twelve apart, changed; as many states as there are times."""
    about = {"units": "hours since 2019-01-01", "calendar": calendar}

    def put(store: xr.Dataset) -> xr.Dataset:
        hours = places(12 * np.arange(store.sizes["time"]))
        return store.isel(time=slice(0, len(hours))).assign_coords(time=("time", hours, about))

    return put


def ordered(**points: Any) -> Change:
    return lambda store: store.isel({dim: list(places) for dim, places in points.items()})


def geopotential(mean: float, units: str | None) -> Change:
    return on("geopotential", lambda v: 0 * v + mean, units)


def pressure(mean: float, units: str | None) -> Change:
    return lambda store: on("surface_pressure", lambda v: v + mean, units)(
        store.assign(surface_pressure=0 * store[TEMPERATURE])
    )


def on_levels(values: list[float], **attributes: str) -> Change:
    return lambda store: store.assign_coords(level=("level", values, attributes))


def shifted(store: xr.Dataset) -> xr.Dataset:
    return store.assign_coords(longitude=(store["longitude"] + 180) % 360 - 180)


# --- what is converted, and said -----------------------------------------------------------------------------------

CONVERTED: dict[str, tuple[Change, dict[str, Any], str]] = {
    "north to south": (ordered(latitude=[3, 2, 1, 0]), {}, "latitudes run from 67.5 to -67.5, as in the store"),
    "west to east of Greenwich": (
        lambda store: shifted(store).sortby("longitude"),
        {},
        "longitudes from -180 to 120 turned to 0 to 300",
    ),
    "longitudes in no order": (shifted, {}, "longitudes from 0 to -60 turned to 0 to 300"),
    "degrees Celsius": (on(TEMPERATURE, lambda v: v - 273, "degC"), {}, "converted from degC to K"),
    "degrees Celsius without units": (
        on(TEMPERATURE, lambda v: v - 265, None),
        {},
        f"'{TEMPERATURE}' has no units: taken as degC, since its mean is 15",
    ),
    "height for geopotential": (geopotential(5500, "m"), {}, "'geopotential' converted from m to m2 s-2"),
    "height without units": (geopotential(5500, None), {}, "'geopotential' has no units: taken as m"),
    "hectopascal": (pressure(1000, "hPa"), {"fields": ["surface_pressure"]}, "converted from hPa to Pa"),
    "hectopascal without units": (pressure(1000, None), {"fields": ["surface_pressure"]}, "taken as hPa"),
    "levels in Pascal": (on_levels([50000, 85000], units="Pa"), {}, ""),
    "levels in Pascal without units": (on_levels([50000, 85000]), {}, ""),
    "mask in percent": (on(MASK, lambda v: 100 * v, "%"), KNOWN, f"'{MASK}' converted from % to 1"),
    "mask in percent without units": (on(MASK, lambda v: 100 * v, None), KNOWN, f"'{MASK}' has no units: taken as %"),
    "sea alone, filled": (
        on(SST, lambda v: v.where(v["longitude"] > 90), "K"),
        {**KNOWN, "fill": {SST: "mean"}},
        f"missing numbers of '{SST}' filled with 290",
    ),
    "codes for what is missing": (
        on(SST, lambda v: v.where(v["longitude"] > 90, 1e20), "K"),
        {**KNOWN, "fill": {SST: "mean"}},
        f"missing numbers of '{SST}' filled with 290",
    ),
}


SI = {TEMPERATURE: (270, 295), "geopotential500": (4.9e4, 5.5e4), "surface_pressure": (9.9e4, 1.01e5)}


@pytest.mark.parametrize("case", CONVERTED)
def test_converted_and_said(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fields end in SI units whatever they began in."""
    change, about, said = CONVERTED[case]
    about = {"fields": [TEMPERATURE, "geopotential@500"], **about}
    path = written(tmp_path, change(weather()), **about)
    assert main(["data", "inspect", str(path), "--json"]) == 0
    out, _ = capsys.readouterr()
    reading = json.loads(out)["attributes"]["reading"]
    assert said == "" or any(said in line for line in reading), reading
    data = open_data(path)
    for name, values in zip(data.fields.names, np.moveaxis(np.asarray(data.states[[0], :4])[0], 1, 0), strict=True):
        low, high = SI[name]
        assert low < values.min() and values.max() < high


# --- what is refused -----------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Change, dict[str, Any], str]] = {
    "latitudes in no order": (
        ordered(latitude=[0, 2, 1, 3]),
        {},
        "axis 'lat': coordinates must be finite",
    ),
    "Celsius called Kelvin": (
        on(TEMPERATURE, lambda v: v - 265, "K"),
        {},
        f"'{TEMPERATURE}' says that it is in K, but its mean is 15.04, which looks like degC",
    ),
    "Fahrenheit": (on(TEMPERATURE, lambda v: v, "degF"), {}, "has the units 'degF', expected is K, degC"),
    "height called geopotential": (
        geopotential(5500, "m**2 s**-2"),
        {},
        "'geopotential' says that it is in m2 s-2, but its mean is 5500, which looks like m: correct",
    ),
    "no geopotential at that level": (geopotential(9e4, "m**2 s**-2"), {}, "out of range, 4.128e+04 … 6.952e+04"),
    "hectopascal called Pascal": (
        pressure(1000, "Pa"),
        {"fields": ["surface_pressure"]},
        "says that it is in Pa, but its mean is 1000, which looks like hPa",
    ),
    "levels that are no pressures": (
        on_levels([500, 850], units="m"),
        {},
        "levels 'level' are in m, must be pressures",
    ),
    "mask in percent called a share": (
        on(MASK, lambda v: 100 * v, "1"),
        KNOWN,
        f"'{MASK}' says that it is in 1, but its mean is 66.67, which looks like %",
    ),
    "missing level": (lambda s: s, {"fields": [f"{WIND}@700"]}, "has no level 700 hPa; there are 500, 850"),
    "missing variable": (lambda s: s.drop_vars(TEMPERATURE), {}, f"has no variable '{TEMPERATURE}'"),
    "missing forcing": (lambda s: s.drop_vars(SST), KNOWN, f"has no variable '{SST}'"),
    "forcing at other times": (
        lambda s: s.assign({SST: s[SST].isel(time=slice(0, 700)).rename(time="month").drop_vars("month")}),
        KNOWN,
        f"'{SST}' has the dims (month, longitude, latitude), must have latitude and longitude, and may have time",
    ),
    "sea alone": (
        on(SST, lambda v: v.where(v["longitude"] > 90), "K"),
        KNOWN,
        f"33.3 % of '{SST}' is missing or not finite, from time 0 on (often over sea or land)",
    ),
    "codes for what is missing": (
        on(SST, lambda v: v.where(v["longitude"] > 90, 1e20), "K"),
        KNOWN,
        f"33.3 % of '{SST}' is missing",
    ),
    "gap": (timed(lambda t: np.delete(t, [40, 41])), {}, "a gap in time between 2019-01-20T12:00 and 2019-01-22T00:00"),
    "twice": (timed(lambda t: np.insert(t, 5, t[5])[:-1]), {}, "2019-01-03T12:00 comes twice"),
    "backwards": (timed(lambda t: t[::-1]), {}, "times run backwards"),
    "irregular": (timed(lambda t: t + 3 * (t == 120)), {}, "2019-01-05T12:00 and 2019-01-06T03:00"),
    "not a time": (timed(lambda t: np.where(t == 120, np.nan, t)), {}, "holds times that are not finite"),
    "unknown calendar": (timed(lambda t: t, "julian"), {}, "calendar 'julian' is none of"),
    "calendar of 365 days called Gregorian": (
        timed(lambda t: np.delete(np.append(t, t[-1] + 12 * np.arange(1, 3)), [848, 849])),
        {},
        "without a 29th of February, the calendar is noleap",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_file_and_the_reason(case: str, tmp_path: Path, refused: Refused) -> None:
    change, about, said = REFUSED[case]
    about = {"fields": [TEMPERATURE, "geopotential@500"], **about}
    line = refused(3, "data", "inspect", written(tmp_path, change(weather()), **about))
    assert said in line and ".zarr" in line, line


def test_a_store_that_is_not_there_is_named(tmp_path: Path, refused: Refused) -> None:
    path = written(tmp_path, weather())
    path.write_text(path.read_text().replace("era5.zarr", "sst.zarr"))
    assert "sst.zarr is not there; 'store' is a path" in refused(3, "data", "inspect", path)


# --- folders of driftway's own and of other programs ----------------------------------------------------------------


def rewritten(folder: Path, change: Change) -> Path:
    """A small planet with a land mask, as a folder that xarray has written again."""
    save_zarr(planet(), folder / "planet.zarr")
    whole = xr.open_zarr(folder / "planet.zarr", consolidated=False, decode_times=False).load()
    whole = whole.assign(lsm=(("lat", "lon"), (np.arange(128.0).reshape(8, 16) % 3 == 0).astype(np.float32)))
    changed = change(whole.drop_encoding())
    changed.to_zarr(folder / "other.zarr", zarr_format=3, consolidated=False)
    return folder / "other.zarr"


def less(name: str, amount: float, **attributes: str) -> Change:
    return lambda data: data.assign({name: (data[name] - amount).assign_attrs({**data[name].attrs, **attributes})})


OWN: dict[str, tuple[Change, str]] = {
    "Celsius called Kelvin": (less("tas", 265), "'tas' is in K, but its mean is 20.94"),
    "geopotential called height": (less("zg500", -5e4), "'zg500' is in m, but its mean is 5.55"),
    "mask in percent": (
        lambda d: d.assign(lsm=100 * d["lsm"]),
        "'lsm' is in 1, but its mean is 33.59, which looks like %",
    ),
    "forcing in Celsius": (less("sst", 273), "'sst' is in K, but its mean is"),
    "hole in the forcing": (lambda d: d.assign(sst=d["sst"].where(d["lon"] > 90)), "'sst' holds values that are not"),
    "hole in a field": (lambda d: d.assign(tas=d["tas"].where(d["lon"] > 90)), "field 'tas' holds nan at trajectory"),
    "forcing at other times": (
        lambda d: d.assign(sst=(("month", "lat", "lon"), d["sst"].values[:3])),
        "'sst' has the dims (month, lat, lon), must have (lat, lon), after trajectory and time",
    ),
    "gap": (lambda d: d.isel(time=[0, 1, 3, 4]), "by the attribute dt = 6, but 6 is followed by 18"),
    "every other time": (lambda d: d.isel(time=[0, 2, 4]), "by the attribute dt = 6, but 0 is followed by 12"),
    "twice": (lambda d: d.isel(time=[0, 1, 1, 2]), "by the attribute dt = 6, but 6 is followed by 6"),
    "latitudes in no order": (lambda d: d.isel(lat=[1, 0, *range(2, 8)]), "axis 'lat': coordinates must be finite"),
    "longitudes in no order": (lambda d: d.isel(lon=[1, 0, *range(2, 16)]), "axis 'lon': coordinates must be finite"),
    "fields on other levels": (
        lambda d: d.assign(ta=d["tas"].expand_dims(level=2, axis=2)),
        "'ta' has the dims",
    ),
}


@pytest.mark.parametrize("case", OWN)
def test_a_fit_to_a_folder_is_refused(case: str, tmp_path: Path, refused: Refused) -> None:
    change, said = OWN[case]
    data = rewritten(tmp_path, change)
    config = small.written(tmp_path, data, "deterministic", training={"steps": 2})
    line = refused(3, "fit", "stepper", config, "--out", tmp_path / "run")
    assert said in line and str(data) in line, line


def test_the_same_folder_unchanged_is_fitted(tmp_path: Path) -> None:
    data = rewritten(tmp_path, lambda d: d.isel(lat=slice(None, None, -1)))
    config = small.written(tmp_path, data, "deterministic", training={"steps": 2})
    assert main(["fit", "stepper", str(config), "--out", str(tmp_path / "run")]) == 0


def test_axes_that_do_not_say_how_they_end_are_taken_as_open_and_that_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def silent(data: xr.Dataset) -> xr.Dataset:
        for name in ("lat", "lon"):
            del data[name].attrs["boundary"]
        return data

    path = rewritten(tmp_path, silent)
    assert main(["data", "inspect", str(path)]) == 0
    assert f"{path}: lat and lon taken as open" in caplog.text
