"""The pieces that a study consists of, and what each of them waits for.

The test split is touched by `score` and `references` alone, and by neither before every row's settings are chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile

from driftway.build import build_sampler
from driftway.samplers import Sampler
from driftway.studies.file import Row, Study, sampler_of


@dataclass(frozen=True)
class Task:
    """One piece: its kind, the row or autoencoder it is about, a seed or the number of a trial, and what it needs."""

    kind: str
    about: str = ""
    number: int = 0
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is called, and where its record lies."""
        return "/".join(part for part in (self.kind, self.about, str(self.number)) if part)


def plan(study: Study) -> dict[str, Task]:
    """Every task of a study by name, each after those it needs."""
    tasks = [Task("data"), *(Task("autoencoder", name, needs=(DATA,)) for name in study.autoencoders)]
    chosen = tuple(Task("choose", row.name).name for row in study.networks)
    for row in study.networks:
        tasks += _network(study, row)
    encoders = tuple(Task("autoencoder", name).name for name in study.autoencoders)
    tasks.append(Task("references", needs=(DATA, *encoders, *chosen)))
    for row in study.rows.values():
        for seed in row.seeds:
            trained = Task("fit", row.network, seed).name
            tasks.append(Task("score", row.name, seed, (trained, *chosen)))
        tasks += [
            Task("curve", row.name, seed, (Task("fit", row.network, seed).name,)) for seed in curve_seeds(study, row)
        ]
    return {task.name: task for task in tasks}


DATA = Task("data").name


def _network(study: Study, row: Row) -> list[Task]:
    """Trials, the choice among them, and the final trainings of one network."""
    first = study.about.seeds[0]
    parts = [] if row.autoencoder is None else [Task("autoencoder", row.autoencoder).name]

    def needs(seed: int) -> tuple[str, ...]:
        return (DATA, *parts, *(Task("fit", study.rows[other].network, seed).name for other in row.builds_on))

    trials = [Task("trial", row.name, k, needs(first)) for k in range(len(row.trials))]
    choice = Task("choose", row.name, needs=(DATA, *(trial.name for trial in trials)))
    return [
        *trials,
        choice,
        *(Task("fit", row.name, seed, (choice.name, *needs(seed))) for seed in row.seeds),
    ]


def curve_seeds(study: Study, row: Row) -> tuple[int, ...]:
    """For which seeds a row's curves are drawn; none where those of a row above are the same."""
    curves = study.about.curves
    if curves is None or not row.generative or (not row.dials and _drawn(study, row)):
        return ()
    return row.seeds[: curves.seeds]


def _drawn(study: Study, row: Row) -> bool:
    """Whether a row above samples the same network in the same way, but for the number of steps."""
    above = takewhile(lambda other: other.name != row.name, study.rows.values())
    return any(other.network == row.network and _way(other) == _way(row) for other in above)


def _way(row: Row) -> Sampler | None:
    """How a row samples, whatever the number of steps."""
    return replace(build_sampler(sampler_of(row.experiment.stepper)), steps=1) if row.generative else None
