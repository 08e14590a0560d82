"""The fields of a climate data set from the raw output of PlaSim.

States are those of the model's clock: the last of the steps that make six hours. Amounts (precipitation, evaporation,
runoff) are those of the six hours that end there, from the model's own means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from driftway.climate.harmonics import Synthesis
from driftway.climate.pressure import Layers
from driftway.climate.raw import Raw
from driftway.data.cf import at_level
from driftway.errors import DataError

SECONDS = 21600.0  # between states
MILLIMETRES = 1000.0 * SECONDS  # of water in that time, from m/s


@dataclass(frozen=True)
class Output:
    """What a run has written in a while.

    Arguments:
        states: every six hours
        means: over the six hours before each state
        synthesis: from harmonics to the grid
        gas: gas constant of dry air, J kg⁻¹ K⁻¹
        rain: (lat, lon), precipitation of the six hours before the first mean, mm; None where there is none
    """

    states: Raw
    means: Raw
    synthesis: Synthesis
    gas: float
    rain: np.ndarray | None = None

    def __post_init__(self) -> None:
        if len(self.states) != len(self.means):
            raise DataError(f"PlaSim has written {len(self.states)} states and {len(self.means)} means of six hours")

    def channels(self, names: Sequence[str]) -> np.ndarray:
        """The fields of these names, (T, C, lat, lon), float32."""
        return np.stack([self.channel(name) for name in names], 1).astype(np.float32)

    def channel(self, name: str) -> np.ndarray:
        """The field of a name, (T, lat, lon)."""
        place = at_level(name)
        return SURFACE[name](self) if place is None else ALOFT[place[0]](self, 100.0 * place[1])

    @cached_property
    def layers(self) -> Layers:
        """The layers of air."""
        return Layers(self.states.half, np.exp(self.synthesis.scalar(self.states.spectral(152))), self.gas)

    @cached_property
    def ground(self) -> np.ndarray:
        """Geopotential of the surface, (lat, lon), m² s⁻²: as the model sees it, with the ripples of its harmonics."""
        return self.synthesis.scalar(self.states.spectral(129)[0])

    @cached_property
    def temperature(self) -> np.ndarray:
        """Temperature in the layers, (T, L, lat, lon)."""
        return self.synthesis.scalar(self.states.layers(130))

    @cached_property
    def humidity(self) -> np.ndarray:
        """Specific humidity in the layers, (T, L, lat, lon); what harmonics bring below 0 is 0."""
        return np.maximum(self.synthesis.scalar(self.states.layers(133)), 0)

    @cached_property
    def wind(self) -> tuple[np.ndarray, np.ndarray]:
        """Eastward and northward wind in the layers, (T, L, lat, lon) each."""
        return self.synthesis.wind(self.states.layers(138), self.states.layers(155))

    @cached_property
    def precipitation(self) -> np.ndarray:
        """Of the six hours before each state, (T, lat, lon), mm."""
        return MILLIMETRES * (self.means.field(142).astype(float) + self.means.field(143))

    def twelve_hours(self) -> np.ndarray:
        """Precipitation of the twelve hours before each state; twice that of six where nothing is known before."""
        first = self.precipitation[0] if self.rain is None else self.rain
        return self.precipitation + np.concatenate([first[None], self.precipitation[:-1]])


SURFACE: Mapping[str, Callable[[Output], np.ndarray]] = {
    "tas": lambda out: out.states.field(167),
    "ts": lambda out: out.states.field(139),
    "pl": lambda out: np.log(out.layers.surface),
    "pr_6h": lambda out: out.precipitation,
    "pr_12h": Output.twelve_hours,
    "evap": lambda out: -MILLIMETRES * out.means.field(182),
    "mrro": lambda out: MILLIMETRES * out.means.field(160),
    "mrso": lambda out: out.states.field(140),
    "lsm": lambda out: out.states.field(172),
    "sg": lambda out: np.broadcast_to(out.ground, out.layers.surface.shape),
    "z0": lambda out: out.states.field(173),
    "rsdt": lambda out: out.states.field(178) - out.states.field(203),
    "sic": lambda out: out.states.field(210),
}
ALOFT: Mapping[str, Callable[[Output, float], np.ndarray]] = {
    "hus": lambda out, p: out.layers.level(out.humidity, p),
    "ta": lambda out, p: out.layers.temperature(out.temperature, p),
    "ua": lambda out, p: out.layers.level(out.wind[0], p),
    "va": lambda out, p: out.layers.level(out.wind[1], p),
    "zg": lambda out, p: out.layers.height(out.temperature, out.humidity, out.ground, p),
}
