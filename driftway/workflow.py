"""The two things that are fitted, each from one experiment into one run folder: an autoencoder, then a stepper.

An autoencoder's run ends in an emulator whose stepper is persistence.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from torch import nn

from driftway.build import (
    Signature,
    Spec,
    build_codec,
    build_stepper,
    check_codec,
    check_stepper,
    describe,
    save_emulator,
)
from driftway.checkpoints import read_json
from driftway.coarse import Physics
from driftway.codecs import Chain, Standardize, same_weights
from driftway.data import Trajectories, open_data, open_zarr, statistics, unwritten, write_zarr
from driftway.data.axes import Fields
from driftway.data.files import stored_scale
from driftway.data.layout import Layout, latent_axes
from driftway.data.seasons import Told
from driftway.emulator import Emulator
from driftway.errors import ConfigError, DataError, naming
from driftway.feeding import PASS_BYTES, SAMPLE_BYTES, Encoded, encoded, fitting
from driftway.networks.autoencoder import LearnedCodec
from driftway.parameters import Parameter, described, field_scales, fitted_parameters, scale_parameters
from driftway.progress import progress
from driftway.randomness import seeded
from driftway.runs import Run, locked, opened
from driftway.schema import DataSection, Experiment
from driftway.steppers import LearnedStepper
from driftway.training import Ahead, Batches, device_of, fit
from driftway.validation import Reconstructions, Rollouts, some


def layout_of(data: Trajectories, stride: int = 1) -> Layout:
    """The layout of a data set's states, every `stride`-th frame."""
    return Layout(data.fields, data.axes, data.dt * stride, data.time_units)


def signature_of(data: Trajectories) -> Signature:
    """What a codec or stepper has to work on."""
    known, axes, dates = data.known_axes or data.axes, data.axes, len(data.date_names)
    about = (data.known, len(data.parameters) + dates, dates, axes, known, data.fields.names)
    return Signature(len(data.fields), data.boundary, *about)


def data_of(section: DataSection) -> Trajectories:
    """The data set of an experiment, whose steps are told of dates and forcing what it says."""
    with naming(section.path):
        return told(open_data(section.path), section)


def told(data: Trajectories, section: DataSection) -> Trajectories:
    """A data set whose steps are told of dates and forcing what an experiment says; by default all of the valid time.

    Raises ConfigError for a calendar that the data have not.
    """
    if section.calendar is not None and data.calendar is None:
        raise ConfigError("data.calendar: the data have no calendar; leave the key out, or choose data with dates")
    features = Told().features if section.calendar is None else section.calendar
    return replace(data, told=Told(features, section.forcing_at))


def finished(folder: Path) -> bool:
    """Whether a run folder holds its emulator."""
    return (folder / "emulator.json").is_file()


def use_threads(count: int | None) -> None:
    """Let torch use `count` CPU threads; None leaves its own choice."""
    if count is not None:
        torch.set_num_threads(count)


def _check_components(experiment: Experiment) -> None:
    """Find mistakes in descriptions, and a device that is not there, before anything is read or written."""
    check_codec(experiment.codec)
    check_stepper(experiment.stepper)
    device_of(experiment.training.device)


def _trained(model: nn.Module, transitions: Encoded, run: Run, validate: Any) -> nn.Module:
    experiment = run.experiment
    training = experiment.training
    symmetry = tuple(axis.symmetry for axis in transitions.data.axes) if training.augment else ()
    batches = Batches(transitions, training.batch, experiment.seed, symmetry, training.input_noise)
    run.begin()
    with Ahead(batches, training.steps) as ahead:
        return fit(
            model,
            ahead if transitions.on_disk else batches,
            training,
            run.folder,
            seed=experiment.seed,
            resume=run.resume,
            validate=validate,
            label=experiment.name,
        )


