"""Convection between walls: conditions at the walls, balances, closed forms, the onset, orders, rows and refusals."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from driftway.data import Conditioning
from driftway.errors import ConfigError, DataError, DivergedError
from driftway.pdes import PRESETS, RayleighBenard, Values, legendre, simulate
from driftway.randomness import Stream, stream

ONSET, CRITICAL = 1707.762, 3.117  # Chandrasekhar 1961, table III: Ra and k between rigid walls
FLOW = RayleighBenard(size=(48, 24), rayleigh=Values((2e5,)), drop=(0.5, 1.0), noise=0.1)
EXACT: dict[str, Any] = {"courant": 1e9}  # the internal step is interval / checks


def rows(count: int) -> Stream:
    return stream(0, "initial", rows=range(count))


@pytest.fixture(scope="module")
def developed() -> Tensor:
    """Two rows in which plumes have turned over."""
    state = FLOW.initial(rows(2))
    for _ in range(60):
        state = FLOW.step(state)
    assert float(state[:, 2:].square().mean().sqrt()) > 0.1
    return state


def error(one: Tensor, other: Tensor) -> float:
    """Of all channels but the pressure, over the size of each."""
    difference = (one - other).square().mean((0, 2, 3)).sqrt() / other.square().mean((0, 2, 3)).sqrt()
    return float(difference[[0, 2, 3]].max())


def at_heights(state: Tensor, y: Tensor) -> Tensor:
    """The polynomials through a state's points (B, 4, nx, ny), at other heights."""
    count = state.shape[-1]
    return state @ torch.linalg.inv(legendre.values(count, legendre.chebyshev(count))).T @ legendre.values(count, y).T


def slopes(field: Tensor, solver: RayleighBenard = FLOW) -> tuple[Tensor, Tensor]:
    """∂ₓ and ∂_y of (B, nx, ny), by transforms of its own."""
    nx, ny = field.shape[-2:]
    k = 2j * math.pi / solver.width * torch.fft.rfftfreq(nx, 1 / nx, dtype=torch.float64)[:, None]
    along = torch.fft.irfft(k * torch.fft.rfft(field, dim=-2), n=nx, dim=-2)
    at = legendre.values(ny, legendre.chebyshev(ny))
    return along, field @ (at @ legendre.derivative(ny) @ torch.linalg.inv(at)).T


# --- what always holds ---------------------------------------------------------------------------------------------


