"""Figures of a climate: maps of its bias, its seasons, its years, and its spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from driftway.data.axes import is_sphere
from driftway.data.layout import Layout
from driftway.longterm.examination import TRUTH, Compared, Examination
from driftway.longterm.reading import area_of
from driftway.report.coasts import coastline
from driftway.report.panels import name_all, panels
from driftway.report.pictures import Scale, draw_picture, field_scale
from driftway.report.styling import INK, PALE, Look, Style, house_style, plain, styles

TAIL = 0.002  # share of the values that may lie beyond a scale of differences
MONTHS = tuple("JFMAMJJASOND")
WIDTH, BAR = 3.9, 1.5  # inches of a map, and beside its columns
OTHER = Style("#555555", "", (0, (6, 2)))


def look_of(found: Examination) -> Look:
    """Colours of forecasts; another truth run is grey."""
    known = styles([own.label for own in found.compared if not own.truth])
    return {own.label: OTHER if own.truth else known[own.label] for own in found.compared}


def regions(layout: Layout) -> dict[str, np.ndarray]:
    """Weights (*S), one on average, of what curves are means over: all, and on the sphere each hemisphere."""
    area, found = area_of(layout), {"all": area_of(layout)}
    if is_sphere(layout.axes):
        lat = np.asarray(layout.axes[0].coordinates)[:, None]
        halves = {"northern hemisphere": area * (lat > 0), "southern hemisphere": area * (lat < 0)}
        found = {"globe": area, **{name: half / half.mean() for name, half in halves.items()}}
    return found


def mean_over(maps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Means over space of maps (..., *S)."""
    return (maps * weights).mean(tuple(range(-weights.ndim, 0)))


def labelled(layout: Layout, field: int) -> str:
    """The field with its unit."""
    name, unit = layout.fields.names[field], layout.fields.units[field]
    return plain(name if unit in ("", "1") else f"{name} [{unit}]")


def _whole(found: Examination) -> list[Compared]:
    return [own for own in found.compared if own.climate is not None]


# --- all fields ----------------------------------------------------------------------------------------------------


def overview(found: Examination, name: str) -> Figure:
    """A number that cannot be negative, of each field, over the end of its band: below 1 chance explains it."""
    fields, look = found.layout.fields.names, look_of(found)
    with house_style():
        figure = Figure(figsize=(max(5.5, 0.42 * len(fields) + 2.5), 3.6), layout="constrained")
        ax = figure.subplots()
        ax.axhspan(0, 1, color=PALE, alpha=0.6, linewidth=0)
        for k, own in enumerate(_whole(found)):
            assert own.pooled is not None
            ratio = own.pooled.values[name] / own.pooled.high[name]
            shift = 0.12 * (k - (len(_whole(found)) - 1) / 2)
            style = look[own.label]
            marker = style.marker or "_"
            ax.plot(np.arange(len(fields)) + shift, ratio, marker, color=style.color, label=plain(own.label))
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_xticks(range(len(fields)), [plain(field) for field in fields], rotation=60, ha="right")
        ax.set_ylabel(f"{name} / its 95 % of chance")
        ax.legend()
    return figure


# --- maps ----------------------------------------------------------------------------------------------------------


def maps_figure(found: Examination, field: int, variance: bool = False) -> Figure:
    """The truth's mean (or variance), and what others' differ by (or the logarithm of their ratio)."""
    own, label = found.reference, labelled(found.layout, field)
    first = (own.variance if variance else own.mean)[field]
    apart = {c.label: _apart(c, found, field, variance) for c in _whole(found)}
    title = f"variance of {label} of the truth" if variance else f"{label} of the truth"
    titles = [title, *(f"{plain(name)}{': ln ratio' if variance else ' − truth'}" for name in apart)]
    values = [_section(u, found.layout) for u in (first, *apart.values())]
    if values[0].ndim == 1:
        return _profiles(found.layout, titles, values)
    scales = [field_scale(values[0]), *[_symmetric(values[1:])] * len(apart)]
    return _maps(found, titles, values, scales)


def _apart(own: Compared, found: Examination, field: int, variance: bool) -> np.ndarray:
    assert own.climate is not None
    if not variance:
        return (own.climate.mean - found.reference.mean)[field]
    with np.errstate(invalid="ignore", divide="ignore"):  # where nothing varies there is no ratio
        return np.log(own.climate.variance[field] / found.reference.variance[field])


