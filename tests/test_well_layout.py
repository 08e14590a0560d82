"""Files in The Well's layout as others write them: times, boundaries, types, chunks, and what cannot be read."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from driftway.data import open_data, open_well, save_well, verify
from driftway.data.states import Lazy
from driftway.errors import DataError
from tests.datasets import bits, example, put


def write_layout(path: Path, change: Callable[[h5py.File], None] = lambda file: None) -> dict[str, np.ndarray]:
    """A file of 2 trajectories of 4 frames on 5 × 3 points, written from the layout's specification alone."""
    rng = np.random.default_rng(7)

    def random(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    wrote = {
        "A": random(2, 4, 5, 3),
        "B": random(5, 3),
        "C": random(2, 4, 5),
        "E": random(4, 5, 3),
        "V": random(2, 4, 5, 3, 2),
        "W": random(5, 3, 2),
        "T": random(2, 4, 5, 3, 2, 2),
    }
    every = {"dim_varying": [True, True]}
    with h5py.File(path, "w") as file:
        file.attrs.update(simulation_parameters=["ParamA"], ParamA=1.5, dataset_name="example", grid_type="cartesian")
        file.attrs.update(n_spatial_dims=2, n_trajectories=2)
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = ["x", "y"]
        put(dimensions, "time", 100 + 0.1 * np.arange(4), False, True)
        put(dimensions, "x", np.arange(5) / 5, False, False)
        put(dimensions, "y", [0, 1, 3], False, False)
        for name, kind, mask in (("X_boundary", "periodic", [1, 0, 0, 0, 1]), ("wall", "WALL", [1, 0, 1])):
            condition = file.create_group(f"boundary_conditions/{name}")
            condition.attrs.update(associated_dims=["x" if kind == "periodic" else "y"], associated_fields=["A"])
            condition.attrs.update(bc_type=kind, sample_varying=False, time_varying=False)
            condition["mask"], condition["values"] = np.array(mask, bool), np.zeros(2, np.float32)
        scalars = file.create_group("scalars")
        scalars.attrs["field_names"] = ["ParamA", "Single", "Each", "Season"]
        put(scalars, "ParamA", 1.5, False, False)
        put(scalars, "Single", [2.5], False, False)
        put(scalars, "Each", [3.0, 4.0], True, False)
        put(scalars, "Season", [0, 1, 2, 3], False, True)
        groups = [file.create_group(f"t{order}_fields") for order in range(3)]
        for group, names in zip(groups, (["A", "B", "C", "E"], ["V", "W"], ["T"]), strict=True):
            group.attrs["field_names"] = names
        put(groups[0], "A", wrote["A"], True, True, **every, units="Pa")
        put(groups[0], "B", wrote["B"], False, False, **every)
        put(groups[0], "C", wrote["C"], True, True, dim_varying=[True, False])
        put(groups[0], "E", wrote["E"], False, True, **every)
        put(groups[1], "V", wrote["V"], True, True, **every)
        put(groups[1], "W", wrote["W"], False, False, **every)
        put(groups[2], "T", wrote["T"], True, True, **every, symmetric=False, antisymmetric=False)
        change(file)
    return wrote


def test_a_file_in_the_layout_of_the_specification_is_read(tmp_path: Path) -> None:
    wrote = write_layout(tmp_path / "example.hdf5")
    data = open_data(tmp_path / "example.hdf5")
    assert data.fields.names == ("A", "C", "V_x", "V_y", "T_xx", "T_xy", "T_yx", "T_yy")
    assert data.fields.units == ("Pa", *["1"] * 7)
    expected = np.empty((2, 4, 8, 5, 3), np.float32)
    expected[:, :, 0], expected[:, :, 1] = wrote["A"], wrote["C"][..., None]
    for c, parts in enumerate([(0,), (1,)], 2):
        expected[:, :, c] = wrote["V"][(..., *parts)]
    for c, parts in enumerate(product(range(2), range(2)), 4):
        expected[:, :, c] = wrote["T"][(..., *parts)]
    assert bits(np.asarray(data.states)) == bits(expected)
    assert bits(data.states[[1, 0, 1], [3, 0, 2]]) == bits(expected[[1, 0, 1], [3, 0, 2]])
    assert list(data.static) == ["B", "W_x", "W_y"]
    assert bits(data.static["B"]) == bits(wrote["B"])
    assert bits(data.static["W_y"]) == bits(wrote["W"][..., 1])
    assert bits(data.forcing["E"]) == bits(wrote["E"])
    assert np.array_equal(data.forcing["Season"][:, 2, 1], [0, 1, 2, 3])
    parameters = {name: values.tolist() for name, values in data.parameters.items()}
    assert parameters == {"ParamA": [1.5, 1.5], "Single": [2.5, 2.5], "Each": [3.0, 4.0]}
    assert data.boundary == ("periodic", "wall")
    assert data.axes[0].length == pytest.approx(1.0)
    assert (data.axes[1].length, data.axes[1].coordinates) == (3.0, (0.0, 1.0, 3.0))
    assert data.dt == pytest.approx(0.1, rel=1e-4)
    assert (data.attributes, data.time_units) == ({"dataset_name": "example"}, "1")
    assert verify(tmp_path / "example.hdf5") == []


@pytest.mark.parametrize("times", [np.arange(4), np.stack([np.arange(4), 5 + np.arange(4)]), 10 + 0.5 * np.arange(4)])
def test_times_may_differ_between_trajectories_if_steps_do_not(times: np.ndarray, tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        del file["dimensions/time"]
        put(file["dimensions"], "time", times, times.ndim > 1, True)

    write_layout(tmp_path / "a.h5", change)
    assert open_well(tmp_path / "a.h5").dt == times.flat[1] - times.flat[0]


def boundary(name: str, dims: list[str], kind: str, mask: np.ndarray) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        condition = file.create_group(f"boundary_conditions/{name}")
        condition.attrs.update(associated_dims=dims, bc_type=kind, sample_varying=False, time_varying=False)
        condition["mask"] = mask

    return change


def with_attributes(name: str, **attributes: Any) -> Callable[[h5py.File], None]:
    return lambda file: file[name].attrs.update(attributes)


def test_boundaries_are_those_at_the_ends_of_an_axis(tmp_path: Path) -> None:
    inside, nowhere, side = np.zeros((5, 3), bool), np.zeros(5, bool), np.array([False, False, True])
    inside[2, 1] = True
    write_layout(tmp_path / "a.h5", boundary("A_obstacle", ["x", "y"], "open", inside))
    assert open_well(tmp_path / "a.h5").boundary == ("periodic", "wall")
    write_layout(tmp_path / "b.h5", boundary("outlet", ["y"], "OPEN", side))
    assert open_well(tmp_path / "b.h5").boundary == ("periodic", "open")
    write_layout(tmp_path / "d.h5", lambda file: file["boundary_conditions/X_boundary/mask"].write_direct(nowhere))
    assert open_well(tmp_path / "d.h5").boundary == ("periodic", "wall")
    write_layout(tmp_path / "e.h5", with_attributes("boundary_conditions/wall", associated_dims="y"))
    assert open_well(tmp_path / "e.h5").boundary == ("periodic", "wall")
    write_layout(tmp_path / "c.h5", lambda file: file["boundary_conditions"].pop("wall"))
    assert open_well(tmp_path / "c.h5").boundary == ("periodic", "open")


def retimed(file: h5py.File) -> None:
    file["dimensions/time"][:] = [0, 1, 2, 4]


def rescaled(file: h5py.File) -> None:
    del file["scalars/Each"]
    put(file["scalars"], "Each", [1, 2, 3], True, False)


def unknown(file: h5py.File) -> None:
    file["scalars/ParamA"][()] = np.nan


def fieldless(file: h5py.File) -> None:
    for group, names in (("t0_fields", ["B"]), ("t1_fields", []), ("t2_fields", [])):
        file[group].attrs["field_names"] = names


UNFIT: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "field": (lambda file: file["t1_fields"].pop("V"), "t1_fields lists 'V' in field_names and holds W: write it"),
    "scalars": (lambda file: file["scalars"].pop("Each"), "scalars lists 'Each' in field_names and holds ParamA, S"),
    "not a number": (unknown, "scalar 'ParamA' is nan, must be finite"),
    "boundary": (
        with_attributes("boundary_conditions/wall", bc_type="slip"),
        "bc_type of boundary_conditions/wall is 'slip', must be one of PERIODIC, OPEN, WALL",
    ),
    "times of a field": (with_attributes("t0_fields/A", time_varying=False), r"\(2, 4, 5, 3\), must have \(2, 5, 3\)"),
    "shape": (
        with_attributes("t0_fields/C", dim_varying=[True, True]),
        r"'C' has the shape \(2, 4, 5\), must have \(2, 4, 5, 3\)",
    ),
    "scalar": (rescaled, r"scalar 'Each' has the shape \(3,\)"),
    "times": (retimed, "time must hold 4 equally spaced times"),
    "no state": (fieldless, "no field that varies with sample and time"),
    "no group": (lambda file: file.pop("dimensions"), "not a readable file of The Well's layout"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_cannot_be_read_is_named(case: str, tmp_path: Path) -> None:
    change, words = UNFIT[case]
    write_layout(tmp_path / "odd.h5", change)
    with pytest.raises(DataError, match=words) as error:
        open_well(tmp_path / "odd.h5")
    assert str(tmp_path / "odd.h5") in str(error.value) and "\n" not in str(error.value)
    assert len(verify(tmp_path / "odd.h5")) == 1


@pytest.mark.parametrize("chunks", [None, (1, 1, 5, 3), (1, 3, 5, 3), (2, 4, 3, 2)], ids=str)
@pytest.mark.parametrize("packed", [False, True])
def test_any_chunks_and_types_are_read_alike(chunks: tuple[int, ...] | None, packed: bool, tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        for name, dimensions in (("t0_fields/A", 0), ("t1_fields/V", 1)):
            values, about = file[name][()].astype(np.float64), dict(file[name].attrs)
            del file[name]
            whole = None if chunks is None else (*chunks, *(2,) * dimensions)
            packing = {"compression": "gzip", "shuffle": True} if packed and chunks else {}
            file.create_dataset(name, data=values, chunks=whole, **packing).attrs.update(about)

    wrote = write_layout(tmp_path / "a.h5", change)
    data = open_well(tmp_path / "a.h5")
    assert isinstance(data.states, Lazy) and data.states.reader.together == (chunks[1] if packed and chunks else 1)
    found = np.asarray(data.states)
    assert bits(found[:, :, 0]) == bits(wrote["A"])
    assert bits(found[:, :, 2:4]) == bits(np.moveaxis(wrote["V"], -1, 2))
    assert bits(data.states[[1, 0, 1], [0, 3, 2]]) == bits(found[[1, 0, 1], [0, 3, 2]])


def test_a_file_is_opened_once_by_each_process_that_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = open_well(save_well(example(), tmp_path / "data.h5")).states
    expected, opens = bits(example().states[[4, 0], [6, 2]]), list[Path]()
    file = h5py.File
    monkeypatch.setattr(h5py, "File", lambda path, *rest, **more: opens.append(path) or file(path, *rest, **more))
    for _ in range(3):
        assert bits(states[[4, 0], [6, 2]]) == expected
    assert opens == [tmp_path / "data.h5"]
    for kind in ("fork", "spawn"):
        with multiprocessing.get_context(kind).Pool(1) as pool:
            assert bits(pool.apply(states.__getitem__, (([4, 0], [6, 2]),))) == expected
    with ThreadPoolExecutor(4) as threads:
        found = threads.map(lambda n: bits(states[[n % 5] * 2, [n % 7, 3]]), range(60))
        assert list(found) == [bits(example().states[[n % 5] * 2, [n % 7, 3]]) for n in range(60)]
