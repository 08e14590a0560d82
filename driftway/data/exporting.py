"""A data set or a forecast on disk, written in a layout of others by its name."""

from __future__ import annotations

from pathlib import Path

from driftway.data.files import open_data
from driftway.data.weather_writer import export_forecast, export_weather
from driftway.data.well_folder import export_well
from driftway.errors import DataError

LAYOUTS = {"the-well": export_well, "weatherbench2": export_weather}
FORECASTS = {"weatherbench2": export_forecast}


def export_as(layout: str, path: str | Path, folder: str | Path) -> Path:
    """Write what lies at `path` into `folder`; layout: of `LAYOUTS`.

    Raises DataError for a forecast that is to be written in a layout without forecasts, and as the layouts' own do.
    """
    if not (Path(path) / "lead_time").is_dir():
        return LAYOUTS[layout](open_data(path), folder)
    if layout not in FORECASTS:
        raise DataError(f"{path} is a forecast, and '{layout}' has no place for forecasts: take {', '.join(FORECASTS)}")
    return FORECASTS[layout](path, folder)