def _section(values: np.ndarray, layout: Layout) -> np.ndarray:
    """As rows of a picture: latitude before longitude, north up, else the last axis first; of three, the middle."""
    flat = values[..., values.shape[-1] // 2] if values.ndim == 3 else values
    if not is_sphere(layout.axes):
        return flat.T
    lat = layout.axes[0].coordinates
    return flat[::-1] if lat[-1] < lat[0] else flat


def _symmetric(values: Sequence[np.ndarray]) -> Scale:
    finite = [np.abs(u[np.isfinite(u)]) for u in values]
    highest = float(np.quantile(np.concatenate([*finite, [0.0]]), 1 - TAIL))
    return Scale(-(highest or 1.0), highest or 1.0, "RdBu_r")


def _maps(found: Examination, titles: Sequence[str], values: Sequence[np.ndarray], scales: Sequence[Scale]) -> Figure:
    """Two maps in a row; differences share a scale."""
    aspect, columns = _aspect(found.layout, values[0]), min(2, len(values))
    rows = -(-len(values) // columns)
    height = WIDTH * aspect * values[0].shape[0] / values[0].shape[1]
    with house_style():
        figure = Figure(figsize=(columns * (WIDTH + BAR / 2), rows * (height + 0.5)), layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for ax, title, u, scale in zip(axes, titles, values, scales, strict=False):
            draw_picture(ax, u, scale, aspect, "nearest")
            ax.set_title(title)
            _coast(ax, found)
            bar = figure.colorbar(scale.mappable(), ax=ax, extend="both", pad=0.02, shrink=0.9, aspect=16)
            bar.outline.set_visible(False)
            bar.locator = MaxNLocator(5, symmetric=scale.low == -scale.high)
            bar.update_ticks()
        for ax in axes[len(values) :]:
            ax.remove()
    return figure


def _coast(ax: Axes, found: Examination) -> None:
    """A line between land and sea, where these are known."""
    if found.land is not None and is_sphere(found.layout.axes):
        land = _section(found.land.astype(float), found.layout)
        coastline(ax, np.arange(land.shape[0]), np.arange(land.shape[1]), land)


def _aspect(layout: Layout, picture: np.ndarray) -> float:
    """Height of a cell over its width."""
    rows, columns = picture.shape
    vertical, horizontal = (0, 1) if is_sphere(layout.axes) else (1, 0)
    return layout.axes[vertical].length / rows / (layout.axes[horizontal].length / columns)


def _profiles(layout: Layout, titles: Sequence[str], values: Sequence[np.ndarray]) -> Figure:
    """The truth's mean along the only axis, and the differences from it."""
    axis = layout.axes[0]
    with house_style():
        figure, (left, right) = panels(2)
        left.plot(axis.coordinates, values[0], color="black")
        left.set_title(titles[0])
        right.axhline(0, color=INK, linewidth=0.8)
        for title, u in zip(titles[1:], values[1:], strict=True):
            right.plot(axis.coordinates, u, label=title)
        for ax in (left, right):
            ax.set_xlabel(plain(axis.name))
        right.legend()
    return figure


# --- curves --------------------------------------------------------------------------------------------------------


def season_figure(found: Examination, field: int) -> Figure:
    """Means of the months over the globe and each hemisphere."""
    look = look_of(found)
    areas = regions(found.layout)
    with house_style():
        figure, axes = panels(len(areas))
        for (region, weights), ax in zip(areas.items(), axes, strict=True):
            months = np.arange(len(found.reference.weights))
            ax.plot(
                months, mean_over(found.reference.months[:, field], weights), color="black", linewidth=2, label=TRUTH
            )
            for own in _whole(found):
                assert own.climate is not None
                curve = mean_over(own.climate.months[:, field], weights)
                ax.plot(months, curve, label=plain(own.label), **look[own.label].curve(12))
            ax.set_xticks(months, MONTHS)
            ax.set_title(region)
        axes[0].set_ylabel(labelled(found.layout, field))
        name_all(figure, axes)
    return figure


def years_figure(found: Examination, field: int) -> Figure:
    """The mean over space of each year: of the truth, in black with two standard deviations, and of every member."""
    look, area = look_of(found), area_of(found.layout)
    truth = mean_over(found.truth.means()[:, field], area)
    with house_style():
        figure, (ax,) = panels(1, [own.label for own in found.compared])
        spread = 2 * truth.std(ddof=1) if len(truth) > 1 else np.nan
        ax.axhspan(truth.mean() - spread, truth.mean() + spread, color=PALE, alpha=0.5, linewidth=0)
        ax.plot(np.arange(1, len(truth) + 1), truth, color="black", linewidth=2, label=TRUTH, marker="o")
        for own in found.compared:
            for k, years in enumerate(own.members.values()):
                curve = mean_over(years.means()[:, field], area)
                options = {**look[own.label].curve(), "alpha": 1.0 if len(own.members) == 1 else 0.6}
                ax.plot(np.arange(1, len(curve) + 1), curve, label="_" if k else plain(own.label), **options)
        ax.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        ax.set(xlabel=f"{found.noun} of the run", ylabel=labelled(found.layout, field))
        name_all(figure, [ax])
    return figure


def spectra_figure(found: Examination, field: int) -> Figure:
    """Power averaged over time, by wavenumber, and its ratio to the truth's."""
    look, names = look_of(found), list(found.spectra)
    curves = {own.label: own.spectra for own in found.compared if own.spectra}
    with house_style():
        figure = Figure(figsize=(4.4 * max(len(names), 1) + 0.6, 5.2), layout="constrained")
        grid = figure.subplots(2, len(names), sharex="col", squeeze=False, height_ratios=(2, 1.2))
        for name, (power, ratio) in zip(names, grid.T, strict=True):
            _spectrum(power, ratio, found.spectra[name][field], {k: s[name][field] for k, s in curves.items()}, look)
            power.set_title(TITLES[name])
        grid[0][0].set_ylabel(f"power of {plain(found.layout.fields.names[field])}")
        grid[1][0].set_ylabel("ratio to the truth")
        name_all(figure, list(grid.flat))
    return figure


TITLES = {"power": "by wavenumber, or degree on the sphere", "zonal": "by zonal wavenumber"}


def _spectrum(power: Axes, ratio: Axes, truth: np.ndarray, curves: Mapping[str, np.ndarray], look: Look) -> None:
    waves = np.flatnonzero(truth > 1e-9 * truth[1:].max(initial=0))
    waves = waves[waves > 0]
    power.loglog(waves, truth[waves], color="black", linewidth=1.8, label=TRUTH)
    ratio.axhline(1, color="black", linewidth=0.9)
    for label, own in curves.items():
        options = {**look[label].curve(), "marker": ""}
        power.loglog(waves, own[waves], label=plain(label), **options)
        ratio.plot(waves, own[waves] / truth[waves], **options)
    ratio.set_yscale("log")
    ratio.set_xlabel("wavenumber")
    for ax in (power, ratio):
        ax.minorticks_off()
