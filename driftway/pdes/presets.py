"""Named simulations: a solver with good numbers, how long to spin up, what to store.

Every number is replaceable: `PRESETS["kolmogorov"].override({"viscosity": 0.01, "frames": 51})`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple

from driftway.data.axes import Axis, Fields
from driftway.errors import ConfigError
from driftway.pdes.burgers import Burgers
from driftway.pdes.convection import RayleighBenard
from driftway.pdes.kolmogorov import Kolmogorov
from driftway.pdes.kuramoto import KuramotoSivashinsky
from driftway.pdes.shallow_water import ShallowWater
from driftway.pdes.solver import Names, Solver, Values


class Counts(NamedTuple):
    """Trajectories per split."""

    train: int
    valid: int
    test: int

    @property
    def splits(self) -> tuple[str, ...]:
        """The split of each row: test, valid, then train, so that more training data leaves the tests alone."""
        return ("test",) * self.test + ("valid",) * self.valid + ("train",) * self.train


@dataclass(frozen=True)
class Preset:
    """A data set to simulate: random initial states, a burn-in that is thrown away, then stored states.

    Arguments:
        name: the key in `PRESETS`
        description: one line for lists
        solver: the equation with all its numbers; one `step` is one stored interval
        burn_in: time before the first stored state, a multiple of the interval
        frames: stored states per trajectory
        trajectories: how many, per split
    """

    name: str
    description: str
    solver: Solver
    burn_in: float
    frames: int
    trajectories: Counts

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise ConfigError(f"{self.name}: frames = {self.frames}, must be ≥ 2 (one transition)")
        if min(self.trajectories) < 0 or sum(self.trajectories) == 0:
            raise ConfigError(f"{self.name}: trajectories = {tuple(self.trajectories)}, must be ≥ 0, some > 0")
        if not 0 <= self.burn_in < math.inf or abs(self.burn_in - self.spin_up * self.interval) > 1e-6 * self.interval:
            limit = f"≥ 0 and a multiple of the interval {self.interval:g}"
            raise ConfigError(f"{self.name}: burn_in = {self.burn_in:g}, must be {limit}")

    @property
    def fields(self) -> Fields:
        return self.solver.fields

    @property
    def axes(self) -> tuple[Axis, ...]:
        return self.solver.axes

    @property
    def interval(self) -> float:
        """Time between stored states."""
        return self.solver.interval

    @property
    def time_units(self) -> str:
        """Of all times of the preset."""
        return self.solver.time_units

    @property
    def spin_up(self) -> int:
        """Intervals of burn-in."""
        return round(self.burn_in / self.interval)

    @property
    def steps(self) -> int:
        """Intervals that one trajectory costs."""
        return self.spin_up + self.frames - 1

    @property
    def splits(self) -> tuple[str, ...]:
        """The split of each row."""
        return self.trajectories.splits

    @property
    def numbers(self) -> dict[str, Any]:
        """Every number that `override` may change, by name."""
        solver: Any = self.solver
        own = {"trajectories": list(self.trajectories), "frames": self.frames, "burn_in": self.burn_in}
        return {**own, **asdict(solver)}

    def override(self, numbers: Mapping[str, Any]) -> Preset:
        """The same preset with other numbers, its own (`frames`) or its solver's (`viscosity`)."""
        own = {name: numbers[name] for name in _own_names() if name in numbers}
        inner = {name: value for name, value in numbers.items() if name not in own}
        solver: Any = self.solver  # a dataclass, which a protocol cannot say
        names = {field.name for field in fields(solver)}
        for name in inner:
            if name not in names:
                raise no_number(self.name, name, {*names, *_own_names()})
        solver = replace(solver, **{name: like(name, value, solver) for name, value in inner.items()})
        return replace(self, solver=solver, **{name: like(name, value, self) for name, value in own.items()})


def _own_names() -> tuple[str, ...]:
    return "burn_in", "frames", "trajectories"


def no_number(preset: str, name: str, names: Iterable[str]) -> ConfigError:
    """The refusal of an override that a preset does not have."""
    close = difflib.get_close_matches(name, sorted(names), 1)
    hint = f"; did you mean '{close[0]}'?" if close else f"; there are {', '.join(sorted(names))}"
    return ConfigError(f"preset '{preset}' has no number '{name}'{hint}")


