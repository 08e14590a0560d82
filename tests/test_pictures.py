"""Pictures of forecasts: what is shown, on which scale, and what becomes of values that are not finite."""

from __future__ import annotations

import io

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgba
from PIL import Image

from driftway.errors import DataError
from driftway.randomness import generator
from driftway.report.animations import animation
from driftway.report.pictures import (
    MISSING,
    Case,
    error_scale,
    field_scale,
    fields_panel,
    members_panel,
    views,
)
from driftway.report.plotting import encode

LEADS = 4


def case(members: int = 3, shape: tuple[int, ...] = (8, 12), offset: float = 0.0) -> Case:
    rng = generator("pictures", members)
    axes = ("y", "x")[-len(shape) :]
    lead = ("lead_time", 0.25 * np.arange(1, LEADS + 1), {"time_units": "s"})

    def dataset(values: np.ndarray, dims: tuple[str, ...]) -> xr.Dataset:
        return xr.Dataset({"u": ((*dims, "lead_time", *axes), values, {"units": "m/s"})}, {"lead_time": lead})

    truth = rng.standard_normal((LEADS, *shape)) + offset
    forecast = truth + 0.1 * rng.standard_normal((members, LEADS, *shape))
    return Case("test 0", dataset(truth, ()), {"a": dataset(forecast, ("realization",))})


def frames(data: bytes) -> list[np.ndarray]:
    with Image.open(io.BytesIO(data)) as image:
        found = []
        for k in range(getattr(image, "n_frames", 1)):
            image.seek(k)
            found.append(np.asarray(image.convert("RGB")).astype(int))
    return found


def test_views_of_an_ensemble_are_truth_mean_two_members_and_the_error_of_the_mean() -> None:
    here = case()
    found, members = views(here, "a", "u"), here.members("a", "u")
    assert list(found) == ["truth", "ensemble mean", "member 1", "member 2", "mean − truth"]
    np.testing.assert_allclose(found["mean − truth"], members.mean(0) - here.happened("u"))
    np.testing.assert_array_equal(found["member 2"], members[1])


def test_views_of_one_member_are_truth_forecast_and_error() -> None:
    here = case(members=1)
    alone = Case("x", here.truth, {"a": here.forecasts["a"].isel(realization=0)})
    for one in (here, alone):
        found = views(one, "a", "u")
        assert list(found) == ["truth", "forecast", "forecast − truth"]
        np.testing.assert_allclose(found["forecast − truth"], found["forecast"] - found["truth"])


def test_the_first_axis_is_horizontal_the_second_points_up_and_lengths_are_to_scale() -> None:
    """A field that is 1 at the end of the first axis alone is so at the right; 12 × 8 cells of 4 × 1 are 1 : 6."""
    right = np.zeros((1, 8, 12))
    right[:, -1] = 1
    lengths = {"x": ("x", np.arange(8.0), {"length": 1.0}), "y": ("y", np.arange(12.0), {"length": 6.0})}
    truth = xr.Dataset({"u": (("lead_time", "x", "y"), right)}, {"lead_time": [1.0], **lengths})
    here = Case("c", truth, {"a": truth})
    picture, ax = here.happened("u")[0], fields_panel(here, "a").axes[0]
    assert picture.shape == (12, 8) and (picture[:, -1] == 1).all() and (picture[:, :-1] == 0).all()
    assert ax.images[0].origin == "lower" and ax.get_aspect() == pytest.approx((6 / 12) / (1 / 8))
    unknown = Case("c", truth.drop_vars(["x", "y"]), {"a": truth.drop_vars(["x", "y"])})
    assert fields_panel(unknown, "a").axes[0].get_aspect() == 1


@pytest.mark.parametrize("falling", [True, False])
def test_on_a_sphere_longitude_is_horizontal_and_north_is_up(falling: bool) -> None:
    lat = np.array([60.0, 20.0, -20.0, -60.0]) if falling else np.array([-60.0, -20.0, 20.0, 60.0])
    axes = {
        "lat": ("lat", lat, {"length": 180.0, "boundary": "pole"}),
        "lon": ("lon", 45.0 * np.arange(8), {"length": 360.0, "boundary": "periodic"}),
    }
    u = np.broadcast_to(lat[:, None] + np.arange(8) / 100, (1, 4, 8))
    truth = xr.Dataset({"u": (("lead_time", "lat", "lon"), u)}, {"lead_time": [1.0], **axes})
    here = Case("c", truth, {"a": truth})
    for picture in (here.happened("u")[0], here.members("a", "u")[0, 0]):
        assert picture.shape == (4, 8) and np.allclose(picture[:, 0], [-60, -20, 20, 60])
        assert (np.diff(picture, axis=1) > 0).all()
    assert here.aspect("u") == pytest.approx(1.0)


def test_a_field_that_changes_sign_is_white_at_zero_and_another_spans_its_values() -> None:
    signed, positive = field_scale(case().happened("u")), field_scale(case(offset=50).happened("u"))
    assert signed.low == -signed.high and signed.colors == "RdBu_r"
    assert 40 < positive.low < positive.high < 60 and positive.colors == "viridis"
    assert field_scale(np.full((2, 3), 7.0)).high > field_scale(np.full((2, 3), 7.0)).low
    assert field_scale(np.full((2, 3), np.nan)).high == 1


