"""The linear model of each mode: exact where the system is linear, the least squares of each mode elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from driftway.data.axes import Axis, Fields
from driftway.data.trajectories import Trajectories, Transition
from driftway.data.zarr_store import save_zarr
from driftway.emulator import Emulator
from driftway.errors import ConfigError, DataError
from driftway.linear import Linear
from driftway.modes import from_modes, to_modes
from driftway.randomness import generator
from driftway.schema import load_experiment
from driftway.training import history
from driftway.workflow import fit_stepper

GRIDS = [(("periodic",), (8,)), (("wall", "periodic"), (3, 6)), (("wall",), (5,))]


def states(count: int, size: tuple[int, ...], channels: int = 2, key: int = 0) -> Tensor:
    return torch.from_numpy(generator("linear", key, *size).standard_normal((count, channels, *size))).float()


def fitted(x: Tensor, y: Tensor, boundary: tuple[str, ...], ridge: float = 1e-4, size: int = 7) -> Linear:
    model = Linear(x.shape[1], boundary, ridge)
    model.prepare(lambda: [Transition(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)])
    return model


def mixed(x: Tensor, boundary: tuple[str, ...]) -> Tensor:
    """A linear system: the channels of each mode are mixed, the higher modes the more damped; plus a constant."""
    modes = to_modes(x, boundary)
    mixing = torch.tensor([[0.9, 0.3], [-0.2, 0.7]]).to(modes)
    damping = torch.linspace(1, 0.5, modes[0, 0].numel()).reshape(modes.shape[2:])
    return 0.3 + from_modes(torch.einsum("dc,bc...->bd...", mixing, modes) * damping, boundary, x.shape[2:])


@pytest.mark.parametrize(("boundary", "size"), GRIDS)
def test_a_linear_system_is_forecast_exactly(boundary: tuple[str, ...], size: tuple[int, ...]) -> None:
    x, new = states(60, size), states(5, size, key=1)
    model = fitted(x, mixed(x, boundary), boundary, ridge=0.0)
    torch.testing.assert_close(model.step(new), mixed(new, boundary), rtol=0, atol=1e-4)


def test_advection_is_linear_and_learned_with_its_phase() -> None:
    x = states(40, (16,), 1)
    model = fitted(x, x.roll(3, -1), ("periodic",), ridge=0.0)
    new = states(4, (16,), 1, key=1)
    torch.testing.assert_close(model.step(new), new.roll(3, -1), rtol=0, atol=1e-4)


def test_it_is_the_least_squares_of_each_mode() -> None:
    x, y = states(50, (6,)), states(50, (6,), key=1)
    model = fitted(x, y, ("periodic",), ridge=0.0)
    X, Y = (np.fft.rfft(each.double().numpy(), norm="ortho") for each in (x, y))
    for k in range(4):
        rows = np.concatenate([X[:, :, k], np.ones((50, 1))], 1)
        solution = np.linalg.lstsq(rows, Y[:, :, k], rcond=None)[0]
        np.testing.assert_allclose(model.matrix[:, :, k], solution[:2].T, atol=1e-5)


def test_nothing_is_learned_from_noise_and_modes_without_power_do_no_harm() -> None:
    x, y = states(4000, (8,), 1), states(4000, (8,), 1, key=1)
    assert float(fitted(x, y, ("periodic",)).step(x).std()) < 0.1
    wave = torch.cos(2 * torch.pi * torch.arange(8) / 8)
    flat = x.mean(-1, keepdim=True) * wave
    assert float((fitted(flat, 0.5 * flat, ("periodic",)).step(flat) - 0.5 * flat).abs().max()) < 1e-3


def test_too_few_transitions_and_states_that_are_not_finite_are_refused() -> None:
    x = states(3, (8,))
    with pytest.raises(DataError, match="3 transitions for a linear model of 2 channels"):
        fitted(x, x, ("periodic",))
    broken = states(30, (8,))
    broken[4, 1, 2] = torch.nan
    with pytest.raises(DataError, match="NaN or infinity"):
        fitted(broken, broken, ("periodic",))
    with pytest.raises(ValueError, match="ridge must not be negative"):
        Linear(1, ("periodic",), ridge=-1.0)


# --- as a run ------------------------------------------------------------------------------------------------------


@pytest.fixture
def advected(tmp_path: Path) -> Path:
    """Trajectories that move by two cells a step."""
    start = states(12, (16,), 1)
    frames = torch.stack([start.roll(2 * step, -1) for step in range(6)], 1).numpy()
    axis = Axis.uniform("x", 16, 1.0, symmetry=1)
    splits = ("train",) * 4 + ("valid",) * 4 + ("test",) * 4
    data = Trajectories(frames, Fields(("u",), ("1",)), (axis,), dt=0.1, splits=splits)
    return save_zarr(data, tmp_path / "data.zarr")


def experiment(tmp_path: Path, data: Path, name: str, stepper: str, more: str = "") -> Path:
    path = tmp_path / f"{name}.yaml"
    lines = [f"name: {name}", f"data: {{path: {data}}}", f"stepper: {stepper}", "training: {steps: 3, batch: 4}", more]
    path.write_text("\n".join(lines))
    return path


def test_a_run_of_a_linear_model_is_fitted_saved_and_a_guess_for_a_bridge(tmp_path: Path, advected: Path) -> None:
    path = experiment(tmp_path, advected, "linear", "linear")
    emulator = fit_stepper(load_experiment(path), tmp_path / "linear")
    assert history(tmp_path / "linear")[-1]["step"] == 0
    again = Emulator.load(tmp_path / "linear")
    start = states(3, (16,), 1, key=5)
    torch.testing.assert_close(again.step(start), start.roll(2, -1), rtol=0, atol=2e-3)
    assert torch.equal(again.step(start), emulator.step(start))

    network = "{type: unet, width: 8, blocks: 1, multipliers: [1], embedding: 8}"
    bridge = f"{{type: generative, noise: {{type: white, scale: 0.1}}, network: {network}}}"
    path = experiment(tmp_path, advected, "bridge", bridge, f"guess: {tmp_path / 'linear'}\n")
    fit_stepper(load_experiment(path), tmp_path / "bridge")
    loaded = Emulator.load(tmp_path / "bridge")
    assert loaded.step(start).shape == start.shape


def test_a_linear_model_of_a_mistyped_setting_is_refused_before_data_are_read(tmp_path: Path) -> None:
    path = experiment(tmp_path, tmp_path / "none.zarr", "linear", "{type: linear, rigde: 0.1}")
    with pytest.raises(ConfigError, match="did you mean 'ridge'"):
        fit_stepper(load_experiment(path), tmp_path / "linear")
