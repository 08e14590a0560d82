"""Kuramoto–Sivashinsky: growth rates, exponax, what the equation conserves, and chaos that does not die."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from driftway.errors import ConfigError
from driftway.pdes import KuramotoSivashinsky
from driftway.randomness import stream
from tests.reference import after, exponax

FLAMES = KuramotoSivashinsky(dtype="float64")


def chaotic(rows: int, intervals: int = 80) -> Tensor:
    state = FLAMES.initial(stream(0, "chaos", rows=range(rows)))
    for _ in range(intervals):
        state = FLAMES.step(state)
    return state


@pytest.mark.parametrize("m", [1, 6, 9, 10, 15])
def test_a_small_wave_grows_or_decays_at_its_linear_rate(m: int) -> None:
    """exp((k² − k⁴) t): growth for k < 1, here m ≤ 9."""
    k = 2 * math.pi * m / FLAMES.length[0]
    x = torch.tensor(FLAMES.axes[0].coordinates, dtype=torch.float64)
    wave = 1e-8 * torch.cos(k * x)[None, None]
    expected = math.exp((k**2 - k**4) * FLAMES.interval) * wave
    assert (FLAMES.step(wave) - expected).abs().max() < 1e-7 * expected.abs().max()
    assert (expected.max() > wave.max()) == (m <= 9)


@pytest.mark.parametrize(("order", "n"), [(2, 160), (4, 256)])
def test_exponax_takes_the_same_steps(order: int, n: int) -> None:
    """One step to rounding; 100 steps, 10 time units, to rounding times the growth of errors."""
    flames = replace(FLAMES, size=(n,), order=order)
    theirs = exponax().stepper.KuramotoSivashinskyConservative(1, flames.length[0], n, flames.dt, order=order)
    state = flames.initial(stream(0, "exponax", rows=range(2)))
    for steps, tolerance in ((1, 1e-11), (100, 1e-9)):
        ours = replace(flames, substeps=steps).step(state)
        assert (ours - after(theirs, state, steps)).abs().max() < tolerance * ours.abs().max()
        assert (ours - state).norm() > 1e-3 * state.norm()


def test_the_mean_is_conserved() -> None:
    state = chaotic(3, 10) + torch.tensor([0.0, 0.3, -1.0], dtype=torch.float64).reshape(3, 1, 1)
    moved = state
    for _ in range(20):
        moved = FLAMES.step(moved)
    assert (moved.mean(2) - state.mean(2)).abs().max() < 1e-13


def test_a_mean_flow_only_carries_the_pattern_along() -> None:
    """u(x, t) + c is the solution from u(x, 0) + c, seen at x + c t: here c t is five cells."""
    state = chaotic(2)
    cells = 5
    speed = cells * FLAMES.length[0] / FLAMES.size[0] / FLAMES.interval
    carried = replace(FLAMES, dt=FLAMES.dt / 20, substeps=200)
    expected = carried.step(state).roll(cells, 2) + speed
    assert (carried.step(state + speed) - expected).abs().max() < 1e-6


def test_reflection_with_change_of_sign_is_a_symmetry() -> None:
    state = chaotic(2)

    def reflected(u: Tensor) -> Tensor:
        return -u.flip(2)

    assert (FLAMES.step(reflected(state)) - reflected(FLAMES.step(state))).abs().max() < 1e-11
    assert (FLAMES.step(state.flip(2)) - FLAMES.step(state).flip(2)).abs().max() > 1e-2


def test_energy_is_gained_by_slopes_and_lost_by_curvature() -> None:
    """d/dt ½⟨u²⟩ = ⟨u_x²⟩ − ⟨u_xx²⟩: the flux does no work."""
    small = replace(FLAMES, dt=1e-4, substeps=1)
    before = chaotic(3)
    now = small.step(before)
    later = small.step(now)
    rate = (later.square().mean(2) - before.square().mean(2)) / (4 * small.dt)
    modes = FLAMES.to_modes(now)
    slope, curvature = (FLAMES.to_grid(FLAMES.derivative(0) ** n * modes).square().mean(2) for n in (1, 2))
    assert rate.numpy() == pytest.approx((slope - curvature).numpy(), abs=1e-6)
    assert slope.min() > 0.3


def test_no_trajectory_of_the_default_length_comes_to_rest() -> None:
    """Energies keep moving: on a length of 16 the waves settle, on 60 they do not."""

    def restlessness(length: float) -> Tensor:
        flames = KuramotoSivashinsky((64,), (length,), dt=0.2, substeps=20)
        state = flames.initial(stream(0, "rest", rows=range(16)))
        energies = []
        for _ in range(150):
            state = flames.step(state)
            energies.append(state.square().mean((1, 2)) / 2)
        return torch.stack(energies[100:]).std(0)

    assert restlessness(60.0).min() > 0.05
    assert restlessness(16.0).median() < 0.005


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"size": (8, 8), "length": (1.0, 1.0)}, "size = .* must be one number"),
        ({"cutoff": 129}, r"cutoff = 129, must be within 1\.\.128"),
        ({"amplitude": math.inf}, "amplitude = inf, must be finite"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"KuramotoSivashinsky: {message}"):
        replace(KuramotoSivashinsky(), **numbers)
