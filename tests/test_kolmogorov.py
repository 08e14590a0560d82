"""Kolmogorov flow: exact solutions, exponax, conservation laws, the enstrophy budget, and a stationary preset."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from driftway.errors import ConfigError
from driftway.pdes import PRESETS, Kolmogorov, simulate
from driftway.randomness import stream
from tests.reference import after, exponax

FLOW = Kolmogorov(dtype="float64", amplitude=10.0)


@dataclass(frozen=True)
class Unforced(Kolmogorov):
    """The same flow without its force."""

    def nonlinear(self, v: Tensor) -> Tensor:
        return super().nonlinear(v) - super().nonlinear(torch.zeros_like(v))


def mesh(flow: Kolmogorov) -> tuple[Tensor, Tensor]:
    """x and y on the grid."""
    x, y = (torch.tensor(axis.coordinates, dtype=torch.float64) for axis in flow.axes)
    return torch.broadcast_tensors(x[:, None], y[None, :])


def laminar(flow: Kolmogorov) -> Tensor:
    k = 2 * math.pi * flow.mode / flow.length[1]
    return (-k * torch.cos(k * mesh(flow)[1]) / (flow.viscosity * k**2 + flow.drag))[None, None]


def turbulent(flow: Kolmogorov, rows: int, intervals: int = 20) -> Tensor:
    state = flow.initial(stream(0, "turbulent", rows=range(rows)))
    for _ in range(intervals):
        state = flow.step(state)
    return state


def mean(product: Tensor) -> Tensor:
    return product.mean((1, 2, 3))


# --- exact solutions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 4])
def test_the_laminar_flow_is_a_fixed_point(order: int) -> None:
    flow = Kolmogorov((32, 48), (3.0, 5.0), dt=0.1, mode=3, viscosity=0.05, order=order, dtype="float64")
    state = laminar(flow)
    assert (flow.step(state) - state).abs().max() < 1e-12


def test_the_laminar_flow_is_unstable_at_the_preset_s_viscosity() -> None:
    flow = Kolmogorov(dtype="float64")
    disturbance = 1e-6 * flow.random_waves(stream(0, "disturbance", rows=range(1)), 3)
    state = laminar(flow) + disturbance
    for _ in range(40):
        state = flow.step(state)
    assert (state - laminar(flow)).norm() > 100 * disturbance.norm()


def test_a_taylor_green_vortex_decays_exactly() -> None:
    """Where Δω = −K² ω advection vanishes: ω decays as exp(−(ν K² + λ) t)."""
    flow = Unforced((32, 32), dt=0.05, dtype="float64")
    x, y = mesh(flow)
    state = (torch.cos(3 * x) * torch.cos(4 * y) + 0.5 * torch.sin(5 * x) + torch.cos(4 * x - 3 * y))[None, None]
    expected = math.exp(-(25 * flow.viscosity + flow.drag) * flow.interval) * state
    assert (flow.step(state) - expected).abs().max() < 1e-12


def test_a_uniform_shear_flow_keeps_the_sign_of_the_curl() -> None:
    """u = sin(2y), v = cos(3x): ω = ∂ₓv − ∂_y u = −3 sin(3x) − 2 cos(2y)."""
    x, y = mesh(FLOW)
    omega = (-3 * torch.sin(3 * x) - 2 * torch.cos(2 * y))[None, None]
    expected = torch.stack([torch.sin(2 * y), torch.cos(3 * x)])[None]
    assert (FLOW.velocity(omega) - expected).abs().max() < 1e-13


def test_velocity_is_free_of_divergence_and_mean() -> None:
    flow = Kolmogorov((32, 48), (3.0, 5.0), dtype="float64", amplitude=10.0)
    velocity = flow.velocity(turbulent(flow, 2))
    modes = flow.to_modes(velocity)
    divergence = flow.derivative(0) * modes[:, :1] + flow.derivative(1) * modes[:, 1:]
    assert flow.to_grid(divergence).abs().max() < 1e-11
    assert velocity.mean((2, 3)).abs().max() < 1e-14


# --- exponax ------------------------------------------------------------------------------------------------


def theirs(flow: Kolmogorov) -> Any:
    return exponax().stepper.KolmogorovFlowVorticity(
        2, flow.length[0], flow.size[0], flow.dt,
        diffusivity=flow.viscosity, drag=-flow.drag, injection_mode=flow.mode, order=flow.order,
    )  # fmt: skip


@pytest.mark.parametrize(("order", "n"), [(2, 48), (4, 64)])
def test_exponax_takes_the_same_steps_with_x_reversed(order: int, n: int) -> None:
    """One step to rounding; 250 steps to rounding times the growth of errors, e⁵ or so."""
    flow = replace(FLOW, size=(n, n), order=order, substeps=1)
    state = turbulent(replace(flow, substeps=5), 2)
    stepper = theirs(flow)
    for steps, tolerance in ((1, 1e-11), (250, 1e-8)):
        ours = replace(flow, substeps=steps).step(state)
        other = after(stepper, state.flip(2).roll(1, 2), steps).flip(2).roll(1, 2)
        assert (ours - other).abs().max() < tolerance * ours.abs().max()
        assert (ours - after(stepper, state, steps)).norm() > 1e-3 * ours.norm()


# --- conservation and the budget ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 32), (27, 40)])
def test_advection_conserves_energy_enstrophy_and_mean(size: tuple[int, int]) -> None:
    """⟨ω u·∇ω⟩ = ⟨ψ u·∇ω⟩ = ⟨u·∇ω⟩ = 0, on the waves that the solver keeps."""
    flow = Unforced(size, (2.0, 3.0), dtype="float64", cutoff=2 * (min(size) // 2) // 3 - 1)
    omega = flow.initial(stream(0, "waves", rows=range(3)))
    modes = flow.to_modes(omega)
    squared = flow.wavenumbers[0] ** 2 + flow.wavenumbers[1] ** 2
    streamfunction = flow.to_grid(modes * torch.where(squared > 0, 1 / squared, 0))
    advection = flow.to_grid(flow.nonlinear(modes) * flow._mask)
    scale = mean(advection.square()).sqrt()
    assert scale.min() > 0.01
    for weight in (omega, streamfunction, torch.ones_like(omega)):
        assert (mean(weight * advection).abs() < 1e-13 * scale * mean(weight.square()).sqrt()).all()


def test_advection_with_aliases_would_not_conserve_enstrophy() -> None:
    flow = Unforced((32, 32), dtype="float64", cutoff=14, dealiasing=1.0)
    omega = flow.initial(stream(0, "waves", rows=range(3)))
    advection = flow.to_grid(flow.nonlinear(flow.to_modes(omega)) * flow._mask)
    scale = (mean(advection.square()) * mean(omega.square())).sqrt()
    assert (mean(omega * advection).abs() > 1e-6 * scale).all()


def test_the_enstrophy_budget_is_the_rate_of_change() -> None:
    """Central differences over two small steps, from states with every wave of the grid."""
    flow = replace(FLOW, dt=1e-4, substeps=1)
    noise = stream(0, "noise", rows=range(3)).normal(torch.empty(3, 1, 64, 64, dtype=torch.float64))
    before = turbulent(FLOW, 3) + 0.1 * noise
    now = flow.step(before)
    later = flow.step(now)
    rate = (mean(later.square()) - mean(before.square())) / (4 * flow.dt)
    budget = flow.enstrophy_budget(now)
    assert budget.total.numpy() == pytest.approx(rate.numpy(), rel=1e-5)
    assert torch.stack(budget[:3]).sum(0).numpy() == pytest.approx(budget.total.numpy(), rel=1e-12)
    assert budget.production.abs().min() > 0.1
    assert budget.viscous.max() < 0
    assert budget.drag.numpy() == pytest.approx(-0.1 * mean(now.square()).numpy(), rel=1e-12)


# --- the preset is stationary -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def history() -> np.ndarray:
    """Energy, enstrophy, palinstrophy and the budget's total of 24 flows of the preset, (24, T, 4), every 0.5 to 30."""
    preset = PRESETS["kolmogorov"].override({"burn_in": 0.0, "frames": 61, "substeps": 25, "trajectories": [24, 0, 0]})
    flow = preset.solver
    assert isinstance(flow, Kolmogorov)
    chunks = []
    for states in simulate(preset, 0, range(24)):
        omega = torch.from_numpy(states).flatten(0, 1)
        energy = flow.velocity(omega).square().sum(1).mean((1, 2)) / 2
        budget = flow.enstrophy_budget(omega)
        palinstrophy = -budget.viscous / (2 * flow.viscosity)
        columns = torch.stack([energy, mean(omega.square()) / 2, palinstrophy, budget.total], 1)
        chunks.append(columns.unflatten(0, states.shape[:2]))
    return torch.cat(chunks).double().numpy()


