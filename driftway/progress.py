"""Progress on standard error: bars on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

WIDE = 80  # columns of a terminal that has room for the bar itself
_shown: ContextVar[bool] = ContextVar("shown", default=False)


@dataclass
class Task:
    """One piece of work of known length; `advance` moves it and shows `info`, which stays until there is another."""

    label: str
    total: int
    done: int = 0
    info: str = ""
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.before = self.done

    def advance(self, count: int = 1, info: str = "") -> None:
        """Count `count` more as done."""
        self.done += count
        self.info = info or self.info

    @property
    def rate(self) -> float:
        """Units per second since the start; what was done before does not count."""
        return (self.done - self.before) / max(time.monotonic() - self.started, 1e-9)


@dataclass
class _Bar(Task):
    bar: RichProgress = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.identity = self.bar.add_task(self.label, total=self.total, completed=self.done, info="")

    def advance(self, count: int = 1, info: str = "") -> None:
        super().advance(count, info)
        self.bar.update(self.identity, advance=count, info=f"{self.info}  {self.rate:.3g}/s")


@dataclass
class _Lines(Task):
    out: TextIO = field(kw_only=True)
    every: float = 10.0
    brief: float = 1.0
    shown: float = field(default_factory=time.monotonic)

    def advance(self, count: int = 1, info: str = "") -> None:
        super().advance(count, info)
        now = time.monotonic()
        last = self.done >= self.total and now - self.started >= self.brief
        if now - self.shown >= self.every or last:
            self.shown, left = now, (self.total - self.done) / max(self.rate, 1e-9)
            about = f"{self.info}  " if self.info else ""
            self.out.write(f"{self.label}: {self.done}/{self.total}  {about}{self.rate:.3g}/s  {left:.0f} s left\n")
            self.out.flush()


@contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Task]:
    """A task of which `done` was done before: a bar on a terminal, elsewhere a line every ten seconds and at the end.

    What is over within a second leaves no line. A task inside of another is part of it and not shown by itself.
    """
    if _shown.get():
        yield Task(label, total, done)
        return
    token = _shown.set(True)
    try:
        with _displayed(label, total, done) as task:
            yield task
    finally:
        _shown.reset(token)


@contextmanager
def _displayed(label: str, total: int, done: int) -> Iterator[Task]:
    console = Console(stderr=True)
    if not sys.stderr.isatty() or console.is_dumb_terminal:
        yield _Lines(label, total, done, out=sys.stderr)
        return
    with RichProgress(*_columns(console.width), console=console) as bar:
        yield _Bar(label, total, done, bar=bar)


def _columns(width: int) -> tuple[ProgressColumn, ...]:
    """What a terminal of this width has room for, numbers before pictures."""
    count, left = MofNCompleteColumn(), TimeRemainingColumn()
    if width < WIDE:
        return TextColumn(f"{{task.description:.{max(width - 24, 1)}}}"), count, left
    label, info = TextColumn("{task.description}"), TextColumn("{task.fields[info]}")
    return label, BarColumn(bar_width=24), count, TimeElapsedColumn(), left, info
