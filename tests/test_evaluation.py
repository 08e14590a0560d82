"""Evaluation against direct calls on whole arrays, brute force, and an ensemble that is exchangeable with the truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from driftway import metrics
from driftway.data.axes import Axis, Fields
from driftway.data.layout import Layout
from driftway.errors import DataError
from driftway.evaluation import resolved, score, spectrum
from driftway.glossary import SCORES as EVERY
from driftway.randomness import generator
from tests.report_example import SMALL, Method, datasets

FIELDS = ("u", "v")
SPACE = 2
GRID = (8, 6)
SCORES = {name: about for name, about in EVERY.items() if not about.needs}


def layout_of(axes: tuple[Axis, ...] | None = None, fields: tuple[str, ...] = FIELDS) -> Layout:
    square = (Axis.uniform("y", GRID[0], 1.0), Axis.uniform("x", GRID[1], 1.0))
    return Layout(Fields(fields, ("m/s",) * len(fields)), axes or square, 0.5, "h")


LAYOUT = layout_of()


def dataset(values: np.ndarray, layout: Layout = LAYOUT) -> xr.Dataset:
    """Values (M, N, L, C, *S), or without M, with a variable per field."""
    axes = [axis.name for axis in layout.axes]
    dims = ["realization", "trajectory", "lead_time"][-(values.ndim - len(axes) - 1) :] + axes
    channel = values.ndim - len(axes) - 1
    variables = {name: (dims, np.take(values, c, channel)) for c, name in enumerate(layout.fields.names)}
    lead = ("lead_time", layout.lead_times(values.shape[channel - 1]), {"time_units": layout.time_units})
    return xr.Dataset(variables, {"lead_time": lead})


def arrays(members: int = 4, states: int = 3, leads: int = 5, key: str = "") -> tuple[np.ndarray, np.ndarray]:
    """An ensemble (M, N, L, C, *S) that lies near its truth (N, L, C, *S)."""
    rng = generator("evaluation", key)
    truth = rng.standard_normal((states, leads, 2, *GRID)).astype(np.float32)
    noise = rng.standard_normal((members, *truth.shape)).astype(np.float32)
    return truth + 0.5 * noise, truth


def scored(ensemble: np.ndarray, truth: np.ndarray, layout: Layout = LAYOUT, **options: Any) -> xr.Dataset:
    return score({"a": dataset(ensemble, layout)}, dataset(truth, layout), layout, **options)


def one(scores: xr.Dataset, name: str, method: str = "a") -> np.ndarray:
    """A score of one method, (C, L)."""
    return scores[name].sel({"method": method}).values


# --- values --------------------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_whole_arrays_averaged_over_initial_states_last() -> None:
    ensemble, truth = arrays()
    scores = scored(ensemble, truth)
    e, t = torch.from_numpy(ensemble).double(), torch.from_numpy(truth).double()
    whole = {
        "rmse": metrics.rmse(e.mean(0), t, space=SPACE),
        "nrmse": metrics.nrmse(e.mean(0), t, space=SPACE),
        "vrmse": metrics.vrmse(e.mean(0), t, space=SPACE),
        "vrmse_member": metrics.vrmse(e, t.expand_as(e), space=SPACE).mean(0),
        "correlation": metrics.correlation(e.mean(0), t, space=SPACE),
        "crps": metrics.crps(e, t, space=SPACE),
        "energy_score": metrics.energy_score(e, t, space=SPACE),
    }
    for name, values in whole.items():
        np.testing.assert_allclose(one(scores, name), values.mean(0).T, rtol=2e-5, err_msg=name)
    for name in ("vrmse", "crps"):
        np.testing.assert_allclose(one(scores, f"{name}_states"), whole[name].mean(1).T, rtol=2e-5)


def test_spread_and_skill_average_squares_over_initial_states_before_the_root() -> None:
    ensemble, truth = arrays()
    ensemble[:, 0] *= 3
    scores = scored(ensemble, truth)
    e = ensemble.astype(np.float64)
    variance = e.var(0, ddof=1).mean((-2, -1)).mean(0).T
    error = ((e.mean(0) - truth) ** 2).mean((-2, -1)).mean(0).T
    np.testing.assert_allclose(one(scores, "spread"), np.sqrt(variance), rtol=1e-5)
    np.testing.assert_allclose(one(scores, "skill"), np.sqrt(error), rtol=1e-5)
    np.testing.assert_allclose(one(scores, "spread_skill"), np.sqrt(5 / 4 * variance / error), rtol=1e-5)
    assert (one(scores, "skill") > one(scores, "rmse") * 1.01).all()


def test_the_pooled_vrmse_has_one_variance_for_all_initial_states() -> None:
    ensemble, truth = arrays()
    offset = np.arange(3, dtype=np.float32)[:, None, None, None, None]  # initial states that differ in their mean
    ensemble, truth = ensemble + offset, truth + offset
    found = scored(ensemble, truth)
    for c in range(2):
        error = ((ensemble.mean(0) - truth) ** 2)[:, :, c].mean((0, 2, 3))
        assert one(found, "vrmse_pooled")[c] == pytest.approx((error / truth[:, :, c].var((0, 2, 3))) ** 0.5, rel=1e-5)
    assert (one(found, "vrmse_pooled") < one(found, "vrmse")).all()


def test_crps_is_that_of_loops() -> None:
    ensemble, truth = arrays(members=3, states=2, leads=1, key="loops")
    x, y = ensemble.astype(np.float64)[:, :, 0, 1], truth.astype(np.float64)[:, 0, 1]
    points = []
    for index in np.ndindex(y.shape):
        near = np.mean([abs(x[i][index] - y[index]) for i in range(3)])
        apart = np.mean([abs(x[i][index] - x[j][index]) for i in range(3) for j in range(3) if i != j])
        points.append(near - apart / 2)
    assert one(scored(ensemble, truth), "crps")[1, 0] == pytest.approx(np.mean(points), rel=1e-5)


def test_an_ensemble_exchangeable_with_the_truth_is_calibrated_with_flat_ranks() -> None:
    """Members drawn like the truth: spread–skill 1 and a flat histogram, within the noise of 60 initial states."""
    size = replace(SMALL, trajectories=60, members=8, leads=3, methods={"perfect": Method(), "wide": Method(noise=1.3)})
    truth, forecasts = datasets(size)
    scores = score(forecasts, truth, size.layout)
    np.testing.assert_allclose(one(scores, "spread_skill", "perfect"), 1, atol=0.05)
    assert (one(scores, "spread_skill", "wide") > 1.15).all()
    ranks = one(scores, "rank_histogram", "perfect")[0].mean(0) * 9
    np.testing.assert_allclose(ranks, 1, atol=0.1)
    middle = one(scores, "rank_histogram", "wide")[0].mean(0) * 9
    assert middle[0] < 0.8 and middle[4] > 1.1


def test_one_member_is_scored_by_its_error_and_has_no_spread() -> None:
    ensemble, truth = arrays(members=1)
    scores = scored(ensemble, truth)
    error = np.abs(ensemble[0].astype(np.float64) - truth).mean((-2, -1)).mean(0).T
    np.testing.assert_allclose(one(scores, "crps"), error, rtol=1e-5)
    np.testing.assert_allclose(one(scores, "vrmse"), one(scores, "vrmse_member"), rtol=1e-5)
    for name in ("energy_score", "spread", "spread_skill", "rank_histogram"):
        assert np.isnan(one(scores, name)).all(), name
    assert int(scores["members"][0]) == 1 and int(scores["failures"][0]) == 0


@settings(deadline=None, max_examples=10)
@given(scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_scores_follow_the_units_of_the_fields(scale: float, shift: float) -> None:
    ensemble, truth = arrays(members=3, states=2, leads=2, key="units")
    before = scored(ensemble, truth)
    after = scored((scale * ensemble + shift).astype(np.float32), (scale * truth + shift).astype(np.float32))
    for name, about in SCORES.items():
        if name != "nrmse":
            factor = scale if about.dimensional else 1.0
            np.testing.assert_allclose(one(after, name), factor * one(before, name), rtol=2e-3, err_msg=name)


def test_weights_reach_every_score() -> None:
    """A weight of 0 on half the grid gives the scores of the other half."""
    ensemble, truth = arrays()
    half = layout_of(
        (replace(LAYOUT.axes[0], boundary="wall"), replace(LAYOUT.axes[1], coordinates=(0.0, 0.1, 0.2), length=0.3))
    )
    weights = torch.zeros(GRID)
    weights[:, :3] = 2.0
    weighted, cut = scored(ensemble, truth, weights=weights), scored(ensemble[..., :3], truth[..., :3], half)
    for name in (*SCORES, "rank_histogram", "correlation_time"):
        np.testing.assert_allclose(one(weighted, name), one(cut, name), rtol=2e-5, err_msg=name)


def test_the_order_of_dims_and_of_methods_changes_nothing() -> None:
    ensemble, truth = arrays()
    plain, other = dataset(ensemble), dataset(0.9 * ensemble)
    first = score({"a": plain, "b": other}, dataset(truth), LAYOUT)
    turned = plain.transpose("x", "lead_time", "realization", "y", "trajectory")
    second = score({"b": other, "a": turned}, dataset(truth).transpose("y", "trajectory", "x", "lead_time"), LAYOUT)
    for name in map(str, first.data_vars):
        if "method" in first[name].dims:
            np.testing.assert_array_equal(one(first, name), one(second, name), err_msg=name)


# --- intervals and correlation time ---------------------------------------------------------------------------------


def test_intervals_hold_the_mean_and_shrink_with_more_initial_states() -> None:
    widths = {}
    for states in (10, 160):
        scores = scored(*arrays(states=states, leads=1, key="many"))
        for name in ("vrmse", "crps", "spread_skill", "correlation"):
            low, mean, high = (one(scores, name + part) for part in ("_low", "", "_high"))
            assert (low < mean).all() and (mean < high).all(), name
            widths[name, states] = float((high - low).mean())
    for name in ("vrmse", "crps", "spread_skill", "correlation"):
        assert widths[name, 160] == pytest.approx(widths[name, 10] / 4, rel=0.5), name


def test_few_initial_states_have_no_interval() -> None:
    scores = scored(*arrays(states=3))
    assert np.isnan(one(scores, "crps_low")).all() and np.isfinite(one(scores, "crps")).all()


def test_correlation_time_crosses_for_each_initial_state_before_the_mean_and_counts_those_beyond() -> None:
    """States that lose a known share at each lead: r = share, linear between leads from r(0) = 1."""
    rng = generator("correlation")
    truth = rng.standard_normal((2, 4, 2, *GRID))
    truth -= truth.mean((-2, -1), keepdims=True)
    other = rng.standard_normal(truth.shape)
    other -= other.mean((-2, -1), keepdims=True)
    other -= truth * (other * truth).sum((-2, -1), keepdims=True) / (truth**2).sum((-2, -1), keepdims=True)
    truth, other = (v / np.sqrt((v**2).mean((-2, -1), keepdims=True)) for v in (truth, other))
    r = np.array([[0.95, 0.85, 0.75, 0.2], [0.99, 0.98, 0.97, 0.9]])[:, :, None, None, None]
    forecast = r * truth + np.sqrt(1 - r**2) * other
    scores = scored(forecast[None].astype(np.float32), truth.astype(np.float32))
    np.testing.assert_allclose(one(scores, "correlation"), r[..., 0, 0, 0].mean(0)[None].repeat(2, 0), rtol=1e-5)
    np.testing.assert_allclose(one(scores, "correlation_time"), (1.25 + 2.0) / 2, rtol=1e-4)
    assert one(scores, "censored").tolist() == [1, 1]


# --- failures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e30])
def test_a_forecast_that_diverges_fails_from_then_on_and_is_counted(value: float) -> None:
    """One point of one member is enough; 3e30 is finite, its square in float32 is not."""
    ensemble, truth = arrays()
    ensemble[1, 2, 3:, 0, 4, 4] = value
    scores = score({"a": dataset(ensemble), "b": dataset(arrays()[0])}, dataset(truth), LAYOUT)
    for name in (*SCORES, "rank_histogram", "spectrum"):
        assert np.isnan(one(scores, name)[0, 3:]).all(), name
        assert np.isfinite(one(scores, name)[0, :3]).all() and np.isfinite(one(scores, name)[1]).all(), name
        assert np.isfinite(one(scores, name, "b")).all(), name
    assert scores["failures"].values.tolist() == [1, 0]
    assert scores["first_failure"].values[0] == 2.0 and np.isnan(scores["first_failure"].values[1])
    assert np.isnan(one(scores, "crps_states")[0, 2]) and np.isfinite(one(scores, "crps_states")[0, :2]).all()


def test_a_truth_that_is_not_finite_is_refused() -> None:
    ensemble, truth = arrays()
    truth[1, 0, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="truth of initial state 1 is not finite"):
        scored(ensemble, truth)


# --- spectra -------------------------------------------------------------------------------------------------------


def test_spectra_average_members_and_initial_states_before_the_error() -> None:
    ensemble, truth = arrays(states=4)
    scores = scored(ensemble, truth)
    power = metrics.isotropic_spectrum(torch.from_numpy(ensemble).double(), space=SPACE, lengths=(1, 1)).power.mean(
        (0, 1)
    )
    reference = metrics.isotropic_spectrum(torch.from_numpy(truth).double(), space=SPACE, lengths=(1, 1)).power.mean(0)
    np.testing.assert_allclose(one(scores, "spectrum"), power.transpose(0, 1), rtol=1e-4)
    np.testing.assert_allclose(scores["truth_spectrum"], reference.transpose(0, 1), rtol=1e-4)
    bands = metrics.spectral_rmse(power, reference, k_max=3)
    for name in ("low", "mid", "high", "all"):
        np.testing.assert_allclose(
            one(scores, "spectral_rmse")[:, list(bands).index(name)], bands[name].mean(0), rtol=1e-3
        )


def test_a_perfect_forecast_has_no_spectral_error_and_half_the_amplitude_three_quarters() -> None:
    _, truth = arrays()
    scores = score({"a": dataset(truth[None]), "b": dataset(0.5 * truth[None])}, dataset(truth), LAYOUT)
    np.testing.assert_allclose(one(scores, "spectral_rmse"), 0, atol=1e-5)
    np.testing.assert_allclose(one(scores, "spectral_rmse", "b"), 0.75, rtol=1e-4)
    np.testing.assert_allclose(one(scores, "spectral_rmse_paper", "b"), 3, rtol=1e-4)
    np.testing.assert_allclose(one(scores, "spectral_log_error", "b"), np.log(4), rtol=1e-4)


@pytest.mark.parametrize("periodic", [0, 1])
def test_spectra_are_taken_along_the_periodic_axis_of_a_channel(periodic: int) -> None:
    axes = list(LAYOUT.axes)
    axes[1 - periodic] = replace(axes[1 - periodic], boundary="wall")
    states = torch.from_numpy(arrays()[1]).double()
    power = spectrum(states, layout_of(tuple(axes)))
    lines = states.movedim(-2, -1) if periodic == 0 else states
    expected = metrics.isotropic_spectrum(lines, space=1).power.mean(-2)
    assert power is not None
    torch.testing.assert_close(power, expected)


def test_wavenumbers_count_waves_over_the_longest_side() -> None:
    """A wave along the short side of a 4:1 box has four times the wavenumber."""
    layout = Layout(Fields(("u",), ("1",)), (Axis.uniform("y", 16, 1.0), Axis.uniform("x", 16, 4.0)), 1.0)
    wave = torch.cos(2 * torch.pi * torch.arange(16) / 16)[:, None].expand(16, 16)
    power = spectrum(wave[None], layout)
    assert power is not None and int(power.argmax()) == 4


def test_without_a_periodic_axis_there_are_no_spectra_and_all_other_scores() -> None:
    layout = layout_of(tuple(replace(axis, boundary="wall") for axis in LAYOUT.axes))
    scores = scored(*arrays(), layout)
    assert "spectrum" not in scores and "spectral_rmse" not in scores
    assert np.isfinite(one(scores, "crps")).all()


def test_a_grid_too_small_for_three_bands_has_spectra_without_band_errors() -> None:
    ensemble, truth = (values[..., :4, :4] for values in arrays())
    scores = scored(ensemble, truth, layout_of((Axis.uniform("y", 4, 1.0), Axis.uniform("x", 4, 1.0))))
    assert "spectrum" in scores and "spectral_rmse" not in scores


def test_what_the_truth_resolves_ends_at_the_dealiased_wavenumber_whatever_the_mean() -> None:
    layout = Layout(Fields(("u",), ("1",)), (Axis.uniform("x", 32, 1.0),), 1.0)
    x = torch.arange(32) / 32
    waves = sum(torch.cos(2 * torch.pi * n * x + n) / n**2 for n in range(1, 11))
    for mean in (0.0, 300.0):
        power = spectrum((waves + mean)[None, None].double(), layout)
        assert power is not None and resolved(power, layout) == [10.0]
    assert resolved(torch.zeros(1, 1, 17), layout) == [0.0]


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.drop_vars("v"), "forecast 'a' and truth must both have the fields v"),
        (lambda d: d.isel(trajectory=slice(0, 2)), "forecast 'a' has 2 along trajectory, the truth 3"),
        (lambda d: d.isel(lead_time=slice(0, 4)), "forecast 'a' has 4 along lead_time, the truth 5"),
        (lambda d: d.isel(x=slice(0, 5)), "forecast 'a' has 5 along x, the truth 6"),
        (lambda d: d.isel(realization=slice(0, 0)), "forecast 'a' has no members"),
        (lambda d: d.isel(realization=0), "forecast 'a' has no members"),
    ],
)
def test_a_forecast_that_does_not_fit_the_truth_is_refused_by_name(change: Any, message: str) -> None:
    ensemble, truth = arrays()
    with pytest.raises(DataError, match=message):
        score({"a": change(dataset(ensemble))}, dataset(truth), LAYOUT)
