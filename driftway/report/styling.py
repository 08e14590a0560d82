"""How methods look: one colour, line and marker each, the same in every figure and table.

Colours are those of Okabe and Ito (2008), safe for colour blindness. A run has a colour, a sampler a line and a marker;
the truth is black, and references are grey without markers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr

from driftway.glossary import is_reference

Line = str | tuple[int, tuple[float, ...]]
Look = Mapping[str, "Style"]
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
LINES: tuple[Line, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (5, 1.4, 1.2, 1.4)), (0, (8, 1.5, 3, 1.5)))
MARKERS = "os^Dv<>PXph*"
GREYS: tuple[tuple[str, Line], ...] = (
    ("#555555", (0, (6, 2))),
    ("#8c8c8c", (0, (2.5, 2))),
    ("#8c8c8c", (0, (1, 1.2))),
    ("#555555", (0, (6, 2, 1, 2))),
)
INK, PALE = "#222222", "#dcdcdc"
HOURS = ("h", "hr", "hour", "hours")
LONG = 72.0  # hours, beyond which lead times are told in days
TIMES = ("correlation_time", "correlation_time_low", "correlation_time_high", "first_failure")
MANY = 6  # fields that a figure still shows side by side
WEATHER = (
    *("tas", "2m_temperature", "zg500", "geopotential500", "ua250", "u_component_of_wind250"),
    *("ta850", "temperature850", "pr_6h", "total_precipitation_6hr", "pl", "mean_sea_level_pressure"),
)
RC: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#777777",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "driftway",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib's settings for figures of this package, restored afterwards; saving a figure needs them too."""
    with mpl.rc_context(RC):
        yield


@dataclass(frozen=True)
class Style:
    """How one method is drawn, in every figure."""

    color: str
    marker: str = ""
    line: Line = "-"

    def curve(self, points: int = 0) -> dict[str, Any]:
        """Keyword arguments for `Axes.plot`, with about eight markers on a curve of `points` points."""
        every = max(1, points // 8)
        return {"color": self.color, "marker": self.marker, "linestyle": self.line, "markevery": every}

    @property
    def dashes(self) -> str:
        """The line as SVG's `stroke-dasharray`; empty if it is solid."""
        return "" if isinstance(self.line, str) else " ".join(f"{length * 1.5:g}" for length in self.line[1])


def styles(methods: Sequence[str], runs: Mapping[str, str] = {}, samplers: Mapping[str, str] = {}) -> dict[str, Style]:
    """A style for each method that no other has, for up to 60 samplers of one run.

    runs, samplers: method → what it was forecast with; without them each method counts as a run of its own
    """
    learned = [method for method in methods if not is_reference(method)]
    families = _positions([runs.get(method, method) for method in learned])
    variants = _positions([samplers.get(method, "") for method in learned])
    references = [method for method in methods if is_reference(method)]
    look = {
        method: Style(GREYS[i % len(GREYS)][0], "", GREYS[i % len(GREYS)][1]) for i, method in enumerate(references)
    }
    for method, family, variant in zip(learned, families, variants, strict=True):
        taken = set(look.values())
        look[method] = next((s for s in _candidates(family, variant) if s not in taken), Style(INK))
    return {method: look[method] for method in methods}


def _positions(values: Sequence[str]) -> list[int]:
    order = list(dict.fromkeys(values))
    return [order.index(value) for value in values]


def _candidates(family: int, variant: int) -> Iterator[Style]:
    """Styles of one run, its sampler's first."""
    color = COLORS[family % len(COLORS)]
    shift = variant + family // len(COLORS)
    for turn, step in product(range(len(MARKERS)), range(len(LINES))):
        k = shift + step
        yield Style(color, MARKERS[(k + turn) % len(MARKERS)], LINES[k % len(LINES)])


def styles_of(scores: xr.Dataset, others: Sequence[str] = ()) -> dict[str, Style]:
    """Styles of the methods of `scores`, by their `run` and `sampler` if it has them, and of `others` (runs)."""
    methods = [str(method) for method in scores["method"].values]

    def known(name: str) -> dict[str, str]:
        return dict(zip(methods, map(str, scores[name].values), strict=True)) if name in scores else {}

    return styles(list(dict.fromkeys([*methods, *others])), known("run"), known("sampler"))


def plain(text: object) -> str:
    """Text that matplotlib shows as it is, dollars included."""
    return str(text).replace("$", r"\$")


def evenly(count: int, most: int) -> list[int]:
    """At most `most` indices below `count`, evenly spaced, with both ends."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})


def time_unit(data: xr.Dataset) -> str:
    """The unit of lead times; empty if it is dimensionless."""
    attributes = data["lead_time"].attrs
    unit = str(attributes.get("time_units", attributes.get("units", "")))
    return "" if unit == "1" else unit


def in_days(data: xr.Dataset) -> xr.Dataset:
    """The same with lead times, and scores that are times, in days where hours reach beyond `LONG`."""
    if time_unit(data) not in HOURS or not len(data["lead_time"]) or float(data["lead_time"][-1]) <= LONG:
        return data
    times = {name: data[name] / 24 for name in TIMES if name in data}
    for name, values in times.items():
        values.attrs = data[name].attrs
    lead = ("lead_time", data["lead_time"].values / 24, {**data["lead_time"].attrs, "time_units": "days"})
    return data.assign(times).assign_coords(lead_time=lead)


def headline(fields: Sequence[str]) -> list[str]:
    """The fields that figures of several fields show: all where they are few, else those that weather is told by."""
    if len(fields) <= MANY:
        return list(fields)
    return [name for name in WEATHER if name in fields][:MANY] or list(fields)[:MANY]


def field_names(fields: Sequence[str]) -> str:
    """The names of fields; of many, those that figures show and how many more there are."""
    shown = headline(fields)
    return ", ".join(shown) + (f" and {len(fields) - len(shown)} more" if len(shown) < len(fields) else "")


def lead_label(data: xr.Dataset) -> str:
    """The label of a lead-time axis, with its unit."""
    unit = time_unit(data)
    return f"lead time [{unit}]" if unit else "lead time"
