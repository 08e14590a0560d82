"""Parameters: which enter as logarithms, what is refused, and whether a network that knows them generalises."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from driftway.data import Trajectories, save_zarr
from driftway.data.axes import Axis, Fields
from driftway.emulator import Emulator
from driftway.errors import ConfigError, DataError
from driftway.forecasting import forecast_run
from driftway.metrics import rmse
from driftway.networks import NETWORKS
from driftway.networks.autoencoder import Autoencoder
from driftway.networks.layers import Scaling
from driftway.parameters import fitted_parameters, scale_parameters
from driftway.randomness import generator
from driftway.workflow import fit_autoencoder, fit_stepper
from tests.small import experiment

TRAINED = np.geomspace(0.02, 2, 13)
BETWEEN = np.sqrt(TRAINED[1::3] * TRAINED[2::3])


def decay(rates: np.ndarray, splits: tuple[str, ...], frames: int = 3) -> Trajectories:
    """u' = −a u on 8 points, Δt = 1, from a wave of random phase: nothing in a state tells its rate."""
    rng, axis = generator("decay", *splits), Axis.uniform("x", 8, 1.0, symmetry=1)
    x, phase = np.arange(8) / 8, rng.uniform(0, 1, (len(rates), 1))
    start = np.cos(2 * np.pi * (x + phase))
    kept = np.exp(-np.outer(rates, np.arange(frames)))
    states = (kept[:, :, None] * start[:, None])[:, :, None].astype(np.float32)
    return Trajectories(states, Fields(("u",), ("1",)), (axis,), 1.0, parameters={"rate": rates}, splits=splits)


def whole() -> Trajectories:
    """Two trajectories at each trained rate, validation at some of them, and tests between them."""
    rates = np.concatenate([np.repeat(TRAINED, 2), TRAINED[::6], BETWEEN])
    splits = ("train",) * 26 + ("valid",) * 3 + ("test",) * len(BETWEEN)
    return decay(rates, splits)


def fitted(folder: Path, data: Trajectories, name: str, /, **changes: Any) -> Emulator:
    path = folder / f"{name}.zarr"
    save_zarr(data, path)
    network = {"type": "unet", "width": 16, "blocks": 1, "embedding": 32}
    training = {
        "steps": 250,
        "batch": 16,
        "learning_rate": 5e-3,
        "ema": 0.98,
        "validate_every": 1000,
        "checkpoint_every": 1000,
    }
    stepper = {"type": "deterministic", "network": network}
    settings = {"training": training, "stepper": stepper, **changes}
    return fit_stepper(experiment(folder, path, "deterministic", **settings), folder / name)


def error(emulator: Emulator, data: Trajectories) -> np.ndarray:
    """The error of one step from the first frame of each trajectory, over the size of that frame."""
    rows = np.arange(data.shape[0])
    known = data.conditioning(rows, 0 * rows)
    states = torch.from_numpy(np.asarray(data.states))
    step = emulator.step(states[:, 0], conditioning=known)
    return (rmse(step, states[:, 1], space=1) / rmse(0 * step, states[:, 0], space=1))[:, 0].numpy()


def test_a_network_that_knows_the_rate_generalises_to_others_and_one_that_does_not_cannot(tmp_path: Path) -> None:
    data = whole()
    knows = fitted(tmp_path, data, "knows")
    blind = fitted(tmp_path, replace(data, parameters={}), "blind")
    test = data.split("test")
    there, not_there = error(knows, test), error(blind, replace(test, parameters={}))
    kept = np.exp(-BETWEEN)  # the best that does not know the rate is one number for all
    best = min(np.mean(np.abs(c - kept)) for c in np.linspace(0, 1, 101))
    assert there.max() < 0.03 and not_there.mean() > 0.9 * best > 0.15
    about = knows.spec["parameter_scales"][0]
    assert (about["name"], about["scale"]) == ("rate", "log")
    assert (about["low"], about["high"]) == pytest.approx((0.02, 2))


def test_saved_weights_hold_the_scaling(tmp_path: Path) -> None:
    data = whole()
    knows = fitted(tmp_path, data, "knows", training={"steps": 3})
    again = Emulator.load(tmp_path / "knows")
    np.testing.assert_array_equal(error(knows, data.split("test")), error(again, data.split("test")))
    (scaling,) = [module for module in again.modules() if isinstance(module, Scaling)]
    seen = scaling(torch.tensor(TRAINED, dtype=torch.float32)[:, None])
    assert float(seen.mean()) == pytest.approx(0, abs=1e-5) and float(seen.std(correction=0)) == pytest.approx(1)
    assert float(seen.diff(dim=0).std()) < 1e-5  # evenly spaced, as their logarithms are
    assert json.loads((tmp_path / "knows" / "emulator.json").read_text())["parameter_scales"][0]["scale"] == "log"


