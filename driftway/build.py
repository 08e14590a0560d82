"""From plain descriptions to objects and back: codecs, steppers and emulators, with weights in safetensors.

A description is a mapping with the `type` of a component, looked up in an explicit table, and its settings. Nothing in
it can name code: a class of one's own comes in by Python, `INTERPOLANTS["mine"] = Mine`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

from torch import Tensor, nn

from driftway.checkpoints import read_json, read_tensors, write_tensors
from driftway.coarse import CoarseSolver, Physics
from driftway.codecs import Chain, Standardize
from driftway.config import check, construct, placed
from driftway.data.axes import Axis, Fields
from driftway.data.layout import Layout, latent_axes
from driftway.densities import DENSITIES, Density
from driftway.emulator import Emulator
from driftway.errors import DataError, DriftwayError, StorageError
from driftway.grids import GRIDS, Grid
from driftway.interpolants import INTERPOLANTS, Interpolant
from driftway.linear import Linear
from driftway.networks import NETWORKS
from driftway.networks.autoencoder import FEWER, Autoencoder, LearnedCodec
from driftway.networks.kl_autoencoder import KLAutoencoder
from driftway.networks.layers import check_sizes, folded
from driftway.noise import NOISES, White
from driftway.predictions import PREDICTIONS, Prediction
from driftway.samplers import SAMPLERS, Sampler
from driftway.steppers import Deterministic, Generative, Persistence, Stepper
from driftway.storage import atomic_write, explained, sha256
from driftway.sums import SUMS, read_sums
from driftway.transport import check_determined
from driftway.version import __version__

FORMAT = 1
AGAIN = "copy the folder again or fit again"
CODECS: dict[str, type[nn.Module]] = {
    "standardize": Standardize,
    "autoencoder": Autoencoder,
    "kl_autoencoder": KLAutoencoder,
}
AUTOENCODERS = tuple(name for name, kind in CODECS.items() if issubclass(kind, LearnedCodec))
STEPPERS: dict[str, type] = {
    "deterministic": Deterministic,
    "generative": Generative,
    "linear": Linear,
    "solver": CoarseSolver,
    "persistence": Persistence,
}
COMPONENTS: dict[type, Mapping[str, type]] = {
    Interpolant: INTERPOLANTS,
    Prediction: PREDICTIONS,
    Density: DENSITIES,
    Sampler: SAMPLERS,
    Grid: GRIDS,
}

Spec = dict[str, Any]


@dataclass(frozen=True)
class FittedRun:
    """The entry {type: run, path: …} of an experiment's codec: that of a fitted run."""

    path: str


@dataclass(frozen=True)
class Part:
    """A component inside a stepper's description that is made before it: its table, and what the program supplies.

    `more` is what it supplies besides to components of some types.
    """

    table: Mapping[str, type]
    given: tuple[str, ...]
    more: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def given_to(self, spec: Spec | str) -> tuple[str, ...]:
        """What the program supplies to the component of this description."""
        return (*self.given, *self.more.get(_type(spec), ()))


CODEC_CONTEXT = {
    "standardize": ("channels",),
    "autoencoder": ("channels", "boundary", "parameters"),
    "kl_autoencoder": ("channels", "boundary", "axes", "names"),
}
NETWORK = Part(
    NETWORKS,
    ("inputs", "outputs", "boundary", "parameters"),
    {"climate_dit": ("fields", "axes", "known_axes"), "sfno": ("axes",)},
)
NOISE = Part(NOISES, ("channels",), {"coloured": ("boundary",)})
PARTS = {"deterministic": {"network": NETWORK}, "generative": {"network": NETWORK, "noise": NOISE}}
# What the program supplies to a stepper besides its parts.
SUPPLIED = {
    "deterministic": ("fields",),
    "generative": ("channels", "guess", "fields"),
    "linear": ("channels", "boundary"),
    "solver": ("physics",),
}


@dataclass(frozen=True)
class Signature:
    """What a stepper or codec works on: channels of the state, of known fields, parameters, and the boundary.

    The last `dates` of the parameters tell the date, which codecs do not know.
    axes, known_axes: of the state and of the known fields, where they are known; names: of the channels of a state in
    physical fields
    """

    channels: int
    boundary: tuple[str, ...]
    fields: int = 0
    parameters: int = 0
    dates: int = 0
    axes: tuple[Axis, ...] | None = None
    known_axes: tuple[Axis, ...] | None = None
    names: tuple[str, ...] = ()


def build_sampler(spec: Spec | str) -> Sampler:
    """A sampler from its description, e.g. {"type": "euler_maruyama", "steps": 2}."""
    return construct(SAMPLERS, spec, nested=COMPONENTS)


