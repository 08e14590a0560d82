"""Pictures of forecasts beside what happened: panels and space–time pictures.

Of two axes the first is horizontal and the second vertical, upward, and lengths are to scale where they are known; of a
sphere the longitude is horizontal and north is up, and coastlines are drawn where land is known.
Forecasts share the colour scale of the truth, so that one which leaves its range saturates; what is not finite is grey.
The error has a scale and colours of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from driftway.errors import DataError
from driftway.report.coasts import coastline
from driftway.report.styling import INK, evenly, house_style, in_days, lead_label, plain, time_unit

MISSING = "#bdbdbd"
# the share of values beyond each end of a colour scale
TAIL = 0.005
LINE = 18  # letters beside a row of pictures


@dataclass(frozen=True)
class Case:
    """What happened from one initial state, and what each method forecast.

    label: which initial state this is
    truth: one variable per field, dims (lead_time, *axes) with one or two axes; a coordinate's attribute `length`
        is the length of its axis
    forecasts: method → variables of the same names, dims (realization, lead_time, *axes); without the dim
        `realization` it is a single forecast
    land: (*axes) of the truth, the share of land of each cell, whose coastline is drawn
    """

    label: str
    truth: xr.Dataset
    forecasts: dict[str, xr.Dataset]
    land: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, truth in self.truth.data_vars.items():
            if "lead_time" not in truth.dims or not 2 <= truth.ndim <= 3:
                raise DataError(
                    f"case '{self.label}': truth '{name}' has dims {truth.dims}, not (lead_time, *axes) with one or "
                    "two axes; choose one trajectory with .isel(trajectory=0)"
                )
            for method, forecast in self.forecasts.items():
                _check_forecast(f"case '{self.label}', method '{method}'", forecast, str(name), truth)
            if self.land is not None and self.land.shape != truth.shape[1:]:
                raise DataError(
                    f"case '{self.label}': land has the shape {self.land.shape}, '{name}' {truth.shape[1:]}; give it "
                    "on the same grid"
                )

    def in_days(self) -> Case:
        """The same with lead times in days where hours would be many."""
        forecasts = {method: in_days(forecast) for method, forecast in self.forecasts.items()}
        return replace(self, truth=in_days(self.truth), forecasts=forecasts)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields, in the order of the truth."""
        return tuple(str(name) for name in self.truth.data_vars)

    def happened(self, field: str) -> np.ndarray:
        """The truth, (T, *S) as rows of a picture: the last axis first, or latitude before longitude."""
        return self._upright(self.truth[field]).transpose("lead_time", *self.axes(field)).values

    def coast(self, field: str) -> np.ndarray | None:
        """The share of land, (*S) as rows of a picture; None where it is not known."""
        if self.land is None:
            return None
        dims = [str(dim) for dim in self.truth[field].dims if dim != "lead_time"]
        land = xr.DataArray(self.land, dims=dims, name=field)
        return self._upright(land).transpose(*self.axes(field)).values

    def axes(self, field: str) -> list[str]:
        """Names of the axes, vertical before horizontal."""
        dims = [str(dim) for dim in self.truth[field].dims if dim != "lead_time"]
        return dims if self._latitude(field) else dims[::-1]

    def _latitude(self, field: str) -> str | None:
        """The axis that goes from pole to pole, if there are two axes and it is the first."""
        dims = [str(dim) for dim in self.truth[field].dims if dim != "lead_time"]
        return dims[0] if len(dims) == 2 and self.truth[dims[0]].attrs.get("boundary") == "pole" else None

    def _upright(self, values: xr.DataArray) -> xr.DataArray:
        """The same with latitudes from south to north."""
        latitude = self._latitude(str(values.name))
        falls = latitude is not None and bool(np.diff(self.truth[latitude].values[:2]) < 0)
        return values.isel({latitude: slice(None, None, -1)}) if falls else values

    def aspect(self, field: str) -> float:
        """Height of a cell over its width on two axes; 1 if a length is not known."""
        truth = self.truth[field]
        lengths = [truth[axis].attrs.get("length", np.nan) / truth.sizes[axis] for axis in self.axes(field)]
        ratio = lengths[0] / lengths[-1]
        return float(ratio) if np.isfinite(ratio) and ratio > 0 else 1.0

    def members(self, method: str, field: str) -> np.ndarray:
        """The members of a forecast, (M, T, *S) as the truth."""
        forecast = self._upright(self.forecasts[method][field])
        if "realization" not in forecast.dims:
            forecast = forecast.expand_dims("realization")
        return forecast.transpose("realization", "lead_time", *self.axes(field)).values

    def times(self) -> list[str]:
        """Lead times with their unit, e.g. `0.4 s`."""
        return [f"{lead:.4g} {time_unit(self.truth)}".rstrip() for lead in self.truth["lead_time"].values]


