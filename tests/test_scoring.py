"""From forecasts on disk to scores and report: truth, references, the scores file, and folders that were moved."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from driftway.codecs import Identity
from driftway.data import Axis, Fields, Trajectories, open_data, save_zarr
from driftway.data.layout import Layout
from driftway.data.starts import begun
from driftway.emulator import Emulator
from driftway.errors import ConfigError, DataError, StorageError
from driftway.forecasting import forecast_run
from driftway.metrics import vrmse
from driftway.randomness import generator
from driftway.scoring import (
    baselines,
    evaluate_forecasts,
    floor,
    load_scores,
    matching_truth,
    open_forecasts,
    report_folder,
    save_scores,
    summary,
    truth_for,
)
from driftway.steppers import Persistence
from driftway.workflow import fit_autoencoder, fit_stepper
from tests import small

FRAMES, LEADS, SIZE, TESTS = 9, 4, 16, 8


def waves() -> Trajectories:
    """Travelling waves with random amplitudes, smooth enough for an autoencoder, in splits of 4, 2 and 8."""
    rng, x = generator("waves"), 2 * np.pi * np.arange(SIZE) / SIZE
    count = 6 + TESTS
    a, b = (rng.uniform(0.5, 1.5, (count, 1, 1, 1)) for _ in range(2))
    time = np.arange(FRAMES)[:, None, None]
    states = (
        a * np.sin(x - 0.3 * time)
        + b * np.cos(2 * x[:, None] + 0.2 * time)
        + 0.1 * rng.standard_normal((count, FRAMES, SIZE, SIZE))
    )
    axes = (Axis.uniform("y", SIZE, 1.0, symmetry=1), Axis.uniform("x", SIZE, 1.0, symmetry=1))
    splits = ("train",) * 4 + ("valid",) * 2 + ("test",) * TESTS
    return Trajectories(states.astype(np.float32)[:, :, None], Fields(("u",), ("m/s",)), axes, 0.5, "h", splits=splits)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, two runs on one autoencoder and one on another, and forecasts of the test split."""
    folder = tmp_path_factory.mktemp("place") / "study"
    folder.mkdir()
    data = save_zarr(waves(), folder / "data.zarr")
    for codec in ("autoencoder", "other"):
        seed = {"seed": 1} if codec == "other" else {}
        fit_autoencoder(small.experiment(folder, data, "autoencoder", **seed), folder / "runs" / codec)
    for name, kind, codec in (
        ("deterministic", "deterministic", "autoencoder"),
        ("bridge", "generative", "autoencoder"),
        ("apart", "deterministic", "other"),
    ):
        latent = {"codec": [{"type": "run", "path": str(folder / "runs" / codec)}, "standardize"]}
        fit_stepper(small.experiment(folder, data, kind, **latent), folder / "runs" / name)
        to = folder / ("elsewhere" if name == "apart" else "forecasts") / f"{name}.zarr"
        to.parent.mkdir(exist_ok=True)
        members = 3 if kind == "generative" else 1
        forecast_run(folder / "runs" / name, data, to, leads=LEADS, members=members, label=f"{name}, demo")
    return folder


@pytest.fixture(scope="module")
def scores(place: Path) -> xr.Dataset:
    """The scores file of the study, read back."""
    evaluate_forecasts(sorted((place / "forecasts").glob("*.zarr")), place / "data.zarr", place / "scores.json")
    return load_scores(place / "scores.json")


def persistent(data: Path, out: Path, **attributes: Any) -> Path:
    """A forecast on disk of the test split by persistence, made with the library alone."""
    part = open_data(data).split(attributes.get("split", "test"))
    layout = Layout(part.fields, part.axes, part.dt, part.time_units)
    origin = {"label": out.stem, "data": str(data), "split": "test", "start": 0, "stride": 1, **attributes}
    origin = {key: value for key, value in origin.items() if value is not None}
    states = np.asarray(part.window(origin.get("start", 0), 1).states)[:, 0]
    Emulator(Identity(), Persistence(), layout).forecast(states, LEADS, out=out, attributes=origin)
    return out


# --- truth and references ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "stride"), [(0, 1), (2, 1), (1, 2)])
def test_truth_at_lead_k_is_the_frame_k_strides_after_the_start(start: int, stride: int) -> None:
    part = waves().split("test")
    truth = truth_for(begun(part, [start]), 3, stride)
    for k in range(3):
        expected = part.states[:, start + (k + 1) * stride, 0]
        np.testing.assert_array_equal(truth["u"].isel(lead_time=k).values, expected)
    np.testing.assert_allclose(truth["lead_time"], 0.5 * stride * np.arange(1, 4))
    assert truth["lead_time"].attrs["time_units"] == "h"


