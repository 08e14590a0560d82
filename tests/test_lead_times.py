"""Pages of weather: many fields, lead times in days, and each field by lead time."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from driftway.data.climatologies import climatology_at
from driftway.data.layout import Layout
from driftway.evaluation import score
from driftway.report.outcome import Outcome, RowFacts
from driftway.report.page import build
from driftway.report.plotting import BY_LEAD, by_lead
from driftway.report.study import sections
from driftway.report.styling import MANY, field_names, headline, in_days
from driftway.report.tables import lead_tables
from driftway.scoring import baselines, load_scores, save_scores, truth_for, usual
from tests.dated import YEAR, dated

FIELDS = ("odd", "tas", "ua850", "zg500", "ta850", "ua250", "pr_6h", "other")
LEADS = 44


@cache
def scores_of(member_noise: float = 1.0, anomalies: bool = True) -> xr.Dataset:
    """Three members of noise about the truth of eight fields, up to eleven days, and the references."""
    rng = np.random.default_rng(0)
    starts = tuple(YEAR * np.arange(4))
    states = rng.standard_normal((4, LEADS + 1, len(FIELDS), 4, 6))
    data = dated(states, starts, 6.0, ("train", "train", "test", "test"), FIELDS, ("K",) * len(FIELDS))
    truth, layout = truth_for(data.split("test"), LEADS), Layout(data.fields, data.axes, 6.0, "h")
    beside = baselines(data, data.split("test"), truth, layout)
    shape = (3, 2, LEADS, 4, 6)
    dims = ("realization", *truth["tas"].dims)
    noise = {n: (dims, truth[n].values + member_noise * rng.standard_normal(shape).astype("f4")) for n in FIELDS}
    forecast = xr.Dataset(noise, {"lead_time": truth["lead_time"]})
    return score(
        {**beside, "x": forecast}, truth, layout, climatology=usual(beside, truth) if anomalies else None, physics=False
    )


def outcome(*labels: str) -> Outcome:
    """Rows with the scores of `x`, the last of them without anomalies, as they were scored in earlier versions."""
    everyone = [scores_of(anomalies=label != labels[-1]).sel({"method": "x"}, drop=True) for label in labels]
    rows = [found.expand_dims(row=[label], seed=[0]) for label, found in zip(labels, everyone, strict=True)]
    reference = scores_of().sel({"method": "climatology"}, drop=True).expand_dims(row=["climatology"], seed=[0])
    results = xr.concat([*rows, reference], "row", join="outer", combine_attrs="override")
    costs = {name: (("row", "seed"), np.ones((len(labels) + 1, 1))) for name in ("calls", "parameters")}
    facts = {label: RowFacts(label, "", (0,), 1, 1) for label in labels}
    return Outcome("weather", results.assign(costs), facts)


def test_hours_become_days_beyond_three_of_them() -> None:
    scores = scores_of()
    found = in_days(scores)
    assert found["lead_time"].attrs["time_units"] == "days" and float(found["lead_time"][-1]) == 11
    np.testing.assert_allclose(found["correlation_time"], scores["correlation_time"] / 24)
    assert found["correlation_time"].attrs == scores["correlation_time"].attrs
    short = scores.isel(lead_time=slice(0, 12))
    assert in_days(short) is short and in_days(found) is found


def test_few_fields_are_all_shown_and_of_many_those_that_weather_is_told_by() -> None:
    assert headline(FIELDS[:MANY]) == list(FIELDS[:MANY])
    assert headline(FIELDS) == ["tas", "zg500", "ua250", "ta850", "pr_6h"]
    assert headline([f"f{k}" for k in range(9)]) == [f"f{k}" for k in range(MANY)]
    assert field_names(FIELDS) == "tas, zg500, ua250, ta850, pr_6h and 3 more"


def test_tables_have_the_days_that_forecasts_are_told_by() -> None:
    scores = in_days(scores_of())
    (table,) = lead_tables(scores, "acc", {}, ["tas"])
    assert table.head[1:] == ("0.25", "1", "3", "5", "7", "10")
    row = next(row for row in table.rows if row[0].text == "x")
    expected = float(scores["acc"].sel({"method": "x", "field": "tas", "lead_time": 10.0}))
    assert float(row[-1].text) == pytest.approx(expected, abs=6e-4)
    assert next(row for row in table.rows if row[0].text == "climatology")[-1].text == "0.000"


def test_fields_apart_are_for_those_that_are_many_or_have_a_climatology() -> None:
    assert by_lead(scores_of()) == list(BY_LEAD)
    assert by_lead(scores_of(anomalies=False)) == [name for name in BY_LEAD if name != "acc"]
    assert by_lead(scores_of(anomalies=False).isel(field=slice(0, 2))) == []


def test_the_page_of_forecasts_has_each_field_by_lead_time(tmp_path: Path) -> None:
    scores = scores_of().sel(field=["odd", "tas"])
    path = build(tmp_path / "r.html", title="t", cases=[], scores=scores, run={}, findings=[])
    text = path.read_text()
    assert 'id="leads"' in text and "lead time [days]" in text
    assert "Anomalies are from the mean state of the training split" in text
    assert "1 ensemble of up to 3 members" in text  # not the two years of the climatology


def test_the_page_of_a_study_has_each_field_by_lead_time_and_takes_rows_without_anomalies() -> None:
    found = outcome("new", "old")
    (section,) = (s for s in sections(found) if s.identity == "leads")
    assert [pane.label for pane in section.panes] == list(FIELDS)
    titles = [table.title for table in section.panes[1].more]
    assert [title.partition(" of tas")[0] for title in titles] == [
        "skill [K]",
        "anomaly correlation of the mean",
        "fair CRPS [K]",
        "spread–skill ratio",
    ]
    assert [row[0].text for row in section.panes[1].more[1].rows] == ["new", "climatology"]
    skill = next(s for s in sections(found) if s.identity == "skill").panes[0].tables[0]
    assert "anomaly correlation of the mean" in skill.head


def test_scores_with_anomalies_come_back_from_disk(tmp_path: Path) -> None:
    save_scores(scores_of(), tmp_path / "scores.json")
    xr.testing.assert_allclose(load_scores(tmp_path / "scores.json")["acc"], scores_of()["acc"])


def test_the_climatology_of_few_days_is_said_to_be_a_mean() -> None:
    assert scores_of().attrs["climatology"] == "mean state of the training split"
    data = dated(np.zeros((1, 2, 1, 4, 6)), (0.0,))
    truth = truth_for(data, 0, 1)
    layout = Layout(data.fields, data.axes, 12.0, "h")
    assert climatology_at(data, truth, layout).attrs["description"] == "mean state of the training split"
