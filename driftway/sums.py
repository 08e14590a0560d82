"""Checksums beside files: `SHA256SUMS`, as `sha256sum -c` reads it, of all that a folder held when it was complete."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from driftway.errors import DataError
from driftway.storage import atomic_write, sha256

SUMS = "SHA256SUMS"


def files_in(folder: Path) -> list[str]:
    """Every file below a folder but its sums, by relative name, sorted."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != SUMS)


def write_sums(folder: Path, names: Iterable[str], at: str = SUMS) -> None:
    """Write the SHA-256 of the named files to `at` in the folder, at once or not at all."""
    atomic_write(folder / at, "".join(f"{sha256(folder / name)}  {name}\n" for name in names).encode())


def read_sums(folder: Path, at: str = SUMS) -> dict[str, str]:
    """File → SHA-256 as it was written; empty where there are no sums. Raises DataError where they are torn."""
    path = folder / at
    if not path.is_file():
        return {}
    found = {}
    for line in path.read_text(errors="replace").removesuffix("\n").split("\n"):
        digest, gap, name = line.partition("  ")
        if not gap or Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(f"{path} is damaged: {line[:100]!r} is no SHA-256 and file; copy the folder again")
        found[name] = digest
    return found


def differences(folder: Path, sums: dict[str, str]) -> list[str]:
    """What is missing or changed of the files in the sums, one line each."""
    present = {name: (folder / name).is_file() for name in sums}
    missing = [f"{name} is missing" for name in sums if not present[name]]
    return missing + [f"{name} has changed" for name in sums if present[name] and sha256(folder / name) != sums[name]]
