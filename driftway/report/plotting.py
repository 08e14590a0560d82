"""Figures of a forecast study: pure functions from scores to matplotlib figures, without pyplot or global state."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from driftway.glossary import is_reference
from driftway.report.panels import name_all, name_curves, panels, small_panels, wide_range
from driftway.report.styling import (
    INK,
    PALE,
    Look,
    Style,
    evenly,
    headline,
    house_style,
    lead_label,
    plain,
    styles_of,
    time_unit,
)

# a ratio inside this band is what the emulation literature accepts as calibrated
CALIBRATED = (0.8, 1.1)
BY_LEAD = ("skill", "acc", "crps", "spread_skill")


def encode(figure: Figure, kind: str, dpi: int = 130) -> bytes:
    """The figure as a file of this kind: `png`, `svg` or `pdf`; equal figures give equal bytes."""
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    buffer = io.BytesIO()
    with house_style():
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=dates.get(kind))
    return buffer.getvalue()


def of(values: xr.DataArray, method: str) -> xr.DataArray:
    """The values of one method; xarray's `sel` has an argument of the same name."""
    return values.sel({"method": method})


def finite_methods(scores: xr.Dataset, name: str) -> list[str]:
    """Methods for which the score `name` is defined somewhere; none if there is no such score."""
    if name not in scores:
        return []
    return [str(m) for m in scores["method"].values if np.isfinite(of(scores[name], str(m))).any()]


def fields_of(scores: xr.Dataset) -> list[str]:
    """The fields that were scored."""
    return [str(field) for field in scores["field"].values]


def score_name(scores: xr.Dataset, name: str, field: str | None = None) -> str:
    """The long name of a score, with the unit of the field where the score has one."""
    attributes = scores[name].attrs
    label = str(attributes.get("long_name", name))
    if field is None or not attributes.get("dimensional") or "units" not in scores:
        return label
    unit = str(scores["units"].sel(field=field).values)
    return label if unit in ("", "1") else f"{label} [{unit}]"


# --- curves --------------------------------------------------------------------------------------------------------


def score_curves(scores: xr.Dataset, name: str, look: Look | None = None) -> Figure:
    """One score against lead time, one panel per field; `name_low` and `name_high`, if there, are shaded between.

    scores: variable `name` with dims (method, field, lead_time); a curve ends where the score is no longer finite
    look: styles of the methods, by default those of `styles_of`
    """
    look, drawn, fields = look or styles_of(scores), finite_methods(scores, name), fields_of(scores)
    with house_style():
        figure, axes = panels(len(fields), drawn)
        for field, ax in zip(fields, axes, strict=True):
            lead_curves(ax, scores.sel(field=field), name, drawn, look)
            ax.set_ylabel(plain(score_name(scores, name, field)))
            _titled(ax, field, fields)
        name_all(figure, axes)
    return figure


def _titled(ax: Axes, field: str, fields: Sequence[str]) -> None:
    """The field above its panel where there are several."""
    if len(fields) > 1:
        ax.set_title(plain(field))


def lead_curves(ax: Axes, scores: xr.Dataset, name: str, drawn: Sequence[str], look: Look) -> None:
    """One score of one field against lead time; `name_low` and `name_high`, if there, are shaded between."""
    lead = scores["lead_time"].values
    for method in drawn:
        row = scores.sel({"method": method})
        options = {**look[method].curve(len(lead)), "linewidth": 1.1 if is_reference(method) else 1.6}
        ax.plot(lead, row[name].values, label=plain(method), **options)
        if f"{name}_low" in scores and f"{name}_high" in scores and not is_reference(method):
            low, high = row[f"{name}_low"].values, row[f"{name}_high"].values
            ax.fill_between(lead, low, high, color=look[method].color, alpha=0.12, linewidth=0)
    if wide_range(scores[name].sel({"method": list(drawn)}).values):
        ax.set_yscale("log")
    ax.set_xlabel(lead_label(scores))
    ax.update_datalim([(lead[0], np.nan), (lead[-1], np.nan)], updatey=False)


# --- ensembles -----------------------------------------------------------------------------------------------------


def spread_skill_figure(scores: xr.Dataset, look: Look | None = None) -> Figure:
    """Per field: the spread–skill ratio over the calibrated band."""
    look, drawn, fields = look or styles_of(scores), finite_methods(scores, "spread_skill"), fields_of(scores)
    with house_style():
        figure, axes = panels(len(fields), drawn)
        for field, ax in zip(fields, axes, strict=True):
            _calibration(ax, scores.sel(field=field), drawn, look)
            _titled(ax, field, fields)
        name_all(figure, axes)
    return figure


def _calibration(ax: Axes, row: xr.Dataset, drawn: Sequence[str], look: Look) -> None:
    """The spread–skill ratio of one field over the calibrated band."""
    ax.axhspan(*CALIBRATED, color=PALE, alpha=0.6, linewidth=0)
    ax.axhline(1, color=INK, linewidth=0.8)
    lead_curves(ax, row, "spread_skill", drawn, look)
    highest = float(np.nanmax(row["spread_skill"].values, initial=0))
    ax.set_yscale("linear")
    ax.set_ylim(0, np.clip(1.05 * highest, 1.25, 3))
    ax.set_ylabel("spread / skill")


