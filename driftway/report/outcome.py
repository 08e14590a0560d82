"""What a study found, as its report takes it: scores, curves and choices, and what each row is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import xarray as xr

from driftway.report.pictures import Case
from driftway.report.plotting import fields_of
from driftway.report.styling import Look, styles_of
from driftway.studies.statistics import Ranked, curve, dials_of, ranking, rows_of, together

# rows that are still told apart in one figure
MOST = 8
ALL, BEST = "all rows", "best of each network"


@dataclass(frozen=True)
class RowFacts:
    """What a row is: whose network it samples and how, the seeds planned, its training, and why it may differ."""

    network: str
    sampler: str
    seeds: tuple[int, ...]
    steps: int
    batch: int
    exempt: str = ""


@dataclass(frozen=True)
class Duration:
    """How many tasks of one kind there are, how many of them are over, and their seconds, predicted and measured."""

    tasks: int
    done: int
    predicted: float
    measured: float


@dataclass(frozen=True)
class Outcome:
    """Everything that the page of a study is made from.

    results: (row, seed, …) as `driftway.studies.results.collect` gives them, with references as rows; curves: records
    on the validation split; choices: network → what tuning tried and chose; durations: kind of task → times;
    protocol: facts that hold for all rows; case: the first initial state of the test split, with a forecast of each row
    that was pictured, none where the data are not at hand
    """

    title: str
    results: xr.Dataset
    rows: Mapping[str, RowFacts]
    curves: Sequence[Mapping[str, Any]] = ()
    choices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    durations: Mapping[str, Duration] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    case: Case | None = None

    @cached_property
    def fields(self) -> list[str]:
        """The fields that were scored."""
        return fields_of(self.results)

    @cached_property
    def scores(self) -> xr.Dataset:
        """Means over seeds, with rows as methods, their network as run and their sampler."""
        found = together(self.results)
        names = [str(name) for name in found["method"].values]
        known = [self.rows.get(name) for name in names]
        return found.assign(
            run=("method", [facts.network if facts else "" for facts in known]),
            sampler=("method", [facts.sampler if facts else "" for facts in known]),
        )

    @cached_property
    def look(self) -> Look:
        """A style for each row: a colour for its network, a line and a marker for its sampler."""
        return styles_of(self.scores)

    @cached_property
    def _places(self) -> dict[tuple[str, tuple[str, ...]], list[Ranked]]:
        return {}

    def places(self, name: str, fields: Sequence[str] = ()) -> list[Ranked]:
        """Rows ranked by VRMSE or CRPS, of all fields or of some."""
        key = (name, tuple(fields))
        if key not in self._places:
            self._places[key] = ranking(self.results, name, fields)
        return self._places[key]

    @property
    def order(self) -> list[str]:
        """Rows from the lowest CRPS on, those that diverged last."""
        return [place.row for place in self.places("crps")]

    @property
    def references(self) -> list[str]:
        """What rows are measured against."""
        return rows_of(self.results, references=True)

    @property
    def groups(self) -> dict[str, list[str]]:
        """Rows that are drawn together, of each the best first: one of each network, then each network's own."""
        plain = next((row for row in self.order if not self.rows[row].sampler), None)
        return grouped(self.order, {row: facts.network for row, facts in self.rows.items()}, plain)

    @property
    def curved(self) -> list[str]:
        """Rows with a curve along their steps, from the lowest CRPS on."""
        return [row for row in self.order if curve(self.curves, row)]

    def distinct(self, rows: Sequence[str]) -> dict[str, list[str]]:
        """Rows with a curve along steps, and those that have the same one since they differ in their steps alone."""
        found: dict[tuple[Any, ...], list[str]] = {}
        for row in rows:
            points = [(point["value"], point["repr"]) for point in curve(self.curves, row)]
            if points:
                found.setdefault((self.rows[row].network, *points), []).append(row)
        return {first: others for first, *others in found.values()}

    @property
    def dials(self) -> dict[str, list[str]]:
        """The dials but for the number of steps, and the rows that were scored along each."""
        found: dict[str, list[str]] = {}
        for row in self.order:
            for dial in dials_of(self.curves, row):
                if dial != "steps":
                    found.setdefault(dial, []).append(row)
        return found


def grouped(order: Sequence[str], networks: Mapping[str, str], kept: str | None = None) -> dict[str, list[str]]:
    """Groups of at most eight rows: the best of each network, each network with several rows, and what is left.

    The best row of all stands in every group of a network, to compare with, and `kept` in the first group: the best
    without a sampler, say.
    """
    if len(order) <= MOST:
        return {ALL: list(order)}
    members: dict[str, list[str]] = {}
    for row in order:
        members.setdefault(networks[row], []).append(row)
    heads = [rows[0] for rows in members.values()]
    first = heads[:MOST] if kept is None or kept in heads[:MOST] else [*heads[: MOST - 1], kept]
    found = {BEST: first}
    for network, rows in members.items():
        if len(rows) > 1:
            found |= _parts(network, [order[0], *(row for row in rows if row != order[0])])
    alone = [row for row in heads if row not in first and len(members[networks[row]]) == 1]
    return found | (_parts("other networks", alone) if alone else {})


def _parts(label: str, rows: list[str]) -> dict[str, list[str]]:
    parts = [rows[k : k + MOST] for k in range(0, len(rows), MOST)]
    return {label if k == 0 else f"{label} ({k + 1})": part for k, part in enumerate(parts)}
