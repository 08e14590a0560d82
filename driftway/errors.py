"""Errors that a user can act on: one line that names the file or key, the value and the remedy.

The command line prints the line alone and ends with the class's exit code; `--debug` adds the traceback.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DriftwayError(Exception):
    """Base of every error that driftway raises on purpose."""

    exit_code = 1


class ConfigError(DriftwayError):
    """A configuration key, value or command-line option that cannot be used."""

    exit_code = 2


class DataError(DriftwayError):
    """A file or array that is damaged, incomplete or does not fit what it is used for."""

    exit_code = 3


class DivergedError(DriftwayError):
    """A training run or a forecast that left the finite numbers."""

    exit_code = 4


class StorageError(DriftwayError):
    """A place that cannot be written: full, read-only, locked or already taken."""

    exit_code = 5


class Suspended(StorageError):
    """Work that has stopped where it can go on: what is done is kept for the same command to be given again."""


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Puts `path` in front of a DataError from code that sees arrays and does not know where they are from."""
    try:
        yield
    except DataError as error:
        if str(path) in str(error):
            raise
        raise DataError(f"{path}: {error}") from error
