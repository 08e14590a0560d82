"""What a study file says, and the rows it stands for: each an experiment, laid out so that no row gets more.

A row is a file of `driftway/experiments/methods` or one's own, under what all rows have in `common` (data, codec,
network, training), under what the row alone has in `set`. Rows that differ in nothing but their sampler share their
networks.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import product
from pathlib import Path
from typing import Any

from driftway.build import AUTOENCODERS, PARTS, build_sampler, check_codec, check_stepper, describe_sampler
from driftway.config import placed
from driftway.config.yaml import Document, Located, load_yaml, locate, merge, nearest, place_of, plain
from driftway.errors import ConfigError
from driftway.glossary import is_reference
from driftway.schema import Experiment, validated
from driftway.simulate import preset_named
from driftway.steppers import Generative
from driftway.studies.sections import StudySection

FREE = ("name", "evaluation")  # what two rows with one network may differ in, besides the sampler
# What tuning leaves alone: it is compared at one value, or what other tasks rely on.
FIXED = (
    "seed",
    "data",
    "codec",
    "guess",
    "start",
    "evaluation",
    "training.steps",
    "training.batch",
    "stepper.antithetic",
)
CODECS = ([], ["run"], ["standardize"], ["run", "standardize"])  # those that a stepper takes


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

    @property
    def autoencoder(self) -> str | None:
        """The autoencoder whose latents it steps."""
        return next((codec["path"] for codec in self.experiment.codec if "path" in codec), None)

    @property
    def builds_on(self) -> tuple[str, ...]:
        """The rows whose networks it needs: its guess, and where its weights start from."""
        return tuple(row for row in (self.experiment.guess, self.experiment.start) if row is not None)

    @cached_property
    def tried(self) -> list[Experiment]:
        """The experiment with each of the trials' changes."""
        place = place_of(self.name)
        return [_experiment(Path(place.source if place else "tune"), merge(self.document, t)) for t in self.trials]


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
        data = _beside(document["data"]["path"], path)
        about = about.model_copy(update={"data": about.data.model_copy(update={"path": str(data.resolve())})})
    if (about.data.preset is None) == (about.data.path is None):
        raise ConfigError(f"{locate(document, ['data'])}: should have either a preset or a path")
    if about.data.preset is not None:
        with placed(document["data"], "preset"):
            preset_named(about.data.preset, about.data.overrides)
    if len(set(about.seeds)) < len(about.seeds):
        raise ConfigError(f"{locate(document, ['seeds'])}: a seed is there twice: give different ones")
    autoencoders = {key: _autoencoder(path, document["autoencoders"], key) for key in document.get("autoencoders", {})}
    study = Study(about, _rows(path, about, document), autoencoders)
    for row in study.rows.values():
        _check_references(study, row)
        _check_tuning(study, row)
        _check_dials(study, row)
    return study


def _autoencoder(path: Path, parts: Document, name: str) -> Experiment:
    experiment = _experiment(path, _document(path, parts, name, {}))
    *before, last = [None, *(codec["type"] for codec in experiment.codec)]
    if last not in AUTOENCODERS or set(before) - {None, "standardize"}:
        raise ConfigError(f"{place_of(name)}: codec should be [standardize, autoencoder], in this order")
    return experiment


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
        rows[name] = Row(name, documents[name], experiment, str(network), trials, tuple(dials), seeds, exempt)
    return rows


def _document(
    path: Path, parts: Document, name: str, common: Document, above: Mapping[str, Document] | None = None
) -> Document:
    """The experiment of a part: its file, or the row that it is like, and what is laid over it."""
    part, key = parts[name], next(key for key in parts if key == name)
    if part.get("like") is not None and part.get("file") is not None:
        raise ConfigError(f"{place_of(key)}: has a file and is like '{part['like']}': give one of the two")
    if above and part.get("like") is not None:
        base = above[part["like"]]
    elif part.get("file") is not None:
        file = _beside(part["file"], path)
        if not file.is_file():
            siblings = [other.name for other in file.parent.glob("*.yaml")]
            raise ConfigError(f"{place_of(part['file'])}: there is no file '{file}'{nearest(file.name, siblings)}")
        own = load_yaml(file)
        base = merge(own, _for_type(common, own.get("stepper", {})))
    else:
        remedy = "" if above is None else ", or like: NAME of a row above"
        raise ConfigError(f"{place_of(key)}: needs a file{remedy}")
    return {**merge(base, part.get("set", {})), "name": str(name)}


def _beside(name: str, path: Path) -> Path:
    """A file named in a study, relative to the file that names it, by default the study's own."""
    place = place_of(name)
    return (path if place is None else Path(place.source)).parent / name


def _for_type(common: Document, own: Mapping[str, Any]) -> Document:
    """What rows have in common, but for parts that steppers of this row's type do not have."""
    lacks = {part for parts in PARTS.values() for part in parts} - {*PARTS.get(own.get("type", ""), ())}
    shared = {key: value for key, value in common.get("stepper", {}).items() if key not in lacks}
    return {key: shared if key == "stepper" else value for key, value in common.items()}


