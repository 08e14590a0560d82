"""What an experiment file may say: its sections, their defaults and their limits.

Components (`codec`, `stepper` and what is in them) are descriptions here, mappings with a `type`; their settings
are the parameters of the classes that carry the names, and are checked when those are made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from driftway.config.build import explain
from driftway.config.yaml import (
    Document,
    Located,
    dump_yaml,
    load_yaml,
    locate,
    merge,
    nearest,
    override,
    place_of,
    show,
)
from driftway.errors import ConfigError


def _described(value: Any) -> dict[str, Any]:
    """A component's description as a mapping; a name on its own has no settings."""
    spec: Any = {Located("type", place_of(value)): value} if isinstance(value, str) else value
    if not isinstance(spec, Mapping) or not isinstance(spec.get("type"), str):
        raise ValueError("should be the name of a component, or a mapping with the name as 'type'")
    return dict(spec)


Spec = Annotated[dict[str, Any], PlainValidator(_described)]


NAME = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$"
NAMED = "letters, digits, '.', '_' and '-', not '.' first"


class Section(BaseModel):
    """Unknown keys, conversions between types, infinities and later changes are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


S = TypeVar("S", bound=Section)


class DataSection(Section):
    """What is learned."""

    path: str = Field(min_length=1, description="data set, as `driftway data inspect` reads it")
    stride: int = Field(default=1, ge=1, description="frames of the data set in one step of the emulator")
    parameters: dict[str, Literal["log", "linear"]] = Field(
        default={},
        description="how parameters enter, by name; others: log where positive and spread over more than a decade",
    )
    calendar: tuple[Literal["day", "hour"], ...] | None = Field(
        default=None,
        strict=False,
        description="what steps are told of the date, day of the year and hour of the day; null: both, if it is known",
    )
    forcing_at: Literal["start", "valid"] | None = Field(
        default=None,
        description="whose forcing and date a step knows, of the state before it or the one it makes; null: valid if "
        "the data have a calendar, else start",
    )
    memory: float = Field(
        default=1.0, ge=0, description="gigabytes of training states held in memory; more are read as they are drawn"
    )
    statistics: Literal["stored", "computed"] = Field(
        default="stored", description="mean and deviation of The Well's stats.yaml if there is one, or computed"
    )


class ValidationSection(Section):
    """Short forecasts of the validation split while training."""

    trajectories: int = Field(default=8, ge=1, description="initial states, if the split has room for them")
    leads: int = Field(default=10, ge=1, description="steps of each")
    members: int = Field(default=1, ge=1, description="ensemble members of each, if the stepper is random")


class TrainingSection(Section):
    """How long and how fast."""

    steps: int = Field(ge=1, description="optimiser steps")
    batch: int = Field(default=16, ge=1, description="transitions per optimiser step")
    learning_rate: float = Field(default=1e-3, gt=0, le=1, description="largest learning rate of AdamW")
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="decoupled weight decay of AdamW")
    warmup: int = Field(
        default=100, ge=0, description="steps in which the learning rate rises from 0, at most a tenth of all"
    )
    schedule: Literal["cosine", "constant"] = Field(default="cosine", description="after the warm-up")
    clip: float | None = Field(default=1.0, gt=0, description="largest gradient norm; null: no limit")
    ema: float = Field(default=0.995, ge=0, lt=1, description="decay per step of the weights' moving average")
    augment: bool = Field(default=True, description="shift fields at random along axes that have a symmetry")
    input_noise: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="standard deviation of noise on the state before a step, in units of encoded states",
    )
    log_every: int = Field(default=20, ge=1, description="steps between entries of the log")
    checkpoint_every: int = Field(default=500, ge=1, description="steps between checkpoints")
    validate_every: int = Field(default=500, ge=1, description="steps between validations")
    validation: ValidationSection = Field(default=ValidationSection(), description=ValidationSection.__doc__)
    threads: int | None = Field(default=None, ge=1, description="CPU threads; null: torch's own choice")
    device: str = Field(
        default="cpu", pattern=r"^(cpu|mps|cuda(:[0-9]+)?)$", description="cpu, mps, cuda or cuda:N, N from 0"
    )


class EvaluationSection(Section):
    """Ensemble forecasts of a split, by default one that training has not seen."""

    leads: int = Field(default=20, ge=1, description="steps of each forecast")
    members: int = Field(default=16, ge=1, description="ensemble members")
    trajectories: int | None = Field(default=None, ge=1, description="how many of the split; null: all")
    starts: int = Field(default=1, ge=1, description="initial states of each trajectory, evenly spaced")
    split: Literal["train", "valid", "test"] = Field(default="test", description="part of the data set")
    batch: int = Field(default=64, ge=1, description="states that are stepped at once")


class Experiment(Section):
    """One emulator: data, what encodes it, what steps it, how that is trained and how it is judged."""

    name: str = Field(
        pattern=NAME,
        max_length=100,
        description=f"{NAMED}: it names the run folder",
    )
    seed: int = Field(default=0, ge=0, description="key of every random number")
    data: DataSection = Field(description=DataSection.__doc__)
    codec: tuple[Spec, ...] = Field(
        default=({"type": "standardize"},), strict=False, description="codecs, from data to what is stepped"
    )
    stepper: Spec = Field(default={"type": "persistence"}, description="what steps the encoded state")
    guess: str | None = Field(
        default=None,
        min_length=1,
        description="run folder of a deterministic stepper; paths start from its answer",
    )
    start: str | None = Field(
        default=None,
        min_length=1,
        description="run folder of a stepper with the same network and noise; training starts from its weights",
    )
    training: TrainingSection = Field(description=TrainingSection.__doc__)
    evaluation: EvaluationSection = Field(default=EvaluationSection(), description=EvaluationSection.__doc__)


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment in a YAML file, with `key.path=value` overrides in place."""
    return validated(Experiment, path, override(load_yaml(path), overrides))


