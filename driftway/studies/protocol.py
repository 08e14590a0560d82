"""What makes a comparison fair, checked before anything is trained.

Every row that is trained sees the same data, takes the same number of optimiser steps of the same batch (those of its
guess and of its start included), has as many weights to within a tolerance, and as many trials of its settings;
autoencoders are all trained alike. All rows are scored on the same initial states, lead times and, if they are
ensembles, members. A row that is to be trained otherwise says why, and the report repeats it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path

from driftway.build import STEPPERS, Signature, build_codec, build_stepper
from driftway.coarse import Physics
from driftway.codecs import Chain
from driftway.config.yaml import Document, merge, place_of, plain
from driftway.data import open_data
from driftway.data.layout import Layout
from driftway.data.starts import start_frames
from driftway.errors import ConfigError, naming
from driftway.pdes.presets import Counts
from driftway.schema import Experiment, validated
from driftway.simulate import preset_named, template_of
from driftway.steppers import LearnedStepper
from driftway.studies.file import Row, Study
from driftway.workflow import layout_of, signature_of

Compared = Mapping[str, Callable[[Study, Row], object]]


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
        data = template_of(preset)
        return Shape(signature_of(data), layout_of(data), preset.frames, preset.trajectories)
    data = open_data(str(source.path))
    with naming(str(source.path)):
        counts = Counts(*(data.split(name).shape[0] for name in Counts._fields))
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
    layout = replace(shape.layout, dt=shape.layout.dt * row.experiment.data.stride)
    stepper = build_stepper(row.experiment.stepper, signature, guess, Physics(codec, layout))
    if not isinstance(stepper, LearnedStepper):
        raise ConfigError(f"row '{row.name}' has nothing to train; persistence and climatology are always scored")
    return Built(codec, signature, stepper)


def check_fair(study: Study, shape: Shape) -> dict[str, int]:
    """Raise ConfigError where a row would have more than another; returns each network's number of weights."""
    rows = list(study.rows.values())
    _check_same(study, rows, JUDGED, "give all rows the same")
    members = {row.experiment.evaluation.members for row in rows if row.experiment.evaluation.members > 1}
    if len(members) > 1:
        raise ConfigError(f"ensembles of {sorted(members)} members cannot be compared: give one number to all")
    _check_enough(study, shape)
    bound = [row for row in study.networks if trains(row) and not row.exempt]
    _check_same(study, bound, TRAINED, "give all rows the same, or say in exempt why it may differ")
    encoded = [row for row in bound if row.autoencoder is not None]
    _check_same(study, encoded, ENCODED, "give all the same, or say in exempt why it may differ")
    sizes = {row.name: _sizes(study, row, shape) for row in study.networks}
    _check_sizes(study, [(size, row) for row in bound for size in sizes[row.name]])
    return {name: own for name, (own, *_) in sizes.items()}


def _check_same(study: Study, rows: Sequence[Row], compared: Compared, remedy: str) -> None:
    """Each of the rows has what the first has."""
    for row in rows:
        for what, of in compared.items():
            value, wanted = of(study, row), of(study, rows[0])
            if value != wanted:
                raise ConfigError(
                    f"{_where(row)}row '{row.name}' has {what} {value} and '{rows[0].name}' {wanted}: {remedy}"
                )


def _where(row: Row) -> str:
    place = place_of(row.name)
    return "" if place is None else f"{place.where}: "


def _check_enough(study: Study, shape: Shape) -> None:
    """There are as many trajectories and frames as forecasts are to start from and to reach."""
    first = next(iter(study.rows.values())).experiment
    asked = {"tuning": ("valid", study.about.tuning), "curves": ("valid", study.about.curves)}
    for what, (split, part) in {"evaluation": (first.evaluation.split, first.evaluation), **asked}.items():
        if part is None:
            continue
        there = getattr(shape.trajectories, split)
        if there < (part.trajectories or 1):
            raise ConfigError(
                f"{what}.trajectories: {part.trajectories or 'all'} of the split '{split}', which has {there}: "
                "ask for fewer, or give the data more"
            )
        span = part.leads * first.data.stride
        if span >= shape.frames:
            raise ConfigError(
                f"{what}.leads: {part.leads} steps of {first.data.stride} frames, where trajectories have "
                f"{shape.frames}: give at most {(shape.frames - 1) // first.data.stride}"
            )
        start_frames(shape.frames, span, part.starts)
    for split in ("train", "valid"):
        if not getattr(shape.trajectories, split):
            raise ConfigError(f"data: the split '{split}' is empty, which every training needs: give it trajectories")


