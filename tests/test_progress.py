"""Progress shows what is done and how fast: a bar on a terminal, a few plain lines in a log."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import pytest

from driftway.progress import progress


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def age(task: Any, seconds: float) -> None:
    """Let a task have gone on for longer."""
    task.started -= seconds
    task.shown -= seconds


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of a given width; returns what it was shown."""

    def show(columns: int, **environment: str) -> str:
        stream = Terminal()
        monkeypatch.setattr(sys, "stderr", stream)
        for name, value in {"COLUMNS": str(columns), "TERM": "xterm", **environment}.items():
            monkeypatch.setenv(name, value)
        with progress("simulating kuramoto-sivashinsky", 12000) as task:
            task.advance(11999, "loss 0.1234")
            task.advance(1)
        return stream.getvalue()

    return show


def test_a_log_has_a_line_every_ten_seconds_and_one_at_the_end(capsys):
    with progress("training", 40) as task:
        for _ in range(40):
            age(task, 1)
            task.advance(1)
    assert capsys.readouterr().err.splitlines() == [
        "training: 10/40  1/s  30 s left",
        "training: 20/40  1/s  20 s left",
        "training: 30/40  1/s  10 s left",
        "training: 40/40  1/s  0 s left",
    ]


def test_what_is_over_within_a_second_leaves_no_line(capsys):
    with progress("training", 3) as task:
        age(task, 0.9)
        task.advance(3)
    assert capsys.readouterr().err == ""


def test_what_was_done_before_counts_as_done_but_not_as_speed(capsys):
    with progress("training", 1000, 900) as task:
        age(task, 20)
        task.advance(40)
    assert capsys.readouterr().err == "training: 940/1000  2/s  30 s left\n"


def test_the_last_words_on_a_task_stay_until_there_are_others(capsys):
    with progress("training", 100) as task:
        task.advance(1, "loss 0.5")
        age(task, 10)
        task.advance(9)
        age(task, 10)
        task.advance(10, "loss 0.4")
    assert [line.split("  ")[1] for line in capsys.readouterr().err.splitlines()] == ["loss 0.5", "loss 0.4"]


def test_a_log_has_no_control_characters(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress("training", 1) as task:
        age(task, 2)
        task.advance(1)
    assert capsys.readouterr().err == "training: 1/1  0.5/s  0 s left\n"


def test_a_work_of_no_length_is_shown_without_an_error(capsys):
    with progress("nothing", 0) as task:
        age(task, 2)
        task.advance(0)
    assert capsys.readouterr().err == "nothing: 0/0  0/s  0 s left\n"


@pytest.mark.parametrize("columns", [100, 40, 30])
def test_a_bar_shows_the_numbers_on_a_terminal_of_any_width(terminal, columns):
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal(columns))
    lines = [line for part in shown.splitlines() for line in part.split("\r") if line.strip()]
    assert "12000/12000" in lines[-1] and max(map(len, lines)) <= columns
    assert ("loss 0.1234" in lines[-1]) == (columns == 100)


def test_a_bar_has_no_colours_where_none_are_wanted(terminal):
    assert re.search(r"\x1b\[[0-9;]*m", terminal(100))
    assert not re.search(r"\x1b\[[0-9;]*m", terminal(100, NO_COLOR="1"))


def test_a_terminal_without_cursor_gets_lines(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "dumb")
    with progress("training", 4) as task:
        age(task, 2)
        task.advance(4)
    assert stream.getvalue() == "training: 4/4  2/s  0 s left\n"


def test_an_error_inside_ends_the_bar(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(ValueError), progress("training", 3):
        raise ValueError
    assert stream.getvalue().endswith("\x1b[?25h"), "the cursor is shown again"


def test_a_task_inside_of_another_is_not_shown(capsys):
    with progress("study", 1) as outer:
        with progress("forecast", 1) as inner:
            inner.started -= 20
            inner.advance(1)
        age(outer, 20)
        outer.advance(1)
    with progress("forecast", 1) as alone:
        age(alone, 20)
        alone.advance(1)
    labels = [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert labels == ["study", "forecast"]
