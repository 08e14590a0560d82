"""From layers in sigma to pressure levels, and the height of pressure levels.

PlaSim's layers k = 1 … L from the top have the lower edges σ_k+½ = p/p_s, σ_L+½ = 1, and the middles
σ_k = ½(σ_k−½ + σ_k+½). Above the middle of the uppermost layer and below that of the lowest one wind and humidity are
those of that layer. Below the lowest middle, and below ground, temperature goes on with a lapse rate of 6.5 K/km.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from driftway.data.cf import GRAVITY

VAPOUR = 461.51  # gas constant of water vapour, J kg⁻¹ K⁻¹, as in PlaSim
LAPSE = 0.0065  # K m⁻¹


@dataclass(frozen=True)
class Layers:
    """Columns of layers.

    Arguments:
        half: (L,) lower edges in sigma, from the top; the last is 1
        surface: (T, lat, lon) surface pressure, Pa
        gas: gas constant of dry air, J kg⁻¹ K⁻¹
    """

    half: np.ndarray
    surface: np.ndarray
    gas: float = 287.0

    @cached_property
    def middle(self) -> np.ndarray:
        """The middles of the layers in sigma, (L,)."""
        return 0.5 * (self.half + np.concatenate([[0.0], self.half[:-1]]))

    @property
    def exponent(self) -> float:
        """R Γ/g: temperature below ground goes with p to this power."""
        return self.gas * LAPSE / GRAVITY

    def depth(self, pressure: float) -> np.ndarray:
        """ln(p/p_s), (T, lat, lon): 0 at the ground, above 0 below it."""
        return np.log(pressure) - np.log(self.surface)

    def level(self, values: np.ndarray, pressure: float) -> np.ndarray:
        """Values (T, L, lat, lon) at a pressure in Pa, linear in ln p, the outermost value beyond: (T, lat, lon)."""
        x, known = self.depth(pressure), np.log(self.middle)
        below = np.clip(np.searchsorted(known, x), 1, len(known) - 1)
        weight = np.clip((x - known[below - 1]) / (known[below] - known[below - 1]), 0, 1)
        return (1 - weight) * _of_layer(values, below - 1) + weight * _of_layer(values, below)

    def temperature(self, temperature: np.ndarray, pressure: float) -> np.ndarray:
        """Temperature (T, L, lat, lon) at a pressure in Pa: T_L (p/p_L)^(RΓ/g) below the last middle."""
        beyond = np.maximum(self.depth(pressure) - np.log(self.middle[-1]), 0)
        return self.level(temperature, pressure) * np.exp(self.exponent * beyond)

    def height(self, temperature: np.ndarray, humidity: np.ndarray, ground: np.ndarray, pressure: float) -> np.ndarray:
        """Geopotential height in m, (T, lat, lon), of a pressure in Pa: hydrostatic, virtual temperature in each layer.

            Φ(p) = Φ_k+½ + R T_v,k ln(p_k+½/p) ,    Φ_k−½ = Φ(p_k−½) ,    T_v = T (1 + (R_v/R − 1) q)

        within layer k, from the ground up; below ground Φ = Φ_s − g T_s/Γ ((p/p_s)^(RΓ/g) − 1), where T_s goes on from
        the lowest layer. Reference: Simmons & Burridge 1981, Mon. Weather Rev. 109, 758, whose layers PlaSim has.

        Arguments:
            temperature: (T, L, lat, lon), K
            humidity: (T, L, lat, lon), kg/kg
            ground: (lat, lon), geopotential of the surface, m² s⁻²
        """
        virtual = temperature * (1 + (VAPOUR / self.gas - 1) * humidity)
        x, edges = self.depth(pressure), np.log(self.half)
        steps = self.gas * virtual[:, 1:] * np.diff(edges)[:, None, None]
        risen = np.cumsum(steps[:, ::-1], 1)[:, ::-1]
        lower = ground + np.concatenate([risen, np.zeros_like(virtual[:, :1])], 1)
        layer = np.minimum(np.searchsorted(edges, x), len(edges) - 1)
        above = _of_layer(lower, layer) + self.gas * _of_layer(virtual, layer) * (edges[layer] - x)
        warm = virtual[:, -1] * self.middle[-1] ** -self.exponent
        under = ground - GRAVITY * warm / LAPSE * np.expm1(self.exponent * np.maximum(x, 0))
        return np.where(x > 0, under, above) / GRAVITY


def _of_layer(values: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """values[t, layer[t, y, x], y, x]."""
    return np.take_along_axis(values, layer[:, None], 1)[:, 0]
