"""Tables of a forecast study: rows of text, the best of each column marked, and the same in LaTeX."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from driftway.plotting import METHOD, Look, evenly, fields_of, finite_methods, lead_label

UNDEFINED = "–"
PERFECT = {"lower": "0", "one": "1", "higher": "1"}
LEADS = 6
LATEX = {c: rf"\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "−": "$-$",
    "∞": r"$\infty$",
}


@dataclass(frozen=True)
class Cell:
    """One entry of a table: its text, whether it is the best of its column, and the colour of its method."""

    text: str
    best: bool = False
    color: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under column heads, what the table is, and notes under it."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    latex: str = ""


def number(value: Any) -> str:
    """A value as a table shows it: three digits, thousands apart, `–` where it is not defined."""
    if value is None:
        return UNDEFINED
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int | np.integer):
        return f"{value:,}".replace(",", "\u202f")
    if not math.isfinite(value):
        return UNDEFINED if math.isnan(value) else ("∞" if value > 0 else "−∞")
    size = abs(value)
    digits = f"{value:.2e}" if size >= 1e5 or 0 < size < 1e-3 else f"{value:.{_decimals(size)}f}"
    return digits.replace("-", "−")


def _decimals(size: float) -> int:
    return 3 if size < 1 else max(0, 2 - math.floor(math.log10(size)))


def best(values: Sequence[Any], better: str) -> list[bool]:
    """Which values are the best, ties included: lowest, highest, or nearest to 1 by ratio; else none."""
    distance = {"lower": float, "higher": lambda v: -v, "one": lambda v: abs(math.log(v)) if v > 0 else math.inf}
    if better not in distance:
        return [False] * len(values)
    ranks = [distance[better](v) if _is_number(v) else math.inf for v in values]
    first = min(ranks, default=math.inf)
    shown = {number(v) for v, rank in zip(values, ranks, strict=True) if rank == first < math.inf}
    return [_is_number(v) and number(v) in shown for v in values]


def _is_number(value: Any) -> bool:
    numeric = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return numeric and math.isfinite(value)


def _column(values: Sequence[Any], better: str) -> list[Cell]:
    return [Cell(number(v), mark) for v, mark in zip(values, best(values, better), strict=True)]


def _table(title: str, head: Sequence[str], look: Look, methods: Sequence[str], columns: Iterable[list[Cell]]) -> Table:
    names = [Cell(method, color=look[method].color if method in look else "") for method in methods]
    rows = tuple(zip(names, *columns, strict=True))
    return Table(title, (METHOD, *head), rows)


def score_name(scores: xr.Dataset, name: str) -> str:
    """The long name of a score, with its unit if it has one."""
    attributes = scores[name].attrs
    unit = attributes.get("units", "1")
    label = str(attributes.get("long_name", name))
    return label if unit in ("", "1") else f"{label} [{unit}]"


def summary_table(summary: Sequence[Mapping[str, Any]], scores: xr.Dataset, look: Look) -> Table:
    """The caller's rows; columns named like a score get its long name, its best value marked, and how it was averaged."""
    keys = list(dict.fromkeys(key for row in summary for key in row if key != METHOD))
    columns = [_column([row.get(key) for row in summary], _attribute(scores, key, "better")) for key in keys]
    head = [score_name(scores, key) if key in scores else key for key in keys]
    notes = [f"{score_name(scores, key)}: {_attribute(scores, key, 'averaging')}" for key in keys if key in scores]
    methods = [str(row[METHOD]) for row in summary]
    table = _table("Best values in bold; – is not defined for that method", head, look, methods, columns)
    return replace(table, notes=tuple(note for note in notes if not note.endswith(": ")), latex=latex(table))


def _attribute(scores: xr.Dataset, name: str, key: str) -> str:
    return str(scores[name].attrs.get(key, "")) if name in scores else ""


def lead_tables(scores: xr.Dataset, name: str, look: Look) -> tuple[Table, ...]:
    """One score at a few lead times, a table per field."""
    chosen = evenly(scores.sizes["lead_time"], LEADS)
    methods = finite_methods(scores, name)
    head = [f"{lead:.4g}" for lead in scores["lead_time"].values[chosen]]
    better = _attribute(scores, name, "better")

    def table(field: str) -> Table:
        values = scores[name].sel({"field": field, "method": methods}).transpose("method", "lead_time").values
        title = f"{score_name(scores, name)} of {field} by {lead_label(scores)}"
        return _table(title, head, look, methods, (_column(values[:, k].tolist(), better) for k in chosen))

    return tuple(table(field) for field in fields_of(scores)) if methods else ()


def band_table(scores: xr.Dataset, look: Look) -> Table:
    """Error of the spectrum by wavenumber band and field."""
    values, methods = scores["spectral_rmse"], finite_methods(scores, "spectral_rmse")
    pairs = [(field, band) for field in fields_of(scores) for band in values["band"].values]
    head = [str(band) if len(fields_of(scores)) == 1 else f"{field}, {band}" for field, band in pairs]
    columns = (
        _column(values.sel({"field": f, "band": b, "method": methods}).values.tolist(), "lower") for f, b in pairs
    )
    table = _table(score_name(scores, "spectral_rmse"), head, look, methods, columns)
    note = _attribute(scores, "spectral_rmse", "averaging")
    return replace(table, notes=(note,) if note else (), latex=latex(table))


def glossary_table(scores: xr.Dataset) -> Table:
    """Every score that says what it is: formula, averaging, and what perfect and trivial forecasts get."""
    names = [str(name) for name, values in scores.data_vars.items() if {"formula", "averaging"} & set(values.attrs)]

    def row(name: str) -> tuple[Cell, ...]:
        perfect = _attribute(scores, name, "perfect") or PERFECT.get(_attribute(scores, name, "better"), UNDEFINED)
        texts = [_attribute(scores, name, key) or UNDEFINED for key in ("formula", "averaging")]
        trivial = _attribute(scores, name, "trivial") or UNDEFINED
        return tuple(Cell(text) for text in (score_name(scores, name), *texts, perfect, trivial))

    title = "Scores of this page; the glossary of driftway has the references"
    head = ("score", "formula", "averaging", "perfect", "trivial")
    return Table(title, head, tuple(row(name) for name in names))


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
    return rf"\textbf{{{_escaped(cell.text)}}}" if cell.best else _escaped(cell.text)
