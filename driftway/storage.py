"""Writing at once or not at all, and saying why a place cannot be written."""

from __future__ import annotations

import errno
import hashlib
import io
import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from driftway.errors import StorageError, Suspended

CAUSES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EEXIST: "a file is in the way",
    errno.EISDIR: "a folder is in the way",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EIO: "the device reports an error",
}
FULL = (errno.ENOSPC, errno.EDQUOT)
PLACE = "place.safetensors"  # in the folder of a forecast that is being made: how far it has come
OURS = ("zarr.json", "state.json", "state.safetensors")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(files: Iterable[Path]) -> str:
    """A SHA-256 of names, sizes and times of change, where a hash of terabytes would take hours."""
    about = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(about).encode()).hexdigest()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns an operating system's refusal to write into one line with path, cause and remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in CAUSES:
            raise
        remedy = (
            f"it takes more than the {_free(path)} free there; make room or choose another place"
            if error.errno in FULL
            else "choose another place"
        )
        raise StorageError(f"cannot write {path}: {CAUSES[error.errno]}; {remedy}") from error


def _free(path: Path) -> str:
    """Free space where `path` is or would be, for people."""
    there = next(p for p in (path, *path.absolute().parents) if p.is_dir())
    return f"{shutil.disk_usage(there).free / 1e6:.1f} MB"


class HeldFile(io.FileIO):
    """A file that holds back the refusal of a write until `check`, since HDF5 crashes the process on one."""

    refusal: OSError | None = None

    def write(self, data: Any, /) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and self.refusal is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.refusal = error
        return size

    def check(self) -> None:
        """Raise the refusal, if there was one."""
        if self.refusal is not None:
            raise self.refusal


@contextmanager
def atomic_file(path: Path, force: bool = False) -> Iterator[HeldFile]:
    """A file to fill that appears as `path`, on the disk, when the block ends without an error."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with explained(path):
        _check_absent(path, force)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with HeldFile(partial, "w+") as file:
                try:
                    yield file
                finally:
                    file.check()
                os.fsync(file.fileno())
            partial.replace(path)
            _sync(path.parent)
        finally:
            partial.unlink(missing_ok=True)


def atomic_write(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, whole."""
    with atomic_file(path, force=True) as file:
        file.write(data)


@contextmanager
def atomic_folder(path: Path, force: bool = False, key: str = "") -> Iterator[Path]:
    """A folder to fill that appears as `path` when the block ends without an error, and is removed otherwise.

    With `force` it takes the place of a folder that driftway wrote, and of no other. With a `key`, letters and digits
    that stand for what is to be in it, the folder is what a process of the same key has left that was killed,
    interrupted or suspended.
    """
    own = f".{key}" if key else ""
    partial = path.with_name(f".{path.name}{own}.{os.getpid()}.partial")
    interrupted = False
    with explained(path):
        _check_replaceable(path, force)
        if key:
            _take_over(path.with_name(f".{path.name}{own}"), partial)
        _clear_abandoned(path, partial)
        partial.mkdir(parents=True, exist_ok=bool(key))
        try:
            yield partial
            _put_in_place(partial, path)
        except (KeyboardInterrupt, Suspended):
            interrupted = bool(key)
            raise
        except StorageError as error:
            # a write inside has named the partial folder, which is about to go: say where it was for instead
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            raise
        finally:
            if not interrupted:
                _remove(partial)


def _take_over(stem: Path, partial: Path) -> None:
    """Make one abandoned folder of this stem the partial one."""
    for left in stem.parent.glob(f"{stem.name}.*.partial"):
        if not partial.exists() and _abandoned(left):
            left.replace(partial)


def _remove(folder: Path) -> None:
    """Remove a folder for good: other writes of the one that failed may be under way and bring it back."""
    for _ in range(10):
        if not folder.exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


def _clear_abandoned(path: Path, but: Path) -> None:
    """Remove what processes that were killed left half-written; what a living one writes is its own."""
    for partial in path.parent.glob(f".{path.name}.*.partial"):
        if partial != but and _abandoned(partial):
            shutil.rmtree(partial, ignore_errors=True)


def _abandoned(partial: Path) -> bool:
    writer = partial.suffixes[-2].removeprefix(".")
    return writer.isdigit() and (int(writer) == os.getpid() or not _alive(int(writer)))


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _check_absent(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise StorageError(f"{path} exists; choose another name or give --force to replace it")


def _check_replaceable(path: Path, force: bool) -> None:
    _check_absent(path, force)
    if path.is_dir() and any(path.iterdir()) and not any((path / name).is_file() for name in OURS):
        raise StorageError(f"{path} holds other things than driftway writes and is not replaced; choose another name")


def _put_in_place(new: Path, path: Path) -> None:
    """Two renames, so that the old folder is whole until the new one has its name."""
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.is_dir():
        path.replace(old)
    try:
        new.replace(path)
    except BaseException:
        if old.is_dir():
            old.replace(path)
        raise
    _sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def without_nan(value: Any) -> Any:
    """NaN and infinities, which JSON does not have, as null."""
    if isinstance(value, Mapping):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
