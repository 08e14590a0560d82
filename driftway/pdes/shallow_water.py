"""Shallow water on a rotating sphere, forced towards unstable jets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from driftway.data.axes import Axis, Fields
from driftway.data.trajectories import Conditioning
from driftway.errors import ConfigError
from driftway.pdes.etdrk import SCHEMES, Scheme, scheme
from driftway.pdes.solver import CHUNK_POINTS, NOTHING, Fault, first_row, not_finite
from driftway.randomness import Stream
from driftway.sphere import Transform, gaussian_latitudes

HOUR = 3600.0
STIRRED, SMALLEST = 6, 12  # the degrees that stirring acts on; initial states differ by those from 1


@dataclass(frozen=True)
class ShallowWater:
    """Height h, vorticity ζ and divergence δ of a layer of water on a rotating sphere, relaxed towards jets.

        ζ_t + ∇·((ζ + f) u) = (ζ* − ζ)/τ − D ζ + Ẇ
        δ_t − k·∇×((ζ + f) u) + ∇²(g h + ½|u|²) = −δ/τ − D δ
        h_t + ∇·(h u) = (h* − h)/τ − D h ,                    f = 2Ω sin φ

    ζ* and h* are a westerly jet in each hemisphere, u* = U (sin 2φ)^p, and the height in balance with it, steady
    without friction. Jets are the narrower the larger p is; on narrow ones waves grow. D damps a degree l at the rate
    (l(l + 1)/L(L + 1))⁴/τ_D. Ẇ is white in time, with equal shares for all harmonics of the degrees 6 to 12; without it
    the waves tend to a pattern that travels. Spherical harmonics up to the degree L that a third of the longitudes and
    two thirds of the rows, at Gauss's latitudes, allow: products of two do not alias. Exponential time differencing, in
    float64. `winds` has the winds of states. SI units, but for hours.

    Arguments:
        size: rows and longitudes, an even number
        interval: hours between stored states
        substeps: steps in an interval; gravity waves, of speed √(gH), are stepped explicitly
        depth: H, the mean of h, m
        jet: U, m/s
        narrowness: p, even
        relaxation: τ, hours; inf for none
        diffusion: τ_D, hours; inf for none
        stirring: root mean square of the vorticity that Ẇ adds in a day, 1/s; 0 for none
        noise: root mean square of the vorticity by which initial states differ from the jets, 1/s
        gravity: m/s²; rotation: Ω, 1/s; radius: m

    The equations as in Williamson et al. 1992, J. Comput. Phys. 102, 211.
    """

    size: tuple[int, ...] = (32, 64)
    interval: float = 6.0
    substeps: int = 18
    depth: float = 1e4
    jet: float = 120.0
    narrowness: int = 16
    relaxation: float = 96.0
    diffusion: float = 6.0
    stirring: float = 4e-6
    noise: float = 5e-6
    gravity: float = 9.80616
    rotation: float = 7.292e-5
    radius: float = 6.37122e6
    order: int = 4

    fields: ClassVar[Fields] = Fields(("height", "vorticity", "divergence"), ("m", "s-1", "s-1"))
    time_units: ClassVar[str] = "h"

    def __post_init__(self) -> None:
        require = self._require
        require(len(self.size) == 2 and min(self.size) >= 8, "size", "two numbers ≥ 8")
        require(self.size[1] % 2 == 0, "size", "an even number of longitudes")
        for name in ("interval", "depth", "gravity", "radius"):
            require(0 < getattr(self, name) < math.inf, name, "> 0 and finite")
        for name in ("relaxation", "diffusion"):
            require(getattr(self, name) > 0, name, "> 0; inf for none")
        for name in ("stirring", "noise", "rotation", "jet"):
            require(0 <= getattr(self, name) < math.inf, name, "≥ 0 and finite")
        require(self.substeps >= 1, "substeps", "≥ 1")
        require(self.narrowness >= 2 and self.narrowness % 2 == 0, "narrowness", "even and ≥ 2")
        require(self.order in SCHEMES, "order", "1, 2 or 4")

    def _require(self, holds: bool, name: str, limit: str) -> None:
        if not holds:
            raise ConfigError(f"{type(self).__name__}: {name} = {getattr(self, name)!r}, must be {limit}")

    # --- what a data set of it is ----------------------------------------------------------------------------------

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Latitude from south to north, and longitude, along which any shift changes nothing."""
        rows = tuple(gaussian_latitudes(self.size[0]).tolist())
        lat = Axis("lat", rows, "pole", units="degrees_north")
        return lat, Axis.uniform("lon", self.size[1], 360.0, symmetry=1, units="degrees_east")

    @property
    def chunk(self) -> int:
        """Rows that are stepped together."""
        return max(1, CHUNK_POINTS // math.prod(self.size))

    def parameters(self, rows: Sequence[int]) -> Mapping[str, np.ndarray]:
        """None: all trajectories have the same numbers."""
        return {}

    def initial(self, stream: Stream) -> Tensor:
        """The jets with random vorticity of the degrees 1 to 12."""
        v = self._forced.expand(len(stream), -1, -1, -1).clone()
        return self.state(self._disturbed(v, self.noise, stream, 1))

    def _disturbed(self, v: Tensor, size: float, stream: Stream, lowest: int) -> Tensor:
        """Modes with random vorticity of this root mean square, all harmonics of some degrees alike."""
        highest = min(SMALLEST, self.transform.degree)
        draws = stream.normal(torch.empty(len(stream), 2, highest + 1, highest + 1, dtype=torch.float64))
        waves = torch.complex(draws[:, 0], draws[:, 1]).tril() / math.sqrt(2)
        waves[..., 0] = draws[:, 0, :, 0].to(waves)
        waves[:, :lowest] = 0
        count = (highest + 1) ** 2 - lowest**2
        v = v.clone()
        v[:, 1, : highest + 1, : highest + 1] += size * math.sqrt(4 * math.pi / count) * waves
        return v

    def fault(self, state: Tensor) -> Fault | None:
        """States that are not finite, or where the bottom falls dry."""
        numbers = f"with substeps = {self.substeps} and diffusion = {self.diffusion:g}"
        remedy = f"use substeps = {2 * self.substeps} or diffusion = {self.diffusion / 2:g}"
        row = first_row(state[:, 0] <= 0)
        dry = None if row is None else Fault(row, "has a height that is not above 0", numbers, remedy)
        return not_finite(state, numbers, remedy) or dry

    # --- time ------------------------------------------------------------------------------------------------------

    def rollout(self, state: Tensor, conditioning: Conditioning, stream: Stream | None = None) -> Iterator[Tensor]:
        """The states one stored interval after the other, without end."""
        v = self.modes(state)
        while True:
            v = self._advance(v, stream)
            yield self.state(v)

    def step(self, state: Tensor, conditioning: Conditioning = NOTHING, stream: Stream | None = None) -> Tensor:
        """The state (B, 3, nlat, nlon) one stored interval later; stirring needs a stream of B rows."""
        return self.state(self._advance(self.modes(state), stream)).to(state)

    def _advance(self, v: Tensor, stream: Stream | None) -> Tensor:
        for _ in range(self.substeps):
            v = self._scheme(v, self.nonlinear)
            if self.stirring:
                v = self._disturbed(v, self._kick, _given(stream), STIRRED)
        return v

    @property
    def _kick(self) -> float:
        return self.stirring * math.sqrt(self.interval / self.substeps / 24)

    def nonlinear(self, v: Tensor) -> Tensor:
        """What is not linear damping, on the modes (B, 3, l, m)."""
        height, vorticity, divergence = v.unbind(1)
        u, w = self.transform.winds(vorticity, divergence)
        h, absolute = self.transform.synthesis(v[:, :2]).unbind(1)
        absolute = absolute + self._coriolis
        carried, carrier = torch.stack([absolute * u, h * u], 1), torch.stack([absolute * w, h * w], 1)
        curl, spread = self.transform.vorticity_divergence(carried, carrier)
        head = self.transform.analysis((u.square() + w.square()) / 2) + self.gravity * height
        tendency = torch.stack([-spread[:, 1], -spread[:, 0], curl[:, 0] - self.transform.laplacian(head)], 1)
        return tendency + self._forced / (self.relaxation * HOUR)

    # --- states and modes ------------------------------------------------------------------------------------------

    def modes(self, state: Tensor) -> Tensor:
        """Coefficients (B, 3, l, m) of states."""
        return self.transform.analysis(state.double())

    def state(self, v: Tensor) -> Tensor:
        """States (B, 3, nlat, nlon) of coefficients."""
        return self.transform.synthesis(v)

    def winds(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Eastward and northward wind (B, nlat, nlon) of states, m/s."""
        return self.transform.winds(*self.modes(state)[:, 1:].unbind(1))

    def balanced(self, wind: Tensor) -> Tensor:
        """The state (1, 3, nlat, nlon) of an eastward wind (nlat,) that is the same along a row: steady.

        ∇²(g h + ½u²) = k·∇×((ζ + f) u) ,   ⟨h⟩ = H
        """
        east = wind[:, None].expand(self.size).double()
        vorticity, _ = self.transform.vorticity_divergence(east, 0 * east)
        u, _ = self.transform.winds(vorticity, 0 * vorticity)
        absolute = self.transform.synthesis(vorticity) + self._coriolis
        curl, _ = self.transform.vorticity_divergence(absolute * u, 0 * u)
        head = self.transform.inverse_laplacian(curl)
        height = (head - self.transform.analysis(u.square() / 2)) / self.gravity
        height[0, 0] = self.depth * math.sqrt(4 * math.pi)
        return self.state(torch.stack([height, vorticity, 0 * vorticity])[None])

    # --- what can be checked ---------------------------------------------------------------------------------------

    def mass(self, state: Tensor) -> Tensor:
        """⟨h⟩, (B,), m."""
        return self._mean(state[:, 0].double())

    def energy(self, state: Tensor) -> Tensor:
        """⟨½ h |u|² + ½ g h²⟩, (B,), m³/s²: what is conserved without forcing and damping."""
        u, w = self.winds(state)
        h = state[:, 0].double()
        return self._mean(h * (u.square() + w.square()) / 2 + self.gravity * h.square() / 2)

    def _mean(self, f: Tensor) -> Tensor:
        return self.transform.analysis(f)[..., 0, 0].real / math.sqrt(4 * math.pi)

    # --- tables ----------------------------------------------------------------------------------------------------

    @cached_property
    def transform(self) -> Transform:
        """Between the grid and the harmonics of which products do not alias."""
        rows, longitudes = self.size
        degree = min((2 * rows - 1) // 3, (longitudes - 1) // 3)
        lat, lon = (axis.coordinates for axis in self.axes)
        return Transform(lat, lon, degree, self.radius)

    @cached_property
    def _coriolis(self) -> Tensor:
        rows = torch.deg2rad(gaussian_latitudes(self.size[0]))
        return 2 * self.rotation * torch.sin(rows)[:, None]

    @cached_property
    def _forced(self) -> Tensor:
        """The modes (1, 3, l, m) of the jets."""
        rows = torch.deg2rad(gaussian_latitudes(self.size[0]))
        return self.modes(self.balanced(self.jet * torch.sin(2 * rows) ** self.narrowness))

    @cached_property
    def _scheme(self) -> Scheme:
        """One internal step."""
        scale = self.transform.rates / self.transform.rates[-1]
        decay = -(scale**4 / self.diffusion + 1 / self.relaxation) / HOUR
        dt = self.interval * HOUR / self.substeps
        return scheme(self.order, decay[:, None] * dt, torch.full_like(decay, dt)[:, None], lambda table: table.real)


def _given(stream: Stream | None) -> Stream:
    if stream is None:
        raise ValueError("stirred water needs a stream of random numbers")
    return stream
