"""Tables: how numbers are written, and which of them is marked as the best."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from driftway.glossary import OTHERS, SCORES, number
from driftway.physics.comparison import ERRORS
from driftway.report.findings import estimate, rollout
from driftway.report.styling import styles_of
from driftway.report.tables import (
    Cell,
    Table,
    band_table,
    best,
    glossary_table,
    latex,
    lead_tables,
    scores_table,
    summary_table,
)
from tests.report_example import METHODS, Method, Size, datasets, scores_of


@pytest.fixture(scope="module")
def scores() -> xr.Dataset:
    """A small study with a method that diverges."""
    methods = {"bad": Method(noise=0.9, diverges=True), **METHODS}
    size = Size(grid=16, leads=6, members=4, trajectories=8, fields=("vorticity",), methods=methods)
    return scores_of(size, *datasets(size))


def column(table: Table, head: str) -> dict[str, Cell]:
    k = table.head.index(head)
    return {row[0].text: row[k] for row in table.rows}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (float("-inf"), "−∞"),
        (0.0, "0.000"),
        (0.12345, "0.123"),
        (-1.2345, "−1.23"),
        (123.456, "123"),
        (1234.5, "1234"),
        (2345678, "2\u202f345\u202f678"),
        (1.5e-7, "1.50e−07"),
        (True, "True"),
        ("text", "text"),
    ],
)
def test_numbers_have_three_digits(value: object, text: str) -> None:
    assert number(value) == text


def test_a_difference_has_the_decimals_of_what_it_is_a_difference_of() -> None:
    assert number(0.0004, 1.5) == "0.00" and number(-0.0126, 0.5) == "−0.013" and number(3e-5, 2e-4) == "3.00e−05"


@pytest.mark.parametrize(
    ("values", "better", "marks"),
    [
        ([2.0, 1.0, 1.0001], "lower", [False, True, True]),
        ([2.0, float("nan"), 3.0], "higher", [False, False, True]),
        ([0.5, 1.9, 0.0], "one", [False, True, False]),
        ([float("nan"), None], "lower", [False, False]),
        ([1.0, 2.0], "", [False, False]),
        ([float("inf"), 5.0], "lower", [False, True]),
    ],
)
def test_the_best_is_finite_and_ties_share_it(values: list[float], better: str, marks: list[bool]) -> None:
    assert best(values, better) == marks


def test_only_forecasts_that_never_diverged_can_be_best(scores: xr.Dataset) -> None:
    look = styles_of(scores)
    tables = [
        summary_table(scores, "vorticity", look),
        scores_table(scores, "vorticity", look),
        band_table(scores, "vorticity", look),
        *lead_tables(scores, "vrmse", look),
    ]
    for table in tables:
        marked = {row[0].text for row in table.rows if any(cell.best for cell in row)}
        assert marked and not marked & {"bad", "persistence", "climatology"}, table.title
        assert [row[0].text for row in table.rows][-2:] == ["persistence", "climatology"]
        assert [row[0].reference for row in table.rows][-3:] == [False, True, True]
    first_lead = column(tables[-1], "0.1")
    assert float(first_lead["bad"].text) > 0 and column(tables[-1], "0.6")["bad"].text == "–"


def test_the_summary_shows_means_with_intervals_ranges_and_failures(scores: xr.Dataset) -> None:
    table = summary_table(scores, "vorticity", styles_of(scores))
    expected = estimate(rollout(scores, "crps", "EDM"))
    cell = column(table, "fair CRPS [1/s]")["EDM"]
    assert cell.text == number(float(scores["crps"].sel({"method": "EDM"}).mean())) == number(expected.mean)
    assert cell.detail == f"{number(expected.low)}–{number(expected.high)}"
    ratio = scores["spread_skill"].sel({"method": "EDM"}).values
    assert column(table, "spread / skill")["EDM"].text == f"{ratio.min():.2f}–{ratio.max():.2f}"
    assert column(table, "spread / skill")["SI, SDE"].best and column(table, "spread / skill")["FNO"].text == "–"
    failed = column(table, "diverged, of 8")
    assert (failed["bad"].text, failed["EDM"].text) == ("1", "0")
    assert column(table, "fair CRPS [1/s]")["bad"] == Cell("–")
    assert any("space, then mean over initial states" in note for note in table.notes)


def test_a_ratio_that_averages_to_one_is_not_the_best(scores: xr.Dataset) -> None:
    changed = scores.copy(deep=True)
    changed["spread_skill"].loc[{"method": "EDM"}] = np.linspace(0.5, 1.5, 6)[None]
    assert not column(summary_table(changed, "vorticity", styles_of(scores)), "spread / skill")["EDM"].best


def test_correlation_times_beyond_the_forecast_are_bounds(scores: xr.Dataset) -> None:
    cells = column(summary_table(scores, "vorticity", styles_of(scores)), "correlation time [s]")
    assert cells["SI, SDE"].text == "≥ 0.600" and cells["SI, SDE"].detail == "8 beyond"
    assert "≥" not in cells["persistence"].text and not cells["persistence"].detail


def test_the_glossary_says_of_every_score_what_perfect_and_trivial_forecasts_get(scores: xr.Dataset) -> None:
    table = glossary_table(scores)
    known = {about.long_name for about in (SCORES | OTHERS).values() if not about.needs} | {
        ERRORS[n][0] for n in ERRORS if n in scores
    }
    assert {row[0].text for row in table.rows} == known
    assert all(cell.text not in ("", "–") for row in table.rows for cell in row)


def test_latex_is_escaped_and_marks_the_best() -> None:
    table = Table("t", ("method", "a_b"), ((Cell("50 % & more"), Cell("1.0", "0.9–1.1", best=True)),))
    text = latex(table)
    assert r"50 \% \& more & \textbf{1.0} (0.9--1.1) \\" in text and r"a\_b" in text
    assert text.startswith(r"\begin{tabular}{lr}") and text.endswith(r"\end{tabular}")