def test_leads_beyond_the_data_are_refused() -> None:
    with pytest.raises(DataError, match="5 leads of 1 frames need 6; there are 5"):
        truth_for(waves().split("test").window(4, 5), 5)


def test_persistence_and_climatology_are_rows_beside_the_forecasts(place: Path, scores: xr.Dataset) -> None:
    names = ["persistence", "climatology", "autoencoder floor", "bridge, demo", "deterministic, demo"]
    assert scores["method"].values.tolist() == names
    data = open_data(place / "data.zarr")
    train, test = (np.asarray(data.split(name).states, np.float64)[:, :, 0] for name in ("train", "test"))
    truth = test[:, 1 : LEADS + 1]
    for name, forecast in {"persistence": test[:, :1], "climatology": train.mean((0, 1))[None, None]}.items():
        error = np.sqrt(((forecast - truth) ** 2).mean((-2, -1))).mean(0)
        np.testing.assert_allclose(scores["rmse"].sel({"method": name}).values[0], error, rtol=1e-4)


@pytest.mark.parametrize("start", [0, 3])
def test_a_forecast_by_persistence_scores_as_the_reference(place: Path, tmp_path: Path, start: int) -> None:
    path = persistent(place / "data.zarr", tmp_path / "mine.zarr", start=start)
    found = evaluate_forecasts([path], place / "data.zarr", tmp_path / "scores.json")
    assert found["mine"]["vrmse"] == found["persistence"]["vrmse"] and found["mine"]["crps"] > 0
    assert "autoencoder floor" not in found


def test_the_floor_is_the_truth_through_the_autoencoder(place: Path, scores: xr.Dataset) -> None:
    emulator = Emulator.load(place / "runs" / "bridge")
    states = torch.from_numpy(np.asarray(open_data(place / "data.zarr").split("test").states)[:, 1 : LEADS + 1])
    with torch.no_grad():
        decoded = torch.stack([emulator.codec.decode(emulator.codec.encode(part)) for part in states])
    expected = vrmse(decoded, states, space=2).mean(0)[:, 0]
    found = scores["vrmse"].sel({"method": "autoencoder floor"}).values[0]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4)


def test_the_floor_of_data_with_parameters_knows_those_of_each_trajectory(tmp_path: Path) -> None:
    strength = generator("strength").uniform(1, 2, 6 + TESTS).astype(np.float32)
    data = save_zarr(replace(waves(), parameters={"strength": strength}), tmp_path / "data.zarr")
    fit_autoencoder(small.experiment(tmp_path, data, "autoencoder"), tmp_path / "codec")
    latent = {"codec": [{"type": "run", "path": str(tmp_path / "codec")}, "standardize"]}
    fit_stepper(small.experiment(tmp_path, data, "deterministic", **latent), tmp_path / "run")
    forecast_run(tmp_path / "run", data, tmp_path / "out.zarr", leads=2, members=1, trajectories=3)
    scores = evaluate_forecasts([tmp_path / "out.zarr"], data, tmp_path / "scores.json")

    emulator, part = Emulator.load(tmp_path / "run"), open_data(data).split("test")
    states = torch.from_numpy(np.asarray(part.states)[:3, 1:3])
    params = torch.from_numpy(strength[6:9])[:, None, None].expand(3, 2, 1)
    with torch.no_grad():
        pairs = list(zip(states, params, strict=True))
        decoded = torch.stack([emulator.codec.decode(emulator.codec.encode(u, p), p) for u, p in pairs])
    expected = float(vrmse(decoded, states, space=2).mean())
    assert scores["autoencoder floor"]["vrmse"] == pytest.approx(expected, rel=1e-4)


class Lossy(Identity):
    """A codec that comes back with the parameter added."""

    def decode(self, v: torch.Tensor, params: torch.Tensor | None = None) -> torch.Tensor:
        assert params is not None
        return v + params[:, :, None, None]


