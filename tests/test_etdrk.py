"""The exponential time step: its φ-functions, and the order at which it converges on every equation."""

from __future__ import annotations

import cmath
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from driftway.pdes import Burgers, Kolmogorov, KuramotoSivashinsky, SpectralPDE
from driftway.pdes.etdrk import phi, scheme
from driftway.randomness import stream

PDES: dict[str, SpectralPDE] = {
    "kolmogorov": Kolmogorov((32, 32), dtype="float64", viscosity=0.02, amplitude=5.0),
    "kuramoto": KuramotoSivashinsky((64,), (22.0,), dtype="float64", cutoff=3),
    "burgers": Burgers((64,), dtype="float64", viscosity=0.1),
}
# The coarsest time step and the time over which it is halved three times.
STEPS = {"kolmogorov": (0.1, 0.8), "kuramoto": (0.05, 2.0), "burgers": (0.05, 0.8)}


def by_exponential(z: complex) -> tuple[complex, ...]:
    """φ₁, φ₂, φ₃ as the first row of exp of [[z, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]] (Saad 1992)."""
    matrix = np.diag(np.ones(3, complex), 1)
    matrix[0, 0] = z
    return tuple(expm(matrix)[0, 1:])


AROUND_ZERO = [cmath.rect(radius, 2 * math.pi * n / 64) for radius in (0.999, 1.0, 1.999, 2.0) for n in range(64)]


@pytest.mark.parametrize("z", [0.0, 1e-12, -1e-3, 0.3, -1.0, 1j, -2 + 1.5j, -30.0, 2.0])
def test_phi_is_the_matrix_exponential_s(z: complex) -> None:
    ours = [value.item() for value in phi(torch.tensor(z, dtype=torch.complex128))]
    assert ours == pytest.approx(by_exponential(z), rel=1e-12)


def test_phi_is_accurate_wherever_a_circle_meets_zero() -> None:
    ours = np.stack([value.numpy() for value in phi(torch.tensor(AROUND_ZERO, dtype=torch.complex128))], 1)
    assert ours == pytest.approx(np.array([by_exponential(z) for z in AROUND_ZERO]), rel=1e-13)


@given(st.floats(-1e9, -50.0))
@settings(max_examples=50, deadline=None)
def test_phi_of_stiff_modes_is_its_asymptote(z: float) -> None:
    """eᶻ has vanished: φ₁ = −1/z, φ₂ = −(1 + 1/z)/z, φ₃ = −(½ + 1/z + 1/z²)/z."""
    ours = [value.item() for value in phi(torch.tensor(z, dtype=torch.complex128))]
    assert ours == pytest.approx([-1 / z, -(1 + 1 / z) / z, -(0.5 + 1 / z + 1 / z**2) / z], rel=1e-9)


@given(st.floats(-3.0, 3.0), st.floats(-3.0, 3.0))
@settings(max_examples=50, deadline=None)
def test_phi_obeys_its_recurrence(real: float, imaginary: float) -> None:
    """z φₙ₊₁ = φₙ − 1/n!."""
    z = torch.tensor(complex(real, imaginary), dtype=torch.complex128)
    one, two, three = (value.item() for value in phi(z))
    assert z.item() * two == pytest.approx(one - 1, abs=1e-13)
    assert z.item() * three == pytest.approx(two - 0.5, abs=1e-13)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_a_constant_right_hand_side_is_integrated_exactly(order: int) -> None:
    """v' = L v + c has v(h) = eᶻ v + h φ₁(z) c, whatever the order."""
    z, h = torch.tensor([0.0, -0.3, -40.0, 0.5], dtype=torch.complex128), 0.1
    step = scheme(order, z, torch.full((4,), h, dtype=torch.float64), lambda table: table.to(torch.complex128))
    v, c = torch.tensor([1.0, 2.0, -1.0, 0.5], dtype=torch.complex128), 0.7
    expected = torch.exp(z) * v + h * phi(z)[0] * c
    assert torch.allclose(step(v, lambda v: torch.full_like(v, c)), expected, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_without_linear_part_the_step_is_the_classical_one(order: int) -> None:
    """At z = 0 the schemes are Euler, Heun and the classical Runge–Kutta method: exact Taylor terms of v' = v."""
    zero, h = torch.zeros(1, dtype=torch.complex128), 0.3
    step = scheme(order, zero, torch.full((1,), h, dtype=torch.float64), lambda table: table.to(torch.complex128))
    expected = sum(h**n / math.factorial(n) for n in range(order + 1))
    assert step(torch.ones(1, dtype=torch.complex128), lambda v: v).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("name", PDES)
def test_the_time_step_converges_at_its_order(name: str, order: int) -> None:
    (coarsest, time), pde = STEPS[name], PDES[name]
    start = pde.initial(stream(0, "order", rows=range(2)))

    def after(steps: int, order: int = order) -> torch.Tensor:
        return replace(pde, dt=time / steps, substeps=steps, order=order).step(start)

    steps = [round(time / coarsest) * 2**n for n in range(4)]
    reference = after(4 * steps[-1], 4)
    errors = [float((after(n) - reference).norm()) for n in steps]
    assert math.log2(errors[-2] / errors[-1]) == pytest.approx(order, abs=0.15), errors