def test_the_scale_is_the_truths_whatever_the_forecast_does() -> None:
    """A forecast a hundred times too large leaves the picture of the truth as it was, and saturates."""
    mild, wild = case(), case()
    wild.forecasts["a"]["u"][:] = 100 * wild.forecasts["a"]["u"]
    (truth, mean), (same, far) = (
        [np.asarray(ax.images[0].get_array()) for ax in fields_panel(c, "a").axes[:2]] for c in (mild, wild)
    )
    np.testing.assert_array_equal(truth, same)
    ends = field_scale(mild.happened("u")).mappable().to_rgba([-1e9, 1e9])
    saturated = [(np.abs(picture[..., None, :] - ends).max(-1) < 0.01).any(-1).mean() for picture in (mean, far)]
    assert saturated[0] < 0.1 and saturated[1] > 0.8


def test_what_is_not_finite_is_grey() -> None:
    values = np.array([[np.nan, np.inf], [0.5, -np.inf]])
    colors = field_scale(np.array([-1.0, 1.0])).mappable().to_rgba(np.ma.masked_invalid(values))
    for index in ((0, 0), (0, 1), (1, 1)):
        np.testing.assert_allclose(colors[index], to_rgba(MISSING), atol=1 / 255)
    assert not np.allclose(colors[1, 0], to_rgba(MISSING), atol=0.05)
    assert error_scale(np.array([-2.0, 1.0, np.nan])).high == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize("shape", [(8, 12), (40, 4), (32,)])
@pytest.mark.parametrize("members", [1, 3])
def test_panels_and_animations_are_drawn_for_one_and_two_axes(shape: tuple[int, ...], members: int) -> None:
    here = case(members, shape)
    here.forecasts["a"]["u"][{"lead_time": slice(2, None)}] = np.nan
    rows = 3 if members == 1 else 5
    panel = fields_panel(here, "a")
    assert encode(panel, "png", dpi=30).startswith(b"\x89PNG")
    shown = [ax.get_ylabel() or ax.get_title() for ax in panel.axes[:rows]]
    assert len(shown) == rows and (shown[-1] == list(views(here, "a", "u"))[-1])
    assert len(frames(animation(here, "a"))) == LEADS


def test_a_panel_shows_five_lead_times_from_the_first_to_the_last() -> None:
    here = case()
    assert [t.get_text() for t in fields_panel(here, "a").axes[0].get_xticklabels()] == here.times()
    chosen = fields_panel(here, "a", leads=[0, 3]).axes[0].get_xticklabels()
    assert [t.get_text() for t in chosen] == ["0.25 s", "1 s"]


def test_members_stand_below_the_truth_on_its_scale_at_leads_that_grow_apart() -> None:
    here = case()
    other = Case("test 0", here.truth, {**here.forecasts, "b": -here.forecasts["a"]})
    panel = members_panel(other, ["b", "a"], "u")
    rows = panel.axes[:3]
    assert [ax.get_ylabel() for ax in rows] == ["truth", "b", "a"] and len(panel.axes) == 4  # one bar
    expected = members_panel(here, ["a"], "u").axes
    for k, j in ((0, 0), (2, 1)):
        np.testing.assert_array_equal(rows[k].images[0].get_array(), expected[j].images[0].get_array())
    colors = field_scale(here.happened("u")).mappable().to_rgba(-here.members("a", "u")[0, 0])
    np.testing.assert_allclose(np.asarray(rows[1].images[0].get_array())[:, : colors.shape[1]], colors)
    long = members_panel(Case("c", *_longer(here, 100)), ["a"], "u").axes[0].get_xticklabels()
    assert [label.get_text() for label in long] == ["1", "3", "10", "32", "100"]


def _longer(here: Case, leads: int) -> tuple[xr.Dataset, dict[str, xr.Dataset]]:
    at = {"lead_time": np.arange(1.0, leads + 1)}
    first = here.truth.isel(lead_time=[0] * leads).assign_coords(at)
    return first, {"a": here.forecasts["a"].isel(lead_time=[0] * leads).assign_coords(at)}


def test_members_on_one_axis_are_space_time_pictures_side_by_side() -> None:
    panel = members_panel(case(shape=(32,)), ["a"], "u")
    assert [ax.get_title() for ax in panel.axes[:2]] == ["truth", "a"] and len(panel.axes) == 3


def test_an_animation_keeps_to_its_limit_of_bytes() -> None:
    here = case(shape=(64, 64))
    free, limited = animation(here, "a"), animation(here, "a", limit=8000)
    assert len(free) > 8000 >= len(limited) and len(frames(limited)) == LEADS


def test_one_lead_time_gives_one_frame() -> None:
    here = case()
    first = {"lead_time": slice(0, 1)}
    still = Case("x", here.truth.isel(first), {"a": here.forecasts["a"].isel(first)})
    assert len(frames(animation(still, "a"))) == 1


def test_what_cannot_be_drawn_is_refused_by_name() -> None:
    here = case()
    with pytest.raises(DataError, match=r"truth 'u' has dims .* choose one trajectory"):
        Case("c", here.truth.expand_dims(trajectory=2, axis=0).expand_dims(z=2), {})
    with pytest.raises(DataError, match="case 'c', method 'a': field 'u' of the truth is missing"):
        Case("c", here.truth, {"a": here.forecasts["a"].rename(u="w")})
    with pytest.raises(DataError, match="select the same leads and grid"):
        Case("c", here.truth, {"a": here.forecasts["a"].isel(x=slice(0, 5))})
    with pytest.raises(DataError, match="method 'a' has no members"):
        views(Case("c", here.truth, {"a": here.forecasts["a"].isel(realization=slice(0, 0))}), "a", "u")