def _check_forecast(where: str, forecast: xr.Dataset, name: str, truth: xr.DataArray) -> None:
    if name not in forecast:
        raise DataError(
            f"{where}: field '{name}' of the truth is missing; the forecast has {', '.join(map(str, forecast))}"
        )
    sizes = {dim: size for dim, size in forecast[name].sizes.items() if dim != "realization"}
    if sizes != dict(truth.sizes):
        raise DataError(f"{where}: '{name}' is {sizes}, the truth {dict(truth.sizes)}; select the same leads and grid")


def views(case: Case, method: str, field: str) -> dict[str, np.ndarray]:
    """What a picture shows, each (T, *S): truth, ensemble mean, the first two members, and mean − truth last.

    A single forecast gives truth, forecast and forecast − truth; no members raise a DataError.
    """
    truth, members = case.happened(field), case.members(method, field)
    if len(members) == 0:
        raise DataError(f"case '{case.label}': method '{method}' has no members, so there is nothing to draw")
    with np.errstate(over="ignore", invalid="ignore"):
        if len(members) == 1:
            return {"truth": truth, "forecast": members[0], "forecast − truth": members[0] - truth}
        mean = members.mean(0)
        pictures = {"truth": truth, "ensemble mean": mean, "member 1": members[0], "member 2": members[1]}
        return {**pictures, "mean − truth": mean - truth}


@dataclass(frozen=True)
class Scale:
    """Colours for values between `low` and `high`."""

    low: float
    high: float
    colors: str

    def mappable(self) -> ScalarMappable:
        """What a colour bar and `to_rgba` need."""
        colors = mpl.colormaps[self.colors].with_extremes(bad=MISSING)
        return ScalarMappable(Normalize(self.low, self.high), colors)


def field_scale(truth: np.ndarray) -> Scale:
    """Symmetric and diverging where the field changes sign, else from its lowest to its highest value."""
    low, high = _quantiles(truth)
    if low < 0 < high:
        return Scale(-max(-low, high), max(-low, high), "RdBu_r")
    return Scale(low, high, "viridis")


def error_scale(error: np.ndarray) -> Scale:
    """Symmetric, in colours that no field uses."""
    low, high = _quantiles(error)
    limit = max(abs(low), abs(high))
    return Scale(-limit, limit, "PuOr_r")


def _quantiles(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return -1.0, 1.0
    low, high = (float(q) for q in np.quantile(finite, [TAIL, 1 - TAIL]))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def fields_panel(case: Case, method: str, leads: Sequence[int] | None = None, field: str | None = None) -> Figure:
    """Rows of pictures (truth, mean, members, error) against lead time; space–time pictures if there is one axis.

    leads: indices of the lead times shown; five from the first to the last by default
    field: the first by default
    """
    field = field or case.fields[0]
    rows = views(case, method, field)
    return _panel(case, rows, scales_of(rows), field, leads)


def members_panel(case: Case, methods: Sequence[str], field: str, leads: Sequence[int] | None = None) -> Figure:
    """The truth, and of each method the first member, against lead time, all on the truth's scale.

    leads: indices of the lead times shown; five by default, the later the farther apart, since errors grow
    """
    rows = {"truth": case.happened(field)} | {method: case.members(method, field)[0] for method in methods}
    count = len(case.times())
    later = sorted({round(count ** (k / 4)) - 1 for k in range(5)})
    return _panel(case, rows, dict.fromkeys(rows, field_scale(rows["truth"])), field, later if leads is None else leads)


def _panel(
    case: Case, rows: Mapping[str, np.ndarray], scales: Mapping[str, Scale], field: str, leads: Sequence[int] | None
) -> Figure:
    """Rows of pictures against lead time, or columns of space–time pictures."""
    if case.happened(field).ndim == 2:
        return _space_time(case, rows, scales, field)
    chosen = list(leads) if leads is not None else evenly(len(case.times()), 5)
    height, width = cell(case, field, 1.4)
    with house_style():
        figure = Figure(figsize=(width * len(chosen) + 1.4, height * len(rows) + 0.5), layout="compressed")
        grid = list(figure.subplots(len(rows), 1))
        centres: list[float] = []
        for (name, values), ax in zip(rows.items(), grid, strict=True):
            centres = _strip(ax, values[chosen], scales[name], case.aspect(field), case.coast(field))
            ax.set_ylabel(plain(_wrapped(name)))
        grid[0].xaxis.tick_top()
        grid[0].set_xticks(centres, [case.times()[lead] for lead in chosen], fontsize=9, color=INK)
        bars(figure, scales, grid, case.truth[field])
    return figure


def _wrapped(name: str) -> str:
    """A long name in lines, broken after underscores."""
    return "\n".join(wrap(name.replace("_", "_ "), LINE)).replace("_ ", "_")


def _strip(ax: Axes, pictures: np.ndarray, scale: Scale, aspect: float, land: np.ndarray | None) -> list[float]:
    """Pictures (L, rows, columns) side by side as one image, much faster than axes for each; their centres."""
    count, height, width = pictures.shape
    gap = max(1, round(0.04 * width))
    strip = np.zeros((height, count * (width + gap) - gap, 4))
    starts = [k * (width + gap) for k in range(count)]
    for start, picture in zip(starts, pictures, strict=True):
        strip[:, start : start + width] = scale.mappable().to_rgba(shown(picture))
    _bare(ax)
    ax.imshow(strip, origin="lower", interpolation="nearest", aspect=aspect)
    for start in starts if land is not None else ():
        coastline(ax, np.arange(height), start + np.arange(width), np.asarray(land))
    return [start + (width - 1) / 2 for start in starts]


def shown(values: np.ndarray) -> np.ma.MaskedArray:
    """What is finite of a picture."""
    return np.ma.masked_invalid(values.astype(np.float64))


def _bare(ax: Axes) -> None:
    ax.set(xticks=[], yticks=[])
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)


