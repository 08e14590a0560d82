"""The Well's HDF5 layout: what we write comes back, what the layout allows is read, no damage goes unnoticed."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from driftway.data import Axis, Fields, Trajectories, open_data, open_well, save_well, save_zarr, verify
from driftway.errors import ConfigError, DataError, StorageError
from driftway.parameters import fitted_parameters
from tests.datasets import X, Y, bits, entries, example, flip, put

Z = Axis("z", (0.0, 1.0, 2.0), "open", 2.0)


# --- what we write -------------------------------------------------------------------------------------------------


def test_everything_that_the_layout_holds_comes_back(tmp_path: Path) -> None:
    data = example(splits=None)
    back = open_data(save_well(data, tmp_path / "data.hdf5"))
    for name in ("shape", "fields", "axes", "dt", "time_units", "attributes"):
        assert getattr(back, name) == getattr(data, name), name
    for name in ("parameters", "static", "forcing"):
        found, expected = getattr(back, name), getattr(data, name)
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[key], expected[key]) for key in expected), name
    assert bits(np.asarray(back.states)) == bits(data.states)
    assert back.splits is None
    assert verify(tmp_path / "data.hdf5") == []


@pytest.mark.parametrize("axes", [(X,), (X, Y), (X, Y, Z)], ids=len)
def test_scalars_vectors_and_tensors_of_any_dimension_come_back(axes: tuple[Axis, ...], tmp_path: Path) -> None:
    names = [axis.name for axis in axes]
    channels = ["s", *(f"v_{i}" for i in names), *(f"T_{i}{j}" for i, j in product(names, names))]
    shape = (2, 3, len(channels), *map(len, axes))
    states = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    data = Trajectories(states, Fields(tuple(channels), ("1",) * len(channels)), axes, 0.1)
    back = open_well(save_well(data, tmp_path / "data.h5"))
    assert back.fields == data.fields
    assert bits(np.asarray(back.states)) == bits(states)
    with h5py.File(tmp_path / "data.h5") as file:
        space = shape[3:]
        assert file["t0_fields/s"].shape == (2, 3, *space)
        assert file["t1_fields/v"].shape == (2, 3, *space, len(axes))
        assert file["t2_fields/T"].shape == (2, 3, *space, len(axes), len(axes))
        assert np.array_equal(file["t1_fields/v"][1, 2, ..., -1], states[1, 2, len(axes)])


def test_channels_are_a_vector_only_if_all_its_components_are_there_in_one_unit(tmp_path: Path) -> None:
    names = ("v", "v_x", "v_y", "w_x", "u_x", "u_y", "T_xx", "T_xy", "T_yy")
    units = ("1", "m", "m", "m", "m", "K", "1", "1", "1")
    states = np.random.default_rng(0).standard_normal((2, 3, 9, 6, 4)).astype(np.float32)
    data = Trajectories(states, Fields(names, units), (X, Y), 0.1)
    back = open_well(save_well(data, tmp_path / "data.h5"))
    with h5py.File(tmp_path / "data.h5") as file:
        assert list(file["t1_fields"]) == ["v"]
        assert list(file["t2_fields"]) == []
    assert dict(zip(back.fields.names, back.fields.units, strict=True)) == dict(zip(names, units, strict=True))
    order = [back.fields.index(name) for name in names]
    assert bits(np.asarray(back.states)[:, :, order]) == bits(states)


def test_a_file_is_replaced_only_by_force_and_read_anew(tmp_path: Path) -> None:
    path = save_well(example(), tmp_path / "new" / "data.h5")
    before = open_well(path)
    assert bits(np.asarray(before.states)) == bits(example().states)
    with pytest.raises(StorageError, match=r"data\.h5 exists; choose another name or give --force"):
        save_well(example(3), path)
    save_well(example(3), path, force=True)
    after = open_well(path)
    assert bits(np.asarray(after.states)) == bits(example(3).states)
    assert after.fingerprint() != before.fingerprint()
    with pytest.raises(DataError, match=r"data\.zarr must end in \.hdf5 or \.h5"):
        save_well(example(), tmp_path / "data.zarr")


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = save_well(example(), tmp_path / "data.h5")
    path.with_name("broken.h5").write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(DataError):
        save_well(open_well(path.with_name("broken.h5")), path, force=True)

    class Interrupted(np.ndarray):
        def __getitem__(self, key: Any) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_well(example(states=example().states.view(Interrupted)), path, force=True)
    assert entries(tmp_path) == ["broken.h5", "data.h5"]
    assert verify(path) == []
    assert bits(np.asarray(open_well(path).states)) == bits(example().states)


# --- folders -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["", "data"])
def test_folders_of_splits_are_read_as_one_data_set(base: str, tmp_path: Path) -> None:
    whole = example(9, splits=None)
    pieces = {"train/b.h5": [2, 3, 4], "train/a.hdf5": [0, 1], "valid/a.h5": [5, 6], "test/a.h5": [7, 8]}
    for name, rows in pieces.items():
        save_well(whole.select(rows), tmp_path / base / name, name="channel")
    (tmp_path / "stats.yaml").write_text("mean: {}")
    data = open_data(tmp_path)
    assert data.splits == ("train",) * 5 + ("valid",) * 2 + ("test",) * 2
    assert bits(np.asarray(data.states)) == bits(whole.states)
    places = np.array([8, 0, 4, 2, 1, 5]), np.array([1, 2, 3, 0, 6, 6])
    assert bits(data.states[places]) == bits(whole.states[places])
    assert np.allclose(data.parameters["viscosity"], whole.parameters["viscosity"], rtol=1e-6)
    assert np.array_equal(np.asarray(data.split("valid").states), whole.states[[5, 6]])
    assert verify(tmp_path) == []


def test_a_folder_of_files_has_no_splits(tmp_path: Path) -> None:
    for row in range(3):
        save_well(example(splits=None).select([row]), tmp_path / f"{row}.h5", name="channel")
    data = open_data(tmp_path)
    assert data.splits is None
    assert bits(np.asarray(data.states)) == bits(example().states[:3])


DIFFERENT: dict[str, dict[str, Any]] = {
    "fields": {"fields": Fields(("p", "v_x", "q"), ("1", "1", "1"))},
    "grid": {"axes": (X, replace(Y, boundary="open"))},
    "time step": {"dt": 0.5},
    "scalars": {"parameters": {}},
    "static fields": {"static": {}},
    "forcing": {"forcing": {"wind": np.zeros((7, 6, 4), np.float32)}},
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_files_of_different_data_sets_are_kept_apart(what: str, tmp_path: Path) -> None:
    save_well(example(), tmp_path / "a.h5")
    save_well(example(**DIFFERENT[what]), tmp_path / "b.h5")
    with pytest.raises(
        DataError, match=rf"b\.h5 and .*a\.h5 differ in {what}.*: they are two data sets, keep them apart"
    ):
        open_well(tmp_path)
    save_well(example(frames=6), tmp_path / "b.h5", force=True)
    with pytest.raises(DataError, match=r"differ in number of times \(7 and 6\)"):
        open_well(tmp_path)


def test_files_that_differ_say_by_what(tmp_path: Path) -> None:
    save_well(example(), tmp_path / "a.h5")
    save_well(example(parameters={"viscosity": np.ones(5)}), tmp_path / "b.h5")
    with pytest.raises(DataError, match=r"scalars \(alpha in one of them alone\)"):
        open_well(tmp_path)
    states, axes = np.zeros((5, 7, 3, 3, 4), np.float32), (Axis.uniform("x", 3, 3.0), Y)
    save_well(example(states=states, axes=axes, static={}, forcing={}), tmp_path / "b.h5", force=True)
    with pytest.raises(DataError, match=r"grid \(6×4 and 3×4 points"):
        open_well(tmp_path)


# --- Rayleigh–Bénard as The Well has it ----------------------------------------------------------------------------

WALLS = tuple(((1 - np.cos(np.pi * np.arange(5) / 4)) / 2).tolist())


def write_convection(path: Path, rayleigh: float, prandtl: float, count: int) -> np.ndarray:
    """One file of one parameter set, x periodic on [0, 4), walls at y = 0 and 1 and Chebyshev points between them."""
    rng = np.random.default_rng(round(abs(rayleigh)))
    shapes = {"t0_fields/buoyancy": (), "t0_fields/pressure": (), "t1_fields/velocity": (2,)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs.update(dataset_name="rayleigh_benard", grid_type="cartesian", n_spatial_dims=2, n_trajectories=count)
        file.attrs.update(simulation_parameters=["Rayleigh", "Prandtl"], Rayleigh=rayleigh, Prandtl=prandtl)
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = ["x", "y"]
        put(dimensions, "time", 0.25 * np.arange(6), False, True)
        put(dimensions, "x", np.arange(8) / 2, False, False)
        put(dimensions, "y", WALLS, False, False)
        for name, kind, size in (("x_periodic", "PERIODIC", 8), ("y_wall", "WALL", 5)):
            condition = file.create_group(f"boundary_conditions/{name}")
            condition.attrs.update(associated_dims=[name[0]], associated_fields=[], bc_type=kind)
            condition.attrs.update(sample_varying=False, time_varying=False)
            condition["mask"] = np.isin(np.arange(size), [0, size - 1])
        scalars = file.create_group("scalars")
        scalars.attrs["field_names"] = ["Prandtl", "Rayleigh"]
        put(scalars, "Prandtl", prandtl, False, False)
        put(scalars, "Rayleigh", rayleigh, False, False)
        for group, names in (("t0_fields", ["buoyancy", "pressure"]), ("t1_fields", ["velocity"]), ("t2_fields", [])):
            file.create_group(group).attrs["field_names"] = names
        for name, more in shapes.items():
            group, _, field = name.partition("/")
            put(file[group], field, rng.standard_normal((count, 6, 8, 5, *more)), True, True, dim_varying=[True, True])
        return np.stack(
            [
                *(file[f"t0_fields/{n}"][()] for n in ("buoyancy", "pressure")),
                *np.moveaxis(file["t1_fields/velocity"][()], -1, 0),
            ],
            2,
        )


def test_convection_in_files_of_one_parameter_set_and_any_number_of_trajectories(tmp_path: Path) -> None:
    sets = [("train", 1e6, 0.5, 3), ("train", 1e8, 2.0, 1), ("valid", 1e7, 1.0, 1), ("test", 1e7, 1.0, 2)]
    names = [f"data/{split}/rayleigh_benard_Rayleigh_{ra:g}_Prandtl_{pr:g}.hdf5" for split, ra, pr, _ in sets]
    wrote = [write_convection(tmp_path / name, *about[1:]) for name, about in zip(names, sets, strict=True)]
    data = open_data(tmp_path)
    assert data.fields.names == ("buoyancy", "pressure", "velocity_x", "velocity_y")
    assert data.boundary == ("periodic", "wall") and (data.axes[0].length, data.axes[1].length) == (4.0, 1.0)
    assert data.axes[1].coordinates == pytest.approx(WALLS, abs=1e-6) and data.dt == 0.25
    assert data.splits == ("train",) * 4 + ("valid",) + ("test",) * 2
    assert bits(np.asarray(data.states)) == bits(np.concatenate(wrote))
    assert data.parameters["Rayleigh"].tolist() == [1e6] * 3 + [1e8] + [1e7] * 3
    assert data.parameters["Prandtl"].tolist() == [0.5] * 3 + [2.0] + [1.0] * 3
    assert [(p.name, p.scale) for p in fitted_parameters(data)] == [("Prandtl", "linear"), ("Rayleigh", "log")]
    batch = data.split("train").stride(2).window(1, 2).transitions().batch(np.arange(4))
    assert bits(batch.target) == bits(np.concatenate(wrote[:2])[:, 4])
    assert batch.conditioning.params is not None and batch.conditioning.params[:, 1].tolist() == [1e6] * 3 + [1e8]


@pytest.mark.parametrize("value", [-1e6, 0.0])
def test_a_parameter_without_a_logarithm_is_named(value: float, tmp_path: Path) -> None:
    write_convection(tmp_path / "a.hdf5", 1e6, 1.0, 2)
    write_convection(tmp_path / "b.hdf5", value, 1.0, 1)
    data = open_data(tmp_path)
    with pytest.raises(DataError, match=re.escape(f"parameter 'Rayleigh' is {value:g} in trajectory 2 and must")):
        fitted_parameters(data, {"Rayleigh": "log"})
    with pytest.raises(ConfigError, match="no parameter 'Ra'; they have Prandtl, Rayleigh"):
        fitted_parameters(data, {"Ra": "log"})


# --- static fields of each trajectory ------------------------------------------------------------------------------


def test_each_trajectory_may_have_static_fields_of_its_own(tmp_path: Path) -> None:
    own = np.random.default_rng(1).standard_normal((5, 6, 4)).astype(np.float32)
    data = example(static={"mask": example().static["mask"], "density": own}, splits=None)
    pieces = [data.select([0, 1, 2]), data.select([3, 4])]
    for number, piece in enumerate(pieces):
        save_well(piece, tmp_path / "well" / f"{number}.h5", name="channel")
    for path in (tmp_path / "well", save_zarr(data, tmp_path / "data.zarr")):
        back = open_data(path)
        assert back.static.keys() == data.static.keys()
        assert all(np.array_equal(back.static[name], data.static[name]) for name in data.static)
        fields = back.select([4, 1]).conditioning(np.array([1, 0, 1]), np.array([0, 3, 5])).fields
        assert fields is not None and bits(fields[:, 0]) == bits(own[[1, 4, 1]])
        assert bits(fields[:, 1]) == bits(np.stack([data.static["mask"]] * 3))
    with h5py.File(tmp_path / "well" / "1.h5") as file:
        about = file["t0_fields/density"].attrs
        assert (about["sample_varying"], about["time_varying"]) == (True, False)
    with pytest.raises(DataError, match=r"'density' has the shape \(4, 6, 4\), must have \(6, 4\) or \(5, 6, 4\)"):
        example(static={"density": own[:4]})


def test_the_fingerprint_changes_with_files_and_splits(tmp_path: Path) -> None:
    prints = []
    for name in ("train/a.h5", "valid/a.h5", "test/a.h5"):
        save_well(example(splits=None), tmp_path / name)
        prints += [open_well(tmp_path).fingerprint() for _ in range(2)]
    assert prints[::2] == prints[1::2]
    assert len(set(prints)) == 3


# --- damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10, 2000, -1])
def test_empty_and_truncated_files_are_one_line_with_path_size_and_remedy(size: int, tmp_path: Path) -> None:
    path = save_well(example(), tmp_path / "data.h5")
    path.write_bytes(path.read_bytes()[:size])
    for action in (open_well, open_data):
        with pytest.raises(DataError) as error:
            action(path)
        line = str(error.value)
        assert line.startswith(f"{path} ({path.stat().st_size} bytes) is not a readable file of The Well's layout: ")
        assert line.endswith("; copy it again") and "\n" not in line
    assert len(verify(path)) == 1


def test_missing_paths_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("none.h5", "none", "empty"):
        with pytest.raises(
            DataError, match=rf"{name} holds no \.hdf5 or \.h5 files, nor do train, valid and test in it"
        ):
            open_well(tmp_path / name)


def chunks(path: Path) -> dict[str, int]:
    """The middle of the first chunk of every array in a file."""
    places: dict[str, int] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim:
            chunk = item.id.get_chunk_info(0)
            places[name] = chunk.byte_offset + chunk.size // 2

    with h5py.File(path) as file:
        file.visititems(note)
    return places


def test_one_flipped_bit_in_any_array_is_found_and_not_read_as_a_number(tmp_path: Path) -> None:
    path = save_well(example(), tmp_path / "data.h5")
    places = chunks(path)
    assert {"t0_fields/p", "t1_fields/v", "t0_fields/mask", "scalars/viscosity", "dimensions/time"} <= places.keys()
    whole = path.read_bytes()
    for name, offset in places.items():
        flip(path, offset)
        assert len(verify(path)) == 1, name
        if name in ("t0_fields/p", "t1_fields/v"):
            data = open_well(path)
            with pytest.raises(DataError, match="copy it again"):
                np.asarray(data.states)
        path.write_bytes(whole)
    assert verify(path) == []


def test_one_flipped_bit_anywhere_never_gives_other_numbers(tmp_path: Path) -> None:
    data, rng, refused = example(2, 3), np.random.default_rng(0), 0
    path = save_well(data, tmp_path / "data.h5")
    whole = path.read_bytes()
    for offset in rng.integers(len(whole), size=100):
        flip(path, int(offset), int(rng.integers(8)))
        try:
            assert bits(np.asarray(open_well(path).states)) == bits(data.states)
        except DataError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
        path.write_bytes(whole)
    assert refused > 30


def test_a_file_that_vanishes_is_named_when_it_is_read(tmp_path: Path) -> None:
    data = open_well(save_well(example(), tmp_path / "data.h5"))
    (tmp_path / "data.h5").unlink()
    with pytest.raises(DataError, match=r"data\.h5 \(missing\) is not a readable file"):
        data.states[np.array([0]), np.array([0])]
