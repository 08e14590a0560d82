"""What a study file says, and the rows it stands for: each an experiment, laid out so that no row gets more.

A row is a file of `driftway/experiments/methods` or one's own, under what all rows have in `common` (data, codec,
network, training), under what the row alone has in `set`. Rows that differ in nothing but their sampler share their
networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import Field

from driftway.build import check_codec, check_stepper
from driftway.config.yaml import Document, Located, load_yaml, locate, merge, nearest, place_of, plain
from driftway.errors import ConfigError
from driftway.glossary import is_reference
from driftway.schema import Experiment, Section, validated

NAME = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$"
NAMED = "letters, digits, '.', '_' and '-', not '.' first"
FREE = ("name", "evaluation")  # what two rows with one network may differ in, besides the sampler


class SourceSection(Section):
    """Where the states come from: a preset to simulate, or a data set that is there."""

    preset: str | None = Field(default=None, description="simulated into the study's folder")
    overrides: tuple[str, ...] = Field(default=(), strict=False, description="name=value, numbers of the preset")
    seed: int = Field(default=0, ge=0, description="key of the initial states")
    path: str | None = Field(default=None, description="data set; relative to the study file")


class PartSection(Section):
    """An experiment file, and what is changed in it."""

    file: str | None = Field(default=None, description="experiment; relative to the study file")
    like: str | None = Field(default=None, description="another row, in place of a file")
    set: dict[str, Any] = Field(default={}, description="laid over all else")


class RowSection(PartSection):
    """One row of the comparison."""

    tune: dict[str, list[Any]] = Field(default={}, description="key.path → candidates; all combinations are tried")
    dials: list[dict[str, Any]] = Field(
        default=[], description="changes of the sampler, one of them a list: how far scores move after training"
    )
    seeds: int | None = Field(default=None, ge=1, description="how many of the study's seeds; null: all")
    exempt: str | None = Field(default=None, min_length=10, description="why the row may differ in steps or size")


class TuningSection(Section):
    """How each network's settings are chosen on the validation split; by fair CRPS."""

    trials: int = Field(ge=1, description="trainings per network, the same for all")
    steps: int | None = Field(default=None, ge=1, description="optimiser steps of a trial; null: as many as in the end")
    trajectories: int = Field(default=8, ge=1, description="initial states")
    leads: int = Field(default=10, ge=1, description="steps of each forecast")
    members: int = Field(default=8, ge=2, description="ensemble members")


class CurvesSection(Section):
    """Scores against sampling steps and along the dials, on the validation split."""

    steps: tuple[int, ...] = Field(strict=False, description="sampling steps that are tried")
    seeds: int = Field(default=1, ge=1, description="of how many of the seeds")
    trajectories: int = Field(default=8, ge=1, description="initial states")
    leads: int = Field(default=10, ge=1, description="steps of each forecast")
    members: int = Field(default=8, ge=2, description="ensemble members")


class StudySection(Section):
    """A comparison under one protocol."""

    name: str = Field(pattern=NAME, max_length=100, description=NAMED)
    title: str = Field(default="", description="what the report is called")
    data: SourceSection = Field(description=SourceSection.__doc__)
    seeds: tuple[int, ...] = Field(min_length=1, strict=False, description="trainings of each row")
    autoencoders: dict[str, PartSection] = Field(default={}, description="name → experiment, fitted once")
    common: dict[str, Any] = Field(default={}, description="laid over the file of every row")
    tolerance: float = Field(default=0.02, gt=0, lt=1, description="by how much numbers of weights may differ")
    tuning: TuningSection | None = Field(default=None, description="null: every row as its file says")
    curves: CurvesSection | None = Field(default=None, description="null: none")
    rows: dict[str, RowSection] = Field(min_length=1, description="name → row")


@dataclass(frozen=True)
class Row:
    """One line of the comparison; `network` is the row whose network it samples, its own name if it trains one."""

    name: str
    document: Document
    experiment: Experiment
    network: str
    trials: tuple[Document, ...]
    dials: tuple[Mapping[str, Any], ...]
    seeds: tuple[int, ...]
    exempt: str

    @property
    def generative(self) -> bool:
        """Whether it samples."""
        return self.experiment.stepper["type"] == "generative"


