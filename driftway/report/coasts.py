"""Coastlines on maps."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet
from matplotlib.patheffects import withStroke

from driftway.report.styling import INK

LAND = 0.5  # the share of land from which a cell counts as land


def coastline(ax: Axes, lat: np.ndarray, lon: np.ndarray, mask: np.ndarray) -> QuadContourSet:
    """A thin line around the cells whose share of land (lat, lon) is above one half, on a map in these coordinates.

    It runs half-way between the centres of cells of land and sea, dark on a pale rim so that it is seen on any colour,
    and ends where the outer cells do. lat and lon may be indices of rows and columns, as in `imshow`; limits stay.
    """
    limits = ax.get_xlim(), ax.get_ylim()
    land = np.pad((mask > LAND).astype(float), 1, mode="edge")
    lines = ax.contour(_with_ends(lon), _with_ends(lat), land, levels=[0.5], colors=INK, linewidths=0.7)
    lines.set_path_effects([withStroke(linewidth=1.5, foreground="white", alpha=0.55)])
    ax.set(xlim=limits[0], ylim=limits[1])
    return lines


def _with_ends(points: np.ndarray) -> np.ndarray:
    """Centres of cells between the outer edges of the first and the last."""
    steps = np.diff(points)
    return np.concatenate([[points[0] - steps[0] / 2], points, [points[-1] + steps[-1] / 2]])
