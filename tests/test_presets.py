"""Presets: their numbers, how they are replaced, what is refused, and that each of them runs."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from driftway.errors import ConfigError
from driftway.pdes import PRESETS, Counts, Kolmogorov, Preset, RayleighBenard, SpectralPDE, simulate
from driftway.pdes.simulate import conditioning
from driftway.randomness import stream
from driftway.simulate import preset_named

SMALL: dict[str, dict[str, Any]] = {
    name: {"size": [24] * len(preset.axes), "trajectories": [1, 1, 1], "frames": 3, "burn_in": preset.interval}
    for name, preset in PRESETS.items()
}
FLOW = PRESETS["kolmogorov"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_runs_at_a_small_size(name: str) -> None:
    preset = PRESETS[name].override(SMALL[name])
    (states,) = simulate(preset, 0, range(3))
    assert states.shape == (3, 3, len(preset.fields), *preset.solver.size)
    assert np.isfinite(states).all()
    assert np.abs(np.diff(states, axis=1)).max((1, 2, *range(3, states.ndim))).min() > 1e-3
    assert states.std() > 0.01


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_takes_two_steps_at_its_own_size(name: str) -> None:
    solver = PRESETS[name].solver
    state, noise = solver.initial(stream(0, "initial", rows=[0])), stream(0, "forcing", rows=[0])
    following = solver.rollout(state, conditioning(solver, [0]), noise)
    first, second = next(following), next(following)
    assert torch.isfinite(second).all()
    assert not torch.equal(first, second)


def test_splits_put_the_tests_first_so_that_more_training_leaves_them_alone() -> None:
    few, many = (FLOW.override({"trajectories": [n, 2, 3]}) for n in (4, 40))
    assert few.splits == ("test",) * 3 + ("valid",) * 2 + ("train",) * 4
    assert many.splits[:9] == few.splits
    assert len(many.splits) == 45


def test_steps_and_times_agree() -> None:
    preset = FLOW.override({"burn_in": 2.0, "frames": 11, "dt": 0.01, "substeps": 20})
    assert preset.interval == pytest.approx(0.2)
    assert (preset.spin_up, preset.steps) == (10, 20)


def test_overrides_reach_preset_and_solver_and_keep_their_kinds() -> None:
    preset = FLOW.override({"viscosity": 1, "size": [32, 48], "frames": 5, "trajectories": [1, 2, 3], "burn_in": 3})
    assert isinstance(preset.solver, Kolmogorov)
    assert preset.solver.viscosity == 1.0 and isinstance(preset.solver.viscosity, float)
    assert preset.solver.size == (32, 48)
    assert preset.trajectories == Counts(train=1, valid=2, test=3)
    assert isinstance(preset.burn_in, float)
    assert preset.solver.drag == FLOW.solver.drag  # type: ignore[attr-defined]
    assert FLOW.frames == 151


def test_words_of_the_command_line_are_numbers_and_names() -> None:
    preset = preset_named("kolmogorov", ["viscosity=2e-3", "size=[32, 32]", "dtype=float64", "device=cpu"])
    assert preset == FLOW.override({"viscosity": 0.002, "size": [32, 32], "dtype": "float64", "device": "cpu"})
    assert type(preset.solver.dtype) is str


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"viscosty": 0.1}, "preset 'kolmogorov' has no number 'viscosty'; did you mean 'viscosity'."),
        ({"frame": 3}, "preset 'kolmogorov' has no number 'frame'; did you mean 'frames'."),
        ({"forcing": 0.1}, "preset 'kolmogorov' has no number 'forcing'; .*"),
        ({"xyz": 1}, "preset 'kolmogorov' has no number 'xyz'; there are amplitude, burn_in, cutoff, .*, viscosity"),
        ({"name": "x"}, "preset 'kolmogorov' has no number 'name'; .*"),
        ({"frames": 3.0}, "frames = 3.0 is not of the kind of its default 151"),
        ({"substeps": True}, "substeps = True is not of the kind of its default 5"),
        ({"viscosity": "thin"}, "viscosity = 'thin' is not of the kind of its default 0.005"),
        ({"dtype": 64}, "dtype = 64 is not of the kind of its default 'float32'"),
        ({"size": 32}, "size = 32 is not of the kind of its default .64, 64."),
        ({"size": [32]}, "size = .32. is not of the kind of its default .64, 64."),
        ({"size": [32, 32.5]}, "size = 32.5 is not of the kind of its default 64"),
        ({"trajectories": [1, 1]}, r"trajectories must be \[train, valid, test\], such as \[64, 8, 24\], got \[1, 1\]"),
        ({"trajectories": [0, 0, 0]}, "kolmogorov: trajectories = .0, 0, 0., must be ≥ 0, some > 0"),
        ({"trajectories": [4, -1, 0]}, "kolmogorov: trajectories = .4, -1, 0., must be ≥ 0, some > 0"),
        ({"frames": 1}, "kolmogorov: frames = 1, must be ≥ 2 .one transition."),
        ({"burn_in": 0.15}, "kolmogorov: burn_in = 0.15, must be ≥ 0 and a multiple of the interval 0.1"),
        ({"burn_in": -1.0}, "kolmogorov: burn_in = -1, must be ≥ 0 and a multiple of the interval 0.1"),
        ({"burn_in": float("nan")}, "kolmogorov: burn_in = nan, must be ≥ 0 .*"),
        ({"burn_in": float("inf")}, "kolmogorov: burn_in = inf, must be ≥ 0 .*"),
        ({"dt": 0.03, "substeps": 7}, "kolmogorov: burn_in = 15, must be .*"),
        ({"viscosity": -1.0}, "Kolmogorov: viscosity = -1.0, must be > 0 and finite"),
    ],
)
def test_wrong_overrides_are_refused_in_one_line(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        FLOW.override(overrides)
    assert re.fullmatch(message, str(error.value))


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("kolmogorof", [], "unknown preset 'kolmogorof'; did you mean 'kolmogorov'\\? valid: kolmogorov, .*"),
        ("lorenz", [], "unknown preset 'lorenz'; valid: kolmogorov, .*, plasim-t42"),
        ("burgers", ["viscosity"], "override 'viscosity' must be name=value, e.g. viscosity=0.01"),
    ],
)
def test_wrong_names_are_refused_in_one_line(name: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        preset_named(name, overrides)
    assert re.fullmatch(message, str(error.value))


def test_the_documentation_has_every_preset_with_its_numbers() -> None:
    page = (Path(__file__).parents[1] / "docs" / "simulators.md").read_text()
    rows = [
        [cell.strip(" `") for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")
    ]
    table = {cells[0]: cells for cells in rows if len(cells) == 10}
    assert list(table) == [name for name, preset in PRESETS.items() if isinstance(preset.solver, SpectralPDE)]
    for name in table:
        assert not set(_stated(PRESETS[name])) - set(table[name]), name


def test_the_documentation_has_every_preset_of_convection_with_its_numbers() -> None:
    page = (Path(__file__).parents[1] / "docs" / "simulators.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `rayleigh-benard")]
    presets = [preset for preset in PRESETS.values() if isinstance(preset.solver, RayleighBenard)]
    assert len(presets) == 2
    for preset in presets:
        row = next(row for row in rows if row.startswith(f"| `{preset.name}` |"))
        cells = {cell.strip() for cell in row.split("|")}
        solver = preset.solver
        stated = [
            ", ".join(f"{number:g}".replace("e+0", "e").replace("e+", "e").replace("000000", "e6") for number in values)
            for values in (solver.rayleigh, solver.prandtl)
        ]
        own = [
            f"{preset.interval:g}",
            f"{preset.burn_in:g}",
            str(preset.frames),
            "+".join(map(str, preset.trajectories)),
        ]
        assert not {"{}×{}".format(*solver.size), solver.dtype, *own, *stated} - cells, preset.name


def _stated(preset: Preset) -> list[str]:
    """Points, time step, interval, burn-in, frames and trajectories, and the solver's viscosity if it has one."""
    solver = preset.solver
    points = {1: f"{solver.size[0]}", 2: f"{solver.size[0]}²"}[len(solver.size)]
    own = [f"{solver.dt:g}", f"{preset.interval:g}", f"{preset.burn_in:g}", str(preset.frames)]
    viscosity = [f"{solver.viscosity:g}"] if "viscosity" in {field.name for field in fields(solver)} else []  # type: ignore[attr-defined]
    return [points, *own, *viscosity, "+".join(map(str, preset.trajectories))]
