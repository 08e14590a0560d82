"""Tables of a forecast study: rows of text, the best forecast of each column marked, and the same in LaTeX."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from driftway.glossary import HIGHER, LOWER, ONE, SCORES, UNDEFINED, is_reference, number
from driftway.metrics.intervals import FEWEST
from driftway.report.findings import estimate, rollout
from driftway.report.plotting import fields_of, finite_methods, of, score_name
from driftway.report.styling import Look, Style, evenly, lead_label, time_unit

LEADS = 6
DAYS = (0.25, 1, 3, 5, 7, 10, 15, 20, 30)
SUMMARY = ("vrmse", "spread_skill", "spectral_rmse", "correlation_time")
BANDS = ("low", "mid", "high")
LATEX = {c: rf"\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "−": "$-$",
    "∞": r"$\infty$",
    "≥": r"$\geq$",
}


@dataclass(frozen=True)
class Cell:
    """One entry of a table: its text, a detail beside it, whether it is the best, and how its method is drawn."""

    text: str
    detail: str = ""
    best: bool = False
    style: Style | None = None
    reference: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under column heads, what the table is, and notes under it; `prose` is words rather than numbers."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    latex: str = ""
    prose: bool = False


@dataclass(frozen=True)
class Column:
    """Values of one quantity, with what is better (`lower`, `higher`, `one` or nothing) and details."""

    head: str
    values: Sequence[Any]
    better: str = ""
    details: Sequence[str] = ()
    texts: Sequence[str] = ()

    def cells(self, ranked: Sequence[bool]) -> list[Cell]:
        """Cells whose best is marked among the rows that are `ranked`."""
        marks = best([v if r else None for v, r in zip(self.values, ranked, strict=True)], self.better)
        texts = self.texts or [number(value) for value in self.values]
        details = self.details or [""] * len(texts)
        return [Cell(text, detail, mark) for text, detail, mark in zip(texts, details, marks, strict=True)]


def best(values: Sequence[Any], better: str) -> list[bool]:
    """Which values are the best, ties included: lowest, highest, or nearest to 1 by ratio; else none."""
    distance = {LOWER: float, HIGHER: lambda v: -v, ONE: lambda v: abs(math.log(v)) if v > 0 else math.inf}
    if better not in distance:
        return [False] * len(values)
    ranks = [distance[better](v) if _is_number(v) else math.inf for v in values]
    first = min(ranks, default=math.inf)
    shown = {number(v) for v, rank in zip(values, ranks, strict=True) if rank == first < math.inf}
    return [_is_number(v) and number(v) in shown for v in values]


def _is_number(value: Any) -> bool:
    numeric = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return numeric and math.isfinite(value)


def method_table(
    title: str, scores: xr.Dataset, look: Look, methods: Sequence[str], columns: Iterable[Column]
) -> Table:
    """A row per method, references last; only forecasts can be best, and only those that never diverged."""
    columns, references = list(columns), [is_reference(method) for method in methods]
    ranked = [not is_reference(m) and int(of(scores["failures"], m)) == 0 for m in methods]
    names = [Cell(m, style=look.get(m), reference=r) for m, r in zip(methods, references, strict=True)]
    rows = list(zip(names, *(column.cells(ranked) for column in columns), strict=True))
    rows.sort(key=lambda row: row[0].reference)
    return Table(title, ("method", *(column.head for column in columns)), tuple(rows))


# --- the summary ---------------------------------------------------------------------------------------------------


def summary_table(scores: xr.Dataset, field: str, look: Look) -> Table:
    """What a reader looks for first: cost, error, CRPS, calibration, spectra, memory and failures of each method."""
    methods = _methods(scores)
    columns = [
        *_plain(scores, {"calls": "calls per step", "members": "members"}),
        _interval_column(scores, "vrmse", field),
        _interval_column(scores, "crps", field),
        _ratio_column(scores, field),
        *_band_columns(scores, field, BANDS[:2], "spectrum, "),
        _time_column(scores, field),
        _failure_column(scores),
        *_plain(scores, {"ms_per_step": "ms per step"}),
    ]
    title = f"Means over lead times; the best forecast in bold, references below; {UNDEFINED} is not defined."
    table = method_table(title, scores, look, methods, columns)
    return replace(table, notes=_summary_notes(scores), latex=latex(table))


def _methods(scores: xr.Dataset) -> list[str]:
    return [str(method) for method in scores["method"].values]


def _plain(scores: xr.Dataset, heads: dict[str, str]) -> list[Column]:
    """Numbers that scores carry for each method, integers as integers."""
    columns = []
    for name, head in heads.items():
        if name in scores:
            values = [int(v) if np.isfinite(v) and v == int(v) else float(v) for v in scores[name].values]
            columns.append(Column(head, values))
    return columns


def _interval_column(scores: xr.Dataset, name: str, field: str) -> Column:
    found = [estimate(rollout(scores, name, method, [field])) for method in _methods(scores)]
    details = [f"{number(e.low)}–{number(e.high)}" if np.isfinite(e.low) else "" for e in found]
    return Column(score_name(scores, name, field), [e.mean for e in found], LOWER, details)


def _ratio_column(scores: xr.Dataset, field: str) -> Column:
    """The range over lead times, ranked by the end that is furthest from 1: a mean would hide that both are wrong."""
    ranges = [_range(of(scores["spread_skill"], m).sel(field=field).values) for m in _methods(scores)]
    furthest = [max(ends, key=lambda end: abs(math.log(end)) if end > 0 else math.inf) for ends in ranges]
    texts = [f"{low:.2f}–{high:.2f}" if math.isfinite(low) else UNDEFINED for low, high in ranges]
    return Column("spread / skill", furthest, ONE, texts=texts)


def _range(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _band_columns(scores: xr.Dataset, field: str, bands: Sequence[str], before: str = "") -> list[Column]:
    if "spectral_rmse" not in scores:
        return []
    errors = scores["spectral_rmse"].sel(field=field)
    return [Column(f"{before}{band}", errors.sel(band=band).values.tolist(), LOWER) for band in bands]


def _time_column(scores: xr.Dataset, field: str) -> Column:
    times, beyond = (scores[name].sel(field=field).values for name in ("correlation_time", "censored"))
    unit = time_unit(scores)
    head = "correlation time" + (f" [{unit}]" if unit else "")
    texts = [f"≥ {number(t)}" if n and np.isfinite(t) else number(t) for t, n in zip(times, beyond, strict=True)]
    details = [f"{int(n)} beyond" if n and np.isfinite(t) else "" for t, n in zip(times, beyond, strict=True)]
    return Column(head, times.tolist(), HIGHER, details, texts)


def _failure_column(scores: xr.Dataset) -> Column:
    return Column(f"diverged, of {scores.attrs['initial_states']}", scores["failures"].values.tolist())


def _summary_notes(scores: xr.Dataset) -> tuple[str, ...]:
    """How each column was averaged."""
    order = {name: scores[name].attrs.get("averaging", "") for name in SUMMARY if name in scores}
    states = scores.attrs["initial_states"]
    notes = {
        "vrmse": "VRMSE and CRPS: {}; then mean over lead times."
        + (f" Small: 95 % bootstrap interval over {states} initial states." if states >= FEWEST else ""),
        "spread_skill": "Spread / skill: {}; the lowest and the highest over lead times, 1 is calibrated.",
        "spectral_rmse": "Spectrum: error in the lower two thirds of the wavenumbers in log k; {}.",
        "correlation_time": "Correlation time: {}; “beyond” counts those that never fell below at the leads forecast.",
    }
    found = [text.format(order[name]) for name, text in notes.items() if name in order]
    return (*found, *(["Calls, ms: of the network, for one step; ms also per member."] if "calls" in scores else []))


def scores_table(scores: xr.Dataset, field: str, look: Look) -> Table:
    """Every score as its mean over lead times."""
    means = scores[[name for name in SCORES if name in scores]].sel(field=field).mean("lead_time", skipna=False)
    columns = [
        Column(score_name(scores, name, field), means[name].values.tolist(), scores[name].attrs.get("better", ""))
        for name in map(str, means)
    ]
    table = method_table("All scores, means over lead times", scores, look, _methods(scores), columns)
    return replace(table, latex=latex(table))


# --- other tables --------------------------------------------------------------------------------------------------


def lead_tables(scores: xr.Dataset, name: str, look: Look, fields: Sequence[str] = ()) -> tuple[Table, ...]:
    """One score at a few lead times, a table per field; of all fields by default."""
    chosen, methods = _told_leads(scores), finite_methods(scores, name)
    leads, better = scores["lead_time"].values[chosen], scores[name].attrs.get("better", "") if methods else ""

    def table(field: str) -> Table:
        values = scores[name].sel({"field": field, "method": methods}).transpose("method", "lead_time").values
        columns = [Column(f"{lead:.4g}", values[:, k].tolist(), better) for k, lead in zip(chosen, leads, strict=True)]
        title = f"{score_name(scores, name, field)} of {field} by {lead_label(scores)}"
        found = method_table(title, scores, look, methods, columns)
        return replace(found, latex=latex(found))

    return tuple(table(field) for field in fields or fields_of(scores)) if methods else ()


def _told_leads(scores: xr.Dataset) -> list[int]:
    """Lead times for a table: of days those that forecasts of weather are told by, of others evenly spaced ones."""
    leads = scores["lead_time"].values
    days = [int(np.abs(leads - day).argmin()) for day in DAYS if np.isclose(leads, day, rtol=1e-6).any()]
    return days if time_unit(scores) == "days" and len(days) > 1 else evenly(len(leads), LEADS)


def band_table(scores: xr.Dataset, field: str, look: Look) -> Table:
    """Error of the spectrum by wavenumber band."""
    bands = [str(band) for band in scores["band"].values]
    attributes = scores["spectral_rmse"].attrs
    title = f"{score_name(scores, 'spectral_rmse')} by band of wavenumbers, {attributes.get('formula', '')}"
    table = method_table(title, scores, look, _methods(scores), _band_columns(scores, field, bands))
    notes = (str(attributes["averaging"]),) if "averaging" in attributes else ()
    return replace(table, notes=notes, latex=latex(table))


def glossary_table(scores: xr.Dataset) -> Table:
    """Every score that says what it is: formula, averaging, and what perfect and trivial forecasts get."""
    keys = ("formula", "averaging", "perfect", "trivial")
    names = [str(name) for name, values in scores.data_vars.items() if "formula" in values.attrs]

    def row(name: str) -> tuple[Cell, ...]:
        texts = [str(scores[name].attrs.get(key, "")) or UNDEFINED for key in keys]
        return tuple(Cell(text) for text in (score_name(scores, name), *texts))

    title = "Scores of this page; the documentation of driftway.metrics has the references"
    return Table(title, ("score", *keys), tuple(row(name) for name in names), prose=True)


def latex(table: Table) -> str:
    """The table as a LaTeX `tabular`, best values bold, for the package booktabs."""
    lines = [[_escaped(head) for head in table.head]]
    lines += [[_bold(cell) for cell in row] for row in table.rows]
    head, *rows = [" & ".join(line) + r" \\" for line in lines]
    begin = rf"\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}"
    return "\n".join([begin, r"\toprule", head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"])


def _escaped(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text).replace("\u202f", r"\,")


def _bold(cell: Cell) -> str:
    text = rf"\textbf{{{_escaped(cell.text)}}}" if cell.best else _escaped(cell.text)
    return f"{text} ({_escaped(cell.detail)})" if cell.detail else text


def markdown(table: Table) -> str:
    """The table as one of Markdown, best values bold, details in parentheses."""

    def line(texts: Iterable[str]) -> str:
        return "| " + " | ".join(text.replace("|", r"\|").replace("\n", ", ") for text in texts) + " |"

    def shown(cell: Cell) -> str:
        text = f"**{cell.text}**" if cell.best else cell.text
        return f"{text} ({cell.detail})" if cell.detail else text

    ruler = line(["---", *["---:"] * (len(table.head) - 1)])
    return "\n".join([line(table.head), ruler, *(line(map(shown, row)) for row in table.rows)])
