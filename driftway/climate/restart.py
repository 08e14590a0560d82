"""One number in a restart file of PlaSim: a record with a name of sixteen letters stands before each array."""

from __future__ import annotations

import struct
from pathlib import Path

from driftway.errors import DataError


def set_integer(path: Path, name: str, value: int) -> None:
    """Give an integer another value, in place. Raises DataError where it is not there."""
    data = path.read_bytes()
    at = _place(path, data, name)
    path.write_bytes(data[:at] + struct.pack("<i", value) + data[at + 4 :])


def get_integer(path: Path, name: str) -> int:
    """The value of an integer. Raises DataError where it is not there."""
    data = path.read_bytes()
    return int(struct.unpack_from("<i", data, _place(path, data, name))[0])


def _place(path: Path, data: bytes, name: str) -> int:
    """Where the four bytes of the integer are: after the record of its name and the marker of its own."""
    record = struct.pack("<i16si", 16, name.encode().ljust(16), 16) + struct.pack("<i", 4)
    at = data.find(record)
    if at < 0:
        raise DataError(f"{path} is no restart file of PlaSim: it has no integer '{name}'")
    return at + len(record)
