"""Coastlines run between the cells of land and sea, on every picture of a map, and leave the map as it is."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image

from driftway import scoring
from driftway.data import save_zarr
from driftway.data.cf import land_of
from driftway.errors import DataError
from driftway.report.animations import animation
from driftway.report.coasts import coastline
from driftway.report.pictures import Case, fields_panel
from driftway.schema import EvaluationSection
from driftway.studies.judging import pictured
from tests.test_climate_network import planet, sphere
from tests.test_scoring import LEADS, persistent

LAT, LON = np.array([60.0, 20.0, -20.0, -60.0]), 45.0 * np.arange(8)


def one_cell(row: int, column: int) -> np.ndarray:
    land = np.zeros((4, 8))
    land[row, column] = 1
    return land


def vertices(land: np.ndarray) -> set[tuple[float, float]]:
    """Points (lon, lat) of the line."""
    found = coastline(Figure().subplots(), LAT, LON, land).get_paths()
    return {tuple(np.round(point, 6).tolist()) for path in found for point in path.vertices}


def test_a_cell_of_land_is_enclosed_half_way_to_its_neighbours() -> None:
    assert vertices(one_cell(1, 3)) == {(135, 40), (135, 0), (112.5, 20), (157.5, 20)}


def test_land_at_the_edge_of_a_map_goes_on_to_the_edge() -> None:
    assert vertices(one_cell(3, 7)) >= {(337.5, -40), (292.5, -80)}
    assert max(lon for lon, _ in vertices(one_cell(2, 7))) == 337.5
    assert vertices(np.ones((4, 8))) == set()


def test_more_than_half_of_a_cell_is_land() -> None:
    assert vertices(0.5 * one_cell(1, 3)) == set()
    assert vertices(0.51 * one_cell(1, 3)) == vertices(one_cell(1, 3))


def test_limits_of_the_map_stay() -> None:
    ax = Figure().subplots()
    ax.set(xlim=(10, 20), ylim=(-5, 5))
    coastline(ax, LAT, LON, one_cell(0, 0))
    assert (ax.get_xlim(), ax.get_ylim()) == ((10, 20), (-5, 5))


def globe(land: np.ndarray | None) -> Case:
    """The land itself, from north to south, as the truth and as a forecast of two members."""
    axes = {a.name: (a.name, np.asarray(a.coordinates), {"boundary": a.boundary}) for a in sphere(4, 8)}
    values = np.stack([one_cell(1, 3), one_cell(1, 3)])
    truth = xr.Dataset({"u": (("lead_time", "lat", "lon"), values)}, {"lead_time": [1.0, 2.0], **axes})
    return Case("c", truth, {"a": xr.concat([truth, truth], "realization")}, land)


def test_coasts_lie_on_every_picture_where_the_land_is() -> None:
    """The only cell of the field that is not zero is the only one of land, so the line is centred on its colour."""
    here = globe(one_cell(1, 3))
    assert np.array_equal(here.coast("u"), here.happened("u")[0]) and here.coast("u")[2, 3] == 1  # type: ignore[index]
    rows = fields_panel(here, "a").axes[:5]
    for ax in rows:
        lines = [c for c in ax.collections if c.get_paths()]
        assert len(lines) == 2  # one for each lead time
        gap = ax.images[0].get_array().shape[1] - 2 * 8  # type: ignore[union-attr]
        for start, line in zip((0, 8 + gap), lines, strict=True):
            np.testing.assert_allclose(line.get_paths()[0].vertices[:-1].mean(0), [start + 3, 2], atol=1e-9)
    bare = fields_panel(globe(None), "a")
    assert not any(ax.collections for ax in bare.axes[:5])


def test_animations_have_them_in_every_frame() -> None:
    def dark(case: Case) -> list[int]:
        with Image.open(io.BytesIO(animation(case, "a"))) as image:
            return [_dark(image, frame) for frame in range(image.n_frames)]  # type: ignore[attr-defined]

    def _dark(image: Any, frame: int) -> int:
        image.seek(frame)
        return int((np.asarray(image.convert("L")) < 70).sum())

    uniform = replace(globe(None), land=None)
    still = xr.zeros_like(uniform.truth) + 1.0
    same: dict[str, xr.Dataset] = {"a": xr.concat([still, still], "realization")}
    without, with_coasts = (dark(Case("c", still, same, land)) for land in (None, one_cell(1, 3)))
    assert all(a > b + 20 for a, b in zip(with_coasts, without, strict=True))


def test_land_on_another_grid_is_refused() -> None:
    with pytest.raises(DataError, match=r"land has the shape \(8, 4\), 'u' \(4, 8\)"):
        globe(one_cell(1, 3).T)


def test_land_is_found_by_its_names_and_may_be_each_trajectorys_own() -> None:
    mask = one_cell(0, 1)
    assert land_of({"sg": mask, "lsm": mask}) is mask and land_of({"land_sea_mask": mask}) is mask
    assert np.array_equal(land_of({"lsm": np.stack([mask, 0 * mask])}), mask)  # type: ignore[arg-type]
    assert land_of({"sg": mask}) is None


def test_reports_and_studies_take_it_from_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earth = planet()
    land = (np.arange(8 * 16).reshape(8, 16) % 3 == 0).astype(np.float32)
    data = save_zarr(replace(earth, static={"lsm": land}), tmp_path / "earth.zarr")
    forecast = persistent(data, tmp_path / "forecasts" / "persistent.zarr")
    case = pictured({"a": forecast}, data, EvaluationSection(leads=LEADS), 1)
    assert case is not None and np.array_equal(case.land, land)  # type: ignore[arg-type]
    scoring.evaluate_forecasts([forecast], data, tmp_path / "scores.json")
    seen: list[Case] = []
    monkeypatch.setattr(scoring, "build", lambda out, cases, **others: seen.extend(cases))
    scoring.report_folder(tmp_path, tmp_path / "page.html")
    assert np.array_equal(seen[0].land, land)  # type: ignore[arg-type]
