"""What a study's scores say, in sentences made from the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from driftway.glossary import REFERENCES, number
from driftway.physics.quantities import QUANTITIES
from driftway.report.findings import ensembles
from driftway.report.outcome import Outcome
from driftway.report.parts import counted
from driftway.report.plotting import CALIBRATED, of
from driftway.report.study_tables import WITHIN, ends, head_of
from driftway.studies.statistics import SIGNIFICANT, Ranked, estimate, failures, missing, nfe_needed, seeds_of, smallest

SHOWN = 6  # names in a sentence
LARGE = ("low", "mid")


def study_findings(outcome: Outcome) -> list[str]:
    """The best rows and which differences are beyond chance, calibration, spectra, calls, failures, what is missing."""
    found = [
        _best(outcome, "crps"),
        _best(outcome, "vrmse"),
        _members(outcome),
        _against_references(outcome),
        _calibration(outcome),
        _spectra(outcome),
        _physics(outcome),
        _calls(outcome),
        _failures(outcome),
        _missing(outcome),
        _power(outcome),
    ]
    return [sentence for sentence in found if sentence]


def _best(outcome: Outcome, name: str) -> str:
    places, label = outcome.places(name), head_of(outcome, name)
    first, others = places[0], [place for place in places[1:] if place.ranked]
    if not first.ranked:
        return f"Lowest {label}: none, since no row stayed finite."
    score = first.score
    parts = {"seeds": ends(score.seeds, score.mean), "initial states": ends(score.states, score.mean)}
    bounds = "; ".join(f"{what} {text}" for what, text in parts.items() if text)
    sentence = f"Lowest {label}: “{first.row}”, {number(score.mean)}" + (f" (95 % over {bounds})" if bounds else "")
    return f"{sentence}. {_told_apart(others)}".strip()


def _told_apart(others: Sequence[Ranked]) -> str:
    """How many rows are worse beyond chance, and which may not be."""
    if not others:
        return ""
    close = [place.row for place in others if not place.beaten]
    if not close:
        return f"All {len(others)} other rows are worse beyond chance." if len(others) > 1 else "It beats the other."
    if len(close) == len(others):
        return f"No other row is worse beyond chance: {_named(close)}."
    worse = f"{len(others) - len(close)} of {len(others)} other rows are worse beyond chance"
    return f"{worse}; not told apart from it: {_named(close)}."


def _members(outcome: Outcome) -> str:
    rows = [place.row for place in outcome.places("crps") if place.ranked]
    means = {row: estimate(outcome.results, "vrmse_member", row) for row in rows}
    if not rows:
        return ""
    best = min(rows, key=lambda row: means[row].mean)
    spread = ends(means[best].seeds, means[best].mean)
    over = f" (95 % over seeds {spread})" if spread else ""
    return f"Lowest VRMSE of single members: “{best}”, {number(means[best].mean)}{over}."


def _against_references(outcome: Outcome) -> str:
    """References, and the rows that are no better than them."""
    found = {r: estimate(outcome.results, "crps", r).mean for r in outcome.references if r.startswith(REFERENCES[:2])}
    if not found:
        return ""
    texts = ", ".join(f"{reference} {number(value)}" for reference, value in found.items())
    bound = min(found.values())
    poor = [place.row for place in outcome.places("crps") if place.ranked and place.score.mean >= bound]
    return f"For comparison, CRPS of {texts}." + (
        f" No better than the lower of these: {_named(poor)}." if poor else ""
    )


def _calibration(outcome: Outcome) -> str:
    """How many ensembles have a spread–skill ratio within the band at every lead and field, and which."""
    rows, scores = [row for row in outcome.order if row in ensembles(outcome.scores)], outcome.scores["spread_skill"]
    ranges = {row: (float(of(scores, row).min(skipna=False)), float(of(scores, row).max(skipna=False))) for row in rows}
    ranges = {row: pair for row, pair in ranges.items() if all(map(math.isfinite, pair))}
    if not ranges:
        return ""
    ordered = sorted(ranges, key=lambda row: max(abs(math.log(max(end, 1e-9))) for end in ranges[row]))
    inside = [row for row in ordered if ranges[row][0] >= CALIBRATED[0] and ranges[row][1] <= CALIBRATED[1]]
    band = f"{CALIBRATED[0]}–{CALIBRATED[1]}"
    count = (
        f"{len(inside)} of {counted(len(ranges), 'ensemble')} calibrated, with spread / skill of {band} at every lead"
    )
    closest = "; ".join(f"“{row}” {ranges[row][0]:.2f}–{ranges[row][1]:.2f}" for row in ordered[:3])
    return f"{count}{': ' + _named(inside) if inside else ''}. Closest to 1: {closest}."


def _spectra(outcome: Outcome) -> str:
    """The lowest log error of the spectrum, and what the autoencoder alone has."""
    if "spectral_log_error" not in outcome.results:
        return ""
    rows = [place.row for place in outcome.places("crps") if place.ranked]
    errors = {row: _large(outcome, row) for row in [*rows, *outcome.references]}
    ranked = sorted((row for row in rows if math.isfinite(errors[row])), key=errors.__getitem__)
    if not ranked:
        return ""
    floors = [errors[r] for r in outcome.references if r.startswith(REFERENCES[-1])]
    floor = f" (the autoencoder alone {number(min(floors))})" if floors else ""
    texts = "; ".join(f"“{row}” {number(errors[row])}" for row in ranked[:3])
    return f"Lowest spectral log error, low and mid wavenumbers: {texts}{floor}."


def _large(outcome: Outcome, row: str) -> float:
    bands = [estimate(outcome.results, "spectral_log_error", row, band=band).mean for band in LARGE]
    return sum(bands) / len(bands)


def _physics(outcome: Outcome) -> str:
    """Of each quantity of the flow the row that is closest to the truth, and by how much its mean is off."""
    if "physics_error" not in outcome.results:
        return ""
    rows = [place.row for place in outcome.places("crps") if place.ranked]
    means = {name: outcome.results[name].sel(row=rows).mean("seed") for name in ("physics_error", "physics_bias")}
    texts = []
    for name in map(str, outcome.results["quantity"].values):
        errors = dict(zip(rows, means["physics_error"].sel(quantity=name).values.tolist(), strict=True))
        finite = [row for row in rows if math.isfinite(errors[row])]
        if finite and QUANTITIES[name].relative:
            best = min(finite, key=errors.__getitem__)
            bias = float(means["physics_bias"].sel(quantity=name, row=best))
            texts.append(
                f"{QUANTITIES[name].long_name} “{best}” {errors[best]:.0%} (bias {bias:+.0%})".replace("%", " %")
            )
    return f"Lowest errors of the flow as a whole: {'; '.join(texts)}." if texts else ""


def _calls(outcome: Outcome) -> str:
    """How many calls the best row with a curve needs, and how many others do for the same."""
    rows = outcome.curved
    if not rows:
        return ""
    best = rows[0]
    need = nfe_needed(outcome.curves, best, WITHIN)
    if math.isnan(need.level):
        return ""
    within = f"within {WITHIN:.0%}".replace("%", " %")
    first = (
        f"“{best}” is {within} of its CRPS with {need.steps:g} steps from {counted(int(need.calls), 'call')} a step on"
    )
    others = {row: nfe_needed(outcome.curves, best, WITHIN, row).other for row in outcome.distinct(rows) if row != best}
    reached = sorted((row for row in others if math.isfinite(others[row])), key=others.__getitem__)
    texts = ", ".join(f"“{row}” {others[row]:g}" for row in reached[:3]) or "no other row"
    return f"{first} (validation split); of the others the same is reached by {texts}."


def _failures(outcome: Outcome) -> str:
    bad = {row: failures(outcome.results, row) for row in outcome.order}
    texts = [f"“{row}” from {f.bad} of {f.of} initial states" for row, f in bad.items() if f.bad]
    if not texts:
        return "No forecast diverged."
    return f"Diverged, so without scores and not ranked: {'; '.join(texts)}."


def _missing(outcome: Outcome) -> str:
    """What was planned and not scored, and rows of a single seed."""
    lacking = missing(outcome.results, {row: facts.seeds for row, facts in outcome.rows.items()})
    texts = [f"“{row}” seed {', '.join(map(str, seeds))}" for row, seeds in lacking.items()]
    single = [row for row in outcome.order if len(seeds_of(outcome.results, row)) == 1]
    parts = [
        f"Not run, or not over: {'; '.join(texts)}." if texts else "",
        f"One seed only, so nothing is known of their scatter over trainings: {_named(single)}." if single else "",
    ]
    return " ".join(part for part in parts if part)


def _power(outcome: Outcome) -> str:
    """A warning where there are too few initial states for any difference to be beyond chance."""
    states, tests = outcome.results.sizes["trajectory"], sum(place.ranked for place in outcome.places("crps")) - 1
    if tests < 1 or smallest(states, tests) < SIGNIFICANT:
        return ""
    return (
        f"With {counted(states, 'initial state')} and {counted(tests, 'comparison')} no difference can be told from "
        f"chance: the smallest corrected p-value is {smallest(states, tests):.2f}."
    )


def _named(rows: Sequence[str]) -> str:
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return ", ".join(f"“{row}”" for row in rows[:SHOWN]) + more