def test_the_floor_decodes_each_trajectory_with_its_own_parameters() -> None:
    part = waves().split("test")
    truth, params = truth_for(part, LEADS), torch.arange(float(TESTS))[:, None]
    emulator = Emulator(Lossy(), Persistence(), Layout(part.fields, part.axes, part.dt))
    error = floor(emulator, truth, params)["u"].isel(realization=0) - truth["u"]
    np.testing.assert_allclose(error.mean(("lead_time", "y", "x")), np.arange(TESTS), atol=1e-5)


def test_each_of_different_autoencoders_has_a_floor(place: Path, tmp_path: Path) -> None:
    paths = [place / "forecasts" / "bridge.zarr", place / "elsewhere" / "apart.zarr"]
    found = evaluate_forecasts(paths, place / "data.zarr", tmp_path / "scores.json")
    one, other = found["autoencoder floor, bridge"], found["autoencoder floor, apart"]
    assert one["vrmse"] != other["vrmse"]


def test_scores_say_run_sampler_and_cost_of_each_forecast(scores: xr.Dataset) -> None:
    bridge, plain = scores.sel({"method": "bridge, demo"}), scores.sel({"method": "deterministic, demo"})
    assert str(bridge["run"].values) == "bridge" and str(bridge["sampler"].values).startswith("EulerMaruyama")
    assert str(plain["sampler"].values) == "None" and float(plain["calls"]) == 1
    assert np.isnan(float(scores["calls"].sel({"method": "persistence"})))


# --- what cannot be scored together --------------------------------------------------------------------------------


def opened(path: Path, **changes: Any) -> dict[str, xr.Dataset]:
    forecast = open_forecasts([path])["mine"]
    return {"mine": forecast, "other": forecast.assign_attrs(changes)}


def test_forecasts_from_different_states_are_not_compared(place: Path, tmp_path: Path) -> None:
    path, data = persistent(place / "data.zarr", tmp_path / "mine.zarr"), open_data(place / "data.zarr")
    with pytest.raises(DataError, match="'mine' and 'other' differ in start, 0 and 2; score them apart"):
        matching_truth(opened(path, start=2), data)
    forecasts = opened(path)
    forecasts["other"] = forecasts["other"].isel(lead_time=slice(0, 2))
    with pytest.raises(DataError, match="'mine' and 'other' differ in leads, 4 and 2"):
        matching_truth(forecasts, data)


def test_a_forecast_without_an_origin_is_refused(place: Path, tmp_path: Path) -> None:
    path = persistent(place / "data.zarr", tmp_path / "mine.zarr", start=None)
    with pytest.raises(DataError, match="'mine' does not say what it started from"):
        evaluate_forecasts([path], place / "data.zarr", tmp_path / "scores.json")
    assert not (tmp_path / "scores.json").exists()


def test_labels_must_differ_and_leave_the_references_theirs(place: Path, tmp_path: Path) -> None:
    first = persistent(place / "data.zarr", tmp_path / "first.zarr", label="same")
    second = persistent(place / "data.zarr", tmp_path / "second.zarr", label="same")
    with pytest.raises(ConfigError, match="two forecasts have the label 'same'"):
        open_forecasts([first, second])
    taken = persistent(place / "data.zarr", tmp_path / "taken.zarr", label="Persistence")
    with pytest.raises(ConfigError, match="label 'Persistence', which is a reference's"):
        open_forecasts([taken])
    with pytest.raises(ConfigError, match="at least one forecast"):
        open_forecasts([])


# --- the scores file -----------------------------------------------------------------------------------------------


def test_scores_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    values = np.array([[0.1, np.nan], [1e-30, 7.0]])
    before = xr.Dataset(
        {
            "a": (("method", "lead_time"), values, {"better": "lower"}),
            "n": ("method", [3, 4]),
            "s": ("method", ["", "β"]),
        },
        {"method": ["x", "y"], "lead_time": ("lead_time", [0.5, 1.0], {"time_units": "h"})},
        {"initial_states": 24},
    )
    save_scores(before, tmp_path / "new" / "scores.json")
    after = load_scores(tmp_path / "new" / "scores.json")
    xr.testing.assert_identical(before, after)
    assert after["n"].dtype == np.int64 and "NaN" not in (tmp_path / "new" / "scores.json").read_text()


def test_scores_of_a_whole_study_come_back(scores: xr.Dataset, tmp_path: Path) -> None:
    save_scores(scores, tmp_path / "scores.json")
    xr.testing.assert_identical(load_scores(tmp_path / "scores.json"), scores)


