"""Panels of figures, and the names of the curves in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# an axis whose largest value is this many times its smallest is logarithmic
DYNAMIC_RANGE = 100.0
# inches of a letter of a label, and of what stands before it in a legend
LETTER, HANDLE = 0.068, 0.55


def panels(count: int, methods: Sequence[str] = (), columns: int = 3) -> tuple[Figure, list[Axes]]:
    """One wide panel with room for labels at its right, or rows of up to `columns`."""
    columns = min(count, columns)
    rows = -(-count // columns)
    size = (6.2 + LETTER * longest(methods), 4.2) if count == 1 else (4.2 * columns, 2.9 * rows + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[count:]:
        ax.remove()
    return figure, axes[:count]


def longest(methods: Sequence[str]) -> int:
    """Letters of the longest name."""
    return max((len(method) for method in methods), default=0)


def small_panels(count: int, sharey: bool = False, columns: int = 3) -> tuple[Figure, list[Axes]]:
    """Rows of up to `columns` small panels, with room for nothing but a title above each."""
    columns = min(max(count, 1), columns)
    rows = -(-max(count, 1) // columns)
    figure = Figure(figsize=(2.9 * columns + 0.4, 1.75 * rows + 0.4), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)
    for ax in axes[count:]:
        ax.set_axis_off()
    return figure, axes


def wide_range(values: np.ndarray) -> bool:
    """Whether positive values span so much that a linear axis would hide the small ones."""
    finite = values[np.isfinite(values)]
    return finite.size > 0 and finite.min() > 0 and finite.max() > DYNAMIC_RANGE * finite.min()


# --- which curve is which ------------------------------------------------------------------------------------------


def name_all(figure: Figure, axes: Sequence[Axes]) -> None:
    """Names at the ends of the curves of one panel, or a legend below several."""
    if len(axes) == 1:
        name_curves(axes[0])
        return
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        columns = max(1, int(figure.get_figwidth() / (LETTER * longest(labels) + HANDLE)))
        figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(handles)), handlelength=3)


class _End(NamedTuple):
    """Where a curve ends, as fractions of its panel, and what it is."""

    x: float
    y: float
    label: str
    color: str


def name_curves(ax: Axes) -> None:
    """Each curve's name at the right of the panel, in its colour, with a line from the curve's last point."""
    ax.autoscale_view()
    ends = sorted((end for line in ax.get_lines() if (end := _end(ax, line)) is not None), key=lambda end: end.y)
    height = 0.8 * ax.get_figure(root=True).get_figheight()  # type: ignore[union-attr]
    for end, level in zip(ends, apart([end.y for end in ends], 0.16 / height), strict=True):
        pointer = {"linestyle": "-" if end.x > 0.9 else ":", "linewidth": 0.6, "color": end.color}
        ax.annotate(
            end.label,
            (end.x, end.y),
            (1.07, level),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            color=end.color,
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 3, **pointer},
        )


def _end(ax: Axes, line: object) -> _End | None:
    label, data = line.get_label(), line.get_xydata()  # type: ignore[attr-defined]
    finite = data[np.isfinite(data).all(1)]
    if label.startswith("_") or len(finite) == 0:
        return None
    x, y = ax.transAxes.inverted().transform(ax.transData.transform(finite[-1]))
    stopped = len(finite) < len(data) and not np.isfinite(data[-1, 1])
    name = f"{label} (diverged)" if stopped else label
    return _End(float(x), float(np.clip(y, 0, 1)), name, line.get_color())  # type: ignore[attr-defined]


def apart(levels: Sequence[float], gap: float) -> list[float]:
    """Rising levels moved as little as possible to be `gap` apart, within [0, 1] if they fit: isotonic regression."""
    blocks: list[list[float]] = []
    for k, level in enumerate(levels):
        blocks.append([level - gap * k])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    flat = [float(np.mean(block)) for block in blocks for _ in block]
    return [max(0.0, min(value, 1 - gap * (len(flat) - 1))) + gap * k for k, value in enumerate(flat)]
