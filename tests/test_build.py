"""A description makes the emulator that it describes; a damaged one makes an error, whatever the damage."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from driftway.build import (
    NETWORKS,
    Signature,
    build_codec,
    build_emulator,
    build_sampler,
    build_stepper,
    check_stepper,
    describe,
    load_emulator,
    save_emulator,
)
from driftway.codecs import Identity
from driftway.config import load_yaml
from driftway.data.axes import Axis, Fields
from driftway.data.layout import Layout
from driftway.emulator import Emulator
from driftway.errors import ConfigError, DataError, DriftwayError, StorageError
from driftway.interpolants import INTERPOLANTS, Coefficients, Follmer, Interpolant, as_time
from driftway.noise import Fitted, White
from driftway.predictions import PREDICTIONS, Prediction
from driftway.samplers import EulerMaruyama, Heun
from driftway.steppers import Deterministic, Generative, Persistence

LAYOUT = Layout(Fields(("u", "v"), ("m s-1", "K")), (Axis.uniform("x", 16, 2.0, symmetry=1),), 0.5, "s")
SMALL = {
    "unet": {"width": 8, "blocks": 1, "embedding": 8},
    "dit": {"width": 16, "depth": 1, "heads": 2},
    "fno": {"width": 4, "depth": 1, "modes": 4},
}
STEPPERS: dict[str, dict[str, Any]] = {
    "persistence": {"type": "persistence"},
    "deterministic": {"type": "deterministic", "residual": False},
    "generative": {"type": "generative"},
    "flow": {
        "type": "generative",
        "interpolant": "rectified",
        "prediction": "velocity",
        "density": {"type": "grid", "points": 4},
        "sampler": {"type": "heun", "steps": 2, "grid": {"type": "power", "exponent": 3.0}},
        "noise": {"type": "white", "scale": 2.0},
        "antithetic": True,
    },
    "residual": {
        "type": "generative",
        "interpolant": {"type": "residual", "path": "variance_preserving"},
        "prediction": {"type": "karras", "data_std": 0.3},
        "sampler": {"type": "euler_maruyama", "steps": 2, "diffusion": {"factor": 0.5, "base": "follmer"}},
    },
}
CODECS = {
    "none": [],
    "standardize": [{"type": "standardize"}],
    "autoencoder": ["standardize", {"type": "autoencoder", "stem": 4, "widths": [8], "blocks": 1, "latent": 3}],
}


def small(spec: dict[str, Any], network: str = "unet") -> dict[str, Any]:
    """A stepper's description with a network of few weights."""
    return spec if spec["type"] == "persistence" else {**spec, "network": {"type": network, **SMALL[network]}}


def made(spec: dict[str, Any], codec: str = "standardize", guess: dict[str, Any] | None = None) -> Emulator:
    """An emulator whose weights and buffers are all random."""
    emulator = build_emulator(describe(LAYOUT, CODECS[codec], spec, guess))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in emulator.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(0.3 + 0.1 * torch.rand(tensor.shape, generator=generator))
    return emulator


def forecast(emulator: Emulator) -> np.ndarray:
    state = np.random.default_rng(0).normal(size=(2, 2, 16)).astype(np.float32)
    return emulator.forecast(state, 2, 2)["u"].values


# --- there and back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STEPPERS)
@pytest.mark.parametrize("codec", CODECS)
def test_an_emulator_that_is_saved_and_loaded_makes_the_same_forecast(tmp_path, name, codec):
    emulator = made(small(STEPPERS[name]), codec)
    loaded = load_emulator(save_emulator(emulator, tmp_path / "emulator"))
    assert loaded.layout == LAYOUT and not loaded.training
    assert np.isfinite(forecast(emulator)).all()
    assert (forecast(loaded) == forecast(emulator)).all()


@pytest.mark.parametrize("network", SMALL)
def test_every_network_is_made_saved_and_loaded(tmp_path, network):
    emulator = made(small(STEPPERS["deterministic"], network))
    loaded = load_emulator(save_emulator(emulator, tmp_path / "emulator"))
    assert type(loaded.stepper.network) is NETWORKS[network]
    assert (forecast(loaded) == forecast(emulator)).all()


