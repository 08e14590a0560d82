"""Small stores in the layout of WeatherBench 2: zarr 2, dims (time, level, longitude, latitude)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from driftway.config import dump_yaml

LATITUDES = np.array([-67.5, -22.5, 22.5, 67.5])
LONGITUDES = np.arange(0.0, 360, 60)
LEVELS = (500, 850)
TEMPERATURE, WIND = "2m_temperature", "u_component_of_wind"


def numbers(times: int, *, seed: int = 0, mean: float = 0.0, levels: int = 0) -> np.ndarray:
    shape = (times, *([levels] if levels else []), len(LONGITUDES), len(LATITUDES))
    return (mean + np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def weather(first: str = "2019-01-01", last: str = "2021-01-03", hours: int = 12, **changes: Any) -> xr.Dataset:
    """Two years and two days of half-daily states, of which 2020 is a leap year."""
    time = np.arange(np.datetime64(first, "h"), np.datetime64(last, "h"), np.timedelta64(hours, "h"))
    n, flat, deep = len(time), ("time", "longitude", "latitude"), ("time", "level", "longitude", "latitude")
    variables = {
        TEMPERATURE: (flat, numbers(n, seed=1, mean=280), {"units": "K"}),
        WIND: (deep, numbers(n, seed=2, levels=2), {"units": "m s**-1"}),
        "geopotential": (deep, numbers(n, seed=3, mean=5e4, levels=2), {"units": "m**2 s**-2"}),
        "total_precipitation_6hr": (flat, 1e-3 * np.abs(numbers(n, seed=4)), {"units": "m"}),
        "sea_surface_temperature": (flat, numbers(n, seed=5, mean=290), {"units": "K"}),
        "land_sea_mask": (flat[1:], (numbers(1, seed=6)[0] > 0).astype(np.float32), {"units": "(0 - 1)"}),
        "geopotential_at_surface": (flat[1:], numbers(1, seed=7)[0], {"units": "m**2 s**-2"}),
    }
    coordinates = {"time": time.astype("M8[ns]"), "level": np.array(LEVELS), "longitude": LONGITUDES}
    return xr.Dataset(variables, {**coordinates, "latitude": LATITUDES}).assign(changes)


FIELDS = [TEMPERATURE, f"{WIND}@850", "geopotential@500", "total_precipitation_6hr"]


def written(folder: Path, store: xr.Dataset, chunk: int = 100, **about: Any) -> Path:
    """A store and its description, which lies beside it."""
    encoding: Any = {name: {"chunks": (chunk, *v.shape[1:])} for name, v in store.data_vars.items() if "time" in v.dims}
    if np.issubdtype(store["time"].dtype, np.datetime64):
        encoding["time"] = {"units": "hours since 1959-01-01", "calendar": "proleptic_gregorian", "dtype": "int64"}
    store.to_zarr(folder / "era5.zarr", zarr_format=2, consolidated=True, encoding=encoding)
    path = folder / "era5.yaml"
    path.write_text(dump_yaml({"store": "era5.zarr", "fields": FIELDS, **about}))
    return path