def _saved(emulator: Emulator, trained: nn.Module, run: Run, statistics: str) -> Emulator:
    save_emulator(emulator, run.folder, force=True)
    run.finish(parameters=sum(p.numel() for p in trained.parameters()), statistics=statistics)
    return emulator


# --- the autoencoder -----------------------------------------------------------------------------------------------


def fit_autoencoder(
    experiment: Experiment, folder: str | Path, *, resume: bool = False, force: bool = False
) -> Emulator:
    """Fit the last codec of the experiment, an autoencoder, by reconstruction; those before it normalise."""
    _check_components(experiment)
    if experiment.training.input_noise:
        raise ConfigError("training.input_noise: an autoencoder has no state before a step; leave the key out")
    with opened(Path(folder), experiment, resume=resume, force=force) as run:
        data, stride = data_of(experiment.data), experiment.data.stride
        with seeded(experiment.seed, "weights"):
            codec, inner = build_codec(experiment.codec, signature_of(data))
        *before, model = codec.codecs
        if not isinstance(model, LearnedCodec) or not all(isinstance(c, Standardize) for c in before):
            raise ConfigError(
                "to fit an autoencoder, codec must be [standardize, autoencoder], in this order; or kl_autoencoder in "
                "place of autoencoder"
            )
        train, memory = data.split("train"), experiment.data.memory
        found = _standardized(before, train, experiment)
        parameters = _parameters(model, data, experiment)
        transitions = encoded(train, Chain(*before), stride, memory, targets=False)
        model.initialise(some(transitions, fitting(train, SAMPLE_BYTES, 1024)).source)
        validate = Reconstructions(Encoded(data.split("valid").transitions(stride), Chain(*before), targets=False))
        trained = _trained(model, transitions, run, validate)
        layout = layout_of(data)
        spec = describe(layout, experiment.codec, {"type": "persistence"}, None, data.field_names, data.parameter_names)
        spec |= {"parameter_scales": described(parameters), **_dates(data)}
        emulator = Emulator(Chain(*before, trained), build_stepper("persistence", inner), layout, spec)
        return _saved(emulator, trained, run, found)


def _standardized(codecs: list[nn.Module], train: Trajectories, experiment: Experiment, stored: bool = True) -> str:
    """Fit codecs to the training split, or to what the data set says of it; returns which."""
    path = experiment.data.path
    with naming(path):
        known = stored_scale(path, train) if stored and experiment.data.statistics == "stored" else None
        found = known or statistics(train).scale
    for codec in codecs:
        assert isinstance(codec, Standardize)
        codec.fit(found.mean.tolist(), found.std.tolist())
    return found.source


def _parameters(network: nn.Module, data: Trajectories, experiment: Experiment) -> tuple[Parameter, ...]:
    """The parameters of a data set, in whose physical units the network then takes them; a guess has its own."""
    with naming(experiment.data.path):
        parameters = fitted_parameters(data, experiment.data.parameters)
    scale_parameters(network, parameters)
    return parameters


def _dates(data: Trajectories) -> Spec:
    """What an emulator's steps were told of dates and forcing, for its description; nothing where that is the start."""
    at = "valid" if data.told.valid(data.calendar) else "start"
    told = {"names": list(data.date_names), "features": list(data.told.features), "at": at}
    return {"dates": told} if data.calendar is not None or at == "valid" else {}


# --- latents -------------------------------------------------------------------------------------------------------


def latents(run: Path, emulator: Emulator, data: Trajectories) -> Trajectories:
    """All states of a data set as the run's codec encodes them: made once, kept in the run folder.

    What is known besides stays on the grid of the data, so that networks may take it at its own resolution.
    Their name is a digest of data and weights, so that latents of others never take the place of some in use.
    """
    weights = read_json(run / "emulator.json", "a finished run")["sha256"]
    digest = hashlib.sha256(f"{data.fingerprint()} {weights}".encode()).hexdigest()
    path = run / f"latents-{digest[:16]}.zarr"
    stored = _cached(path)
    if stored is None:
        with locked(run / "latents.lock", wait=True):
            # another process may have made them while this one waited
            stored = _cached(path) or _write_latents(path, emulator, data)
    dated = {"calendar": data.calendar, "forcing_recurs": data.forcing_recurs, "told": data.told}
    return replace(stored, static=data.static, forcing=data.forcing, known_axes=data.axes, **dated)