def drift(values: np.ndarray) -> np.ndarray:
    """The mean slope over trajectories in units of its standard error."""
    times = np.linspace(-1, 1, values.shape[1])
    slopes = np.einsum("rts,t->rs", values, times)
    return slopes.mean(0) / (slopes.std(0, ddof=1) / math.sqrt(len(slopes)))


def test_the_preset_drifts_during_its_burn_in_and_not_after(history: np.ndarray) -> None:
    end = round(PRESETS["kolmogorov"].burn_in / 0.5)
    assert (drift(history[:, : end // 3 + 1, :3]) > 4.0).all()
    assert (np.abs(drift(history[:, end:, :3])) < 3.0).all()


def test_the_budget_averages_to_zero_over_a_stationary_flow(history: np.ndarray) -> None:
    end = round(PRESETS["kolmogorov"].burn_in / 0.5)
    early, late = history[:, : end // 6, 3].mean(1), history[:, end:, 3].mean(1)
    error = late.std(ddof=1) / math.sqrt(len(late))
    assert early.mean() > 0.5
    assert abs(late.mean()) < 3 * error
    assert error < 0.1


# --- symmetry and refusals ----------------------------------------------------------------------------------


def test_a_shift_by_part_of_a_forcing_wave_is_no_symmetry() -> None:
    state = turbulent(FLOW, 1)
    whole = FLOW.symmetry[1]
    for shift, commutes in ((whole, True), (whole // 2, False), (1, False)):
        difference = FLOW.step(state.roll(shift, 3)) - FLOW.step(state).roll(shift, 3)
        assert (difference.abs().max() < 1e-11) == commutes


def test_forcing_waves_that_are_not_whole_cells_leave_no_shift_along_y() -> None:
    assert Kolmogorov((32, 48), mode=5).symmetry == (1, 0)
    assert Kolmogorov((32, 48), mode=4).symmetry == (1, 12)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"size": (64,), "length": (1.0,)}, "size = .* must be two numbers"),
        ({"drag": -0.1}, "drag = -0.1, must be ≥ 0"),
        ({"viscosity": -1.0}, "viscosity = -1.0, must be > 0"),
        ({"mode": 21}, r"mode = 21, must be within 1\.\.20"),
        ({"cutoff": 33}, r"cutoff = 33, must be within 1\.\.32"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"Kolmogorov: {message}"):
        replace(Kolmogorov(), **numbers)
