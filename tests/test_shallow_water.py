"""Shallow water on the sphere: steady flows, waves, what is conserved, and the forcing."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from driftway.errors import ConfigError, DivergedError
from driftway.pdes import PRESETS, ShallowWater, simulate
from driftway.randomness import stream
from driftway.sphere import spherical_harmonics

FREE = ShallowWater(size=(24, 48), relaxation=math.inf, diffusion=math.inf, stirring=0.0, interval=3.0, substeps=9)


def rows(solver: ShallowWater) -> torch.Tensor:
    return torch.deg2rad(torch.tensor(solver.axes[0].coordinates, dtype=torch.float64))


def harmonic(solver: ShallowWater, degree: int, order: int) -> torch.Tensor:
    lat, lon = (axis.coordinates for axis in solver.axes)
    return spherical_harmonics(lat, lon, degree)[degree * degree + degree + order]


def phase(solver: ShallowWater, state: torch.Tensor, channel: int, degree: int, order: int) -> complex:
    """The complex amplitude of one harmonic."""
    return complex(solver.modes(state)[0, channel, degree, order])


def smooth(solver: ShallowWater) -> torch.Tensor:
    """A broad flow with waves on it, far from the cut-off."""
    state = solver.balanced(20 * torch.cos(rows(solver)))
    state[:, 1] += 4e-6 * harmonic(solver, 3, 2)
    state[:, 0] += 40 * harmonic(solver, 2, -1)
    return state


def test_a_geostrophic_flow_stays_as_it_is() -> None:
    """Williamson's case 2, with the height in closed form."""
    u0 = 2 * math.pi * FREE.radius / (12 * 86400)
    solver = replace(FREE, depth=2.94e4 / FREE.gravity)
    state = solver.balanced(u0 * torch.cos(rows(solver)))
    head = (solver.radius * solver.rotation * u0 + u0**2 / 2) / solver.gravity
    expected = solver.depth - head * (torch.sin(rows(solver)) ** 2 - 1 / 3)
    torch.testing.assert_close(state[0, 0], expected[:, None].expand(24, 48), rtol=1e-13, atol=0)
    torch.testing.assert_close(
        state[0, 1], (2 * u0 / solver.radius * torch.sin(rows(solver)))[:, None].expand(24, 48), rtol=1e-11, atol=1e-20
    )
    later = solver.step(solver.step(state))
    assert float((later - state)[:, 0].abs().max()) < 1e-9  # m, of 3000
    assert float((later - state)[:, 1:].abs().max()) < 1e-17  # 1/s, of 1e-5


def test_the_error_in_time_falls_with_the_order() -> None:
    start = smooth(FREE)
    best = replace(FREE, substeps=72).step(start)
    errors = [
        float((replace(FREE, substeps=n, order=order).step(start) - best)[:, 1].abs().max())
        for order, n in ((4, 6), (4, 12), (2, 24), (2, 48))
    ]
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.3)
    assert errors[2] / errors[3] == pytest.approx(4, rel=0.3)


def test_mass_is_conserved_to_rounding_and_energy_to_the_order_in_time() -> None:
    start = smooth(FREE)
    drifts = []
    for n in (5, 10):
        solver, state = replace(FREE, substeps=n), start
        for _ in range(4):
            state = solver.step(state)
        assert float((solver.mass(state) / solver.mass(start) - 1).abs()) < 1e-14
        drifts.append(float((solver.energy(state) / solver.energy(start) - 1).abs()))
    assert drifts[0] < 1e-6 and drifts[1] < drifts[0] / 16
    later = replace(FREE, substeps=40).step(start)
    assert float((FREE.energy(later) / FREE.energy(start) - 1).abs()) < 1e-12


def test_gravity_waves_on_a_sphere_at_rest_have_their_frequency() -> None:
    """h = cos ωt Y_lm with ω² = g H l(l + 1)/a²."""
    solver = replace(FREE, rotation=0.0, interval=1.0, substeps=12)
    degree, order = 5, 3
    state = solver.balanced(torch.zeros(24))
    state[:, 0] += 1e-4 * harmonic(solver, degree, order)
    began = phase(solver, state, 0, degree, order)
    omega = math.sqrt(solver.gravity * solver.depth * degree * (degree + 1)) / solver.radius
    for hour in range(1, 7):
        state = solver.step(state)
        found = phase(solver, state, 0, degree, order) / began
        assert found.real == pytest.approx(math.cos(omega * 3600 * hour), abs=1e-4) and abs(found.imag) < 1e-6


def test_rossby_haurwitz_waves_travel_at_their_speed() -> None:
    """ζ ~ e^{i(mλ − σt)}, σ = −2Ω m/(l(l + 1)): deep water hardly diverges, and the error falls as 1/H."""
    degree, order, errors = 5, 4, []
    for depth in (1e6, 4e6):
        solver = replace(FREE, size=(16, 32), depth=depth, substeps=round(0.06 * math.sqrt(depth)))
        state = solver.balanced(torch.zeros(16))
        vorticity = 1e-8 * harmonic(solver, degree, order)
        spectral = solver.modes(torch.stack([vorticity] * 3)[None])[:, 0]
        psi = solver.transform.inverse_laplacian(spectral)
        coriolis = 2 * solver.rotation * torch.sin(rows(solver))[:, None]
        # Height in balance with the stream function: ∇·(f ∇ψ) = g ∇²h
        east, north = solver.transform.gradient(psi)
        _, spread = solver.transform.vorticity_divergence(coriolis * east, coriolis * north)
        state[:, 1] += vorticity
        state[:, 0] += solver.transform.synthesis(solver.transform.inverse_laplacian(spread))[0] / solver.gravity
        began = phase(solver, state, 1, degree, order)
        turned = phase(solver, solver.step(state), 1, degree, order) / began
        expected = 2 * solver.rotation * order / (degree * (degree + 1)) * 3 * 3600
        errors.append(abs(math.atan2(turned.imag, turned.real) / expected - 1))
        assert abs(turned) == pytest.approx(1, abs=2e-3)
    assert errors[0] < 0.02 and errors[1] < errors[0] / 3


