"""Figures: stable styles, readable names, what is drawn, and no global state."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from driftway.report import plotting
from driftway.report.panels import apart
from driftway.report.plotting import relative_ranks, score_curves, spectra_figure
from driftway.report.styling import GREYS, evenly, plain, styles, styles_of
from tests.report_example import METHODS, SMALL, Method, datasets, scores_of

REFERENCES = ("persistence", "climatology", "autoencoder floor", "autoencoder floor, other")


@pytest.fixture(scope="module")
def scores() -> xr.Dataset:
    """A small study with a method that diverges."""
    size = SMALL.__class__(
        grid=16,
        leads=6,
        members=4,
        trajectories=8,
        fields=("vorticity",),
        methods={**METHODS, "bad": Method(diverges=True)},
    )
    return scores_of(size, *datasets(size))


# --- styles --------------------------------------------------------------------------------------------------------


def test_no_two_methods_look_alike() -> None:
    many = [f"method {k}" for k in range(40)]
    assert len(set(styles(many).values())) == 40
    one_run = styles(many, dict.fromkeys(many, "run"), {m: f"sampler {k % 3}" for k, m in enumerate(many)})
    assert len(set(one_run.values())) == 40


def test_a_run_has_a_colour_and_a_sampler_a_line() -> None:
    methods = [f"{run}, {sampler}" for run in ("si", "fm") for sampler in ("sde", "ode")]
    look = styles(methods, {m: m[:2] for m in methods}, {m: m[-3:] for m in methods})
    assert look["si, sde"].color == look["si, ode"].color != look["fm, sde"].color
    assert look["si, sde"].line == look["fm, sde"].line != look["si, ode"].line


def test_references_are_grey_and_leave_the_colours_of_methods_alone() -> None:
    with_references = styles([*REFERENCES, "a", "b"])
    assert {look.color for m, look in with_references.items() if m in REFERENCES} <= {color for color, _ in GREYS}
    assert {m: with_references[m] for m in ("a", "b")} == styles(["a", "b"])
    assert all(look.marker == "" for m, look in with_references.items() if m in REFERENCES)
    assert len({with_references[m] for m in REFERENCES}) == 4


def test_a_training_curve_has_the_colour_of_its_run(scores: xr.Dataset) -> None:
    look = styles_of(scores, ["si", "vp"])
    assert look["si"].color == look["SI, SDE"].color and look["vp"].color == look["DDIM"].color


# --- curves --------------------------------------------------------------------------------------------------------


def lines(figure: Figure, panel: int = 0) -> dict[str, np.ndarray]:
    return {str(line.get_label()): np.asarray(line.get_ydata()) for line in figure.axes[panel].get_lines()}


def test_curves_are_the_scores_and_bands_their_intervals(scores: xr.Dataset) -> None:
    ax = score_curves(scores, "vrmse").axes[0]
    drawn = lines(ax.get_figure())  # type: ignore[arg-type]
    assert set(drawn) == set(map(str, scores["method"].values))
    for method in ("SI, SDE", "persistence"):
        np.testing.assert_array_equal(drawn[method], scores["vrmse"].sel({"method": method}).values[0])
    assert len(ax.collections) == 7
    band = ax.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(np.asarray(band)[:, 1].max(), scores["vrmse_high"].values[0].max())


def test_every_curve_is_named_at_its_end_and_one_that_stops_says_so(scores: xr.Dataset) -> None:
    ax = score_curves(scores, "vrmse").axes[0]
    names = {text.get_text(): text for text in ax.texts}
    assert set(names) == {*map(str, scores["method"].values[:-1]), "bad (diverged)"}
    assert to_hex(names["DDIM"].get_color()) == styles_of(scores)["DDIM"].color.lower()
    heights = sorted(text.get_position()[1] for text in ax.texts)
    assert min(b - a for a, b in pairwise(heights)) > 0.04
    assert ax.get_xlim()[1] >= float(scores["lead_time"][-1])


def test_several_fields_have_a_panel_each_and_one_legend(scores: xr.Dataset) -> None:
    both = xr.concat([scores, scores.assign_coords(field=["temperature"])], "field", data_vars="minimal")
    figure = score_curves(both, "crps")
    assert [ax.get_title() for ax in figure.axes] == ["vorticity", "temperature"]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert set(names) == set(map(str, scores["method"].values))


def test_the_legend_fits_into_the_figure(scores: xr.Dataset) -> None:
    long = scores.assign_coords(method=[f"a method with quite a long name, {m}" for m in scores["method"].values])
    figure = spectra_figure(long, "vorticity")
    plotting.encode(figure, "png")
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.001, 0.08))
def test_names_keep_their_order_and_distance_and_stay_inside(levels: list[float], gap: float) -> None:
    moved = apart(sorted(levels), gap)
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(moved))
    assert all(-1e-9 <= level <= 1 + 1e-9 for level in moved)


def test_names_that_are_far_apart_are_not_moved() -> None:
    assert apart([0.1, 0.5, 0.9], 0.05) == pytest.approx([0.1, 0.5, 0.9])
    assert apart([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])


def test_an_axis_is_logarithmic_where_scores_span_more_than_two_decades(scores: xr.Dataset) -> None:
    wide = scores.copy(deep=True)
    wide["vrmse"][{"method": 0}] *= 1e4
    assert score_curves(scores, "vrmse").axes[0].get_yscale() == "linear"
    assert score_curves(wide, "vrmse").axes[0].get_yscale() == "log"


# --- other figures -------------------------------------------------------------------------------------------------


def test_spectra_are_shown_at_the_first_the_middle_and_the_last_lead(scores: xr.Dataset) -> None:
    figure = spectra_figure(scores, "vorticity")
    assert [ax.get_title() for ax in figure.axes[:3]] == ["lead 0.1 s", "lead 0.3 s", "lead 0.6 s"]
    drawn = lines(figure, 2)
    last = scores.sel(field="vorticity").isel(lead_time=-1)
    shown = slice(1, int(last["resolved"]) + 1)
    np.testing.assert_array_equal(drawn["truth"], last["truth_spectrum"].values[shown])
    np.testing.assert_array_equal(drawn["EDM"], last["spectrum"].sel({"method": "EDM"}).values[shown])
    ratio = figure.axes[5].get_lines()[0].get_ydata()
    np.testing.assert_allclose(ratio, drawn["SI, SDE"] / drawn["truth"])


def test_spectra_of_one_lead_have_one_column(scores: xr.Dataset) -> None:
    assert len(spectra_figure(scores.isel(lead_time=[2]), "vorticity").axes) == 2
    assert len(spectra_figure(scores, "vorticity", leads=[0, 5]).axes) == 4


def test_flat_ranks_are_drawn_at_one_over_the_ranks_a_method_has() -> None:
    padded = xr.DataArray([[2.0, 2.0, 2.0, np.nan], [1.0, 1.0, 1.0, np.nan], [np.nan] * 4], dims=("lead_time", "rank"))
    np.testing.assert_allclose(relative_ranks(padded), [1, 1, 1])
    assert relative_ranks(padded[2:]).size == 0


def test_ensemble_figures_have_a_panel_for_each_ensemble(scores: xr.Dataset) -> None:
    ensembles = ["SI, SDE", "flow matching", "DDIM", "EDM", "bad"]
    for draw in (plotting.rank_histogram_figure, plotting.spread_and_skill_figure):
        titles = [ax.get_title() for ax in draw(scores, "vorticity").axes if ax.get_title()]
        assert titles == ensembles
    ratio = plotting.spread_skill_figure(scores).axes[0]
    assert set(lines(ratio.get_figure())) >= set(ensembles)  # type: ignore[arg-type]


def test_calls_are_drawn_for_methods_that_have_both_and_stayed_finite(scores: xr.Dataset) -> None:
    points = plotting.calls_points(scores, "crps")
    assert set(points) == {"SI, SDE", "SI, noise-free", "flow matching", "DDIM", "EDM", "FNO"}
    assert points["EDM"] == (10.0, pytest.approx(float(scores["crps"].sel({"method": "EDM"}).mean())))
    assert plotting.calls_points(scores.drop_vars("calls"), "crps") == {}


# --- purity --------------------------------------------------------------------------------------------------------


def test_drawing_changes_neither_scores_nor_settings_and_never_needs_pyplot(scores: xr.Dataset) -> None:
    before, settings = scores.copy(deep=True), dict(mpl.rcParams)
    look = styles_of(scores, ["si"])
    for figure in (
        score_curves(scores, "vrmse"),
        spectra_figure(scores, "vorticity"),
        plotting.calls_figure(scores, "crps"),
        plotting.training_figure({"si": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]}, look),
    ):
        plotting.encode(figure, "png", dpi=30)
    xr.testing.assert_identical(scores, before)
    assert dict(mpl.rcParams) == settings
    for name in ("plotting", "panels", "pictures", "styling", "parts", "study_plotting"):
        tree = ast.parse((Path(plotting.__file__).parent / f"{name}.py").read_text())
        imported = [ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
        assert not any("pyplot" in line for line in imported)


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_equal_figures_give_equal_bytes(scores: xr.Dataset, kind: str) -> None:
    first, second = (plotting.encode(score_curves(scores, "crps"), kind, dpi=40) for _ in range(2))
    assert first == second


def test_dollars_are_shown_as_they_are(scores: xr.Dataset) -> None:
    named = scores.isel(method=[0]).assign_coords(method=["$x_1"])
    figure = score_curves(named, "vrmse")
    plotting.encode(figure, "png", dpi=30)
    assert figure.axes[0].texts[0].get_text() == plain("$x_1")


@given(st.integers(1, 200), st.integers(2, 9))
def test_evenly_keeps_both_ends(count: int, most: int) -> None:
    chosen = evenly(count, most)
    assert chosen[0] == 0 and chosen[-1] == count - 1 and len(chosen) == min(count, most)
