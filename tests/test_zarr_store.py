"""Zarr folders: everything comes back, xarray reads them as they are, and no damage goes unnoticed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import zarr

from driftway.data import Fields, Trajectories, inspect, open_data, open_zarr, save_zarr, unwritten, verify, write_zarr
from driftway.data.zarr_store import SUMS
from driftway.errors import DataError, StorageError
from tests.datasets import bits, example, flip


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in files(folder)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_zarr(example(), tmp_path_factory.mktemp("zarr") / "data.zarr")


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy.zarr"))


# --- round trip ----------------------------------------------------------------------------------------------------


def test_everything_comes_back(saved: Path) -> None:
    data, back = example(), open_data(saved)
    for name in ("shape", "fields", "axes", "dt", "time_units", "splits", "attributes"):
        assert getattr(back, name) == getattr(data, name), name
    for name in ("parameters", "static", "forcing"):
        found, expected = getattr(back, name), getattr(data, name)
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[key], expected[key]) for key in expected), name
    assert bits(np.asarray(back.states)) == bits(data.states)


def test_states_come_back_bit_by_bit_even_where_they_are_not_ordinary_numbers(tmp_path: Path) -> None:
    data = example()
    states = data.states.copy()
    states.flat[:5] = -0.0, np.inf, -np.inf, np.nan, 1e-45
    states[1] = np.nan
    back = open_zarr(save_zarr(replace(data, states=states), tmp_path / "odd.zarr"))
    assert bits(np.asarray(back.states)) == bits(states)
    assert verify(tmp_path / "odd.zarr") == []


def test_a_data_set_of_numbers_alone_comes_back(tmp_path: Path) -> None:
    changes = {"parameters": {}, "static": {}, "forcing": {}, "splits": None, "attributes": {}}
    back = open_zarr(save_zarr(example(**changes), tmp_path / "bare.zarr"))
    assert {name: getattr(back, name) for name in changes} == changes


def test_channels_keep_their_order(tmp_path: Path) -> None:
    names = ("q", "a", "z_500", "b")
    states = np.random.default_rng(0).standard_normal((2, 3, 4, 6, 4)).astype(np.float32)
    data = example(2, 3, states=states, fields=Fields(names, ("1", "2", "3", "4")))
    back = open_zarr(save_zarr(data, tmp_path / "named.zarr"))
    assert (back.fields.names, back.fields.units) == (names, ("1", "2", "3", "4"))
    assert bits(back.load().states) == bits(states)


def test_batches_from_disk_are_those_in_memory(saved: Path) -> None:
    lazy, memory = open_zarr(saved).split("train").stride(2), example().split("train").stride(2)
    one, other = (data.transitions().batch(np.array([8, 0, 4, 4, 1])) for data in (lazy, memory))
    assert torch.equal(one.source, other.source)
    assert torch.equal(one.target, other.target)
    assert torch.equal(one.conditioning.fields, other.conditioning.fields)
    assert torch.equal(one.conditioning.params, other.conditioning.params)


def test_plain_xarray_opens_it_with_names_dims_and_cf_attributes(saved: Path) -> None:
    data = example()
    with xr.open_zarr(saved, consolidated=False) as dataset:
        assert dict(dataset.sizes) == {"trajectory": 5, "time": 7, "x": 6, "y": 4}
        for c, name in enumerate(data.fields.names):
            assert dataset[name].dims == ("trajectory", "time", "x", "y")
            assert dataset[name].attrs["units"] == data.fields.units[c]
            assert bits(dataset[name].values) == bits(data.states[:, :, c])
        assert dataset["topography"].dims == ("x", "y")
        assert dataset["wind"].dims == ("time", "x", "y")
        assert dataset["viscosity"].dims == dataset["split"].dims == ("trajectory",)
        assert dataset.attrs["Conventions"] == "CF-1.11"
        assert dataset["split"].attrs["flag_meanings"] == "train valid test"
        assert list(dataset["split"].attrs["flag_values"]) == [0, 1, 2]
        assert dataset["time"].attrs == {"axis": "T", "time_units": "h"}
        assert np.array_equal(dataset["time"], 0.25 * np.arange(7))
        assert dataset["y"].attrs == {"boundary": "wall", "length": 2.5, "units": "km", "symmetry": 0}
        assert tuple(dataset["y"].values) == data.axes[1].coordinates


# --- writing -------------------------------------------------------------------------------------------------------


def template(data: Trajectories) -> Trajectories:
    return replace(data, states=unwritten(*data.shape))


def test_any_order_of_writing_gives_the_same_files(saved: Path, tmp_path: Path) -> None:
    data = example()
    with write_zarr(tmp_path / "data.zarr", template(data)) as writer:
        for rows in ([3], [4, 0], [2, 1]):
            writer[rows] = data.states[rows]
    found, expected = (
        {str(p.relative_to(f)): p.read_bytes() for p in files(f)} for f in (tmp_path / "data.zarr", saved)
    )
    assert found == expected


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("force", [False, True])
def test_an_interrupted_write_leaves_what_was_there(copy: Path, tmp_path: Path, error: type, force: bool) -> None:
    out = copy if force else tmp_path / "new.zarr"
    before = sorted(tmp_path.rglob("*"))
    data = example(frames=9)
    with pytest.raises(error), write_zarr(out, template(data), force) as writer:
        writer[[0]] = data.states[[0]]
        raise error
    assert sorted(tmp_path.rglob("*")) == before
    assert verify(copy) == []


def test_an_unfinished_write_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    data = example()
    with (
        pytest.raises(DataError, match="2 trajectories were not written, first 1"),
        write_zarr(tmp_path / "data.zarr", template(data)) as writer,
    ):
        writer[[4, 0, 2]] = data.states[[4, 0, 2]]
    assert list(tmp_path.iterdir()) == []


def test_trajectories_of_another_shape_are_named(tmp_path: Path) -> None:
    data = example()
    with (
        pytest.raises(DataError, match=r"\(2, 6, 3, 6, 4\), must have \(2, 7, 3, 6, 4\)"),
        write_zarr(tmp_path / "data.zarr", template(data)) as writer,
    ):
        writer[[0, 1]] = data.states[[0, 1], 1:]


def test_a_data_set_is_replaced_only_by_force(copy: Path) -> None:
    data = example(count=3, frames=9)
    with pytest.raises(StorageError, match=r"copy\.zarr exists; choose another name or give --force"):
        save_zarr(data, copy)
    assert open_zarr(copy).shape[0] == 5
    opened = open_zarr(copy)
    np.asarray(opened.states)
    save_zarr(data, copy, force=True)
    assert bits(np.asarray(open_zarr(copy).states)) == bits(data.states)


# --- damage --------------------------------------------------------------------------------------------------------


def test_good_data_raise_no_alarm(saved: Path, copy: Path, tmp_path: Path) -> None:
    moved = copy.rename(tmp_path / "moved.zarr")
    assert verify(saved) == verify(moved) == []
    assert open_zarr(moved).fingerprint() == open_zarr(saved).fingerprint()


def test_one_flipped_bit_in_any_file_is_found(copy: Path) -> None:
    rng = np.random.default_rng(0)
    listed = [path for path in files(copy) if path != copy / SUMS]
    assert len(listed) > 20
    for path in listed:
        whole = path.read_bytes()
        flip(path, int(rng.integers(len(whole))), int(rng.integers(8)))
        assert verify(copy) == [f"{path.relative_to(copy)} has changed"]
        path.write_bytes(whole)
    assert verify(copy) == []


def test_a_missing_and_a_foreign_file_are_found(copy: Path) -> None:
    (copy / "p" / "c" / "2" / "0" / "0" / "0").unlink()
    (copy / "p" / "c" / "notes.txt").write_text("a")
    assert verify(copy) == ["p/c/2/0/0/0 is missing", "p/c/notes.txt is not in trajectory/SHA256SUMS"]


def test_data_with_a_missing_file_do_not_open(copy: Path) -> None:
    for path in files(copy):
        if path not in (copy / SUMS, copy / "zarr.json"):
            whole = path.read_bytes()
            path.unlink()
            with pytest.raises(DataError) as error:
                open_zarr(copy)
            assert str(error.value).startswith(f"{copy}: {path.relative_to(copy)} is missing; copy")
            path.write_bytes(whole)


def damaged(path: Path) -> None:
    flip(path, path.stat().st_size // 2)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("hurt", [damaged, truncated, emptied])
def test_a_damaged_chunk_is_not_read_as_numbers(copy: Path, hurt: Callable[[Path], None]) -> None:
    hurt(copy / "v_x" / "c" / "2" / "0" / "0" / "0")
    data = open_zarr(copy)
    assert np.asarray(data.select([0, 1]).states).shape[0] == 2
    with pytest.raises(DataError) as error:
        data.transitions().batch(np.array([14]))
    line = str(error.value)
    assert line.startswith(f"{copy}: field 'v_x' of trajectory 2 is damaged (")
    assert line.endswith("`driftway verify` lists the files, copy or make them again")
    assert "\n" not in line


def test_data_do_not_open_when_one_bit_of_what_describes_them_has_changed(copy: Path) -> None:
    rng = np.random.default_rng(1)
    chunks = tuple(copy / name / "c" for name in example().fields.names)
    listed = [path for path in files(copy) if path != copy / SUMS]
    described = [path for path in listed if not any(path.is_relative_to(chunk) for chunk in chunks)]
    assert len(described) > 20
    for path in described:
        whole = path.read_bytes()
        flip(path, int(rng.integers(len(whole))), int(rng.integers(8)))
        with pytest.raises(DataError, match=f"^{copy}") as error:
            open_zarr(copy)
        assert "\n" not in str(error.value)
        path.write_bytes(whole)
    assert bits(np.asarray(open_zarr(copy).states)) == bits(example().states)


@pytest.mark.parametrize("name", ["zarr.json", "time/zarr.json", "v_x/zarr.json"])
@pytest.mark.parametrize("hurt", [truncated, emptied])
def test_damaged_descriptions_are_one_line(copy: Path, name: str, hurt: Callable[[Path], None]) -> None:
    hurt(copy / name)
    with pytest.raises(DataError) as error:
        np.asarray(open_zarr(copy).states)
    assert str(copy) in str(error.value) and "\n" not in str(error.value)


# --- what others wrote ---------------------------------------------------------------------------------------------


def foreign(path: Path, zarr_format: int = 3, **changes: object) -> Path:
    """A zarr group as xarray writes it, with nothing of ours."""
    rng = np.random.default_rng(0)
    dims = ("trajectory", "time", "lat")
    variables = {
        "t2m": (dims, rng.standard_normal((3, 4, 5)), {"units": "K"}),
        "q": (dims, rng.standard_normal((3, 4, 5))),
        "orography": (("lat",), rng.standard_normal(5)),
        "sun": (("time", "lat"), rng.standard_normal((4, 5))),
        "co2": (("trajectory",), np.arange(3)),
        "run": (("trajectory",), np.array(["a", "b", "c"], dtype=object)),
    }
    coordinates = {"time": ("time", [0.0, 6.0, 12.0, 18.0], {"units": "hours"}), "lat": np.linspace(-60, 60, 5)}
    dataset = xr.Dataset(variables, coordinates, {"source": "a model"}).assign(changes)
    dataset.to_zarr(path, zarr_format=zarr_format, consolidated=False)
    return path


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_other_zarr_groups_open_by_their_dims(tmp_path: Path, zarr_format: int) -> None:
    path = foreign(tmp_path / "other.zarr", zarr_format)
    data = open_data(path)
    with xr.open_zarr(path, consolidated=False, decode_times=False) as dataset:
        expected = np.stack([dataset["q"].values, dataset["t2m"].values], 2).astype(np.float32)
        assert bits(np.asarray(data.states)) == bits(expected)
        assert np.array_equal(data.static["orography"], dataset["orography"])
        assert np.array_equal(data.forcing["sun"], dataset["sun"])
    assert data.fields == Fields(("q", "t2m"), ("1", "K"))
    assert (data.dt, data.time_units, data.splits) == (6.0, "hours", None)
    assert data.parameters.keys() == {"co2"}
    assert data.attributes == {"source": "a model"}
    assert (data.axes[0].name, data.axes[0].boundary, data.axes[0].length) == ("lat", "open", 120.0)
    with pytest.raises(DataError, match="was not written by driftway and cannot be verified"):
        verify(path)


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_what_does_not_fit_in_other_groups_is_named(tmp_path: Path) -> None:
    cases = {
        "times must be equally spaced": {"time": [0.0, 6.0, 12.0, 24.0]},
        "'split' must hold 0": {"split": ("trajectory", [0, 1, 7])},
        "'wind' has the dims": {"wind": (("trajectory", "time", "lat", "level"), np.zeros((3, 4, 5, 2)))},
    }
    for number, (words, change) in enumerate(cases.items()):
        with pytest.raises(DataError, match=words):
            open_zarr(foreign(tmp_path / f"{number}.zarr", **change))
    xr.Dataset({"u": ("x", np.zeros(3))}).to_zarr(tmp_path / "flat.zarr", consolidated=False)
    with pytest.raises(DataError, match=r"no variable with the dims \(trajectory, time, axes …\); it has u"):
        open_zarr(tmp_path / "flat.zarr")


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_the_fingerprint_of_a_foreign_group_changes_with_its_files(tmp_path: Path) -> None:
    path = foreign(tmp_path / "other.zarr")
    before = open_zarr(path).fingerprint()
    assert open_zarr(path).fingerprint() == before
    zarr.open_array(path / "q", mode="r+")[0, 0, 0] = 7.0
    assert open_zarr(path).fingerprint() != before


# --- any path ------------------------------------------------------------------------------------------------------


def test_paths_that_are_no_data_set_are_named(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a")
    (tmp_path / "empty.zarr").mkdir()
    for name, words in {
        "none.zarr": "does not exist; make a data set with `driftway data make",
        "words.txt": "is none of the known kinds of data sets: zarr folder, .*HDF5",
        "empty.zarr": "is not a zarr folder: it has no zarr.json",
    }.items():
        for action in (open_data, verify):
            with pytest.raises(DataError, match=words) as error:
                action(tmp_path / name)
            assert str(error.value).startswith(str(tmp_path / name))


def test_inspect_describes_it_for_people_and_machines(saved: Path) -> None:
    told = inspect(open_data(saved))
    assert json.loads(json.dumps(told)) == told
    assert (told["trajectories"], told["frames"], told["dt"], told["time_units"]) == (5, 7, 0.25, "h")
    assert told["splits"] == {"train": 3, "valid": 1, "test": 1}
    assert told["fields"] == {"p": "Pa", "v_x": "m s-1", "v_y": "m s-1"}
    assert told["axes"] == {
        "x": "6 points, length 3 m, periodic, symmetric under shifts by 2",
        "y": "4 points, length 2.5 km, wall",
    }
    assert told["parameters"] == {"alpha": "0.5 … 0.5", "viscosity": "1 … 2"}
    assert (told["static"], told["forcing"]) == (["mask", "topography"], ["wind"])
    assert told["fingerprint"] == open_zarr(saved).fingerprint()
