"""Tables of a study's report: skill, spectra and cost of each row, its rank, tuning, protocol and time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from driftway.glossary import HIGHER, LOWER, ONE, SCORES, UNDEFINED, number
from driftway.metrics.intervals import FEWEST
from driftway.report.outcome import Outcome
from driftway.report.plotting import of, score_name
from driftway.report.styling import time_unit
from driftway.report.tables import Cell, Column, Table, latex, method_table
from driftway.studies.statistics import (
    SIGNIFICANT,
    Bounds,
    Estimate,
    Ranked,
    estimate,
    failures,
    nfe_needed,
    per_part,
    seeds_of,
    segments,
    windows,
)

BANDS = ("low", "mid", "high")
SPECTRAL = {"spectral_rmse": "error", "spectral_log_error": "log error"}
INVERTED = {"spectral_rmse_paper": "truth over forecast"}
SPECTRAL_NOTES = (
    "Low, mid, high: thirds of the resolved wavenumbers in log k. Small: 95 % interval over seeds.",
    "Error: √⟨(1−P̂/P)²⟩, P̂ of the forecast, P of the truth; a spectrum without power scores 1.",
    "Log error: √⟨ln²(P̂/P)⟩; too much and too little power by one factor cost the same.",
)
INVERTED_NOTES = (
    "√⟨(1−P/P̂)²⟩, to compare with arXiv:2509.26282; too much power never scores above 1, so that it favours noise.",
)
COSTS = {
    "parameters": ("weights", 1.0),
    "calls": ("calls per step", 1.0),
    "ms_per_step": ("ms per step and member", 1.0),
    "forecast_seconds": ("forecast of the test split [s]", 1.0),
    "peak_memory": ("peak memory [MB]", 1e-6),
    "train_seconds": ("training [s]", 1.0),
}
COUNTS = ("parameters", "calls")
WITHIN = 0.05


def skill_table(outcome: Outcome, fields: Sequence[str] = ()) -> Table:
    """Errors, CRPS, calibration and divergence of each row, from the best by CRPS on, references below."""
    methods = [place.row for place in outcome.places("crps", fields)] + outcome.references
    columns = [
        Column("seeds", [_seeds(outcome, row) for row in methods]),
        _cost_column(outcome, methods, "calls"),
        *(_score_column(outcome, methods, name, fields) for name in ("vrmse", "vrmse_member", "nrmse", "crps")),
        _score_column(outcome, methods, "energy_score", fields),
        *([_score_column(outcome, methods, "acc", fields)] if "acc" in outcome.results else []),
        _ratio_column(outcome, methods, fields),
        _time_column(outcome, methods, fields),
        _failure_column(outcome, methods),
    ]
    title = f"Test scores, means over lead times and seeds; the best row in bold; {UNDEFINED} is not defined."
    table = _table(outcome, title, methods, columns)
    return replace(table, notes=_skill_notes(outcome, fields))


def _table(outcome: Outcome, title: str, methods: Sequence[str], columns: Sequence[Column]) -> Table:
    """A row of each method, also in LaTeX."""
    table = method_table(title, outcome.scores, outcome.look, methods, columns)
    table = replace(table, head=("row", *table.head[1:]))
    return replace(table, latex=latex(table))


def _seeds(outcome: Outcome, row: str) -> str:
    """How many seeds there are, and of how many that were planned where some are missing."""
    there, facts = len(seeds_of(outcome.results, row)), outcome.rows.get(row)
    if facts is None:
        return UNDEFINED
    return str(there) if there == len(facts.seeds) else f"{there} of {len(facts.seeds)}"


def _score_column(
    outcome: Outcome, methods: Sequence[str], name: str, fields: Sequence[str], band: str = "", head: str = ""
) -> Column:
    """A mean, and under it the interval over seeds and that over initial states, as far as there are any."""
    found = [estimate(outcome.results, name, row, fields, band) for row in methods]
    head = head or head_of(outcome, name, fields)
    better = SCORES[name].better if name in SCORES else LOWER
    return Column(head, [e.mean for e in found], better, [_intervals(e) for e in found])


def head_of(outcome: Outcome, name: str, fields: Sequence[str] = ()) -> str:
    """A score's name, with the unit of its field, or σ where several fields count in their standard deviations."""
    chosen = list(fields) or outcome.fields
    label = score_name(outcome.scores, name, chosen[0] if len(chosen) == 1 else None)
    return f"{label} [σ]" if len(chosen) > 1 and SCORES[name].dimensional else label


def _intervals(score: Estimate) -> str:
    marked = {"": score.seeds, "*": score.states}
    return "\n".join(
        f"{ends(bounds, score.mean)}{mark}" for mark, bounds in marked.items() if math.isfinite(bounds.low)
    )


def ends(bounds: Bounds, like: float | None = None) -> str:
    """An interval in words, with the decimals of `like`; empty if there is none."""
    dash = " to " if bounds.low < 0 else "–"
    return f"{number(bounds.low, like)}{dash}{number(bounds.high, like)}" if math.isfinite(bounds.low) else ""