def by_lead(scores: xr.Dataset) -> list[str]:
    """The scores that a field is told by against lead time, as far as any method has them.

    None where fields are few and have no climatology: sections by score say as much of them.
    """
    few = len(headline(fields_of(scores))) == len(fields_of(scores)) and "acc" not in scores
    return [] if few else [name for name in BY_LEAD if finite_methods(scores, name)]


def lead_caption(scores: xr.Dataset, field: str) -> str:
    """What `lead_figure` shows of a field."""
    names = ", ".join(score_name(scores, name, field) for name in by_lead(scores))
    from_ = f" Anomalies are from the {scores.attrs['climatology']}." if "climatology" in scores.attrs else ""
    return f"{field}: {names}. Skill is the RMSE of the mean, its root taken after the mean over initial states.{from_}"


def lead_figure(scores: xr.Dataset, field: str, look: Look | None = None) -> Figure:
    """One field against lead time, a panel for each score of `BY_LEAD`."""
    look, row, names = look or styles_of(scores), scores.sel(field=field), by_lead(scores)
    with house_style():
        figure, axes = panels(len(names), columns=2)
        for name, ax in zip(names, axes, strict=True):
            drawn = finite_methods(row, name)
            if name == "spread_skill":
                _calibration(ax, row, drawn, look)
            else:
                lead_curves(ax, row, name, drawn, look)
                ax.set_ylabel(plain(score_name(scores, name, field)))
        name_all(figure, axes)
    return figure


def spread_and_skill_figure(scores: xr.Dataset, field: str, look: Look | None = None) -> Figure:
    """A panel per ensemble: its spread (dashed) and skill (solid) against lead time, on one scale."""
    look, drawn = look or styles_of(scores), finite_methods(scores, "spread_skill")
    row = scores[["spread", "skill"]].sel(field=field)
    with house_style():
        figure, axes = small_panels(len(drawn), sharey=True)
        for method, ax in zip(drawn, axes, strict=False):
            here = row.sel({"method": method})
            ax.plot(here["lead_time"], here["skill"], color=look[method].color, label="skill")
            ax.plot(
                here["lead_time"], here["spread"], color=look[method].color, linestyle=(0, (3, 1.5)), label="spread"
            )
            ax.set_title(plain(method))
            ax.set_ylim(bottom=0)
        if drawn:
            axes[0].legend()
        figure.supxlabel(lead_label(scores), fontsize=9)
        figure.supylabel(plain(score_name(scores, "skill", field).replace("skill", "skill, spread")), fontsize=9)
    return figure


def rank_histogram_figure(scores: xr.Dataset, field: str, look: Look | None = None) -> Figure:
    """How often the truth had each rank among the members, over what a calibrated ensemble gives: flat at 1.

    scores: `rank_histogram` (method, field, [lead], rank), counts or frequencies, NaN beyond a method's own ranks;
        all leads are added
    """
    look, drawn = look or styles_of(scores), finite_methods(scores, "rank_histogram")
    with house_style():
        figure, axes = small_panels(len(drawn))
        for method, ax in zip(drawn, axes, strict=False):
            ratio = relative_ranks(of(scores["rank_histogram"], method).sel(field=field))
            ax.bar(np.arange(len(ratio)), ratio, width=1, color=look[method].color, alpha=0.75, edgecolor="white")
            ax.axhline(1, color=INK, linewidth=0.9)
            ax.set_title(plain(method))
            ax.set(xlim=(-0.5, len(ratio) - 0.5), ylim=(0, max(2.0, 1.05 * float(ratio.max(initial=0)))))
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            ax.grid(False)
        figure.supxlabel("rank of the truth among the members", fontsize=9)
        figure.supylabel("relative frequency", fontsize=9)
    return figure


def relative_ranks(histogram: xr.DataArray) -> np.ndarray:
    """Frequencies of the ranks that the method has, times their number: all 1 if calibrated.

    histogram: dims (rank) or (lead, rank), NaN where a rank does not exist or the forecast has diverged
    """
    counts = histogram.sum([dim for dim in histogram.dims if dim != "rank"], min_count=1).values
    counts = counts[np.isfinite(counts)]
    return counts * len(counts) / max(float(counts.sum()), 1e-300)


# --- spectra -------------------------------------------------------------------------------------------------------


