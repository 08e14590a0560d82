"""Forcing that recurs every year and what steps are told of the date, against answers made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from driftway import Emulator, Identity, Layout
from driftway.checkpoints import read_json
from driftway.data import open_data, save_zarr
from driftway.data.axes import Axis, Fields
from driftway.data.calendar import Calendar
from driftway.data.forecasts import open_forecast
from driftway.data.seasons import Told, season_frames, season_step
from driftway.data.trajectories import Trajectories
from driftway.errors import ConfigError, DataError
from driftway.forecasting import forecast_run
from driftway.networks.layers import Scaling
from driftway.workflow import fit_autoencoder, fit_stepper
from tests import small

X = Axis.uniform("x", 2, 2.0)
YEAR = 1460  # six-hourly frames of 365 days


def daily(calendar: Calendar, frames: int = 20, dt: float = 6.0, year: int = YEAR) -> Trajectories:
    """States that are 0, and forcing that is the number of its frame in the year."""
    forcing = np.broadcast_to(np.arange(year, dtype=np.float32)[:, None], (year, 2))
    states = np.zeros((len(calendar), frames, 1, 2), np.float32)
    fields = Fields(("u",), ("1",))
    known = {"forcing": {"sun": forcing}, "calendar": calendar, "forcing_recurs": True}
    return Trajectories(states, fields, (X,), dt, "h", **known)


def forcing_of(data: Trajectories, rows: list[int], times: list[int], stride: int = 1) -> list[float]:
    fields = data.conditioning(np.array(rows), np.array(times), stride).fields
    assert fields is not None
    assert (fields[..., 0] == fields[..., 1]).all()
    return fields[:, 0, 0].tolist()


# --- forcing that recurs -------------------------------------------------------------------------------------------


def test_forcing_goes_on_across_the_end_of_the_year_and_beyond_the_stored_frames() -> None:
    data = daily(Calendar((8742.0, 0.0), "2001-01-01"))  # 31 December, 06:00, and 1 January, 00:00
    at_start = replace(data, told=Told(at="start"))
    assert forcing_of(at_start, [0] * 5, [0, 1, 2, 3, 4]) == [1457, 1458, 1459, 0, 1]
    assert forcing_of(at_start, [1] * 4, [0, 19, 1460, 3 * 1460 + 7]) == [0, 19, 0, 7]
    assert forcing_of(data, [0] * 3, [0, 1, 2]) == [1458, 1459, 0]  # of the state that the step makes


def test_two_dates_in_one_batch_have_their_own_forcing() -> None:
    data = daily(Calendar((0.0, 24.0 * 31), "2001-01-01"))
    assert forcing_of(data, [0, 1], [3, 3]) == [4, 4 + 31 * 4]
    batch = data.transitions().batch(np.array([0, 19]))  # 19 transitions in a trajectory
    assert batch.conditioning.fields is not None
    assert batch.conditioning.fields[:, 0, 0].tolist() == [1, 125]


def test_windows_and_strides_keep_the_dates() -> None:
    data = daily(Calendar((8742.0,), "2001-01-01"))
    late = data.window(2, 5)
    assert forcing_of(late, [0, 0], [0, 1]) == [0, 1]
    wide = data.stride(4)
    assert wide.dt == 24
    assert forcing_of(wide, [0, 0, 0], [0, 1, 2]) == [1, 5, 9]  # a day later each
    assert forcing_of(replace(wide, told=Told(at="start")), [0, 0], [0, 1]) == [1457, 1]
    assert forcing_of(data, [0, 0], [0, 1], stride=4) == [1, 2]
    assert forcing_of(data.window(2, 9).stride(2), [0], [1]) == [3]


def test_forcing_coarser_than_the_states_holds_until_its_next_frame() -> None:
    data = replace(daily(Calendar((0.0,), "2001-01-01"), year=365), told=Told(at="start"))
    assert forcing_of(data, [0] * 6, [0, 1, 3, 4, 7, 8]) == [0, 0, 0, 1, 1, 2]


@pytest.mark.parametrize(
    ("name", "epoch", "frames", "hours", "expected"),
    [
        ("360_day", "2001-12-30", 360, [0, 24, 48], [359, 0, 1]),
        # 28 and 29 February, 1 March and 31 December of a leap year: the 29th takes the 28th's forcing
        ("proleptic_gregorian", "2004-02-28", 365, [0, 24, 48, 24 * 307], [58, 58, 59, 364]),
        ("proleptic_gregorian", "2004-02-28T18:00", 1460, [0, 6, 24, 30], [235, 232, 235, 236]),
        # of 366 days: a year without a 29th passes over it
        ("proleptic_gregorian", "2004-02-28", 366, [0, 24, 48, 24 * 307], [58, 59, 60, 365]),
        ("proleptic_gregorian", "2005-02-28", 366, [0, 24, 24 * 306, 24 * 307], [58, 60, 365, 0]),
        ("proleptic_gregorian", "1900-02-28T18:00", 1464, [0, 6], [235, 240]),
    ],
)
def test_leap_years(name: str, epoch: str, frames: int, hours: list[float], expected: list[int]) -> None:
    calendar = Calendar((0.0,), epoch, name)
    assert season_frames(calendar, np.array(hours, float), frames).tolist() == expected


def test_the_step_of_a_year_follows_from_its_frames() -> None:
    gregorian = Calendar((0.0,), name="proleptic_gregorian")
    assert season_step(Calendar((0.0,)), 1460) == season_step(gregorian, 1460) == season_step(gregorian, 1464) == 6
    assert season_step(Calendar((0.0,), name="360_day"), 12) == 720


def test_what_cannot_recur_is_named() -> None:
    dated = daily(Calendar((0.0,)))
    with pytest.raises(DataError, match="1459 frames do not divide the 365 days of a year in the calendar noleap"):
        daily(Calendar((0.0,)), year=1459)
    with pytest.raises(DataError, match="1464 frames do not divide the 365 days"):
        daily(Calendar((0.0,)), year=1464)
    with pytest.raises(DataError, match="needs a calendar"):
        replace(dated, calendar=None)
    with pytest.raises(DataError, match="have 1460 and 365 frames, must have as many"):
        replace(dated, forcing={**dated.forcing, "ice": np.zeros((365, 2))})


def test_forcing_that_does_not_recur_ends() -> None:
    data = replace(daily(Calendar((0.0,)), year=YEAR), forcing_recurs=False, forcing={"sun": np.zeros((20, 2))})
    assert forcing_of(data, [0], [18]) == [0]
    with pytest.raises(DataError, match="the forcing ends at frame 19, wanted is frame 20; forecast fewer leads"):
        forcing_of(data, [0], [19])


def test_each_trajectory_may_have_forcing_of_its_own(tmp_path: Path) -> None:
    data = daily(Calendar((0.0, 8760.0)), frames=3)
    own = np.arange(12, dtype=np.float32).reshape(2, 3, 2) // 2
    data = replace(data, forcing_recurs=False, forcing={"sun": own}, told=Told(at="start"))
    for known in (data, replace(open_data(save_zarr(data, tmp_path / "own.zarr")), told=data.told)):
        assert known.fields.names == ("u",)
        assert forcing_of(known, [0, 1], [2, 1]) == [2, 4]
        assert forcing_of(known.select([1]).window(1, 2), [0, 0], [0, 1]) == [4, 5]


def test_zarr_keeps_a_year_of_forcing(tmp_path: Path) -> None:
    data = daily(Calendar((8742.0,), "2001-01-01")).window(1, 4)
    stored = open_data(save_zarr(data, tmp_path / "season.zarr"))
    assert stored.forcing_recurs
    assert np.array_equal(stored.forcing["sun"], data.forcing["sun"])
    assert forcing_of(stored, [0, 0], [0, 1]) == forcing_of(data, [0, 0], [0, 1]) == [1459, 0]


class Forced:
    """In place of a fitted stepper: the state that it makes is what it knows."""

    def step(self, state, conditioning=None, stream=None):
        return 0 * state + conditioning.fields


def test_forecasts_cross_the_end_of_the_year() -> None:
    data = daily(Calendar((8742.0, 0.0), "2001-01-01"), frames=3)
    emulator = Emulator(Identity(), Forced(), Layout(data.fields, data.axes, data.dt, "h"))
    rows = np.arange(2)
    known = lambda lead: data.conditioning(rows, 0 * rows + lead - 1)  # noqa: E731
    forecast = emulator.forecast(torch.zeros(2, 1, 2), leads=4, conditioning=known)["u"].values[0]
    assert forecast[:, :, 0].tolist() == [[1458, 1459, 0, 1], [1, 2, 3, 4]]


# --- dates as parameters -------------------------------------------------------------------------------------------


def test_dates_are_told_as_waves_after_the_parameters() -> None:
    data = daily(Calendar((0.0, 59 * 24.0), "2001-01-01"))
    data = replace(data, parameters={"zeta": np.array([5.0, 7.0])}, told=Told(at="start"))
    assert data.parameter_names == ("zeta", "day_sin", "day_cos", "hour_sin", "hour_cos")
    known = data.conditioning(np.array([0, 0, 1]), np.array([0, 1, 3]))
    days = np.array([0, 0.25, 59.75])
    hours = np.array([0, 6, 18])
    expected = [[5, 5, 7]]
    expected += [wave(2 * np.pi * days / 365) for wave in (np.sin, np.cos)]
    expected += [wave(2 * np.pi * hours / 24) for wave in (np.sin, np.cos)]
    assert known.params is not None and known.fixed is not None
    assert np.allclose(known.params.numpy(), np.transpose(expected), atol=1e-6)
    assert known.fixed.flatten().tolist() == [5, 5, 7]
    fixed = data.fixed(np.array([1]))
    assert fixed is not None and fixed.tolist() == [[7]]


def test_the_season_goes_round_once_in_a_leap_year_too() -> None:
    calendar = Calendar((0.0,), "2004-01-01", "proleptic_gregorian")
    sine, cosine = Told(("day",)).numbers(calendar, np.array([0, 183 * 24.0, 366 * 24.0]))
    assert np.allclose(sine, [0, 0, 0], atol=1e-12)
    assert np.allclose(cosine, [1, -1, 1])


def test_a_step_is_told_what_is_chosen() -> None:
    data = daily(Calendar((0.0,), "2001-01-01"))
    hour = replace(data, told=Told(("hour",)))
    params = hour.conditioning(np.array([0]), np.array([0])).params
    assert params is not None
    assert np.allclose(params.numpy(), [[1, 0]], atol=1e-6)  # 06:00, when the step ends
    assert replace(data, told=Told(())).conditioning(np.array([0]), np.array([0])).params is None
    for features, at in ((("month",), None), (("day", "day"), None), (("day",), "end")):
        with pytest.raises(DataError, match="a step is told day and hour"):
            Told(features, at)


# --- from data to forecasts ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten trajectories that begin in the last days of a year, with a parameter, and forcing of a whole year."""
    data = small.known_trajectories()
    forcing = {"sun": np.sin(2 * np.pi * np.arange(730) / 730)[:, None] * np.ones(16)}
    calendar = Calendar(tuple(8700.0 + np.arange(10)), "2001-01-01", "noleap")
    dated = replace(data, dt=12.0, time_units="h", forcing=forcing, calendar=calendar, forcing_recurs=True)
    return save_zarr(dated, tmp_path_factory.mktemp("dated") / "dated.zarr")


