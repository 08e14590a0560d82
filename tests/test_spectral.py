"""What every spectral solver does: exact linear part, dealiasing, rows, symmetry, precision, and refusals."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from driftway.errors import ConfigError
from driftway.pdes import PRESETS, Burgers, Kolmogorov, KuramotoSivashinsky, SpectralPDE
from driftway.randomness import Stream, stream

SOLVERS: dict[str, Any] = {
    name: preset.solver
    for name, preset in PRESETS.items()
    if isinstance(preset.solver, SpectralPDE) and name != "kolmogorov-apebench"
}


@dataclass(frozen=True)
class Damped(SpectralPDE):
    """u_t = −(0.5 + 0.1 |k|²) u: every wave decays at its own rate."""

    def linear(self, k: tuple[Tensor, ...]) -> Tensor:
        return -0.5 - 0.1 * sum(component**2 for component in k)

    def nonlinear(self, v: Tensor) -> Tensor:
        return torch.zeros_like(v)

    def initial(self, stream: Stream) -> Tensor:
        return self.random_waves(stream, cutoff=3)


@dataclass(frozen=True)
class FisherKPP(SpectralPDE):
    """The example of `driftway.pdes.spectral`."""

    diffusivity: float = 0.1

    def linear(self, k: tuple[Tensor, ...]) -> Tensor:
        return 1 - self.diffusivity * k[0] ** 2

    def nonlinear(self, v: Tensor) -> Tensor:
        return -self.to_modes(self.to_grid(v) ** 2)

    def initial(self, stream: Stream) -> Tensor:
        return 0.5 + 0.4 * self.random_waves(stream, cutoff=3)


def rows(count: int) -> Stream:
    return stream(0, "initial", rows=range(count))


def forcing(count: int | list[int]) -> Stream:
    return stream(0, "forcing", rows=range(count) if isinstance(count, int) else count)


def started(solver: SpectralPDE, count: int, intervals: int = 3) -> Tensor:
    """States that have left their smooth beginning."""
    state, noise = solver.initial(rows(count)), forcing(count)
    for _ in range(intervals):
        state = solver.step(state, stream=noise)
    return state


def wave(pde: SpectralPDE, numbers: tuple[int, ...], phase: float) -> tuple[Tensor, float]:
    """cos(k·x + phase) on the grid, (1, 1, *S), and |k|²."""
    k = [2 * math.pi * m / length for m, length in zip(numbers, pde.length, strict=True)]
    points = [
        torch.arange(n, dtype=torch.float64) * (length / n) for n, length in zip(pde.size, pde.length, strict=True)
    ]
    mesh = torch.meshgrid(*points, indexing="ij")
    angle = sum((component * x for component, x in zip(k, mesh, strict=True)), torch.tensor(phase))
    return torch.cos(angle)[None, None], sum(component**2 for component in k)


# --- exact linear part --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize(
    ("size", "length", "numbers"),
    [
        ((32,), (5.0,), (3,)),
        ((33,), (2 * math.pi,), (15,)),  # beyond the cut-off
        ((16, 24), (2 * math.pi, 3.0), (2, -3)),
        ((16, 24), (2 * math.pi, 3.0), (7, 1)),  # beyond it along the first axis alone
        ((8, 9, 10), (1.0, 2.0, 3.0), (1, -1, 1)),
    ],
)
def test_a_wave_of_a_linear_equation_decays_exactly(
    size: tuple[int, ...], length: tuple[float, ...], numbers: tuple[int, ...], order: int
) -> None:
    pde = Damped(size, length, dt=0.3, substeps=7, order=order, dtype="float64")
    u, squared = wave(pde, numbers, 0.4)
    expected = math.exp(-(0.5 + 0.1 * squared) * pde.interval) * u
    assert (pde.step(u) - expected).abs().max() < 1e-13


def test_uniform_logistic_growth_is_exact_to_the_order_of_the_step() -> None:
    """u' = u − u² from u₀: u = 1/(1 + (1/u₀ − 1)e⁻ᵗ)."""
    pde = FisherKPP((16,), dt=0.05, substeps=40, dtype="float64")
    u = torch.full((1, 1, 16), 0.1, dtype=torch.float64)
    expected = 1 / (1 + 9 * math.exp(-pde.interval))
    assert pde.step(u).numpy() == pytest.approx(expected, rel=1e-7)


# --- dealiasing ---------------------------------------------------------------------------------------------