def _cached(path: Path) -> Trajectories | None:
    try:
        return open_zarr(path)
    except DataError:  # none there, or not whole
        return None


def _write_latents(path: Path, emulator: Emulator, data: Trajectories) -> Trajectories:
    frames = int(np.prod(data.shape[:2]))
    first = _encode(emulator.codec, data.select([0]).window(0, 1))
    template = _template(data, first.shape[2:])
    with write_zarr(path, template, force=True) as writer, progress("encoding", frames) as task:
        for row in range(data.shape[0]):
            writer[[row]] = _encode(emulator.codec, data.select([row]))
            task.advance(data.shape[1])
    return open_zarr(path)


@torch.no_grad()
def _encode(codec: Any, data: Trajectories) -> np.ndarray:
    """Latents (N, T, D, *Z), of some states at a time."""
    rows, times = (places.ravel() for places in np.indices(data.shape[:2]))
    batch = fitting(data, PASS_BYTES, 64)
    encoded = []
    for at in (slice(start, start + batch) for start in range(0, len(rows), batch)):
        states = torch.from_numpy(np.asarray(data.states[rows[at], times[at]], np.float32))
        encoded.append(codec.encode(states, data.fixed(rows[at])))
    return torch.cat(encoded).unflatten(0, data.shape[:2]).numpy()


def _template(data: Trajectories, shape: tuple[int, ...]) -> Trajectories:
    """A data set like `data` with latents (D, *Z) in place of its fields and no states yet."""
    channels, *space = shape
    names = tuple(f"latent_{c}" for c in range(channels))
    return replace(
        data,
        states=unwritten(*data.shape[:2], *shape),
        fields=Fields(names, ("1",) * channels),
        axes=latent_axes(data.axes, tuple(space)),
        static={},
        forcing={},
        forcing_recurs=False,
    )


# --- steppers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prepared:
    """A data set ready for a stepper: what it sees, the whole codec, and the codec's part that is applied per batch."""

    data: Trajectories
    states: Trajectories
    codec: Chain
    pending: Chain
    specs: list[Spec]
    signature: Signature
    layout: Layout
    statistics: str


def prepare(experiment: Experiment) -> Prepared:
    """Resolve the codec: a trained run encodes the data set once, standardisation is fitted to what it then sees."""
    data = data_of(experiment.data)
    states, specs = data, list[Spec]()
    done, pending, found = list[nn.Module](), list[nn.Module](), "none"
    for entry in experiment.codec:
        spec = {"type": entry} if isinstance(entry, str) else dict(entry)
        if spec["type"] == "run" and not specs:
            run = Path(spec["path"])
            emulator = Emulator.load(run)
            _check_same_states(emulator, data, run)
            states = latents(run, emulator, data)
            done += list(_chain(emulator).codecs)
            specs += emulator.spec["codec"]
        elif spec["type"] == "standardize" and not pending:
            pending += build_codec([spec], signature_of(states))[0].codecs
            found = _standardized(pending, states.split("train"), experiment, stored=states is data)
            specs.append(spec)
        else:
            raise ConfigError(
                f"codec entry {spec}: a stepper takes {{type: run, path: …}} of a fitted autoencoder, if any, and then "
                "standardize"
            )
    _, signature = build_codec(specs, signature_of(data))
    layout = layout_of(data, experiment.data.stride)
    return Prepared(data, states, Chain(*done, *pending), Chain(*pending), specs, signature, layout, found)


