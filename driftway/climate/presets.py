"""PlaSim with all its numbers: which Earth, what is stored of it, and in how many runs.

Reference: Fraedrich et al. 2005, Meteorol. Z. 14, 299; with the changes of ExoPlaSim, Paradise et al. 2022, MNRAS 511,
3272. Orbit and seasons are Earth's, sea surface temperature and sea ice follow the same climatology every year.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple

from driftway.climate.fields import ALOFT, SURFACE
from driftway.climate.harmonics import Synthesis
from driftway.data.calendar import Calendar
from driftway.data.cf import at_level, meaning
from driftway.data.states import unwritten
from driftway.data.trajectories import Axis, Fields, Trajectories
from driftway.errors import ConfigError
from driftway.pdes.presets import Counts, like, no_number
from driftway.pdes.solver import Names

YEAR = 365  # days
LATITUDES = {21: 32, 42: 64}  # of each truncation whose surface exoplasim has
STATIC, FORCING = ("lsm", "sg", "z0"), ("rsdt", "sic", "sst")
EPOCH = "0001-01-01T00:00"
# CPU seconds of a year with ten layers, by truncation and precision: docs/simulators.md.
SECONDS = {(21, 4): 233.0, (21, 8): 335.0, (42, 4): 2340.0, (42, 8): 3540.0}


class Member(NamedTuple):
    """One run of the model: its number, and the trajectories that it makes, one after another."""

    number: int
    rows: range


@dataclass(frozen=True)
class PlaSim:
    """Years of PlaSim every six hours.

    A run begins at rest on 1 January with noise in the surface pressure. A trajectory begins every 365 days after the
    first `burn_in` days, so that all have the same seasons. No run serves two splits.

    Arguments:
        name: the key in `CLIMATES`
        description: one line for lists
        truncation: the largest total wavenumber, 21 or 42
        layers: in sigma
        precision: bytes of a number in the model, 4 or 8
        timestep: minutes, a divisor of 360
        co2: parts per million
        variables: the fields of a state, in order
        burn_in: days of each run before its first state
        days: of each trajectory
        consecutive: most trajectories that one run makes
        trajectories: how many, per split
    """

    name: str
    description: str
    truncation: int
    timestep: float
    variables: Names
    trajectories: Counts
    layers: int = 10
    precision: int = 4
    co2: float = 360.0
    burn_in: int = YEAR
    days: int = YEAR
    consecutive: int = 10

    def __post_init__(self) -> None:
        self._check("truncation", self.truncation in LATITUDES, "21 or 42: of these exoplasim has Earth's surface")
        self._check("precision", self.precision in (4, 8), "4 or 8")
        self._check("layers", self.layers >= 5, "≥ 5")
        divides = self.timestep > 0 and abs(360 / self.timestep - round(360 / self.timestep)) < 1e-9
        self._check("timestep", divides and self.timestep == int(self.timestep), "whole minutes that divide 360")
        self._check("co2", self.co2 > 0, "> 0")
        self._check("burn_in", self.burn_in >= 0, "≥ 0 days")
        self._check("days", 1 <= self.days <= YEAR, f"1 to {YEAR}")
        self._check("consecutive", self.consecutive >= 1, "≥ 1")
        enough = min(self.trajectories) >= 0 and sum(self.trajectories) > 0
        self._check("trajectories", enough, "≥ 0, some > 0")
        for name in self.variables:
            self._check_variable(name)
        self._check("variables", len(set(self.variables)) == len(self.variables) > 0, "different names, at least one")

    def _check(self, name: str, right: bool, limit: str) -> None:
        if not right:
            raise ConfigError(f"{self.name}: {name} = {getattr(self, name)}, must be {limit}")

    def _check_variable(self, name: str) -> None:
        place = at_level(name)
        known = name in SURFACE if place is None else 1 <= place[1] <= 1100
        if not known or name in (*STATIC, *FORCING):
            surface = ", ".join(n for n in SURFACE if n not in (*STATIC, *FORCING))
            raise ConfigError(
                f"{self.name}: there is no variable '{name}'; there are {surface}, and {', '.join(ALOFT)} with a level "
                "in hPa, such as ta850"
            )

    @property
    def steps(self) -> int:
        """Time steps of the model in six hours."""
        return round(360 / self.timestep)

    @property
    def frames(self) -> int:
        """States of a trajectory."""
        return 4 * self.days

    @property
    def recurs(self) -> bool:
        """Whether the forcing is that of a whole year, which holds in every year."""
        return self.days == YEAR

    @property
    def synthesis(self) -> Synthesis:
        """From the harmonics of the truncation to its grid."""
        return Synthesis(self.truncation, LATITUDES[self.truncation])

    @property
    def fields(self) -> Fields:
        """The channels."""
        known = [meaning(name) for name in self.variables]
        return Fields(tuple(self.variables), tuple("1" if found is None else found.units for found in known))

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Gaussian latitudes from north to south, longitudes from 0 eastward."""
        degrees, count = self.synthesis.degrees, 2 * LATITUDES[self.truncation]
        return (
            Axis("lat", tuple(degrees.tolist()), "pole", 180.0, "degrees_north"),
            Axis.uniform("lon", count, 360.0, units="degrees_east"),
        )

    @property
    def time_units(self) -> str:
        """The unit of the interval."""
        return "hours"

    @property
    def interval(self) -> float:
        """Hours between states."""
        return 6.0

    @property
    def splits(self) -> tuple[str, ...]:
        """The split of each row."""
        return self.trajectories.splits

    @property
    def members(self) -> tuple[Member, ...]:
        """The runs: each split's years one after another, in as many runs as `consecutive` asks for."""
        found: list[Member] = []
        start = 0
        for count in reversed(self.trajectories):  # test, valid, train, as rows are
            for first in range(start, start + count, self.consecutive):
                found.append(Member(len(found), range(first, min(first + self.consecutive, start + count))))
            start += count
        return tuple(found)

    def states(self, missing: Collection[int]) -> int:
        """States that the model passes through in all to make these rows."""
        places = [
            (member, [place for place, row in enumerate(member.rows) if row in missing]) for member in self.members
        ]
        return sum(self._days(member, found[0]) for member, found in places if found) * 4

    def _days(self, member: Member, first: int) -> int:
        """Days that a run has to go from the beginning of its trajectory at place `first`, or from its start for 0."""
        years = len(member.rows) - 1 - first
        return (self.burn_in if first == 0 else 0) + YEAR * years + self.days

    @property
    def seconds(self) -> float:
        """CPU seconds of the model in all, about."""
        days = sum(self._days(member, 0) for member in self.members)
        return SECONDS[self.truncation, self.precision] * self.layers / 10 * days / YEAR

    @property
    def numbers(self) -> dict[str, Any]:
        """Every number that `override` may change, by name."""
        return {name: value for name, value in asdict(self).items() if name not in ("name", "description")}

    def override(self, numbers: Mapping[str, Any]) -> PlaSim:
        """The same preset with other numbers."""
        names = [field.name for field in fields(self) if field.name not in ("name", "description")]
        for name in numbers:
            if name not in names:
                raise no_number(self.name, name, names)
        return replace(self, **{name: like(name, value, self) for name, value in numbers.items()})

    def template(self, attributes: Mapping[str, Any]) -> Trajectories:
        """The data set without its numbers."""
        space = tuple(len(axis) for axis in self.axes)
        rows = len(self.splits)
        return Trajectories(
            states=unwritten(rows, self.frames, len(self.fields), *space),
            fields=self.fields,
            axes=self.axes,
            dt=self.interval,
            time_units=self.time_units,
            static={name: unwritten(*space) for name in STATIC},
            forcing={name: unwritten(self.frames, *space) for name in FORCING},
            splits=self.splits,
            attributes={**self._about(), **attributes},
            calendar=Calendar(self._starts(), EPOCH, "noleap"),
            forcing_recurs=self.recurs,
        )

    def _starts(self) -> tuple[float, ...]:
        """Hours from the beginning of a run's first year to each trajectory's first state."""
        first = 6.0 - self.timestep / 60
        places = [place for member in self.members for place in range(len(member.rows))]
        return tuple(24.0 * (self.burn_in + YEAR * place) + first for place in places)

    def _about(self) -> dict[str, Any]:
        runs = [member.number for member in self.members for _ in member.rows]
        return {
            "title": f"PlaSim T{self.truncation}, {self.layers} layers, every six hours",
            "source": "PlaSim by ExoPlaSim, with Earth's orbit, orography, prescribed sea surface temperature and ice",
            "preset": self.name,
            "run": runs,
            **{name: list(value) if isinstance(value, tuple) else value for name, value in self.numbers.items()},
        }


