"""One HTML file that shows a forecast study: scores, pictures, spectra, calibration, and what was run.

It stays below 10 MB: pictures share a budget, and their quality gives way first.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from PIL import Image

from driftway.glossary import is_reference, number
from driftway.report import plotting
from driftway.report.animations import animation
from driftway.report.findings import ensembles, ranking
from driftway.report.parts import Pane, Picture, Section, counted, file_name, pictured, uri, write_page
from driftway.report.physical import physics_panes
from driftway.report.pictures import Case, fields_panel
from driftway.report.plotting import fields_of, finite_methods, of, score_name
from driftway.report.styling import Look, field_names, headline, in_days, styles_of, time_unit
from driftway.report.tables import band_table, glossary_table, lead_tables, scores_table, summary_table

# bytes before base64, which adds a third: 2.4 + 2.4 + 2.2 MB of pictures make 9.4 MB of text
ANIMATIONS, PANELS, FIGURES = 2_400_000, 2_400_000, 2_200_000
FIELDS_SHOWN = 4
ERRORS = ("vrmse", "correlation", "acc", "rmse", "nrmse")
ENSEMBLE = ("crps", "energy_score")
# beside three for each field side by side and one for each: a curve per score, spread and skill, calls twice, training
FIXED_FIGURES = len(ERRORS) + len(ENSEMBLE) + 4
NO_ENSEMBLE = "Not defined here: no method gave an ensemble whose members differ and stay finite."


def build(
    path: Path,
    *,
    title: str,
    cases: Sequence[Case],
    scores: xr.Dataset,
    run: Mapping[str, Any],
    findings: Sequence[str],
    curves: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
) -> Path:
    """Write the report to `path`, complete or not at all, and return it.

    cases: forecasts from one initial state each, for the pictures; may be empty
    scores: as `driftway.evaluation.score` gives them; optionally, per method, `run` and `sampler`, which choose colour
        and line, and `calls` and `ms_per_step`
    run: versions, seeds, hash of the data, times, command lines; mappings in it are folded away
    findings: sentences
    curves: run → records of its `metrics.jsonl`
    """
    scores, cases = in_days(scores), [case.in_days() for case in cases]
    look = styles_of(scores, [*(method for case in cases for method in case.forecasts), *(curves or {})])
    measured = scores.sizes.get("quantity", 0) + ("profiles" in scores)
    fields = fields_of(scores)
    limit = FIGURES // (FIXED_FIGURES + 3 * len(headline(fields)) + len(fields) + measured)
    sections = [
        _scores_section(scores, look),
        *(_forecasts(k, case, scores, look, len(cases)) for k, case in enumerate(cases)),
        *_score_sections(scores, look, limit),
        Section("physics", "Physics", "", physics_panes(scores, look, limit), "Quantity"),
        *_cost_sections(scores, curves or {}, look, limit),
    ]
    return write_page(
        path,
        title=title,
        lede=_lede(scores),
        findings=findings,
        sections=sections,
        run=run,
        glossary=glossary_table(scores),
    )


def _lede(scores: xr.Dataset) -> str:
    """What was compared, in one sentence."""
    methods = [str(method) for method in scores["method"].values]
    references = [method for method in methods if is_reference(method)]
    last = f"{scores['lead_time'].values[-1]:.4g} {time_unit(scores)}".rstrip()
    own = [int(of(scores["members"], method)) for method in methods if not is_reference(method)]
    count, most = len(ensembles(scores)), max(own, default=0)
    among = f" ({counted(count, 'ensemble')} of up to {most} members)" if count else ""
    parts = [
        f"{counted(len(methods) - len(references), 'forecast')} of {field_names(fields_of(scores))}{among}",
        f"from {counted(scores.attrs['initial_states'], 'initial state')}",
        f"{counted(scores.sizes['lead_time'], 'lead time')} up to {last}",
    ]
    beside = f"; beside {', '.join(references)}" if references else ""
    return ", ".join(parts) + beside + "."


def _scores_section(scores: xr.Dataset, look: Look) -> Section:
    panes = [
        Pane(field, tables=(summary_table(scores, field, look),), more=(scores_table(scores, field, look),))
        for field in fields_of(scores)
    ]
    return Section("scores", "Scores", "", tuple(panes), "Field")


def _forecasts(index: int, case: Case, scores: xr.Dataset, look: Look, cases: int) -> Section:
    shown = case.fields[:FIELDS_SHOWN]
    share = max(len(case.forecasts) * len(shown) * cases, 1)
    notes = () if len(shown) == len(case.fields) else (f"The first {FIELDS_SHOWN} of {len(case.fields)} fields.",)

    def pane(method: str) -> Pane:
        if any(len(case.members(method, field)) == 0 for field in shown):
            return Pane(
                method, notes=("This forecast has no members, so there is nothing to draw.",), style=look[method]
            )
        moving = tuple(_animation(case, method, field, ANIMATIONS // share) for field in shown)
        panels = tuple(_panel(case, method, field, PANELS // share) for field in shown)
        return Pane(method, moving + panels, notes=notes, style=look[method])

    title = f"Forecast: {case.label}" if cases > 1 else "Forecast"
    text = "" if cases > 1 else f"From one initial state: {case.label}."
    best = ranking(scores, "crps", [m for m in case.forecasts if m in scores["method"]], fields_of(scores))
    first = list(case.forecasts).index(best[0]) if best else 0
    return Section(f"forecast-{index + 1}", title, text, tuple(map(pane, case.forecasts)), "Method", first)


def _animation(case: Case, method: str, field: str, limit: int) -> Picture:
    data = animation(case, method, field, limit * 9 // 10)
    with Image.open(io.BytesIO(data)) as image:
        size, last = image.size, io.BytesIO()
        image.seek(getattr(image, "n_frames", 1) - 1)
        image.convert("RGB").save(last, "WEBP", quality=60)
    times = case.times()
    alt = f"Animation of {field} from lead {times[0]} to {times[-1]}: the truth beside the forecast by {method}"
    seen = "truth, forecast and error" if case.happened(field).ndim > 2 else "truth and forecast"
    caption = f"{field} by {method}: {seen} through the lead times."
    name = f"{file_name(method, field)}-animation.webp"
    return Picture(uri("webp", data), alt, caption, name, *size, still=uri("webp", last.getvalue()))


def _panel(case: Case, method: str, field: str, limit: int) -> Picture:
    times = case.times()
    alt = (
        f"Pictures of {field} at lead times from {times[0]} to {times[-1]}: rows of truth, forecast by {method}, error"
    )
    caption = (
        f"{field} by {method}. Truth and forecast share one colour scale, set by the truth; the error has its own. "
        "Grey is not finite."
    )
    return pictured(fields_panel(case, method, field=field), file_name(method, field), alt, caption, limit, "png")


def _score_sections(scores: xr.Dataset, look: Look, limit: int) -> list[Section]:
    about_errors = "Shaded: 95 % bootstrap interval over initial states." if _has_intervals(scores) else ""
    about_crps = "For a forecast of one member the CRPS is its mean absolute error. " + about_errors
    fields, about_fields = fields_of(scores), about_errors
    shown = headline(fields)
    several = scores.sel(field=shown)
    if len(shown) < len(fields):
        few = f"{len(shown)} of {len(fields)} fields; the others stand under Lead times."
        about_errors, about_crps = (f"{text} {few}".strip() for text in (about_errors, about_crps))
    return _sections_by_score(scores, several, look, limit, (about_fields, about_errors, about_crps.strip()))


def _sections_by_score(
    scores: xr.Dataset, several: xr.Dataset, look: Look, limit: int, about: tuple[str, str, str]
) -> list[Section]:
    """Sections of all fields and of those shown side by side, with a sentence each."""
    return [
        Section("leads", "Lead times", about[0], _lead_panes(scores, look, limit), "Field"),
        Section("errors", "Error growth", about[1], _curve_panes(several, ERRORS, look, limit), "Score"),
        Section("crps", "Ensemble scores", about[2], _curve_panes(several, ENSEMBLE, look, limit), "Score"),
        Section("spread", "Spread and skill", "", _spread_panes(several, look, limit), "View"),
        Section("spectra", "Spectra", "", _field_panes(several, "spectrum", _spectra, look, limit), "Field"),
        Section("ranks", "Rank histograms", "", _field_panes(several, "rank_histogram", _ranks, look, limit), "Field"),
    ]


def _lead_panes(scores: xr.Dataset, look: Look, limit: int) -> tuple[Pane, ...]:
    """What a field is told by against lead time: root of the mean squared error, anomalies, CRPS and calibration."""
    names = plotting.by_lead(scores)

    def one(field: str) -> Pane:
        alt = " ".join(_last_values(scores.sel(field=[field]), name) for name in names)
        figure, name = plotting.lead_figure(scores, field, look), file_name("leads", field)
        picture = pictured(figure, name, alt, plotting.lead_caption(scores, field), limit)
        tables = tuple(table for name in names for table in lead_tables(scores, name, look, [field]))
        return Pane(field, (picture,), more=tables)

    return tuple(map(one, fields_of(scores))) if names else ()


def _has_intervals(scores: xr.Dataset) -> bool:
    return "vrmse_low" in scores and bool(np.isfinite(scores["vrmse_low"]).any())


def _curve_panes(scores: xr.Dataset, names: Sequence[str], look: Look, limit: int) -> tuple[Pane, ...]:
    return tuple(_curve_pane(scores, name, look, limit) for name in names if name in scores)


def _curve_pane(scores: xr.Dataset, name: str, look: Look, limit: int) -> Pane:
    label = score_name(scores, name)
    if not finite_methods(scores, name):
        return Pane(label, notes=(f"{label} is not defined for any method.",))
    caption = f"{label} against lead time. Averaged over {scores[name].attrs.get('averaging', '')}."
    figure = plotting.score_curves(scores, name, look)
    picture = pictured(figure, file_name(name), _last_values(scores, name), caption, limit)
    return Pane(label, (picture,), more=lead_tables(scores, name, look))


def _last_values(scores: xr.Dataset, name: str) -> str:
    def values(field: str) -> str:
        methods = finite_methods(scores, name)
        last = scores[name].sel({"field": field, "method": methods}).isel(lead_time=-1).values.tolist()
        return f"{field}: " + ", ".join(f"{m} {number(v)}" for m, v in zip(methods, last, strict=True))

    parts = "; ".join(values(field) for field in fields_of(scores))
    return f"{score_name(scores, name)} against lead time, a line per method. At the last lead time, {parts}."


def _spread_panes(scores: xr.Dataset, look: Look, limit: int) -> tuple[Pane, ...]:
    if not finite_methods(scores, "spread_skill"):
        return (Pane(notes=(NO_ENSEMBLE,)),)
    low, high = plotting.CALIBRATED
    order = scores["spread_skill"].attrs.get("averaging", "")
    caption = f"1 is calibrated, below is too narrow, above too wide; the band is {low} to {high}. Averaged: {order}."
    figure, alt = plotting.spread_skill_figure(scores, look), _last_values(scores, "spread_skill")
    ratio = pictured(figure, "spread-skill", alt, caption, limit)
    pairs = [
        Pane(f"spread and skill of {field}", (_spread_and_skill(scores, field, look, limit),))
        for field in fields_of(scores)
    ]
    return (Pane("ratio", (ratio,), more=lead_tables(scores, "spread_skill", look)), *pairs)


def _spread_and_skill(scores: xr.Dataset, field: str, look: Look, limit: int) -> Picture:
    figure = plotting.spread_and_skill_figure(scores, field, look)
    alt = f"Spread and skill of {field} against lead time, for {', '.join(finite_methods(scores, 'spread_skill'))}"
    caption = f"{field}: in a calibrated ensemble of M members, spread = √(M/(M+1))·skill at every lead time."
    return pictured(figure, file_name("spread", field), alt, caption, limit)


Draw = Callable[[xr.Dataset, str, Look, int], Pane]


def _field_panes(scores: xr.Dataset, name: str, draw: Draw, look: Look, limit: int) -> tuple[Pane, ...]:
    if name not in scores:
        return ()
    defined = [f for f in fields_of(scores) if np.isfinite(scores[name].sel(field=f)).any()]
    if not defined:
        return (Pane(notes=(NO_ENSEMBLE if name == "rank_histogram" else "No method has a finite spectrum.",)),)
    return tuple(draw(scores, field, look, limit) for field in defined)


def _spectra(scores: xr.Dataset, field: str, look: Look, limit: int) -> Pane:
    methods = finite_methods(scores, "spectrum")
    alt = f"Power spectra of {field}, and their ratio to the truth's, for {', '.join(methods)}, a column per lead time"
    caption = (
        f"Power spectra of {field}, as far as the truth has power; below, their ratio to the truth's: above 1 is too "
        "rough, below too smooth. Averaged over members and initial states."
    )
    figure = plotting.spectra_figure(scores, field, look)
    picture = pictured(figure, file_name("spectra", field), alt, caption, limit)
    return Pane(field, (picture,), more=(band_table(scores, field, look),) if "spectral_rmse" in scores else ())


def _ranks(scores: xr.Dataset, field: str, look: Look, limit: int) -> Pane:
    methods = finite_methods(scores, "rank_histogram")
    alt = f"Histograms of the rank of the truth among the members for {field}, one for each of {', '.join(methods)}"
    caption = (
        f"{field}, all lead times: flat at 1 is calibrated, a valley is too little spread, a hill too much, a slope a "
        "bias."
    )
    figure = plotting.rank_histogram_figure(scores, field, look)
    return Pane(field, (pictured(figure, file_name("ranks", field), alt, caption, limit),))


def _cost_sections(scores: xr.Dataset, curves: Mapping[str, Any], look: Look, limit: int) -> list[Section]:
    calls = [
        _calls_pane(scores, name, look, limit) for name in ("crps", "vrmse") if plotting.calls_points(scores, name)
    ]
    training: tuple[Pane, ...] = ()
    if any("loss" in record for records in curves.values() for record in records):
        alt = f"Training loss against step for {', '.join(curves)}"
        caption = "Losses of different runs weigh different quantities: compare each with itself only."
        training = (Pane("", (pictured(plotting.training_figure(curves, look), "training", alt, caption, limit),)),)
    return [
        Section("calls", "Calls and quality", "", tuple(calls), "Score"),
        Section("training", "Training", "", training),
    ]


def _calls_pane(scores: xr.Dataset, name: str, look: Look, limit: int) -> Pane:
    label, points = score_name(scores, name), plotting.calls_points(scores, name)
    alt = f"{label} against network calls per step: " + "; ".join(
        f"{method} {number(y)} at {x:g}" for method, (x, y) in points.items()
    )
    caption = f"{label}, mean over lead times, against the network calls of one step; lower left is better."
    figure = plotting.calls_figure(scores, name, look)
    return Pane(label, (pictured(figure, f"calls-{name}", alt, caption, limit),))