def test_a_fit_knows_dates_and_forecasts_beyond_the_stored_frames(dated: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit_stepper(small.experiment(tmp_path, dated, "deterministic"), run)
    about = read_json(run / "emulator.json", "a run")
    names = ["day_sin", "day_cos", "hour_sin", "hour_cos"]
    assert about["parameter_names"] == ["strength", *names]
    assert about["dates"] == {"names": names, "features": ["day", "hour"], "at": "valid"}
    emulator = Emulator.load(run)
    scaling = next(module for module in emulator.modules() if isinstance(module, Scaling))
    assert scaling.mean[1:].tolist() == [0] * 4 and scaling.std[1:].tolist() == [1] * 4
    forecast_run(run, dated, tmp_path / "long.zarr", leads=12, members=1)  # nine frames are stored
    assert open_forecast(tmp_path / "long.zarr").attrs["initial_times"] == ["2001-12-29T20:00", "2001-12-29T21:00"]
    said = replace(open_data(dated).split("test"), told=Told(("hour",), "start"))
    assert emulator.told(said).told == Told(("day", "hour"), "valid")


def test_an_experiment_chooses_what_is_told(dated: Path, tmp_path: Path) -> None:
    data = {"path": str(dated), "calendar": ["day"], "forcing_at": "start"}
    fit_stepper(small.experiment(tmp_path, dated, "deterministic", data=data), tmp_path / "day")
    about = read_json(tmp_path / "day" / "emulator.json", "a run")
    assert about["dates"] == {"names": ["day_sin", "day_cos"], "features": ["day"], "at": "start"}
    forecast_run(tmp_path / "day", dated, tmp_path / "day.zarr", leads=2, members=1)
    plain = save_zarr(small.known_trajectories(), tmp_path / "plain.zarr")
    with pytest.raises(ConfigError, match=r"data\.calendar: the data have no calendar"):
        fit_stepper(
            small.experiment(tmp_path, plain, "deterministic", data={**data, "path": str(plain)}), tmp_path / "none"
        )


def test_codecs_know_no_dates(dated: Path, tmp_path: Path) -> None:
    codec = fit_autoencoder(small.experiment(tmp_path, dated, "autoencoder"), tmp_path / "codec")
    assert {len(module.mean) for module in codec.modules() if isinstance(module, Scaling)} == {1}
    chain = [{"type": "run", "path": str(tmp_path / "codec")}, "standardize"]
    fit_stepper(small.experiment(tmp_path, dated, "deterministic", codec=chain), tmp_path / "latent")
    forecast_run(tmp_path / "latent", dated, tmp_path / "latent.zarr", leads=12, members=1)