def _sizes(study: Study, row: Row, shape: Shape) -> list[int]:
    """Numbers of weights: the row's own, and those of trials that have another network."""
    networks = {str(plain(other.stepper.get("network"))): other for other in (row.experiment, *row.tried)}
    return [build_row(study, replace(row, experiment=other), shape).parameters for other in networks.values()]


def _check_sizes(study: Study, sizes: Sequence[tuple[int, Row]]) -> None:
    """Any two rows have as many weights, to within the tolerance."""
    least, small = min(sizes, key=itemgetter(0), default=(0, None))
    most, large = max(sizes, key=itemgetter(0), default=(0, None))
    if small is not None and large is not None and most > least * (1 + study.about.tolerance):
        raise ConfigError(
            f"{_where(large)}row '{large.name}' has {most} weights and '{small.name}' {least}: more than "
            f"{100 * study.about.tolerance:g}% apart; change its width, or say in exempt why it may differ"
        )


def trains(row: Row) -> bool:
    """Whether a row takes optimiser steps at all; a linear model is fitted in one pass."""
    return getattr(STEPPERS[row.experiment.stepper["type"]], "trained", False)


def steps_of(study: Study, row: Row) -> int:
    """Optimiser steps behind a row: its own, those of its guess, and those behind the weights that it starts from."""
    before = sum(steps_of(study, study.rows[other]) for other in row.builds_on)
    return row.experiment.training.steps * trains(row) + before


JUDGED: Compared = {
    "evaluation.leads": lambda study, row: row.experiment.evaluation.leads,
    "evaluation.trajectories": lambda study, row: row.experiment.evaluation.trajectories,
    "evaluation.starts": lambda study, row: row.experiment.evaluation.starts,
    "evaluation.split": lambda study, row: row.experiment.evaluation.split,
    "data.stride": lambda study, row: row.experiment.data.stride,
}
TRAINED: Compared = {
    "training.batch": lambda study, row: row.experiment.training.batch,
    "optimiser steps": steps_of,
    "stepper.antithetic": lambda study, row: row.experiment.stepper.get("antithetic", False),
}
ENCODED: Compared = {
    "an autoencoder of optimiser steps": lambda study, row: study.autoencoders[str(row.autoencoder)].training.steps,
    "an autoencoder of training.batch": lambda study, row: study.autoencoders[str(row.autoencoder)].training.batch,
}


def experiment_for(study: Study, folder: Path, row: Row, seed: int, change: Document) -> Experiment:
    """A row's experiment, changed, with its seed and with paths to what the study's folder holds."""
    experiment = validated(Experiment, folder / "study.json", merge(row.document, change))
    codec = tuple(
        {**entry, "path": str(folder / "autoencoders" / entry["path"])} if "path" in entry else entry
        for entry in experiment.codec
    )
    rows = {"guess": experiment.guess, "start": experiment.start}
    runs = {what: None if row is None else str(run_of(folder, study.rows[row], seed)) for what, row in rows.items()}
    return _placed(study, folder, experiment).model_copy(update={"seed": seed, "codec": codec, **runs})


def autoencoder_for(study: Study, folder: Path, name: str) -> Experiment:
    """An autoencoder's experiment, on the study's data."""
    return _placed(study, folder, study.autoencoders[name])


def _placed(study: Study, folder: Path, experiment: Experiment) -> Experiment:
    source = experiment.data.model_copy(update={"path": str(data_of(study, folder))})
    return experiment.model_copy(update={"data": source})


def data_of(study: Study, folder: Path) -> Path:
    """Where a study's states are."""
    return folder / "data.zarr" if study.about.data.preset is not None else Path(str(study.about.data.path))


def forecast_of(folder: Path, row: str) -> Path:
    """Where the forecast from the first initial state is kept."""
    return folder / "forecasts" / f"{row}.zarr"


def run_of(folder: Path, row: Row, seed: int) -> Path:
    """The run folder of a row's network."""
    return folder / "runs" / row.network / f"seed-{seed}"
