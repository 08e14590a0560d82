"""Figures of a study: rows in their order, errors as they grow, scores against network calls and along dials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from driftway.report.panels import LETTER, longest, name_all, panels
from driftway.report.plotting import CALIBRATED, finite_methods, lead_curves, score_name
from driftway.report.styling import INK, PALE, Look, house_style, plain
from driftway.studies.statistics import Ranked

Points = Mapping[str, Sequence[Mapping[str, Any]]]
GROWTH = ("vrmse", "vrmse_member", "crps")
CALLS = {"crps": "fair CRPS", "vrmse": "VRMSE of the mean", "large": "spectral log error, low and mid"}
FRONTIER = {"vrmse": "VRMSE of the mean", "vrmse_member": "VRMSE of members"}
# an axis whose largest value is this many times its smallest is logarithmic here, where values are compared by ratio
RATIO = 8.0
# so many curves, and every point has its value beside it
LABELLED = 4


def forest(places: Mapping[str, Sequence[Ranked]], names: Mapping[str, str], look: Look) -> Figure:
    """A line per row, from the best on by the first score; per score each seed, the mean and its interval over states.

    places: score → its ranking; names: score → its name. Rows that diverged are left out.
    """
    rows = [place.row for place in next(iter(places.values())) if place.ranked]
    with house_style():
        size = (LETTER * longest(rows) + 3.6 * len(places) + 0.6, 0.24 * len(rows) + 0.9)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(1, len(places), sharey=True, squeeze=False)[0]
        for ax, (name, ranked) in zip(axes, places.items(), strict=True):
            found = {place.row: place for place in ranked}
            for level, row in enumerate(rows):
                _estimate(ax, level, found[row], look)
            ax.set_xlabel(plain(names[name]))
            _by_ratio(ax, "x", np.array([found[row].score.mean for row in rows]))
        axes[0].set_yticks(range(len(rows)), [plain(row) for row in rows])
        axes[0].set_ylim(len(rows) - 0.4, -0.6)
    return figure


def _estimate(ax: Axes, level: int, place: Ranked, look: Look) -> None:
    color, score = look[place.row].color, place.score
    ax.plot(score.states, (level, level), color=color, linewidth=4, alpha=0.3, solid_capstyle="butt")
    ax.plot(score.values, [level] * len(score.values), "|", color=color, markersize=9, markeredgewidth=1.2)
    ax.plot([score.mean], [level], "o", color=color, markersize=4.5)


def growth(scores: xr.Dataset, field: str, look: Look) -> Figure:
    """VRMSE of the mean and of members, and CRPS, against lead time, a panel each; the range over seeds is shaded.

    scores: as `driftway.studies.statistics.together` gives them, of the rows that are to be drawn
    """
    here = scores.sel(field=field)
    with house_style():
        figure, axes = panels(len(GROWTH))
        for name, ax in zip(GROWTH, axes, strict=True):
            lead_curves(ax, here, name, finite_methods(here, name), look)
            ax.set_ylabel(plain(score_name(scores, name, field)))
        name_all(figure, axes)
    return figure


def against_calls(curves: Points, look: Look) -> Figure:
    """CRPS, VRMSE of the mean and spectral log error against network calls per step, a line per row.

    curves: row → points along its steps, see `driftway.studies.statistics.curve`
    """
    with house_style():
        figure, axes = panels(len(CALLS))
        for (name, label), ax in zip(CALLS.items(), axes, strict=True):
            drawn = {row: _pairs(points, "calls", name) for row, points in curves.items()}
            for row, (x, y) in drawn.items():
                ax.plot(x, y, label=plain(row), **look[row].curve())
            ax.set(xlabel="network calls per step", ylabel=label)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            _by_ratio(ax, "x", np.concatenate([x for x, _ in drawn.values()]))
            _by_ratio(ax, "y", np.concatenate([y for _, y in drawn.values()]))
        name_all(figure, axes)
    return figure


def along_dial(curves: Points, dial: str, look: Look) -> Figure:
    """How accuracy, spectrum and calibration move with a dial: spectral log error against VRMSE of the mean and of
    members, each point marked by the dial's value, and the spread–skill ratio against that value.

    curves: row → points along the dial
    """
    with house_style():
        figure, axes = panels(len(FRONTIER) + 1)
        for (name, label), ax in zip(FRONTIER.items(), axes, strict=False):
            for row, points in curves.items():
                _frontier(ax, row, points, name, look, every=len(curves) <= LABELLED)
            ax.set(xlabel=label, ylabel=CALLS["large"])
            for axis, key in (("x", name), ("y", "large")):
                values = [_value(point, key) for points in curves.values() for point in points]
                _by_ratio(ax, axis, np.array(values))
        _calibration(axes[-1], curves, dial, look)
        name_all(figure, axes)
    return figure


def _frontier(ax: Axes, row: str, points: Sequence[Mapping[str, Any]], name: str, look: Look, every: bool) -> None:
    x, y = _pairs(points, name, "large")
    ax.plot(x, y, label=plain(row), **look[row].curve())
    there = [p for p in points if np.isfinite([_value(p, name), _value(p, "large")]).all()]
    for k, point in enumerate(there):
        if every or k in (0, len(there) - 1):
            ax.annotate(
                plain(_shown(point["value"])),
                (_value(point, name), _value(point, "large")),
                (3, 3),
                textcoords="offset points",
                fontsize=7,
                color=look[row].color,
            )


def _calibration(ax: Axes, curves: Points, dial: str, look: Look) -> None:
    ax.axhspan(*CALIBRATED, color=PALE, alpha=0.6, linewidth=0)
    ax.axhline(1, color=INK, linewidth=0.8)
    values = list(dict.fromkeys(point["value"] for points in curves.values() for point in points))
    numeric = all(isinstance(value, int | float) for value in values)
    places = {value: value if numeric else k for k, value in enumerate(values)}
    for row, points in curves.items():
        x = np.array([places[point["value"]] for point in points], float)
        low, mean, high = (np.array([_value(p, f"spread_skill{end}") for p in points]) for end in ("_low", "", "_high"))
        finite = np.isfinite(mean)
        ax.plot(x[finite], mean[finite], **look[row].curve())
        ax.fill_between(x[finite], low[finite], high[finite], color=look[row].color, alpha=0.12, linewidth=0)
    if numeric:
        _by_ratio(ax, "x", np.array(values, float))
    else:
        ax.set_xticks(range(len(values)), [plain(_shown(value)) for value in values])
    ax.set(xlabel=plain(dial), ylabel="spread / skill")
    ax.set_ylim(bottom=0)


def _pairs(points: Sequence[Mapping[str, Any]], x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    """Two values of each point that has both."""
    pairs = np.array([(_value(point, x), _value(point, y)) for point in points], float).reshape(-1, 2)
    return tuple(pairs[np.isfinite(pairs).all(1)].T)  # type: ignore[return-value]


def _value(point: Mapping[str, Any], name: str) -> float:
    """A point's score; `large` is the spectral log error of the low and mid bands."""
    if name == "large":
        return (point["spectral_log_error_low"] + point["spectral_log_error_mid"]) / 2
    return point[name]


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _by_ratio(ax: Axes, axis: str, values: np.ndarray) -> None:
    """A logarithmic axis with plain numbers, where positive values span a wide range."""
    finite = values[np.isfinite(values)]
    if finite.size == 0 or finite.min() <= 0 or finite.max() <= RATIO * finite.min():
        return
    (ax.set_xscale if axis == "x" else ax.set_yscale)("log")
    scale = ax.xaxis if axis == "x" else ax.yaxis
    few = finite.max() > 1000 * finite.min()
    scale.set_major_locator(LogLocator(subs=(1.0,) if few else (1.0, 2.0, 5.0)))
    scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    scale.set_minor_formatter(NullFormatter())
