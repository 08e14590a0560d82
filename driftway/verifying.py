"""Whether what driftway wrote is whole: data, runs, checkpoints, forecasts, or a folder with any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from driftway.checkpoints import STATE, verify_checkpoint
from driftway.data.files import is_data
from driftway.data.files import verify as verify_data
from driftway.errors import DataError, DriftwayError
from driftway.runs import verify_run


@dataclass(frozen=True)
class Kind:
    """Something that can be verified: how to tell it, and what is missing or changed, one line each."""

    name: str
    matches: Callable[[Path], bool]
    verify: Callable[[Path], list[str]]
    inside: bool = False  # whether others may lie in it


KINDS = (
    Kind("run", lambda path: (path / "config.yaml").is_file(), verify_run, inside=True),
    Kind("checkpoint", lambda path: (path / STATE).is_file(), verify_checkpoint),
    Kind("data or forecast", is_data, verify_data),
)


def verify(path: Path) -> tuple[int, list[str]]:
    """How many things were verified at a path or below it, and all that is missing or changed in them.

    Raises DataError where there is nothing that can be verified.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist")
    count, problems = 0, []
    for kind, there in _found(path):
        count += 1
        try:
            problems += [f"{there}: {problem}" for problem in kind.verify(there)]
        except DriftwayError as error:
            problems.append(str(error))
    if not count:
        names = ", ".join(kind.name for kind in KINDS)
        raise DataError(f"{path} holds nothing that carries checksums: give the folder of a {names}, or one of them")
    return count, problems


def _found(path: Path) -> Iterator[tuple[Kind, Path]]:
    """What is at a path, and in folders below it; hidden ones are half-written and passed over."""
    kind = next((kind for kind in KINDS if kind.matches(path)), None)
    if kind is not None:
        yield kind, path
    if path.is_dir() and (kind is None or kind.inside):
        for child in sorted(path.iterdir()):
            if child.is_dir() and not child.name.startswith("."):
                yield from _found(child)
