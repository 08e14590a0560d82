"""What the README tells a newcomer to type; its Python is run with the other pages' in `test_docs`."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from driftway.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_the_command_lines_make_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("experiment.yaml").write_text(block("yaml"))
    for line in block("sh").splitlines():
        program, *words = shlex.split(line)
        assert program == "driftway"
        assert main(words) == 0, line
    assert "two_calls" in Path("report.html").read_text()


@pytest.mark.parametrize("line", block("text").splitlines())
def test_make_knows_the_two_commands(line: str) -> None:
    make, target = line.split("#")[0].split()
    planned = subprocess.run([make, "--dry-run", "VENV=nowhere", target], cwd=ROOT, capture_output=True, text=True)
    assert planned.returncode == 0
    assert "-m venv nowhere" in planned.stdout