def test_a_guess_is_saved_with_the_stepper_that_starts_from_it(tmp_path):
    guess = small(STEPPERS["deterministic"])
    emulator = made(small(STEPPERS["generative"]), guess=guess)
    loaded = load_emulator(save_emulator(emulator, tmp_path / "emulator"))
    assert isinstance(loaded.stepper.guess, Deterministic) and not loaded.stepper.guess.residual
    assert (forecast(loaded) == forecast(emulator)).all()


def test_a_sampler_chosen_after_training_is_saved(tmp_path):
    emulator = made(small(STEPPERS["generative"]))
    for sampler in (Heun(3), EulerMaruyama(2, temperature=0.5)):
        other = load_emulator(save_emulator(emulator.with_sampler(sampler), tmp_path / "emulator", force=True))
        assert other.stepper.sampler == sampler
        assert (forecast(other) == forecast(emulator.with_sampler(sampler))).all()


def test_settings_reach_the_objects_they_describe():
    stepper = build_stepper(small(STEPPERS["flow"]), Signature(2, ("periodic",)))
    assert isinstance(stepper, Generative) and stepper.antithetic and type(stepper.noise) is White
    assert stepper.noise.scale.tolist() == [2.0, 2.0] and stepper.sampler.steps == 2
    default = build_stepper("generative", Signature(2, ("periodic",)))
    assert isinstance(default, Generative) and isinstance(default.noise, Fitted) and default.interpolant == Follmer()
    assert isinstance(build_stepper("persistence", Signature(2, ("periodic",))), Persistence)


def test_networks_see_the_state_the_source_the_guess_and_what_is_known():
    signature = Signature(channels=2, boundary=("periodic", "wall"), fields=3, parameters=1)
    channels = {}
    for name, guess in (("deterministic", None), ("generative", None), ("generative", Persistence())):
        stepper = build_stepper(small({"type": name}), signature, guess)
        state = torch.zeros(1, 2, 8, 8)
        seen = []
        stepper.network.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0].shape[1]))
        inputs = {"deterministic": 2, "generative": 4 if guess is None else 6}[name] + 3
        stepper.network(torch.zeros(1, inputs, 8, 8), torch.zeros(1), torch.zeros(1, 1))
        channels[name, guess is None] = seen
        assert state.shape[1] == signature.channels
    assert channels == {("deterministic", True): [5], ("generative", True): [7], ("generative", False): [9]}


def test_a_codec_says_what_it_makes_of_the_state():
    codec, inner = build_codec(CODECS["autoencoder"], Signature(2, ("periodic",), fields=1, parameters=1))
    assert inner == Signature(3, ("periodic",), fields=1, parameters=1)
    assert codec.encode(torch.zeros(1, 2, 16), torch.zeros(1, 1)).shape == (1, 3, 4)


def test_a_class_of_ones_own_is_described_by_the_name_it_was_given(monkeypatch, tmp_path):
    @dataclass(frozen=True)
    class Mine(Follmer):
        pass

    monkeypatch.setitem(INTERPOLANTS, "mine", Mine)
    emulator = made(small({"type": "generative", "interpolant": {"type": "mine", "power": 2}}))
    loaded = load_emulator(save_emulator(emulator, tmp_path / "emulator"))
    assert loaded.stepper.interpolant == Mine(power=2)
    monkeypatch.delitem(INTERPOLANTS, "mine")
    with pytest.raises(
        DataError, match=r"unknown type 'mine'.*register a part of your own first \(docs/extending.md\)"
    ):
        load_emulator(tmp_path / "emulator")


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("genrative", "unknown type 'genrative'; did you mean 'generative'?"),
        ({"type": "deterministic", "netwrok": "unet"}, "did you mean 'network'? valid: network, residual"),
        ({"type": "generative", "network": {"type": "unet", "widht": 8}}, "did you mean 'width'?"),
        ({"type": "generative", "noise": "pink"}, "unknown type 'pink'; valid: coloured, fitted, white"),
        ({"type": "generative", "noise": {"type": "fitted", "per": "cell"}}, "per must be 'channel' or 'all'"),
        ({"type": "generative", "noise": {"type": "fitted", "factor": -1.0}}, "factor must be positive, got -1.0"),
        ({"type": "generative", "noise": {"type": "white", "scale": 0}}, "scale must be positive, got 0"),
        ({"type": "generative", "interpolant": {"type": "follmer", "scale": 0.0}}, "need scale > 0"),
        ({"type": "generative", "channels": 3}, "'channels' of generative is set by the program"),
        ({"type": "generative", "sampler": {"steps": 3}}, "'type' is missing"),
    ],
)
def test_a_stepper_that_cannot_be_made_is_an_error_with_the_remedy(spec, message):
    with pytest.raises(ConfigError) as caught:
        build_stepper(spec, Signature(2, ("periodic",)))
    assert message in str(caught.value)


