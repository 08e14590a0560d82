"""Writing at once or not at all: crashes, full disks and forbidden places leave what was there, and say why."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from driftway.checkpoints import write_tensors
from driftway.data import save_well, save_zarr
from driftway.data.forecasts import on_disk
from driftway.data.layout import Layout
from driftway.errors import StorageError
from driftway.storage import CAUSES, atomic_folder, atomic_write, explained, sha256, stamp
from tests.datasets import example, tmpfs

NOBODY = 4194305  # a process number beyond the largest that Linux gives


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


# --- files ---------------------------------------------------------------------------------------------------------


def test_a_file_is_written_whole_with_the_folders_above_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "place" / "file"
    atomic_write(path, b"old")
    atomic_write(path, b"new and longer")
    assert tree(path.parent) == {"file": b"new and longer"}


def test_sums_and_stamps_change_with_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    stamps = {stamp([path])}
    path.write_bytes(b"abcd")
    stamps.add(stamp([path]))
    os.utime(path, ns=(0, 0))
    stamps.add(stamp([path]))
    stamps.add(stamp([path.rename(tmp_path / "other")]))
    assert len(stamps) == 4
    assert stamp([tmp_path / "other"]) in stamps


# --- folders -------------------------------------------------------------------------------------------------------


def fill(path: Path, text: str, force: bool = False, error: type[BaseException] | None = None) -> None:
    with atomic_folder(path, force) as partial:
        (partial / "zarr.json").write_text(text)
        assert not (path / "zarr.json").exists() or (path / "zarr.json").read_text() != text
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "above" / "folder"
    with pytest.raises(error):
        fill(path, "first", error=error)
    assert tree(path.parent) == {}
    fill(path, "first")
    with pytest.raises(StorageError, match="folder exists; choose another name or give --force to replace it"):
        fill(path, "second")
    with pytest.raises(error):
        fill(path, "second", True, error)
    assert tree(path.parent) == {"folder": b"", "folder/zarr.json": b"first"}
    fill(path, "second", True)
    assert tree(path.parent) == {"folder": b"", "folder/zarr.json": b"second"}


def test_what_a_killed_process_left_does_not_stand_in_the_way(tmp_path: Path) -> None:
    partial = tmp_path / f".folder.{NOBODY}.partial"
    partial.mkdir()
    (partial / "half").write_text("a")
    fill(tmp_path / "folder", "whole")
    assert tree(tmp_path) == {"folder": b"", "folder/zarr.json": b"whole"}


def test_what_another_process_is_writing_is_left_to_it(tmp_path: Path) -> None:
    partial = tmp_path / f".folder.{os.getppid()}.partial"
    partial.mkdir()
    fill(tmp_path / "folder", "whole")
    assert partial.is_dir()


def test_force_does_not_remove_a_folder_of_other_things(tmp_path: Path) -> None:
    path = tmp_path / "thesis"
    path.mkdir()
    (path / "chapter").write_text("a year of work")
    with pytest.raises(StorageError, match="thesis holds other things than driftway writes and is not replaced"):
        fill(path, "data", force=True)
    assert tree(tmp_path) == {"thesis": b"", "thesis/chapter": b"a year of work"}


def test_the_old_folder_comes_back_if_the_new_one_cannot_take_its_place(tmp_path: Path) -> None:
    fill(tmp_path / "folder", "old")
    with pytest.raises(OSError), atomic_folder(tmp_path / "folder", force=True) as partial:
        partial.rmdir()
    assert tree(tmp_path) == {"folder": b"", "folder/zarr.json": b"old"}


def test_a_killed_process_leaves_the_old_folder(tmp_path: Path) -> None:
    fill(tmp_path / "folder", "old")
    code = (
        "import os, pathlib, signal, sys; from driftway.storage import atomic_folder\n"
        "with atomic_folder(pathlib.Path(sys.argv[1]), force=True) as partial:\n"
        "    (partial / 'zarr.json').write_text('new'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "folder")])
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "folder" / "zarr.json").read_text() == "old"
    fill(tmp_path / "folder", "new", force=True)
    assert tree(tmp_path) == {"folder": b"", "folder/zarr.json": b"new"}


# --- places that cannot be written ---------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CAUSES, ids=errno.errorcode.__getitem__)
def test_refusals_name_path_cause_and_remedy(code: int, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as error, explained(tmp_path / "file"):
        raise OSError(code, os.strerror(code))
    line = str(error.value)
    assert line.startswith(f"cannot write {tmp_path / 'file'}: {CAUSES[code]}; ")
    assert line.endswith("choose another place") and "\n" not in line
    assert ("MB free there; make room" in line) == (code in (errno.ENOSPC, errno.EDQUOT))


def test_other_errors_pass_as_they_are() -> None:
    for error in (ValueError("odd"), OSError(errno.EBADF, "bad")):
        with pytest.raises(type(error)) as raised, explained(Path("file")):
            raise error
        assert raised.value is error


def write_forecast(path: Path, leads: int) -> None:
    data = example()
    layout = Layout(data.fields, data.axes, data.dt)
    states = np.random.default_rng(0).standard_normal((1, 5, *layout.shape)).astype(np.float32)
    with on_disk(path, 1, force=True)(layout, 1, range(5), leads, {}) as sink:
        for lead in range(leads):
            sink.put(slice(0, 1), slice(0, 5), lead, states)


WRITERS: dict[str, tuple[Callable[[Path, int], object], str]] = {
    "zarr": (lambda path, size: save_zarr(example(frames=200 * size), path, force=True), "data.zarr"),
    "well": (lambda path, size: save_well(example(frames=200 * size), path, force=True), "data.hdf5"),
    "forecast": (lambda path, size: write_forecast(path, 2 * size), "forecast.zarr"),
    "tensors": (lambda path, size: write_tensors(path, {"a": torch.zeros(20000 * size)}), "a.safetensors"),
    "json": (lambda path, size: atomic_write(path, b" " * 40000 * size), "a.json"),
}
writers = pytest.mark.parametrize("kind", WRITERS)


@writers
def test_a_full_disk_leaves_what_was_there(kind: str, tmp_path: Path) -> None:
    write, name = WRITERS[kind]
    with tmpfs(tmp_path / "disk", "size=1536k") as disk:
        write(disk / name, 1)
        before = tree(disk)
        with pytest.raises(StorageError) as error:
            write(disk / name, 40)
        line = str(error.value)
        assert line.startswith(f"cannot write {disk / name}: the disk is full; it takes more than the ")
        assert line.endswith("MB free there; make room or choose another place") and "\n" not in line
        assert tree(disk) == before


def test_hdf5_meets_a_full_disk_at_any_point_and_the_process_goes_on(tmp_path: Path) -> None:
    code = (
        "import sys, h5py, numpy, pathlib; from driftway.storage import atomic_file; from driftway.errors import *\n"
        "try:\n"
        "    with atomic_file(pathlib.Path(sys.argv[1]), force=True) as held, h5py.File(held, 'w') as file:\n"
        "        file.create_group('group').attrs['name'] = 'x' * 500\n"
        "        file.create_dataset('group/u', data=numpy.zeros((9, 8, 64)), chunks=(1, 8, 64), fletcher32=True)\n"
        "except StorageError: sys.exit(9)\n"
    )
    with tmpfs(tmp_path / "disk", "size=64k") as disk:
        for kilobytes in (64, 60, 40, 0):
            (disk / "ballast").write_bytes(b" " * 1024 * kilobytes)
            ended = subprocess.run([sys.executable, "-c", code, str(disk / "a.h5")], capture_output=True)
            assert (ended.returncode, ended.stderr.decode()) == (9 if kilobytes else 0, "")
        assert sorted(path.name for path in disk.iterdir()) == ["a.h5", "ballast"]


@writers
def test_a_read_only_place_is_named(kind: str, tmp_path: Path) -> None:
    write, name = WRITERS[kind]
    with (
        tmpfs(tmp_path / "disk", "ro") as disk,
        pytest.raises(StorageError, match=rf"cannot write .*{name}: the file system is read-only; choose another"),
    ):
        write(disk / name, 1)


@writers
def test_a_file_in_the_way_is_named(kind: str, tmp_path: Path) -> None:
    write, name = WRITERS[kind]
    (tmp_path / "file").write_text("not a folder")
    for path in (tmp_path / "file" / name, tmp_path / "file" / "below" / name):
        with pytest.raises(StorageError, match=rf"cannot write .*{name}: (a part of the path is a file|a file is in)"):
            write(path, 1)
    assert tree(tmp_path) == {"file": b"not a folder"}


@pytest.mark.parametrize("kind", ["well", "tensors", "json"])
def test_a_folder_in_the_way_of_a_file_is_named(kind: str, tmp_path: Path) -> None:
    write, name = WRITERS[kind]
    (tmp_path / name / "inside").mkdir(parents=True)
    with pytest.raises(StorageError, match=rf"cannot write .*{name}: a folder is in the way; choose another place"):
        write(tmp_path / name, 1)
    assert tree(tmp_path) == {name: b"", f"{name}/inside": b""}


@pytest.mark.parametrize("kind", ["zarr", "forecast"])
def test_a_file_in_the_way_of_a_folder_is_not_replaced(kind: str, tmp_path: Path) -> None:
    write, name = WRITERS[kind]
    (tmp_path / name).write_text("a file")
    with pytest.raises(StorageError, match=rf"cannot write .*{name}: a part of the path is a file"):
        write(tmp_path / name, 1)
    assert tree(tmp_path) == {name: b"a file"}


@writers
def test_a_name_that_is_too_long_is_named(kind: str, tmp_path: Path) -> None:
    write, name = WRITERS[kind]
    with pytest.raises(StorageError, match="the name is too long; choose another place"):
        write(tmp_path / ("a" * 250 + name), 1)
    assert tree(tmp_path) == {}


@pytest.fixture
def nobody() -> Iterator[None]:
    """Root may write everywhere, so that it has to be somebody else."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


@writers
def test_a_forbidden_place_is_named(kind: str, tmp_path: Path, nobody: None) -> None:
    write, name = WRITERS[kind]
    if os.getuid():
        tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match=rf"cannot write .*{name}: permission is denied; choose another place"):
        write(tmp_path / name, 1)
