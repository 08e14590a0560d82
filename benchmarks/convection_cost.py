"""What a unit of time costs in convection: the solver here, Dedalus, and an emulator, from one state in one run.

    python benchmarks/convection_cost.py [--dedalus dedalus/bin/python] [--repeats 5] [--quick] [--json] CASE…

A case is STUDY:Rayleigh, by default convection:3e6 and convection_fine:3e7: the study's grid and networks, with random
weights, which cost the same as fitted ones. The solver runs from rest to t = 20, and all start from there: three
flows, Pr = 1. CPU seconds on one core for one flow and one unit of time; medians over repeats that alternate. States
are those that are stored, four in a unit of time; the emulator decodes each, and makes one member or eight of each
flow. Dedalus runs at Courant number 0.5, ours at 1; its time is the difference of runs over one and three units, which
leaves its start out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import driftway
from driftway.build import Signature, build_codec, build_stepper
from driftway.data import Conditioning
from driftway.data.layout import Layout
from driftway.emulator import Emulator
from driftway.pdes import Preset, RayleighBenard, dedalus
from driftway.randomness import stream
from driftway.simulate import preset_named
from driftway.studies.file import Study, load_study

STUDIES = Path(driftway.__file__).parent / "experiments" / "studies"
CASES = ("convection:3e6", "convection_fine:3e7")
ROWS = ("deterministic", "interpolant_1", "interpolant", "interpolant_10")
FLOWS, START, UNITS = 3, 20.0, 2
Work = Callable[[], object]


def simulated(study: Study, *overrides: str) -> Preset:
    """The study's preset, with other numbers."""
    data = study.about.data
    assert data.preset is not None
    found = preset_named(data.preset, [*data.overrides, *overrides])
    assert isinstance(found, Preset)
    return found


def emulators(study: Study) -> dict[str, Emulator]:
    """The study's networks, each with its own sampler."""
    preset = simulated(study)
    signature = Signature(len(preset.fields), tuple(axis.boundary for axis in preset.axes), parameters=2)
    codec, inner = build_codec(study.autoencoders["autoencoder"].codec, signature)
    layout = Layout(preset.fields, preset.axes, preset.interval)
    rows = {name: study.rows[name] for name in ROWS if name in study.rows}
    return {name: Emulator(codec, build_stepper(row.experiment.stepper, inner), layout) for name, row in rows.items()}


def started(study: Study, rayleigh: float, start: float) -> tuple[RayleighBenard, Tensor]:
    """The study's solver at one Rayleigh number and Pr = 1, and three flows of it at a time."""
    solver = simulated(study, f"rayleigh=[{rayleigh}]", "prandtl=[1.0]").solver
    assert isinstance(solver, RayleighBenard)
    state = solver.initial(stream(0, "cost", rows=range(FLOWS)))
    for _ in range(round(start / solver.interval)):
        state = solver.step(state)
    return solver, state


def ways(study: Study, solver: RayleighBenard, state: Tensor, units: int) -> dict[str, tuple[Work, int]]:
    """What can be timed, and how many flows it takes forward by so many units of time."""
    steps = round(units / solver.interval)
    known = Conditioning(params=solver.numbers(Conditioning(), len(state)).float())
    found: dict[str, tuple[Work, int]] = {
        "solver": (lambda: list(islice(solver.rollout(state, Conditioning()), steps)), FLOWS),
        "solver, one flow": (lambda: list(islice(solver.rollout(state[:1], Conditioning()), steps)), 1),
    }
    for name, emulator in emulators(study).items():
        for members in (1, 8):
            many = state.float().repeat_interleave(members, 0)
            rows = Conditioning(params=known.params.repeat_interleave(members, 0))  # type: ignore[union-attr]
            keys: list[tuple[int, ...]] = [(flow, member) for flow in range(FLOWS) for member in range(members)]

            work = partial(_rolled, emulator, many, steps, keys, rows)
            found[f"{name}, {members} member{'s' * (members > 1)}"] = work, FLOWS * members
    return found


def _rolled(emulator: Emulator, u: Tensor, steps: int, keys: list[tuple[int, ...]], known: Conditioning) -> int:
    return sum(len(state) for state in emulator.rollout(u, steps, keys, conditioning=known))


def measure(case: str, repeats: int, start: float, units: int, interpreter: str | None) -> dict[str, Any]:
    """CPU seconds for one flow and one unit of time, by what makes it."""
    name, rayleigh = case.split(":")
    study = load_study(STUDIES / f"{name}.yaml")
    solver, state = started(study, float(rayleigh), start)
    chosen = ways(study, solver, state, units)
    found: dict[str, list[float]] = {way: [] for way in chosen}
    for repeat in range(repeats + 1):
        for way, (work, flows) in chosen.items():
            began = time.process_time()
            with torch.no_grad():
                work()
            if repeat:  # the first warms up
                found[way].append((time.process_time() - began) / (flows * units))
    cost = {way: statistics.median(times) for way, times in found.items()}
    if interpreter:
        os.environ[dedalus.INTERPRETER] = interpreter
        cost["dedalus"] = (_by_dedalus(solver, state[:1], 3) - _by_dedalus(solver, state[:1], 1)) / 2
    return {"case": case, "size": solver.size, "cpu_seconds": cost}


def _by_dedalus(solver: RayleighBenard, state: Tensor, units: int) -> float:
    before, theirs = _children(), replace(solver, engine="dedalus", courant=0.5).rollout(state, Conditioning())
    for _ in range(round(units / solver.interval)):
        next(theirs)
    theirs.close()  # type: ignore[attr-defined]
    return _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(found: dict[str, Any]) -> str:
    """Plain text."""
    cost = found["cpu_seconds"]
    lines = [f"{found['case']}, {'×'.join(map(str, found['size']))}\n"]
    for way, seconds in cost.items():
        lines.append(f"  {way:28}{seconds:9.4f} s {cost['solver'] / seconds:8.2f} × as fast as the solver\n")
    return "".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=[], help="STUDY:Rayleigh")
    parser.add_argument("--dedalus", help="interpreter with Dedalus; without it, ours alone")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="once and briefly, to see that it runs")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cases = options.cases or (CASES[:1] if options.quick else CASES)
    for case in cases:
        found = measure(case, *((1, 1.0, 1) if options.quick else (options.repeats, START, UNITS)), options.dedalus)
        sys.stdout.write(json.dumps(found) + "\n" if options.json else table(found))
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
