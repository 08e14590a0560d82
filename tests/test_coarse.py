"""A solver as a stepper: its increments on its own grid, in the space of a codec, and as a first guess."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from driftway.coarse import CoarseSolver, Physics, resampled
from driftway.codecs import Chain, Identity, Standardize
from driftway.data import open_data
from driftway.data.axes import Axis, Fields
from driftway.data.layout import Layout
from driftway.emulator import Emulator
from driftway.errors import ConfigError
from driftway.pdes import PRESETS, SpectralPDE
from driftway.randomness import stream
from driftway.workflow import fit_stepper
from tests import small

NAME = "kuramoto-sivashinsky"
NUMBERS: dict[str, Any] = {"size": [64], "length": [22.0], "dt": 0.25, "substeps": 4}
LAYOUT = Layout(Fields(("u",), ("1",)), (Axis.uniform("x", 64, 22.0),), dt=1.0)


def made(numbers: dict[str, Any]) -> SpectralPDE:
    """The solver with these numbers."""
    solver = PRESETS[NAME].override(numbers).solver
    assert isinstance(solver, SpectralPDE)
    return solver


def states(size: int = 64, rows: int = 3) -> Tensor:
    """Smooth states of zero mean, of waves that 32 points hold."""
    solver = made({**NUMBERS, "size": [size], "cutoff": 8})
    return solver.initial(stream("solver", rows=range(rows)))


@pytest.mark.parametrize(("few", "many"), [((12,), (31,)), ((8, 9), (20, 16))], ids=["1-D", "2-D"])
def test_resampling_is_exact_for_waves_that_both_grids_hold(few: tuple[int, ...], many: tuple[int, ...]) -> None:
    def waves(size: tuple[int, ...]) -> Tensor:
        x = torch.meshgrid(*(2 * math.pi * torch.arange(n, dtype=torch.float64) / n for n in size), indexing="ij")
        return sum((3 * place + k).sin() + (k + 1) for k, place in enumerate(x))[None, None]  # type: ignore[union-attr]

    torch.testing.assert_close(resampled(waves(few), many), waves(many), rtol=0, atol=1e-12)
    torch.testing.assert_close(resampled(waves(many), few), waves(few), rtol=0, atol=1e-12)


def test_on_the_grid_of_the_data_it_is_the_solver() -> None:
    stepper = CoarseSolver(Physics(Identity(), LAYOUT), NAME, NUMBERS)
    exact = made(NUMBERS).step(states())
    torch.testing.assert_close(stepper.step(states()), exact, rtol=0, atol=1e-5)


def test_it_takes_as_many_intervals_as_there_are_in_a_step() -> None:
    once = CoarseSolver(Physics(Identity(), LAYOUT), NAME, {**NUMBERS, "substeps": 4})
    often = CoarseSolver(Physics(Identity(), LAYOUT), NAME, {**NUMBERS, "substeps": 1})
    assert (once.intervals, often.intervals) == (1, 4)
    torch.testing.assert_close(once.step(states()), often.step(states()), rtol=0, atol=1e-4)


def test_a_coarse_one_moves_what_it_holds_and_leaves_the_rest_as_it_was() -> None:
    """A wave that 32 points do not hold stays; the others move as on 32 points."""
    x = torch.arange(64) / 64
    fine = 0.1 * (2 * math.pi * 20 * x).sin()
    stepper = CoarseSolver(Physics(Identity(), LAYOUT), NAME, {**NUMBERS, "size": [32]})
    moved = stepper.step(states() + fine)
    torch.testing.assert_close(moved, stepper.step(states()) + fine, rtol=0, atol=1e-5)
    exact = made(NUMBERS).step(states())
    error = [(state - exact).square().mean().sqrt() for state in (stepper.step(states()), states())]
    assert 1e-6 < error[0] < 0.1 * error[1]


def test_it_steps_encoded_states_by_way_of_their_codec() -> None:
    codec = Chain(Standardize(1).fit([0.5], [2.0]))
    plain, encoded = (CoarseSolver(Physics(c, LAYOUT), NAME, NUMBERS) for c in (Identity(), codec))
    made = codec.decode(encoded.step(codec.encode(states())))
    torch.testing.assert_close(made, plain.step(states()), rtol=0, atol=1e-5)


CASES: dict[str, tuple[str, dict[str, Any], Layout]] = {
    r"'kuramoto' is no preset of a periodic box; valid: kolmogorov": ("kuramoto", {}, LAYOUT),
    r"'rayleigh-benard' is no preset of a periodic box": ("rayleigh-benard", {}, LAYOUT),
    r"no number 'sise'; did you mean 'size'": (NAME, {"sise": [32]}, LAYOUT),
    r"the solver has the fields \('u',\), the data \('v',\)": (
        NAME,
        NUMBERS,
        replace(LAYOUT, fields=Fields(("v",), ("1",))),
    ),
    r"22 long, the data's axis 'x' periodic and 20": (
        NAME,
        NUMBERS,
        replace(LAYOUT, axes=(Axis.uniform("x", 64, 20.0),)),
    ),
    r"dt·substeps = 0.4 of the solver must divide the time step 1 of": (NAME, {**NUMBERS, "dt": 0.1}, LAYOUT),
    r"a guess has none, set the forcing to 0": (
        "burgers-stochastic",
        {"length": [22.0], "dt": 0.1},
        LAYOUT,
    ),
}


@pytest.mark.parametrize("message", CASES)
def test_a_solver_that_does_not_fit_is_refused(message: str) -> None:
    preset, numbers, layout = CASES[message]
    with pytest.raises(ConfigError, match=message):
        CoarseSolver(Physics(Identity(), layout), preset, numbers)


def test_a_bridge_from_a_coarse_solver_is_trained_saved_and_loaded(chaos: Path, tmp_path: Path) -> None:
    data = chaos / "chaos.zarr"
    described = {"type": "solver", "preset": NAME, "numbers": {**NUMBERS, "size": [24]}}
    fit_stepper(small.experiment(tmp_path, data, "deterministic", stepper=described), tmp_path / "coarse")
    emulator = fit_stepper(small.experiment(tmp_path, data, guess=str(tmp_path / "coarse")), tmp_path / "bridge")
    loaded = Emulator.load(tmp_path / "bridge")
    start = torch.from_numpy(np.asarray(open_data(data).load().states[:2, 0]))
    assert isinstance(loaded.stepper.guess, CoarseSolver)  # type: ignore[union-attr]
    assert torch.equal(loaded.step(start, seed=3), emulator.step(start, seed=3))
    guessed = Emulator.load(tmp_path / "coarse").step(start)
    exact = made({**NUMBERS, "size": [24]})
    coarse = start + resampled(exact.step(resampled(start, [24])) - resampled(start, [24]), [32])
    torch.testing.assert_close(guessed, coarse, rtol=0, atol=1e-4)