@dataclass(frozen=True)
class Study:
    """A study file with everything in it resolved and checked, but for what needs the data."""

    about: StudySection
    rows: dict[str, Row]
    autoencoders: dict[str, Experiment]

    @property
    def networks(self) -> list[Row]:
        """The rows that are trained."""
        return [row for row in self.rows.values() if row.network == row.name]

    def described(self) -> Document:
        """All that the results depend on, as plain data from which `restore` makes an equal study."""
        rows = {
            row.name: {
                "document": row.document,
                "network": row.network,
                "trials": row.trials,
                "dials": row.dials,
                "seeds": row.seeds,
                "exempt": row.exempt,
            }
            for row in self.rows.values()
        }
        about = self.about.model_dump(exclude={"rows", "common", "autoencoders"})
        parts = {name: experiment.model_dump() for name, experiment in self.autoencoders.items()}
        return plain({"about": about, "autoencoders": parts, "rows": rows})


def restore(document: Document, path: Path) -> Study:
    """The study that `described` tells of, read from `path`."""
    about = validated(StudySection, path, {**document["about"], "rows": {name: {} for name in document["rows"]}})
    rows = {
        name: Row(
            name,
            row["document"],
            validated(Experiment, path, row["document"]),
            row["network"],
            tuple(row["trials"]),
            tuple(row["dials"]),
            tuple(row["seeds"]),
            row["exempt"],
        )
        for name, row in document["rows"].items()
    }
    autoencoders = {name: validated(Experiment, path, part) for name, part in document["autoencoders"].items()}
    return Study(about, rows, autoencoders)


def load_study(path: str | Path) -> Study:
    """The study in a YAML file. Raises ConfigError with file and line for all that can be known to be wrong."""
    path, document = Path(path), load_yaml(path)
    about = validated(StudySection, path, document)
    if about.data.path is not None:
        place = path.parent / about.data.path
        about = about.model_copy(update={"data": about.data.model_copy(update={"path": str(place.resolve())})})
    if (about.data.preset is None) == (about.data.path is None):
        raise ConfigError(f"{locate(document, ['data'])}: should have either a preset or a path")
    autoencoders = {
        name: _experiment(path, _document(path, document["autoencoders"], name, {})) for name in about.autoencoders
    }
    rows = _rows(path, about, document)
    study = Study(about, rows, autoencoders)
    for row in rows.values():
        _check_references(study, row, document["rows"])
    return study


def _rows(path: Path, about: StudySection, document: Document) -> dict[str, Row]:
    documents: dict[str, Document] = {}
    rows: dict[str, Row] = {}
    for name in document["rows"]:
        given = about.rows[name]
        if given.like is not None and given.like not in documents:
            raise ConfigError(
                f"{locate(document, ['rows', name, 'like'])}: there is no row '{given.like}' above"
                f"{nearest(given.like, documents) or '; like'} names one that stands before"
            )
        if is_reference(name):
            raise ConfigError(f"{place_of(name)}: '{name}' is called like a reference, all have that row: rename it")
        documents[name] = _document(path, document["rows"], name, document.get("common", {}), documents)
        experiment = _experiment(path, documents[name])
        network = next((r.name for r in rows.values() if r.network == r.name and _same(r.experiment, experiment)), name)
        trials, dials = _trials(about, name, network, document["rows"]), document["rows"][name].get("dials", [])
        seeds, exempt = about.seeds[: given.seeds], given.exempt or ""
        rows[name] = Row(str(name), documents[name], experiment, str(network), trials, tuple(dials), seeds, exempt)
    return rows


