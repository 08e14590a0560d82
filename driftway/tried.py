"""What a search has tried: records of all candidates, the choice among them, and both in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from driftway.by_field import Choice, choose_by_field, of_field
from driftway.glossary import number
from driftway.purposes import LARGE, PURPOSES, Record, choose


class Tried(NamedTuple):
    """Records of all candidates, the run's own sampler first, the number of the one that is chosen, and by field."""

    records: list[Record]
    chosen: int
    by_field: Choice

    def ranked(self) -> list[Record]:
        """The best first."""
        return sorted(self.records, key=lambda record: record["score"])

    def record(self) -> dict[str, Any]:
        """What is kept."""
        before, after = self.records[0], self.records[self.chosen]
        found = {"before": before["sampler"], "chosen": after["sampler"], "candidates": self.ranked()}
        return {**self._by_field("sampler"), **found}

    def summary(self) -> dict[str, Any]:
        """What is told."""
        return {
            **self._by_field("name"),
            "chosen": _means(self.records[self.chosen]),
            "before": _means(self.records[0]),
            "candidates": len(self.records),
            "diverged": sum(record["failures"] > 0 for record in self.records),
            "best": [in_words(record) for record in self.ranked()[:5]],
        }

    def _by_field(self, told: str) -> dict[str, Any]:
        """The choice by field, with what its record tells of a sampler in place of the record's number."""
        if not self.by_field:
            return {}
        fields = {
            name: {**found, "chosen": self.records[found["chosen"]][told]}
            for name, found in self.by_field["fields"].items()
        }
        return {"by_field": {**self.by_field, "single": self.records[self.chosen][told], "fields": fields}}


def _means(record: Record) -> Record:
    """Without what single states and fields have in it."""
    return {name: value for name, value in record.items() if not isinstance(value, list) and name != "fields"}


def in_words(record: Record) -> str:
    """One line about a candidate."""
    spectral = sum(record[f"spectral_log_error_{band}"] for band in LARGE) / len(LARGE)
    shown = {
        "calls": record["calls"],
        "CRPS": record["crps"],
        "VRMSE": record["vrmse"],
        "spread / skill": record["spread_skill"],
        "spectral log error": spectral,
    }
    return f"{record['name']}: {', '.join(f'{name} {number(value)}' for name, value in shown.items())}"


def tried_of(records: Sequence[Record], purpose: str, calls: int, by_field: bool) -> Tried:
    """Records with what is to be lowered in them, as `score`, and the choice."""
    scores = PURPOSES[purpose].scores
    if not by_field:
        return Tried(_scored(records, scores(records).values), choose(records, purpose, calls), {})
    choice = choose_by_field(records, purpose, calls)
    fields = {name: of_field(records, name) for name in choice["fields"]}
    found = {name: _scored(field, scores(field).values) for name, field in fields.items()}
    told = [{**record, "fields": {name: found[name][at] for name in found}} for at, record in enumerate(records)]
    return Tried(_scored(told, scores(records).values), choice["single"], choice)


def _scored(records: Sequence[Record], values: Tensor) -> list[Record]:
    return [{**record, "score": value} for record, value in zip(records, values.tolist(), strict=True)]