def build_codec(specs: Sequence[Spec | str], signature: Signature) -> tuple[Chain, Signature]:
    """The chain of codecs, and what it makes of the state."""
    codecs: list[nn.Module] = []
    for spec in specs:
        told = replace(signature, parameters=signature.parameters - signature.dates)
        context = {name: getattr(told, name) for name in CODEC_CONTEXT.get(_type(spec), ("channels",))}
        codec = construct(CODECS, spec, nested=COMPONENTS, **context)
        codecs.append(codec)
        if isinstance(codec, LearnedCodec):
            signature = _latent(signature, codec)
    return Chain(*codecs), signature


def _latent(signature: Signature, codec: LearnedCodec) -> Signature:
    """What an autoencoder makes of the state."""
    axes = signature.axes
    if axes is not None:
        check_sizes([len(axis) for axis in axes], codec.factor, FEWER)
        axes = latent_axes(axes, tuple(len(axis) // codec.factor for axis in axes))
    ends = folded(signature.boundary, codec.factor)
    return replace(signature, channels=codec.latent, boundary=ends, axes=axes, names=())


def build_stepper(
    spec: Spec | str, signature: Signature, guess: Stepper | None = None, physics: Physics | None = None
) -> Stepper:
    """The stepper of a description; networks learn their numbers of channels here, a solver what states stand for."""
    check_stepper(spec)
    own: Spec = {"type": spec} if isinstance(spec, str) else dict(spec)
    offered: dict[str, Any] = {
        "channels": signature.channels,
        "boundary": signature.boundary,
        "fields": signature.fields,
        "guess": guess,
        "physics": physics,
    }
    context = {name: offered[name] for name in SUPPLIED.get(own["type"], ())}
    parts = PARTS.get(own["type"], {})
    if "network" in parts:
        states = 1 if "noise" not in parts else 2 if guess is None else 3
        context["network"] = _build_network(own.pop("network", "unet"), signature, states)
    if "noise" in parts:
        context["noise"] = _build_noise(own.pop("noise", "fitted"), signature)
    return construct(STEPPERS, own, nested=COMPONENTS, **context)


def _build_network(spec: Spec | str, signature: Signature, states: int) -> nn.Module:
    given = NETWORK.given_to(spec)
    joined = 0 if "fields" in given else signature.fields
    context = {name: getattr(signature, name) for name in given if name not in ("inputs", "outputs")}
    inputs = states * signature.channels + joined
    return construct(NETWORKS, spec, nested=COMPONENTS, inputs=inputs, outputs=signature.channels, **context)


def _build_noise(spec: Spec | str, signature: Signature) -> White:
    context = {name: getattr(signature, name) for name in NOISE.given_to(spec)}
    return construct(NOISES, spec, nested=COMPONENTS, **context)


def check_codec(specs: Sequence[Spec | str]) -> None:
    """Raise the ConfigError that making these codecs would, before there is a data set to make them for."""
    for spec in specs:
        check({**CODECS, "run": FittedRun}, spec, nested=COMPONENTS, given=CODEC_CONTEXT.get(_type(spec), ()))


def check_stepper(spec: Spec | str) -> None:
    """Raise the ConfigError that making this stepper would, before there is a data set to make it for."""
    own: Spec = {"type": spec} if isinstance(spec, str) else dict(spec)
    parts, noise = PARTS.get(_type(spec), {}), own.get("noise", "fitted")
    for name, part in parts.items():
        if name in own:
            described = own.pop(name)
            check(part.table, described, nested=COMPONENTS, given=part.given_to(described))
    given = (*parts, *SUPPLIED.get(_type(spec), ()))
    settings = check(STEPPERS, own, nested=COMPONENTS, given=given, besides=parts)
    if _type(spec) == "generative":
        _build_noise(noise, Signature(1, ()))
        with placed(spec, "prediction"):
            check_determined(settings["interpolant"], settings["prediction"])


def build_emulator(spec: Spec) -> Emulator:
    """An emulator without its weights, from the description that `save_emulator` wrote."""
    layout = _layout(spec["layout"])
    dates, axes = len(spec.get("dates", {}).get("names", ())), layout.axes
    about = (spec["fields"], spec["parameters"], dates, axes, axes, layout.fields.names)
    signature = Signature(len(layout.fields), layout.boundary, *about)
    codec, inner = build_codec(spec["codec"], signature)
    physics = Physics(codec, layout)
    guess = None if spec["guess"] is None else build_stepper(spec["guess"], inner, physics=physics)
    return Emulator(codec, build_stepper(spec["stepper"], inner, guess, physics), layout, spec)


def describe(
    layout: Layout,
    codec: Sequence[Spec],
    stepper: Spec,
    guess: Spec | None = None,
    fields: Sequence[str] = (),
    parameters: Sequence[str] = (),
) -> Spec:
    """The plain description of an emulator; `fields` and `parameters` name what its steps know besides the state."""
    return {
        "format": FORMAT,
        "driftway": __version__,
        "layout": asdict(layout),
        "codec": list(codec),
        "stepper": stepper,
        "guess": guess,
        "fields": len(fields),
        "parameters": len(parameters),
        "field_names": list(fields),
        "parameter_names": list(parameters),
    }


def save_emulator(emulator: Emulator, folder: Path, force: bool = False) -> Path:
    """Write description and weights; the description carries the weights' SHA-256 and is written last."""
    if (folder / "emulator.json").exists() and not force:
        raise StorageError(f"{folder} already holds an emulator; choose another folder or force")
    if not emulator.spec:
        raise DataError("only an emulator with a description can be saved; make it with `driftway.build`")
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SUMS).unlink(missing_ok=True)  # of a run that has another emulator from here on
        digest = write_tensors(folder / "emulator.safetensors", _weights(emulator))
        text = json.dumps({**_with_samplers(emulator), "sha256": digest}, indent=1, ensure_ascii=False)
        atomic_write(folder / "emulator.json", text.encode())
    return folder


def _with_samplers(emulator: Emulator) -> Spec:
    """The description, with the sampler that the stepper has now, and those of its fields."""
    if not isinstance(emulator.stepper, Generative):
        return emulator.spec
    return _resampled(emulator.spec, emulator.stepper.sampler, emulator.samplers)


def _resampled(spec: Spec, sampler: Sampler, samplers: Mapping[str, Sampler]) -> Spec:
    others = {name: part for name, part in spec.items() if name != "samplers"}
    found = {**others, "stepper": {**spec["stepper"], "sampler": describe_sampler(sampler)}}
    by_field = {name: describe_sampler(own) for name, own in samplers.items()}
    return {**found, "samplers": by_field} if by_field else found


def save_sampler(folder: Path, sampler: Sampler, samplers: Mapping[str, Sampler] | None = None) -> None:
    """Give the emulator in `folder` another sampler, or one for each field besides; its weights are not written."""
    path = folder / "emulator.json"
    spec = _resampled(read_json(path, "the folder of a finished run"), sampler, samplers or {})
    (folder / SUMS).unlink(missing_ok=True)
    atomic_write(path, json.dumps(spec, indent=1, ensure_ascii=False).encode())


def describe_sampler(sampler: Sampler) -> Spec:
    """What `build_sampler` makes a sampler from. Raises DataError for one that is in no table."""
    spec = _described(sampler)
    if "type" not in spec:
        raise DataError(f"{sampler} cannot be saved: give it a name first, SAMPLERS['name'] = its class")
    return spec


def _described(component: Any) -> Any:
    """What `construct` makes a component from; one that is in no table has no type."""
    if not is_dataclass(component):
        return component
    names = {kind: name for table in COMPONENTS.values() for name, kind in table.items()}
    settings = {part.name: _described(getattr(component, part.name)) for part in fields(component)}
    return {"type": names[type(component)], **settings} if type(component) in names else settings


def load_emulator(folder: Path) -> Emulator:
    """The emulator in `folder`, checked against its SHA-256, and its description against the run's checksums."""
    path = folder / "emulator.json"
    spec = read_json(path, "the folder of a finished run; go on with its fit and --resume")
    if read_sums(folder).get(path.name) not in (None, sha256(path)):
        raise DataError(f"{path} is not what the run wrote; {AGAIN}")
    if spec.get("format") != FORMAT:
        raise DataError(
            f"{folder}/emulator.json has format {spec.get('format')}, this driftway reads {FORMAT}; update it"
        )
    digest = spec.pop("sha256", None)
    if not isinstance(digest, str):
        raise DataError(f"{folder}/emulator.json lacks the weights' 'sha256'; {AGAIN}")
    tensors = read_tensors(folder / "emulator.safetensors", digest)
    by_field = spec.pop("samplers", {})
    try:
        emulator = build_emulator(spec)
        emulator.load_state_dict(tensors)
        if by_field:
            emulator = emulator.with_samplers({name: build_sampler(own) for name, own in by_field.items()})
    except DriftwayError as error:
        own = f"register a part of your own first (docs/extending.md), or {AGAIN}"
        remedy = own if "unknown type" in str(error) else AGAIN
        raise DataError(f"{folder}/emulator.json describes nothing that can be made: {error}; {remedy}") from error
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = shorten(f"{type(error).__name__}: {error}", 200)
        raise DataError(f"{folder}: emulator.json and emulator.safetensors do not fit ({reason}); {AGAIN}") from error
    return emulator


def _weights(emulator: Emulator) -> dict[str, Tensor]:
    return dict(emulator.state_dict())


def _layout(spec: Mapping[str, Any]) -> Layout:
    fields = Fields(tuple(spec["fields"]["names"]), tuple(spec["fields"]["units"]))
    axes = tuple(Axis(**{**axis, "coordinates": tuple(axis["coordinates"])}) for axis in spec["axes"])
    return Layout(fields, axes, float(spec["dt"]), str(spec["time_units"]))


def _type(spec: Spec | str) -> str:
    return spec if isinstance(spec, str) else str(spec.get("type"))
