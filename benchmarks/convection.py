"""Convection by the solver here and by Dedalus: agreement from one initial state, cost, Nusselt numbers.

    python benchmarks/convection.py --dedalus dedalus/bin/python 1e6:128x32 1e6:256x64 1e7:256x64 1e8:256x64
    python benchmarks/convection.py --nusselt 400 1e6:64x32 1e7:96x48
    python benchmarks/convection.py --corners

Differences are root mean squares over the standard deviation of the channel. Beside them stands what the solver here
makes of 1.5 times as many points, and of a first state changed by 1e-8 of itself: chaos carries any difference apart.
Costs are CPU seconds on one core per unit of time, of both engines in this run, so that their ratio says something.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from driftway.data import Conditioning
from driftway.pdes import RayleighBenard, Values, dedalus, legendre
from driftway.randomness import stream

TIMES = (5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0)
CHANNELS = "bpuw"
# Nu = 0.138 Ra^0.285 between rigid walls of given temperature, 2-D, aspect ratio 2, Pr = 1, 1e7 ≤ Ra ≤ 1e10:
# Johnston & Doering 2009, Phys. Rev. Lett. 102, 064501.
PUBLISHED = 0.138, 0.285


def described(case: str) -> RayleighBenard:
    """`1e6:128x32`, or `1e6:128x32:Pr`."""
    rayleigh, size, *prandtl = case.split(":")
    nx, ny = (int(n) for n in size.split("x"))
    numbers = Values((float(prandtl[0]) if prandtl else 1.0,))
    return RayleighBenard(
        size=(nx, ny), rayleigh=Values((float(rayleigh),)), prandtl=numbers, drop=(1.0, 1.0), noise=1e-3
    )


def sampled(state: Tensor, solver: RayleighBenard) -> Tensor:
    """A state on the points of another solver."""
    ny = state.shape[-1]
    waves = torch.fft.rfft(state, dim=2, norm="forward")
    along = torch.fft.irfft(waves, n=solver.size[0], dim=2, norm="forward")
    polynomials = along @ torch.linalg.inv(legendre.values(ny, legendre.chebyshev(ny))).T
    return polynomials @ legendre.values(ny, solver.channel.y).T


def difference(one: Tensor, other: Tensor) -> list[float]:
    """Channel by channel."""
    return ((one - other).square().mean((0, 2, 3)).sqrt() / other.std((0, 2, 3))).tolist()


def compare(case: str, end: float, with_dedalus: bool) -> dict[str, Any]:
    """Runs of one initial state: ours, finer, disturbed, and Dedalus'."""
    solver = described(case)
    finer = replace(solver, size=tuple(3 * n // 2 for n in solver.size))
    # what is compared starts from waves that every grid holds, so that the noise of the first state is smooth
    start = sampled(
        described(f"1e6:{solver.size[0] // 2}x{solver.size[1] // 2}").initial(stream(0, "start", rows=[0])), finer
    )
    starts = {"ours": sampled(start, solver), "finer": start, "disturbed": sampled(start, solver) * (1 + 1e-8)}
    solvers = {"ours": solver, "finer": finer, "disturbed": solver}
    runs = {name: solvers[name].rollout(starts[name], Conditioning()) for name in starts}
    rows = {name: [] for name in ("finer", "disturbed", "dedalus")}
    cpu, states, children = 0.0, [], _children()
    for _ in range(round(end / solver.interval)):
        began = time.process_time()
        states.append(next(runs["ours"]))
        cpu += time.process_time() - began
        for name in ("finer", "disturbed"):
            rows[name].append(difference(sampled(next(runs[name]), solver), states[-1]))
    found: dict[str, Any] = {"case": case, "ours": cpu / end}
    if with_dedalus:
        theirs = replace(solver, engine="dedalus", courant=0.5).rollout(starts["ours"], Conditioning())
        rows["dedalus"] = [difference(next(theirs), state) for state in states]
        theirs.close()  # type: ignore[attr-defined]
        found["dedalus"] = (_children() - children) / end
    at = {time: round(time / solver.interval) - 1 for time in TIMES if time <= end}
    return found | {"differences": {name: {t: row[n] for t, n in at.items()} for name, row in rows.items() if row}}


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def nusselt(case: str, end: float, rows: int, width: float) -> dict[str, Any]:
    """Means over the second half of a run: the three Nusselt numbers, and the balance of kinetic energy."""
    solver = replace(described(case), width=width)
    state, numbers, terms = solver.initial(stream(0, "nusselt", rows=range(rows))), [], []
    for step in range(round(end / solver.interval)):
        state = solver.step(state)
        if step * solver.interval >= end / 2:
            numbers.append(solver.nusselt(state))
            terms.append(torch.stack(solver.energy_budget(state), 1))
    mean, budget = torch.stack(numbers).mean(0), torch.stack(terms).mean(0)
    errors = (mean.std(0) / rows**0.5).tolist() if rows > 1 else [0.0] * 3
    factor, power = PUBLISHED
    return {
        "case": case,
        "width": width,
        "nusselt": dict(zip(("volume", "bottom", "top"), zip(mean.mean(0).tolist(), errors, strict=True), strict=True)),
        "published": factor * solver.rayleigh[0] ** power,
        "imbalance": float((budget[:, 2].mean() / budget[:, 0].mean()).abs()),
    }


def corner(case: str, end: float) -> dict[str, Any]:
    """Whether a run stays finite and within the walls' buoyancy, and what it costs."""
    solver = described(case)
    beyond, began, state = 0.0, time.process_time(), solver.initial(stream(0, "corner", rows=[0]))
    for step in range(round(end / solver.interval)):
        state = solver.step(state)
        b = state[:, 0]
        beyond = max(beyond, float(-b.min()), float(b.max() - 1))
        if not torch.isfinite(state).all():
            return {"case": case, "lost": step * solver.interval}
    cost = (time.process_time() - began) / end
    speeds = state[:, 2:].square().mean((0, 2, 3)).sqrt().tolist()
    return {"case": case, "beyond": beyond, "cost": cost, "speeds": speeds, "late": float(max(-b.min(), b.max() - 1))}


CORNERS = [f"{ra}:{size}:{pr}" for ra, size in (("1e6", "128x32"), ("1e9", "256x96")) for pr in (0.1, 1, 10)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write JSON, one line per case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="Rayleigh:NXxNY, and :Prandtl if it is not 1")
    parser.add_argument("--dedalus", help="interpreter with Dedalus; without it, ours alone")
    parser.add_argument("--end", type=float, default=50.0, help="time to run to")
    parser.add_argument("--nusselt", type=float, help="time to run to, for Nusselt numbers over its second half")
    parser.add_argument("--rows", type=int, default=4, help="trajectories of the Nusselt numbers")
    parser.add_argument("--width", type=float, default=2.0, help="of the channel of the Nusselt numbers")
    parser.add_argument("--corners", action="store_true", help="Ra 1e6 and 1e9 at Pr 0.1, 1, 10")
    parser.add_argument("--quick", action="store_true", help="a short run on few points, to see that it works")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cases = ["1e5:32x16"] if options.quick else options.cases or CORNERS
    end = 5.0 if options.quick else options.end
    if options.dedalus:
        os.environ[dedalus.INTERPRETER] = options.dedalus
    for case in cases:
        if options.corners or options.quick:
            _write(corner(case, end))
        if options.nusselt or options.quick:
            _write(nusselt(case, options.nusselt or end, options.rows, options.width))
        if not options.corners and not options.nusselt:
            _write(compare(case, end, bool(options.dedalus)))
    return 0


def _write(found: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
