"""A place that cannot be written ends a command in one line that names it, and what was there before is kept."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from driftway.cli import main
from tests import refusals, small
from tests.refusals import Refused, contents, fit, forecast, refusal


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return refusals.study(tmp_path_factory.mktemp("place"))


@pytest.fixture(autouse=True)
def nothing_is_lost(place: Path) -> Iterator[None]:
    with refusals.unchanged(place):
        yield


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    return partial(refusal, capsys)


@contextmanager
def disk(path: Path, kilobytes: int) -> Iterator[Path]:
    """A file system of its own with little room."""
    path.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", path], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def remount(path: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", path], check=True)


def full(path: Path) -> Path:
    """Fill a disk to the last byte."""
    with (path / "filler").open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    return path


def test_a_full_disk_keeps_the_data_set_that_was_there(place, tmp_path, refused):
    with disk(tmp_path / "disk", 2000) as small_disk:
        data = small_disk / "data.zarr"
        words = ["data", "make", "kuramoto-sivashinsky", *small.CHAOS, "--out", str(data)]
        assert main(words) == 0
        before = contents(small_disk)
        line = refused(5, *words, "--force", "frames=2000", "burn_in=0.0")
        assert f"cannot write {data}: the disk is full" in line and "MB free there; make room" in line
        assert contents(small_disk) == before


def test_a_full_disk_keeps_the_checkpoint_and_the_run_goes_on_when_there_is_room(place, tmp_path, refused):
    size = sum(file.stat().st_size for file in (place / "run" / "checkpoints" / "step-000001").iterdir()) // 1024
    with disk(tmp_path / "disk", size * 3 // 2 + 24) as small_disk:
        run, words = small_disk / "run", ["fit", "stepper", str(place / "deterministic.yaml")]
        line = refused(5, *words, "--out", run)
        assert f"cannot write {run / 'checkpoints' / 'step-000002'}" in line
        assert "the disk is full" in line and "make room" in line
        assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000001"]
        remount(small_disk, "size=10m")
        assert main([*words, "--out", str(run), "--resume"]) == 0
        finished = contents(run)
    same = ("emulator.safetensors", "metrics.jsonl", "checkpoints/step-000002/state.safetensors")
    unbroken = contents(place / "run")
    assert [finished[name] for name in same] == [unbroken[name] for name in same]


def test_a_full_disk_keeps_the_forecast_that_was_there(place, tmp_path, refused):
    with disk(tmp_path / "disk", 1000) as small_disk:
        out = small_disk / "forecast.zarr"
        assert main(forecast(place, place / "run", out)) == 0
        before = contents(small_disk)
        line = refused(5, *forecast(place, place / "run", out, "--force", "--members", "100", "--leads", "200"))
        assert f"cannot write {out}: the disk is full" in line
        assert contents(small_disk) == before


def test_a_full_disk_keeps_the_scores_that_were_there(place, tmp_path, refused):
    with disk(tmp_path / "disk", 1000) as small_disk:
        scores = small_disk / "scores.json"
        words = ["evaluate", str(place / "forecast.zarr"), "--data", str(place / "chaos.zarr"), "--out", str(scores)]
        assert main(words) == 0
        before = scores.read_bytes()
        full(small_disk)
        assert f"cannot write {scores}: the disk is full" in refused(5, *words)
        assert scores.read_bytes() == before


def test_a_read_only_disk_is_named(place, tmp_path, refused):
    with disk(tmp_path / "disk", 1000) as small_disk:
        remount(small_disk, "ro")
        out = small_disk / "out"
        for words in (
            ["data", "make", "kuramoto-sivashinsky", *small.CHAOS, "--out", out],
            fit(place, place / "chaos.zarr", out),
            forecast(place, place / "run", out),
        ):
            line = refused(5, *words)
            assert f"cannot write {out}" in line and "the file system is read-only; choose another place" in line


def test_a_file_in_the_way_is_named(place, tmp_path, refused):
    (tmp_path / "file").write_text("precious")
    out = tmp_path / "file" / "out"
    for words in (
        ["data", "make", "kuramoto-sivashinsky", *small.CHAOS, "--out", out],
        fit(place, place / "chaos.zarr", out),
        forecast(place, place / "run", out),
    ):
        line = refused(5, *words)
        assert f"cannot write {out}" in line and "file" in line and "choose another place" in line
    assert contents(tmp_path) == {"file": hashlib.sha256(b"precious").hexdigest()}


def test_an_existing_output_is_kept_without_force(place, refused):
    words = ["data", "make", "kuramoto-sivashinsky", *small.CHAOS, "--out", place / "chaos.zarr"]
    assert f"{place / 'chaos.zarr'} exists; choose another name or give --force" in refused(5, *words)
    line = refused(5, *fit(place, place / "chaos.zarr", place / "run"))
    assert f"{place / 'run'} holds a run already: go on with --resume, start over with --force" in line
    line = refused(5, *forecast(place, place / "run", place / "forecast.zarr"))
    assert f"{place / 'forecast.zarr'} exists; choose another name or give --force" in line


def test_force_does_not_replace_what_driftway_did_not_write(place, tmp_path, refused):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    before = contents(tmp_path)
    line = refused(5, *forecast(place, place / "run", tmp_path / "thesis", "--force"))
    assert f"{tmp_path / 'thesis'} holds other things" in line
    assert contents(tmp_path) == before
