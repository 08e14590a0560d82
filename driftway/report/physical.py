"""What a flow does as a whole, of forecasts against the truth: quantities by lead time, distributions and profiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from driftway.glossary import LOWER, is_reference, number
from driftway.physics.quantities import PROFILES, QUANTITIES, Quantity
from driftway.report.panels import name_all, wide_range
from driftway.report.parts import Pane, Picture, file_name, pictured
from driftway.report.plotting import finite_methods, of
from driftway.report.styling import INK, Look, house_style, lead_label, plain, styles_of
from driftway.report.tables import Cell, Column, Table, method_table

WIDTH = 6.4
NOTES = (
    "Error: √⟨(q̄−q)²⟩/|⟨q⟩| of the mean over members, against the truth of the same initial state and lead time. "
    "Bias: ⟨q̂⟩/⟨q⟩ − 1 of members. Distance: the mean distance of the quantiles of members and truth, over all initial "
    "states and lead times, in standard deviations of the truth: it does not ask which forecast had which value. Those "
    "of divergence, which the truth does not have, are in its own units.",
)


def physics_panes(scores: xr.Dataset, look: Look, limit: int) -> tuple[Pane, ...]:
    """A table of all errors, a pane for each quantity, and one for the profiles; none where nothing is measured."""
    if "physics" not in scores and "profiles" not in scores:
        return ()
    quantities = [_quantity_pane(scores, name, look, limit) for name in _names(scores, "quantity")]
    profiles = [Pane("profiles", (_profiles(scores, look, limit),))] if "profiles" in scores else []
    return (Pane("errors", tables=errors_tables(scores, look), more=(_formulas(scores),)), *quantities, *profiles)


def _quantity_pane(scores: xr.Dataset, name: str, look: Look, limit: int) -> Pane:
    drawn = bool(np.isfinite(scores["truth_physics_quantiles"].sel(quantity=name)).all())
    pictures = (_pictured(scores, name, look, limit),) if drawn else ()
    return Pane(_long(QUANTITIES, name), pictures, more=(_table(scores, name, look),))


def _names(scores: xr.Dataset, dim: str) -> list[str]:
    return [str(name) for name in scores[dim].values] if dim in scores.coords else []


def _long(table: dict[str, Quantity], name: str) -> str:
    return table[name].long_name if name in table else name


# --- tables --------------------------------------------------------------------------------------------------------


def errors_tables(scores: xr.Dataset, look: Look) -> tuple[Table, ...]:
    """The error of every quantity, with the distance between distributions beside it, and of every profile."""
    methods, columns = [str(method) for method in scores["method"].values], list[Column]()
    for name in _names(scores, "quantity"):
        here = scores.sel(quantity=name)
        away = [f"distance {number(value)}" for value in here["physics_distance"].values.tolist()]
        columns.append(Column(_long(QUANTITIES, name), here["physics_error"].values.tolist(), LOWER, away))
    found = [replace(method_table("Errors relative to the truth", scores, look, methods, columns), notes=NOTES)]
    profiles = [
        Column(_long(PROFILES, name), scores["profile_error"].sel(profile=name).values.tolist(), LOWER)
        for name in _names(scores, "profile")
    ]
    title = "Errors of profiles, √(∫(p̂−p)²dy/∫p²dy), of means over members, initial states and lead times"
    found += [method_table(title, scores, look, methods, profiles)] if profiles else []
    return tuple(found if columns else found[1:])


def _table(scores: xr.Dataset, name: str, look: Look) -> Table:
    methods, here = [str(method) for method in scores["method"].values], scores.sel(quantity=name)
    columns = [
        Column("mean", here["physics"].mean("lead_time", skipna=False).values.tolist()),
        Column("error", here["physics_error"].values.tolist(), LOWER),
        Column("bias", here["physics_bias"].values.tolist()),
        Column("distance", here["physics_distance"].values.tolist(), LOWER),
    ]
    mean = number(float(here["truth_physics"].mean()))
    return method_table(f"{_long(QUANTITIES, name)}; the truth's mean is {mean}", scores, look, methods, columns)


def _formulas(scores: xr.Dataset) -> Table:
    found = [(QUANTITIES, name) for name in _names(scores, "quantity")]
    found += [(PROFILES, name) for name in _names(scores, "profile")]
    rows = tuple(
        (Cell(("profile of " if table is PROFILES else "") + table[name].long_name), Cell(table[name].formula))
        for table, name in found
        if name in table
    )
    note = (
        "⟨·⟩: mean over space; ⟨·⟩ₓ: along periodic axes alone; y, v: coordinate and velocity between the walls; "
        "κ = 1/√(Ra Pr), ν = √(Pr/Ra)."
    )
    return Table("Quantities", ("quantity", "formula"), rows, (note,), prose=True)


# --- figures -------------------------------------------------------------------------------------------------------


def quantity_figure(scores: xr.Dataset, name: str, look: Look | None = None) -> Figure:
    """A quantity against lead time, with the range of 90 % of members and initial states, and its distribution."""
    look, here = look or styles_of(scores), scores.sel(quantity=name)
    drawn = finite_methods(scores.sel(quantity=[name]), "physics")
    with house_style():
        figure = Figure(figsize=(WIDTH + 1.8, 4.0), layout="constrained")
        series, law = figure.subplots(1, 2, sharey=True, width_ratios=(2.6, 1))
        _series(series, here, drawn, look)
        _distribution(law, here, drawn, look)
        shown = [here["truth_physics"].values, *(of(here["physics"], method).values for method in drawn)]
        if wide_range(np.concatenate(shown)):
            series.set_yscale("log")
        series.set(xlabel=lead_label(scores), ylabel=_long(QUANTITIES, name))
        name_all(figure, [series, law])
    return figure


def _series(ax: Axes, here: xr.Dataset, drawn: list[str], look: Look) -> None:
    lead = here["lead_time"].values
    ax.fill_between(lead, here["truth_physics_q05"], here["truth_physics_q95"], color=INK, alpha=0.12, linewidth=0)
    ax.plot(lead, here["truth_physics"], color="black", linewidth=2, label="truth")
    for method in drawn:
        options = {**look[method].curve(len(lead)), "linewidth": 1.0 if is_reference(method) else 1.5}
        ax.plot(lead, of(here["physics"], method), label=plain(method), **options)
        if not is_reference(method):
            low, high = (of(here[f"physics_{end}"], method) for end in ("q05", "q95"))
            ax.fill_between(lead, low, high, color=look[method].color, alpha=0.12, linewidth=0)


def _distribution(ax: Axes, here: xr.Dataset, drawn: list[str], look: Look) -> None:
    """Quantiles over members, initial states and lead times: the area between two curves is their distance."""
    shares = here["share"].values
    ax.plot(shares, here["truth_physics_quantiles"], color="black", linewidth=2)
    for method in drawn:
        options = {**look[method].curve(len(shares)), "linewidth": 1.0 if is_reference(method) else 1.5}
        ax.plot(shares, of(here["physics_quantiles"], method), **options)
    ax.set(xlim=(0, 1), xlabel="share below")


def profiles_figure(scores: xr.Dataset, look: Look | None = None) -> Figure:
    """Every profile between the walls: means over members, initial states and lead times."""
    look, names = look or styles_of(scores), _names(scores, "profile")
    drawn = finite_methods(scores, "profiles")
    with house_style():
        figure = Figure(figsize=(max(2.7 * len(names), 5.2), 4.2), layout="constrained")
        axes = list(figure.subplots(1, len(names), sharey=True, squeeze=False).flat)
        for name, ax in zip(names, axes, strict=True):
            here = scores.sel(profile=name)
            ax.plot(here["truth_profiles"], here["level"], color="black", linewidth=2, label="truth")
            for method in drawn:
                options = {**look[method].curve(here.sizes["level"]), "linewidth": 1.0 if is_reference(method) else 1.5}
                ax.plot(of(here["profiles"], method), here["level"], label=plain(method), **options)
            ax.set(xlabel=_long(PROFILES, name))
        axes[0].set_ylabel(str(scores["level"].attrs.get("axis", "")))
        if len(axes) > 1:
            name_all(figure, axes)
        else:
            axes[0].legend()
    return figure


def _pictured(scores: xr.Dataset, name: str, look: Look, limit: int) -> Picture:
    long, here = _long(QUANTITIES, name), scores.sel(quantity=name)
    found = {str(m): float(of(here["physics"], str(m)).mean(skipna=False)) for m in scores["method"].values}
    means = [f"{who} {number(value)}" for who, value in {"truth": float(here["truth_physics"].mean()), **found}.items()]
    alt = f"{long} against lead time, and its distribution, for the truth and each method. Means: {', '.join(means)}."
    caption = (
        f"{long}: mean over members and initial states, shaded the range of 90 % of them. Right: below which "
        "value a share of all members, initial states and lead times is; the area between a curve and the truth's is "
        "their distance."
    )
    return pictured(quantity_figure(scores, name, look), file_name("physics", name), alt, caption, limit)


def _profiles(scores: xr.Dataset, look: Look, limit: int) -> Picture:
    names = [_long(PROFILES, name) for name in _names(scores, "profile")]
    alt = f"Profiles between the walls of {', '.join(names)}, for the truth and each method"
    caption = "Means along periodic axes at each level, over members, initial states and lead times."
    return pictured(profiles_figure(scores, look), "physics-profiles", alt, caption, limit)
