"""What makes a comparison fair, checked before anything is trained.

Every row that is trained sees the same data, takes the same number of optimiser steps of the same batch (those of its
guess included), has as many weights to within a tolerance, and as many trials of its settings; all rows are scored on
the same initial states, lead times and, if they are ensembles, members. A row that is to differ says why, and the
report repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from driftway.build import Signature, build_codec, build_stepper
from driftway.codecs import Chain
from driftway.config.yaml import Document, merge
from driftway.data import open_data
from driftway.data.layout import Layout
from driftway.errors import ConfigError
from driftway.pdes.presets import Counts
from driftway.schema import Experiment, validated
from driftway.simulate import preset_named
from driftway.steppers import LearnedStepper
from driftway.studies.file import Row, Study
from driftway.workflow import layout_of, signature_of

JUDGED = ("leads", "trajectories", "split")


@dataclass(frozen=True)
class Shape:
    """What a data set looks like before it is there: its fields and axes, frames, and trajectories per split."""

    signature: Signature
    layout: Layout
    frames: int
    trajectories: Counts


def shape_of(study: Study) -> Shape:
    """The shape of a study's data, from the preset or from the data set itself."""
    source = study.about.data
    if source.preset is not None:
        preset = preset_named(source.preset, source.overrides)
        layout = Layout(preset.fields, preset.axes, preset.interval)
        return Shape(Signature(len(preset.fields), layout.boundary), layout, preset.frames, preset.trajectories)
    data = open_data(str(source.path))
    counts = Counts(*(data.split(name).shape[0] for name in ("train", "valid", "test")))
    return Shape(signature_of(data), layout_of(data), data.shape[1], counts)


@dataclass(frozen=True)
class Built:
    """A row made for the study's data: its codec, what that leaves to step, and the stepper."""

    codec: Chain
    signature: Signature
    stepper: LearnedStepper

    @property
    def parameters(self) -> int:
        """Weights that are trained."""
        return sum(p.numel() for p in self.stepper.parameters() if p.requires_grad)


def build_row(study: Study, row: Row, shape: Shape) -> Built:
    """The codec and stepper of a row, with weights as they are at the start."""
    specs = [
        spec
        for codec in row.experiment.codec
        for spec in (study.autoencoders[codec["path"]].codec if "path" in codec else [codec])
    ]
    codec, signature = build_codec(specs, shape.signature)
    guess = None if row.experiment.guess is None else build_row(study, study.rows[row.experiment.guess], shape).stepper
    stepper = build_stepper(row.experiment.stepper, signature, guess)
    if not isinstance(stepper, LearnedStepper):
        raise ConfigError(f"row '{row.name}' has nothing to train; persistence and climatology are always scored")
    return Built(codec, signature, stepper)


def check_fair(study: Study, shape: Shape) -> dict[str, int]:
    """Raise ConfigError where a row would have more than another; returns each network's number of weights."""
    rows = list(study.rows.values())
    sizes = {row.name: build_row(study, row, shape).parameters for row in study.networks}
    bound = [row for row in study.networks if not row.exempt]
    for row in rows:
        for key in JUDGED:
            _same(row, rows[0], f"evaluation.{key}", *(getattr(r.experiment.evaluation, key) for r in (row, rows[0])))
    for row in bound:
        _same(row, bound[0], "training.batch", *(r.experiment.training.batch for r in (row, bound[0])))
        _same(row, bound[0], "optimiser steps", *(steps_of(study, r) for r in (row, bound[0])))
        if abs(sizes[row.name] / sizes[bound[0].name] - 1) > study.about.tolerance:
            raise ConfigError(
                f"row '{row.name}' has {sizes[row.name]} weights and '{bound[0].name}' {sizes[bound[0].name]}: more "
                f"than {study.about.tolerance:.0%} apart; change its width, or say in exempt why it may differ"
            )
    members = {row.experiment.evaluation.members for row in rows if row.experiment.evaluation.members > 1}
    if len(members) > 1:
        raise ConfigError(f"ensembles of {sorted(members)} members cannot be compared: give one number to all")
    return sizes


def steps_of(study: Study, row: Row) -> int:
    """Optimiser steps behind a row: its own, and those of its guess."""
    guess = row.experiment.guess
    return row.experiment.training.steps + (0 if guess is None else steps_of(study, study.rows[guess]))


def _same(row: Row, first: Row, what: str, value: object, wanted: object) -> None:
    if value != wanted:
        raise ConfigError(
            f"row '{row.name}' has {what} {value} and '{first.name}' {wanted}: give all rows the same, or say in "
            "exempt why it may differ"
        )


def experiment_for(study: Study, folder: Path, row: Row, seed: int, change: Document) -> Experiment:
    """A row's experiment, changed, with its seed and with paths to what the study's folder holds."""
    experiment = validated(Experiment, folder / "study.json", merge(row.document, change))
    codec = tuple(
        {**entry, "path": str(folder / "autoencoders" / entry["path"])} if "path" in entry else entry
        for entry in experiment.codec
    )
    guess = None if experiment.guess is None else str(run_of(folder, study.rows[experiment.guess], seed))
    return _placed(study, folder, experiment).model_copy(update={"seed": seed, "codec": codec, "guess": guess})


def autoencoder_for(study: Study, folder: Path, name: str) -> Experiment:
    """An autoencoder's experiment, on the study's data."""
    return _placed(study, folder, study.autoencoders[name])


def _placed(study: Study, folder: Path, experiment: Experiment) -> Experiment:
    source = experiment.data.model_copy(update={"path": str(data_of(study, folder))})
    return experiment.model_copy(update={"data": source})


def data_of(study: Study, folder: Path) -> Path:
    """Where a study's states are."""
    return folder / "data.zarr" if study.about.data.preset is not None else Path(str(study.about.data.path))


def run_of(folder: Path, row: Row, seed: int) -> Path:
    """The run folder of a row's network."""
    return folder / "runs" / row.network / f"seed-{seed}"