def evaluation_of(run: Path, given: Mapping[str, Any]) -> EvaluationSection:
    """How a run's configuration says that it is to be judged, with what is `given` in place of what it says.

    An emulator that was saved alone, without a configuration, has the defaults.
    """
    path = run / "config.yaml"
    stored = load_yaml(path).get("evaluation", {}) if path.is_file() else {}
    return validated(EvaluationSection, path, merge(stored, dict(given)))


def validated(section: type[S], path: str | Path, document: Document) -> S:
    """The section that a document read from `path` describes; a ConfigError names file, line, key and remedy."""
    try:
        return section.model_validate(document)
    except ValidationError as error:
        # a misspelt key is also a missing one: the key that is there says more
        first, *rest = sorted(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        more = f" (and {len(rest)} more)" if rest else ""
        raise ConfigError(f"{_where(path, document, first)}: {_what(section, first)}{more}") from error


def dump(experiment: Experiment) -> str:
    """The experiment as YAML with every default written out; it loads back as an equal one."""
    return dump_yaml(experiment.model_dump())


def keys(section: type[Section] = Experiment, prefix: str = "") -> Iterator[str]:
    """Every dotted key of the schema, e.g. 'training.validation.leads'."""
    for name, field in section.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from keys(field.annotation, f"{prefix}{name}.")


def _where(path: str | Path, document: Document, error: ErrorDetails) -> str:
    place = locate(document, error["loc"])
    return f"{place.where if place else path}: {'.'.join(map(str, error['loc']))}"


def _what(section: type[Section], error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return "is required"
    if error["type"] == "string_pattern_mismatch":
        return f"should be {_field(section, error['loc']).description}, got {show(error['input'])}"
    if error["type"] != "extra_forbidden":
        return explain(error)
    *above, name = map(str, error["loc"])
    prefix = "".join(part + "." for part in above)
    valid = [key.removeprefix(prefix) for key in keys(section) if key.startswith(prefix)]
    here = [key for key in valid if "." not in key]
    elsewhere = [key for key in keys(section) if key.rpartition(".")[2] == name]
    meant = f"; did you mean {' or '.join(map(repr, elsewhere))}?" if elsewhere else nearest(name, here) or ";"
    return f"unknown key {show(name)}{meant} valid: {', '.join(here)}"


def _field(section: type[Section], path: Sequence[str | int]) -> FieldInfo:
    """The field of the schema that a dotted key names."""
    first, *rest = map(str, path)
    field = section.model_fields[first]
    inner = field.annotation
    return _field(inner, rest) if rest and isinstance(inner, type) and issubclass(inner, Section) else field
