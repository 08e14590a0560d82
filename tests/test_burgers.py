"""Burgers: the Cole–Hopf solution, exponax, budgets, and the law of the random forcing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from driftway.pdes import PRESETS, Burgers, simulate
from driftway.randomness import stream
from tests.reference import after, exponax

SHOCKS = Burgers(dtype="float64")
STIRRED = Burgers((48,), (3.0,), dtype="float64", forcing=0.7, forced=4, dt=0.02, substeps=3)


def grid(burgers: Burgers) -> Tensor:
    return torch.tensor(burgers.axes[0].coordinates, dtype=torch.float64)


def cole_hopf(burgers: Burgers, time: float, a: float = 0.95) -> Tensor:
    """u = −2ν φ_x/φ of the heat equation's φ = 1 + a e^(−νt) cos x."""
    nu = burgers.viscosity
    b, x = a * math.exp(-nu * time), grid(burgers)
    return (2 * nu * b * torch.sin(x) / (1 + b * torch.cos(x)))[None, None]


def kicks(burgers: Burgers, rows: int, key: str = "kicks") -> Tensor:
    """Random forcing as it is added, (substeps, rows, n)."""
    rest = burgers.to_modes(torch.zeros(rows, 1, burgers.size[0], dtype=torch.float64))
    found = burgers.kicks(rest, stream(0, key, rows=range(rows)))
    assert found is not None
    return torch.stack([burgers.to_grid(kick) for kick in found])[:, :, 0]


# --- deterministic ------------------------------------------------------------------------------------------


def test_the_solution_is_that_of_cole_and_hopf() -> None:
    burgers = Burgers(dtype="float64", viscosity=0.5, dt=0.01, substeps=100)
    start = cole_hopf(burgers, 0.0)
    assert start.abs().max() > 2
    error = burgers.step(start) - cole_hopf(burgers, burgers.interval)
    assert error.abs().max() < 1e-8
    assert (burgers.step(start) - start).abs().max() > 0.5


@pytest.mark.parametrize("order", [2, 4])
def test_exponax_takes_the_same_steps(order: int) -> None:
    burgers = replace(SHOCKS, order=order, dt=0.005)
    theirs = exponax().stepper.Burgers(
        1, burgers.length[0], burgers.size[0], burgers.dt,
        diffusivity=burgers.viscosity, conservative=True, order=order,
    )  # fmt: skip
    state = burgers.initial(stream(0, "exponax", rows=range(2)))
    for steps, tolerance in ((1, 1e-12), (200, 1e-10)):
        ours = replace(burgers, substeps=steps).step(state)
        assert (ours - after(theirs, state, steps)).abs().max() < tolerance * ours.abs().max()
    assert (ours - state).norm() > 0.3 * state.norm()


def test_the_mean_is_conserved_and_energy_is_lost_to_viscosity_alone() -> None:
    """d/dt ½⟨u²⟩ = −ν⟨u_x²⟩, by central differences over two small steps around a shock."""
    small = replace(SHOCKS, dt=1e-4, substeps=1)
    before = SHOCKS.initial(stream(0, "shocks", rows=range(3)))
    for _ in range(8):
        before = SHOCKS.step(before)
    now = small.step(before)
    later = small.step(now)
    rate = (later.square().mean(2) - before.square().mean(2)) / (4 * small.dt)
    slope = SHOCKS.to_grid(SHOCKS.derivative(0) * SHOCKS.to_modes(now)).square().mean(2)
    assert rate.numpy() == pytest.approx(-small.viscosity * slope.numpy(), rel=1e-5)
    assert rate.max() < -0.01
    assert (later.mean(2) - before.mean(2)).abs().max() < 1e-15


def test_the_preset_resolves_its_shocks() -> None:
    """Beside four times the points: 0.3 % of the largest value at worst, as the docstring has it for ν ≥ 0.4 J Δx."""
    solver = PRESETS["burgers"].solver
    assert isinstance(solver, Burgers)
    coarse = replace(solver, dtype="float64", substeps=50)
    fine = replace(coarse, size=(1024,), dt=coarse.dt / 2, substeps=100)
    state = coarse.initial(stream(0, "initial", rows=range(24)))
    other = torch.fft.irfft(torch.fft.rfft(state, norm="forward"), n=1024, norm="forward")
    worst, jump = 0.0, 0.0
    for _ in range(8):
        state, other = coarse.step(state), fine.step(other)
        errors = (state - other[..., ::4]).abs().amax(2) / other.abs().amax(2)
        worst, jump = max(worst, float(errors.max())), max(jump, float((other.amax(2) - other.amin(2)).max()))
    assert coarse.viscosity >= 0.4 * jump * coarse.length[0] / coarse.size[0]
    assert 1e-5 < worst < 3e-3