@dataclass(frozen=True)
class Silent(Follmer):
    """A path of one's own without noise: x1 is all that the network could learn, and x_t tells it already."""

    def gamma(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)


@dataclass(frozen=True)
class Sum(Prediction):
    """x1 + z, which is x_t itself where β = γ."""

    def coefficients(self, interpolant: Interpolant, t: float | Tensor) -> Coefficients:
        zero = torch.zeros_like(as_time(t))
        return Coefficients(zero, zero + 1, zero + 1)


@pytest.mark.parametrize(
    ("interpolant", "prediction"),
    [*(("silent", name) for name in PREDICTIONS), ("follmer", "sum"), ("rectified", "sum")],
)
def test_a_prediction_that_does_not_determine_the_next_state_is_found_in_its_line(
    tmp_path, monkeypatch, interpolant, prediction
):
    """Before there are data to make a stepper for; and when one is made in Python."""
    monkeypatch.setitem(INTERPOLANTS, "silent", Silent)
    monkeypatch.setitem(PREDICTIONS, "sum", Sum)
    path = tmp_path / "a.yaml"
    path.write_text(f"stepper:\n  type: generative\n  interpolant: {interpolant}\n  prediction: {prediction}\n")
    spec = load_yaml(path)["stepper"]
    with pytest.raises(ConfigError) as caught:
        check_stepper(spec)
    assert str(caught.value).startswith(f"{path}:4: stepper.prediction: ")
    assert "do not determine x1" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="do not determine x1"):
        Generative(torch.nn.Identity(), 1, INTERPOLANTS[interpolant](), PREDICTIONS[prediction]())


