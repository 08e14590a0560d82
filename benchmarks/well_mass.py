"""Training on more data than memory holds: two epochs over files in The Well's layout, in a process of its own.

    python benchmarks/well_mass.py [--gigabytes 20] [--folder DIR] [--quick] [--json]

The files are those of rayleigh_benard (512×128, 200 frames, five trajectories in a file) with one trajectory written
again and again, each time to the disk, and are deleted in the end. A transformer of a thousand weights per layer or so
is fitted to them, so that reading weighs as much as it can. Memory is the largest resident set of the process, which
leaves out the system's page cache. The time of an epoch is read off the log that the run writes, and beside it the CPU
time of the process, which other programs on the machine do not change as much.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from driftway.data import Axis, Fields, Trajectories, open_data, save_well
from driftway.randomness import generator
from driftway.schema import Experiment
from driftway.workflow import fit_stepper

FIELDS = Fields(("buoyancy", "pressure", "velocity_x", "velocity_y"), ("1",) * 4)
GROUPS = ("t0_fields/buoyancy", "t0_fields/pressure", "t1_fields/velocity")
PER_FILE, BATCH, MARKS = 5, 16, 4
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def write(folder: Path, gigabytes: float, frames: int, size: tuple[int, int]) -> None:
    """Training files of so many gigabytes in all, without chunks, and one small file each for valid and test."""
    wall = Axis("y", tuple(((1 - np.cos(np.pi * np.arange(size[1]) / (size[1] - 1))) / 2).tolist()), "wall")
    axes = (Axis.uniform("x", size[0], 4.0), wall)
    states = generator("mass").standard_normal((1, frames, 4, *size), np.float32)
    known = {"Rayleigh": np.array([1e6]), "Prandtl": np.array([1.0])}
    data = Trajectories(states, FIELDS, axes, 0.25, parameters=known)
    for split in ("valid", "test"):
        save_well(data, folder / "data" / split / "a.hdf5", "rayleigh_benard")
    (folder / "data" / "train").mkdir()
    for number in range(max(1, round(1e9 * gigabytes / (PER_FILE * states.nbytes)))):
        _repeat(folder / "data" / "valid" / "a.hdf5", folder / "data" / "train" / f"{number:03d}.hdf5")


def _repeat(source: Path, target: Path) -> None:
    with h5py.File(source) as old, h5py.File(target, "w") as new:
        new.attrs.update(old.attrs)
        new.attrs["n_trajectories"] = PER_FILE
        for name in old:
            old.copy(name, new)
        for name in GROUPS:
            stored, about = old[name], dict(old[name].attrs)
            del new[name]
            whole = new.create_dataset(name, (PER_FILE, *stored.shape[1:]), np.float32)
            whole.attrs.update(about)
            for row in range(PER_FILE):
                whole[row] = stored[0]


def experiment(folder: Path, steps: int) -> Experiment:
    """A tiny transformer on coarse patches."""
    network = {"type": "dit", "patch": 16, "width": 16, "depth": 1, "heads": 1, "embedding": 8}
    return Experiment.model_validate(
        {
            "name": "mass",
            "data": {"path": str(folder)},
            "stepper": {"type": "deterministic", "network": network},
            "training": {"steps": steps, "batch": BATCH, "log_every": max(1, steps // (2 * MARKS)), "threads": 1},
        }
    )


def child(folder: Path, steps: int) -> None:
    """Fit, and say how much memory that took."""
    fit_stepper(experiment(folder, steps), folder / "run")
    sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT / 1e6}\n")


def measure(folder: Path) -> dict[str, Any]:
    """Two epochs in a process of their own, whose log is watched."""
    transitions = len(open_data(folder).split("train").transitions())
    steps, log = 2 * -(-transitions // BATCH), folder / "run" / "metrics.jsonl"
    began, marks = time.perf_counter(), list[tuple[int, float, float]]()
    process = subprocess.Popen(
        [sys.executable, __file__, "--child", str(folder), str(steps)], stdout=subprocess.PIPE, text=True
    )
    while process.poll() is None:
        lines = log.read_text().splitlines() if log.exists() else []
        if len(lines) > len(marks):
            now = time.perf_counter(), cpu_seconds(process.pid)
            marks += [(json.loads(line)["step"], *now) for line in lines[len(marks) :]]
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(process.returncode)
    assert process.stdout is not None
    middle, first, last = next(m for m in marks if m[0] >= steps // 2), marks[0], marks[-1]
    halves = ((first, middle), (middle, last))
    wall, cpu = ([1e3 * (b[i] - a[i]) / max(1, b[0] - a[0]) for a, b in halves] for i in (1, 2))
    states = 4e-9 * float(np.prod(open_data(folder).split("train").shape))
    return {
        "gigabytes": states,
        "steps": steps,
        "before_training_s": first[1] - began,
        "ms_per_step": wall,
        "cpu_ms_per_step": cpu,
        "peak_mb": float(process.stdout.read()),
    }


def cpu_seconds(process: int) -> float:
    """CPU time that a process has taken, by Linux's account; 0 elsewhere."""
    account = Path(f"/proc/{process}/stat")
    if not account.exists():
        return 0.0
    user, system = account.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=20)
    parser.add_argument("--folder", type=Path, help="where the files go, by default the system's temporary folder")
    parser.add_argument("--quick", action="store_true", help="a few small files, to see that it runs")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        child(Path(options.child[0]), int(options.child[1]))
        return 0
    gigabytes, frames, size = (0.002, 9, (64, 16)) if options.quick else (options.gigabytes, 200, (512, 128))
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        write(place, gigabytes, frames, size)
        found = measure(place)
    finally:
        shutil.rmtree(place)
    sys.stdout.write(json.dumps(found, indent=1) + "\n" if options.json else table(found))
    return 0


def table(found: dict[str, Any]) -> str:
    """Plain text."""
    return (
        f"{found['gigabytes']:.1f} GB of states, {found['steps']} steps of {BATCH} transitions in two epochs\n"
        f"before training  {found['before_training_s']:8.0f} s (mean and deviation in one pass, and a first batch)\n"
        f"first epoch      {found['ms_per_step'][0]:8.1f} ms per step, {found['cpu_ms_per_step'][0]:.1f} of the CPU\n"
        f"second epoch     {found['ms_per_step'][1]:8.1f} ms per step, {found['cpu_ms_per_step'][1]:.1f} of the CPU\n"
        f"peak memory      {found['peak_mb']:8.0f} MB\n"
    )


if __name__ == "__main__":
    sys.exit(main())
