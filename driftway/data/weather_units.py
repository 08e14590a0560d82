"""Units of weather data: what is expected of a quantity, what is converted, and what contradicts its own numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from driftway.data.cf import GRAVITY
from driftway.errors import DataError

SPELLINGS = {
    "degc": "degC",
    "c": "degC",
    "celsius": "degC",
    "°c": "degC",
    "degree_celsius": "degC",
    "degrees_celsius": "degC",
    "kelvin": "K",
    "k": "K",
    "hpa": "hPa",
    "mbar": "hPa",
    "millibar": "hPa",
    "millibars": "hPa",
    "pa": "Pa",
    "(0-1)": "1",
    "": "1",
    "%": "%",
    "percent": "%",
    "dimensionless": "1",
    "mof water equivalent": "m",
    "g/kg": "g kg-1",
    "kg/kg": "kg kg-1",
    "m/s": "m s-1",
    "gpm": "m",
}


@dataclass(frozen=True)
class Quantity:
    """A kind of variable: its unit, the range that means over the globe lie in, and units that are converted to it.

    others: unit → (factor, offset), x in the quantity's unit = factor·x + offset; per_metre: of what grows with height,
    how much a metre is, for the range on a pressure level
    """

    names: str
    unit: str
    low: float
    high: float
    others: Mapping[str, tuple[float, float]]
    per_metre: float | None = None

    def range(self, level: float | None) -> tuple[float, float]:
        """The lowest and highest mean; on a level in hPa a fifth beside the standard atmosphere's, and some 250 m."""
        if self.per_metre is None or level is None:
            return self.low, self.high
        height = standard_height(level)
        return self.per_metre * (0.8 * height - 250), self.per_metre * (1.2 * height + 400)


def standard_height(level: float) -> float:
    """Height in m of a pressure level in hPa in the standard atmosphere, isothermal above 11 km."""
    if level > 226.32:
        return 44330.8 * (1 - (level / 1013.25) ** 0.190263)
    return 11000 + 6341.6 * math.log(226.32 / level)


QUANTITIES = (
    Quantity(r"(?!.*potential).*temperature|sst|skt|t2m|tas|ts|ta|t|d2m", "K", 150, 350, {"degC": (1.0, 273.15)}),
    Quantity(r"(mean_sea_level|surface)_pressure|sp|msl|mslp|ps|psl", "Pa", 3e4, 1.2e5, {"hPa": (100.0, 0.0)}),
    Quantity(r"specific_humidity|hus|huss|q", "kg kg-1", -0.001, 0.06, {"g kg-1": (1e-3, 0.0), "1": (1.0, 0.0)}),
    Quantity(r"geopotential|z", "m2 s-2", -1e4, 6e5, {"m": (GRAVITY, 0.0)}, GRAVITY),
    Quantity(r"geopotential_height|zg|gh", "m", -1e3, 6e4, {"m2 s-2": (1 / GRAVITY, 0.0)}, 1.0),
    Quantity(r"(geopotential_at_surface|surface_geopotential|sg)", "m2 s-2", -5e3, 6e4, {"m": (GRAVITY, 0.0)}),
    Quantity(r"total_precipitation(_\d+hr)?|tp", "m", -0.001, 0.05, {"mm": (1e-3, 0.0), "kg m-2": (1e-3, 0.0)}),
    Quantity(r"land_sea_mask|lsm|.*ice_cover|siconc|sic", "1", -0.01, 1.01, {"%": (0.01, 0.0)}),
    Quantity(r".*component_of_wind|u10|v10|u|v|ua|va|uas|vas", "m s-1", -150, 150, {}),
)


def canonical(unit: str) -> str:
    """A unit as CF writes it: `m**2 s**-2` and `m^2/s^2` are `m2 s-2`, `C` is `degC`."""
    plain = unit.strip()
    key = plain.lower().replace("( ", "(").replace(" )", ")").replace(" - ", "-").replace("m of", "mof")
    if key in SPELLINGS:
        return SPELLINGS[key]
    over = re.sub(r"/\s*([A-Za-z]+)\^?\*{0,2}(\d*)", lambda part: f" {part[1]}-{part[2] or 1}", plain)
    return re.sub(r"\*\*|\^", "", over).replace("*", " ")


