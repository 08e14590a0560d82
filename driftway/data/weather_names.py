"""What WeatherBench 2 calls a field, on which level it has it, and in which units.

Reference: Rasp et al. 2024, WeatherBench 2 (arXiv 2308.15560).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from driftway.data import cf
from driftway.data.axes import Fields

Convert = Callable[[np.ndarray], np.ndarray]


class Named(NamedTuple):
    """A variable of WeatherBench 2: its name and units, and how numbers in our units become its own."""

    name: str
    units: str
    convert: Convert = np.asarray


SURFACE = {
    "tas": Named("2m_temperature", "K"),
    "ts": Named("skin_temperature", "K"),
    "pl": Named("surface_pressure", "Pa", np.exp),
    "pr_6h": Named("total_precipitation_6hr", "m", lambda mm: mm / 1000),
    "pr_12h": Named("total_precipitation_12hr", "m", lambda mm: mm / 1000),
    "lsm": Named("land_sea_mask", "1"),
    "sg": Named("geopotential_at_surface", "m2 s-2"),
    "sst": Named("sea_surface_temperature", "K"),
    "sic": Named("sea_ice_cover", "1"),
}
ALOFT = {
    "ta": Named("temperature", "K"),
    "ua": Named("u_component_of_wind", "m s-1"),
    "va": Named("v_component_of_wind", "m s-1"),
    "zg": Named("geopotential", "m2 s-2", lambda height: cf.GRAVITY * height),
    "hus": Named("specific_humidity", "kg kg-1"),
}
THEIRS = re.compile(rf"({'|'.join(known.name for known in ALOFT.values())})([1-9][0-9]*)")


class Channel(NamedTuple):
    """One of our fields as WeatherBench 2 has it."""

    variable: str
    units: str
    level: int | None
    convert: Convert


def channel_of(name: str, units: str | None) -> Channel:
    """What a field becomes; one that is not known, or has other units than CF's, keeps its name, units and numbers.

    units: None where they are those of the name
    """
    at, theirs, about = cf.at_level(name), THEIRS.fullmatch(name), cf.meaning(name)
    same = about is not None and units in (None, about.units)
    if at and same:
        known = ALOFT[at[0]]
        return Channel(known.name, known.units, at[1], known.convert)
    if theirs:
        return Channel(theirs[1], units or "1", int(theirs[2]), np.asarray)
    known = SURFACE.get(name) if same else None
    return Channel(name, units or "1", None, np.asarray) if known is None else Channel(*known[:2], None, known.convert)


@dataclass(frozen=True)
class Variable:
    """One variable of a store: which of our fields it holds, each at its place among the levels of the store."""

    name: str
    units: str
    channels: tuple[int, ...]
    places: tuple[int, ...] = ()
    converts: tuple[Convert, ...] = ()

    def gathered(self, levels: int, field: Callable[[int], np.ndarray]) -> np.ndarray:
        """Numbers (..., lat, lon), or (..., level, lat, lon) with NaN at levels that there is no field of.

        field: number of one of our fields → (..., lat, lon)
        """
        parts = [convert(field(c)).astype(np.float32) for c, convert in zip(self.channels, self.converts, strict=True)]
        if not self.places:
            return parts[0]
        *lead, lat, lon = parts[0].shape
        found = np.full((*lead, levels, lat, lon), np.nan, np.float32)
        for place, part in zip(self.places, parts, strict=True):
            found[..., place, :, :] = part
        return found


def variables_of(fields: Fields) -> tuple[list[int], list[Variable]]:
    """The levels in hPa of a store that holds these fields, and its variables."""
    channels = [channel_of(name, units) for name, units in zip(fields.names, fields.units, strict=True)]
    levels = sorted({channel.level for channel in channels if channel.level is not None})
    named: dict[str, list[int]] = {}
    for number, channel in enumerate(channels):
        named.setdefault(channel.variable, []).append(number)
    return levels, [_variable(name, numbers, channels, levels) for name, numbers in named.items()]


def _variable(name: str, numbers: Sequence[int], channels: Sequence[Channel], levels: Sequence[int]) -> Variable:
    own = [channels[c] for c in numbers]
    places = tuple(levels.index(channel.level) for channel in own if channel.level is not None)
    return Variable(name, own[0].units, tuple(numbers), places, tuple(channel.convert for channel in own))