def spectra_figure(scores: xr.Dataset, field: str, look: Look | None = None, leads: Sequence[int] = ()) -> Figure:
    """Power against wavenumber at a few leads, and below it the ratio to the truth (1 is perfect).

    scores: `spectrum` (method, field, lead_time, wavenumber), `truth_spectrum` without the method, and optionally
        `resolved` (field), the last wavenumber shown
    leads: indices of the lead times shown; the first, the middle and the last by default
    """
    look, drawn = look or styles_of(scores), finite_methods(scores, "spectrum")
    waves = _waves(scores, field, list(leads) or evenly(scores.sizes["lead_time"], 3))
    count = waves.sizes["lead_time"]
    with house_style():
        figure = Figure(figsize=(3.5 * max(count, 2), 5.6), layout="constrained")
        grid = figure.subplots(2, count, sharex=True, sharey="row", squeeze=False, height_ratios=(2, 1.2))
        for k, (power, ratio) in enumerate(grid.T):
            here = waves.isel(lead_time=k)
            for method in drawn:
                _spectrum(power, ratio, here, of(here["spectrum"], method), method, look[method])
            power.loglog(here["wavenumber"], here["truth_spectrum"], color="black", linewidth=1.8, label="truth")
            ratio.set(yscale="log", ylim=(0.05, 20), xlabel="wavenumber")
            ratio.axhline(1, color="black", linewidth=0.9)
            _octaves(power, ratio, float(here["wavenumber"][-1]))
            power.set_title(f"lead {float(here['lead_time']):.4g} {time_unit(scores)}".rstrip())
        grid[0][0].set_ylim(*_power_limits(waves, drawn))
        grid[0][0].set_ylabel(plain(f"power of {field}"))
        grid[1][0].set_ylabel("forecast / truth")
        name_all(figure, list(grid.flat))
    return figure


def _octaves(power: Axes, ratio: Axes, last: float) -> None:
    """Wavenumbers 1, 2, 4, … as ticks, and no minor ones, which take most of the drawing time."""
    ticks = [2**k for k in range(int(np.log2(max(last, 1))) + 1)]
    ratio.set_xticks(ticks, [str(tick) for tick in ticks])
    for ax in (power, ratio):
        ax.minorticks_off()


def _waves(scores: xr.Dataset, field: str, leads: list[int]) -> xr.Dataset:
    """Spectra at some leads, without the mean and without what the truth does not resolve."""
    here = scores.sel(field=field).isel(lead_time=leads)
    last = float(here["resolved"]) if "resolved" in here else np.inf
    shown = (here["wavenumber"].values > 0) & (here["wavenumber"].values <= max(last, 1))
    return here[["spectrum", "truth_spectrum"]].isel(wavenumber=shown)


def _power_limits(waves: xr.Dataset, drawn: Sequence[str]) -> tuple[float, float]:
    """From a tenth of the truth's lowest power to twice the highest of all that is drawn."""
    truth, drawn_power = waves["truth_spectrum"].values, waves["spectrum"].sel({"method": list(drawn)}).values
    positive = truth[truth > 0]
    if positive.size == 0:
        return 1e-12, 1.0
    return 0.1 * float(positive.min()), 2 * float(np.nanmax(drawn_power, initial=float(positive.max())))


def _spectrum(power: Axes, ratio: Axes, here: xr.Dataset, values: xr.DataArray, name: str, style: Style) -> None:
    options = {**style.curve(), "marker": "", "linewidth": 1.1 if is_reference(name) else 1.4}
    power.loglog(here["wavenumber"], values, label=plain(name), **options)
    ratio.plot(here["wavenumber"], values / here["truth_spectrum"].where(here["truth_spectrum"] > 0), **options)


# --- cost and training ---------------------------------------------------------------------------------------------


def calls_figure(scores: xr.Dataset, name: str, look: Look | None = None) -> Figure:
    """A score, as its mean over lead times and fields, against the network calls that one step takes."""
    points = calls_points(scores, name)
    look = look or styles_of(scores)
    with house_style():
        figure, (ax,) = panels(1, list(points))
        for method, (x, y) in points.items():
            ax.plot([x], [y], label=plain(method), **{**look[method].curve(), "markersize": 7})
        ax.set_xscale("log")
        ticks = sorted({int(x) for x, _ in points.values()})
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.minorticks_off()
        ax.set(xlabel="network calls per step", ylabel=plain(score_name(scores, name)))
        name_curves(ax)
    return figure


def calls_points(scores: xr.Dataset, name: str) -> dict[str, tuple[float, float]]:
    """(calls, score) of each method that has both, with at least one call."""
    if name not in scores or "calls" not in scores:
        return {}
    means = scores[name].mean(("lead_time", "field"), skipna=False)
    pairs = {str(m): (float(of(scores["calls"], str(m))), float(of(means, str(m)))) for m in scores["method"].values}
    return {method: pair for method, pair in pairs.items() if np.isfinite(pair).all() and pair[0] >= 1}


def training_figure(curves: Mapping[str, Sequence[Mapping[str, float]]], look: Look) -> Figure:
    """Training loss against step, one curve per run, both axes logarithmic.

    curves: run → records of its `metrics.jsonl`; those without `loss` are left out
    """
    with house_style():
        figure, (ax,) = panels(1, list(curves))
        for run, records in curves.items():
            points = np.array([(record["step"], record["loss"]) for record in records if "loss" in record])
            if len(points):
                ax.loglog(*points.T, label=plain(run), color=look[run].color, linewidth=1.4)
        ax.set(xlabel="training step", ylabel="loss (each run's own)")
        name_curves(ax)
    return figure