def like(name: str, value: Any, owner: object) -> Any:
    """`value` if it is of the kind the attribute has: whole numbers stay whole, lists become tuples."""
    present = getattr(owner, name)
    if isinstance(present, Values) and isinstance(value, list | tuple):
        return Values(_same_kind(name, item, 0.0) for item in value)
    if isinstance(present, Names) and isinstance(value, list | tuple):
        return Names(_same_kind(name, item, "") for item in value)
    if isinstance(present, Counts) and not (isinstance(value, list | tuple) and len(value) == len(present)):
        raise ConfigError(f"trajectories must be [train, valid, test], such as {list(present)}, got {value!r}")
    if isinstance(present, tuple) and isinstance(value, list | tuple) and len(value) == len(present):
        items = tuple(_same_kind(name, item, old) for item, old in zip(value, present, strict=True))
        return Counts(*items) if isinstance(present, Counts) else items
    return _same_kind(name, value, present)


def _same_kind(name: str, value: Any, present: Any) -> Any:
    if isinstance(present, float) and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(present, str) and isinstance(value, str):
        return str(value)
    if type(value) is not type(present):
        raise ConfigError(f"{name} = {value!r} is not of the kind of its default {present!r}")
    return value


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "kolmogorov",
            "2-D turbulence, ν = 0.005 on 64²: errors double in 1.5 time units; one core makes it in a minute",
            Kolmogorov(viscosity=0.005, drag=0.1, size=(64, 64), dt=0.02, substeps=5, amplitude=10.0),
            burn_in=15.0,
            frames=151,
            trajectories=Counts(64, 8, 24),
        ),
        Preset(
            "kolmogorov-hard",
            "2-D turbulence, ν = 0.002 on 64²: thin filaments, errors double in 1.2 time units",
            Kolmogorov(viscosity=0.002, drag=0.1, size=(64, 64), dt=0.02, substeps=5, amplitude=10.0),
            burn_in=20.0,
            frames=151,
            trajectories=Counts(128, 16, 32),
        ),
        Preset(
            "kolmogorov-apebench",
            "2-D turbulence as in APEBench's KolmogorovFlow: ν = 0.01 on 160²; hours of CPU time",
            Kolmogorov(viscosity=0.01, drag=0.1, size=(160, 160), dt=0.005, substeps=20, order=2),
            burn_in=50.0,
            frames=201,
            trajectories=Counts(1024, 128, 128),
        ),
        Preset(
            "kuramoto-sivashinsky",
            "1-D spatio-temporal chaos on a length of 60 with 256 points: made in seconds",
            KuramotoSivashinsky(size=(256,), length=(60.0,), dt=0.1, substeps=10),
            burn_in=100.0,
            frames=201,
            trajectories=Counts(128, 16, 32),
        ),
        Preset(
            "burgers",
            "1-D shocks that steepen, merge and decay, ν = 0.02: deterministic, not stationary",
            Burgers(viscosity=0.02, dt=0.005, substeps=10, amplitude=1.0),
            burn_in=0.0,
            frames=101,
            trajectories=Counts(256, 32, 64),
        ),
        Preset(
            "burgers-stochastic",
            "1-D shocks stirred by white-in-time noise of a known law: the truth itself is random",
            Burgers(viscosity=0.03, dt=0.01, substeps=10, forcing=0.5, forced=3),
            burn_in=20.0,
            frames=101,
            trajectories=Counts(256, 32, 64),
        ),
        Preset(
            "rayleigh-benard",
            "2-D convection between walls, Ra 1e6 to 1e7 and Pr ½ to 2 on 128×32, plumes to developed; minutes",
            RayleighBenard(
                size=(128, 32),
                rayleigh=Values((1e6, 3e6, 1e7)),
                prandtl=Values((0.5, 1.0, 2.0)),
                dtype="float32",
            ),
            burn_in=10.0,
            frames=121,
            trajectories=Counts(90, 9, 18),
        ),
        Preset(
            "rayleigh-benard-well",
            "2-D convection as in The Well: Ra 1e6 to 1e10 and Pr 0.1 to 10 on 512×128, from rest; weeks of CPU time",
            RayleighBenard(
                size=(512, 128),
                rayleigh=Values((1e6, 1e7, 1e8, 1e9, 1e10)),
                prandtl=Values((0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)),
            ),
            burn_in=0.0,
            frames=200,
            trajectories=Counts(1400, 175, 175),
        ),
        Preset(
            "shallow-water",
            "Shallow water on the sphere, 32×64 Gaussian grid: jets that waves break, every 6 hours; minutes",
            ShallowWater(),
            burn_in=960.0,
            frames=121,
            trajectories=Counts(32, 4, 8),
        ),
    )
}
