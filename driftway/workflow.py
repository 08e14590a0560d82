"""The two things that are fitted, each from one experiment into one run folder: an autoencoder, then a stepper.

A run folder holds the resolved `config.yaml`, `manifest.json` (versions, seeds, data, times), `metrics.jsonl`,
`checkpoints/` and, when it is finished, the emulator: an autoencoder's run is one whose stepper is persistence.
"""

from __future__ import annotations

import json
import math
import platform
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from driftway.build import Signature, Spec, build_codec, build_stepper, describe, save_emulator
from driftway.codecs import Chain, Standardize
from driftway.data import Trajectories, open_data, open_zarr, statistics, unwritten, write_zarr
from driftway.data.layout import Layout
from driftway.data.trajectories import Axis, Fields, Transition, coarsen
from driftway.emulator import Emulator
from driftway.errors import ConfigError, DataError, StorageError
from driftway.metrics import crps, vrmse
from driftway.networks.autoencoder import Autoencoder
from driftway.progress import progress
from driftway.randomness import stream
from driftway.schema import Experiment, dump
from driftway.steppers import LearnedStepper
from driftway.storage import atomic_write, explained
from driftway.training import Batches, fit
from driftway.version import __version__


def layout_of(data: Trajectories) -> Layout:
    """The layout of a data set's states."""
    return Layout(data.fields, data.axes, data.dt, data.time_units)


def signature_of(data: Trajectories) -> Signature:
    """What a codec or stepper has to work on."""
    return Signature(len(data.fields), data.boundary, data.known, len(data.parameters))


def use_threads(count: int | None) -> None:
    """Let torch use `count` CPU threads; None leaves its own choice."""
    if count is not None:
        torch.set_num_threads(count)


@dataclass(frozen=True)
class Encoded:
    """Transitions as a codec shows them to a stepper."""

    transitions: Any
    codec: nn.Module

    def __len__(self) -> int:
        return len(self.transitions)

    @torch.no_grad()
    def batch(self, indices: np.ndarray) -> Transition:
        source, target, conditioning = self.transitions.batch(indices)
        encode: Any = self.codec.encode
        return Transition(encode(source, conditioning.params), encode(target, conditioning.params), conditioning)


# --- run folders ---------------------------------------------------------------------------------------------------


def finished(folder: Path) -> bool:
    """Whether a run folder holds its emulator."""
    return (folder / "emulator.json").is_file()


def _open_run(folder: Path, experiment: Experiment, resume: bool, force: bool) -> None:
    config = dump(experiment)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        present = folder / "config.yaml"
        if present.exists() and not (resume or force):
            raise StorageError(f"{folder} holds a run already: go on with --resume, start over with --force")
        if resume and present.exists() and present.read_text() != config:
            raise ConfigError(f"{present} differs from the configuration given: resume with the same one, or --force")
        atomic_write(present, config.encode())


def _write_manifest(folder: Path, experiment: Experiment, data: Trajectories, started: float, **facts: Any) -> None:
    manifest = {
        "driftway": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
        "command": " ".join(["driftway", *sys.argv[1:]]),
        "seed": experiment.seed,
        "data": {"path": experiment.data.path, "fingerprint": data.fingerprint()},
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(started)),
        "seconds": round(time.time() - started, 1),
        **facts,
    }
    atomic_write(folder / "manifest.json", json.dumps(manifest, indent=1).encode())


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# --- the autoencoder -----------------------------------------------------------------------------------------------


def fit_autoencoder(experiment: Experiment, folder: Path, *, resume: bool = False, force: bool = False) -> Emulator:
    """Fit the last codec of the experiment, an autoencoder, by reconstruction; those before it normalise."""
    started = time.time()
    _open_run(folder, experiment, resume, force)
    data = open_data(experiment.data.path)
    train = data.split("train").load()
    codec, inner = build_codec(experiment.codec, signature_of(data))
    *before, model = codec.codecs
    if not isinstance(model, Autoencoder) or not all(isinstance(c, Standardize) for c in before):
        raise ConfigError("to fit an autoencoder, codec must be [standardize, autoencoder], in this order")
    seen = Chain(*before)
    _standardize(before, train)
    transitions = Encoded(train.transitions(experiment.data.stride), seen)
    model.initialise(_some_frames(transitions, experiment.seed))
    batches = Batches(transitions, experiment.training.batch, experiment.seed, _symmetry(train, experiment))
    valid = Encoded(data.split("valid").load().transitions(experiment.data.stride), seen)
    trained = fit(
        model,
        batches,
        experiment.training,
        folder,
        seed=experiment.seed,
        resume=resume,
        validate=lambda m: {"valid_vrmse": _reconstruction(m, valid)},
        label="autoencoder",
    )
    spec = describe(layout_of(data), experiment.codec, {"type": "persistence"}, None, inner.fields, inner.parameters)
    emulator = Emulator(Chain(*before, trained), build_stepper("persistence", inner), layout_of(data), spec)
    save_emulator(emulator, folder, force=True)
    _write_manifest(folder, experiment, data, started, parameters=_parameters(trained))
    return emulator


