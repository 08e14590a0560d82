"""The page of a study: what its sentences, tables and figures say of scores whose laws are known."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftway.glossary import number
from driftway.report import study as page_of
from driftway.report import study_plotting
from driftway.report.outcome import ALL, BEST, MOST, Outcome, grouped
from driftway.report.plotting import encode
from driftway.report.study import _Page, study_page
from driftway.report.study_findings import study_findings
from driftway.report.study_protocol import duration_table, protocol_table, tuning_tables
from driftway.report.study_tables import (
    cost_table,
    needed_table,
    ranking_table,
    segment_table,
    skill_table,
    spectra_tables,
    window_table,
)
from driftway.report.tables import Cell, Table, markdown
from driftway.studies import statistics
from driftway.studies.report import outcome_of
from driftway.studies.statistics import curve
from driftway.studies.tasks import stored
from tests.report_example import Size
from tests.study_example import LAWS, PARTIAL, UNSTABLE, Example, written
from tests.test_report import Page, picture

NASTY = "<script>alert(1)</script> & '$x$' {{ 7*7 }}"
KEPT = ("members", "failures", "calls", "parameters", "truth_spectrum", "resolved")
SMALL = Size(grid=8, leads=3, members=3, trajectories=8, fields=("vorticity",))


def outcome_from(folder: Path, example: Example) -> Outcome:
    return outcome_of(stored(written(folder, example)), folder)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return outcome_from(tmp_path_factory.mktemp("study"), Example())


@pytest.fixture(scope="module")
def html(outcome: Outcome, tmp_path_factory: pytest.TempPathFactory) -> str:
    shown = {row: facts for row, facts in outcome.rows.items() if row not in ("fno", "ddim", "tsm")}
    some = outcome.results.sel(row=[*shown, *outcome.references])
    named = replace(outcome, title=NASTY, results=some, rows=shown, protocol={**outcome.protocol, NASTY: [NASTY]})
    return study_page(tmp_path_factory.mktemp("page") / "report.html", named).read_text()


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def column(table: Table, head: str) -> dict[str, Cell]:
    k = table.head.index(head)
    return {row[0].text: row[k] for row in table.rows}


# --- sentences -----------------------------------------------------------------------------------------------------


def sentence(outcome: Outcome, start: str) -> str:
    (found,) = [line for line in study_findings(outcome) if line.startswith(start)]
    return found


def test_the_best_is_named_with_both_intervals_and_what_is_not_told_apart(outcome: Outcome) -> None:
    text = sentence(outcome, "Lowest fair CRPS")
    assert "“interpolant”" in text and "over seeds" in text and "initial states" in text
    close = [place.row for place in outcome.places("crps")[1:] if place.ranked and not place.beaten]
    assert text.endswith("not told apart from it: " + ", ".join(f"“{row}”" for row in close) + ".")
    assert {"interpolant_5", "edm"} <= {*close} and "fno" not in close
    assert "“interpolant_ode”" in sentence(outcome, "Lowest VRMSE of the mean")
    assert "“interpolant_ode”" in sentence(outcome, "Lowest VRMSE of single members")


def test_calibration_spectra_and_references_are_those_of_the_laws(outcome: Outcome) -> None:
    assert "2 of 8 ensembles calibrated" in sentence(outcome, "2 of") and "“interpolant” 0.9" in sentence(
        outcome, "2 of"
    )
    assert "wavenumbers: “interpolant”" in sentence(outcome, "Lowest spectral")
    assert "climatology 0.7" in sentence(outcome, "For comparison")


def test_the_closest_to_the_flow_as_a_whole_is_named_with_its_bias(outcome: Outcome) -> None:
    text = sentence(outcome, "Lowest errors of the flow")
    rows = [place.row for place in outcome.places("crps") if place.ranked]
    error, bias = (outcome.results[name].sel(row=rows).mean("seed") for name in ("physics_error", "physics_bias"))
    best = rows[int(np.argmin(error.sel(quantity="enstrophy").values))]
    shown = f"{float(bias.sel(quantity='enstrophy', row=best)):+.0%}".replace("%", " %")
    assert f"enstrophy “{best}”" in text and f"(bias {shown})" in text


def test_failures_and_what_was_not_run_are_named_with_their_count(outcome: Outcome) -> None:
    assert f"“{UNSTABLE}” from 2 of 36" in sentence(outcome, "Diverged")
    assert sentence(outcome, "Not run") == f"Not run, or not over: “{PARTIAL}” seed 2."


def test_calls_are_counted_on_the_validation_split(outcome: Outcome) -> None:
    text = sentence(outcome, "“interpolant” is within 5 %")
    assert "50 steps from 20 calls a step on" in text and "by no other row" in text


def test_too_few_states_to_tell_anything_are_a_warning(tmp_path: Path) -> None:
    few = Example(replace(SMALL, trajectories=5), ("interpolant", "ddpm", "edm"), (0, 1))
    text = sentence(outcome_from(tmp_path, few), "With 5 initial states")
    assert "2 comparisons" in text and "is 0.12" in text  # 2 · 2⁻⁴


# --- tables --------------------------------------------------------------------------------------------------------


def test_the_skill_table_has_rows_by_crps_with_both_intervals_and_references_last(outcome: Outcome) -> None:
    table = skill_table(outcome)
    names = [row[0].text for row in table.rows]
    assert names[:-2] == outcome.order and names[-3] == UNSTABLE and set(names[-2:]) == {"climatology", "persistence"}
    crps = column(table, "fair CRPS [1/s]")
    assert [name for name, cell in crps.items() if cell.best] == ["interpolant"]
    seeds, states = crps["interpolant"].detail.splitlines()
    score = outcome.places("crps")[0].score
    assert (
        seeds == f"{score.seeds.low:.3f}–{score.seeds.high:.3f}"
        and states == f"{score.states.low:.3f}–{score.states.high:.3f}*"
    )
    assert crps[UNSTABLE].text == "–" and column(table, "diverged")[UNSTABLE].text == "2 of 36"
    assert column(table, "seeds")[PARTIAL].text == "2 of 3" and column(table, "calls per step")["edm"].text == "36"
    assert column(table, "spread / skill")["deterministic"].text == "–"


def test_the_ranking_says_what_may_be_chance(outcome: Outcome) -> None:
    verdicts = {name: cell.text for name, cell in column(ranking_table(outcome, "crps"), "verdict").items()}
    places = {place.row: place for place in outcome.places("crps")}
    assert (
        verdicts["interpolant"] == "best" and verdicts["fno"] == "worse" and verdicts[UNSTABLE] == "diverged, 2 of 36"
    )
    for row in ("interpolant_5", "edm", "interpolant_ode"):
        assert verdicts[row] == ("seeds overlap" if places[row].corrected < 0.05 else "may be chance"), row


def test_spectra_have_the_papers_ratio_under_its_own_name(outcome: Outcome) -> None:
    errors, inverted = spectra_tables(outcome)
    assert errors.head[1:] == tuple(
        f"{kind}, {band}" for kind in ("error", "log error") for band in ("low", "mid", "high")
    )
    assert inverted.head[1] == "truth over forecast, low" and "2509.26282" in inverted.notes[0]
    expected = float(outcome.results["spectral_rmse"].sel(row="fno", band="mid").mean())
    assert column(errors, "error, mid")["fno"].text == f"{expected:.3f}"


def test_costs_and_segments_are_means_over_seeds(outcome: Outcome) -> None:
    cost = cost_table(outcome)
    assert (
        column(cost, "peak memory [MB]")["edm"].text == "200" and column(cost, "optimiser steps")["edm"].text == "400"
    )
    assert column(cost, "ms per step and member")["ddpm"].text == "50.3"
    table = segment_table(outcome, "crps")
    assert table.head[1:] == (
        "lead 1",
        "lead 2",
        "lead 3",
        "lead 4",
        "leads 5–6",
        *(f"lead {k}" for k in range(7, 11)),
        "leads 11–12",
    )
    assert column(table, "leads 11–12")[UNSTABLE].text == "–"


def test_long_rollouts_have_windows(outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    assert window_table(outcome, "vrmse") is None
    monkeypatch.setattr(statistics, "WINDOWS", (4, 8))
    table = window_table(outcome, "vrmse")
    assert table is not None and table.head[1:] == ("leads 1–4", "leads 5–8", "leads 9–12")
    curve_ = outcome.results["vrmse"].sel(row="edm").mean(("seed", "field")).values
    assert column(table, "leads 5–8")["edm"].text == number(curve_[4:8].mean())


def test_a_training_that_diverged_leaves_the_cost_of_the_others(outcome: Outcome) -> None:
    calls = outcome.results["calls"].copy()
    calls.loc[{"row": "edm", "seed": 1}] = np.nan
    table = cost_table(replace(outcome, results=outcome.results.assign(calls=calls)))
    assert column(table, "calls per step")["edm"].text == "36"


def test_calls_needed_compare_each_row_with_the_best(outcome: Outcome) -> None:
    table = needed_table(outcome, outcome.curved)
    assert outcome.curved[0] == "interpolant"
    needed, best = column(table, "calls to within 5 %"), column(table, "calls of interpolant to the same CRPS")
    assert (needed["interpolant"].text, best["interpolant"].text) == ("20", "–")
    assert (needed["edm"].text, best["edm"].text) == ("40", "2")


def test_tuning_protocol_and_time_are_told_in_full(outcome: Outcome) -> None:
    chosen, every = tuning_tables(outcome)
    assert len(chosen.rows) == 7 and len(every.rows) == 14
    assert column(chosen, "changes")["edm"].text == "training.learning_rate=0.002"
    protocol = protocol_table(outcome)
    assert column(protocol, "exempt, because")["fno"].text == LAWS["fno"].more["exempt"]
    assert column(protocol, "network of")["interpolant_ode"].text == "interpolant"
    assert "temperature=0.0" in column(protocol, "sampler")["interpolant_noise_free"].text
    times = duration_table(outcome)
    assert column(times, "of them done")["score"].text == "35 of 36"
    # 36 tasks of 8 seconds, and 35 of 10
    assert column(times, "minutes, predicted")["score"].text == "4.80"
    assert column(times, "minutes, measured")["score"].text == "5.83"


def test_markdown_has_a_line_per_row_and_escapes_bars() -> None:
    table = Table("t", ("a", "b"), ((Cell("x|y"), Cell("1", "0–2\n0–3*", best=True)),))
    assert markdown(table).splitlines() == ["| a | b |", "| --- | ---: |", r"| x\|y | **1** (0–2, 0–3*) |"]


# --- groups and figures --------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 11), min_size=1, max_size=40))
def test_every_row_is_drawn_in_some_group_and_no_group_is_crowded(networks: list[int]) -> None:
    rows = {f"row {k}": f"network {n}" for k, n in enumerate(networks)}
    plain = f"row {len(rows) - 1}"
    groups = grouped(list(rows), rows, plain)
    assert set(rows) == {row for group in groups.values() for row in group}
    assert all(0 < len(group) <= MOST and len(set(group)) == len(group) for group in groups.values())
    first = next(iter(groups.values()))
    assert first[0] == "row 0" and (len(rows) > MOST or groups == {ALL: list(rows)})
    assert len({rows[row] for row in first}) == len(first) or ALL in groups or plain in first


def test_the_first_group_holds_the_best_of_each_network(outcome: Outcome) -> None:
    assert outcome.groups[BEST] == ["interpolant", "edm", "ddim", "flow_matching", "tsm", "deterministic", "fno"]
    assert set(outcome.groups["interpolant"]) == {row for row in LAWS if "interpolant" in row}


def test_rows_that_differ_in_their_steps_alone_are_one_curve(outcome: Outcome) -> None:
    same = [{**point, "row": "interpolant_5"} for point in outcome.curves if point["row"] == "interpolant"]
    others = [point for point in outcome.curves if point["row"] != "interpolant_5"]
    twin = replace(outcome, curves=[*others, *same])
    assert twin.distinct(["interpolant", "interpolant_5", "edm"]) == {"interpolant": ["interpolant_5"], "edm": []}


def test_frontiers_pass_through_every_point_that_stayed_finite(outcome: Outcome) -> None:
    rows = ["interpolant", UNSTABLE]
    figure = study_plotting.along_dial({row: curve(outcome.curves, row) for row in rows}, "steps", outcome.look)
    left, middle, right = figure.axes
    lines = {str(line.get_label()): line.get_xydata() for line in left.get_lines()}
    points = curve(outcome.curves, "interpolant")
    expected = [(p["vrmse"], (p["spectral_log_error_low"] + p["spectral_log_error_mid"]) / 2) for p in points]
    assert np.asarray(lines["interpolant"]) == pytest.approx(np.array(expected))
    assert len(np.asarray(lines[UNSTABLE])) == len(points) - 1
    assert [text.get_text() for text in middle.texts] == ["1", "2", "5", "10", "20", "50", "2", "5", "10", "20", "50"]
    assert right.get_xscale() == "log" and "spread" in right.get_ylabel()
    encode(figure, "png", dpi=30)


def test_dials_of_words_are_drawn_in_their_order(outcome: Outcome) -> None:
    points = [{**p, "value": word} for p, word in zip(curve(outcome.curves, "edm")[:3], ("a", "b$", "c"), strict=True)]
    figure = study_plotting.along_dial({"edm": points}, "grid.type", outcome.look)
    encode(figure, "png", dpi=30)
    assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == ["a", r"b\$", "c"]


# --- the page ------------------------------------------------------------------------------------------------------


def test_it_is_self_contained_and_strings_are_never_run(html: str, page: Page) -> None:
    for tag, attributes in page.tags:
        for key in ("src", "href", "srcset", "data-still", "action"):
            value = attributes.get(key, "data:")
            assert value.startswith(("data:", "#")), f"{tag} {key}={value[:80]}"
    assert "default-src 'none'; img-src data:;" in html and "url(" not in html
    assert len(page.all("script")) == 1 and "alert(" not in page.texts["script"][0]
    assert page.texts["h1"] == [NASTY] and page.open == []
    identities = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identities) == len(set(identities)) and len(html) < 9e6


def test_every_section_is_there_and_every_picture_can_be_read(page: Page) -> None:
    assert [a["id"] for a in page.all("section")] == [
        "skill",
        "ranks-of-rows",
        "growth",
        "segments",
        "spread",
        "spectral-errors",
        "spectra",
        "ranks",
        "physics",
        "calls",
        "frontier",
        "cost",
        "tuning",
        "protocol",
        "run",
        "glossary",
    ]
    assert all(len(image["alt"]) > 30 and picture(image["src"])[1] for image in page.all("img"))
    text = page.text()
    assert "9 rows of 5 networks, each trained with 3 seeds" in text and "score/ddpm/2" in text
    assert not re.search(r"\b(nan|inf)\b", text.casefold())


def test_equal_outcomes_give_equal_pages(tmp_path: Path) -> None:
    small = bare(outcome_from(tmp_path / "s", Example(SMALL, ("deterministic",), (0,))))
    first, second = (study_page(tmp_path / name, small).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def bare(outcome: Outcome) -> Outcome:
    return replace(outcome, curves=[], choices={}, durations={}, protocol={})


def failed(outcome: Outcome) -> Outcome:
    results = outcome.results
    scores = [str(name) for name, values in results.items() if values.dtype.kind == "f" and name not in KEPT]
    broken = results.assign({name: results[name] * np.nan for name in scores})
    return replace(outcome, results=broken.assign(failures=results["failures"] * 0 + 8))


def without_axes(outcome: Outcome) -> Outcome:
    names = [name for name, values in outcome.results.items() if {"band", "wavenumber"} & {*values.dims}]
    return replace(outcome, results=outcome.results.drop_vars([*names, "resolved"]))


@pytest.mark.parametrize(
    "change", [bare, failed, without_axes], ids=["nothing but scores", "all diverged", "no periodic axis"]
)
def test_studies_of_every_kind_have_a_page(change: Callable[[Outcome], Outcome], tmp_path: Path) -> None:
    outcome = change(outcome_from(tmp_path / "s", Example(SMALL, ("interpolant", "deterministic"), (0,))))
    text = Page(study_page(tmp_path / "report.html", outcome).read_text()).text()
    assert not re.search(r"\b(nan|inf)\b", text.casefold())
    assert ("no row stayed finite" in text) == (change is failed)
    assert ("Errors of the spectrum" in text) == (change is not without_axes)
    assert "One seed only" in text


def test_several_fields_have_tables_of_all_and_of_each(tmp_path: Path) -> None:
    size = replace(SMALL, fields=("vorticity", "temperature"))
    outcome = outcome_from(tmp_path, Example(size, ("interpolant", "edm", "deterministic"), (0, 1)))
    page = _Page(outcome)
    assert [pane.label for pane in page.skill()] == ["all fields", "vorticity", "temperature"]
    assert [head for pane in page.skill() for head in pane.tables[0].head if "CRPS" in head] == [
        "fair CRPS [σ]",
        "fair CRPS [1/s]",
        "fair CRPS [K]",
    ]
    assert [pane.label for pane in page.segments()][-2:] == ["CRPS, temperature", "VRMSE, temperature"]
    (pane,) = page.grouped(page.growth)
    assert [picture.name for picture in pane.pictures] == [
        "growth-vorticity-all-rows.svg",
        "growth-temperature-all-rows.svg",
    ]


def test_a_study_that_is_not_over_has_a_page_of_what_there_is(tmp_path: Path) -> None:
    folder = written(tmp_path / "s", Example(SMALL, ("deterministic", "edm"), (0, 1)))
    for name in ("manifest.json", "estimate.json"):
        (folder / name).unlink()
    for task in ("score/edm/0", "score/edm/1", "curve/edm/0"):
        (folder / "tasks" / f"{task}.json").unlink()
    outcome = outcome_of(stored(folder), folder)
    text = Page(study_page(tmp_path / "report.html", outcome).read_text()).text()
    assert "“edm” seed 0, 1" in text and "curve/edm/0" in text and "Scores against network calls" not in text
    assert json.loads((folder / "study.json").read_text())["about"]["name"] in text


def test_pictures_share_a_budget() -> None:
    assert page_of.FIGURES * 4 / 3 < 7e6
