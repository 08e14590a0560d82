"""How fast random windows of The Well's files are read, beside plain h5py reading the same numbers.

    python benchmarks/well_reading.py [--quick] [--json]

Fields and grid are those of rayleigh_benard (buoyancy, pressure and velocity on 512×128), in files as The Well has
them (contiguous) and as `save_well` writes them (a chunk and a checksum per frame). h5py reads each field of a window
into an array of its own and keeps its files open; driftway puts the same numbers into one array with the components of
the velocity apart, window by window or a batch of transitions at once. A second ratio is to h5py and numpy that make
the same array.

From the disk, the system's page cache is emptied before each reading and time is counted; from memory, everything is in
the page cache (but not in the processor's) and CPU time is counted, so that no disk hides what the reading costs. The C
library is told to keep memory that is freed, since new pages cost more than reading and would fall to either by chance.
Repeats alternate on one thread; the ratio is the median of theirs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from driftway.data import Axis, Fields, Trajectories, open_well, save_well
from driftway.randomness import generator

FIELDS = Fields(("buoyancy", "pressure", "velocity_x", "velocity_y"), ("1",) * 4)
ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "1000000000"}
GROUPS = ("t0_fields/buoyancy", "t0_fields/pressure", "t1_fields/velocity")
Windows = list[tuple[int, int]]


def write(folder: Path, files: int, trajectories: int, frames: int, size: tuple[int, int]) -> None:
    """Files of random numbers, with a chunk and a checksum per frame."""
    wall = Axis("y", tuple(((1 - np.cos(np.pi * np.arange(size[1]) / (size[1] - 1))) / 2).tolist()), "wall")
    axes = (Axis.uniform("x", size[0], 4.0), wall)
    for number in range(files):
        states = generator("reading", number).standard_normal((trajectories, frames, 4, *size), np.float32)
        save_well(Trajectories(states, FIELDS, axes, 0.25), folder / f"{number}.hdf5", "rayleigh_benard")


def contiguous(source: Path, target: Path) -> None:
    """The same file without chunks."""
    target.parent.mkdir(exist_ok=True)
    with h5py.File(source) as old, h5py.File(target, "w") as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value
        for name in old:
            old.copy(name, new)
        for name in GROUPS:
            about = dict(new[name].attrs)
            del new[name]
            new.create_dataset(name, data=old[name][()])
            new[name].attrs.update(about)


def plain(folder: Path, trajectories: int, length: int) -> Callable[[Windows], list[list[np.ndarray]]]:
    """h5py alone."""
    files = [[h5py.File(file)[name] for name in GROUPS] for file in sorted(folder.glob("*.hdf5"))]

    def window(row: int, start: int) -> list[np.ndarray]:
        return [stored[row % trajectories, start : start + length] for stored in files[row // trajectories]]

    return lambda windows: [window(row, start) for row, start in windows]


def separated(folder: Path, trajectories: int, length: int) -> Callable[[Windows], object]:
    """h5py, and then one array with a channel for each component, as driftway gives it."""
    fields = plain(folder, trajectories, length)

    def joined(buoyancy: np.ndarray, pressure: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        states = np.empty((length, 4, *buoyancy.shape[1:]), np.float32)
        states[:, 0], states[:, 1], states[:, 2:] = buoyancy, pressure, np.moveaxis(velocity, -1, 1)
        return states

    return lambda windows: [joined(*found) for found in fields(windows)]


def ours(folder: Path, length: int) -> tuple[Callable[[Windows], object], Callable[[Windows], object]]:
    """driftway's windows, one by one, and its batches of transitions of as many frames in all."""
    data = open_well(folder)
    transitions, per_row = data.transitions(), data.shape[1] - 1

    def window(row: int, start: int) -> np.ndarray:
        return data.states[np.full(length, row), np.arange(start, start + length)]

    def batch(windows: Windows) -> object:
        return transitions.batch(np.array([row * per_row + start for row, start in windows]))

    return lambda windows: [window(row, start) for row, start in windows], batch


def seconds(read: Callable[[Windows], object], windows: Windows, batch: int, forget: Sequence[Path]) -> float:
    """Time of reading some windows batch by batch, from files that the page cache forgets before, or CPU time."""
    for file in forget:
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    clock = time.perf_counter if forget else time.process_time
    began = clock()
    for first in range(0, len(windows), batch):
        kept = read(windows[first : first + batch])
        del kept
    return clock() - began


def measure(folder: Path, disk: bool, length: int, batch: int, repeats: int) -> list[dict[str, Any]]:
    """Megabytes per second of h5py, and of what driftway reads in the same run."""
    data, files = open_well(folder), sorted(folder.glob("*.hdf5"))
    rows, frames = data.shape[:2]
    reference, same = (make(folder, rows // len(files), length) for make in (plain, separated))
    one, pairs = ours(folder, length)
    readers = {"windows": one, "batches": pairs} if length == 2 else {"windows": one}
    rng, times, count = generator("windows", length), list[dict[str, float]](), 8 * batch
    for _ in range(repeats + 1):
        at = list(zip(*(rng.integers(n, size=count).tolist() for n in (rows, frames - length)), strict=True))
        order = [("h5py", reference), ("separated", same), *readers.items()]
        order = order if len(times) % 2 else order[::-1]
        times.append({name: seconds(read, at, batch, files if disk else ()) for name, read in order})
    times, size = times[1:], 4e-6 * count * length * float(np.prod(data.shape[2:]))
    return [
        {
            "from": "disk" if disk else "memory",
            "files": folder.name,
            "frames": length,
            "read": name,
            "h5py_mb_per_s": size / statistics.median(t["h5py"] for t in times),
            "ratio": statistics.median(t["h5py"] / t[name] for t in times),
            "same": statistics.median(t["separated"] / t[name] for t in times),
        }
        for name in readers
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small files, to see that it runs")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    if arguments is None and not ALLOCATION.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATION})
    files, trajectories, frames, size, repeats = (
        (2, 1, 40, (16, 8), 2) if options.quick else (4, 2, 100, (512, 128), 15)
    )
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        chunked, whole = Path(place) / "chunked", Path(place) / "contiguous"
        write(chunked, files, trajectories, frames, size)
        for file in sorted(chunked.glob("*")):
            contiguous(file, whole / file.name)
        os.sync()
        for disk, folder, (length, batch) in product((True, False), (whole, chunked), ((2, 8), (16, 1))):
            rows += measure(folder, disk, length, batch, repeats)
    sys.stdout.write(json.dumps(rows, indent=1) + "\n" if options.json else table(rows))
    return 0


def table(rows: list[dict[str, Any]]) -> str:
    """Plain text, one line per kind of file and window."""
    head = (
        f"{'from':<8}{'files':<12}{'frames':>7} {'read':<9}{'h5py':>12}{'driftway/h5py':>15}{'to the same array':>20}\n"
    )
    lines = (
        f"{r['from']:<8}{r['files']:<12}{r['frames']:>7} {r['read']:<9}"
        f"{r['h5py_mb_per_s']:>7.0f} MB/s{r['ratio']:>14.0%}{r['same']:>19.0%}\n"
        for r in rows
    )
    return head + "".join(lines)


if __name__ == "__main__":
    sys.exit(main())
