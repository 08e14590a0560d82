"""Data sets: read, written, described and verified, in zarr and in The Well's HDF5 layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from driftway.lazy import lazily, listed

if TYPE_CHECKING:
    from driftway.data.axes import Axis as Axis
    from driftway.data.axes import Fields as Fields
    from driftway.data.calendar import Calendar as Calendar
    from driftway.data.conditioning import Conditioning as Conditioning
    from driftway.data.conditioning import Transition as Transition
    from driftway.data.exporting import export_as as export_as
    from driftway.data.files import inspect as inspect
    from driftway.data.files import open_data as open_data
    from driftway.data.files import verify as verify
    from driftway.data.moments import Statistics as Statistics
    from driftway.data.moments import statistics as statistics
    from driftway.data.seasons import Told as Told
    from driftway.data.states import unwritten as unwritten
    from driftway.data.trajectories import Trajectories as Trajectories
    from driftway.data.weather_writer import export_forecast as export_forecast
    from driftway.data.weather_writer import export_weather as export_weather
    from driftway.data.well import open_well as open_well
    from driftway.data.well_folder import export_well as export_well
    from driftway.data.well_statistics import save_statistics as save_statistics
    from driftway.data.well_writer import save_well as save_well
    from driftway.data.zarr_store import open_zarr as open_zarr
    from driftway.data.zarr_store import save_zarr as save_zarr
    from driftway.data.zarr_store import write_zarr as write_zarr

_NAMES = {
    "calendar": "Calendar",
    "seasons": "Told",
    "files": "inspect open_data verify",
    "states": "unwritten",
    "axes": "Axis Fields",
    "conditioning": "Conditioning Transition",
    "trajectories": "Trajectories",
    "well": "open_well",
    "exporting": "export_as",
    "weather_writer": "export_forecast export_weather",
    "well_folder": "export_well",
    "well_statistics": "save_statistics",
    "well_writer": "save_well",
    "zarr_store": "open_zarr save_zarr write_zarr",
    "moments": "Statistics statistics",
}
__all__ = listed(_NAMES)  # pyright: ignore[reportUnsupportedDunderAll]

if not TYPE_CHECKING:  # or every misspelt name would have a type
    __getattr__ = lazily(__name__, _NAMES)
