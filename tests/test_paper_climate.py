"""Climate at the paper's size: the study is sound, its networks have about the published weights, train and step."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from driftway.build import build_codec, build_stepper
from driftway.data.axes import Fields
from driftway.data.calendar import Calendar
from driftway.data.trajectories import Trajectories, Transition
from driftway.networks import SFNO, ClimateDiT, KLAutoencoder
from driftway.networks.kl_autoencoder import channel_weights
from driftway.parameters import field_scales
from driftway.randomness import generator, seeded, stream
from driftway.steppers import Generative
from driftway.studies.file import Study, load_study
from driftway.workflow import signature_of
from tests.test_climate_network import sphere
from tests.test_experiments import EXPERIMENTS
from tests.test_paper_convection import on_cpu
from tests.test_paper_size import trained, weights

SURFACE = ("evap", "mrro", "mrso", "pl", "pr_12h", "pr_6h", "tas", "ts")
LEVELS = (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000)
ALOFT = tuple(f"{name}{level}" for level in LEVELS for name in ("hus", "ta", "ua", "va", "zg"))
GRID = (64, 128)


@cache
def study() -> Study:
    return load_study(EXPERIMENTS / "paper" / "climate.yaml")


@cache
def stand_in() -> Trajectories:
    """A few states of noise on the Gaussian grid, with the paper's fields, a calendar and what is known each day."""
    rng, names = generator("earth"), (*SURFACE, *ALOFT)
    known = {"lsm": 1.0, "sg": 5e4, "z0": 1.0}, {"rsdt": 500.0, "sic": 1.0, "sst": 500.0}
    static, forcing = (
        {name: scale * rng.random((*lead, *GRID), dtype=np.float32) for name, scale in some.items()}
        for some, lead in zip(known, ((), (3,)), strict=True)
    )
    return Trajectories(
        rng.standard_normal((3, 3, len(names), *GRID), dtype=np.float32),
        Fields(names, ("1",) * len(names)),
        sphere(*GRID),
        6.0,
        "h",
        parameters={"day": np.arange(3.0), "hour": np.array([0.0, 6.0, 12.0])},
        static=static,
        forcing=forcing,
        splits=("train", "valid", "test"),
        calendar=Calendar((0.0, 8760.0, 17520.0), "2000-01-01T00:00"),
    )


def test_every_row_is_of_the_same_network_and_reaches_thirty_days() -> None:
    for name, row in study().rows.items():
        evaluation, network = row.experiment.evaluation, row.experiment.stepper["network"]
        assert evaluation.leads * 6 == 30 * 24, name
        assert network["type"] == ("sfno" if name == "sfno" else "climate_dit"), name
    assert set(study().rows) >= {"deterministic", "interpolant", "ddpm", "edm", "tsm", "flow_matching"}


def test_levels_have_the_published_weights() -> None:
    given = study().autoencoders["autoencoder"].codec[1]["weights"]
    found = channel_weights(73, (*SURFACE, *ALOFT), given).numpy()
    np.testing.assert_array_equal(found[:8], 1)
    np.testing.assert_allclose(found[8:].reshape(13, 5), np.linspace(0.05, 0.065, 13)[:, None].repeat(5, 1), rtol=1e-6)


@pytest.mark.slow
def test_the_autoencoder_has_the_published_shape_and_trains() -> None:
    """Published: 24.8 + 36.3 million weights."""
    chosen, data = on_cpu(study().autoencoders["autoencoder"]), stand_in()
    with seeded("paper"):
        codec, inner = build_codec(chosen.codec, signature_of(data))
    model: Any = codec.codecs[-1]
    assert (
        isinstance(model, KLAutoencoder) and inner.channels == 32 and weights(model) == pytest.approx(61.1e6, rel=0.02)
    )
    batch = data.transitions().batch(np.array([0]), targets=False)
    for found in trained(model, chosen, batch):
        assert bool(torch.isfinite(found["loss"] + found["gradient_norm"])) and float(found["gradient_norm"]) > 0
    with torch.no_grad():
        codes = model.encode(batch.source)
    assert codes.shape == (1, 32, 16, 32) and model.decode(codes).shape == batch.source.shape


@pytest.mark.slow
def test_the_transformer_has_the_published_weights_trains_and_steps() -> None:
    """Published: 313.1 million."""
    chosen, data = on_cpu(study().rows["interpolant"].experiment), stand_in()
    described = study().autoencoders["autoencoder"].codec
    with torch.device("meta"):
        _, inner = build_codec(described, signature_of(data))
    with seeded("paper"):
        model = build_stepper(chosen.stepper, inner)
    assert isinstance(model, Generative)
    network: Any = model.network
    assert isinstance(network, ClimateDiT) and weights(network) == pytest.approx(313.1e6, rel=0.01)
    known = data.conditioning(np.array([0]), np.array([1]))
    model.scale_fields(*field_scales(data))
    state = torch.from_numpy(generator("latents").standard_normal((1, 32, 16, 32))).float()
    batch = Transition(state, state + 0.3 * state.flip(3), known)
    model.prepare(lambda: [batch])
    before = [weight.clone() for weight in network.project.parameters()]
    for found in trained(model, chosen, batch):
        assert bool(torch.isfinite(found["loss"] + found["gradient_norm"])) and float(found["gradient_norm"]) > 0
    assert not any(torch.equal(*pair) for pair in zip(before, network.project.parameters(), strict=True))
    with torch.no_grad():
        ahead = model.step(state, known, stream(0, "forecast", rows=[0]))
    assert ahead.shape == state.shape and bool(torch.isfinite(ahead).all()) and not torch.equal(ahead, state)


def operator(width: int) -> tuple[Any, SFNO]:
    """The row's operator on the stand-in's fields, with this width in place of the published one."""
    chosen, data = on_cpu(study().rows["sfno"].experiment), stand_in()
    _, inner = build_codec(chosen.codec, signature_of(data))
    spec = {**chosen.stepper, "network": {**chosen.stepper["network"], "width": width}}
    with seeded("paper"):
        model: Any = build_stepper(spec, inner)
    assert isinstance(model.network, SFNO)
    return model, model.network


def test_the_operator_works_on_fields_and_has_the_published_width_and_depth() -> None:
    """Its weights are a polynomial of order 2 in the width, of which those of R_l are 12·64·512² = 201 million."""
    row = study().rows["sfno"].experiment
    assert row.codec == ({"type": "standardize"},) and row.evaluation.members == 1
    network = row.stepper["network"]
    assert (network["width"], network["depth"]) == (512, 12)
    counts = [weights(operator(width)[1]) for width in (4, 8, 12)]
    assert operator(4)[1].transform.degree == 63
    assert np.polyval(np.polyfit((4, 8, 12), counts, 2), 512) == pytest.approx(207.4e6, rel=1e-3)


def test_a_narrower_operator_trains_and_steps_on_the_fields_of_the_paper() -> None:
    (model, _), data = operator(8), stand_in()
    batch = data.transitions().batch(np.array([0]))
    model.scale_fields(*field_scales(data))
    for found in trained(model, on_cpu(study().rows["sfno"].experiment), batch):
        assert bool(torch.isfinite(found["loss"] + found["gradient_norm"])) and float(found["gradient_norm"]) > 0
    with torch.no_grad():
        ahead = model.step(batch.source, batch.conditioning, None)
    assert ahead.shape == (1, 73, *GRID) and bool(torch.isfinite(ahead).all())