def _ratio_column(outcome: Outcome, methods: Sequence[str], fields: Sequence[str]) -> Column:
    """The lowest and the highest over lead times, ranked by the one that is further from 1."""
    chosen = outcome.scores["spread_skill"].sel(field=list(fields) or outcome.fields)
    ranges = [(float(of(chosen, m).min(skipna=False)), float(of(chosen, m).max(skipna=False))) for m in methods]
    furthest = [max(pair, key=lambda end: abs(math.log(end)) if end > 0 else math.inf) for pair in ranges]
    texts = [f"{low:.2f}–{high:.2f}" if math.isfinite(low) else UNDEFINED for low, high in ranges]
    return Column("spread / skill", furthest, ONE, texts=texts)


def _time_column(outcome: Outcome, methods: Sequence[str], fields: Sequence[str]) -> Column:
    chosen = outcome.scores[["correlation_time", "censored"]].sel(field=list(fields) or outcome.fields).mean("field")
    times = [float(of(chosen["correlation_time"], row)) for row in methods]
    beyond = [
        float(of(chosen["censored"], row)) > 0 and math.isfinite(t) for row, t in zip(methods, times, strict=True)
    ]
    unit = time_unit(outcome.scores)
    texts = [f"≥ {number(t)}" if some else number(t) for t, some in zip(times, beyond, strict=True)]
    return Column("correlation time" + (f" [{unit}]" if unit else ""), times, HIGHER, texts=texts)


def _failure_column(outcome: Outcome, methods: Sequence[str]) -> Column:
    found = [failures(outcome.results, row) for row in methods]
    return Column("diverged", [f.bad for f in found], texts=[f"{f.bad} of {f.of}" for f in found])


def _skill_notes(outcome: Outcome, fields: Sequence[str]) -> tuple[str, ...]:
    states = outcome.results.sizes["trajectory"]
    several = len(fields or outcome.fields) > 1
    starred = (
        f"; with *, over the {states} initial states of the test split (bootstrap of the means over seeds)"
        if states >= FEWEST
        else f"; none over initial states, of which there are {states}, since below {FEWEST} it would be too narrow"
    )
    return (
        f"Small: 95 % intervals of the mean over seeds of training (Student){starred}.",
        "Spread / skill: the lowest and the highest over lead times; 1 is calibrated.",
        "Correlation time: ≥ where some forecasts were still correlated at the last lead time.",
        "Diverged: initial states of all seeds; such a row has no scores and is not ranked.",
        *(["[σ]: in units of each field's standard deviation over space."] if several else []),
    )


# --- spectra and cost ----------------------------------------------------------------------------------------------


def spectra_tables(outcome: Outcome, fields: Sequence[str] = ()) -> tuple[Table, Table]:
    """Errors of the spectrum by band of wavenumbers, and those with the ratio of powers the other way up."""
    return (
        replace(_spectra(outcome, fields, "Errors of the spectrum", SPECTRAL), notes=SPECTRAL_NOTES),
        replace(_spectra(outcome, fields, "The same with the ratio inverted", INVERTED), notes=INVERTED_NOTES),
    )


def _spectra(outcome: Outcome, fields: Sequence[str], title: str, names: Mapping[str, str]) -> Table:
    methods = outcome.order + outcome.references
    columns = [
        _score_column(outcome, methods, name, fields, band, f"{head}, {band}")
        for name, head in names.items()
        for band in BANDS
    ]
    return _table(outcome, f"{title}, means over lead times and seeds", methods, columns)


def cost_table(outcome: Outcome) -> Table:
    """What each row costs: weights, calls, time and memory, means over seeds."""
    methods = outcome.order
    columns = [_cost_column(outcome, methods, name) for name in COSTS]
    columns.insert(-1, Column("optimiser steps", [outcome.rows[row].steps for row in methods]))
    table = _table(outcome, "Cost of each row, means over seeds", methods, columns)
    notes = (
        "Weights and calls with those of the guess, if there is one; optimiser steps likewise.",
        "Time per step and member: of the network calls alone. Forecast: from the states to the file, with decoding.",
        "Measured beside other tasks of the study on the same machine: compare rows, not machines.",
    )
    return replace(table, notes=notes)


def _cost_column(outcome: Outcome, methods: Sequence[str], name: str) -> Column:
    head, factor = COSTS[name]
    values = [factor * cost_of(outcome, row, name) for row in methods]
    counted = [int(value) if name in COUNTS and math.isfinite(value) else value for value in values]
    return Column(head, counted)


def cost_of(outcome: Outcome, row: str, name: str) -> float:
    """A cost as its mean over the seeds whose training was finite, NaN where it is not known."""
    if name not in outcome.results or row not in outcome.results["row"]:
        return math.nan
    known = outcome.results[name].sel(row=row).dropna("seed").values
    return float(known.mean()) if len(known) else math.nan


