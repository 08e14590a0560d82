"""What a study file may say: its sections, their defaults and their limits."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from driftway.schema import NAME, NAMED, EvaluationSection, Section

Count = Annotated[int, Field(ge=1)]


class SourceSection(Section):
    """Where the states come from: a preset to simulate, or a data set that is there."""

    preset: str | None = Field(default=None, description="simulated into the study's folder")
    overrides: tuple[str, ...] = Field(default=(), strict=False, description="name=value, numbers of the preset")
    seed: int = Field(default=0, ge=0, description="key of the initial states")
    path: str | None = Field(default=None, description="data set; relative to the file that says so")


class PartSection(Section):
    """An experiment file, and what is changed in it."""

    file: str | None = Field(default=None, description="experiment; relative to the file that says so")
    set: dict[str, Any] = Field(default={}, description="laid over all else")


class RowSection(PartSection):
    """One row of the comparison."""

    like: str | None = Field(default=None, description="another row, in place of a file")
    tune: dict[str, list[Any]] = Field(default={}, description="key.path → candidates; all combinations are tried")
    dials: list[dict[str, Any]] = Field(
        default=[], description="changes of the sampler, one of them a list: how far scores move after training"
    )
    seeds: int | None = Field(default=None, ge=1, description="how many of the study's seeds; null: all")
    exempt: str | None = Field(default=None, min_length=10, description="why the row may be trained otherwise")


class ValidSection(Section):
    """Ensemble forecasts of the validation split."""

    trajectories: int = Field(default=8, ge=1, description="how many of the split")
    starts: int = Field(default=1, ge=1, description="initial states of each, evenly spaced")
    leads: int = Field(default=10, ge=1, description="steps of each forecast")
    members: int = Field(default=8, ge=2, description="ensemble members")

    @property
    def evaluation(self) -> EvaluationSection:
        """The same as an experiment says it."""
        return EvaluationSection(split="valid", **self.model_dump(include=set(EvaluationSection.model_fields)))


class TuningSection(ValidSection):
    """How each network's settings are chosen on the validation split; by fair CRPS."""

    trials: int = Field(ge=1, description="trainings per network, the same for all")
    steps: int | None = Field(default=None, ge=1, description="optimiser steps of a trial; null: as many as in the end")


class CurvesSection(ValidSection):
    """Scores against sampling steps and along the dials, on the validation split."""

    steps: tuple[Count, ...] = Field(strict=False, description="sampling steps that are tried")
    seeds: int = Field(default=1, ge=1, description="of how many of the seeds")


class StudySection(Section):
    """A comparison under one protocol."""

    name: str = Field(pattern=NAME, max_length=100, description=NAMED)
    title: str = Field(default="", description="what the report is called")
    data: SourceSection = Field(description=SourceSection.__doc__)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        min_length=1, strict=False, description="trainings of each row"
    )
    autoencoders: dict[str, PartSection] = Field(default={}, description="name → experiment, fitted once")
    common: dict[str, Any] = Field(default={}, description="laid over the file of every row")
    tolerance: float = Field(default=0.02, gt=0, lt=1, description="by how much numbers of weights may differ")
    tuning: TuningSection | None = Field(default=None, description="null: every row as its file says")
    curves: CurvesSection | None = Field(default=None, description="null: none")
    rows: dict[str, RowSection] = Field(min_length=1, description="name → row")
