"""Tables of how a study was done: what was tuned, what each row was given, and how long everything took."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from driftway.glossary import UNDEFINED, number
from driftway.report.outcome import Outcome
from driftway.report.study_tables import cost_of
from driftway.report.tables import Cell, Table


def tuning_tables(outcome: Outcome) -> tuple[Table, Table]:
    """What was chosen for each network, and every trial."""
    head = ("network", "trial", "changes", "CRPS on the validation split")
    tried = {network: choice for network, choice in outcome.choices.items() if choice["trials"]}

    def line(network: str, choice: Mapping[str, Any], k: int) -> tuple[Cell, ...]:
        trial = choice["trials"][k]
        crps = "diverged" if trial["crps"] is None else number(trial["crps"])
        name = Cell(network, style=outcome.look.get(network))
        return (name, Cell(str(k + 1)), Cell(in_words(trial["change"])), Cell(crps, best=k == choice["chosen"]))

    chosen = tuple(line(name, choice, choice["chosen"]) for name, choice in tried.items())
    every = tuple(line(name, choice, k) for name, choice in tried.items() for k in range(len(choice["trials"])))
    return (
        Table("What was chosen, by the lowest CRPS on the validation split", head, chosen, prose=True),
        Table("Every trial; what was chosen in bold", head, every, prose=True),
    )


def in_words(change: Mapping[str, Any], prefix: str = "") -> str:
    """A change of an experiment as the command line takes it: `key.path=value`, in the order of its keys."""
    parts = [
        in_words(value, f"{prefix}{key}.") if isinstance(value, Mapping) else f"{prefix}{key}={value}"
        for key, value in change.items()
    ]
    return " ".join(parts)


def protocol_table(outcome: Outcome) -> Table:
    """What each row was given, and why it may differ."""
    head = ("row", "network of", "sampler", "seeds", "steps", "batch", "weights", "exempt, because")

    def cells(row: str) -> tuple[Cell, ...]:
        facts = outcome.rows[row]
        weights = cost_of(outcome, row, "parameters")
        texts = [
            facts.network if facts.network != row else "its own",
            facts.sampler or "none",
            ", ".join(map(str, facts.seeds)),
            number(facts.steps),
            number(facts.batch),
            number(int(weights)) if math.isfinite(weights) else UNDEFINED,
            facts.exempt or UNDEFINED,
        ]
        return (Cell(row, style=outcome.look.get(row)), *map(Cell, texts))

    return Table("Rows in the order of the study file", head, tuple(map(cells, outcome.rows)), prose=True)


def duration_table(outcome: Outcome) -> Table:
    """Minutes of each kind of task, predicted before the study began and measured, and of all."""
    head = ("task", "of them done", "minutes, predicted", "minutes, measured")
    kinds = outcome.durations
    rows = [_minutes(kind, d.done, d.tasks, d.predicted, d.measured) for kind, d in kinds.items()]
    sums = [sum(getattr(d, name) for d in kinds.values()) for name in ("done", "tasks", "predicted", "measured")]
    notes = ("Sums over tasks, several of which run at once; predicted: of all tasks, measured: of those done.",)
    return Table("Time on one worker", head, (*rows, _minutes("all", *sums)), notes)


def _minutes(kind: str, done: float, tasks: float, predicted: float, measured: float) -> tuple[Cell, ...]:
    return (Cell(kind), Cell(f"{done} of {tasks}"), Cell(number(predicted / 60)), Cell(number(measured / 60)))
