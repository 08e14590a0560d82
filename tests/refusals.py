"""A small study to give bad input to, and what must come of it: one line, an exit code, and nothing lost."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from driftway.cli import main
from tests import small

Refused = Callable[..., str]
PROGRESS = re.compile(r"[\w -]+: \d+/\d+  .* s left$")


def study(folder: Path) -> Path:
    """A folder with a data set, a finished run and a forecast."""
    data = small.chaos(folder)
    config = small.written(folder, data, "deterministic", training={"steps": 2, "checkpoint_every": 1})
    assert main(["fit", "stepper", str(config), "--out", str(folder / "run")]) == 0
    assert main(forecast(folder, folder / "run", folder / "forecast.zarr")) == 0
    return folder


def fit(place: Path, data: Path, out: Path, *overrides: str) -> list[str]:
    """The words that fit the deterministic stepper of a study to other data."""
    return ["fit", "stepper", str(place / "deterministic.yaml"), f"data.path={data}", "--out", str(out), *overrides]


def forecast(place: Path, run: Path, out: Path, *options: str) -> list[str]:
    """The words that forecast three leads of one member, unless options say otherwise."""
    usual = {"--data": str(place / "chaos.zarr"), "--leads": "3", "--members": "1"}
    words = [word for name, value in usual.items() if name not in options for word in (name, value)]
    return ["forecast", str(run), "--out", str(out), *words, *options]


def refusal(capsys: pytest.CaptureFixture[str], code: int, *words: str | Path) -> str:
    """The one line, besides progress, that a command ends in with this exit code."""
    capsys.readouterr()
    found = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert (found, out) == (code, ""), err
    lines = [line for line in err.splitlines() if not PROGRESS.match(line)]
    assert len(lines) == 1 and lines[0].startswith("driftway: "), err
    return lines[0]


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """No command inside changes a file that it was not told to write."""
    before = contents(folder)
    yield
    assert contents(folder) == before