@given(st.integers(8, 80), st.integers(0, 2**20))
@settings(max_examples=40, deadline=None)
def test_products_of_kept_waves_do_not_alias(n: int, seed: int) -> None:
    """N on n points has the modes of N on 3n points, where nothing can alias."""
    coarse = KuramotoSivashinsky((n,), dtype="float64", cutoff=1)
    fine = replace(coarse, size=(3 * n,))
    highest = 2 * (n // 2) // 3 - 1
    generator = torch.Generator().manual_seed(seed)
    v = torch.zeros(1, 1, n // 2 + 1, dtype=torch.complex128)
    v[..., 1 : highest + 1] = torch.randn(highest, dtype=torch.complex128, generator=generator)
    padded = torch.zeros(1, 1, 3 * n // 2 + 1, dtype=torch.complex128)
    padded[..., : highest + 1] = 3 * v[..., : highest + 1]
    assert torch.allclose(
        coarse.nonlinear(v)[..., : highest + 1], fine.nonlinear(padded)[..., : highest + 1] / 3, atol=1e-10
    )


@pytest.mark.parametrize("name", SOLVERS)
def test_waves_beyond_the_cut_off_neither_feel_the_others_nor_move_them(name: str) -> None:
    solver = replace(SOLVERS[name], dtype="float64")
    low = started(solver, 1)
    numbers = tuple(n // 2 - 3 for n in solver.size)
    high, _ = wave(solver, numbers, 0.0)
    alone, together = (solver.step(u, stream=forcing(1)) for u in (low, low + 0.1 * high))
    k = tuple(
        torch.tensor(2 * math.pi * m / length, dtype=torch.float64)
        for m, length in zip(numbers, solver.length, strict=True)
    )
    decay = math.exp(float(solver.linear(k)) * solver.interval)
    assert (together - alone - 0.1 * decay * high).abs().max() < 1e-12


# --- rows, symmetry, precision ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOLVERS)
def test_a_row_does_not_depend_on_the_others(name: str) -> None:
    solver = SOLVERS[name]
    count = solver.chunk + 3  # two chunks, of which the second is small
    state = solver.initial(rows(count))
    chosen = [count - 1, 0, 5]
    whole, part = solver.step(state, stream=forcing(count)), solver.step(state[chosen], stream=forcing(chosen))
    assert (whole[chosen] - part).abs().max() < 1e-5


@pytest.mark.parametrize("name", SOLVERS)
def test_declared_shifts_commute_with_a_step(name: str) -> None:
    solver = replace(SOLVERS[name], dtype="float64", **({"forcing": 0.0} if "stochastic" in name else {}))
    state = started(solver, 2)
    for axis, shift in enumerate(solver.symmetry):
        dim = axis - len(solver.size)
        moved = solver.step(state.roll(3 * shift, dim)) - solver.step(state).roll(3 * shift, dim)
        assert shift > 0
        assert moved.abs().max() < 1e-11


@pytest.mark.parametrize("name", SOLVERS)
def test_single_precision_is_the_double_one_rounded(name: str) -> None:
    solver = SOLVERS[name]
    state = started(solver, 2)
    single, double = (replace(solver, dtype=dtype).step(state, stream=forcing(2)) for dtype in ("float32", "float64"))
    assert single.dtype == double.dtype == torch.float32
    error = (single - double).norm() / double.norm()
    assert 0 < error < 1e-5


@pytest.mark.parametrize("name", SOLVERS)
def test_initial_states_are_keyed_by_their_row(name: str) -> None:
    solver = SOLVERS[name]
    many, again = solver.initial(stream(7, "x", rows=range(5))), solver.initial(stream(7, "x", rows=[3, 0]))
    assert torch.equal(many[[3, 0]], again)
    assert not torch.equal(many[0], many[1])
    double = replace(solver, dtype="float64").initial(stream(7, "x", rows=[3]))
    assert (double - many[[3]]).abs().max() < 1e-6 * solver.amplitude


def test_random_waves_have_zero_mean_unit_maximum_and_no_wave_beyond_the_cut_off() -> None:
    pde = Damped((24, 32), (1.0, 1.0), dtype="float64")
    u = pde.random_waves(rows(3), cutoff=4)
    modes = torch.fft.rfft2(u, norm="forward").abs().amax((0, 1))
    assert u.abs().amax((1, 2, 3)).tolist() == pytest.approx([1.0] * 3, rel=1e-14)
    assert u.mean((1, 2, 3)).abs().max() < 1e-15
    assert modes[5:20].max() < 1e-15
    assert modes[:, 5:].max() < 1e-15
    assert modes[[4, -4], :5].min() > 1e-4


def test_axes_hold_what_a_data_set_needs() -> None:
    x, y = Kolmogorov((32, 64), mode=4).axes
    assert (x.name, len(x), x.symmetry, x.boundary) == ("x", 32, 1, "periodic")
    assert (y.name, len(y), y.symmetry) == ("y", 64, 16)
    assert y.coordinates[1] == pytest.approx(2 * math.pi / 64)
    assert y.length == pytest.approx(2 * math.pi)


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"size": (4,)}, "size = .4,., must be ≥ 6"),
        ({"size": (16, 16)}, "size = .* must be as many numbers as length"),
        ({"size": (16, 16), "length": (1.0, 1.0)}, "size = .* must be one number"),
        ({"length": (0.0,)}, "length = .* must be > 0"),
        ({"length": (math.inf,)}, "length = .* finite"),
        ({"dt": 0.0}, "dt = 0.0, must be > 0"),
        ({"dt": math.nan}, "dt = nan, must be > 0"),
        ({"substeps": 0}, "substeps = 0, must be ≥ 1"),
        ({"order": 3}, "order = 3, must be 1, 2 or 4"),
        ({"dealiasing": 1.5}, "dealiasing = 1.5, must be in"),
        ({"dtype": "float16"}, "dtype = 'float16', must be float32 or float64"),
        ({"device": "abacus"}, "device = 'abacus', must be one that torch can use here"),
        ({"viscosity": 0.0}, "viscosity = 0.0, must be > 0"),
        ({"viscosity": math.inf}, "viscosity = inf, must be > 0 and finite"),
        ({"forcing": -1.0}, "forcing = -1.0, must be ≥ 0"),
        ({"forced": 85}, r"forced = 85, must be within 1\.\.84"),
        ({"amplitude": math.nan}, "amplitude = nan, must be finite"),
        ({"cutoff": 0}, r"cutoff = 0, must be within 1\.\.128"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"Burgers: {message}"):
        replace(Burgers(), **numbers)