def scales_of(rows: Mapping[str, np.ndarray]) -> dict[str, Scale]:
    """The scale of the truth for all rows but the last, which is the error."""
    shared, error = field_scale(rows["truth"]), list(rows)[-1]
    return {name: error_scale(rows[name]) if name == error else shared for name in rows}


def cell(case: Case, field: str, size: float) -> tuple[float, float]:
    """Height and width in inches of a picture whose shorter side is `size`, at most four times longer than high."""
    rows, columns = case.happened(field).shape[1:]
    ratio = float(np.clip(columns / (rows * case.aspect(field)), 0.25, 4))
    return (size, size * ratio) if ratio >= 1 else (size / ratio, size)


def draw_picture(ax: Axes, values: np.ndarray, scale: Scale, aspect: float | str, interpolation: str) -> AxesImage:
    """One picture alone in its axes."""
    _bare(ax)
    return ax.imshow(
        shown(values),
        cmap=scale.mappable().get_cmap(),
        vmin=scale.low,
        vmax=scale.high,
        origin="lower",
        aspect=aspect,  # type: ignore[arg-type]
        interpolation=interpolation,
    )


def bars(figure: Figure, scales: Mapping[str, Scale], axes: list[Any], truth: Any) -> None:
    """A bar for the truth's scale, and one for the last picture's if that is an error."""
    unit = truth.attrs.get("units", "1")
    name = plain(truth.name if unit in ("1", "") else f"{truth.name} [{unit}]")
    shared, last = scales["truth"], list(scales.values())[-1]
    split = len(axes) - (last is not shared)
    for label, group, scale in ((name, axes[:split], shared), ("error", axes[split:], last)):
        flat = [ax for row in group for ax in np.atleast_1d(row)]
        if not flat:
            continue
        error = label == "error"
        bar = figure.colorbar(
            scale.mappable(),
            ax=flat,
            extend="both",
            shrink=0.9 if error else 0.6,
            aspect=8 if error else 25,
            pad=0.01,
        )
        bar.set_label(label)
        bar.outline.set_visible(False)
        bar.locator = MaxNLocator(4 if error else 6, symmetric=scale.colors != "viridis")
        bar.update_ticks()


def _space_time(case: Case, rows: Mapping[str, np.ndarray], scales: Mapping[str, Scale], field: str) -> Figure:
    lead = case.truth["lead_time"].values
    with house_style():
        figure = Figure(figsize=(1.75 * len(rows) + 1.4, 3.4), layout="constrained")
        grid = figure.subplots(1, len(rows), sharey=True)
        for (name, values), ax in zip(rows.items(), grid, strict=True):
            draw_picture(ax, values, scales[name], aspect="auto", interpolation="nearest")
            ax.set_title(plain(name))
            ax.set_xlabel(plain(next(dim for dim in case.truth[field].dims if dim != "lead_time")))
        ticks = evenly(len(lead), 5)
        grid[0].set(yticks=ticks, yticklabels=[f"{lead[k]:.4g}" for k in ticks], ylabel=lead_label(case.truth))
        bars(figure, scales, list(grid), case.truth[field])
    return figure
