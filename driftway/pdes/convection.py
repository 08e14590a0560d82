"""Rayleigh–Bénard convection: a fluid heated from below that turns over between two walls."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from driftway.data.axes import Axis, Fields
from driftway.data.trajectories import Conditioning
from driftway.errors import ConfigError, DataError
from driftway.pdes import dedalus
from driftway.pdes.channel import Channel
from driftway.pdes.etdrk import SCHEMES, Scheme, scheme
from driftway.pdes.solver import CHUNK_POINTS, NOTHING, Fault, Values, first_row, not_finite, usable
from driftway.randomness import Stream

PARAMETERS = ("Prandtl", "Rayleigh")
ONE, ONE_MILLION = Values((1.0,)), Values((1e6,))

# Internal steps between two looks at the velocity; few counts, so that the tables of a step serve for many.
LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
# Tables of internal steps that are kept at a time.
KEPT = 64


class EnergyBudget(NamedTuple):
    """The terms of d/dt ½⟨u² + w²⟩, each (B,)."""

    production: Tensor
    viscous: Tensor
    total: Tensor


@dataclass(frozen=True)
class RayleighBenard:
    """Buoyancy b, pressure p and velocity (u, w) in the channel [0, width] × [0, 1], periodic along x.

        b_t + u·∇b = κ Δb ,  u_t + u·∇u = −∇p + ν Δu + (0, b) ,  ∇·u = 0 ,  κ = (Ra Pr)^−½ ,  ν = (Ra/Pr)^−½
        b = 1 and u = 0 at y = 0 ,      b = 0 and u = 0 at y = 1

    The Well's equations and units (Ohana et al. 2024, arXiv:2412.00568): heights and free-fall times. States are
    (B, 4, nx, ny), x uniform, y at Chebyshev points, which are dense at the walls and not on them; ⟨p⟩ = 0. A step is
    one stored `interval`; its parameters (B, 2) are Pr and Ra of each row.

    The modes of `Channel` make diffusion diagonal, which ETDRK (`driftway.pdes.etdrk`) takes exactly in time. The flow
    carries itself as vorticity × velocity, which conserves energy in any number of modes. Good values at Pr near 1:
    128×32 to Ra = 1e7, 256×64 to 1e8.

    Arguments:
        rayleigh: the values of Ra, and
        prandtl: of Pr; trajectory r has pair number r, and the first pair again after the last
        drop: initial states are d·(1 − y) + noise·y(1 − y)·N(0, 1), at rest, with d uniform between these
        courant: cells that the flow crosses in an internal step, at most
        overshoot: how far b may leave 0 … 1, where the walls keep it, before the grid is called too coarse
        checks: looks at the velocity in an interval, after which the internal step may change
        engine: torch, the method above, or dedalus, whose order, dtype and device are its own
    """

    size: tuple[int, ...] = (128, 32)
    width: float = 4.0
    rayleigh: Values = ONE_MILLION
    prandtl: Values = ONE
    interval: float = 0.25
    drop: tuple[float, ...] = (0.2, 1.0)
    noise: float = 1e-3
    courant: float = 1.0
    checks: int = 4
    overshoot: float = 0.5
    order: int = 4
    dtype: Literal["float32", "float64"] = "float64"
    device: str = "cpu"
    engine: str = "torch"

    fields: ClassVar[Fields] = Fields(("buoyancy", "pressure", "velocity_x", "velocity_y"), ("1",) * 4)
    time_units: ClassVar[str] = "1"

    def __post_init__(self) -> None:
        require = self._require
        require(len(self.size) == 2 and min(self.size) >= 8, "size", "two numbers ≥ 8")
        require(self.size[0] % 2 == 0, "size", "even along x")
        require(len(self.rayleigh) > 0 and all(0 < ra < math.inf for ra in self.rayleigh), "rayleigh", "numbers > 0")
        require(len(self.prandtl) > 0 and all(0 < pr < math.inf for pr in self.prandtl), "prandtl", "numbers > 0")
        require(0 <= self.drop[0] <= self.drop[-1] <= 1, "drop", "two numbers within 0..1, the smaller first")
        for name in ("width", "interval", "courant", "overshoot"):
            require(0 < getattr(self, name) < math.inf, name, "> 0 and finite")
        require(0 <= self.noise < math.inf, "noise", "≥ 0 and finite")
        require(self.checks >= 1, "checks", "≥ 1")
        require(self.order in SCHEMES, "order", "1, 2 or 4")
        require(self.dtype in ("float32", "float64"), "dtype", "float32 or float64")
        require(self.engine in ENGINES, "engine", f"one of {', '.join(ENGINES)}")
        require(usable(self.device), "device", "one that torch can use here; cpu always works")

    def _require(self, holds: bool, name: str, limit: str) -> None:
        if not holds:
            raise ConfigError(f"{type(self).__name__}: {name} = {getattr(self, name)!r}, must be {limit}")

    # --- what a data set of it is ----------------------------------------------------------------------------------

    @property
    def axes(self) -> tuple[Axis, ...]:
        """x, along which any shift changes nothing, and y from wall to wall."""
        heights = tuple(self.channel.y.tolist())
        return Axis.uniform("x", self.size[0], self.width, symmetry=1), Axis("y", heights, "wall", 1.0)

    @property
    def chunk(self) -> int:
        """Rows that are stepped together."""
        return min(ENGINES[self.engine].rows, max(1, CHUNK_POINTS // math.prod(self.size)))

    def parameters(self, rows: Sequence[int]) -> Mapping[str, np.ndarray]:
        """Pr and Ra of these trajectories, as The Well names them."""
        pairs = list(product(self.rayleigh, self.prandtl))
        rayleigh, prandtl = np.array([pairs[row % len(pairs)] for row in rows]).T
        return dict(zip(PARAMETERS, (prandtl, rayleigh), strict=True))

    def initial(self, stream: Stream) -> Tensor:
        """Nearly still, nearly the same along x: what convection grows from."""
        nx, ny = self.size
        low, high = self.drop
        drop = low + (high - low) * stream.uniform(torch.empty(len(stream)))
        noise = self.noise * stream.normal(torch.empty(len(stream), nx, ny, dtype=torch.float64))
        y = self.channel.y
        state = torch.zeros(len(stream), 4, nx, ny, dtype=torch.float64)
        state[:, 0] = drop.view(-1, 1, 1) * (1 - y) + y * (1 - y) * noise
        return state

    def fault(self, state: Tensor) -> Fault | None:
        """States that are not finite, or whose buoyancy no fluid between these walls has."""
        buoyancy, numbers = state[:, 0], f"with size = {list(self.size)} and courant = {self.courant:g}"
        finer = f"it is not resolved, use size = {[2 * n for n in self.size]}"
        row = first_row((buoyancy < -self.overshoot) | (buoyancy > 1 + self.overshoot))
        unresolved = None if row is None else Fault(row, f"has b beyond 0 … 1 by {self.overshoot:g}", numbers, finer)
        return not_finite(state, numbers, f"use courant = {self.courant / 2:g} or more points") or unresolved

    # --- time ------------------------------------------------------------------------------------------------------

    def rollout(self, state: Tensor, conditioning: Conditioning, stream: Stream | None = None) -> Iterator[Tensor]:
        """The states one stored interval after the other, without end, by the engine."""
        return ENGINES[self.engine].rollout(self, state, conditioning)

    def step(self, state: Tensor, conditioning: Conditioning = NOTHING, stream: Stream | None = None) -> Tensor:
        """The state (B, 4, nx, ny) one stored interval later; row r does not depend on the other rows."""
        numbers = self.numbers(conditioning, len(state))
        v = self.modes(state)
        for _ in range(self.checks):
            v = self._advance(v, numbers)
        return self.state(v, numbers).to(state)

    def _advance(self, v: Tensor, numbers: Tensor) -> Tensor:
        """One of the `checks` parts of an interval, rows of as many internal steps together."""
        counts = self._counts(v)
        moved = torch.full_like(v, math.nan)
        for count in set(counts) - {0}:
            rows = [row for row, other in enumerate(counts) if other == count]
            step = self._schemes(numbers[rows], self.interval / self.checks / count)
            part = v[rows]
            for _ in range(count):
                part = step(part, self.nonlinear)
            moved[rows] = part
        return moved

    def _counts(self, v: Tensor) -> list[int]:
        """How many internal steps each row needs, 0 where no number of them would do."""
        velocity = self.channel.products_grid(v)[:, :2]
        need = self.channel.turnover(velocity) * (self.interval / self.checks / self.courant)
        steps = (*LADDER, 0)
        return [steps[bisect_left(LADDER, number)] if math.isfinite(number) else 0 for number in need.tolist()]

    def nonlinear(self, v: Tensor) -> Tensor:
        """What is not diffusion, on the modes: (ωw, b − ωu) on the flow, −∇·(b u) on θ."""
        channel = self.channel
        u, w, vorticity, theta = channel.products_grid(v).unbind(1)
        b = theta + self._conduction
        products = torch.stack([vorticity * w, b - vorticity * u, b * u, b * w], 1)
        along, across, *flux = channel.from_products(products).unbind(1)
        return torch.cat([channel.onto_flow(along, across), channel.convergence(*flux)], 1)

    def _schemes(self, numbers: Tensor, dt: float) -> Scheme:
        """The internal step of rows with these parameters, whose tables are made once."""
        rows = [(prandtl, rayleigh, dt) for prandtl, rayleigh in numbers.tolist()]
        if len(self._made) > KEPT:
            self._made.clear()
        for key in set(rows) - self._made.keys():
            self._made[key] = self._scheme(*key)
        return self._made[rows[0]] if len(set(rows)) == 1 else _side_by_side([self._made[key] for key in rows])

    def _scheme(self, prandtl: float, rayleigh: float, dt: float) -> Any:
        viscosity, diffusivity = self.diffusivities(torch.tensor([[prandtl, rayleigh]], dtype=torch.float64))[0]
        flow, heat = self.channel.rates
        decay = torch.cat([-viscosity * flow, -diffusivity * heat])
        return scheme(self.order, decay * dt, torch.full_like(decay, dt), lambda table: self._table(table.real))

    @cached_property
    def _made(self) -> dict[tuple[float, float, float], Any]:
        return {}

    # --- states and modes ------------------------------------------------------------------------------------------

    def numbers(self, conditioning: Conditioning, count: int) -> Tensor:
        """Pr and Ra of the rows (B, 2), given, or the solver's own where it has one of each."""
        if conditioning.params is not None:
            return _positive(conditioning.params.to("cpu", torch.float64), count)
        if len(self.rayleigh) * len(self.prandtl) > 1:
            raise ConfigError("RayleighBenard has several values of Ra or Pr: a step needs conditioning with Pr and Ra")
        return torch.tensor([[*self.prandtl, *self.rayleigh]], dtype=torch.float64).expand(count, -1)

    @staticmethod
    def diffusivities(numbers: Tensor) -> Tensor:
        """ν = (Ra/Pr)^−½ and κ = (Ra Pr)^−½, (B, 2), of Pr and Ra, (B, 2)."""
        prandtl, rayleigh = numbers.unbind(1)
        return torch.stack([(rayleigh / prandtl) ** -0.5, (rayleigh * prandtl) ** -0.5], 1)

    def modes(self, state: Tensor) -> Tensor:
        """Modes (B, n, K) of states: of the velocity its nearest divergence-free field; the pressure says nothing."""
        b, _, u, w = state.to(self.device, self._precision).transpose(2, 3).unbind(1)
        fields = torch.stack([u, w, b - self._table(1 - self.channel.y)[:, None]], 1)
        u, w, theta = self.channel.from_states(fields).unbind(1)
        return torch.cat([self.channel.onto_flow(u, w), self.channel.onto_heat(theta)], 1)

    def state(self, v: Tensor, numbers: Tensor) -> Tensor:
        """States (B, 4, nx, ny) of modes (B, n, K)."""
        u, w, _, theta = self.channel.states_grid(v).unbind(1)
        b = theta + self._table(1 - self.channel.y)[:, None]
        head = self.channel.pressure_grid(self._head(v, numbers))
        energy = (u**2 + w**2) / 2
        p = head - energy + self.kinetic_energy(v).view(-1, 1, 1)
        return torch.stack([b, p, u, w], 1).transpose(2, 3)

    def _head(self, v: Tensor, numbers: Tensor) -> Tensor:
        """Modes of p + ½|u|², up to a constant: what makes a step free of divergence."""
        u, w, vorticity, theta = self.channel.products_grid(v).unbind(1)
        force = torch.stack([vorticity * w, theta + self._conduction - vorticity * u], 1)
        viscosity = self._table(self.diffusivities(numbers)[:, 0]).view(-1, 1, 1)
        along, across = self.channel.from_products(force).unbind(1)
        return self.channel.onto_pressure(along, across, v, viscosity)

    # --- what can be checked ---------------------------------------------------------------------------------------

    def kinetic_energy(self, v: Tensor) -> Tensor:
        """½⟨u² + w²⟩ of modes, (B,)."""
        return self._sum(v[:, : self.channel.flow].abs() ** 2) / 2

    def energy_budget(self, state: Tensor, conditioning: Conditioning = NOTHING) -> EnergyBudget:
        """What changes the kinetic energy of states (B, 4, nx, ny); advection and pressure conserve it.

        d/dt ½⟨u² + w²⟩ = ⟨w b⟩ − ν⟨|∇u|²⟩
        """
        v = self.modes(state)
        flow, viscosity = v[:, : self.channel.flow], self.diffusivities(self.numbers(conditioning, len(v)))[:, 0]
        viscous = -self._table(viscosity) * self._sum(self._table(self.channel.rates[0]) * flow.abs() ** 2)
        production = self._heat_flux(v)
        return EnergyBudget(production, viscous, production + viscous)

    def nusselt(self, state: Tensor, conditioning: Conditioning = NOTHING) -> Tensor:
        """Heat over what conduction alone would carry, in the volume and through either wall: (B, 3).

            1 + ⟨w b⟩/κ ,   −∂_y⟨b⟩ at y = 0 ,   −∂_y⟨b⟩ at y = 1

        1 at rest; the three are equal on average over a stationary flow.
        """
        v = self.modes(state)
        diffusivity = self._table(self.diffusivities(self.numbers(conditioning, len(v)))[:, 1])
        bottom, top = (1 - self.channel.wall_slopes(v)).unbind(1)
        return torch.stack([1 + self._heat_flux(v) / diffusivity, bottom, top], 1)

    def _heat_flux(self, v: Tensor) -> Tensor:
        """⟨w b⟩ = ⟨w θ⟩, as no net flow crosses a height."""
        _, w, _, theta = self.channel.products_grid(v).unbind(1)
        return self.channel.mean(w * theta)

    def _sum(self, squares: Tensor) -> Tensor:
        """Over modes, each wave with its conjugate."""
        return 2 * squares.sum((1, 2)) - squares[..., 0].sum(1)

    # --- tables ----------------------------------------------------------------------------------------------------

    @cached_property
    def channel(self) -> Channel:
        """The channel in which it flows."""
        nx, ny = self.size
        return Channel((nx, ny), self.width, self._precision, self.device)

    @property
    def _precision(self) -> torch.dtype:
        return torch.float32 if self.dtype == "float32" else torch.float64

    def _table(self, table: Tensor) -> Tensor:
        return table.to(self.device, self._precision)

    @cached_property
    def _conduction(self) -> Tensor:
        """1 − y, the buoyancy at rest, on the grid of products."""
        return self._table(1 - self.channel.product_heights)[:, None]


