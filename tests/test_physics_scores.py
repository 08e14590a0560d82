"""Quantities of forecasts against the truth's: errors in closed form, distributions, and what is not finite."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import wasserstein_distance

from driftway.data import Trajectories, save_zarr
from driftway.data.layout import Layout
from driftway.evaluation import score
from driftway.randomness import generator
from driftway.report.physical import errors_tables, physics_panes, profiles_figure, quantity_figure
from driftway.report.plotting import encode
from driftway.report.styling import styles_of
from driftway.scoring import evaluate_forecasts, load_scores, report_folder, summary
from tests.channel import channel, grid
from tests.test_evaluation import dataset

NAMES = ("buoyancy", "velocity_x", "velocity_y")
LAYOUT = channel(16, 12, NAMES)
RAYLEIGH = np.array([1e6, 2e6, 4e6])


def flows(strength: np.ndarray, layout: Layout = LAYOUT) -> np.ndarray:
    """Rolls (..., C, *S) of this strength (...), with b that v carries upwards."""
    x, y = grid(layout)
    v = np.sin(np.pi * y) ** 2 * np.cos(np.pi / 2 * x)
    u = -2 * np.sin(2 * np.pi * y) * np.sin(np.pi / 2 * x)
    b = 1 - y + 0.1 * v
    s = np.asarray(strength)[..., None, None]
    return np.stack([b + 0 * s, s * u, s * v], -3).astype(np.float32)


def strengths(*shape: int) -> np.ndarray:
    return 0.1 * generator("strengths", *shape).uniform(0.5, 1.5, shape)


def scored(forecasts: dict[str, np.ndarray], truth: np.ndarray, layout: Layout = LAYOUT) -> xr.Dataset:
    happened = dataset(truth, layout).assign_coords(
        rayleigh=("trajectory", RAYLEIGH), prandtl=("trajectory", np.ones(3)), name=("trajectory", list("abc"))
    )
    return score({name: dataset(values, layout) for name, values in forecasts.items()}, happened, layout)


TRUE, GUESSED = strengths(3, 5), strengths(4, 3, 5)


@pytest.fixture(scope="module")
def scores() -> xr.Dataset:
    truth = flows(TRUE)
    return scored({"truth itself": truth[None], "twice": flows(2 * TRUE)[None], "guess": flows(GUESSED)}, truth)


def value(scores: xr.Dataset, name: str, method: str, quantity: str) -> float:
    return float(scores[name].sel({"method": method, "quantity": quantity}))


def test_a_forecast_that_is_the_truth_has_no_error(scores: xr.Dataset) -> None:
    for name in ("physics_error", "physics_bias", "physics_distance"):
        found = scores[name].sel({"method": "truth itself"})
        np.testing.assert_allclose(found.where(np.isfinite(found), 0), 0, atol=1e-6)
    np.testing.assert_array_equal(scores["profile_error"].sel({"method": "truth itself"}), 0)
    np.testing.assert_array_equal(scores["physics"].sel({"method": "truth itself"}), scores["truth_physics"])


def test_errors_biases_and_distances_are_those_of_the_energies(scores: xr.Dataset) -> None:
    energy = TRUE**2 * (4 / 4 + 3 / 8 / 2) / 2  # ⟨u² + v²⟩/2 of strength 1
    np.testing.assert_allclose(scores["truth_physics"].sel(quantity="kinetic_energy"), energy.mean(0), rtol=1e-5)
    assert value(scores, "physics_bias", "twice", "kinetic_energy") == pytest.approx(3, rel=1e-5)
    rms = 3 * np.sqrt((energy**2).mean()) / energy.mean()
    assert value(scores, "physics_error", "twice", "kinetic_energy") == pytest.approx(rms, rel=1e-5)
    guessed = GUESSED**2 * (1 + 3 / 16) / 2
    error = np.sqrt(((guessed.mean(0) - energy) ** 2).mean()) / energy.mean()
    assert value(scores, "physics_error", "guess", "kinetic_energy") == pytest.approx(error, rel=1e-5)
    distance = wasserstein_distance(guessed.ravel(), energy.ravel()) / energy.std()
    assert value(scores, "physics_distance", "guess", "kinetic_energy") == pytest.approx(distance, rel=0.02)
    low = np.quantile(guessed, 0.05, axis=(0, 1), method="inverted_cdf")
    found = scores["physics_q05"].sel({"method": "guess", "quantity": "kinetic_energy"})
    np.testing.assert_allclose(found, low, rtol=1e-5)


def test_each_trajectory_has_its_own_rayleigh_number(scores: xr.Dataset) -> None:
    flux = TRUE * 0.1 * 3 / 8 / 2
    nusselt = 1 + flux * np.sqrt(RAYLEIGH)[:, None]
    np.testing.assert_allclose(scores["truth_physics"].sel(quantity="nusselt"), nusselt.mean(0), rtol=1e-5)


def test_distributions_and_profiles_are_those_of_all_states(scores: xr.Dataset) -> None:
    assert scores["level"].values.tolist() == list(LAYOUT.axes[1].coordinates)
    energy, found = TRUE**2 * (1 + 3 / 16) / 2, scores["truth_physics_quantiles"].sel(quantity="kinetic_energy")
    expected = np.quantile(energy, scores["share"].values, method="inverted_cdf")
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    guessed = scores["physics_quantiles"].sel({"method": "guess", "quantity": "kinetic_energy"})
    np.testing.assert_allclose(guessed.mean(), (GUESSED**2 * (1 + 3 / 16) / 2).mean(), rtol=0.01)
    profile = scores["profiles"].sel({"method": "twice", "profile": "kinetic_energy"})
    np.testing.assert_allclose(profile, 4 * scores["truth_profiles"].sel(profile="kinetic_energy"), rtol=1e-5)
    assert float(scores["profile_error"].sel({"method": "twice", "profile": "kinetic_energy"})) == pytest.approx(3)


def test_a_forecast_that_is_not_finite_has_no_numbers_and_spoils_no_others() -> None:
    truth, bad = flows(TRUE), flows(GUESSED)
    bad[1, 2, 3:] = np.inf
    found = scored({"bad": bad, "guess": flows(GUESSED)}, truth)
    assert np.isnan(found["physics_error"].sel({"method": "bad"})).all()
    assert np.isfinite(found["physics"].sel({"method": "bad"}).isel(lead_time=slice(0, 3))).all()
    assert np.isnan(found["physics"].sel({"method": "bad"}).isel(lead_time=slice(3, 5))).all()
    assert np.isfinite(found["physics_error"].sel({"method": "guess", "quantity": "nusselt"}))
    assert all(encode(quantity_figure(found, name), "svg") for name in ("nusselt", "kinetic_energy"))


def test_data_without_such_fields_have_no_physics() -> None:
    layout = replace(LAYOUT, fields=replace(LAYOUT.fields, names=("a", "b_1", "c")))
    found = scored({"guess": flows(GUESSED)}, flows(TRUE), layout)
    assert not [name for name in found if "physics" in str(name) or "profile" in str(name)]
    assert physics_panes(found, styles_of(found), 10**6) == ()


def test_physics_may_be_left_out() -> None:
    truth = dataset(flows(TRUE), LAYOUT)
    assert "physics" not in score({"a": dataset(flows(GUESSED), LAYOUT)}, truth, LAYOUT, physics=False)


# --- the page ------------------------------------------------------------------------------------------------------


def test_tables_and_figures_tell_the_errors(scores: xr.Dataset) -> None:
    look = styles_of(scores)
    table, profiles = errors_tables(scores, look)
    assert profiles.head == (
        "method",
        "kinetic energy",
        "buoyancy",
        "variance of buoyancy",
        "Nusselt number of a level",
    )
    assert [row[0].text for row in table.rows] == ["truth itself", "twice", "guess"]
    column = table.head.index("kinetic energy")
    assert [row[column].best for row in table.rows] == [True, False, False]
    panes = physics_panes(scores, look, 10**6)
    assert [pane.label for pane in panes[:2]] == ["errors", "kinetic energy"] and panes[-1].label == "profiles"
    assert "truth 0.00" in panes[1].pictures[0].alt
    figure = quantity_figure(scores, "kinetic_energy", look)
    series, law = figure.axes
    drawn = {line.get_label(): line.get_ydata() for line in series.get_lines()}
    np.testing.assert_allclose(
        np.asarray(drawn["twice"]), scores["physics"].sel({"method": "twice", "quantity": "kinetic_energy"})
    )
    assert law.get_xlabel() == "share below"
    assert len(profiles_figure(scores, look).axes) == scores.sizes["profile"]


def test_from_forecasts_on_disk_to_the_page(tmp_path: Path) -> None:
    from driftway.codecs import Identity
    from driftway.emulator import Emulator
    from driftway.forecasting import digest_of
    from driftway.steppers import Persistence

    states = flows(strengths(10, 6))
    splits = ("train",) * 6 + ("valid",) * 1 + ("test",) * 3
    parameters = {"Rayleigh": np.geomspace(1e6, 1e8, 10), "Prandtl": np.ones(10)}
    data = Trajectories(states, LAYOUT.fields, LAYOUT.axes, 0.25, parameters=parameters, splits=splits)
    save_zarr(data, tmp_path / "data.zarr")
    start = states[7:, 0]
    about = {"label": "still", "data": str(tmp_path / "data.zarr"), "split": "test", "start": 0, "stride": 1}
    about |= {"run": "", "sampler": "", "initial": digest_of(start)}
    emulator = Emulator(Identity(), Persistence(), LAYOUT)
    emulator.forecast(torch.from_numpy(start), 5, out=tmp_path / "forecasts" / "still.zarr", attributes=about)
    found = evaluate_forecasts(
        [tmp_path / "forecasts" / "still.zarr"], tmp_path / "data.zarr", tmp_path / "scores.json"
    )
    scores = load_scores(tmp_path / "scores.json")
    kappa = parameters["Rayleigh"][7:, None] ** -0.5
    nusselt = 1 + strengths(10, 6)[7:, 1:] * 0.1 * 3 / 16 / kappa
    np.testing.assert_allclose(scores["truth_physics"].sel(quantity="nusselt"), nusselt.mean(0), rtol=1e-4)
    assert found["still"]["nusselt_error"] == pytest.approx(summary(scores)["persistence"]["nusselt_error"])
    assert json.loads((tmp_path / "scores.json").read_text())["attrs"]["quadrature"] == "x Fourier, y Chebyshev–Gauss"
    page = report_folder(tmp_path, tmp_path / "report.html").read_text()
    assert 'id="physics"' in page and "Nusselt number at the walls" in page and "Errors of profiles" in page