def _document(
    path: Path, parts: Document, name: str, common: Document, above: Mapping[str, Document] | None = None
) -> Document:
    """The experiment of a part: its file, or the row that it is like, and what is laid over it."""
    part = parts[name]
    if above and part.get("like") is not None:
        base = above[part["like"]]
    elif part.get("file") is not None:
        file = path.parent / part["file"]
        if not file.is_file():
            siblings = [other.name for other in file.parent.glob("*.yaml")]
            raise ConfigError(f"{place_of(part['file'])}: there is no file '{file}'{nearest(file.name, siblings)}")
        base = merge(load_yaml(file), common)
    else:
        key = next(key for key in parts if key == name)
        raise ConfigError(f"{place_of(key)}: needs a file, or like: NAME of a row above")
    return {**merge(base, part.get("set", {})), "name": str(name)}


def _experiment(path: Path, document: Document) -> Experiment:
    experiment = validated(Experiment, path, document)
    check_codec(experiment.codec)
    check_stepper(experiment.stepper)
    return experiment


def _same(one: Experiment, other: Experiment) -> bool:
    """Whether two experiments train the same network."""
    return _training(one) == _training(other)


def _training(experiment: Experiment) -> Document:
    found = plain(experiment.model_dump(exclude=set(FREE)))
    return {**found, "stepper": {key: value for key, value in found["stepper"].items() if key != "sampler"}}


def _trials(about: StudySection, name: str, network: str, rows: Document) -> tuple[Document, ...]:
    """Every combination of the candidates, as changes to the experiment; as many for each network as for any other."""
    tune, key = rows[name].get("tune", {}), next(key for key in rows if key == name)
    if network != name:
        if tune:
            raise ConfigError(f"{place_of(key)}: shares the network of '{network}': give tune there")
        return ()
    if about.tuning is None:
        if tune:
            raise ConfigError(f"{place_of(key)}: has tune, but the study has no tuning")
        return ()
    choices = [[_nested(path, value) for value in values] for path, values in tune.items()]
    combinations = [reduce(merge, changes, {}) for changes in product(*choices)]
    if len(combinations) != about.tuning.trials:
        raise ConfigError(
            f"{place_of(key)}: tune gives {len(combinations)} combinations, the study's tuning.trials "
            f"{about.tuning.trials} to every network: give as many"
        )
    return tuple(combinations)


def _nested(path: str, value: Any) -> Document:
    """{"a.b": v} → {"a": {"b": v}}."""
    place = place_of(path)
    for part in reversed(str(path).split(".")):
        value = {Located(part, place): value}
    return value


def _check_references(study: Study, row: Row, rows: Document) -> None:
    """Autoencoders and guesses are those of this study."""
    place = place_of(next(key for key in rows if key == row.name))
    for codec in row.experiment.codec:
        known = study.autoencoders
        if "path" in codec and codec["path"] not in known:
            raise ConfigError(
                f"{place}: codec runs are the study's autoencoders, got '{codec['path']}'"
                f"{nearest(codec['path'], known) or '; there are'} {', '.join(known) or 'none'}"
            )
    guess = row.experiment.guess
    if guess is not None and (guess not in study.rows or study.rows[guess].generative or guess == row.name):
        names = [other.name for other in study.networks if not other.generative]
        raise ConfigError(f"{place}: guess should name a deterministic row, {', '.join(names)}; got '{guess}'")
    for other in (row.network, guess):
        if other is not None and len(study.rows[other].seeds) < len(row.seeds):
            raise ConfigError(f"{place}: has more seeds than '{other}', which it needs")
    for trial in row.trials:
        _experiment(Path(place.source if place else "tune"), merge(row.document, trial))
    for dial in row.dials:
        expand_dial(dial)


def expand_dial(dial: Mapping[str, Any]) -> tuple[str, list[tuple[Any, Document]]]:
    """The swept key of a dial, and for each of its values the change of the sampler."""
    swept = [key for key, value in dial.items() if isinstance(value, list)]
    if len(swept) != 1:
        raise ConfigError(f"{place_of(dict(dial))}: a dial has one setting with a list of values, got {len(swept)}")
    fixed = reduce(merge, [_nested(key, value) for key, value in dial.items() if key != swept[0]], {})
    return str(swept[0]), [(value, merge(fixed, _nested(swept[0], value))) for value in dial[swept[0]]]
