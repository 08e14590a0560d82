"""Forecasts of a run from a data set: from the right frame, with what is known there, and what they cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftway.data import open_data, save_zarr
from driftway.data.forecasts import open_forecast
from driftway.emulator import Emulator
from driftway.errors import ConfigError, DataError
from driftway.forecasting import cost, forecast_run, stride_of
from driftway.samplers import EulerMaruyama, Heun
from driftway.workflow import fit_stepper
from tests import small


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data of a parameter, a static field and a forcing, and a run that steps two frames at once."""
    folder = tmp_path_factory.mktemp("forecasting")
    data = save_zarr(small.known_trajectories(), folder / "known.zarr")
    strided = {"path": str(data), "stride": 2}
    training = {"steps": 20, "learning_rate": 0.02}
    fit_stepper(small.experiment(folder, data, data=strided, training=training), folder / "run")
    return folder


def forecast(place: Path, out: Path, **settings: Any) -> dict[str, Any]:
    return forecast_run(place / "run", place / "known.zarr", out, **{"leads": 2, "members": 3, **settings})


@pytest.mark.parametrize(("start", "split"), [(0, "test"), (3, "valid")])
def test_a_forecast_starts_from_its_frame_and_knows_what_is_known_at_each(
    place: Path, tmp_path: Path, start: int, split: str
) -> None:
    """Lead l of a run that steps two frames is stepped with the forcing of frame start + 2(l − 1)."""
    forecast(place, tmp_path / "out.zarr", start=start, split=split, seed=5, batch=2)
    found = open_forecast(tmp_path / "out.zarr")
    part = open_data(place / "known.zarr").split(split)
    expected = Emulator.load(place / "run").forecast(
        np.asarray(part.states)[:, start],
        leads=2,
        members=3,
        seed=5,
        keys=[f"{split} {row}, frame {start}" for row in range(2)],
        conditioning=lambda lead: part.conditioning(np.arange(2), np.full(2, start + 2 * (lead - 1))),
    )
    np.testing.assert_allclose(found["u"], expected["u"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["lead_time"], [1.0, 2.0])


def test_forecasts_from_other_frames_and_other_splits_draw_other_noise(tmp_path: Path) -> None:
    """All states are equal, so that forecasts differ by their noise alone."""
    given = small.known_trajectories()
    equal = {
        "states": np.broadcast_to(np.asarray(given.states)[:1, :1], given.states.shape).copy(),
        "parameters": {"strength": np.ones(10, np.float32)},
        "forcing": {"sun": np.ones((9, 16), np.float32)},
    }
    varied, still = save_zarr(given, tmp_path / "known.zarr"), save_zarr(replace(given, **equal), tmp_path / "s.zarr")
    fit_stepper(small.experiment(tmp_path, varied), tmp_path / "run")
    found = {}
    for start, split in ((0, "test"), (3, "test"), (0, "valid")):
        out = tmp_path / f"{split}-{start}.zarr"
        forecast_run(tmp_path / "run", still, out, leads=1, members=1, start=start, split=split)
        found[split, start] = open_forecast(out)["u"].values
    first, *others = found.values()
    assert np.isfinite(first).all() and all(np.abs(other - first).min((-1, -2)).max() > 0 for other in others)
    again = forecast_run(tmp_path / "run", still, tmp_path / "again.zarr", leads=1, members=1)
    np.testing.assert_array_equal(open_forecast(Path(again["forecast"]))["u"], first)


def test_a_stepper_that_draws_nothing_makes_one_member_and_a_generative_one_what_is_asked(
    place: Path, tmp_path: Path
) -> None:
    data = place / "known.zarr"
    fit_stepper(small.experiment(tmp_path, data, "deterministic"), tmp_path / "plain")
    forecast_run(tmp_path / "plain", data, tmp_path / "one.zarr", leads=1, members=5)
    forecast(place, tmp_path / "five.zarr", members=5)
    assert open_forecast(tmp_path / "one.zarr").sizes["realization"] == 1
    assert open_forecast(tmp_path / "five.zarr").sizes["realization"] == 5


def test_paths_are_recorded_from_the_root_wherever_they_are_given_from(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    forecast_run(Path("run"), Path("known.zarr"), tmp_path / "out.zarr", leads=1, members=1)
    said = open_forecast(tmp_path / "out.zarr").attrs
    assert said["run"] == str((place / "run").resolve()) and said["data"] == str((place / "known.zarr").resolve())


def test_data_on_other_points_or_in_another_unit_of_time_are_refused(place: Path, tmp_path: Path) -> None:
    given = small.known_trajectories()
    axis = given.axes[0]
    stretched = replace(axis, coordinates=3 * np.asarray(axis.coordinates), length=3 * axis.length)
    for changes, what in (({"axes": (stretched,)}, "coordinates"), ({"time_units": "h"}, "time units")):
        other = save_zarr(replace(given, **changes), tmp_path / f"{what}.zarr")
        with pytest.raises(DataError, match=f"the data's {what} are not those the emulator was fitted to"):
            forecast_run(place / "run", other, tmp_path / "out.zarr", leads=1, members=1)
    assert not (tmp_path / "out.zarr").exists()


def test_a_forecast_says_where_it_is_from_and_what_it_cost(place: Path, tmp_path: Path) -> None:
    said = forecast(place, tmp_path / "out.zarr", trajectories=1, sampler="{type: heun, steps: 3}")
    found = open_forecast(tmp_path / "out.zarr")
    assert found.sizes["trajectory"] == 1
    wanted = {"label": "out", "split": "test", "start": 0, "stride": 2, "seed": 0, "run": str(place / "run")}
    assert wanted.items() <= found.attrs.items() and found.attrs["sampler"] == repr(Heun(steps=3))
    assert said["calls"] == found.attrs["calls"] == 4  # the leap from a point, two in the middle, one at the end
    assert said["forecast"] == str(tmp_path / "out.zarr")


def test_cost_counts_calls_and_weights(place: Path) -> None:
    emulator = Emulator.load(place / "run")
    network = emulator.stepper.network  # type: ignore[union-attr]
    for steps in (1, 4):
        found = cost(emulator.with_sampler(EulerMaruyama(steps=steps)))
        assert found["calls"] == steps and found["ms_per_step"] > 0
        assert found["parameters"] == sum(p.numel() for p in network.parameters())  # type: ignore[union-attr]
    assert not network._forward_hooks  # type: ignore[union-attr]


def test_the_stride_is_how_many_frames_a_step_spans(place: Path) -> None:
    layout, data = Emulator.load(place / "run").layout, open_data(place / "known.zarr")
    assert stride_of(layout, data) == 2
    for dt in (0.4, 3.0):
        with pytest.raises(DataError, match="the emulator steps by 1, not a multiple of the data's"):
            stride_of(layout, replace(data, dt=dt))


def test_what_cannot_be_forecast_is_an_error_and_writes_nothing(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    other = save_zarr(small.known_trajectories(size=8), tmp_path / "other.zarr")
    states = np.asarray(small.known_trajectories().states).copy()
    states[-2:, 0, 1, 3] = np.nan
    damaged = save_zarr(replace(small.known_trajectories(), states=states), tmp_path / "damaged.zarr")
    for settings, kind, message in (
        ({"start": 9}, ConfigError, "start 9 lies outside the 9 frames"),
        ({"leads": 6}, DataError, "the forcing ends at frame 8, wanted is frame 10; forecast fewer leads"),
        ({"sampler": "{type: heunn}"}, ConfigError, "unknown type 'heunn'; did you mean 'heun'"),
        ({"sampler": "[1]"}, ConfigError, "--sampler: should be a name or a mapping"),
        ({"leads": 0}, ConfigError, "must be at least 1"),
    ):
        with pytest.raises(kind, match=message):
            forecast(place, out, **settings)
    with pytest.raises(
        DataError, match=r"other.zarr: the emulator takes u, v on \(16,\), the data hold u, v on \(8,\)"
    ):
        forecast_run(place / "run", other, out, leads=1, members=1)
    with pytest.raises(DataError, match=r"damaged.zarr: field 'v' holds nan in the initial state test 0, frame 0"):
        forecast_run(place / "run", damaged, out, leads=1, members=1)
    with pytest.raises(DataError, match="is not the folder of a finished run"):
        forecast_run(tmp_path, place / "known.zarr", out, leads=1, members=1)
    assert not any(path.name.startswith("out") for path in tmp_path.iterdir())
