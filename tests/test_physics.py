"""Quantities of flows against closed forms, on periodic planes and in channels of several kinds of points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from driftway.calculus import FAMILIES, rule
from driftway.data.axes import Axis, Fields
from driftway.data.layout import Layout
from driftway.physics.flow import known
from driftway.physics.quantities import PROFILES, QUANTITIES, Quantity, available, measure
from driftway.randomness import generator
from tests.channel import grid

RAYLEIGH, PRANDTL = 1e6, 2.0
KAPPA, NU = (RAYLEIGH * PRANDTL) ** -0.5, (PRANDTL / RAYLEIGH) ** 0.5
GIVEN = {"Rayleigh": RAYLEIGH, "Prandtl": PRANDTL}
K = np.pi / 2  # one wave over a channel of length 4


def layout(points: np.ndarray, names: tuple[str, ...]) -> Layout:
    axes = (Axis.uniform("x", 16, 4.0), Axis("y", tuple(points.tolist()), "wall", 1.0))
    return Layout(Fields(names, ("1",) * len(names)), axes, 0.25)


def of(states: np.ndarray, on: Layout, given: dict[str, float] | None = None) -> dict[str, np.ndarray]:
    """Every quantity of some states (N, C, *S), (N,) each."""
    found = measure(torch.from_numpy(states), on, given).quantities.numpy()
    return dict(zip(available(QUANTITIES, on, given or {}), found.T, strict=True))


def profiles(states: np.ndarray, on: Layout, given: dict[str, float] | None = None) -> dict[str, np.ndarray]:
    found = measure(torch.from_numpy(states), on, given).profiles.numpy()
    return dict(zip(available(PROFILES, on, given or {}), found.swapaxes(0, 1), strict=True))


# --- a periodic plane ----------------------------------------------------------------------------------------------

PLANE = (Axis.uniform("x", 16, 2 * np.pi), Axis.uniform("y", 24, 2 * np.pi))
PX, PY = np.meshgrid(*(np.asarray(axis.coordinates) for axis in PLANE), indexing="ij")


def test_taylor_and_greens_vortices() -> None:
    on = Layout(Fields(("velocity_x", "velocity_y"), ("1", "1")), PLANE, 1.0)
    states = np.stack([np.sin(PX) * np.cos(PY), -np.cos(PX) * np.sin(PY)])[None]
    found = of(states, on, {"viscosity": 0.1})
    assert list(found) == ["kinetic_energy", "enstrophy", "divergence", "dissipation"]
    np.testing.assert_allclose([v[0] for v in found.values()], [1 / 4, 1 / 2, 0, 0.1], atol=1e-13)
    assert profiles(states, on) == {}


def test_energy_follows_from_vorticity_where_a_plane_is_periodic() -> None:
    on = Layout(Fields(("vorticity",), ("1",)), PLANE, 1.0)
    vortices = (2 * np.sin(PX) * np.sin(PY))[None, None]
    shear = (np.cos(4 * PY) + 5)[None, None]  # the mean flow of a mean vorticity is none that a plane can have
    found = of(np.concatenate([vortices, shear]), on)
    assert list(found) == ["kinetic_energy", "enstrophy"]
    np.testing.assert_allclose(found["kinetic_energy"], [1 / 4, 1 / 64], rtol=1e-12)
    np.testing.assert_allclose(found["enstrophy"], [1 / 2, 1 / 4 + 25 / 2], rtol=1e-12)


def test_a_flow_that_only_expands_has_divergence_one() -> None:
    on = Layout(Fields(("velocity_x", "velocity_y"), ("1", "1")), PLANE, 1.0)
    found = of(np.stack([np.sin(3 * PX), 0 * PX])[None], on)
    assert found["divergence"][0] == pytest.approx(1)
    assert of(np.zeros((1, 2, 16, 24)), on)["divergence"][0] == 0


def test_three_dimensions_have_energy_and_dissipation() -> None:
    axes = tuple(Axis.uniform(name, 8, 2 * np.pi) for name in "xyz")
    on = Layout(Fields(("v_x", "v_y", "v_z"), ("1",) * 3), axes, 1.0)
    z = np.broadcast_to(np.asarray(axes[2].coordinates), (8, 8, 8))
    found = of(np.stack([np.sin(z), np.cos(z), 0 * z])[None], on, {"nu": 0.5})
    assert {name: float(v[0]) for name, v in found.items()} == pytest.approx(
        {"kinetic_energy": 0.5, "dissipation": 0.5}
    )


# --- a channel -----------------------------------------------------------------------------------------------------

NAMES = ("buoyancy", "pressure", "velocity_x", "velocity_y")
WIND, WARM, BEND = 0.3, 0.2, 0.1


def convection(on: Layout) -> np.ndarray:
    """ψ = −A sin²(πy) sin(kx)/k with u = −∂_yψ, v = ∂ₓψ, and b = 1 − y − c sin(2πy) + a sin²(πy) cos(kx)."""
    x, y = grid(on)
    v = -WIND * np.sin(np.pi * y) ** 2 * np.cos(K * x)
    u = WIND * np.pi / K * np.sin(2 * np.pi * y) * np.sin(K * x)
    b = 1 - y - BEND * np.sin(2 * np.pi * y) - WARM * np.sin(np.pi * y) ** 2 * np.cos(K * x)
    fields = {"buoyancy": b, "pressure": 0 * b, "velocity_x": u, "velocity_y": v}
    return np.stack([fields[name.casefold()] for name in on.fields.names])[None]


# ⟨sin⁴⟩ = 3/8, ⟨sin²(2πy)⟩ = 1/2, ⟨cos²(kx)⟩ = 1/2; ∇(sin²) = π sin(2πy)
EXPECTED = {
    "kinetic_energy": WIND**2 / 4 * (np.pi**2 / K**2 / 2 + 3 / 8),
    "divergence": 0.0,
    "dissipation": NU * WIND**2 / 2 * (np.pi**2 / 2 + 4 * np.pi**4 / K**2 / 2 + 3 / 8 * K**2 + np.pi**2 / 2),
    "buoyancy_variance": WARM**2 * 3 / 16,
    "thermal_dissipation": KAPPA * (1 + BEND**2 * 2 * np.pi**2 + WARM**2 / 2 * (np.pi**2 / 2 + 3 / 8 * K**2)),
    "nusselt": 1 + WIND * WARM * 3 / 16 / KAPPA,
    "nusselt_walls": 1 + 2 * np.pi * BEND,
}


@pytest.mark.parametrize("name", list(FAMILIES))
def test_convection_in_a_channel_has_the_numbers_of_its_closed_form(name: str) -> None:
    on = layout((FAMILIES[name](32) + 1) / 2, NAMES)
    found = of(convection(on), on, GIVEN)
    assert set(EXPECTED) < set(found)
    for quantity, value in EXPECTED.items():
        assert found[quantity][0] == pytest.approx(value, rel=1e-8, abs=1e-12), quantity


def test_on_any_points_the_numbers_converge_at_second_order() -> None:
    errors = []
    for count in (32, 64, 128):
        on = layout(np.linspace(0, 1, count + 1) ** 1.3, NAMES)
        found = of(convection(on), on, GIVEN)
        errors.append([abs(found[name][0] - value) for name, value in EXPECTED.items()])
    orders = np.log2(np.array(errors[1]) / np.array(errors[2]))
    assert list(EXPECTED)[1] == "divergence" and ((orders > 1.7) & (orders < 2.4)).all(), orders


def test_axes_may_be_in_any_order_and_run_downwards() -> None:
    on = layout((FAMILIES["Chebyshev–Gauss"](24) + 1) / 2, NAMES)
    expected = of(convection(on), on, GIVEN)
    x, y = on.axes
    turned = replace(on, axes=(Axis("y", y.coordinates[::-1], "wall", 1.0), x))
    found = of(np.ascontiguousarray(convection(on).swapaxes(-1, -2)[..., ::-1, :]), turned, GIVEN)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value[0], rel=1e-9, abs=1e-10), name


def test_profiles_are_those_of_the_closed_form() -> None:
    on = layout((FAMILIES["Chebyshev–Lobatto"](24) + 1) / 2, NAMES)
    y, found = np.asarray(on.axes[1].coordinates), profiles(convection(on), on, GIVEN)
    assert list(found) == ["kinetic_energy", "buoyancy", "buoyancy_variance", "heat_flux"]
    sine, slope = np.sin(np.pi * y) ** 2, -1 - 2 * np.pi * BEND * np.cos(2 * np.pi * y)
    energy = WIND**2 / 4 * ((np.pi / K * np.sin(2 * np.pi * y)) ** 2 + sine**2)
    np.testing.assert_allclose(found["kinetic_energy"][0], energy, atol=1e-12)
    np.testing.assert_allclose(found["buoyancy"][0], 1 - y - BEND * np.sin(2 * np.pi * y), atol=1e-12)
    np.testing.assert_allclose(found["buoyancy_variance"][0], WARM**2 * sine**2 / 2, atol=1e-12)
    np.testing.assert_allclose(found["heat_flux"][0], WIND * WARM * sine**2 / 2 / KAPPA - slope, atol=1e-8)


def test_the_mean_flux_of_all_levels_is_the_nusselt_number() -> None:
    on = layout((FAMILIES["Gauss–Lobatto–Legendre"](24) + 1) / 2, NAMES)
    flux = profiles(convection(on), on, GIVEN)["heat_flux"][0]
    assert rule(on.axes[1]).weights @ flux == pytest.approx(of(convection(on), on, GIVEN)["nusselt"][0], rel=1e-10)


def test_names_count_without_regard_to_case_and_by_alias() -> None:
    on = layout((FAMILIES["Chebyshev–Gauss"](16) + 1) / 2, ("Buoyancy", "PRESSURE", "Velocity_X", "velocity_Y"))
    for given in ({"RAYLEIGH": RAYLEIGH, "prandtl": PRANDTL}, {"Ra": RAYLEIGH, "Pr": PRANDTL}):
        assert of(convection(on), on, given)["nusselt"][0] == pytest.approx(EXPECTED["nusselt"], rel=1e-6)


# --- what data have ------------------------------------------------------------------------------------------------


def without(
    *, names: tuple[str, ...] = NAMES, boundary: str = "wall", given: tuple[str, ...] = tuple(GIVEN)
) -> set[str]:
    axes = (Axis.uniform("x", 8, 1.0), Axis("y", tuple(np.linspace(0, 1, 9)[:-1].tolist()), boundary, 1.0))
    on = Layout(Fields(names, ("1",) * len(names)), axes, 1.0)
    return set(available(QUANTITIES, on, given)) | {f"profile {name}" for name in available(PROFILES, on, given)}


def test_data_have_what_their_fields_axes_and_parameters_allow() -> None:
    everything = {*QUANTITIES, *(f"profile {name}" for name in PROFILES)}
    assert without() == everything
    assert without(names=("density",)) == without(names=("velocity_x",)) == set()
    convective = {"nusselt", "nusselt_walls", "profile heat_flux"}
    assert everything - without(given=()) == convective | {"dissipation", "thermal_dissipation"}
    assert everything - without(given=("rayleigh",)) == convective | {"dissipation", "thermal_dissipation"}
    assert everything - without(given=("kappa", "nu")) == convective
    between = {name for name in everything if name.startswith("profile")} | {"buoyancy_variance"}
    assert everything - without(boundary="periodic") == between | {"nusselt", "nusselt_walls"}
    assert without(names=("velocity_x", "velocity_y"), given=()) == {
        "kinetic_energy", "enstrophy", "divergence", "profile kinetic_energy"
    }  # fmt: skip
    assert "velocity" not in known(Layout(Fields(("vorticity",), ("1",)), (PLANE[0],), 1.0))


def test_a_quantity_of_ones_own_is_a_row_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    largest: Callable[..., torch.Tensor] = lambda flow: flow.buoyancy.amax((-2, -1))  # noqa: E731
    monkeypatch.setitem(QUANTITIES, "largest", Quantity("largest buoyancy", "max b", ("buoyancy",), largest))
    on = layout(np.linspace(0, 1, 9), NAMES)
    assert of(convection(on), on)["largest"][0] == pytest.approx(1.0)


def test_large_blocks_are_measured_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    on = layout((FAMILIES["Chebyshev–Gauss"](8) + 1) / 2, NAMES)
    states = torch.from_numpy(generator("parts").standard_normal((3, 5, 4, 16, 8)))
    whole = measure(states, on, GIVEN)
    monkeypatch.setattr("driftway.physics.quantities.CHUNK", 4 * 16 * 8 * 2)
    parts = measure(states, on, GIVEN)
    assert whole.quantities.shape == (3, 5, len(QUANTITIES)) and whole.profiles.shape == (3, 5, len(PROFILES), 8)
    torch.testing.assert_close(parts.quantities, whole.quantities)
    torch.testing.assert_close(parts.profiles, whole.profiles)