@pytest.mark.parametrize("interpolant", INTERPOLANTS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_prediction_of_the_package_determines_the_next_state_on_every_path(interpolant, prediction):
    path = {"type": "residual", "path": "rectified"} if interpolant == "residual" else interpolant
    check_stepper({"type": "generative", "interpolant": path, "prediction": prediction})


def test_a_prediction_that_is_left_to_the_default_is_checked_too(monkeypatch):
    monkeypatch.setitem(INTERPOLANTS, "silent", Silent)
    with pytest.raises(ConfigError, match=r"^Drift\(.*do not determine x1"):
        check_stepper({"type": "generative", "interpolant": "silent"})


def test_a_noise_law_that_cannot_be_is_found_in_its_line(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("stepper:\n  type: generative\n  noise:\n    type: fitted\n    factor: -0.5\n")
    with pytest.raises(ConfigError, match=rf"^{path}:4: .*factor must be positive, got -0.5$"):
        check_stepper(load_yaml(path)["stepper"])


def test_an_emulator_that_is_there_is_kept_unless_forced(tmp_path):
    emulator = made(small(STEPPERS["deterministic"]))
    folder = save_emulator(emulator, tmp_path / "emulator")
    before = (folder / "emulator.safetensors").read_bytes()
    with pytest.raises(StorageError, match="already holds an emulator"):
        save_emulator(made(STEPPERS["persistence"]), folder)
    assert (folder / "emulator.safetensors").read_bytes() == before
    save_emulator(made(STEPPERS["persistence"]), folder, force=True)
    assert isinstance(load_emulator(folder).stepper, Persistence)


def test_an_emulator_without_a_description_cannot_be_saved(tmp_path):
    with pytest.raises(DataError, match="only an emulator with a description can be saved"):
        save_emulator(Emulator(Identity(), Persistence(), LAYOUT), tmp_path / "emulator")
    assert list(tmp_path.iterdir()) == []


def test_a_sampler_of_a_class_without_a_name_cannot_be_saved(tmp_path):
    class Mine(Heun):
        pass

    emulator = made(small(STEPPERS["generative"])).with_sampler(Mine(2))
    with pytest.raises(DataError, match="give it a name first"):
        save_emulator(emulator, tmp_path / "emulator")


# --- damage ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_emulator(made(small(STEPPERS["generative"])), tmp_path_factory.mktemp("saved") / "emulator")


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def changed(folder: Path, *path: str, to: Any = None, drop: bool = False) -> None:
    """Change or drop one entry of a description."""
    spec = part = json.loads((folder / "emulator.json").read_text())
    for key in path[:-1]:
        part = part[key]
    if drop:
        del part[path[-1]]
    else:
        part[path[-1]] = to
    (folder / "emulator.json").write_text(json.dumps(spec))


PARTS = "format layout codec stepper guess fields parameters sha256 stepper.type "
PARTS += "layout.fields layout.fields.names layout.axes layout.dt layout.time_units"


@pytest.mark.parametrize("path", PARTS.split())
def test_a_description_that_lacks_a_part_is_an_error_that_names_the_folder(copy, path):
    changed(copy, *path.split("."), drop=True)
    with pytest.raises(DataError) as caught:
        load_emulator(copy)
    assert str(copy) in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format", 2),
        ("layout.fields.names", ["u"]),
        ("layout.axes", []),
        ("layout.axes", [{"name": "x"}]),
        ("codec", [{"type": "run", "path": "x"}]),
        ("codec", "standardize"),
        ("stepper.network.width", 16),
        ("stepper.network.width", -1),
        ("stepper.network.width", "8"),
        ("stepper.type", "deterministic"),
        ("stepper.sampler", {"type": "os.system"}),
        ("guess", {"type": "persistence", "x": 1}),
        ("fields", 1),
        ("fields", "many"),
        ("parameters", 2),
    ],
)
def test_a_description_of_something_else_is_an_error_that_names_the_folder(copy, path, value):
    changed(copy, *path.split("."), to=value)
    with pytest.raises(DataError) as caught:
        load_emulator(copy)
    assert str(copy) in str(caught.value) and len(str(caught.value)) < 600


def entries(spec: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all entries of nested mappings and lists."""
    keys = spec if isinstance(spec, dict) else range(len(spec)) if isinstance(spec, list) else ()
    return [path for key in keys for path in ((*above, key), *entries(spec[key], (*above, key)))]


PLAIN = st.none() | st.booleans() | st.integers(-2, 40) | st.text(max_size=4) | st.just([]) | st.just({}) | st.floats()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_description_with_any_entry_changed_makes_an_emulator_or_an_error(saved, tmp_path_factory, data):
    spec = part = json.loads((saved / "emulator.json").read_text())
    path = data.draw(st.sampled_from(entries(spec)))
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = data.draw(PLAIN)
    folder = tmp_path_factory.getbasetemp() / "changed"
    folder.mkdir(exist_ok=True)
    (folder / "emulator.json").write_text(json.dumps(spec))
    shutil.copy(saved / "emulator.safetensors", folder)
    try:
        assert isinstance(load_emulator(folder), Emulator)
    except DriftwayError as error:
        assert str(folder) in str(error)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "\x00", '{"format": 1}'])
def test_a_description_that_is_no_mapping_is_an_error_that_names_the_file(copy, text):
    (copy / "emulator.json").write_text(text)
    with pytest.raises(DataError, match=r"emulator\.json"):
        load_emulator(copy)


def test_a_flipped_bit_in_the_weights_is_found(copy):
    path = copy / "emulator.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="is damaged: SHA-256"):
        load_emulator(copy)


def test_a_sampler_is_described_by_name_or_mapping():
    assert build_sampler("heun") == Heun()
    assert build_sampler({"type": "heun", "steps": 3}) == Heun(3)
