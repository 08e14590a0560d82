"""Progress on standard error: bars on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


@dataclass
class Task:
    """One piece of work of known length; `advance` moves it and shows `info`."""

    label: str
    total: int
    done: int = 0
    started: float = field(default_factory=time.monotonic)

    def advance(self, count: int = 1, info: str = "") -> None:
        """Count `count` more as done."""
        self.done += count

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return self.done / max(time.monotonic() - self.started, 1e-9)


@dataclass
class _Bar(Task):
    bar: RichProgress | None = None

    def __post_init__(self) -> None:
        assert self.bar is not None
        self.identity = self.bar.add_task(self.label, total=self.total, info="")

    def advance(self, count: int = 1, info: str = "") -> None:
        super().advance(count)
        assert self.bar is not None
        self.bar.update(self.identity, advance=count, info=f"{info}  {self.rate:.3g}/s")


@dataclass
class _Lines(Task):
    out: TextIO = sys.stderr
    every: float = 10.0
    shown: float = field(default_factory=time.monotonic)

    def advance(self, count: int = 1, info: str = "") -> None:
        super().advance(count)
        now = time.monotonic()
        if now - self.shown >= self.every or self.done >= self.total:
            self.shown, left = now, (self.total - self.done) / max(self.rate, 1e-9)
            self.out.write(f"{self.label}: {self.done}/{self.total}  {info}  {self.rate:.3g}/s  {left:.0f} s left\n")
            self.out.flush()


@contextmanager
def progress(label: str, total: int) -> Iterator[Task]:
    """A task shown as a bar on a terminal and as a line every ten seconds elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines(label, total, out=sys.stderr)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[info]}"),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as bar:
        yield _Bar(label, total, bar=bar)