def test_scores_that_do_not_exist_are_named_with_the_command_that_makes_them(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    with pytest.raises(DataError, match=f"^{path} does not exist; make it with `driftway evaluate … --out {path}`$"):
        load_scores(path)


@pytest.mark.parametrize("content", ["", "{", "{}", "[1]", '{"coords": 1}'])
def test_a_file_without_scores_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "scores.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"scores\.json holds no scores .* make it with `driftway evaluate`"):
        load_scores(path)


def test_a_place_that_cannot_be_written_leaves_what_was_there(tmp_path: Path, scores: xr.Dataset) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError):
        save_scores(scores, tmp_path / "file" / "scores.json")
    assert (tmp_path / "file").read_text() == "mine"


def test_summary_means_over_leads_and_lets_no_failure_vanish(scores: xr.Dataset) -> None:
    broken = scores.copy(deep=True)
    broken["crps"][{"method": 3, "lead_time": -1}] = np.nan
    found = summary(broken)["bridge, demo"]
    assert np.isnan(found["crps"])
    assert found["vrmse"] == pytest.approx(float(scores["vrmse"].sel({"method": "bridge, demo"}).mean()))
    assert found["members"] == 3 and found["spectral_rmse_low"] > 0 and found["correlation_time"] > 0
    json.dumps(summary(scores))


# --- the report ----------------------------------------------------------------------------------------------------


def test_a_folder_that_was_moved_still_gives_its_report(place: Path, scores: xr.Dataset, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(place, moved)
    aside = place.with_name("hidden")
    place.rename(aside)
    try:
        page = report_folder(moved, moved / "report.html").read_text()
    finally:
        aside.rename(place)
    assert open_data(place / "data.zarr").fingerprint() in page
    assert "bridge, demo" in page and 'id="training"' in page
    for name in ("driftway", "torch", "seed", "autoencoder"):
        assert name in page


def test_a_report_whose_data_are_gone_says_where_they_were(place: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.zarr"
    shutil.copytree(place / "data.zarr", data)
    (tmp_path / "study").mkdir()
    paths = [persistent(data, tmp_path / "study" / "forecasts" / "mine.zarr")]
    evaluate_forecasts(paths, data, tmp_path / "study" / "scores.json")
    shutil.rmtree(data)
    with pytest.raises(DataError, match=f"the data set {data} of these forecasts is not there: put it back, or make"):
        report_folder(tmp_path / "study", tmp_path / "report.html")


def test_a_report_shows_the_middle_section_of_three_axes_and_names_the_split(tmp_path: Path) -> None:
    axes = tuple(Axis.uniform(name, size, 1.0) for name, size in (("x", 8), ("y", 6), ("z", 4)))
    states = generator("solid").standard_normal((4, 6, 1, 8, 6, 4)).astype(np.float32)
    solid = Trajectories(states, Fields(("u",), ("1",)), axes, 0.5, splits=("train", "train", "valid", "test"))
    data = save_zarr(solid, tmp_path / "data.zarr")
    path = persistent(data, tmp_path / "forecasts" / "mine.zarr", split="valid")
    evaluate_forecasts([path], data, tmp_path / "scores.json")
    page = report_folder(tmp_path, tmp_path / "report.html").read_text()
    assert f"valid trajectory 0, section z = {axes[2].coordinates[2]:.4g}" in page
    assert "from 1 initial state each" in page and "1 initial states" not in page


def test_a_report_of_forecasts_that_were_not_scored_says_so(place: Path, scores: xr.Dataset, tmp_path: Path) -> None:
    save_scores(scores.isel(method=[0, 1]), tmp_path / "scores.json")
    with pytest.raises(DataError, match=r"forecasts has no forecasts: put those there that .* has the scores of"):
        report_folder(tmp_path, tmp_path / "report.html")
    shutil.copytree(place / "forecasts", tmp_path / "forecasts")
    with pytest.raises(DataError, match=r"has none of bridge, demo, deterministic, demo; make it again"):
        report_folder(tmp_path, tmp_path / "report.html")


def test_data_without_a_training_split_have_no_climatology() -> None:
    data = small.known_trajectories()
    layout = Layout(data.fields, data.axes, data.dt)
    held = replace(data, splits=("test",) * 10)
    part, truth = held.split("test"), truth_for(held.split("test"), 3)
    assert set(baselines(held, part, truth, layout)) == {"persistence"}
    assert set(baselines(data, part, truth, layout)) == {"persistence", "climatology"}
