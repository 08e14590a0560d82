"""From a study's folder to what people read: tidy tables and one HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from driftway.build import build_sampler
from driftway.candidates import in_short
from driftway.checkpoints import read_json
from driftway.config.yaml import Document, merge
from driftway.glossary import number
from driftway.report.outcome import Duration, Outcome, RowFacts
from driftway.report.pictures import Case
from driftway.report.study import study_page
from driftway.report.study_findings import study_findings
from driftway.report.study_tables import needed_table, skill_table
from driftway.report.tables import markdown
from driftway.studies import tables
from driftway.studies.file import Row, Study, sampler_of
from driftway.studies.judging import pictured
from driftway.studies.plan import plan
from driftway.studies.protocol import data_of, forecast_of, steps_of
from driftway.studies.results import choices, collect, curves
from driftway.studies.run import ESTIMATE, measured
from driftway.studies.tasks import left, stored


def report_study(folder: Path, out: Path | None = None) -> dict[str, Any]:
    """Write a study's tables into its folder, and its page to `out`, by default `report.html` there.

    Works on what is over; what is not is named. Returns where the page and the tables are, and the findings.
    """
    study = stored(folder)
    outcome = outcome_of(study, folder)
    name, networks = study.about.name, {row.name: row.network for row in study.rows.values()}
    steps = {row.name: steps_of(study, row) for row in study.rows.values()}
    long = tables.tidy(name, outcome.results, networks)
    made = {
        "results.csv": long,
        "results.parquet": long,
        "costs.csv": tables.costs(name, outcome.results, networks, steps),
        "tuning.csv": tables.tuning(name, outcome.choices),
        "curves.csv": tables.curves(name, outcome.curves, networks),
    }
    paths = [tables.save(table, folder / file) for file, table in made.items()]
    page = study_page(out or folder / "report.html", outcome)
    return {"report": str(page), "tables": [str(path) for path in paths], "findings": study_findings(outcome)}


def summary(folder: Path) -> str:
    """Skill of each row and the network calls that it needs, as tables of Markdown."""
    outcome = outcome_of(stored(folder), folder)
    needed = [needed_table(outcome, outcome.curved)] if outcome.curved else []
    return "\n\n".join(markdown(table) for table in [skill_table(outcome), *needed])


def outcome_of(study: Study, folder: Path) -> Outcome:
    """What a study found so far."""
    chosen = choices(study, folder)
    return Outcome(
        title=study.about.title or study.about.name,
        results=collect(study, folder),
        rows={row.name: _facts(study, row, chosen) for row in study.rows.values()},
        curves=curves(study, folder),
        choices=chosen,
        durations=_durations(study, folder),
        protocol=_protocol(study, folder),
        case=_case(study, folder),
    )


def _case(study: Study, folder: Path) -> Case | None:
    """The first initial state of the test split and what each row forecast from it."""
    first = next(iter(study.rows.values())).experiment
    forecasts = {name: forecast_of(folder, name) for name in study.rows}
    return pictured(forecasts, data_of(study, folder), first.evaluation, first.data.stride)


def _facts(study: Study, row: Row, chosen: Mapping[str, Mapping[str, Any]]) -> RowFacts:
    change = chosen.get(row.network, {}).get("change", {})
    return RowFacts(
        network=row.network,
        sampler=_sampler(merge(row.document, change)["stepper"]) if row.generative else "",
        seeds=tuple(row.seeds),
        steps=steps_of(study, row),
        batch=row.experiment.training.batch,
        exempt=row.exempt or study.rows[row.network].exempt,
    )


def _sampler(stepper: Document) -> str:
    """The sampler of a row in short."""
    return in_short(build_sampler(sampler_of(stepper)))


def _durations(study: Study, folder: Path) -> dict[str, Duration]:
    """Seconds per kind of task, predicted for all and measured for those that are over."""
    tasks, path = plan(study), folder / ESTIMATE
    predicted = read_json(path, "a study's folder")["tasks"] if path.exists() else {}
    took = measured(folder, tasks)

    def of(kind: str) -> Duration:
        names = [name for name, task in tasks.items() if task.kind == kind]
        over = [name for name in names if name in took]
        sums = (sum(seconds.get(name, 0.0) for name in names) for seconds in (predicted, took))
        return Duration(len(names), len(over), *sums)

    return {kind: of(kind) for kind in dict.fromkeys(task.kind for task in tasks.values())}


def _protocol(study: Study, folder: Path) -> dict[str, Any]:
    """What held for all rows: in short, then in full."""
    about, path = study.about, folder / "manifest.json"
    manifest = read_json(path, "a study's folder") if path.exists() else {}
    evaluation = next(iter(study.rows.values())).experiment.evaluation
    tuning = about.tuning
    sessions = manifest.get("sessions", [])
    facts = {
        "study": about.name,
        "seeds": ", ".join(map(str, about.seeds)),
        "numbers of weights": f"equal to within {about.tolerance:.0%}".replace("%", " %"),
        "trials per network": "no tuning" if tuning is None else tuning.trials,
        "judged": f"{evaluation.leads} leads from the split '{evaluation.split}', looked at once",
        "tasks that are not over": list(left(folder, plan(study))) or "none",
        "hours, predicted": number(sum(s["predicted_seconds"] for s in sessions) / 3600) if sessions else "unknown",
        "hours, measured": number(sum(s["seconds"] for s in sessions) / 3600) if sessions else "unknown",
        "Study": study.described()["about"],
        "Sessions and versions": manifest,
    }
    return {key: value for key, value in facts.items() if value != {}}
