"""A channel: periodic along x, walls at y = 0 and 1 with Chebyshev's roots between them, as The Well's has."""

from __future__ import annotations

import numpy as np

from driftway.data.axes import Axis, Fields
from driftway.data.layout import Layout
from driftway.data.trajectories import Trajectories
from driftway.randomness import generator


def wall_axis(count: int, name: str = "y") -> Axis:
    """Chebyshev's roots between 0 and 1, where the walls are."""
    points = (1 - np.cos(np.pi * (np.arange(count) + 0.5) / count)) / 2
    return Axis(name, tuple(points.tolist()), "wall", 1.0)


def channel(columns: int = 16, levels: int = 12, fields: tuple[str, ...] = ("u",)) -> Layout:
    """The layout of a channel of length 4."""
    axes = (Axis.uniform("x", columns, 4.0, symmetry=1), wall_axis(levels))
    return Layout(Fields(fields, ("1",) * len(fields)), axes, 0.25)


def grid(layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """x and y at every point, (*S) each."""
    x, y = np.meshgrid(*(np.asarray(axis.coordinates) for axis in layout.axes), indexing="ij")
    return x, y


def drifting(count: int = 10, frames: int = 7, columns: int = 16, levels: int = 8) -> Trajectories:
    """Waves of random phase that move along x, stronger in the middle of the channel, with splits of 6, 2 and 2."""
    layout, rng = channel(columns, levels), generator("drifting")
    x, y = grid(layout)
    phase = rng.uniform(0, 2 * np.pi, (count, 1, 1, 1)) + 0.3 * np.arange(frames)[:, None, None]
    waves = np.sin(np.pi * y) * np.cos(np.pi / 2 * x - phase) + 0.3 * np.cos(np.pi * x + 2 * phase) * y
    return Trajectories(
        waves[:, :, None].astype(np.float32),
        layout.fields,
        layout.axes,
        layout.dt,
        splits=("train",) * (count - 4) + ("valid",) * 2 + ("test",) * 2,
    )