def _standardize(codecs: list[nn.Module], train: Trajectories) -> None:
    found = statistics(train)
    for codec in codecs:
        assert isinstance(codec, Standardize)
        codec.fit(found.mean.tolist(), found.std.tolist())


def _some_frames(transitions: Encoded, seed: int, count: int = 1024) -> Tensor:
    """Evenly spaced frames, enough for a principal component analysis of patches."""
    return transitions.batch(np.linspace(0, len(transitions) - 1, min(count, len(transitions))).astype(int)).source


@torch.no_grad()
def _reconstruction(model: nn.Module, valid: Encoded, count: int = 64) -> float:
    frames = valid.batch(np.linspace(0, len(valid) - 1, min(count, len(valid))).astype(int)).source
    decoded = model.decode(model.encode(frames))  # type: ignore[operator]
    return float(vrmse(decoded, frames, space=frames.ndim - 2).mean())


def _symmetry(data: Trajectories, experiment: Experiment) -> tuple[int, ...]:
    return tuple(axis.symmetry for axis in data.axes) if experiment.training.augment else ()


# --- latents -------------------------------------------------------------------------------------------------------


def latents(run: Path, emulator: Emulator, data: Trajectories, batch: int = 64) -> Trajectories:
    """All states of a data set as the run's codec encodes them: made once, kept in the run folder."""
    path, source = run / "latents.zarr", data.fingerprint()
    weights = json.loads((run / "emulator.json").read_text())["sha256"]
    if path.exists():
        cached = open_zarr(path)
        if (cached.attributes.get("source"), cached.attributes.get("weights")) == (source, weights):
            return cached
    frames = int(np.prod(data.shape[:2]))
    first = _encode(emulator.codec, data.select([0]))
    template = _template(data, first.shape[2:], {"source": source, "weights": weights})
    with write_zarr(path, template, force=True) as writer, progress("encoding", frames) as task:
        for row in range(data.shape[0]):
            writer[[row]] = _encode(emulator.codec, data.select([row]))
            task.advance(data.shape[1])
    return open_zarr(path)


@torch.no_grad()
def _encode(codec: Any, data: Trajectories) -> np.ndarray:
    states = torch.from_numpy(np.asarray(data.states))
    rows, times = (places.ravel() for places in np.indices(states.shape[:2]))
    params = data.conditioning(rows, times).params
    return codec.encode(states.flatten(0, 1), params).unflatten(0, states.shape[:2]).numpy()


def latent_axes(axes: tuple[Axis, ...], shape: tuple[int, ...]) -> tuple[Axis, ...]:
    """The axes of a latent grid; a shift that leaves the law unchanged must be a whole number of latent cells."""
    coarse = []
    for axis, size in zip(axes, shape, strict=True):
        factor = len(axis) // size
        points = np.asarray(axis.coordinates).reshape(size, factor).mean(1)
        symmetry = math.lcm(axis.symmetry, factor) // factor if axis.symmetry else 0
        coarse.append(replace(axis, coordinates=tuple(points.tolist()), symmetry=symmetry))
    return tuple(coarse)


def _template(data: Trajectories, shape: tuple[int, ...], attributes: dict[str, str]) -> Trajectories:
    """A data set like `data` with latents (D, *Z) in place of its fields and no states yet."""
    channels, *space = shape
    names = tuple(f"latent_{c}" for c in range(channels))
    return replace(
        data,
        states=unwritten(*data.shape[:2], *shape),
        fields=Fields(names, ("1",) * channels),
        axes=latent_axes(data.axes, tuple(space)),
        static={name: _coarse(values[None], tuple(space))[0] for name, values in data.static.items()},
        forcing={name: _coarse(values, tuple(space)) for name, values in data.forcing.items()},
        attributes={**data.attributes, **attributes},
    )


