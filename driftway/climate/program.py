"""PlaSim as a program of its own: a folder made ready once, run for some days at a time from a restart file.

It is under the GPL, so that it is never imported: `driftway/engines/exoplasim_earth.py` runs in a process of its own,
with the interpreter named by DRIFTWAY_EXOPLASIM or else with this one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from driftway.errors import ConfigError, DivergedError, StorageError, Suspended
from driftway.storage import atomic_write

SCRIPT = Path(__file__).parents[1] / "engines" / "exoplasim_earth.py"
INTERPRETER = "DRIFTWAY_EXOPLASIM"
NUMBERS, RESTART, STATUS = "plasim_namelist", "plasim_restart", "plasim_status"
STATES, MEANS, ABORT, LOG = "plasim_snapshot", "plasim_output", "Abort_Message", "log.txt"
ABOUT = "about.json"
NEEDED = (
    "install the extra `climate` into it, after the Debian packages gfortran, g++ and make, or name another "
    f"interpreter by {INTERPRETER}, as docs/simulators.md tells"
)
REFUSALS = {
    77: f"has no exoplasim; {NEEDED}",
    78: f"has exoplasim and no compiler for it; {NEEDED}",
    79: "cannot compile exoplasim, which does so in its own folder; make a virtual environment that can be written",
    80: "has not compiled exoplasim",
}
KILLED = (128 + 1, 128 + 2, 128 + 9, 128 + 15)  # by someone else, not by the model
# The program is compiled with all checks, of which this one says something every time step.
WARNING = re.compile(r"At line \d+ of file \S+\s+Fortran runtime warning: [^\n]*\n?")
WORDS_PER_POINT = 280  # that the model writes every six hours, in both files


@dataclass(frozen=True)
class Program:
    """What `prepare` has made: the program in a folder, R of its air, its version."""

    folder: Path
    program: str
    gas: float
    version: str


def prepare(about: Mapping[str, Any], folder: Path) -> Program:
    """The folder with the compiled program, made anew unless it is there already.

    Raises ConfigError where exoplasim or a compiler is missing.
    """
    ready = folder / ABOUT
    if not ready.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(ready, _answer({**about, "folder": str(folder.absolute())}))
    return Program(folder, **json.loads(ready.read_text()))


def _answer(about: Mapping[str, Any]) -> bytes:
    with tempfile.TemporaryFile() as log:
        process = _started(["prepare"], Path(tempfile.gettempdir()), log)
        answer, _ = process.communicate(json.dumps(about).encode() + b"\n")
        if process.returncode == 0 and answer:
            return answer
        said = _last_line(log)
    why = REFUSALS.get(process.returncode, f"ended with exit code {process.returncode}")
    raise ConfigError(f"{_interpreter()} {why}{f' ({said})' if said else ''}")


def _interpreter() -> str:
    return os.environ.get(INTERPRETER, sys.executable)


def _started(words: Sequence[str], folder: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    try:
        return subprocess.Popen(
            [_interpreter(), str(SCRIPT), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            cwd=folder,
            start_new_session=True,  # Ctrl-C is for this process to act upon
        )
    except OSError as error:
        raise ConfigError(f"{INTERPRETER}={_interpreter()} cannot be run; {NEEDED}") from error


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


@dataclass
class Run:
    """One run of the model in a folder of its own."""

    program: Program
    folder: Path
    running: set[subprocess.Popen[bytes]] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not (self.folder / ABOUT).is_file():
            shutil.rmtree(self.folder, ignore_errors=True)
            # `about.json` is copied last, so that half a copy is none.
            shutil.copytree(self.program.folder, self.folder, ignore=shutil.ignore_patterns(ABOUT))
            shutil.copy(self.program.folder / ABOUT, self.folder)

    def days(self, count: int) -> None:
        """Run for some days from the restart file, or from a start at rest where there is none.

        The raw output is left in the folder and the restart file moves on. Raises Suspended where the disk has no room
        or the program was killed, DivergedError with what it said where it crashed.
        """
        self.set_number("N_RUN_DAYS", str(count))
        for name in (STATES, MEANS, STATUS, ABORT):
            (self.folder / name).unlink(missing_ok=True)
        code = self._run()
        if code or (self.folder / ABORT).is_file() or not (self.folder / STATUS).is_file():
            self._explain(code)
        (self.folder / STATUS).replace(self.folder / RESTART)

    def _run(self) -> int:
        with (self.folder / LOG).open("w+b") as log:
            process = _started(["run", self.program.program], self.folder, log)
            self.running.add(process)
            try:
                return process.wait()
            finally:
                self.running.discard(process)
                self.stop(process)

    @staticmethod
    def stop(process: subprocess.Popen[bytes]) -> None:
        """End a process: its standard input is what keeps it."""
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _explain(self, code: int) -> None:
        abort = self.folder / ABORT
        with (abort if abort.is_file() else self.folder / LOG).open("rb") as log:
            said = " ".join(WARNING.sub("", log.read().decode(errors="replace")).split())[-400:]
        if "No space left" in said:
            raise Suspended(f"{self.folder}: the disk is full; make room and give the same command again")
        if code in KILLED:
            raise Suspended(f"PlaSim was killed (exit code {code}); give the same command again and it goes on")
        raise DivergedError(
            f"PlaSim ended with exit code {code} and says: {said or 'nothing'}; take a shorter timestep or another seed"
        )

    def set_number(self, name: str, value: str) -> None:
        """Give a number of the namelist another value."""
        path = self.folder / NUMBERS
        text, count = re.subn(rf"(?m)^(\s*{name}\s*=).*$", rf"\g<1> {value}", path.read_text())
        if count != 1:
            raise StorageError(f"{path} has {name} {count} times, should have it once")
        path.write_text(text)


def check_room(folder: Path, points: int, states: int) -> None:
    """Raises Suspended where the disk has no room for the raw output of so many states on so many points."""
    needed, free = 4 * WORDS_PER_POINT * points * states, shutil.disk_usage(folder).free
    if free < needed:
        raise Suspended(
            f"{folder}: {free / 1e9:.1f} GB are free there and PlaSim writes {needed / 1e9:.1f} GB before they are "
            "converted; make room and give the same command again"
        )
