"""Convection at the paper's size: the study is sound, its networks have about the published weights, train and step."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from driftway.build import Signature, build_codec, build_stepper
from driftway.data.trajectories import Conditioning, Transition
from driftway.networks.autoencoder import Autoencoder
from driftway.pdes import PRESETS
from driftway.randomness import generator, seeded, stream
from driftway.schema import Experiment
from driftway.steppers import Generative
from driftway.studies.file import Study, load_study
from tests.test_experiments import EXPERIMENTS
from tests.test_paper_size import trained, weights

CHANNEL = ("periodic", "wall")
FIELDS, LATENTS = Signature(4, CHANNEL, parameters=2), Signature(4, CHANNEL, parameters=2)
KNOWN = Conditioning(params=torch.tensor([[1.0, 1e8]]))


@cache
def study() -> Study:
    return load_study(EXPERIMENTS / "paper" / "rayleigh_benard.yaml")


def on_cpu(chosen: Experiment) -> Experiment:
    """The experiment for a machine without an accelerator."""
    return chosen.model_copy(update={"training": chosen.training.model_copy(update={"device": "cpu"})})


def draws(*shape: int) -> torch.Tensor:
    return torch.from_numpy(generator("fields").standard_normal(shape)).float()


def test_the_study_is_of_the_preset_and_reaches_as_far_as_its_frames() -> None:
    preset = PRESETS["rayleigh-benard-well"]
    assert study().about.data.preset == preset.name
    for row in study().rows.values():
        evaluation, stride = row.experiment.evaluation, row.experiment.data.stride
        assert stride * preset.interval == 0.5 and evaluation.leads * stride < preset.frames
    assert {row.network for row in study().rows.values()} >= {"interpolant", "ddpm", "edm", "tsm", "fno"}


@pytest.mark.slow
def test_the_autoencoder_has_the_published_shape_and_trains() -> None:
    """Published: 25.7 + 31.5 million weights; ours folds before it convolves."""
    chosen = on_cpu(study().autoencoders["autoencoder"])
    with seeded("paper"):
        codec, signature = build_codec(chosen.codec, FIELDS)
    model: Any = codec.codecs[-1]
    assert isinstance(model, Autoencoder) and signature.channels == 4
    frames = draws(1, 4, 128, 64)  # a quarter of each axis: convolutions know no size
    model.initialise(frames)
    for found in trained(model, chosen, Transition(frames, frames, KNOWN)):
        assert bool(torch.isfinite(found["loss"] + found["gradient_norm"])) and float(found["gradient_norm"]) > 0
    with torch.no_grad():
        codes = model.encode(frames, KNOWN.params)
    assert codes.shape == (1, 4, 16, 8) and frames.numel() == 64 * codes.numel()
    assert 40e6 < weights(model) < 75e6


@pytest.mark.slow
def test_the_transformer_has_the_published_weights_trains_and_steps() -> None:
    """Published: 232.7 million."""
    chosen = on_cpu(study().rows["interpolant"].experiment)
    with seeded("paper"):
        model = build_stepper(chosen.stepper, LATENTS)
    assert isinstance(model, Generative)
    network: Any = model.network
    assert weights(network) == pytest.approx(232.7e6, rel=0.1)
    state = draws(1, 4, 64, 16)
    batch = Transition(state, state + 0.3 * state.flip(2), KNOWN)
    model.prepare(lambda: [batch])
    before = [weight.clone() for weight in network.project.parameters()]
    for found in trained(model, chosen, batch):
        assert bool(torch.isfinite(found["loss"] + found["gradient_norm"])) and float(found["gradient_norm"]) > 0
    assert not any(torch.equal(*pair) for pair in zip(before, network.project.parameters(), strict=True))
    with torch.no_grad():
        ahead = model.step(state, KNOWN, stream(0, "forecast", rows=[0]))
    assert ahead.shape == state.shape and bool(torch.isfinite(ahead).all()) and not torch.equal(ahead, state)
