"""Tidy tables: one value per line, the same in CSV and parquet, and every line what the scores say."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import xarray as xr

from driftway.errors import ConfigError
from driftway.glossary import SCORES
from driftway.studies import statistics, tables
from driftway.studies.report import report_study, summary
from driftway.studies.results import choices, collect, curves
from driftway.studies.statistics import segments
from driftway.studies.tables import TIDY, costs, save, tidy, tuning
from driftway.studies.tasks import stored
from tests.report_example import Size
from tests.study_example import LAWS, PARTIAL, STEPS, UNSTABLE, Example, point, written

ROWS = ("deterministic", "interpolant", "interpolant_5", "ddpm", "edm", "edm_euler")
TEXT = {name: str for name in TIDY if name not in ("seed", "value")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("study"), Example(rows=ROWS))


@pytest.fixture(scope="module")
def results(folder: Path) -> xr.Dataset:
    return collect(stored(folder), folder)


@pytest.fixture(scope="module")
def networks(folder: Path) -> dict[str, str]:
    return {name: row.network for name, row in stored(folder).rows.items()}


@pytest.fixture(scope="module")
def table(results: xr.Dataset, networks: dict[str, str]) -> pandas.DataFrame:
    return tidy("oscillators", results, networks)


def chosen(table: pandas.DataFrame, **wanted: Any) -> list[float]:
    kept = np.logical_and.reduce([table[key] == value for key, value in wanted.items()])
    return table["value"][kept].tolist()


# --- the long table ------------------------------------------------------------------------------------------------


def test_every_value_stands_in_one_line(table: pandas.DataFrame) -> None:
    keys = [name for name in TIDY if name not in ("value", "unit", "study", "network")]
    assert list(table.columns) == list(TIDY) and not table.duplicated(keys).any()
    assert set(table["row"]) == {*ROWS, "climatology", "persistence"} and set(table["study"]) == {"oscillators"}
    assert set(table[table["row"] == "interpolant_5"]["network"]) == {"interpolant"}
    assert {
        *(n for n, s in SCORES.items() if not s.needs),
        "failures",
        "correlation_time",
        "spectral_rmse",
        "spectral_rmse_paper",
    } <= set(table["score"])


def test_errors_of_physics_have_the_quantity_in_the_place_of_the_field(
    table: pandas.DataFrame, results: xr.Dataset
) -> None:
    here = results.sel(row="edm", seed=1)
    for name in here["quantity"].values:
        for score in ("physics_error", "physics_bias", "physics_distance"):
            found = chosen(table, row="edm", seed=1, field=name, score=score, part="rollout")
            assert found == [pytest.approx(float(here[score].sel(quantity=name)))]


def test_windows_of_long_rollouts_have_lines(results: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "WINDOWS", (4, 8))
    lines = tidy("oscillators", results.sel(row=["edm"]), {"edm": "edm"})
    crps = results["crps"].sel(row="edm", seed=1, field="vorticity").values
    about = {"row": "edm", "seed": 1, "field": "vorticity", "score": "crps"}
    assert chosen(lines, **about, part="leads 5–8") == [pytest.approx(crps[4:8].mean())]


def test_lines_are_what_the_scores_say(table: pandas.DataFrame, results: xr.Dataset) -> None:
    here = results.sel(row="edm", seed=1, field="vorticity")
    crps = here["crps"].values
    about = {"row": "edm", "seed": 1, "field": "vorticity", "score": "crps"}
    assert chosen(table, **about, part="rollout") == [pytest.approx(crps.mean())]
    assert [chosen(table, **about, part=f"lead {k + 1}") for k in range(12)] == [[value] for value in crps]
    parts = [chosen(table, **about, part=f"segment {k + 1}")[0] for k in range(10)]
    assert parts == pytest.approx([crps[part].mean() for part in segments(12)])
    states = [chosen(table, **about, part=f"state {k + 1}")[0] for k in range(12)]
    assert states == here["crps_states"].values.tolist() and np.mean(states) == pytest.approx(crps.mean())
    bands = [chosen(table, **{**about, "score": "spectral_rmse"}, part=band) for band in ("low", "mid", "high", "all")]
    assert bands == [[value] for value in here["spectral_rmse"].values]
    assert not chosen(table, **{**about, "score": "nrmse"}, part="segment 1")


def test_units_are_those_of_the_field_of_time_or_1(table: pandas.DataFrame) -> None:
    units = dict(zip(table["score"], table["unit"], strict=True))
    assert len(table[["score", "unit"]].drop_duplicates()) == len(units)
    assert {score for score, unit in units.items() if unit == "1/s"} == {n for n, s in SCORES.items() if s.dimensional}
    assert {score for score, unit in units.items() if unit == "s"} == {"correlation_time"}


def test_a_missing_seed_has_no_lines_and_a_failure_keeps_its_own(table: pandas.DataFrame) -> None:
    assert set(table["seed"][table["row"] == PARTIAL]) == {0, 1}
    assert chosen(table, row=UNSTABLE, score="failures", part="rollout") == [0, 1, 1]
    last = chosen(table, row=UNSTABLE, score="crps", part="lead 12")
    assert math.isfinite(last[0]) and np.isnan(last[1:]).all()
    assert np.isnan(chosen(table, row=UNSTABLE, score="crps", part="state 2")).tolist() == [False, True, True]


def test_csv_and_parquet_hold_the_same(table: pandas.DataFrame, tmp_path: Path) -> None:
    csv = pandas.read_csv(save(table, tmp_path / "a.csv"), dtype=TEXT, keep_default_na=False, na_values={"value": [""]})
    parquet = pandas.read_parquet(save(table, tmp_path / "a.parquet"))
    pandas.testing.assert_frame_equal(parquet, table, check_dtype=False)
    pandas.testing.assert_frame_equal(csv, table, check_dtype=False, check_exact=True)
    assert csv["value"].isna().sum() == table["value"].isna().sum() > 0


# --- the other tables ----------------------------------------------------------------------------------------------


def test_costs_have_a_line_per_row_and_seed(results: xr.Dataset, networks: dict[str, str]) -> None:
    found = costs("oscillators", results, networks, {row: 400 + k for k, row in enumerate(ROWS)}).set_index(
        ["row", "seed"]
    )
    assert len(found) == 3 * len(ROWS) - 1 and (PARTIAL, 2) not in found.index
    line = found.loc[("interpolant_5", 2)]
    assert (line["calls"], line["parameters"], line["members"], line["optimiser_steps"]) == (5, 100_000, 4, 402)
    assert line["ms_per_step"] == pytest.approx(2.8) and line["forecast_seconds"] == 7 and line["peak_memory"] == 2e8
    # of its network, the row's being a sampler of it
    assert line["train_seconds"] == 100 + list(LAWS).index("interpolant") + 2


def test_trials_say_what_they_changed_and_what_was_chosen(folder: Path) -> None:
    found = tuning("oscillators", choices(stored(folder), folder))
    assert len(found) == 2 * 4 and set(found["network"]) == {"deterministic", "interpolant", "ddpm", "edm"}
    mine = found[found["network"] == "interpolant"]
    assert mine["change"].tolist() == ["training.learning_rate=0.001", "training.learning_rate=0.002"]
    assert mine["valid_crps"].tolist() == pytest.approx([0.32, 0.22]) and mine["chosen"].tolist() == [False, True]


def test_changes_nest_and_failures_are_infinite() -> None:
    change = {"stepper": {"noise": {"factor": 0.5}, "antithetic": True}, "training": {"batch": 4}}
    found = tuning("s", {"n": {"chosen": None, "trials": [{"change": change, "crps": None}]}})
    assert found["change"].item() == "stepper.noise.factor=0.5 stepper.antithetic=True training.batch=4"
    assert found["valid_crps"].item() == math.inf and not found["chosen"].item()
    assert len(tuning("s", {"n": {"chosen": None, "trials": []}})) == 0


def test_curves_have_a_line_per_point(folder: Path, networks: dict[str, str]) -> None:
    records = curves(stored(folder), folder)
    found = tables.curves("oscillators", records, networks)
    assert len(found) == len(records) and "crps_states" not in found and "repr" not in found
    mine = found[(found["row"] == "interpolant") & (found["dial"] == "temperature")]
    assert mine["value"].tolist() == [0.0, 0.5, 1.0, 1.5]
    assert mine["crps"].tolist() == pytest.approx(
        [point("interpolant", "temperature", v, 0)["crps"] for v in mine["value"]]
    )
    assert mine["sampler"].tolist()[1] == "interpolant, temperature 0.5"
    failed = found[(found["row"] == UNSTABLE) & (found["value"] == 1)]
    assert failed["failures"].item() == 1 and np.isnan(failed["crps"].item())


# --- everything at once --------------------------------------------------------------------------------------------


def test_a_report_writes_every_table(tmp_path: Path) -> None:
    size = Size(grid=8, leads=3, members=2, trajectories=8, fields=("vorticity",))
    folder = written(tmp_path / "study", Example(size, ("interpolant", "edm"), (0, 1)))
    found = report_study(folder, tmp_path / "page.html")
    assert found["report"] == str(tmp_path / "page.html") and (tmp_path / "page.html").exists()
    assert not (folder / "report.html").exists()
    assert [Path(path).name for path in found["tables"]] == [
        "results.csv",
        "results.parquet",
        "costs.csv",
        "tuning.csv",
        "curves.csv",
    ]
    assert len(pandas.read_csv(folder / "curves.csv")) == len(STEPS) * 2 + 7
    assert any("Lowest fair CRPS" in sentence for sentence in found["findings"])
    lines = summary(folder).splitlines()
    assert lines[0].startswith("| row | seeds |") and lines[2].startswith("| interpolant | 2 | 2 | **")


@pytest.mark.parametrize("package", ["pandas", "pyarrow"])
def test_the_missing_extra_is_named(package: str, results: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"{package}.*: pip install 'driftway\[study\]'"):
        tidy("s", results, {})
