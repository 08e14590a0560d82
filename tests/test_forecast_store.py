"""Where forecasts go: memory and disk agree, in any order of blocks, under names that others know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from driftway.data import Axis, Fields
from driftway.data.forecasts import in_memory, on_disk, open_forecast
from driftway.data.layout import Layout
from driftway.errors import DataError, StorageError
from tests.datasets import X, Y, bits, flip

LAYOUT = Layout(Fields(("z", "a"), ("m", "K")), (X, Y), 0.25, "h")
MEMBERS, NAMES, LEADS = 5, [7, 3, 11], 2
STATES = np.random.default_rng(0).standard_normal((MEMBERS, len(NAMES), LEADS, *LAYOUT.shape)).astype(np.float32)
BLOCKS = [(slice(m, m + 2), slice(n, n + 1), lead) for m in (0, 2, 4) for n in range(3) for lead in range(LEADS)]
ABOUT = {"seed": 3, "label": "test"}


def written(writer: Callable[..., Any], blocks: list[tuple[slice, slice, int]] = BLOCKS) -> xr.Dataset:
    with writer(LAYOUT, MEMBERS, NAMES, LEADS, ABOUT) as sink:
        for members, trajectories, lead in blocks:
            sink.put(members, trajectories, lead, STATES[members, trajectories, lead])
    return sink.dataset()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    written(on_disk(tmp_path / "forecast.zarr", 2))
    return tmp_path / "forecast.zarr"


def test_memory_and_disk_hold_the_same_forecast(out: Path) -> None:
    memory, disk = written(in_memory), open_forecast(out)
    assert disk.identical(memory)
    for c, name in enumerate(LAYOUT.fields.names):
        assert bits(disk[name].values) == bits(memory[name].values) == bits(STATES[:, :, :, c])


def test_names_units_and_attributes_are_those_of_the_cf_conventions(out: Path) -> None:
    with xr.open_zarr(out, consolidated=False) as forecast:
        for name, unit in (("z", "m"), ("a", "K")):
            assert forecast[name].dims == ("realization", "trajectory", "lead_time", "x", "y")
            assert (forecast[name].dtype, forecast[name].attrs["units"]) == (np.float32, unit)
        assert forecast.attrs == {"Conventions": "CF-1.11", **ABOUT}
        assert forecast["realization"].attrs["standard_name"] == "realization"
        assert forecast["lead_time"].attrs["standard_name"] == "forecast_period"
        assert forecast["lead_time"].attrs["time_units"] == "h"
        assert forecast["lead_time"].values.tolist() == [0.25, 0.5]
        assert forecast["realization"].values.tolist() == list(range(MEMBERS))
        assert forecast["trajectory"].values.tolist() == NAMES
        assert forecast["y"].attrs == {"boundary": "wall", "length": 2.5, "units": "km"}
        assert tuple(forecast["y"].values) == Y.coordinates


@settings(deadline=None, max_examples=5)
@given(st.permutations(BLOCKS))
def test_the_order_of_blocks_does_not_matter(blocks: list[tuple[slice, slice, int]]) -> None:
    assert written(in_memory, blocks).identical(written(in_memory))


def test_the_order_of_blocks_does_not_matter_on_disk(out: Path, tmp_path: Path) -> None:
    written(on_disk(tmp_path / "other.zarr", 2), BLOCKS[::-1])
    for path in out.rglob("*"):
        if path.is_file():
            assert (tmp_path / "other.zarr" / path.relative_to(out)).read_bytes() == path.read_bytes()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("writer", [in_memory, "disk"], ids=["memory", "disk"])
def test_states_may_be_known_by_name(writer: Any, tmp_path: Path) -> None:
    make = on_disk(tmp_path / "f.zarr", 1) if writer == "disk" else writer
    with make(LAYOUT, 1, ["2020-01-01", "b"], 1, {}) as sink:
        sink.put(slice(0, 1), slice(0, 2), 0, STATES[:1, :2, 0])
    assert sink.dataset()["trajectory"].values.tolist() == ["2020-01-01", "b"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_forecast_leaves_what_was_there(out: Path, tmp_path: Path, force: bool, error: type) -> None:
    def interrupted() -> Iterator[tuple[slice, slice, int]]:
        yield BLOCKS[0]
        raise error

    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error):
        written(on_disk(out if force else tmp_path / "new.zarr", 2, force), interrupted())  # type: ignore[arg-type]
    assert sorted(tmp_path.rglob("*")) == before
    assert open_forecast(out).identical(written(in_memory))


def test_a_forecast_is_replaced_only_by_force(out: Path) -> None:
    with pytest.raises(StorageError, match=r"forecast\.zarr exists; choose another name or give --force"):
        written(on_disk(out, 2))
    assert written(on_disk(out, 3, force=True)).identical(written(in_memory))


def test_a_diverged_forecast_is_stored_as_it_is(tmp_path: Path) -> None:
    with on_disk(tmp_path / "f.zarr", 1)(LAYOUT, 2, [0], 1, {}) as sink:
        for member, value in enumerate((np.nan, np.inf)):
            states = np.full((1, 1, *LAYOUT.shape), value, np.float32)
            sink.put(slice(member, member + 1), slice(0, 1), 0, states)
    forecast = open_forecast(tmp_path / "f.zarr")
    assert np.isnan(forecast["z"].values[0]).all() and np.isinf(forecast["z"].values[1]).all()


def test_missing_files_are_counted(out: Path) -> None:
    for lead in range(2):
        (out / "a" / "c" / "1" / "2" / str(lead) / "0" / "0").unlink()
    with pytest.raises(DataError, match=r"forecast\.zarr: 2 files of 'a' are missing; copy the folder again"):
        open_forecast(out)


def test_what_is_no_forecast_is_named(tmp_path: Path, out: Path) -> None:
    with pytest.raises(DataError, match=r"none\.zarr is not a forecast: .*`driftway forecast RUN --out"):
        open_forecast(tmp_path / "none.zarr")
    (out / "z" / "zarr.json").write_text("{")
    with pytest.raises(DataError, match=r"z/zarr\.json has changed; .*make them again"):
        open_forecast(out)
    (out / "trajectory" / "SHA256SUMS").unlink()
    with pytest.raises(DataError, match=r"is not a readable forecast: .*make it again"):
        open_forecast(out)


def test_a_flipped_bit_is_not_read_as_a_number(out: Path) -> None:
    chunk = out / "z" / "c" / "0" / "0" / "0" / "0" / "0"
    flip(chunk, chunk.stat().st_size // 2)
    with pytest.raises(ValueError, match="checksum"):
        open_forecast(out)["z"].values  # noqa: B018


def test_one_axis_is_enough(tmp_path: Path) -> None:
    layout = Layout(Fields(("u",), ("1",)), (Axis.uniform("x", 4, 1.0),), 1.0)
    with on_disk(tmp_path / "f.zarr", 1)(layout, 1, [0], 1, {}) as sink:
        sink.put(slice(0, 1), slice(0, 1), 0, np.ones((1, 1, 1, 4), np.float32))
    assert sink.dataset()["u"].shape == (1, 1, 1, 4)
