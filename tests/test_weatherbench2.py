"""Scores against WeatherBench 2's definitions, written out beside them (Rasp et al. 2024, arXiv 2308.15560).

Its arrays are (time, number, latitude, longitude); means over space weigh by the areas of cells whose bounds lie in the
middle between latitudes, and at the poles.
"""

from __future__ import annotations

import numpy as np
import pytest
import scoringrules
import torch
import xarray as xr

from driftway.calculus import weights
from driftway.data.axes import Axis, Fields
from driftway.data.layout import Layout
from driftway.evaluation import score
from driftway.metrics import bias, mae
from driftway.sphere import cell_areas, quadrature

TIMES, MEMBERS, LONGITUDES = 5, 4, 8
GAUSS = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(32)[0]))
GRIDS = {
    "with poles": np.linspace(-90, 90, 13),
    "half a cell off": np.linspace(90 - 7.5, -90 + 7.5, 12),
    "Gaussian": GAUSS[::-1],
}


def area_weights(latitude: np.ndarray) -> np.ndarray:
    """sin(upper) − sin(lower) of each cell, 1 on average."""
    rising = np.deg2rad(np.sort(latitude))
    bounds = np.concatenate([[-np.pi / 2], (rising[:-1] + rising[1:]) / 2, [np.pi / 2]])
    found = np.sin(bounds[1:]) - np.sin(bounds[:-1])
    found = found / found.mean()
    return found if latitude[0] < latitude[-1] else found[::-1]


