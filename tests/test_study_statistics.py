"""What a study's scores can carry: intervals that cover, p-values that are uniform, rows that are told apart."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from driftway.errors import ConfigError
from driftway.studies.results import collect, curves
from driftway.studies.statistics import (
    EXACT,
    FLIPS,
    Failures,
    curve,
    estimate,
    failures,
    holm,
    missing,
    nfe_needed,
    per_part,
    per_state,
    ranking,
    resampled,
    rows_of,
    scales,
    seeds_of,
    segments,
    sign_flip_test,
    smallest,
    student,
    together,
    windows,
)
from driftway.studies.tasks import stored
from tests.report_example import Size
from tests.study_example import LAWS, PARTIAL, STEPS, UNSTABLE, Example, crps_at, written


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    folder = written(tmp_path_factory.mktemp("study"))
    return collect(stored(folder), folder)


# --- intervals -----------------------------------------------------------------------------------------------------


def test_the_interval_over_seeds_is_students() -> None:
    values = np.array([0.31, 0.29, 0.36])
    expected = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert student(values) == pytest.approx(expected, rel=1e-9)
    assert all(map(math.isnan, student(values[:1])))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_intervals_over_normal_seeds_cover_the_mean_in_95_of_100(rng: np.random.Generator, count: int) -> None:
    draws = rng.normal(2.0, 0.3, (4000, count))
    covered = np.mean([low <= 2.0 <= high for low, high in map(student, draws)])
    assert covered == pytest.approx(0.95, abs=0.012)


def test_the_interval_over_states_is_that_of_a_normal_mean(rng: np.random.Generator) -> None:
    values = rng.normal(1.0, 0.5, 400)
    low, high = resampled(values)
    expected = stats.norm.interval(0.95, values.mean(), values.std() / math.sqrt(400))
    assert (low, high) == pytest.approx(expected, abs=0.006)


# --- the paired test -----------------------------------------------------------------------------------------------


def brute(differences: np.ndarray) -> float:
    """Every pattern of signs, one by one."""
    observed = abs(sum(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return float(np.mean([value >= observed - 1e-12 for value in sums]))


@given(st.lists(st.integers(-8, 8), min_size=1, max_size=8))
def test_few_differences_are_tested_exactly(differences: list[int]) -> None:
    assert sign_flip_test(np.array(differences, float)) == brute(np.array(differences, float))


@pytest.mark.parametrize("count", [EXACT, EXACT + 7])
def test_it_is_scipys_permutation_test(rng: np.random.Generator, count: int) -> None:
    differences = rng.normal(0.5, 1.0, count)
    found = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=50_000, vectorized=True, axis=-1
    )
    assert sign_flip_test(differences) == pytest.approx(found.pvalue, abs=1e-12 if count == EXACT else 0.01)


@pytest.mark.parametrize(
    "draw",
    [lambda rng: rng.normal(0, 1, 11), lambda rng: rng.laplace(0, 1, 11), lambda rng: rng.uniform(-1, 1, 11)],
    ids=["normal", "heavy tails", "bounded"],
)
def test_p_values_are_uniform_where_nothing_differs(
    rng: np.random.Generator, draw: Callable[[np.random.Generator], np.ndarray]
) -> None:
    found = [sign_flip_test(draw(rng)) for _ in range(1500)]
    assert stats.kstest(found, "uniform").statistic < 1.63 / math.sqrt(1500)
    assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.017)


def test_a_difference_of_two_standard_errors_is_found_as_often_as_by_the_t_test(rng: np.random.Generator) -> None:
    draws = rng.normal(0.6, 1.0, (400, 12))
    ours = np.mean([sign_flip_test(d) < 0.05 for d in draws])
    assert ours == pytest.approx(np.mean([stats.ttest_1samp(d, 0).pvalue < 0.05 for d in draws]), abs=0.04)


def test_a_failure_has_no_p_value_and_equal_scores_have_1() -> None:
    assert math.isnan(sign_flip_test(np.array([1.0, np.nan, 2.0])))
    assert math.isnan(sign_flip_test(np.array([1.0, np.inf])))
    assert sign_flip_test(np.zeros(9)) == 1.0


@pytest.mark.parametrize("count", [5, 10, EXACT, 40])
def test_the_smallest_p_value_is_known_beforehand(count: int) -> None:
    found = sign_flip_test(np.linspace(1.0, 2.0, count))
    assert found == pytest.approx(smallest(count, 1))
    assert smallest(count, 30) == min(1.0, 30 * found)
    assert smallest(40, 1) == 1 / (1 + FLIPS)


# --- correction for many tests -------------------------------------------------------------------------------------


def closed(values: list[float]) -> list[float]:
    """Holm's correction as the closure of Bonferroni's: the worst of all sets of hypotheses that hold this one."""
    ranks = range(len(values))
    sets = [[k for k in ranks if bits >> k & 1] for bits in range(1, 1 << len(values))]
    return [max(min(1.0, len(s) * min(values[k] for k in s)) for s in sets if i in s) for i in ranks]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closure_of_bonferroni(values: list[float]) -> None:
    assert holm(values) == pytest.approx(closed(values), abs=1e-12)


def test_what_has_no_p_value_is_not_counted() -> None:
    found = holm([0.01, math.nan, 0.04])
    assert found[0] == 0.02 and found[2] == 0.04 and math.isnan(found[1])


def test_a_false_alarm_is_raised_in_5_of_100_studies_at_most(rng: np.random.Generator) -> None:
    alarms = [min(holm(rng.uniform(0, 1, 10).tolist())) < 0.05 for _ in range(4000)]
    assert np.mean(alarms) == pytest.approx(0.049, abs=0.011)


# --- what was scored -----------------------------------------------------------------------------------------------


def test_a_missing_seed_is_left_out_and_named(results: xr.Dataset) -> None:
    planned = dict.fromkeys(LAWS, (0, 1, 2))
    assert missing(results, planned) == {PARTIAL: [2]}
    assert missing(results, {**planned, "later": (0,)}) == {PARTIAL: [2], "later": [0]}
    assert seeds_of(results, PARTIAL) == [0, 1]
    found = estimate(results, "crps", PARTIAL)
    assert len(found.values) == 2 and found.mean == pytest.approx(np.mean(found.values))
    assert failures(results, PARTIAL) == Failures(0, 24)


def test_a_failure_is_never_dropped(results: xr.Dataset) -> None:
    found = estimate(results, "crps", UNSTABLE)
    assert math.isfinite(found.values[0]) and math.isnan(found.mean)
    assert all(map(math.isnan, (*found.seeds, *found.states, *found.span)))
    assert np.isnan(per_state(results, "crps", UNSTABLE)).sum() == 1
    assert failures(results, UNSTABLE) == Failures(2, 36)


def test_a_mean_is_that_of_all_seeds_states_leads(results: xr.Dataset) -> None:
    found = estimate(results, "vrmse", "edm")
    assert found.mean == pytest.approx(float(results["vrmse"].sel(row="edm").mean()))
    assert found.mean == pytest.approx(per_state(results, "vrmse", "edm").mean())
    assert found.seeds == student(np.array(found.values)) and found.states.low < found.mean < found.states.high
    assert all(map(math.isnan, estimate(results, "nrmse", "edm").states))


def test_means_over_seeds_are_those_of_each_row(results: xr.Dataset) -> None:
    scores = together(results)
    for row in ("interpolant", PARTIAL):
        there = results.sel(row=row, seed=seeds_of(results, row))
        mine = scores.sel({"method": row})
        for name in ("crps", "spread_skill", "spectrum", "spectral_log_error", "train_seconds"):
            xr.testing.assert_allclose(mine[name].drop_vars("method"), there[name].mean("seed").drop_vars("row"))
        assert (mine["crps_high"].values == there["crps"].max("seed").values).all()
    assert np.isnan(scores["crps"].sel({"method": UNSTABLE}).values[0, -1])
    assert np.isnan(scores["crps_low"].sel({"method": UNSTABLE}).values[0, -1])
    assert float(scores["failures"].sel({"method": UNSTABLE})) == 2
    assert scores["crps"].attrs == results["crps"].attrs and scores["truth_spectrum"].dims == (
        "field",
        "lead_time",
        "wavenumber",
    )


# --- ranks ---------------------------------------------------------------------------------------------------------


def test_rows_stand_in_order_and_those_that_diverged_last(results: xr.Dataset) -> None:
    places = ranking(results, "crps")
    assert {place.row for place in places} == set(LAWS) and rows_of(results, references=True) == [
        "climatology",
        "persistence",
    ]
    means = [place.score.mean for place in places if place.ranked]
    assert means == sorted(means) and len(means) == len(LAWS) - 1
    assert places[-1].row == UNSTABLE and not places[-1].ranked and math.isnan(places[-1].corrected)


def test_each_is_tested_on_the_differences_to_the_best(results: xr.Dataset) -> None:
    first, *others = [place for place in ranking(results, "vrmse") if place.ranked]
    differences = [per_state(results, "vrmse", p.row) - per_state(results, "vrmse", first.row) for p in others]
    assert [p.p for p in others] == [sign_flip_test(d) for d in differences]
    assert [p.corrected for p in others] == holm([p.p for p in others])
    assert [p.difference for p in others] == pytest.approx([d.mean() for d in differences])


def planted(offsets: dict[str, tuple[float, ...]], states: int = 12, noise: float = 0.01) -> xr.Dataset:
    """Scores that are an offset per seed and one pattern of states, paired but for a little noise."""
    seeds = len(next(iter(offsets.values())))
    common = np.random.default_rng(1).normal(1.0, 0.3, states)
    jitter = np.random.default_rng(2).normal(0, noise, (len(offsets), seeds, 1, states))
    values = np.array(list(offsets.values()))[:, :, None, None] + common + jitter
    dims = ("row", "seed", "field")
    return xr.Dataset(
        {
            "crps_states": ((*dims, "trajectory"), values),
            "crps": ((*dims, "lead_time"), values.mean(-1, keepdims=True)),
            "failures": (("row", "seed"), np.zeros(values.shape[:2])),
        },
        {"row": list(offsets), "seed": np.arange(seeds), "field": ["u"], "lead_time": [1.0]},
    )


def verdicts(results: xr.Dataset) -> dict[str, tuple[bool, bool, bool]]:
    """row → whether its corrected p-value is small, its seeds stand apart, and it is said to be beaten."""
    return {p.row: (p.corrected < 0.05, p.apart, p.beaten) for p in ranking(results, "crps")[1:]}


def test_a_row_is_beaten_if_states_and_seeds_agree() -> None:
    found = verdicts(
        planted(
            {
                "best": (0.0, 0.02, 0.04),
                "clear": (0.3, 0.32, 0.34),
                "scattered": (0.03, 0.2, 0.5),
                "same": (0.0, 0.024, 0.04),
            }
        )
    )
    assert found["clear"] == (True, True, True)
    assert found["scattered"] == (True, False, False)
    assert found["same"][2] is False


def test_seeds_that_stand_apart_are_not_enough() -> None:
    noisy = planted({"best": (0.0, 0.001), "other": (0.06, 0.061)}, noise=0.4)
    noisy["crps"] = noisy["crps"] * 0 + xr.DataArray([[0.0, 0.001], [0.06, 0.061]], dims=("row", "seed"))
    assert verdicts(noisy)["other"] == (False, True, False)


def test_one_seed_is_judged_by_the_states_alone() -> None:
    assert verdicts(planted({"best": (0.0,), "clear": (0.3,)}))["clear"] == (True, True, True)


def test_where_no_row_is_finite_none_is_tested() -> None:
    broken = planted({"a": (math.nan, 0.1), "b": (0.1, math.nan)})
    assert [place.ranked for place in ranking(broken, "crps")] == [False, False]


# --- segments and fields -------------------------------------------------------------------------------------------


@given(st.integers(1, 300))
def test_every_lead_is_in_exactly_one_of_ten_equal_segments(count: int) -> None:
    parts = segments(count)
    assert [k for part in parts for k in range(count)[part]] == list(range(count))
    lengths = [part.stop - part.start for part in parts]
    assert len(parts) == min(10, count) and max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(
    ("count", "ends"), [(12, []), (20, []), (21, [20, 21]), (60, [20, 60]), (61, [20, 60, 61]), (140, [20, 60, 140])]
)
def test_windows_end_after_20_and_60_leads(count: int, ends: list[int]) -> None:
    found = windows(count)
    assert [part.stop for part in found] == ends
    assert [part.start for part in found] == [0, *ends[:-1]][: len(ends)]


def test_segments_are_means_of_their_leads(results: xr.Dataset) -> None:
    curve_ = results["crps"].sel(row="edm").mean(("seed", "field")).values
    assert per_part(results, "crps", "edm", segments(12)) == pytest.approx(
        [curve_[part].mean() for part in segments(12)]
    )
    assert np.isnan(per_part(results, "crps", UNSTABLE, segments(12))[-1]) and np.isfinite(
        per_part(results, "crps", UNSTABLE, segments(12))[0]
    )


def test_scores_with_units_count_in_standard_deviations_where_fields_are_averaged(
    tmp_path: pytest.TempPathFactory,
) -> None:
    size = Size(grid=8, leads=2, members=3, trajectories=8, fields=("vorticity", "temperature"))
    folder = written(tmp_path / "study", Example(size, ("interpolant", "flow_matching"), (0,)))
    found = collect(stored(folder), folder)
    one, four = scales(found).values
    assert four == pytest.approx(4 * one, rel=1e-4)  # the temperature is 288 K and four times the vorticity
    both = estimate(found, "crps", "interpolant").mean
    assert both == pytest.approx(estimate(found, "crps", "interpolant", ["vorticity"]).mean / one, rel=1e-3)
    assert estimate(found, "vrmse", "interpolant").mean == pytest.approx(
        estimate(found, "vrmse", "interpolant", ["temperature"]).mean, rel=1e-3
    )


# --- curves --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    folder = written(
        tmp_path_factory.mktemp("curves"), Example(rows=("interpolant", "flow_matching", "edm", "edm_euler"))
    )
    return curves(stored(folder), folder)


def test_a_curve_is_a_mean_over_seeds_in_the_order_of_the_file(records: list[dict[str, object]]) -> None:
    twice = [
        *records,
        *({**r, "seed": 1, "crps": 3 * float(str(r["crps"]))} for r in records if r["row"] == "interpolant"),
    ]
    points = curve(twice, "interpolant")
    assert [p["value"] for p in points] == list(STEPS)
    assert [p["crps"] for p in points] == pytest.approx([2 * crps_at("interpolant", n) for n in STEPS])
    assert [p["value"] for p in curve(records, "interpolant", "temperature")] == [0.0, 0.5, 1.0, 1.5]


def test_a_point_that_diverged_is_infinite(records: list[dict[str, object]]) -> None:
    points = curve(records, UNSTABLE)
    assert points[0]["failures"] == 1 and points[0]["crps"] == math.inf
    assert all(math.isfinite(p["crps"]) for p in points[1:])


def test_calls_needed_are_those_of_the_law(records: list[dict[str, object]]) -> None:
    # (1 + 1/n) ≤ 1.05·(1 + 1/50) from n = 14.1 on: 20 of the steps tried
    found = nfe_needed(records, "interpolant")
    assert (found.steps, found.calls) == (50, 20) and found.level == pytest.approx(1.05 * crps_at("interpolant", 50))
    assert nfe_needed(records, "edm").calls == 40  # two calls a step
    assert nfe_needed(records, "interpolant", within=0.5).calls == 2
    assert math.isnan(nfe_needed(records, "interpolant", reference="flow_matching").other)
    level = nfe_needed(records, "flow_matching", reference="interpolant")
    reached = [n for n in STEPS if crps_at("interpolant", n) <= level.level]
    assert level.other == min(reached)


def test_without_50_steps_the_most_count_and_without_a_curve_nothing(records: list[dict[str, object]]) -> None:
    short = [r for r in records if r["value"] != 50]
    assert nfe_needed(short, "interpolant").steps == 20
    assert math.isnan(nfe_needed(records, "deterministic").calls)
    failed = [{**r, "crps": None, "failures": 1} if r["value"] == 50 else r for r in records]
    assert math.isnan(nfe_needed(failed, "interpolant").level)


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    with pytest.raises(ConfigError, match=r"scipy: pip install 'driftway\[study\]'"):
        student(np.array([1.0, 2.0]))
