"""Writing at once or not at all, and saying why a place cannot be written."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from driftway.errors import StorageError

CAUSES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EISDIR: "a folder is in the way",
}
FULL = (errno.ENOSPC, errno.EDQUOT)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns an operating system's refusal to write into one line with path, cause and remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in CAUSES:
            raise
        remedy = (
            f"{_free(path)} free there; make room or choose another place"
            if error.errno in FULL
            else "choose another place"
        )
        raise StorageError(f"cannot write {path}: {CAUSES[error.errno]}; {remedy}") from error


def _free(path: Path) -> str:
    """Free space where `path` is or would be, for people."""
    there = next(p for p in (path, *path.absolute().parents) if p.is_dir())
    return f"{shutil.disk_usage(there).free / 1e6:.1f} MB"


def atomic_write(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with explained(path):
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            _sync(path.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, force: bool = False) -> Iterator[Path]:
    """A folder to fill that appears as `path` when the block ends without an error, and is removed otherwise."""
    if path.exists() and not force:
        raise StorageError(f"{path} exists; choose another name or give --force to replace it")
    partial = path.with_name(f"{path.name}.partial")
    with explained(path):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            if path.is_dir():
                shutil.rmtree(path)
            partial.replace(path)
            _sync(path.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
