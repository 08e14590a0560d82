"""The page of a study: what it found, every row beside every other, how it was done and what it took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from driftway.glossary import REFERENCES, number
from driftway.report import plotting
from driftway.report.outcome import Outcome
from driftway.report.parts import Pane, Picture, Section, counted, file_name, pictured, write_page
from driftway.report.physical import physics_panes
from driftway.report.pictures import members_panel
from driftway.report.plotting import finite_methods
from driftway.report.study_findings import study_findings
from driftway.report.study_plotting import against_calls, along_dial, forest, growth
from driftway.report.study_protocol import duration_table, protocol_table, tuning_tables
from driftway.report.study_tables import (
    cost_table,
    head_of,
    needed_table,
    ranking_table,
    segment_table,
    skill_table,
    spectra_tables,
    window_table,
)
from driftway.report.styling import field_names, headline, in_days, time_unit
from driftway.report.tables import Table, glossary_table, lead_tables
from driftway.studies.statistics import curve

# bytes of all figures before base64, which adds a third
FIGURES = 5_000_000
ROLLOUT = {"crps": "CRPS", "vrmse": "VRMSE"}


def study_page(path: Path, outcome: Outcome) -> Path:
    """Write the page of a study to `path`, complete or not at all, and return it."""
    case = None if outcome.case is None else outcome.case.in_days()
    outcome = replace(outcome, results=in_days(outcome.results), case=case)
    return write_page(
        path,
        title=outcome.title,
        lede=_lede(outcome),
        findings=study_findings(outcome),
        sections=sections(outcome),
        run=outcome.protocol,
        glossary=glossary_table(outcome.scores),
    )


def sections(outcome: Outcome) -> list[Section]:
    """Everything on the page between the findings and what was run."""
    page = _Page(outcome)
    about_growth = "Lines: means over seeds and initial states. Shaded: from the lowest to the highest seed."
    return [
        Section("skill", "Skill", "", page.skill(), "Field"),
        Section("ranks-of-rows", "Which differences are beyond chance", "", page.ranks(), "Score"),
        Section("leads", "Lead times", about_growth, page.leads(), "Field"),
        Section("growth", "Error growth", about_growth, page.grouped(page.growth), "Rows"),
        Section("fields", "Fields", "", page.pictures(), "Field"),
        Section("segments", "Errors in ten segments", "", page.segments(), "Score"),
        Section("spread", "Spread and skill", "", page.grouped(page.spread), "Rows"),
        Section("spectral-errors", "Errors of the spectrum", "", page.spectral_errors(), "Field"),
        Section("spectra", "Spectra", "", page.grouped(page.spectra), "Rows"),
        Section("ranks", "Rank histograms", "", page.grouped(page.histograms), "Rows"),
        Section("physics", "Physics", "", page.physics(), "Quantity"),
        Section("calls", "Scores against network calls", "", page.calls(), "Rows"),
        Section("frontier", "Accuracy, spectrum and spread along the dials", "", page.dials(), "Dial"),
        Section("cost", "Cost", "", (Pane(tables=(cost_table(outcome),)),)),
        Section("tuning", "Tuning", "", page.tuning()),
        Section("protocol", "Protocol and time", "", page.protocol(), "Table"),
    ]


def _lede(outcome: Outcome) -> str:
    """What was compared, in one sentence."""
    results, networks = outcome.results, {facts.network for facts in outcome.rows.values()}
    last = f"{float(results['lead_time'][-1]):.4g} {time_unit(results)}".rstrip()
    seeds = sorted({len(facts.seeds) for facts in outcome.rows.values()})
    parts = [
        f"{counted(len(outcome.rows), 'row')} of {counted(len(networks), 'network')}",
        f"each trained with {'–'.join(map(str, seeds[:1] + seeds[1:][-1:]))} seed{'' if seeds == [1] else 's'}",
        f"forecasts of {field_names(outcome.fields)} from {counted(results.sizes['trajectory'], 'initial state')} of "
        f"the test split, {counted(results.sizes['lead_time'], 'lead time')} up to {last}",
    ]
    beside = f"; beside {', '.join(outcome.references)}" if outcome.references else ""
    return ", ".join(parts) + beside + "."


class _Page:
    """The panes of one study's page, whose pictures share a budget of bytes."""

    def __init__(self, outcome: Outcome):
        self.outcome = outcome
        self.shown = headline(outcome.fields)
        measured = outcome.results.sizes.get("quantity", 0) + ("profiles" in outcome.results)
        drawn = (
            measured
            + len(outcome.groups) * (2 + 3 * len(self.shown))
            + len(outcome.dials)
            + 3
            + 2 * len(self.shown)
            + len(outcome.fields)
        )
        self.limit = FIGURES // drawn

    # --- tables for fields, figures for groups of rows

    def skill(self) -> tuple[Pane, ...]:
        """What a reader looks for first, of all fields and of each if there are several."""
        return tuple(
            Pane(label, tables=(skill_table(self.outcome, fields),)) for label, fields in self._choices(every=True)
        )

    def _choices(self, every: bool = False) -> list[tuple[str, list[str]]]:
        fields = self.outcome.fields
        each = [(field, [field]) for field in (fields if every else self.shown)]
        return each if len(fields) == 1 else [("all fields", fields), *each]

    def grouped(self, draw: Callable[[str, xr.Dataset], tuple[Picture, ...]]) -> tuple[Pane, ...]:
        """A pane for each group of rows; groups without anything to draw are left out."""
        panes = []
        for label, rows in self.outcome.groups.items():
            pictures = draw(label, self._of([*rows, *self.outcome.references]))
            if pictures:
                panes.append(Pane(label, pictures))
        return tuple(panes)

    def _of(self, rows: Sequence[str]) -> xr.Dataset:
        return self.outcome.scores.sel({"method": list(rows)})

    def _pictured(self, figure: Figure, name: str, alt: str, caption: str) -> Picture:
        return pictured(figure, file_name(name), alt, caption, self.limit)

    # --- figures

    def leads(self) -> tuple[Pane, ...]:
        """Each field against lead time: RMSE of the mean, anomaly correlation, CRPS, calibration, and them as tables.

        Figures have the first group of rows and the references, tables all rows.
        """
        outcome, scores = self.outcome, self._of(self.outcome.order + self.outcome.references)
        first = self._of([*next(iter(outcome.groups.values())), *outcome.references])
        names = plotting.by_lead(scores)

        def one(field: str) -> Pane:
            alt = f"{field} against lead time. At the last lead, {names[0]}: {_last(first, names[0], field)}"
            caption, figure = plotting.lead_caption(scores, field), plotting.lead_figure(first, field, outcome.look)
            tables = [table for name in names for table in lead_tables(scores, name, outcome.look, [field])]
            return Pane(field, (self._pictured(figure, f"leads-{field}", alt, caption),), more=tuple(tables))

        return tuple(map(one, outcome.fields)) if names else ()

    def growth(self, label: str, scores: xr.Dataset) -> tuple[Picture, ...]:
        """Errors against lead time."""
        if not finite_methods(scores, "crps"):
            return ()

        def one(field: str) -> Picture:
            last = _last(scores, "crps", field)
            alt = (
                f"VRMSE of the mean and of members and CRPS of {field} against lead time. CRPS at the last lead: {last}"
            )
            caption = f"{field}, {label}: VRMSE of the mean and of members, fair CRPS."
            return self._pictured(growth(scores, field, self.outcome.look), f"growth-{field}-{label}", alt, caption)

        return tuple(map(one, self.shown))

    def spread(self, label: str, scores: xr.Dataset) -> tuple[Picture, ...]:
        """The spread–skill ratio against lead time."""
        drawn = finite_methods(scores, "spread_skill")
        if not drawn:
            return ()
        low, high = plotting.CALIBRATED
        alt = f"Spread–skill ratio against lead time for {', '.join(drawn)}"
        caption = f"{label}: 1 is calibrated, below is too narrow, above too wide; the band is {low} to {high}."
        figure = plotting.spread_skill_figure(scores.sel(field=self.shown), self.outcome.look)
        return (self._pictured(figure, f"spread-skill-{label}", alt, caption),)

    def spectra(self, label: str, scores: xr.Dataset) -> tuple[Picture, ...]:
        """Power spectra at three lead times, and their ratio to the truth's."""
        kept = [row for row in finite_methods(scores, "spectrum") if row not in REFERENCES[:2]]
        if not kept:
            return ()
        here = scores.sel({"method": kept})

        def one(field: str) -> Picture:
            alt = f"Power spectra of {field}, and their ratio to the truth's, for {', '.join(kept)}"
            caption = (
                f"{field}, {label}: power as far as the truth has any; below, its ratio to the truth's: above 1 is too "
                "rough, below too smooth."
            )
            figure = plotting.spectra_figure(here, field, self.outcome.look)
            return self._pictured(figure, f"spectra-{field}-{label}", alt, caption)

        return tuple(map(one, self.shown))

    def histograms(self, label: str, scores: xr.Dataset) -> tuple[Picture, ...]:
        """Rank histograms of all leads."""
        drawn = finite_methods(scores, "rank_histogram")
        here = scores.sel({"method": drawn})

        def one(field: str) -> Picture:
            alt = (
                f"Histograms of the rank of the truth among the members for {field}, one for each of {', '.join(drawn)}"
            )
            caption = (
                f"{field}, {label}, all leads: flat at 1 is calibrated, a valley too little spread, a slope a bias."
            )
            figure = plotting.rank_histogram_figure(here, field, self.outcome.look)
            return self._pictured(figure, f"ranks-{field}-{label}", alt, caption)

        return tuple(map(one, self.shown)) if drawn else ()

    # --- panes of their own kind

    def pictures(self) -> tuple[Pane, ...]:
        """The truth from one initial state, and one member of each row of the first group."""
        case = self.outcome.case
        if case is None:
            return ()
        rows = [row for row in next(iter(self.outcome.groups.values())) if row in case.forecasts]
        about = f"{case.label}, and one member of {', '.join(rows)} with the first seed"

        def one(field: str) -> Pane:
            figure = members_panel(case, rows, field)
            return Pane(field, (self._pictured(figure, f"fields-{field}", f"{field}: {about}", f"{field}: {about}."),))

        return tuple(map(one, self.shown)) if rows else ()

    def ranks(self) -> tuple[Pane, ...]:
        """Rows in order by CRPS and by VRMSE, with the tests against the best, for all fields and for each."""
        return tuple(
            Pane(
                word if len(self.outcome.fields) == 1 else f"{word}, {label}",
                (self._forest(name, fields),) if self.outcome.places(name, fields)[0].ranked else (),
                (ranking_table(self.outcome, name, fields),),
            )
            for label, fields in self._choices()
            for name, word in ROLLOUT.items()
        )

    def _forest(self, first: str, fields: Sequence[str]) -> Picture:
        names = [first, *(name for name in ROLLOUT if name != first)]
        heads = {name: head_of(self.outcome, name, fields) for name in names}
        places = {name: self.outcome.places(name, fields) for name in names}
        texts = [f"{p.row} {number(p.score.mean)}" for p in places[first] if p.ranked]
        alt = f"Rows from the lowest {heads[first]} on: {', '.join(texts)}"
        caption = (
            "Dots: means over the rollout. Bars: 95 % intervals over initial states. Ticks: seeds. Without rows that "
            "diverged."
        )
        return self._pictured(
            forest(places, heads, self.outcome.look), f"rank-{first}-{'-'.join(fields)}", alt, caption
        )

    def segments(self) -> tuple[Pane, ...]:
        """CRPS and VRMSE in ten segments of the leads, and in the windows of other work."""

        def tables(name: str, fields: Sequence[str]) -> tuple[Table, ...]:
            made = (segment_table(self.outcome, name, fields), window_table(self.outcome, name, fields))
            return tuple(table for table in made if table is not None)

        return tuple(
            Pane(word if len(self.outcome.fields) == 1 else f"{word}, {label}", tables=tables(name, fields))
            for label, fields in self._choices()
            for name, word in ROLLOUT.items()
        )

    def spectral_errors(self) -> tuple[Pane, ...]:
        """Errors of the spectrum by band, if any axis is periodic."""
        if "spectral_rmse" not in self.outcome.results:
            return ()
        tables = [(label, *spectra_tables(self.outcome, fields)) for label, fields in self._choices()]
        return tuple(Pane(label, tables=(errors,), more=(inverted,)) for label, errors, inverted in tables)

    def physics(self) -> tuple[Pane, ...]:
        """What the flow does as a whole, of the first group of rows and the references."""
        first = next(iter(self.outcome.groups.values()))
        return physics_panes(self._of([*first, *self.outcome.references]), self.outcome.look, self.limit)

    def calls(self) -> tuple[Pane, ...]:
        """Scores against network calls for each group of rows, and the calls that each row needs."""
        rows = self.outcome.curved
        if not rows:
            return ()
        panes = [self._calls(label, group) for label, group in self.outcome.groups.items() if {*group} & {*rows}]
        return (*panes, Pane("calls needed", tables=(needed_table(self.outcome, rows),)))

    def _calls(self, label: str, group: Sequence[str]) -> Pane:
        distinct = self.outcome.distinct(group)
        points = {row: curve(self.outcome.curves, row) for row in distinct}
        alt = "CRPS, VRMSE of the mean and spectral log error against network calls per step. CRPS: " + "; ".join(
            f"{row} " + ", ".join(f"{number(p['crps'])} at {p['calls']:g}" for p in found)
            for row, found in points.items()
        )
        caption = f"{label}: means over leads and seeds, on the validation split. {_same(distinct)}{_diverged(points)}"
        figure = against_calls(points, self.outcome.look)
        return Pane(label, (self._pictured(figure, f"calls-{label}", alt, caption.strip()),))

    def dials(self) -> tuple[Pane, ...]:
        """Scores along the number of steps, of the first group, and along every other dial."""
        first = next(iter(self.outcome.groups.values()))
        dials = {"steps": list(self.outcome.distinct(first)), **self.outcome.dials}
        return tuple(self._dial(dial, rows) for dial, rows in dials.items() if rows)

    def _dial(self, dial: str, rows: Sequence[str]) -> Pane:
        points = {row: curve(self.outcome.curves, row, dial) for row in rows}
        alt = f"Spectral log error against VRMSE of the mean and of members along {dial}, and spread over skill, for "
        caption = (
            f"Left and middle: lower left is better; numbers are values of {dial}. Right: 1 is calibrated; shaded from "
            f"the lowest to the highest lead. On the validation split. {_diverged(points)}"
        )
        figure = along_dial(points, dial, self.outcome.look)
        return Pane(dial, (self._pictured(figure, f"dial-{dial}", alt + ", ".join(rows), caption.strip()),))

    def tuning(self) -> tuple[Pane, ...]:
        """What was chosen, and folded away all that was tried."""
        chosen, every = tuning_tables(self.outcome)
        return (Pane(tables=(chosen,), more=(every,)),) if chosen.rows else ()

    def protocol(self) -> tuple[Pane, ...]:
        """What each row was given, and how long everything took."""
        panes = [Pane("rows", tables=(protocol_table(self.outcome),))]
        times = [Pane("time", tables=(duration_table(self.outcome),))] if self.outcome.durations else []
        return (*panes, *times)


def _last(scores: xr.Dataset, name: str, field: str) -> str:
    values = scores[name].sel(field=field).isel(lead_time=-1)
    found = {str(m): float(v) for m, v in zip(scores["method"].values, values.values, strict=True)}
    return ", ".join(f"{row} {number(value)}" for row, value in found.items() if np.isfinite(value))


def _same(distinct: dict[str, list[str]]) -> str:
    """Rows that stand on another's curve."""
    texts = [f"{', '.join(others)} on that of {row}" for row, others in distinct.items() if others]
    return f"Differing in their steps alone: {'; '.join(texts)}. " if texts else ""


def _diverged(points: dict[str, list[dict[str, object]]]) -> str:
    """Points that are not drawn, as forecasts diverged."""
    bad = {row: [str(p["value"]) for p in found if p["failures"]] for row, found in points.items()}
    texts = [f"{row} at {', '.join(values)}" for row, values in bad.items() if values]
    return f"Diverged: {'; '.join(texts)}." if texts else ""
