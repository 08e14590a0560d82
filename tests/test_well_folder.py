"""A data set with walls and parameters as a folder of The Well's layout, and back."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from driftway.cli import main
from driftway.data import Trajectories, export_well, open_data, verify
from driftway.errors import DataError, StorageError
from driftway.simulate import make_data

SMALL = ("size=[24, 12]", "frames=3", "burn_in=0.5", "trajectories=[3, 1, 2]", "rayleigh=[1e4, 2e4]", "prandtl=[1]")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("convection") / "data.zarr"
    make_data("rayleigh-benard", place, overrides=SMALL)
    return place


@pytest.fixture(scope="module")
def data(place: Path) -> Trajectories:
    return open_data(place).load()


def test_a_file_for_each_split_and_set_of_parameters(place: Path, tmp_path: Path) -> None:
    assert main(["data", "export", str(place), "--out", str(tmp_path / "well")]) == 0
    files = sorted(str(file.relative_to(tmp_path / "well")) for file in tmp_path.rglob("*.hdf5"))
    assert files == [
        "data/test/rayleigh_benard_Prandtl_1_Rayleigh_10000.hdf5",
        "data/test/rayleigh_benard_Prandtl_1_Rayleigh_20000.hdf5",
        "data/train/rayleigh_benard_Prandtl_1_Rayleigh_10000.hdf5",
        "data/train/rayleigh_benard_Prandtl_1_Rayleigh_20000.hdf5",
        "data/valid/rayleigh_benard_Prandtl_1_Rayleigh_10000.hdf5",
    ]
    with h5py.File(tmp_path / "well" / files[1]) as file:
        assert file.attrs["Rayleigh"] == 2e4 and not file["scalars/Rayleigh"].attrs["sample_varying"]  # type: ignore[index]
        assert list(file["t0_fields"].attrs["field_names"]) == ["buoyancy", "pressure"]  # type: ignore[arg-type]
        assert file["t1_fields/velocity"].shape == (1, 3, 24, 12, 2)  # type: ignore[union-attr]
        assert file["boundary_conditions/y_wall"].attrs["bc_type"] == "WALL"  # type: ignore[union-attr]


def test_what_is_read_back_is_what_was_made(data: Trajectories, tmp_path: Path) -> None:
    back = open_data(export_well(data, tmp_path / "well")).load()
    assert verify(tmp_path / "well") == []
    assert back.fields == data.fields and back.dt == data.dt
    assert [(axis.name, axis.boundary, axis.length) for axis in back.axes] == [("x", "periodic", 4), ("y", "wall", 1)]
    assert np.allclose(back.axes[1].coordinates, data.axes[1].coordinates, atol=1e-7)
    assert back.attributes["dataset_name"] == "rayleigh_benard"
    for split in ("train", "valid", "test"):
        ours, theirs = data.split(split), back.split(split)
        order = np.argsort(ours.parameters["Rayleigh"], kind="stable")
        assert np.array_equal(np.asarray(ours.states)[order], np.asarray(theirs.states))
        assert np.array_equal(ours.parameters["Rayleigh"][order], theirs.parameters["Rayleigh"])


def test_what_cannot_be_exported_is_told(data: Trajectories, tmp_path: Path) -> None:
    (tmp_path / "well").mkdir()
    with pytest.raises(StorageError, match="well exists; choose another name"):
        export_well(data, tmp_path / "well")
    with pytest.raises(DataError, match="have no splits"):
        export_well(Trajectories(data.states, data.fields, data.axes, data.dt), tmp_path / "other")
    assert [file.name for file in tmp_path.iterdir()] == ["well"]