@pytest.mark.parametrize("name", ["unet", "dit", "fno", "autoencoder"])
def test_every_network_takes_physical_units(name: str) -> None:
    data = replace(whole(), parameters={"rayleigh": np.geomspace(1e6, 1e8, 33), "prandtl": np.linspace(0.5, 2, 33)})
    small = {"width": 16, "embedding": 16} | ({"depth": 1} if name != "unet" else {"blocks": 1})
    if name == "autoencoder":
        network = Autoencoder(1, ("periodic",), stem=2, widths=(8,), blocks=1, parameters=2)
    else:
        network = NETWORKS[name](1, 1, ("periodic",), parameters=2, **small)
    parameters = fitted_parameters(data)
    assert [(p.name, p.scale) for p in parameters] == [("prandtl", "linear"), ("rayleigh", "log")]
    scale_parameters(network, parameters)
    (scaling,) = [module for module in network.modules() if isinstance(module, Scaling)]
    values = data.split("train").conditioning(np.arange(26), np.zeros(26, int)).params
    assert values is not None
    seen = scaling(values)
    assert float(seen.abs().max()) < 3
    torch.testing.assert_close(seen.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.std(0, correction=0), torch.ones(2), atol=1e-4, rtol=0)


def test_the_rule_is_a_decade_and_a_file_may_say_otherwise() -> None:
    def scales(values: np.ndarray, said: dict[str, str] | None = None) -> str:
        return fitted_parameters(decay(values, ("train",) * len(values)), said)[0].scale

    assert scales(np.array([1.0, 9.9])) == "linear" and scales(np.array([1.0, 10.1])) == "log"
    assert scales(np.array([-1.0, 100.0])) == scales(np.array([0.0, 100.0])) == "linear"
    assert scales(np.array([1.0, 2.0]), {"rate": "log"}) == "log"
    assert scales(np.array([1.0, 200.0]), {"rate": "linear"}) == "linear"
    with pytest.raises(ConfigError, match="no parameter 'rayleigh'; they have rate"):
        scales(np.array([1.0, 2.0]), {"rayleigh": "log"})


def test_a_parameter_that_never_changes_enters_as_zero() -> None:
    data = decay(np.full(3, 1e6), ("train",) * 3)
    (found,) = fitted_parameters(data, {"rate": "log"})
    assert found.std == 1 and found.mean == pytest.approx(np.log(1e6))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1.0, "parameter 'rate' is -1 in trajectory 28 and must be positive, since it enters as its logarithm"),
        (0.0, "parameter 'rate' is 0 in trajectory 28 and must be positive"),
        (np.nan, "parameter 'rate' is nan in trajectory 28 and must be positive"),
    ],
)
def test_a_missing_or_negative_value_is_refused_before_training(tmp_path: Path, value: float, message: str) -> None:
    data = whole()
    data.parameters["rate"][28] = value
    with pytest.raises(DataError, match=message):
        fitted(tmp_path, data, "wrong", data={"path": str(tmp_path / "wrong.zarr"), "parameters": {"rate": "log"}})


def test_a_missing_value_is_refused_whatever_its_scale(tmp_path: Path) -> None:
    data = whole()
    data.parameters["rate"][0] = np.nan
    with pytest.raises(DataError, match="'rate' is nan in trajectory 0 and must be a finite number"):
        fitted(tmp_path, data, "wrong")


def test_forecasts_say_what_is_beyond_the_range_and_refuse_what_has_no_logarithm(tmp_path: Path) -> None:
    data = whole()
    emulator = fitted(tmp_path, data, "some", training={"steps": 2})
    test = data.split("test")
    states = np.asarray(test.states)[:, 0]

    def forecast(rates: np.ndarray) -> Any:
        known = replace(test, parameters={"rate": rates}).conditioning(np.arange(len(rates)), np.zeros(len(rates), int))
        return emulator.forecast(states, 2, conditioning=known)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "beyond" not in forecast(BETWEEN).attrs
    with pytest.warns(
        UserWarning, match="rate = 3 to 4 lies outside the 0.02 to 2 that it was trained at: the forecas"
    ):
        found = forecast(np.array([0.02, 2.0, 3.0, 4.0]))
    assert found.attrs["beyond"] == "rate = 3 to 4 lies outside the 0.02 to 2 that it was trained at"
    with pytest.raises(DataError, match="parameter 'rate' is -1 in trajectory 1 and must be positive"):
        forecast(np.array([0.02, -1.0, 1.0, 1.0]))


def test_the_command_says_what_is_beyond_too(tmp_path: Path) -> None:
    fitted(tmp_path, whole(), "some", training={"steps": 2})
    rates = np.concatenate([whole().parameters["rate"][:-1], [5.0]])
    other = save_zarr(replace(whole(), parameters={"rate": rates}), tmp_path / "other.zarr")
    with pytest.warns(UserWarning, match="extrapolation"):
        found = forecast_run(tmp_path / "some", other, tmp_path / "f.zarr", leads=1, members=1)
    assert found["beyond"] == "rate = 5 lies outside the 0.02 to 2 that it was trained at"
    inside = forecast_run(tmp_path / "some", tmp_path / "some.zarr", tmp_path / "g.zarr", leads=1, members=1)
    assert "beyond" not in inside


def test_an_autoencoder_says_its_parameters_too(tmp_path: Path) -> None:
    path = tmp_path / "data.zarr"
    save_zarr(whole(), path)
    codec = ["standardize", {"type": "autoencoder", "stem": 2, "widths": [8], "blocks": 1, "latent": 2}]
    run = fit_autoencoder(experiment(tmp_path, path, "autoencoder", codec=codec), tmp_path / "run")
    assert [about["scale"] for about in run.spec["parameter_scales"]] == ["log"]
    (scaling,) = [module for module in run.modules() if isinstance(module, Scaling)]
    assert bool(scaling.logarithmic.all()) and float(scaling.std) > 1