# --- ranks, segments, calls needed ---------------------------------------------------------------------------------


def ranking_table(outcome: Outcome, name: str, fields: Sequence[str] = ()) -> Table:
    """Rows from the best on, how each differs from the best, and whether that may be chance."""
    places = outcome.places(name, fields)
    head = ("row", head_of(outcome, name, fields), "seeds", "worse than the best by", "p", "corrected p", "verdict")
    rows = tuple(_ranked(outcome, place, places[0]) for place in places)
    notes = (
        "Seeds: the lowest and the highest. Worse by: mean over initial states of the paired difference, and its 95 % "
        "bootstrap interval.",
        "p: sign-flip permutation test of the paired differences, seeds averaged; corrected for the number of rows "
        "after Holm.",
        f"Worse: corrected p below {SIGNIFICANT} and no seed as good as the worst of the best row. The best row was "
        "found on these states too, which favours it a little.",
    )
    table = Table(f"Rank by {head[1]}, mean over lead times", head, rows, notes)
    return replace(table, latex=latex(table))


def _ranked(outcome: Outcome, place: Ranked, first: Ranked) -> tuple[Cell, ...]:
    score, best = place.score, place is first and place.ranked
    span = score.span
    texts = [
        number(score.mean),
        f"{number(span.low)}–{number(span.high)}" if len(score.values) > 1 and place.ranked else UNDEFINED,
        number(place.difference, score.mean),
        _probability(place.p),
        _probability(place.corrected),
        _verdict(place, best),
    ]
    details = ["", "", ends(place.bounds, score.mean), "", "", ""]
    name = Cell(place.row, style=outcome.look[place.row])
    return (
        name,
        *(Cell(text, detail, best and k == 0) for k, (text, detail) in enumerate(zip(texts, details, strict=True))),
    )


def _probability(p: float) -> str:
    return UNDEFINED if math.isnan(p) else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def _verdict(place: Ranked, best: bool) -> str:
    if best:
        return "best"
    if not place.ranked:
        return f"diverged, {place.failures.bad} of {place.failures.of}" if place.failures.bad else "not finite"
    if place.beaten:
        return "worse"
    return "seeds overlap" if place.corrected < SIGNIFICANT else "may be chance"


def segment_table(outcome: Outcome, name: str, fields: Sequence[str] = ()) -> Table:
    """A score in ten equal segments of the lead times."""
    return _by_part(outcome, name, fields, segments(outcome.results.sizes["lead_time"]), "segment")


def window_table(outcome: Outcome, name: str, fields: Sequence[str] = ()) -> Table | None:
    """A score in the first 20 leads, up to the 60th and beyond, as other work reports it, where there are as many."""
    parts = windows(outcome.results.sizes["lead_time"])
    return _by_part(outcome, name, fields, parts, "window") if parts else None


def _by_part(outcome: Outcome, name: str, fields: Sequence[str], parts: Sequence[slice], what: str) -> Table:
    methods = outcome.order + outcome.references
    values = np.array([per_part(outcome.results, name, row, parts, fields) for row in methods])
    columns = [Column(_leads(part), column.tolist(), LOWER) for part, column in zip(parts, values.T, strict=True)]
    title = f"{head_of(outcome, name, fields)} by {what} of the {parts[-1].stop} lead times, means over seeds"
    return _table(outcome, title, methods, columns)


def _leads(part: slice) -> str:
    return f"lead {part.stop}" if part.stop - part.start == 1 else f"leads {part.start + 1}–{part.stop}"


def needed_table(outcome: Outcome, rows: Sequence[str]) -> Table:
    """How many network calls a row needs for the CRPS that it has with 50 steps, and how many the best row needs."""
    best = rows[0]
    found = {row: nfe_needed(outcome.curves, row, WITHIN, best if row != best else None) for row in rows}
    within = f"{WITHIN:.0%}".replace("%", " %")
    head = ("row", "steps", "CRPS", f"calls to within {within}", f"calls of {best} to the same CRPS")

    def cells(row: str) -> tuple[Cell, ...]:
        need = found[row]
        texts = [
            number(need.steps) if math.isnan(need.steps) else f"{need.steps:g}",
            number(need.level / (1 + WITHIN)),
            _reached(need.calls, need.level),
            UNDEFINED if row == best else _reached(need.other, need.level),
        ]
        return (Cell(row, style=outcome.look[row]), *map(Cell, texts))

    notes = ("On the validation split; CRPS with 50 steps, or with the most that were tried.",)
    return Table(
        f"Network calls per step until the CRPS is within {within} of what many steps give",
        head,
        tuple(map(cells, rows)),
        notes,
    )


def _reached(calls: float, level: float) -> str:
    if math.isnan(level):
        return UNDEFINED
    return "not reached" if math.isnan(calls) else f"{calls:g}"