def _positive(numbers: Tensor, count: int) -> Tensor:
    if numbers.shape != (count, len(PARAMETERS)):
        raise DataError(
            f"convection needs {' and '.join(PARAMETERS)} of {count} rows, got {tuple(numbers.shape)} numbers"
        )
    if not bool(((numbers > 0) & torch.isfinite(numbers)).all()):
        raise DataError(f"{' and '.join(PARAMETERS)} must be > 0 and finite, got {numbers.tolist()}")
    return numbers


def _side_by_side(schemes: Sequence[Any]) -> Any:
    """One scheme of many, each for its row of a batch."""
    kind = type(schemes[0])
    return kind(*(torch.stack(tables) for tables in zip(*(vars(one).values() for one in schemes), strict=True)))


# --- engines -------------------------------------------------------------------------------------------------------


class Engine(NamedTuple):
    """What moves the states of trajectories, and of how many at a time."""

    rollout: Callable[[RayleighBenard, Tensor, Conditioning], Iterator[Tensor]]
    rows: int


def _by_torch(solver: RayleighBenard, state: Tensor, conditioning: Conditioning) -> Iterator[Tensor]:
    while True:
        state = solver.step(state, conditioning)
        yield state


def _by_dedalus(solver: RayleighBenard, state: Tensor, conditioning: Conditioning) -> Iterator[Tensor]:
    about = {name: getattr(solver, name) for name in ("size", "width", "interval", "courant", "checks")}
    return dedalus.trajectories(about, state, solver.numbers(conditioning, len(state)))


ENGINES = {"torch": Engine(_by_torch, CHUNK_POINTS), "dedalus": Engine(_by_dedalus, 1)}