def _check_same_states(emulator: Emulator, data: Trajectories, run: Path) -> None:
    """A codec tells channels by their place alone."""
    fitted, found = emulator.layout, layout_of(data)
    what = fitted.difference(found)
    if what:
        raise ConfigError(
            f"codec {run} was fitted to {', '.join(fitted.fields.names)} and differs from the data "
            f"({', '.join(found.fields.names)}) in {what}: fit it to these data"
        )


def _chain(emulator: Emulator) -> Chain:
    assert isinstance(emulator.codec, Chain)
    return emulator.codec


def fit_stepper(experiment: Experiment, folder: str | Path, *, resume: bool = False, force: bool = False) -> Emulator:
    """Fit the experiment's stepper on encoded transitions and save the emulator."""
    _check_components(experiment)
    with opened(Path(folder), experiment, resume=resume, force=force) as run:
        ready, stride = prepare(experiment), experiment.data.stride
        guess, guess_spec = _guess(experiment, ready)
        with seeded(experiment.seed, "weights"):
            model = build_stepper(experiment.stepper, ready.signature, guess, Physics(ready.codec, ready.layout))
        if not isinstance(model, LearnedStepper):
            raise ConfigError(f"stepper {experiment.stepper} has nothing to fit")
        validation = experiment.training.validation
        validate = Rollouts(ready.states, ready.pending, stride, validation, experiment.seed)
        transitions = encoded(ready.states.split("train"), ready.pending, stride, experiment.data.memory)
        parameters = _parameters(getattr(model, "network", model), ready.data, experiment)
        with naming(experiment.data.path):
            model.scale_fields(*field_scales(ready.data.split("train")))
        model.prepare(transitions.passes)
        _start(model, experiment, ready)
        trained: Any = _trained(model, transitions, run, validate)
        stepper, known = dict(experiment.stepper), ready.data
        spec = describe(ready.layout, ready.specs, stepper, guess_spec, known.field_names, known.parameter_names)
        spec |= {"parameter_scales": described(parameters), **_dates(known)}
        return _saved(Emulator(ready.codec, trained, ready.layout, spec), trained, run, ready.statistics)


def _guess(experiment: Experiment, ready: Prepared) -> tuple[LearnedStepper | None, Spec | None]:
    """The frozen stepper of another run on the same encoded states, from whose answer the path starts."""
    if experiment.guess is None:
        return None, None
    emulator = _alike("guess", experiment.guess, experiment, ready)
    if not isinstance(emulator.stepper, LearnedStepper) or emulator.stepper.random:
        raise ConfigError(f"guess {experiment.guess} is not a run of a deterministic stepper")
    return emulator.stepper, emulator.spec["stepper"]


def _start(model: LearnedStepper, experiment: Experiment, ready: Prepared) -> None:
    """Give a stepper the weights and the noise law of another run, if training is to start from one."""
    if experiment.start is None:
        return
    emulator = _alike("start", experiment.start, experiment, ready)
    try:
        model.load_state_dict(emulator.stepper.state_dict() if isinstance(emulator.stepper, nn.Module) else {})
    except RuntimeError as error:
        raise ConfigError(
            f"start {experiment.start} has another network, noise or guess than this experiment's stepper: give it the "
            f"same ({shorten(str(error), 120)})"
        ) from error


def _alike(what: str, run: str, experiment: Experiment, ready: Prepared) -> Emulator:
    """The emulator of a run, if it steps the same encoded states as the experiment."""
    emulator, inner = Emulator.load(run), ready.signature
    if not same_weights(_chain(emulator), ready.codec):
        raise ConfigError(f"{what} {run} was fitted with another codec; fit it with this experiment's")
    if emulator.layout != ready.layout or (emulator.spec["fields"], emulator.spec["parameters"]) != (
        inner.fields,
        inner.parameters,
    ):
        raise ConfigError(
            f"{what} {run} was fitted to other fields, another grid or time step; fit it to "
            f"{experiment.data.path} with data.stride {experiment.data.stride}"
        )
    return emulator