# --- random forcing -----------------------------------------------------------------------------------------


def test_the_forcing_has_the_stated_covariance() -> None:
    """s² dt K⁻¹ Σ_m cos(k_m(x − x′)): sample covariances scatter by (ρ_xx ρ_x′x′ + ρ_xx′²)^½/√rows."""
    rows = 6000
    x = grid(STIRRED)
    k = 2 * math.pi / STIRRED.length[0] * torch.arange(1, STIRRED.forced + 1)
    variance = STIRRED.forcing**2 * STIRRED.dt
    expected = variance * torch.cos(k[:, None, None] * (x[:, None] - x)).mean(0)
    for substep in kicks(STIRRED, rows):
        found = substep.T @ substep / rows
        scatter = ((variance**2 + expected**2) / rows).sqrt()
        assert ((found - expected) / scatter).abs().max() < 4.5
        assert (substep.mean(0) / math.sqrt(variance / rows)).abs().max() < 4.5
    assert expected.diagonal().numpy() == pytest.approx(variance)


def test_the_forcing_of_two_substeps_is_independent() -> None:
    first, second, _ = kicks(STIRRED, 6000)
    correlation = (first * second).mean(0) / (STIRRED.forcing**2 * STIRRED.dt)
    assert (correlation * math.sqrt(6000)).abs().max() < 4.5


def test_noise_over_an_interval_has_the_variance_of_a_wiener_process_whatever_the_step() -> None:
    """From rest and for a short time nothing but the noise moves u: variance s² t in one substep or in eight."""
    for substeps in (1, 8):
        burgers = replace(STIRRED, dt=1e-4 / substeps, substeps=substeps)
        state = burgers.step(torch.zeros(4000, 1, 48, dtype=torch.float64), stream=stream(1, "w", rows=range(4000)))
        assert state.square().mean().item() == pytest.approx(burgers.forcing**2 * 1e-4, rel=0.04)


def test_the_noise_is_the_same_in_either_precision_and_in_any_batch() -> None:
    single = replace(STIRRED, dtype="float32")
    rest = torch.zeros(5, 1, 48)
    whole = STIRRED.step(rest.double(), stream=stream(0, "kicks", rows=range(5)))
    assert (single.step(rest, stream=stream(0, "kicks", rows=range(5))) - whole).abs().max() < 1e-6
    part = STIRRED.step(rest[:2].double(), stream=stream(0, "kicks", rows=[4, 1]))
    assert (part - whole[[4, 1]]).abs().max() < 1e-13
    assert (whole[0] - whole[1]).abs().max() > 0.01


def test_in_a_steady_state_viscosity_takes_what_the_noise_gives() -> None:
    """½s² = ν⟨u_x²⟩, over 192 trajectories of a wider shock on fewer points."""
    preset = PRESETS["burgers-stochastic"].override(
        {"size": [96], "viscosity": 0.08, "frames": 21, "substeps": 50, "burn_in": 10.0, "trajectories": [192, 0, 0]}
    )
    solver = preset.solver
    assert isinstance(solver, Burgers)
    slopes = []
    for states in simulate(preset, 0, range(192)):
        modes = solver.to_modes(torch.from_numpy(states))
        slopes.append(solver.to_grid(solver.derivative(0) * modes).square().mean((1, 2, 3)))
    losses = solver.viscosity * torch.cat(slopes)
    error = float(losses.std() / math.sqrt(len(losses)))
    assert error < 0.05 * 0.125
    assert losses.mean().item() == pytest.approx(0.5 * solver.forcing**2, abs=3 * error + 0.01 * 0.125)


def test_forcing_without_a_stream_is_an_error() -> None:
    with pytest.raises(ValueError, match="draws from a stream"):
        STIRRED.step(torch.zeros(1, 1, 48))
