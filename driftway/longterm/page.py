"""The page of a climate: what chance explains of its bias and what not, maps, seasons, years and spectra."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from driftway.glossary import number
from driftway.longterm.bias import STATISTICS
from driftway.longterm.examination import Band, Compared, Examination
from driftway.longterm.figures import (
    look_of,
    maps_figure,
    overview,
    season_figure,
    spectra_figure,
    years_figure,
)
from driftway.report.parts import Pane, Section, counted, file_name, pictured, write_page
from driftway.report.tables import Cell, Table

FIGURES = 6_500_000  # bytes of all pictures, before base64
KINDS = 6  # figures of a field, of which two are maps and weigh double
NAMED = 4  # numbers that a sentence names
PAPER = ("zg500", "tas", "ta850", "ua250", "pr_6h", "hus850")  # of the 10-year bias of arXiv:2509.26282


def climate_page(path: Path, found: Examination) -> Path:
    """Write the page of a climate to `path`, complete or not at all, and return it."""
    limit = FIGURES // ((KINDS + 2) * len(found.layout.fields) + 1)
    fields = range(len(found.layout.fields))

    def panes(name: str, draw: Callable[[Examination, int], Figure], text: str) -> tuple[Pane, ...]:
        return tuple(_pictured(found, field, name, draw, text, limit) for field in fields)

    drawn = any(own.climate is not None for own in found.compared)
    sections = [
        Section("bias", "Bias and chance", "", _bias_panes(found, limit), "Run"),
        Section("maps", "Maps of the mean", "", panes("mean", maps_figure, MEAN) if drawn else (), "Field"),
        Section(
            "variance", "Maps of the variance", "", panes("variance", _variance, VARIANCE) if drawn else (), "Field"
        ),
        Section("season", "Seasons", "", panes("season", season_figure, SEASON) if found.seasons else (), "Field"),
        Section(
            "years", f"{found.noun.capitalize()} by {found.noun}", "", panes("years", years_figure, YEARS), "Field"
        ),
        Section("spectra", "Spectra", "", panes("spectra", spectra_figure, SPECTRA) if found.spectra else (), "Field"),
        Section("guard", "The guard", "", _guard(found)),
    ]
    return write_page(
        path,
        title="Climate of long forecasts",
        lede=_lede(found),
        findings=findings(found),
        sections=sections,
        run=found.facts,
        glossary=_glossary(found),
    )


MEAN = "Left the truth's mean; the others differ from it by what is shown, on one scale. Means over all members."
VARIANCE = "Variance of the states kept about the means of months, if any; of others the logarithm of its ratio to it."
SEASON = "Means of the months over the area."
YEARS = "Mean over the area, a curve for each member; grey: two standard deviations of the truth's about their mean."
SPECTRA = "Power averaged over time and members, and its ratio to the truth's."


def _lede(found: Examination) -> str:
    forecasts = [own for own in found.compared if not own.truth]
    return (
        f"{counted(len(forecasts), 'forecast')} of {', '.join(found.layout.fields.names)} against "
        f"{counted(len(found.truth), found.noun)} of the truth."
    )


def _variance(found: Examination, field: int) -> Figure:
    return maps_figure(found, field, variance=True)


def _pictured(
    found: Examination, field: int, name: str, draw: Callable[[Examination, int], Figure], text: str, limit: int
) -> Pane:
    label, weight = found.layout.fields.names[field], 2 if name in ("mean", "variance") else 1
    alt = f"{label}: {text}"
    return Pane(label, (pictured(draw(found, field), file_name(name, label), alt, text, weight * limit),))


# --- sentences -----------------------------------------------------------------------------------------------------


def findings(found: Examination) -> list[str]:
    """What there is to say of each run, in sentences."""
    return [sentence for own in found.compared for sentence in _sentences(own, found)]


def _sentences(own: Compared, found: Examination) -> list[str]:
    said = [f"{own.label}: {name} is a failure, {what}; nothing is pooled." for name, what in own.failures.items()]
    said += [f"{own.label}: {kind} by the guard: {text}." for kind, text in own.said.items() if text != "none"]
    if own.pooled is None:
        return said
    names = found.layout.fields.names
    outside = [
        (s, c)
        for s in found.statistics
        for c in range(len(names))
        if _known(own.pooled, s, c) and not own.pooled.inside(s)[c]
    ]
    if not np.isfinite(own.pooled.high["rmsb"]).any():
        return [*said, f"{own.label}: one {found.noun} of truth says nothing of chance, so that there are no bands."]
    whole = len(names) - len({c for _, c in outside})
    listed = [
        f"{s} of {names[c]} {number(float(own.pooled.values[s][c]))} ({_range(own.pooled, s, c)})" for s, c in outside
    ]
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    text = f"{own.label}: chance explains every number of {whole} of {counted(len(names), 'field')}"
    said += _of_the_paper(own, names)
    return [*said, text + (f", but not {', '.join(listed[:NAMED])}{more}." if listed else ".")]


def _of_the_paper(own: Compared, names: Sequence[str]) -> list[str]:
    """The root-mean-square bias of the fields that the paper tells it of, if there are any."""
    if own.pooled is None or own.truth:
        return []
    there = [(name, names.index(name)) for name in PAPER if name in names]
    listed = [f"{name} {_value(own.pooled, 'rmsb', c)} ({_range(own.pooled, 'rmsb', c)})" for name, c in there]
    return [f"{own.label}: rmsb of {', '.join(listed)}."] if listed else []


def _known(band: Band, name: str, field: int) -> bool:
    return bool(np.isfinite(band.values[name][field]) and np.isfinite(band.high[name][field]))


# --- tables --------------------------------------------------------------------------------------------------------


def _bias_panes(found: Examination, limit: int) -> tuple[Pane, ...]:
    """An overview, and a table for each run."""
    look = look_of(found)
    drawn = [own for own in found.compared if own.pooled is not None and np.isfinite(own.pooled.high["rmsb"]).any()]
    text = (
        "Root-mean-square of each bias map over what 95 % of such numbers are below by chance, between two runs of the "
        "truth's climate of these lengths: in the grey chance explains it."
    )
    first = [Pane("all", (pictured(overview(found, "rmsb"), "overview", text, text, limit),))] if drawn else []
    return (*first, *(_bias_pane(own, found, look) for own in found.compared))


def _bias_pane(own: Compared, found: Examination, look: Mapping[str, object]) -> Pane:
    notes = tuple(f"{name}: {what}." for name, what in own.failures.items())
    tables = () if own.pooled is None else (_table(f"{own.label}, all {_count(own)}", own.pooled, found),)
    alone = (
        tuple(_table(f"{own.label}, {name}", band, found) for name, band in own.alone.items())
        if len(own.alone) > 1 or own.failures
        else ()
    )
    return Pane(own.label, tables=tables, notes=notes, style=look[own.label], more=alone)  # type: ignore[arg-type]


def _count(own: Compared) -> str:
    return "runs" if own.truth else counted(len(own.members), "member")


def _table(title: str, band: Band, found: Examination) -> Table:
    names, units = found.layout.fields.names, found.layout.fields.units
    rows = tuple(
        (
            Cell(name, "" if unit in ("", "1") else unit),
            *(Cell(_value(band, s, c), _range(band, s, c)) for s in found.statistics),
            Cell(_verdict(band, found.statistics, c)),
        )
        for c, (name, unit) in enumerate(zip(names, units, strict=True))
    )
    note = "Small: where 95 % of such numbers lie by chance, between a run of this length and the truth. ✗: outside."
    return Table(title, ("field", *found.statistics, "chance explains"), rows, (note,))


def _value(band: Band, name: str, field: int) -> str:
    text = number(float(band.values[name][field]))
    return text if not _known(band, name, field) or band.inside(name)[field] else f"✗ {text}"


def _range(band: Band, name: str, field: int) -> str:
    if not _known(band, name, field):
        return ""
    low, high = float(band.low[name][field]), float(band.high[name][field])
    return f"≤ {number(high)}" if low == 0 else f"{number(low)} … {number(high)}"


def _verdict(band: Band, names: Sequence[str], field: int) -> str:
    known = [name for name in names if _known(band, name, field)]
    outside = [name for name in known if not band.inside(name)[field]]
    return "–" if not known else ("all but " + ", ".join(outside) if outside else "all")


def _guard(found: Examination) -> tuple[Pane, ...]:
    rows = tuple(
        (Cell(own.label), *(Cell(own.said.get(kind, "–")) for kind in ("diverged", "drifting")))
        for own in found.compared
        if own.said
    )
    return (
        (Pane(tables=(Table("What the guard said", ("forecast", "diverged", "drifting"), rows, prose=True),)),)
        if rows
        else ()
    )


def _glossary(found: Examination) -> Table:
    texts: Sequence[tuple[str, str]] = [
        *((name, STATISTICS[name]) for name in found.statistics),
        ("ū, u_m, w_m", "mean over years, of the months m, and their shares of a year: ū = Σ_m w_m u_m"),
        ("⟨·⟩", "mean over space with the areas of points; a hat is the forecast's, none the truth's"),
        (
            "chance",
            "two runs of these lengths, drawn with replacement from the years of the truth; 95 % lie in the band",
        ),
    ]
    return Table("Numbers of this page", ("number", "meaning"), tuple((Cell(a), Cell(b)) for a, b in texts), prose=True)