def _coarse(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return coarsen(torch.from_numpy(np.array(values, np.float32))[:, None], shape)[:, 0].numpy()


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


def prepare(experiment: Experiment) -> Prepared:
    """Resolve the codec: a trained run encodes the data set once, standardisation is fitted to what it then sees."""
    data = open_data(experiment.data.path)
    states, specs = data, list[Spec]()
    done, pending = list[nn.Module](), list[nn.Module]()
    for entry in experiment.codec:
        spec = {"type": entry} if isinstance(entry, str) else dict(entry)
        if spec["type"] == "run":
            run = Path(spec["path"])
            emulator = Emulator.load(run)
            states = latents(run, emulator, data)
            done += list(emulator.codec.codecs)
            specs += emulator.spec["codec"]
        elif spec["type"] == "standardize" and not pending:
            pending.append(Standardize(len(states.fields)))
            _standardize(pending, states.split("train"))
            specs.append(spec)
        else:
            raise ConfigError(
                f"codec entry {spec}: a stepper takes {{type: run, path: …}} of a fitted autoencoder and standardize"
            )
    _, signature = build_codec(specs, signature_of(data))
    return Prepared(data, states, Chain(*done, *pending), Chain(*pending), specs, signature)


def fit_stepper(experiment: Experiment, folder: Path, *, resume: bool = False, force: bool = False) -> Emulator:
    """Fit the experiment's stepper on encoded transitions and save the emulator."""
    started = time.time()
    _open_run(folder, experiment, resume, force)
    ready = prepare(experiment)
    guess, guess_spec = _guess(experiment, ready)
    model = build_stepper(experiment.stepper, ready.signature, guess)
    if not isinstance(model, LearnedStepper):
        raise ConfigError(f"stepper {experiment.stepper} has nothing to fit")
    train = ready.states.split("train").load()
    transitions = Encoded(train.transitions(experiment.data.stride), ready.pending)
    model.prepare(lambda: _passes(transitions))
    trained = fit(
        model,
        Batches(transitions, experiment.training.batch, experiment.seed, _symmetry(train, experiment)),
        experiment.training,
        folder,
        seed=experiment.seed,
        resume=resume,
        validate=_Rollouts(ready, experiment),
        label=experiment.name,
    )
    layout = replace(layout_of(ready.data), dt=ready.data.dt * experiment.data.stride)
    inner = ready.signature
    spec = describe(layout, ready.specs, dict(experiment.stepper), guess_spec, inner.fields, inner.parameters)
    emulator = Emulator(ready.codec, trained, layout, spec)
    save_emulator(emulator, folder, force=True)
    _write_manifest(folder, experiment, ready.data, started, parameters=_parameters(trained))
    return emulator


def _guess(experiment: Experiment, ready: Prepared) -> tuple[LearnedStepper | None, Spec | None]:
    """The frozen stepper of another run on the same codec, from whose answer the path starts."""
    if experiment.guess is None:
        return None, None
    emulator = Emulator.load(experiment.guess)
    if not isinstance(emulator.stepper, LearnedStepper) or emulator.spec["guess"] is not None:
        raise ConfigError(f"guess {experiment.guess} is not a run of a deterministic stepper")
    if emulator.spec["codec"] != ready.specs:
        raise ConfigError(f"guess {experiment.guess} was fitted with another codec; fit it with this experiment's")
    return emulator.stepper, emulator.spec["stepper"]


def _passes(transitions: Encoded, size: int = 64) -> Any:
    """Every transition once, in batches."""
    return (transitions.batch(np.arange(i, min(i + size, len(transitions)))) for i in range(0, len(transitions), size))


class _Rollouts:
    """Validation by short rollouts of the validation split, in encoded space."""

    def __init__(self, ready: Prepared, experiment: Experiment):
        self.settings, self.seed = experiment.training.validation, experiment.seed
        valid, stride = ready.states.split("valid"), experiment.data.stride
        count = min(self.settings.trajectories, valid.shape[0])
        leads = min(self.settings.leads, (valid.shape[1] - 1) // stride)
        if leads < 1:
            raise DataError(f"validation trajectories have {valid.shape[1]} frames, too few for one step of {stride}")
        window = valid.select(range(count)).window(0, leads * stride + 1).load()
        states = torch.from_numpy(np.asarray(window.states))[:, ::stride]
        self.states = ready.pending.encode(states.flatten(0, 1)).unflatten(0, states.shape[:2])

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        members = self.settings.members if model.random else 1
        now = self.states[:, 0].repeat(members, *(1,) * (self.states.ndim - 2))
        keys = [(row, m) for m in range(members) for row in range(len(self.states))]
        errors, scores, space = [], [], self.states.ndim - 3
        for lead in range(1, self.states.shape[1]):
            now = model.step(now, stream=stream(self.seed, "validate", lead, rows=keys))  # type: ignore[operator]
            ensemble = now.unflatten(0, (members, -1))
            errors.append(float(vrmse(ensemble.mean(0), self.states[:, lead], space=space).mean()))
            scores.append(float(crps(ensemble, self.states[:, lead], space=space).mean()))
        return {"valid_vrmse": float(np.mean(errors)), "valid_crps": float(np.mean(scores))}
