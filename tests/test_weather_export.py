"""Stores in WeatherBench 2's layout: names, units, levels and dates, and back by the package's own reader."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from driftway.cli import main
from driftway.codecs import Identity
from driftway.data import Trajectories, export_forecast, export_weather, open_data, save_zarr, weather_writer
from driftway.data.cf import GRAVITY
from driftway.data.exporting import export_as
from driftway.data.joined import chains
from driftway.data.layout import Layout
from driftway.emulator import Emulator
from driftway.errors import DataError, StorageError
from driftway.steppers import Persistence
from tests import small
from tests.dated import YEAR, dated

NAMES = ("tas", "pl", "zg500", "ta850", "ta500", "pr_6h", "mrso", "odd")
UNITS = ("K", "1", "m", "K", "K", "mm", "m", "furlong")
THEIRS = (
    "2m_temperature",
    "surface_pressure",
    "geopotential500",
    "temperature850",
    "temperature500",
    "total_precipitation_6hr",
    "mrso",
    "odd",
)


def atmosphere(years: int = 3, frames: int = 365, starts: tuple[float, ...] = (), **changes: object) -> Trajectories:
    """Daily states of every kind of field."""
    rng = np.random.default_rng(0)
    means = np.array([280, 11.5, 5500, 280, 250, 1, 0.2, 0.0])[:, None, None]
    states = means + 0.01 * rng.standard_normal((years, frames, 8, 4, 6))
    data = dated(states, starts or tuple(YEAR * np.arange(years)), dt=24.0, names=NAMES, units=UNITS)
    return replace(data, static={"lsm": rng.integers(0, 2, (4, 6)).astype(np.float32)}, **changes)


def converted(states: np.ndarray) -> np.ndarray:
    """States (..., C, lat, lon) in the units of WeatherBench 2."""
    found = states.astype(np.float64)
    found[..., 1, :, :] = np.exp(found[..., 1, :, :])
    found[..., 2, :, :] *= GRAVITY
    found[..., 5, :, :] /= 1000
    return found


def opened(path: Path) -> xr.Dataset:
    return xr.open_zarr(path, decode_times=False, chunks=None, consolidated=True)


# --- data sets -----------------------------------------------------------------------------------------------------


def test_years_come_back_by_their_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weather_writer, "CHUNK_BYTES", 100 * 2 * 4 * 24)
    data = atmosphere(splits=("train", "train", "test"))
    export_weather(data, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["000.yaml", "000.zarr"]
    back = open_data(tmp_path / "out" / "000.yaml")
    assert back.fields.names == THEIRS and back.splits == data.splits
    assert back.calendar is not None and back.calendar.starts == data.calendar.starts
    assert back.fields.units[:6] == ("K", "Pa", "m2 s-2", "K", "K", "m")
    assert back.axes[0].coordinates == data.axes[0].coordinates and back.dt == 24
    np.testing.assert_allclose(np.asarray(back.states), converted(np.asarray(data.states)), rtol=1e-6)
    np.testing.assert_array_equal(back.static["land_sea_mask"], data.static["lsm"])


def test_levels_share_one_dim_and_those_that_are_not_there_are_missing(tmp_path: Path) -> None:
    store = opened(export_weather(atmosphere(1), tmp_path / "out") / "000.zarr")
    assert store["level"].values.tolist() == [500, 850]
    assert store["temperature"].dims == ("time", "level", "latitude", "longitude")
    assert np.isfinite(store["temperature"]).all() and np.isnan(store["geopotential"].sel(level=850)).all()
    assert store["2m_temperature"].attrs["units"] == "K" and store["odd"].attrs["units"] == "furlong"
    assert (
        store["time"].attrs["units"] == "hours since 0001-01-01 00:00" and store["time"].attrs["calendar"] == "noleap"
    )


def test_a_field_in_other_units_keeps_its_name_and_numbers(tmp_path: Path) -> None:
    data = atmosphere(1, frames=2)
    other = replace(data, fields=replace(data.fields, units=("degC", *UNITS[1:])))
    store = opened(export_weather(other, tmp_path / "out") / "000.zarr")
    assert store["tas"].attrs["units"] == "degC" and "2m_temperature" not in store


def test_trajectories_that_overlap_go_apart(tmp_path: Path) -> None:
    data = atmosphere(3, frames=10, starts=(480.25, 480.25, 480.25 + 240))
    assert chains(data) == [[0, 2], [1]]
    of_two_runs = replace(data, attributes={"run": [0, 1, 1]})
    assert chains(of_two_runs) == [[0], [1, 2]] and chains(of_two_runs, [0, 2]) == [[0], [2]]
    folder = export_weather(data, tmp_path / "out")
    assert sorted(p.name for p in folder.iterdir()) == ["000.zarr", "001.zarr"]
    first = opened(folder / "000.zarr")
    assert first.attrs["trajectories"] == [0, 2] and first.sizes["time"] == 20
    assert first["time"].attrs["units"].startswith("minutes since")
    assert np.diff(first["time"]).tolist() == [1440] * 19
    np.testing.assert_array_equal(first["2m_temperature"][10:], data.states[2, :, 0])


def test_what_has_no_place_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no calendar"):
        export_weather(replace(atmosphere(1), calendar=None), tmp_path / "out")
    with pytest.raises(DataError, match="must have degrees_north and degrees_east"):
        export_weather(small.known_trajectories(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(StorageError, match="exists"):
        export_weather(atmosphere(1), tmp_path / "out")


# --- forecasts -----------------------------------------------------------------------------------------------------


def forecast(tmp_path: Path, dates: list[str], leads: int = 3) -> tuple[Path, np.ndarray]:
    """A forecast on disk whose numbers all differ, and these (M, N, L, C, lat, lon)."""
    data = atmosphere(1, frames=2)
    layout = Layout(data.fields, data.axes, 0.5, "days")
    about = {"initial_times": dates, "calendar": "noleap", "label": "x"}
    start = np.repeat(np.asarray(data.states)[0, :1], len(dates), 0)

    class Drift(Persistence):
        def step(self, state, conditioning=None, stream=None):  # type: ignore[no-untyped-def]
            return state + 0.5

    Emulator(Identity(), Drift(), layout).forecast(start, leads, 2, out=tmp_path / "f.zarr", attributes=about)
    made = xr.open_zarr(tmp_path / "f.zarr", consolidated=False, chunks=None)
    return tmp_path / "f.zarr", np.stack([made[name].values for name in NAMES], 3)


@pytest.mark.parametrize("chunk", [1, 4_000_000])
def test_a_forecast_has_its_dates_leads_and_members(
    tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weather_writer, "CHUNK_BYTES", chunk)
    path, numbers = forecast(tmp_path, ["0002-03-01T06:00", "0002-02-01T00:00"])
    store = opened(export_forecast(path, tmp_path / "out") / "000.zarr")
    dims = ("time", "prediction_timedelta", "number", "level", "latitude", "longitude")
    assert store["temperature"].dims == dims and store["2m_temperature"].dims == (*dims[:3], *dims[4:])
    assert store["time"].values.tolist() == [24 * 31, 24 * 59 + 6]  # in the order of dates
    assert store["time"].attrs["units"] == "hours since 0002-01-01 00:00"
    assert store["prediction_timedelta"].values.tolist() == [12, 24, 36]
    expected = converted(numbers).transpose(1, 2, 0, 3, 4, 5)[::-1]
    for channel, (name, level) in {2: ("geopotential", 0), 3: ("temperature", 1), 4: ("temperature", 0)}.items():
        np.testing.assert_allclose(store[name].isel(level=level), expected[:, :, :, channel], rtol=1e-6)
    for channel, name in {0: "2m_temperature", 1: "surface_pressure", 5: "total_precipitation_6hr"}.items():
        np.testing.assert_allclose(store[name], expected[:, :, :, channel], rtol=1e-6)


def test_leads_become_durations_for_xarray(tmp_path: Path) -> None:
    path, _ = forecast(tmp_path, ["0002-01-01T00:00"])
    folder = export_forecast(path, tmp_path / "out") / "000.zarr"
    lead = xr.decode_cf(opened(folder)[["prediction_timedelta"]], decode_timedelta=True)["prediction_timedelta"]
    assert (lead.values == np.array([12, 24, 36]).astype("m8[h]")).all()


def test_initial_times_that_come_twice_go_apart(tmp_path: Path) -> None:
    path, _ = forecast(tmp_path, ["0002-01-01T00:00", "0002-01-01T00:00", "0002-01-02T00:00"])
    folder = export_forecast(path, tmp_path / "out")
    assert [opened(folder / f"00{k}.zarr").sizes["time"] for k in (0, 1)] == [2, 1]


def test_a_forecast_without_dates_is_refused(tmp_path: Path) -> None:
    path, _ = forecast(tmp_path, [])[0], None
    with pytest.raises(DataError, match="does not know the dates"):
        export_forecast(path, tmp_path / "out")
    with pytest.raises(DataError, match="no place for forecasts"):
        export_as("the-well", path, tmp_path / "out")


def test_the_command_takes_both(tmp_path: Path) -> None:
    path, _ = forecast(tmp_path, ["0002-01-01T00:00"])
    save_zarr(atmosphere(1, frames=2), tmp_path / "d.zarr")
    for source in (path, tmp_path / "d.zarr"):
        out = tmp_path / f"of-{source.stem}"
        assert main(["data", "export", str(source), "--out", str(out), "--layout", "weatherbench2"]) == 0
        assert (out / "000.zarr" / ".zmetadata").is_file()