def _experiment(path: Path, document: Document) -> Experiment:
    experiment = validated(Experiment, path, document)
    check_codec(experiment.codec)
    check_stepper(experiment.stepper)
    return experiment


def _same(one: Experiment, other: Experiment) -> bool:
    """Whether two experiments train the same network."""
    return _training(one) == _training(other)


def _training(experiment: Experiment) -> Document:
    """What the weights depend on; on the sampler only where its samples are trained."""
    found = plain(experiment.model_dump(exclude=set(FREE)))
    if not found["stepper"].get("crps"):
        found["stepper"].pop("sampler", None)
    return found


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


def _check_references(study: Study, row: Row) -> None:
    """Autoencoders, guesses and starts are those of this study, and what a row needs stands above it."""
    place, known = place_of(row.name), study.autoencoders
    if row.autoencoder is not None and row.autoencoder not in known:
        raise ConfigError(
            f"{place}: codec runs are the study's autoencoders, got '{row.autoencoder}'"
            f"{nearest(row.autoencoder, known) or '; there are'} {', '.join(known) or 'none'}"
        )
    types = [codec["type"] for codec in row.experiment.codec]
    if types not in CODECS:
        raise ConfigError(f"{place}: codec should be a run of an autoencoder, if any, and standardize; got {types}")
    _check_above(study, row, "guess", {name for name, other in study.rows.items() if not other.generative})
    _check_above(study, row, "start", {other.name for other in study.networks})
    for other in (row.network, *row.builds_on):
        if len(study.rows[other].seeds) < len(row.seeds):
            raise ConfigError(f"{place}: has more seeds than '{other}', which it needs")


def _check_above(study: Study, row: Row, what: str, fit: set[str]) -> None:
    """The row that is named as guess or start stands above, and has the same codec."""
    place, wanted, names = place_of(row.name), getattr(row.experiment, what), list(study.rows)
    above = [other for other in names[: names.index(row.name)] if other in fit]
    if wanted is not None and wanted not in above:
        kind, there = "deterministic" if what == "guess" else "trained", ", ".join(above) or "there is none"
        raise ConfigError(f"{place}: {what} should name a {kind} row above, {there}; got '{wanted}'")
    if wanted is not None and study.rows[wanted].experiment.codec != row.experiment.codec:
        raise ConfigError(f"{place}: has another codec than its {what} '{wanted}': give both the same")


def _check_tuning(study: Study, row: Row) -> None:
    """Trials can be made, and change nothing that rows must have in common or that another row has chosen."""
    shared = [other.name for other in study.rows.values() if other.network == row.name != other.name]
    fixed, before = [*FIXED, *(["stepper.sampler"] if shared else [])], plain(row.experiment.model_dump())
    for experiment in row.tried:
        after = plain(experiment.model_dump())
        changed = next((key for key in fixed if _entry(before, key) != _entry(after, key)), None)
        if changed is not None:
            why = f"'{shared[0]}' shares the network" if changed == "stepper.sampler" else "the protocol fixes it"
            raise ConfigError(f"{place_of(row.name)}: tune changes {changed}, but {why}: take it out")


def _entry(document: Document, path: str) -> Any:
    *above, last = path.split(".")
    return reduce(lambda inner, key: inner[key], above, document).get(last)


def _check_dials(study: Study, row: Row) -> None:
    """The samplers of the curves can be made."""
    changes = [change for dial in row.dials for _, change in expand_dial(dial)[1]]
    if not row.generative:
        if changes:
            raise ConfigError(f"{place_of(row.name)}: has dials, but no sampler: take them out")
        return
    steps = [] if study.about.curves is None else [{"steps": steps} for steps in study.about.curves.steps]
    for experiment in (row.experiment, *row.tried):
        for change in (*steps, *changes):
            build_sampler(merge(sampler_of(experiment.stepper), change))


def sampler_of(stepper: Mapping[str, Any]) -> Document | str:
    """The sampler in a generative stepper's description, the stepper's own where that gives none."""
    default = inspect.signature(Generative).parameters["sampler"].default
    return stepper.get("sampler") or describe_sampler(default)


def expand_dial(dial: Mapping[str, Any]) -> tuple[str, list[tuple[Any, Document]]]:
    """The swept key of a dial, and for each of its values the change of the sampler."""
    swept = [key for key, value in dial.items() if isinstance(value, list)]
    if len(swept) != 1:
        raise ConfigError(f"{place_of(dict(dial))}: a dial has one setting with a list of values, got {len(swept)}")
    fixed = reduce(merge, [_nested(key, value) for key, value in dial.items() if key != swept[0]], {})
    return str(swept[0]), [(value, merge(fixed, _nested(swept[0], value))) for value in dial[swept[0]]]