def test_the_walls_are_still_and_of_given_buoyancy(developed: Tensor) -> None:
    walls = at_heights(developed, torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert float(walls[:, 2:].abs().max()) < 1e-12
    assert torch.allclose(walls[:, 0], torch.tensor([1.0, 0.0], dtype=torch.float64).expand(2, 48, 2), atol=1e-12)


def test_the_flow_is_free_of_divergence(developed: Tensor) -> None:
    u_x, u_y = slopes(developed[:, 2])
    _, w_y = slopes(developed[:, 3])
    assert float((u_x + w_y).abs().max()) < 1e-10 * float(u_y.abs().max())


def test_stored_states_are_free_of_divergence_to_rounding_of_single_precision(developed: Tensor) -> None:
    stored = developed.float().double()
    u_x, u_y = slopes(stored[:, 2])
    assert float((u_x + slopes(stored[:, 3])[1]).abs().mean()) < 1e-6 * float(u_y.abs().max())


def test_the_modes_hold_a_state(developed: Tensor) -> None:
    back = FLOW.state(FLOW.modes(developed), FLOW.numbers(Conditioning(), 2))
    assert float((back - developed).abs().max()) < 1e-12


def test_the_kinetic_energy_changes_by_production_and_viscosity_alone(developed: Tensor) -> None:
    """Central differences over 2δ against ⟨wb⟩ − ν⟨|∇u|²⟩, whose error falls as δ²."""
    found = []
    for delta in (0.02, 0.01):
        short = replace(FLOW, interval=delta, checks=1, **EXACT)
        middle = short.step(developed)
        last = short.step(middle)
        energies = [FLOW.kinetic_energy(FLOW.modes(state)) for state in (developed, last)]
        budget = FLOW.energy_budget(middle)
        found.append(
            float(((energies[1] - energies[0]) / (2 * delta) - budget.total).abs().max() / budget.viscous.abs().max())
        )
    assert found[0] < 1e-4 and found[0] / found[1] == pytest.approx(4, abs=0.2)


def test_advection_conserves_kinetic_energy_and_the_variance_of_buoyancy(developed: Tensor) -> None:
    v = FLOW.modes(developed)
    n = FLOW.channel.flow
    gain = (v.conj() * FLOW.nonlinear(v)).real
    whole = 2 * gain.sum(-1) - gain[..., 0]
    budget = FLOW.energy_budget(developed)
    assert torch.allclose(whole[:, :n].sum(1), budget.production, rtol=0, atol=1e-14)
    # of θ, which the flow carries up the gradient of conduction: ⟨θ w⟩
    assert torch.allclose(whole[:, n:].sum(1), budget.production, rtol=0, atol=1e-14)


def test_the_dissipation_is_that_of_the_gradients(developed: Tensor) -> None:
    y, weights = legendre.gauss(24)
    gradients = torch.stack([part for channel in (2, 3) for part in slopes(developed[:, channel])], 1)
    squares = (at_heights(gradients, y).square().sum(1).mean(1) * weights).sum(1)
    assert torch.allclose(FLOW.energy_budget(developed).viscous, -((2e5) ** -0.5) * squares, rtol=1e-10)


def test_the_pressure_balances_what_the_flow_does_not_follow(developed: Tensor) -> None:
    """∇p = −∂u/∂t − u·∇u + ν Δu + (0, b) on the grid, with ∂u/∂t from steps to either side."""
    viscosity = 1e4**-0.5
    solver = replace(FLOW, size=(48, 32), rayleigh=Values((1e4,)))
    state = solver.initial(rows(1))
    for _ in range(100):
        state = solver.step(state)
    short = replace(solver, interval=0.002, checks=1, **EXACT)
    middle = short.step(state)
    last = short.step(middle)
    b, p, u, w = middle.unbind(1)
    assert float(w.std()) > 0.05
    for velocity, axis, force in ((u, 0, 0 * b), (w, 1, b)):
        v_x, v_y = slopes(velocity)
        diffusion = slopes(v_x)[0] + slopes(v_y)[1]
        rate = (last - state)[:, 2 + axis] / 0.004
        residual = slopes(p)[axis] + rate + u * v_x + w * v_y - viscosity * diffusion - force
        assert float(residual.abs().max()) < 5e-4 * float(slopes(p)[axis].abs().max()), axis
    y, weights = legendre.gauss(32)
    assert float((at_heights(middle, y)[:, 1].mean(1) * weights).sum().abs()) < 1e-10


def test_turning_a_state_upside_down_turns_its_future(developed: Tensor) -> None:
    """b → 1 − b, w → −w under y → 1 − y."""

    def turned(state: Tensor) -> Tensor:
        b, p, u, w = state.flip(-1).unbind(1)
        return torch.stack([1 - b, p, u, -w], 1)

    assert error(turned(FLOW.step(turned(developed))), FLOW.step(developed)) < 1e-10


# --- closed forms --------------------------------------------------------------------------------------------------


def test_conduction_is_a_solution() -> None:
    state = torch.zeros(1, 4, 48, 24, dtype=torch.float64)
    state[:, 0] = 1 - legendre.chebyshev(24)
    after = FLOW.step(state)
    assert float((after - state)[:, [0, 2, 3]].abs().max()) < 1e-13
    assert FLOW.nusselt(after)[0].tolist() == pytest.approx([1, 1, 1], abs=1e-10)
    # hydrostatic: p = y − y²/2 − 1/3
    y = legendre.chebyshev(24)
    assert float((after[0, 1] - (y - y**2 / 2 - 1 / 3)).abs().max()) < 1e-10


def test_a_wave_of_heat_decays_as_it_must() -> None:
    """θ = ε e^(−κ(π² + 0²)t) sin πy: the same all along, so that it moves nothing."""
    solver = replace(FLOW, size=(16, 24), interval=2.0)
    y = legendre.chebyshev(24)
    state = torch.zeros(1, 4, 16, 24, dtype=torch.float64)
    state[:, 0] = 1 - y + 0.1 * torch.sin(math.pi * y)
    after = solver.step(state)
    decay = math.exp(-((2e5) ** -0.5) * math.pi**2 * 2.0)
    assert float((after[0, 0] - (1 - y) - 0.1 * decay * torch.sin(math.pi * y)).abs().max()) < 1e-12


def test_a_shear_flow_decays_as_it_must() -> None:
    """u = ε e^(−νπ²t) sin πy, with Pr apart from 1."""
    solver = replace(FLOW, size=(16, 24), interval=2.0, prandtl=Values((4.0,)))
    y = legendre.chebyshev(24)
    state = torch.zeros(1, 4, 16, 24, dtype=torch.float64)
    state[:, 0], state[:, 2] = 1 - y, 0.3 * torch.sin(math.pi * y)
    after = solver.step(state)
    decay = math.exp(-((2e5 / 4) ** -0.5) * math.pi**2 * 2.0)
    assert float((after[0, 2] - 0.3 * decay * torch.sin(math.pi * y)).abs().max()) < 1e-9


@pytest.mark.parametrize("prandtl", [0.2, 1.0, 7.0])
@pytest.mark.parametrize("away", [-1e-3, 1e-3])
def test_convection_sets_in_at_the_critical_rayleigh_number(prandtl: float, away: float) -> None:
    """Ra_c = 1707.762 at k = 3.117 for rigid walls at any Pr: what grows above it decays below."""
    assert math.copysign(1, _growth(ONSET * (1 + away), CRITICAL, prandtl)) == math.copysign(1, away)


def test_other_waves_grow_later_than_the_critical_one() -> None:
    for k in (2.8, 3.4):
        assert _growth(ONSET * 1.001, k, 1.0) < 0


def _growth(rayleigh: float, k: float, prandtl: float) -> float:
    """The rate of growth of the slowest mode of a wave."""
    solver = RayleighBenard(
        size=(8, 24),
        width=2 * math.pi / k,
        rayleigh=Values((rayleigh,)),
        prandtl=Values((prandtl,)),
        interval=20.0,
        checks=64,
    )
    y, x = legendre.chebyshev(24), torch.arange(8, dtype=torch.float64) * solver.width / 8
    state = torch.zeros(1, 4, 8, 24, dtype=torch.float64)
    state[:, 0] = 1 - y + 1e-6 * torch.cos(k * x)[:, None] * torch.sin(math.pi * y)
    sizes = []
    for _ in range(4):
        state = solver.step(state)
        sizes.append(float(FLOW.kinetic_energy(solver.modes(state))))
    assert sizes[-1] < 1e-8
    return math.log(sizes[-1] / sizes[-2]) / (2 * solver.interval)


# --- orders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "least"), [(1, 0.9), (2, 1.9), (4, 3.5)])
def test_the_time_step_has_its_order(developed: Tensor, order: int, least: float) -> None:
    def after(checks: int, order: int) -> Tensor:
        return replace(FLOW, order=order, checks=checks, interval=0.5, **EXACT).step(developed)

    finest = after(128, 4)
    coarse, fine = (error(after(checks, order), finest) for checks in (8, 16))
    assert math.log2(coarse / fine) > least


def test_more_points_converge_faster_than_any_power() -> None:
    """A smooth state, 2 time units on: errors against 96×48."""
    found = []
    fine = replace(FLOW, size=(96, 48), interval=2.0)
    y = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    for size in ((96, 48), (24, 12), (32, 16), (48, 24)):
        solver = replace(fine, size=size)
        x, heights = (torch.tensor(axis.coordinates, dtype=torch.float64) for axis in solver.axes)
        state = torch.zeros(1, 4, *size, dtype=torch.float64)
        state[0, 0] = 1 - heights + 0.2 * torch.cos(math.pi * x / 2)[:, None] * torch.sin(math.pi * heights)
        found.append(at_heights(solver.step(state), y)[:, :, :: size[0] // 8])
    first, second, third = (error(state, found[0]) for state in found[1:])
    assert third < 1e-5 and second < first / 10 and third < second / 10, (first, second, third)


# --- rows, numbers and refusals ------------------------------------------------------------------------------------


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    """Of other Ra and Pr, and with other internal steps."""
    numbers = torch.tensor([[1.0, 2e5], [0.2, 1e6], [5.0, 1e4]], dtype=torch.float64)
    solver = replace(FLOW, courant=0.3)
    state = solver.initial(rows(3))
    alone = [state[[row]] for row in range(3)]
    for _ in range(40):
        state = solver.step(state, Conditioning(params=numbers))
        alone = [solver.step(one, Conditioning(params=numbers[[row]])) for row, one in enumerate(alone)]
    assert len(set(solver._counts(solver.modes(state)))) > 1
    for row, one in enumerate(alone):
        assert float((state[row] - one[0]).abs().max()) < 1e-12


def test_initial_states_are_those_of_the_data_set_s_description() -> None:
    state = replace(FLOW, noise=1e-3).initial(rows(64))
    y = legendre.chebyshev(24)
    drops = state[:, 0, :, 0].mean(1) / (1 - y[0])
    assert 0.5 < float(drops.min()) < 0.55 and 0.95 < float(drops.max()) < 1.0
    noise = state[:, 0] - drops.view(-1, 1, 1) * (1 - y)
    assert torch.allclose(noise.std((0, 1)), 1e-3 * y * (1 - y), rtol=0.1)
    assert not state[:, 1:].any()
    assert torch.equal(FLOW.initial(stream(0, "initial", rows=[1]))[0], FLOW.initial(rows(2))[1])


def test_trajectories_take_the_pairs_of_rayleigh_and_prandtl_numbers_in_turn() -> None:
    solver = replace(FLOW, rayleigh=Values((1e4, 1e5)), prandtl=Values((0.5, 1.0, 2.0)))
    found = solver.parameters(range(7))
    assert found["Rayleigh"].tolist() == [1e4, 1e4, 1e4, 1e5, 1e5, 1e5, 1e4]
    assert found["Prandtl"].tolist() == [0.5, 1.0, 2.0, 0.5, 1.0, 2.0, 0.5]
    with pytest.raises(ConfigError, match="several values of Ra or Pr"):
        solver.step(solver.initial(rows(1)))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([[1e5]], r"convection needs Prandtl and Rayleigh of 1 rows, got \(1, 1\) numbers"),
        ([[1.0, 1e5], [1.0, 1e5]], r"convection needs Prandtl and Rayleigh of 1 rows, got \(2, 2\) numbers"),
        ([[1.0, -1e5]], "Prandtl and Rayleigh must be > 0 and finite, got .*-100000"),
        ([[math.nan, 1e5]], "Prandtl and Rayleigh must be > 0 and finite, got .*nan"),
    ],
)
def test_numbers_that_are_missing_or_negative_are_told(numbers: list[list[float]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        FLOW.step(FLOW.initial(rows(1)), Conditioning(params=torch.tensor(numbers)))


def test_a_preset_steps_each_trajectory_with_its_own_numbers() -> None:
    numbers = {"size": [48, 24], "rayleigh": [1e4, 2e5], "prandtl": [1], "frames": 3, "trajectories": [2, 0, 0]}
    preset = PRESETS["rayleigh-benard"].override({**numbers, "burn_in": 10, "noise": 0.1, "dtype": "float64"})
    (states,) = simulate(preset, 0, range(2))
    solver = replace(FLOW, drop=(0.2, 1.0), rayleigh=Values((2e5,)), courant=1.0)
    state = solver.initial(rows(2))[[1]]
    for _ in range(40):
        state = solver.step(state)
    assert np.abs(states[1, 0] - state[0].numpy()).max() < 1e-6
    assert states[0, :, 3].std() < states[1, :, 3].std() / 2


def test_single_precision_is_close_and_stays_single() -> None:
    state = FLOW.initial(rows(1))
    single, double = (
        replace(FLOW, dtype=dtype).step(state.to(precision))
        for dtype, precision in (("float32", torch.float32), ("float64", torch.float64))
    )
    assert single.dtype == torch.float32
    assert float((single - double).abs().max()) < 1e-5


def test_a_grid_too_coarse_is_called_so() -> None:
    preset = PRESETS["rayleigh-benard"].override(
        {"size": [24, 16], "rayleigh": [1e9], "prandtl": [10], "burn_in": 0, "frames": 161, "trajectories": [1, 0, 0]}
    )
    with pytest.raises(DivergedError) as error:
        list(simulate(preset, 0, range(1)))
    assert "trajectory 0 has b beyond 0 … 1 by 0.5 at time" in str(error.value)
    assert str(error.value).endswith("with size = [24, 16] and courant = 1; it is not resolved, use size = [48, 32]")


def test_a_step_too_long_is_called_so() -> None:
    preset = PRESETS["rayleigh-benard"].override(
        {"size": [32, 16], "rayleigh": [1e7], "prandtl": [1], "burn_in": 0, "frames": 200, "courant": 1e6, "checks": 1}
        | {"trajectories": [1, 0, 0], "overshoot": 1e300}
    )
    with pytest.raises(
        DivergedError, match=r"trajectory 0 is not finite at time .*; use courant = 500000 or more points"
    ):
        list(simulate(preset, 0, range(1)))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"size": (32,)}, "size = .32,., must be two numbers ≥ 8"),
        ({"size": (33, 16)}, "size = .33, 16., must be even along x"),
        ({"rayleigh": Values((1e6, -1.0))}, "rayleigh = .*, must be numbers > 0"),
        ({"rayleigh": Values(())}, "rayleigh = .*, must be numbers > 0"),
        ({"prandtl": Values((math.nan,))}, "prandtl = .*, must be numbers > 0"),
        ({"drop": (0.5, 0.2)}, "drop = .*, must be two numbers within 0..1, the smaller first"),
        ({"courant": 0.0}, "courant = 0.0, must be > 0 and finite"),
        ({"checks": 0}, "checks = 0, must be ≥ 1"),
        ({"order": 3}, "order = 3, must be 1, 2 or 4"),
        ({"dtype": "float16"}, "dtype = 'float16', must be float32 or float64"),
        ({"device": "nowhere"}, "device = 'nowhere', must be one that torch can use here"),
    ],
)
def test_wrong_numbers_are_refused(numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"RayleighBenard: {message}"):
        replace(FLOW, **numbers)