def levels(names: Sequence[str], hectopascals: Sequence[int]) -> tuple[str, ...]:
    """Names of fields on levels, level by level."""
    return tuple(f"{name}{level}" for level in hectopascals for name in names)


SMALL = Names(
    (
        *("tas", "ts", "pl", "pr_6h"),
        *levels(("ta", "ua", "va"), (250,)),
        *levels(("ta", "ua", "va", "zg"), (500,)),
        *levels(("hus", "ta", "ua", "va", "zg"), (850,)),
    )
)
# Zhou et al. 2025, arXiv:2509.26282: eight fields at the surface and five on thirteen levels.
PAPER = Names(
    (
        *("evap", "mrro", "mrso", "pl", "pr_12h", "pr_6h", "tas", "ts"),
        *levels(tuple(ALOFT), (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000)),
    )
)

CLIMATES: dict[str, PlaSim] = {
    preset.name: preset
    for preset in (
        PlaSim(
            "plasim-t21",
            "Earth's climate by PlaSim on 32×64, 16 fields every six hours, 13 years: an hour with gfortran",
            truncation=21,
            timestep=45.0,
            variables=SMALL,
            trajectories=Counts(10, 1, 2),
            consecutive=5,
        ),
        PlaSim(
            "plasim-t42",
            "Earth's climate by PlaSim on 64×128, 73 fields every six hours, 102 years: days of CPU time with gfortran",
            truncation=42,
            timestep=20.0,
            variables=PAPER,
            trajectories=Counts(100, 1, 1),
        ),
    )
}