def averaged(values: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """The mean over latitude and longitude."""
    return np.average(values.mean(-1), axis=-1, weights=area_weights(latitude))


@pytest.fixture(params=GRIDS)
def case(request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    latitude, rng = GRIDS[request.param], np.random.default_rng(0)
    shape = (TIMES, len(latitude), LONGITUDES)
    usual = 280 + rng.standard_normal(shape)
    truth = usual + 2 * rng.standard_normal(shape)
    forecast = usual[:, None] + 0.4 * (truth - usual)[:, None] + 0.3 + rng.standard_normal((TIMES, MEMBERS, *shape[1:]))
    return {"latitude": latitude, "truth": truth, "forecast": forecast, "climatology": usual}


def ours(case: dict[str, np.ndarray], areas: bool = True) -> xr.Dataset:
    """All scores of this package, of one lead time."""
    latitude = Axis("lat", tuple(case["latitude"]), "pole", units="degrees_north")
    longitude = Axis.uniform("lon", LONGITUDES, 360.0, units="degrees_east")
    layout = Layout(Fields(("t",), ("K",)), (latitude, longitude), 6.0, "h")
    lead = {"lead_time": ("lead_time", [6.0], {"time_units": "h"})}
    dims = ("trajectory", "lead_time", "lat", "lon")

    def dataset(name: str) -> xr.Dataset:
        return xr.Dataset({"t": (dims, case[name][:, None])}, lead)

    members = xr.Dataset({"t": (("realization", *dims), np.moveaxis(case["forecast"], 1, 0)[:, :, None])}, lead)
    given = weights(layout.axes, areas=True) if areas else None
    usual = dataset("climatology")
    found = score({"x": members}, dataset("truth"), layout, weights=given, climatology=usual, physics=False)
    return found.isel(method=0, field=0, lead_time=0)


def test_weights_are_cell_areas(case: dict[str, np.ndarray]) -> None:
    latitude = tuple(case["latitude"])
    np.testing.assert_allclose(cell_areas(latitude) * len(latitude) / 2, area_weights(case["latitude"]), rtol=1e-12)


def test_errors_of_the_ensemble_mean(case: dict[str, np.ndarray]) -> None:
    error = case["forecast"].mean(1) - case["truth"]
    square = averaged(error**2, case["latitude"])
    assert float(ours(case)["skill"]) == pytest.approx(np.sqrt(square.mean()), rel=1e-10)  # EnsembleMeanMSE, then √
    assert float(ours(case)["rmse"]) == pytest.approx(np.sqrt(square).mean(), rel=1e-10)  # …RMSESqrtBeforeTimeAvg


def test_errors_of_members(case: dict[str, np.ndarray]) -> None:
    error = case["forecast"] - case["truth"][:, None]
    square = averaged(error**2, case["latitude"])
    assert float(ours(case)["rmse_member"]) == pytest.approx(np.sqrt(square.mean()), rel=1e-10)


def test_bias_and_absolute_error(case: dict[str, np.ndarray]) -> None:
    forecast, truth = (torch.from_numpy(v)[:, None] for v in (case["forecast"][:, 0], case["truth"]))
    areas = torch.from_numpy(np.repeat(area_weights(case["latitude"])[:, None], LONGITUDES, 1))
    error = case["forecast"][:, 0] - case["truth"]
    for score_of, expected in ((bias, error), (mae, np.abs(error))):
        found = score_of(forecast, truth, space=2, weights=areas)[:, 0]
        np.testing.assert_allclose(found, averaged(expected, case["latitude"]), rtol=1e-10)


def test_anomaly_correlation(case: dict[str, np.ndarray]) -> None:
    f, o = case["forecast"].mean(1) - case["climatology"], case["truth"] - case["climatology"]
    mean = [averaged(product, case["latitude"]) for product in (f * o, f**2, o**2)]
    assert float(ours(case)["acc"]) == pytest.approx((mean[0] / np.sqrt(mean[1] * mean[2])).mean(), rel=1e-10)


def test_crps(case: dict[str, np.ndarray]) -> None:
    x, y = case["forecast"], case["truth"]
    rank = x.argsort(1).argsort(1) + 1
    spread = 2 * ((2 * rank - MEMBERS - 1) * x).mean(1) / (MEMBERS - 1)
    expected = averaged(np.abs(x - y[:, None]).mean(1) - spread / 2, case["latitude"]).mean()
    assert float(ours(case)["crps"]) == pytest.approx(expected, rel=1e-9)
    fair = scoringrules.crps_ensemble(y, np.moveaxis(x, 1, -1), estimator="fair")
    assert averaged(fair, case["latitude"]).mean() == pytest.approx(expected, rel=1e-9)


def test_spread_and_its_ratio_to_skill(case: dict[str, np.ndarray]) -> None:
    variance = averaged(case["forecast"].var(1, ddof=1), case["latitude"]).mean()
    square = averaged((case["forecast"].mean(1) - case["truth"]) ** 2, case["latitude"]).mean()
    found = ours(case)
    assert float(found["spread"]) == pytest.approx(np.sqrt(variance), rel=1e-9)
    ratio = np.sqrt(variance / square)  # without the factor of finite ensembles
    assert float(found["spread_skill"]) == pytest.approx(np.sqrt((MEMBERS + 1) / MEMBERS) * ratio, rel=1e-9)


@pytest.mark.parametrize(("grid", "most"), [("with poles", 0.23), ("half a cell off", 0.15), ("Gaussian", 0.06)])
def test_by_how_much_quadrature_weighs_otherwise(grid: str, most: float) -> None:
    """Largest relative difference of a latitude's weight, nearest to the poles; both rules have the sphere's area."""
    latitude = tuple(GRIDS[grid])
    exact, areas = quadrature(latitude)[1], cell_areas(latitude)
    assert exact.sum() == pytest.approx(areas.sum()) == pytest.approx(2)
    apart = np.abs(areas / exact - 1).max()
    assert 0.9 * most < apart < most
    assert np.abs(areas / exact - 1)[1:-1].max() < 0.03


def test_by_how_much_scores_differ(case: dict[str, np.ndarray]) -> None:
    for name in ("skill", "crps", "acc", "spread"):
        assert float(ours(case, areas=False)[name]) == pytest.approx(float(ours(case)[name]), rel=0.02)
