"""Harmonics, layers and raw files of PlaSim against closed forms, scipy and the formulas of its source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import lpmv

from driftway.climate.fields import SURFACE, Output
from driftway.climate.harmonics import RADIUS, Synthesis, normalized_legendre
from driftway.climate.pressure import GRAVITY, LAPSE, VAPOUR, Layers
from driftway.climate.raw import read_raw, read_surface
from driftway.climate.sea import MONTHS, interpolated
from driftway.data import cf
from driftway.errors import DataError
from tests import plasim_standin

T21 = Synthesis(21, 32)
LATITUDE = np.arcsin(T21.sines)[:, None]
LONGITUDE = (2 * np.pi * np.arange(64) / 64)[None]
HALF = np.linspace(0.1, 1, 10)
SPACE = (2, 3)


def mode(m: int, n: int, value: complex) -> np.ndarray:
    """Coefficients that are one mode."""
    orders, degrees = T21.orders
    return np.where((orders == m) & (degrees == n), value, 0)[None]


# --- harmonics -----------------------------------------------------------------------------------------------------


def test_legendre_functions_are_those_of_scipy_and_orthonormal() -> None:
    table = normalized_legendre(42, T21.sines)
    for m, n in ((0, 0), (0, 5), (1, 1), (3, 7), (5, 5), (10, 21)):
        factor = np.sqrt((2 * n + 1) * float(np.prod([1.0 / k for k in range(n - m + 1, n + m + 1)])))
        assert np.allclose(table[m, n], (-1) ** m * factor * lpmv(m, n, T21.sines), rtol=1e-9, atol=1e-12)
    sines, weights = np.polynomial.legendre.leggauss(64)
    for row in (normalized_legendre(42, sines)[m, m:] for m in (0, 1, 20, 42)):
        assert np.allclose(0.5 * (row * weights) @ row.T, np.eye(len(row)), atol=1e-12)


def test_latitudes_are_gaussian_from_north_to_south() -> None:
    assert T21.degrees[0] == pytest.approx(85.7605871204438) and T21.degrees[-1] == pytest.approx(-85.7605871204438)
    assert Synthesis(42, 64).degrees[0] == pytest.approx(87.8637988)


def test_a_scalar_is_the_sum_of_its_harmonics() -> None:
    """sin φ and cos²φ cos(2λ + 1): P_01 = √3 μ, P_22 = √(15/8) cos²φ."""
    found = T21.scalar(mode(0, 1, 2 / np.sqrt(3)) + mode(2, 2, 0.5 * np.exp(1j) / np.sqrt(15 / 8)))
    assert np.allclose(found, 2 * np.sin(LATITUDE) + np.cos(LATITUDE) ** 2 * np.cos(2 * LONGITUDE + 1), atol=1e-12)


def test_the_wind_of_a_turning_planet_is_its_rotation() -> None:
    u, v = T21.wind(mode(0, 1, 2 * 30 / RADIUS / np.sqrt(3)), mode(0, 0, 0))
    assert np.allclose(u, 30 * np.cos(LATITUDE), atol=1e-9) and np.allclose(v, 0, atol=1e-9)


@pytest.mark.parametrize("rotational", [True, False], ids=["vorticity", "divergence"])
def test_winds_are_the_gradients_of_a_stream_function_and_a_potential(rotational: bool) -> None:
    """f = F cos²φ cos 2λ has ∇²f = −6 f/a²; u = −∂f/∂φ/a, v = ∂f/∂λ/(a cos φ), or u and v of the gradient."""
    size = 1e7
    laplacian = mode(2, 2, -6 * size / RADIUS**2 * 0.5 / np.sqrt(15 / 8))
    u, v = T21.wind(*((laplacian, 0 * laplacian) if rotational else (0 * laplacian, laplacian)))
    north = -2 * size * np.sin(LATITUDE) * np.cos(LATITUDE) * np.cos(2 * LONGITUDE) / RADIUS
    east = -2 * size * np.cos(LATITUDE) * np.sin(2 * LONGITUDE) / RADIUS
    expected = (-north, east) if rotational else (east, north)
    assert np.allclose(u, expected[0], atol=1e-9) and np.allclose(v, expected[1], atol=1e-9)


# --- layers --------------------------------------------------------------------------------------------------------


def columns(pressures: tuple[float, ...] = (1e5, 6e4)) -> Layers:
    return Layers(HALF, np.array(pressures).repeat(3).reshape(1, *SPACE))


def test_levels_are_linear_in_the_logarithm_of_pressure_and_level_beyond() -> None:
    layers = columns()
    values = (3 + 2 * np.log(layers.middle))[None, :, None, None] * np.ones((1, 10, *SPACE))
    for pressure in (7e3, 3e4, 5e4, 5.9e4, 8e4):
        x = np.clip(np.log(pressure / layers.surface), np.log(0.05), np.log(0.95))
        assert np.allclose(layers.level(values, pressure), 3 + 2 * x)


def test_heights_of_air_of_one_temperature_are_exact() -> None:
    """z = z_s + R T_v/g ln(p_s/p), above ground and in the uppermost layer, for a humidity of 10 g/kg."""
    layers, ground = columns(), np.array([[0.0], [4e4]]) * np.ones(SPACE)
    temperature, humidity = np.full((1, 10, *SPACE), 250.0), np.full((1, 10, *SPACE), 0.01)
    virtual = 250 * (1 + 0.01 * (VAPOUR / 287 - 1))
    for pressure in (2e3, 1e4, 2.5e4, 5e4, 6e4):
        expected = ground / GRAVITY + 287 * virtual / GRAVITY * np.log(layers.surface / pressure)
        assert np.allclose(layers.height(temperature, humidity, ground, pressure), expected, atol=1e-8)


@pytest.mark.parametrize(("layers", "worst"), [(10, 13.0), (80, 0.3)])
def test_heights_of_air_with_a_lapse_rate_converge_and_are_exact_below_ground(layers: int, worst: float) -> None:
    """z = T_0/Γ (1 − (p/p_0)^(RΓ/g)) with T_0 = 288 K, over a surface at 1000 hPa and a plateau at 600 hPa."""
    exponent = 287 * LAPSE / GRAVITY

    def height(p: np.ndarray | float) -> np.ndarray:
        return np.asarray(288 / LAPSE * (1 - (np.asarray(p) / 1e5) ** exponent))

    air = Layers(np.linspace(1 / layers, 1, layers), columns().surface)
    pressure = air.middle[None, :, None, None] * air.surface[:, None]
    temperature, dry = 288 * (pressure / 1e5) ** exponent, np.zeros((1, layers, *SPACE))
    ground = GRAVITY * height(air.surface[0])
    found = [air.height(temperature, dry, ground, p) - height(p) for p in (2.5e4, 5e4)]
    assert np.abs(found).max() < worst and np.abs(found).max() > worst / 10
    under = air.height(temperature, dry, ground, 8.5e4)[0, 1]
    assert np.allclose(under, height(8.5e4), atol=1e-8), "25 % of the pressure below the plateau"
    assert np.allclose(air.temperature(temperature, 8.5e4)[0, 1], 288 * 0.85**exponent, atol=1e-10)


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "plasim_snapshot"
    states = [plasim_standin.state(weather, step) for step, weather in enumerate((0.2, 0.7, 0.4))]
    path.write_bytes(plasim_standin.first_block(plasim_standin.HALF) + b"".join(states))
    means = [plasim_standin.mean(weather) for weather in (0.2, 0.7, 0.4)]
    (tmp_path / "plasim_output").write_bytes(plasim_standin.first_block(plasim_standin.HALF) + b"".join(means))
    return path


def test_a_raw_file_is_read_by_code_level_and_state(raw: Path) -> None:
    found = read_raw(raw)
    assert (len(found), found.grid, found.truncation) == (3, (32, 64), 21)
    assert np.allclose(found.half, [0.2, 0.4, 0.6, 0.8, 1.0])
    assert np.allclose(found.field(139)[:, 0, 0], [280.2, 280.7, 280.4])
    assert np.allclose(found.field(210)[:, 3, 3], [0, 1, 2])
    coefficients = found.layers(130)
    assert coefficients.shape == (3, 5, 253)
    assert np.allclose(coefficients[1, 4, [0, 22]], [260, 0.7 * 2.6], rtol=1e-6) and coefficients[0, 0, 1:22].max() == 0


def test_fields_come_in_the_units_that_their_names_promise(raw: Path) -> None:
    output = Output(read_raw(raw), read_raw(raw.with_name("plasim_output")), T21, 287.0)
    rain = 21.6e6 * np.array([0.2, 0.7, 0.4]) * 1e-8 + 21.6e6 * 2e-8
    assert np.allclose(output.channel("pr_6h")[:, 5, 5], rain, rtol=1e-5)
    assert np.allclose(output.channel("pr_12h")[:, 5, 5], rain + rain[[0, 0, 1]], rtol=1e-5)
    assert np.allclose(output.channel("evap"), 21.6e6 * 3e-8, rtol=1e-5) and np.allclose(output.channel("rsdt"), 300)
    assert np.allclose(output.channel("pl").mean((1, 2)), 11.5, atol=1e-6)
    assert np.allclose(output.channels(["hus500", "tas"])[:, 0].mean((1, 2)), 0.003, rtol=1e-5)
    for name in (*SURFACE, "ta100", "ua700", "va700", "zg1000"):
        assert output.channel(name).shape == (3, 32, 64) and cf.meaning(name) is not None


@pytest.mark.parametrize(("cut", "message"), [(-8, "ends in the middle of a record"), (None, "of a state")])
def test_a_file_that_breaks_off_is_refused(raw: Path, cut: int | None, message: str) -> None:
    data = raw.read_bytes()
    lost = len(plasim_standin.even(210, 0))
    raw.write_bytes(data[:cut] if cut else data[:-lost])
    with pytest.raises(DataError, match=f"plasim_snapshot ends in the middle .*{message.split()[-1]}"):
        read_raw(raw)


def test_other_files_and_unequal_files_are_refused(raw: Path) -> None:
    other = raw.with_name("other")
    other.write_bytes(b"0" * 100)
    with pytest.raises(DataError, match="other is no output of PlaSim"):
        read_raw(other)
    other.write_bytes(b"")
    with pytest.raises(DataError, match="other is no output of PlaSim"):
        read_raw(other)
    other.write_bytes(plasim_standin.first_block([1]) + plasim_standin.mean(0.5))
    with pytest.raises(DataError, match="written 3 states and 1 means"):
        Output(read_raw(raw), read_raw(other), T21, 287.0)


def test_surface_files_are_read_month_by_month(tmp_path: Path) -> None:
    path = tmp_path / "N002_surf_0169.sra"
    path.write_text("\n".join(f"169 {m} 0 -1 2 1 0 0\n {m}.5 {-m}" for m in range(14)))
    months = read_surface(path)
    assert months.shape == (14, 1, 2) and months[:, 0, 0].tolist() == [m + 0.5 for m in range(14)]
    path.write_text(path.read_text() + " 7")
    with pytest.raises(DataError, match="ends in the middle of a field of 1 × 2 numbers"):
        read_surface(path)


def test_the_sea_follows_the_rule_of_the_model_s_source() -> None:
    """Its subroutine momint: with d the day of the month from 1, weight |d − m_a|/(m_a + m_b − 1), m = (n + 1)/2."""
    months = np.random.default_rng(0).normal(size=(14, 1))
    months[0], months[13] = months[12], months[1]
    days = np.arange(0, 365, 0.25)
    expected = []
    for day in days:
        month = int(np.searchsorted(np.cumsum(MONTHS), day, side="right")) + 1
        within = 1 + day - sum(MONTHS[: month - 1])
        middle = (MONTHS[month - 1] + 1) / 2
        other = month + 1 if within > middle else month - 1
        weight = abs(within - middle) / (middle + (MONTHS[(other - 1) % 12] + 1) / 2 - 1)
        expected.append((1 - weight) * months[month] + weight * months[other])
    assert np.allclose(interpolated(months, days), np.array(expected), atol=1e-12)
    assert np.allclose(interpolated(months, days + 365), interpolated(months, days))


# --- names ---------------------------------------------------------------------------------------------------------


def test_names_carry_their_level_and_their_meaning() -> None:
    assert cf.at_level("ta850") == ("ta", 850) and cf.at_level("tas") is None and cf.at_level("tas850") is None
    assert cf.attributes("zg500", "m") == {
        "units": "m",
        "standard_name": "geopotential_height",
        "long_name": "geopotential height at 500 hPa",
    }
    assert cf.attributes("zg500", "m2 s-2") == {} and cf.attributes("vorticity") == {}
    assert "standard_name" not in cf.attributes("pl", "1")
