"""The Well's statistics file: what is written is read, what is stored standardises, and a faulty one is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftway.config import dump_yaml, load_yaml
from driftway.data import open_data, save_statistics, save_well, save_zarr
from driftway.data.files import stored_scale
from driftway.errors import DataError, StorageError
from driftway.workflow import fit_autoencoder, fit_stepper
from tests import small
from tests.datasets import example

CODE = {"type": "autoencoder", "stem": 2, "widths": [2], "blocks": 1, "latent": 2}


def stored(folder: Path) -> Path:
    """A data set of three splits with its statistics."""
    data = example(10, splits=None)
    parts = {"train": range(6), "valid": range(6, 8), "test": range(8, 10)}
    for split, rows in parts.items():
        save_well(data.select(rows), folder / "data" / split / "a.hdf5", name="channel")
    save_statistics(data.select(parts["train"]), folder / "stats.yaml")
    return folder


def test_the_file_is_the_wells(tmp_path: Path) -> None:
    found: Any = load_yaml(stored(tmp_path) / "stats.yaml")
    train = example(10, splits=None).states[:6].astype(np.float64)
    pressure, velocity = train[:, :, 0], train[:, :, 1:]
    over, steps = (0, 1, 3, 4), np.diff(velocity, axis=1)
    assert list(found) == ["mean", "std", "rms", "mean_delta", "std_delta", "rms_delta"]
    assert found["mean"]["p"] == pytest.approx(pressure.mean()) and isinstance(found["mean"]["p"], float)
    assert found["std"]["v"] == pytest.approx(velocity.std(over))
    assert found["rms"]["v"] == pytest.approx(np.sqrt((velocity**2).mean(over)))
    assert found["mean_delta"]["v"] == pytest.approx(steps.mean(over))
    assert found["std_delta"]["v"] == pytest.approx(steps.std(over))
    assert found["rms_delta"]["p"] == pytest.approx(np.sqrt((np.diff(pressure, axis=1) ** 2).mean()))
    assert found["std"]["mask"] == pytest.approx(example(10).static["mask"].std(), rel=1e-6)
    assert "mask" not in found["std_delta"]
    with pytest.raises(StorageError, match=r"stats\.yaml exists"):
        save_statistics(example(), tmp_path / "stats.yaml")


@pytest.mark.parametrize("place", ["", "data"])
def test_what_is_stored_is_the_training_splits(place: str, tmp_path: Path) -> None:
    path = stored(tmp_path) / place
    train = open_data(path).split("train")
    found = stored_scale(path, train)
    assert found is not None and found.source == str(tmp_path / "stats.yaml")
    states = np.asarray(train.states, np.float64)
    assert found.mean == pytest.approx(states.mean((0, 1, 3, 4)))
    assert found.std == pytest.approx(states.std((0, 1, 3, 4)))


def test_a_data_set_without_a_file_has_none(tmp_path: Path) -> None:
    file, folder = save_well(example(), tmp_path / "a.h5"), save_zarr(example(), tmp_path / "a.zarr")
    assert stored_scale(file, open_data(file)) is stored_scale(folder, open_data(folder)) is None


FAULTS: dict[str, tuple[Any, str]] = {
    "no kind": ({"mean": {"p": 0.0, "v": [0.0, 0.0]}}, "std lacks the field 'p'"),
    "no field": ({"mean": {"p": 0.0}, "std": {"p": 1.0}}, "mean lacks the field 'v'"),
    "components": ({"mean": {"p": 0.0, "v": 1.0}, "std": {}}, r"mean of 'v' is 1\.0, must be 2 finite numbers"),
    "text": ({"mean": {"p": "much", "v": [0.0, 0.0]}, "std": {}}, "mean of 'p' is much, must be 1 finite numbers"),
    "infinite": ({"mean": {"p": float("inf"), "v": [0.0, 0.0]}, "std": {}}, "mean of 'p' is inf"),
    "zero": (
        {"mean": {"p": 0.0, "v": [0.0, 0.0]}, "std": {"p": 1.0, "v": [1.0, 0.0]}},
        "std of 'v_y' is 0, must be above 0",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_faulty_file_is_named_with_field_and_remedy(case: str, tmp_path: Path) -> None:
    document, words = FAULTS[case]
    stored(tmp_path).joinpath("stats.yaml").write_text(dump_yaml(document))
    with pytest.raises(DataError, match=words) as error:
        stored_scale(tmp_path, open_data(tmp_path))
    assert str(error.value).startswith(str(tmp_path / "stats.yaml"))
    assert str(error.value).endswith("take it away, or set data.statistics to computed")


@pytest.mark.parametrize("kind", ["stored", "computed"])
@pytest.mark.parametrize("name", ["deterministic", "autoencoder"])
def test_a_run_standardises_by_the_stored_or_the_computed_and_says_which(name: str, kind: str, tmp_path: Path) -> None:
    path = stored(tmp_path / "data set")
    document: Any = load_yaml(path / "stats.yaml")
    document["mean"]["v"], document["std"]["p"] = [5.0, 6.0], 7.0
    (path / "stats.yaml").write_text(dump_yaml(document))
    codec = ["standardize", *([CODE] if name == "autoencoder" else [])]
    source = {"path": str(path), "statistics": kind}
    fit = fit_autoencoder if name == "autoencoder" else fit_stepper
    emulator: Any = fit(small.experiment(tmp_path, path, name, data=source, codec=codec), tmp_path / "run")
    train, first = np.asarray(open_data(path).split("train").states), emulator.codec.codecs[0]
    mean, std = train.mean((0, 1, 3, 4)), train.std((0, 1, 3, 4))
    if kind == "stored":
        mean[1:], std[0] = [5.0, 6.0], 7.0
    assert first.mean.tolist() == pytest.approx(mean, abs=1e-5)
    assert first.std.tolist() == pytest.approx(std, rel=1e-5)
    said = json.loads((tmp_path / "run" / "manifest.json").read_text())["statistics"]
    assert said == (str(path / "stats.yaml") if kind == "stored" else "computed")