def test_forcing_draws_the_flow_to_jets_that_nothing_else_changes() -> None:
    solver = ShallowWater(size=(24, 48), noise=0.0, stirring=0.0, diffusion=math.inf, relaxation=12.0)
    jets = solver.initial(stream(0, "initial", rows=[0]))
    torch.testing.assert_close(solver.step(jets), jets, rtol=0, atol=1e-8)
    u, v = solver.winds(jets)
    assert float(v.abs().max()) < 1e-9
    assert float(u.max()) == pytest.approx(solver.jet, rel=0.15) and float(u[0, 12].abs().max()) < 0.1 * solver.jet
    calm = solver.balanced(torch.zeros(24))
    nearer = solver.step(calm)
    assert float((nearer - jets)[:, 1].abs().max()) < 0.8 * float((calm - jets)[:, 1].abs().max())
    assert float(solver.mass(nearer)) == pytest.approx(solver.depth, rel=1e-14)


def test_diffusion_damps_the_smallest_scale_at_its_rate() -> None:
    """Without rotation, forcing or noise a tiny vorticity does nothing else."""
    solver = replace(FREE, rotation=0.0, diffusion=6.0, jet=0.0)
    highest, state = solver.transform.degree, solver.balanced(torch.zeros(24))
    assert highest == 15
    state[:, 1] += 1e-12 * (harmonic(solver, highest, 2) + harmonic(solver, 3, 2))
    later = solver.step(state)
    for degree, rate in ((highest, 1.0), (3, (12 / 240) ** 4)):
        left = phase(solver, later, 1, degree, 2) / phase(solver, state, 1, degree, 2)
        assert left.real == pytest.approx(math.exp(-rate * 3 / 6), rel=1e-6)


def test_initial_states_differ_by_vorticity_of_the_size_that_is_asked() -> None:
    solver = ShallowWater(noise=1e-5, jet=0.0)
    states = solver.initial(stream(0, "initial", rows=range(30)))
    spread = solver.modes(states)[:, 1].abs().square()
    mean = float((2 * spread.sum(-1) - spread[..., 0]).sum(-1).mean()) / (4 * math.pi)
    assert math.sqrt(mean) == pytest.approx(1e-5, rel=0.03)
    assert float(states[:, 2].abs().max()) < 1e-18
    again = solver.initial(stream(0, "initial", rows=[4]))
    torch.testing.assert_close(again[0], states[4], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"size": [32, 63]}, "size = .32, 63., must be an even number of longitudes"),
        ({"depth": 0.0}, "depth = 0.0, must be > 0 and finite"),
        ({"relaxation": -1.0}, "relaxation = -1.0, must be > 0; inf for none"),
        ({"narrowness": 3}, "narrowness = 3, must be even and ≥ 2"),
    ],
)
def test_numbers_that_make_no_flow_are_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"ShallowWater: {message}"):
        PRESETS["shallow-water"].override(overrides)


def test_a_blow_up_names_what_to_try() -> None:
    dry = torch.zeros(2, 3, 32, 64)
    dry[0, 0] = 1
    fault = ShallowWater().fault(dry)
    assert fault is not None and fault.row == 1
    assert "height that is not above 0" in fault.what and "use substeps = 36" in fault.remedy
    few = {"substeps": 2, "burn_in": 48.0, "frames": 2, "trajectories": [1, 0, 0]}
    with pytest.raises(DivergedError, match="use substeps = 4"):
        list(simulate(PRESETS["shallow-water"].override(few), 0, [0]))


def test_stirring_adds_vorticity_of_the_size_that_is_asked_and_needs_a_stream() -> None:
    solver = replace(FREE, stirring=1e-9, jet=0.0, rotation=0.0, interval=6.0, substeps=4)
    calm = solver.balanced(torch.zeros(24)).expand(40, -1, -1, -1)
    stirred = solver.step(calm, stream=stream(0, "forcing", rows=range(40)))
    spread = solver.modes(stirred)[:, 1].abs().square()
    power = (2 * spread.sum(-1) - spread[..., 0]).mean(0) / (4 * math.pi)
    assert math.sqrt(float(power.sum())) == pytest.approx(1e-9 / 2, rel=0.03)  # a quarter of a day
    share = power[6:13] / (2 * torch.arange(6, 13) + 1)
    assert float(power[:6].sum() + power[13:].sum()) < 1e-6 * float(power.sum())
    assert float(share.max() / share.min()) < 1.5
    with pytest.raises(ValueError, match="stream of random numbers"):
        solver.step(calm)


def test_the_preset_stays_alive() -> None:
    small = {"size": [24, 48], "trajectories": [2, 0, 0], "burn_in": 120.0, "frames": 3, "substeps": 12}
    preset = PRESETS["shallow-water"].override(small)
    (states,) = simulate(preset, 0, range(2))
    eddies = states[:, :, 1] - states[:, :, 1].mean(-1, keepdims=True)
    assert eddies.std() > 0.2 * states[:, :, 1].std()
    assert np.abs(np.diff(states[:, :, 1], axis=1)).max() > 1e-6