def quantity_of(name: str) -> Quantity | None:
    """What a variable's name says that it is; None where that is not known."""
    return next((kind for kind in QUANTITIES if re.fullmatch(kind.names, name)), None)


def conversion(
    name: str, unit: str | None, sample: np.ndarray, level: float | None = None
) -> tuple[str, float, float, str]:
    """The unit that a variable gets, the factor and offset that lead there, and what is to be said of it.

    unit: as the file has it, None where it has none; sample: some of its numbers; level: in hPa, if they are of one

    Raises DataError for a unit that is not expected and cannot be converted, and where the numbers contradict it.
    """
    kind, found = quantity_of(name), None if unit is None else canonical(unit)
    if kind is None:
        return found or "1", 1.0, 0.0, "" if found else f"'{name}' has no units: taken as 1"
    mean = float(np.nanmean(sample)) if np.isfinite(sample).any() else np.nan
    if found is None:
        found = _guessed(kind, mean, level)
        said = f"'{name}' has no units: taken as {found}, since its mean is {mean:.4g}"
    else:
        said = ""
    if found != kind.unit and found not in kind.others:
        known = ", ".join((kind.unit, *kind.others))
        raise DataError(
            f"'{name}' has the units '{found}', expected is {known}: correct the attribute, or say what it holds by "
            f"units: {{{name}: {kind.unit}}}"
        )
    factor, offset = kind.others.get(found, (1.0, 0.0))
    _check_range(name, kind, found, mean, level)
    if found != kind.unit:
        said = f"{said}; " * bool(said) + f"'{name}' converted from {found} to {kind.unit}"
    return kind.unit, factor, offset, said


def _guessed(kind: Quantity, mean: float, level: float | None) -> str:
    """The unit in which a mean lies within the range."""
    low, high = kind.range(level)
    units = {kind.unit: (1.0, 0.0), **kind.others}
    return next((unit for unit, (a, b) in units.items() if low <= a * mean + b <= high), kind.unit)


def _check_range(name: str, kind: Quantity, unit: str, mean: float, level: float | None) -> None:
    """The mean must lie within the range once it is converted; if it does so in another unit, that one is named."""
    said = _contradicted(kind, unit, mean, level)
    if said:
        raise DataError(
            f"'{name}' says that it is in {unit}, but {said}: correct the attribute 'units', or say what it holds by "
            f"units: {{{name}: {_guessed(kind, mean, level)}}}"
        )


def _contradicted(kind: Quantity, unit: str, mean: float, level: float | None) -> str:
    """How a mean is out of the range of a quantity, with the unit that it may have; empty where it is not."""
    (low, high), units = kind.range(level), {kind.unit: (1.0, 0.0), **kind.others}
    factor, offset = units[unit]
    if not np.isfinite(mean) or low <= factor * mean + offset <= high:
        return ""
    likely = _guessed(kind, mean, level)
    fits = low <= units[likely][0] * mean + units[likely][1] <= high
    limits = f"{(low - offset) / factor:.4g} … {(high - offset) / factor:.4g}"
    return f"its mean is {mean:.4g}, " + (f"which looks like {likely}" if fits else f"out of range, {limits}")


def contradiction(name: str, unit: str | None, mean: float) -> str:
    """What is wrong with the mean of a field over the globe, where name and unit say what it must be; else nothing.

    name: `tas`, or with a level in hPa at its end, such as `zg500`; unit: None where it is not known, and SI's then
    """
    level = re.fullmatch(r"([a-z_]+?)_?([1-9][0-9]*)", name)
    kind = quantity_of(name) or (quantity_of(level[1]) if level else None)
    found = kind.unit if kind and unit is None else canonical(unit or "")
    if kind is None or found not in (kind.unit, *kind.others):
        return ""
    at = float(level[2]) if level and quantity_of(name) is None else None
    said = _contradicted(kind, found, mean, at)
    return said and (
        f"'{name}' is in {found}, but {said}: correct its units or its numbers, or give what is something else, such "
        "as a difference, another name"
    )
