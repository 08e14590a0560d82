"""The configurations of the paper's size build, have about its weights, train and step, on one core of a CPU."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from driftway.build import Signature, build_codec, build_stepper, check_codec, check_stepper
from driftway.data.trajectories import Transition
from driftway.networks.autoencoder import Autoencoder
from driftway.pdes import PRESETS
from driftway.randomness import generator, seeded, stream
from driftway.schema import Experiment, load_experiment
from driftway.steppers import Deterministic, Generative, LearnedStepper, Persistence
from driftway.training import Trainer
from tests.test_experiments import EXPERIMENTS, described

FOLDER = EXPERIMENTS / "paper" / "kolmogorov"
ROWS = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem not in ("base", "autoencoder"))
GENERATIVE = [row for row in ROWS if row not in ("dit", "fno", "unet")]
PERIODIC = ("periodic", "periodic")
FIELDS, LATENTS = Signature(1, PERIODIC), Signature(4, PERIODIC)
WEIGHTS = {"dit": 57.9e6, "fno": 21.0e6, "unet": 36e6}  # published
TINY = {"type": "unet", "width": 8, "blocks": 1, "embedding": 8}


def experiment(row: str) -> Experiment:
    return load_experiment(FOLDER / f"{row}.yaml")


def fields(*shape: int) -> Tensor:
    return torch.from_numpy(generator("fields").standard_normal(shape)).float()


def latent(row: str) -> bool:
    """Whether a row steps latents: 20×20 of four channels, where fields are 160×160 of one."""
    return experiment(row).codec[0]["type"] == "run"


@cache
def network(spec: str, kind: str, guessed: bool) -> nn.Module:
    """The network of a row, made once for all rows that share it."""
    with seeded("paper"):
        signature = LATENTS if json.loads(spec)["type"] == "dit" else FIELDS
        made: Any = build_stepper({"type": kind, "network": json.loads(spec)}, signature, guess(guessed))
    return made.network


def guess(there: bool) -> Persistence | None:
    return Persistence() if there else None


def stepper(row: str) -> LearnedStepper:
    """What the file describes, around a network that other rows have too."""
    chosen = experiment(row)
    spec, guessed = chosen.stepper, chosen.guess is not None
    made = build_stepper({**spec, "network": TINY}, LATENTS if latent(row) else FIELDS, guess(guessed))
    assert isinstance(made, LearnedStepper)
    made.network = network(json.dumps(spec["network"]), spec["type"], guessed)
    return made


def trained(model: nn.Module, chosen: Experiment, batch: Transition) -> list[dict[str, Tensor]]:
    """Loss and gradient norm of two of the trainer's steps with the file's settings and a batch of one."""
    trainer = Trainer(model, lambda step: batch, chosen.training.model_copy(update={"batch": 1}), chosen.seed)
    return [trainer.step(k) for k in range(2)]


def weights(model: nn.Module) -> float:
    """How many, a complex one counted once."""
    return sum(p.numel() / (2 if name.endswith("spectral.weight") else 1) for name, p in model.named_parameters())


def test_every_file_is_sound_and_of_the_data_that_the_preset_makes() -> None:
    preset = PRESETS["kolmogorov-apebench"]
    for row in ("base", "autoencoder", *ROWS):
        chosen = experiment(row)
        assert chosen.name == row
        check_codec(chosen.codec)
        check_stepper(chosen.stepper)
        assert chosen.data.path == "kolmogorov/data.zarr"
        assert chosen.evaluation.leads * chosen.data.stride < preset.frames
    steps, batch = experiment("base").training.steps, experiment("base").training.batch
    assert steps * batch == 1000 * preset.trajectories.train


@pytest.mark.parametrize("row", [row for row in GENERATIVE if row != "interpolant_guess"])
def test_a_method_is_that_of_the_same_name_on_another_network(row: str) -> None:
    ours, same = experiment(row).stepper, described(row)
    assert {**ours, "network": None} == {**same, "network": None}


def test_the_autoencoder_has_the_published_shape() -> None:
    """Its decoder has the published 12.0 million weights; its encoder as many, as it folds before it convolves."""
    codec, signature = build_codec(experiment("autoencoder").codec, FIELDS)
    model = codec.codecs[-1]
    assert isinstance(model, Autoencoder) and signature == LATENTS
    assert not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules())
    decoder = sum(weights(part) for stage in model.stages for part in (stage.unfold, stage.decoder))  # type: ignore
    assert decoder + weights(model.unfold) == pytest.approx(12.04e6, rel=0.01)
    assert weights(model) == pytest.approx(20.48e6, rel=0.2)


@pytest.mark.slow
def test_the_autoencoder_trains() -> None:
    chosen, frames = experiment("autoencoder"), fields(1, 1, 160, 160)
    with seeded("paper"):
        model: Any = build_codec(chosen.codec, FIELDS)[0].codecs[-1]
    model.initialise(frames)
    for found in trained(model, chosen, Transition(frames, frames)):
        assert bool(torch.isfinite(found["loss"] + found["gradient_norm"])) and float(found["gradient_norm"]) > 0
    with torch.no_grad():
        codes = model.encode(frames)
        assert codes.shape == (1, 4, 20, 20) and frames.numel() == 16 * codes.numel()
        assert float(codes.abs().max()) < 5
        assert bool(torch.isfinite(model.decode(codes)).all())


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_about_the_published_weights_trains_and_steps(row: str) -> None:
    chosen, model = experiment(row), stepper(row)
    assert weights(model.network) == pytest.approx(WEIGHTS[chosen.stepper["network"]["type"]], rel=0.1)  # type: ignore
    state = fields(1, 4, 20, 20) if latent(row) else fields(1, 1, 160, 160)
    batch = Transition(state, state + 0.3 * state.flip(2))
    model.prepare(lambda: [batch])
    last: Any = model.network.project  # type: ignore
    before = [weight.clone() for weight in last.parameters()]
    for found in trained(model, chosen, batch):
        assert bool(torch.isfinite(found["loss"] + found["gradient_norm"])) and float(found["gradient_norm"]) > 0
    assert not any(torch.equal(*pair) for pair in zip(before, last.parameters(), strict=True))
    if isinstance(model, Generative):
        model = model.with_sampler(replace(model.sampler, steps=2))
    assert isinstance(model, Generative | Deterministic)
    with torch.no_grad():
        ahead = model.step(state, stream=stream(0, "forecast", rows=[0]))
    assert ahead.shape == state.shape and bool(torch.isfinite(ahead).all())
    assert not torch.equal(ahead, state)
