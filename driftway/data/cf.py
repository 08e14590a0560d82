"""Names of climate fields, in the words of the CF conventions: units, standard name and what they are.

A field on a pressure level carries the level in hPa at the end of its name: `ta850` is `ta` at 850 hPa.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

LEVEL = re.compile(r"([a-z]+?)([1-9][0-9]*)")


class Meaning(NamedTuple):
    """What a name stands for; a quantity without a standard name of CF has an empty one."""

    units: str
    standard_name: str
    long_name: str


SURFACE = {
    "tas": Meaning("K", "air_temperature", "air temperature at 2 m"),
    "ts": Meaning("K", "surface_temperature", "surface temperature"),
    "pl": Meaning("1", "", "natural logarithm of the surface pressure in Pa"),
    "pr_6h": Meaning("mm", "lwe_thickness_of_precipitation_amount", "precipitation of the last 6 hours"),
    "pr_12h": Meaning("mm", "lwe_thickness_of_precipitation_amount", "precipitation of the last 12 hours"),
    "evap": Meaning("mm", "lwe_thickness_of_water_evaporation_amount", "evaporation of the last 6 hours, upward"),
    "mrro": Meaning("kg m-2", "runoff_amount", "runoff and river inflow of the last 6 hours"),
    "mrso": Meaning("m", "lwe_thickness_of_soil_moisture_content", "water in the soil"),
    "lsm": Meaning("1", "land_binary_mask", "land mask"),
    "sg": Meaning("m2 s-2", "surface_geopotential", "geopotential of the surface"),
    "z0": Meaning("m", "surface_roughness_length", "roughness length of the surface"),
    "rsdt": Meaning("W m-2", "toa_incoming_shortwave_flux", "sunlight at the top of the atmosphere"),
    "sic": Meaning("1", "sea_ice_area_fraction", "sea ice"),
    "sst": Meaning("K", "sea_surface_temperature", "sea surface temperature"),
}
ALOFT = {
    "hus": Meaning("1", "specific_humidity", "specific humidity"),
    "ta": Meaning("K", "air_temperature", "air temperature"),
    "ua": Meaning("m s-1", "eastward_wind", "eastward wind"),
    "va": Meaning("m s-1", "northward_wind", "northward wind"),
    "zg": Meaning("m", "geopotential_height", "geopotential height"),
}
GRAVITY = 9.80665  # m s⁻², by which heights become geopotentials
LAND = ("lsm", "land_sea_mask")  # in CMIP's words and in ERA5's
AXES = {
    "degrees_north": {"standard_name": "latitude", "axis": "Y"},
    "degrees_east": {"standard_name": "longitude", "axis": "X"},
}


def at_level(name: str) -> tuple[str, int] | None:
    """The quantity and the level in hPa of a name such as `ta850`; None for any other."""
    found = LEVEL.fullmatch(name)
    return (found[1], int(found[2])) if found and found[1] in ALOFT else None


def meaning(name: str) -> Meaning | None:
    """What a climate field's name stands for, if it does."""
    place = at_level(name)
    if place is None:
        return SURFACE.get(name)
    units, standard_name, long_name = ALOFT[place[0]]
    return Meaning(units, standard_name, f"{long_name} at {place[1]} hPa")


def on_earth(units: Sequence[str]) -> bool:
    """Whether axes of these units are latitude and longitude."""
    return set(units) == set(AXES)


def land_of(static: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The share of land (lat, lon) among static fields, that of the first trajectory where each has its own."""
    found = next((static[name] for name in LAND if name in static), None)
    return found if found is None or found.ndim == 2 else found[0]


def attributes(name: str, units: str | None = None) -> dict[str, Any]:
    """The CF attributes of a field of this name; none where the name is not known or `units` are others than CF's."""
    known = meaning(name)
    if known is None or units not in (None, known.units):
        return {}
    return {key: value for key, value in known._asdict().items() if value}
