"""Figures of a forecast study: pure functions from arrays to matplotlib figures, without pyplot or global state.

Every method keeps one colour, marker and line style in all figures (Okabe and Ito 2008, safe for colour blindness);
the truth is black, persistence and climatology are dashed greys.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Look = Mapping[str, "Style"]
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = "os^Dv<>PXph*"
LINES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (4, 1.5, 1, 1.5)), (0, (1, 1.2)))
BASELINES: dict[str, Any] = {
    "persistence": ("#555555", (0, (6, 2))),
    "climatology": ("#8c8c8c", (0, (2.5, 2))),
}
INK, PALE = "#222222", "#dcdcdc"
METHOD, CALLS = "method", "calls per step"
# a ratio inside this band is what the emulation literature accepts as calibrated
CALIBRATED = (0.8, 1.1)
# an axis whose largest value is this many times its smallest is logarithmic
DYNAMIC_RANGE = 100.0
RC = {
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
    line: Any = "-"

    def curve(self, points: int = 0) -> dict[str, Any]:
        """Keyword arguments for `Axes.plot`, with about eight markers on a curve of `points` points."""
        every = max(1, points // 8)
        return {"color": self.color, "marker": self.marker, "linestyle": self.line, "markevery": every}


def styles(methods: Sequence[str]) -> dict[str, Style]:
    """A style for each method, by position; twelve methods still differ in colour or line, and in marker."""
    learned = [method for method in methods if method.casefold() not in BASELINES]
    look = {
        method: Style(OKABE_ITO[i % len(OKABE_ITO)], MARKERS[i % len(MARKERS)], LINES[i // len(OKABE_ITO) % len(LINES)])
        for i, method in enumerate(learned)
    }
    for method in methods:
        if method not in look:
            color, line = BASELINES[method.casefold()]
            look[method] = Style(color, "", line)
    return look


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


def lead_label(data: xr.Dataset) -> str:
    """The label of a lead-time axis, with its unit."""
    unit = time_unit(data)
    return f"lead time [{unit}]" if unit else "lead time"


def encode(figure: Figure, kind: str, dpi: int = 130) -> bytes:
    """The figure as a file of this kind: `png`, `svg` or `pdf`; equal figures give equal bytes."""
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    buffer = io.BytesIO()
    with house_style():
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=dates.get(kind))
    return buffer.getvalue()


def finite_methods(scores: xr.Dataset, name: str) -> list[str]:
    """Methods for which the score `name` is defined somewhere; none if there is no such score."""
    if name not in scores:
        return []
    return [str(m) for m in scores["method"].values if np.isfinite(scores[name].sel({"method": m})).any()]


def fields_of(scores: xr.Dataset) -> list[str]:
    """The fields that were scored."""
    return [str(field) for field in scores["field"].values]


def score_curves(scores: xr.Dataset, name: str, look: Look | None = None) -> Figure:
    """One score against lead time, one panel per field; `name_low` and `name_high`, if there, are shaded between.

    scores: variable `name` with dims (method, field, lead_time)
    look: styles of the methods, by their order in `scores` by default
    """
    look, drawn = _look(scores, look), finite_methods(scores, name)
    with house_style():
        fields = fields_of(scores)
        figure, axes = _panels(len(fields))
        for field, ax in zip(fields, axes, strict=True):
            _curves(ax, scores.sel(field=field), name, drawn, look)
            ax.set_ylabel(score_label(scores, name))
            ax.set_title(plain(field))
        _legend(figure, axes[0])
    return figure


def score_label(scores: xr.Dataset, name: str) -> str:
    """The long name of a score, with its unit if it has one."""
    attributes = scores[name].attrs
    unit = attributes.get("units", "1")
    label = plain(attributes.get("long_name", name))
    return label if unit in ("", "1") else f"{label} [{plain(unit)}]"


def _look(scores: xr.Dataset, look: Look | None) -> Look:
    return look if look is not None else styles([str(method) for method in scores["method"].values])


def _panels(count: int, columns: int = 3, size: tuple[float, float] = (4.2, 2.9)) -> tuple[Figure, list[Axes]]:
    columns = min(count, columns)
    rows = -(-count // columns)
    width = max(size[0] * columns, 1.45 * size[0])
    figure = Figure(figsize=(width, size[1] * rows + 0.7), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[count:]:
        ax.remove()
    return figure, axes[:count]


def _curves(ax: Axes, scores: xr.Dataset, name: str, drawn: Sequence[str], look: Look) -> None:
    lead = scores["lead_time"].values
    for method in drawn:
        row = scores.sel({"method": method})
        ax.plot(lead, row[name].values, label=plain(method), **look[method].curve(len(lead)))
        if f"{name}_low" in scores and f"{name}_high" in scores:
            low, high = row[f"{name}_low"].values, row[f"{name}_high"].values
            ax.fill_between(lead, low, high, color=look[method].color, alpha=0.15, linewidth=0)
    if _wide_range(scores[name].values):
        ax.set_yscale("log")
    ax.set_xlabel(lead_label(scores))


def _wide_range(values: np.ndarray) -> bool:
    finite = values[np.isfinite(values)]
    return finite.size > 0 and finite.min() > 0 and finite.max() > DYNAMIC_RANGE * finite.min()


def _legend(figure: Figure, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        columns = max(2, int(figure.get_figwidth() / 1.55))
        figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(handles)))


def spread_skill_figure(scores: xr.Dataset, look: Look | None = None) -> Figure:
    """Per field: the spread–skill ratio over the calibrated band, and beside it spread (thin) and skill (thick)."""
    look, drawn = _look(scores, look), finite_methods(scores, "spread_skill")
    fields = fields_of(scores)
    pair = "spread" in scores and "skill" in scores
    with house_style():
        figure, axes = _panels(len(fields) * (1 + pair), columns=1 + pair)
        for k, field in enumerate(fields):
            row = scores.sel(field=field)
            ratio = axes[k * (1 + pair)]
            ratio.axhspan(*CALIBRATED, color=PALE, alpha=0.6, linewidth=0)
            ratio.axhline(1, color=INK, linewidth=0.8)
            _curves(ratio, row, "spread_skill", drawn, look)
            highest = float(np.nanmax(row["spread_skill"].values, initial=0))
            ratio.set_yscale("linear")
            ratio.set_ylim(0, np.clip(1.05 * highest, 1.25, 3))
            ratio.set(ylabel="spread / skill", title=plain(field))
            if pair:
                _spread_and_skill(axes[2 * k + 1], row, drawn, look)
                axes[2 * k + 1].set_title(plain(field))
        _legend(figure, axes[0])
    return figure


def _spread_and_skill(ax: Axes, scores: xr.Dataset, drawn: Sequence[str], look: Look) -> None:
    for method in drawn:
        row, color = scores.sel({"method": method}), look[method].color
        ax.plot(row["lead_time"], row["skill"], label=f"{plain(method)}, skill", color=color, linewidth=2)
        ax.plot(row["lead_time"], row["spread"], label=f"{plain(method)}, spread", color=color, linewidth=0.9)
    ax.set(xlabel=lead_label(scores), ylabel="skill (thick), spread (thin)")


def spectra_figure(scores: xr.Dataset, field: str, look: Look | None = None) -> Figure:
    """Power against wavenumber at the chosen leads, and below it the ratio to the truth (1 is perfect).

    scores: `spectrum` (method, field, spectrum_lead, wavenumber) and `truth_spectrum` without the method; optionally
        `codec_spectrum`, like the truth's: the truth through the autoencoder, which no latent method can beat
    """
    look, drawn = _look(scores, look), finite_methods(scores, "spectrum")
    waves = scores.sel(field=field).isel(wavenumber=scores["wavenumber"].values > 0)
    leads = waves["spectrum_lead"].values
    with house_style():
        figure = Figure(figsize=(3.5 * max(len(leads), 2), 5.2), layout="constrained")
        grid = figure.subplots(2, len(leads), sharex=True, sharey="row", squeeze=False, height_ratios=(2.2, 1))
        for k, (lead, (power, ratio)) in enumerate(zip(leads, grid.T, strict=True)):
            here = waves.isel(spectrum_lead=k)
            for method in drawn:
                _spectrum(power, ratio, here, here["spectrum"].sel({"method": method}), method, look[method])
            if "codec_spectrum" in here:
                floor = Style("#777777", "", (0, (1, 1)))
                _spectrum(power, ratio, here, here["codec_spectrum"], "autoencoder of the truth", floor)
            power.loglog(here["wavenumber"], here["truth_spectrum"], color="black", linewidth=1.8, label="truth")
            _ratio_axis(ratio)
            power.set_title(f"lead {lead:.4g} {time_unit(scores)}".rstrip())
            ratio.set_xlabel("wavenumber")
        grid[0][0].set_ylabel(plain(f"power of {field}"))
        grid[1][0].set_ylabel("forecast / truth")
        _legend(figure, grid[0][0])
    return figure


def _spectrum(power: Axes, ratio: Axes, here: xr.Dataset, values: xr.DataArray, name: str, style: Style) -> None:
    options = {**style.curve(len(values)), "linewidth": 1.2}
    power.loglog(here["wavenumber"], values, label=plain(name), **options)
    ratio.plot(here["wavenumber"], values / here["truth_spectrum"].where(here["truth_spectrum"] > 0), **options)


def _ratio_axis(ax: Axes) -> None:
    ax.set_yscale("log")
    ax.set_ylim(0.05, 20)
    ax.axhline(1, color="black", linewidth=0.9)


def rank_histogram_figure(scores: xr.Dataset, field: str, look: Look | None = None) -> Figure:
    """How often the truth had each rank among the members, over what a calibrated ensemble gives: flat at 1.

    scores: `rank_histogram` (method, field, [lead], rank), counts or frequencies, NaN beyond a method's own ranks;
        counts of all leads are added
    """
    look, drawn = _look(scores, look), finite_methods(scores, "rank_histogram")
    with house_style():
        figure, axes = _panels(max(len(drawn), 1), columns=4, size=(2.3, 1.7))
        for method, ax in zip(drawn, axes, strict=False):
            ratio = relative_ranks(scores["rank_histogram"].sel({"method": method, "field": field}))
            ax.bar(np.arange(len(ratio)), ratio, width=1, color=look[method].color, alpha=0.75, edgecolor="white")
            ax.axhline(1, color=INK, linewidth=0.9)
            ax.set_title(plain(method))
            ax.set(xlim=(-0.5, len(ratio) - 0.5), ylim=(0, max(2.0, 1.05 * float(ratio.max()))))
            ax.grid(False)
        figure.supxlabel("rank of the truth among the members", fontsize=9)
        figure.supylabel("relative frequency", fontsize=9)
    return figure


def relative_ranks(histogram: xr.DataArray) -> np.ndarray:
    """Frequencies of the ranks that the method has, times their number: all 1 if calibrated.

    histogram: dims (rank) or (lead, rank), NaN where a rank does not exist
    """
    counts = histogram.sum([dim for dim in histogram.dims if dim != "rank"], min_count=1).values
    counts = counts[np.isfinite(counts)]
    return counts * len(counts) / max(float(counts.sum()), 1e-300)


def calls_figure(
    summary: Sequence[Mapping[str, Any]],
    score: str,
    calls: str = CALLS,
    label: str = "",
    look: Look | None = None,
) -> Figure:
    """A score of the summary against the network calls of one step; rows of one method are joined."""
    points = calls_points(summary, score, calls)
    look = look if look is not None else styles(list(points))
    with house_style():
        figure, (ax,) = _panels(1)
        for method, pairs in points.items():
            x, y = zip(*sorted(pairs), strict=True)
            ax.plot(
                x,
                y,
                label=plain(method),
                **{**look[method].curve(), "markersize": 7, "marker": look[method].marker},
            )
        ax.set_xscale("log")
        ticks = sorted({int(x) for pairs in points.values() for x, _ in pairs})
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.minorticks_off()
        ax.set(xlabel=plain(calls), ylabel=plain(label or score))
        _legend(figure, ax)
    return figure


def calls_points(
    summary: Sequence[Mapping[str, Any]], score: str, calls: str = CALLS
) -> dict[str, list[tuple[float, float]]]:
    """(calls, score) of each learned method whose row has both, finite and with at least one call."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in summary:
        pair = (row.get(calls), row.get(score))
        if all(isinstance(value, int | float) and np.isfinite(value) for value in pair) and pair[0] >= 1:
            points.setdefault(str(row[METHOD]), []).append(pair)
    return points


def training_figure(curves: Mapping[str, Sequence[Mapping[str, float]]], look: Look | None = None) -> Figure:
    """Training loss against step, one curve per method, both axes logarithmic.

    curves: method → records of its `metrics.jsonl`; those without `loss` are left out
    """
    look = look if look is not None else styles(list(curves))
    with house_style():
        figure, (ax,) = _panels(1)
        for method, records in curves.items():
            points = [(record["step"], record["loss"]) for record in records if "loss" in record]
            ax.loglog(
                *zip(*points, strict=True), label=plain(method), **look[method].curve(len(points))
            ) if points else None
        ax.set(xlabel="training step", ylabel="loss (each method's own)")
        _legend(figure, ax)
    return figure
