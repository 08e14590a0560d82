"""A small data set that uses all that a data set can hold, readers of arrays, and places that refuse a write."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftway.data.axes import Axis, Fields
from driftway.data.trajectories import Trajectories

X = Axis.uniform("x", 6, 3.0, symmetry=2, units="m")
Y = Axis("y", (-1.0, -0.5, 0.25, 1.0), "wall", 2.5, "km")


def example(count: int = 5, frames: int = 7, **changes: Any) -> Trajectories:
    """Pressure and a velocity between walls, with parameters, static fields, forcing and splits."""
    rng = np.random.default_rng(count + 100 * frames)

    def random(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    data = Trajectories(
        states=random(count, frames, 3, 6, 4),
        fields=Fields(("p", "v_x", "v_y"), ("Pa", "m s-1", "m s-1")),
        axes=(X, Y),
        dt=0.25,
        time_units="h",
        parameters={"viscosity": np.linspace(1, 2, count), "alpha": np.full(count, 0.5)},
        static={"topography": random(6, 4), "mask": random(6, 4)},
        forcing={"wind": random(frames, 6, 4)},
        splits=tuple(("train", "train", "valid", "test", "train")[row % 5] for row in range(count)),
        attributes={"dataset_name": "channel"},
    )
    return replace(data, **changes)


@dataclass
class Counted:
    """A reader of an array that remembers what it was asked for."""

    array: np.ndarray
    calls: list[tuple[int, int, int]] = field(default_factory=list)
    together: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def read(self, row: int, start: int, out: np.ndarray) -> None:
        self.calls.append((row, start, start + len(out)))
        out[:] = self.array[row, start : start + len(out)]


def bits(values: Any) -> list[int]:
    """Float32 numbers as they are in memory: NaN equals NaN, and -0 is not 0."""
    return np.ascontiguousarray(values, np.float32).view(np.uint32).ravel().tolist()


def flip(file: Path, offset: int, bit: int = 0) -> None:
    """Change one bit of a file."""
    raw = bytearray(file.read_bytes())
    raw[offset] ^= 1 << bit
    file.write_bytes(raw)


@contextmanager
def tmpfs(place: Path, options: str) -> Iterator[Path]:
    """A file system of its own on `place`, e.g. with `size=1m`; skips the test where mounting is refused."""
    place.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a file system: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def entries(folder: Path) -> list[str]:
    """Names in a folder."""
    return sorted(path.name for path in folder.iterdir())


def put(group: Any, name: str, values: Any, sample: bool, time: bool, **more: Any) -> None:
    """A data set in The Well's layout, with the attributes that its readers look for."""
    group.create_dataset(name, data=np.asarray(values, np.float32))
    group[name].attrs.update(sample_varying=sample, time_varying=time, **more)
