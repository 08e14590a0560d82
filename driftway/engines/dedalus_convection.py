"""Rayleigh–Bénard convection by Dedalus 3 (Burns et al. 2020, Phys. Rev. Research 2, 023068), states in a pipe.

Run by `driftway.pdes.dedalus`, with an interpreter that has Dedalus. Reads a line of JSON and a state (4, nx, ny) of
float64 from standard input, then writes such states, one an interval, until nobody reads any more. Chebyshev tau
across, Runge–Kutta RK222, products on 3/2 as many points; the time step is the interval over a count from a ladder,
since every new step costs a factorisation.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, BinaryIO

import numpy as np

MISSING = 77
LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


def main() -> int:
    """Read, then step and write for ever."""
    # Dedalus writes its log to standard output, which belongs to the states.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        import dedalus.public as d3  # pyright: ignore[reportMissingImports]
    except ImportError:
        return MISSING
    source: BinaryIO = sys.stdin.buffer
    about = json.loads(source.readline())
    nx, ny = about["size"]
    start = np.frombuffer(source.read(8 * 4 * nx * ny)).reshape(4, nx, ny)
    run = Convection(d3, about, start)
    try:
        while True:
            out.write(run.interval().tobytes())
            out.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return 0


class Convection:
    """The initial value problem, at the start or some intervals later."""

    def __init__(self, d3: Any, about: dict[str, Any], start: np.ndarray):
        self.about, (nx, ny) = about, about["size"]
        coords = d3.CartesianCoordinates("x", "z")
        dist = d3.Distributor(coords, dtype=np.float64)
        along = d3.RealFourier(coords["x"], size=nx, bounds=(0, about["width"]), dealias=3 / 2)
        across = d3.ChebyshevT(coords["z"], size=ny, bounds=(0, 1), dealias=3 / 2)
        self.b, self.p = (dist.Field(name=name, bases=(along, across)) for name in "bp")
        self.u = dist.VectorField(coords, name="u", bases=(along, across))
        self.b["g"], self.u["g"] = start[0], start[2:]
        self.spacing = about["width"] / nx, np.gradient(dist.local_grid(across).ravel())
        self.solver = self._problem(d3, dist, coords, along, across).build_solver(d3.RK222)
        self.count = 0

    def _problem(self, d3: Any, dist: Any, coords: Any, along: Any, across: Any) -> Any:
        rayleigh, prandtl = self.about["rayleigh"], self.about["prandtl"]
        tau_p = dist.Field(name="tau_p")
        tau_b1, tau_b2 = (dist.Field(name=f"tau_b{n}", bases=along) for n in (1, 2))
        tau_u1, tau_u2 = (dist.VectorField(coords, name=f"tau_u{n}", bases=along) for n in (1, 2))
        _, ez = coords.unit_vector_fields(dist)

        def lift(tau: Any) -> Any:
            return d3.Lift(tau, across.derivative_basis(1), -1)

        b, p, u = self.b, self.p, self.u
        known = {
            "kappa": (rayleigh * prandtl) ** -0.5,
            "nu": (rayleigh / prandtl) ** -0.5,
            "grad_u": d3.grad(u) + ez * lift(tau_u1),
            "grad_b": d3.grad(b) + ez * lift(tau_b1),
            **{"b": b, "p": p, "u": u, "ez": ez, "lift": lift, "tau_p": tau_p, "tau_b2": tau_b2, "tau_u2": tau_u2},
        }
        problem = d3.IVP([p, b, u, tau_p, tau_b1, tau_b2, tau_u1, tau_u2], namespace=known)
        problem.add_equation("trace(grad_u) + tau_p = 0")
        problem.add_equation("dt(b) - kappa*div(grad_b) + lift(tau_b2) = - u@grad(b)")
        problem.add_equation("dt(u) - nu*div(grad_u) + grad(p) - b*ez + lift(tau_u2) = - u@grad(u)")
        problem.add_equation("b(z=0) = 1")
        problem.add_equation("u(z=0) = 0")
        problem.add_equation("b(z=1) = 0")
        problem.add_equation("u(z=1) = 0")
        problem.add_equation("integ(p) = 0")
        return problem

    def interval(self) -> np.ndarray:
        """The state (4, nx, ny) one stored interval later; the step is chosen anew `checks` times on the way."""
        part = self.about["interval"] / self.about["checks"]
        for _ in range(self.about["checks"]):
            self.count = self._count(part)
            for _ in range(self.count):
                self.solver.step(part / self.count)
        return np.concatenate([*(self._grid(field)[None] for field in (self.b, self.p)), self._grid(self.u)])

    def _count(self, part: float) -> int:
        """Steps that the flow needs; the ones before are kept while they are no more than twice as many."""
        u, w = np.abs(self._grid(self.u))
        dx, dz = self.spacing
        need = max(LADDER[0], part * float((u / dx + w / dz).max()) / self.about["courant"])
        return (
            self.count if self.count / 2 <= need <= self.count else next((n for n in LADDER if n >= need), LADDER[-1])
        )

    @staticmethod
    def _grid(field: Any) -> np.ndarray:
        field.change_scales(1)
        return np.array(field["g"])


if __name__ == "__main__":
    sys.exit(main())
