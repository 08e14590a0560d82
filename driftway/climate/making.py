"""Years of PlaSim, runs in parallel, converted as they come; one that was stopped goes on from a restart file."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from driftway.climate import restart
from driftway.climate.fields import Output
from driftway.climate.presets import FORCING, STATIC, YEAR, Member, PlaSim
from driftway.climate.program import MEANS, RESTART, STATES, Program, Run, check_room, prepare
from driftway.climate.raw import read_raw, read_surface
from driftway.climate.sea import interpolated
from driftway.errors import DriftwayError
from driftway.randomness import generator

MONTH = 31  # most days that the model runs at a time, since it writes much
SST = "N{latitudes:03d}_surf_0169.sra"
JANUARY = 366  # days before 1 January of year 1, which follows a leap year 0


class Writer(Protocol):
    """Where trajectories, static fields and forcing go."""

    missing: set[int]

    def __setitem__(self, rows: list[int], states: np.ndarray) -> None: ...

    def fill(self, known: Mapping[str, np.ndarray]) -> None:
        """Static fields and forcing by name."""
        ...

    def note(self, attributes: Mapping[str, Any]) -> None:
        """Attributes of the data set."""
        ...


def make(
    preset: PlaSim, seed: int, writer: Writer, work: Path, advance: Callable[[int], None], workers: int = 1
) -> None:
    """Write every missing trajectory.

    A trajectory is a function of (preset, seed, row), as PlaSim is one of its restart file; static fields and forcing
    are those of row 0.

    Arguments:
        seed: the noise of run j is keyed by (seed, "plasim", j)
        work: folder for the runs, restart files and raw output; what a stopped run has left there is gone on from
        advance: called with the number of states made or passed over since the last call
        workers: runs at the same time
    """
    about = {name: preset.numbers[name] for name in ("truncation", "layers", "precision", "timestep", "co2")}
    program = prepare({**about, "steps": preset.steps}, work / "program")
    writer.note({"exoplasim": program.version, "gas_constant": program.gas})
    lock = threading.Lock()
    longest_first = sorted(preset.members, key=lambda member: -len(member.rows))
    makers = [
        Maker(preset, seed, member, program, work / f"run-{member.number:03d}", writer, advance, lock)
        for member in longest_first
        if not writer.missing.isdisjoint(member.rows)
    ]
    with ThreadPoolExecutor(max(1, min(workers, len(makers)))) as pool:
        futures = [pool.submit(maker.make) for maker in makers]
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for maker in makers:
                maker.stop()
    shutil.rmtree(work)


@dataclass
class Maker:
    """One run of the model and the trajectories that it makes."""

    preset: PlaSim
    seed: int
    member: Member
    program: Program
    folder: Path
    writer: Writer
    advance: Callable[[int], None]
    lock: Any
    stopped: bool = False
    run: Run | None = field(default=None, init=False)

    def make(self) -> None:
        """Every trajectory that is missing, and what lies before and between."""
        self.run = Run(self.program, self.folder)
        self.run.set_number("SEED", self._noise())
        first = next(place for place, row in enumerate(self.member.rows) if row in self.writer.missing)
        if first == 0 and not self._start(0).is_dir():
            (self.folder / RESTART).unlink(missing_ok=True)
            self._keep(0, self._pass_over(0, self.preset.burn_in, None))
        for place in range(first, len(self.member.rows)):
            self._trajectory(place)

    def stop(self) -> None:
        """End the program and begin no other."""
        self.stopped = True
        if self.run is not None:
            for process in tuple(self.run.running):
                self.run.stop(process)

    def _noise(self) -> str:
        """Eight seeds of the model's own generator."""
        return ", ".join(map(str, generator(self.seed, "plasim", self.member.number).integers(1, 2**31 - 1, 8)))

    def _trajectory(self, place: int) -> None:
        """The trajectory at a place of the run, from the restart file that was kept before it."""
        row, days = self.member.rows[place], self.preset.days
        begin = self.preset.burn_in + YEAR * place
        rain = self._resume(place)
        shape = (self.preset.frames, len(self.preset.fields), *(len(axis) for axis in self.preset.axes))
        states = np.lib.format.open_memmap(self.folder / "states.npy", "w+", np.float32, shape)
        known = Known(self.preset, self.folder) if row == 0 else None
        at = 0
        for output in self._outputs(begin, days, rain):
            states[at : at + len(output.states)] = output.channels(self.preset.variables)
            if known is not None:
                known.take(output, at)
            at, rain = at + len(output.states), output.precipitation[-1]
        if place + 1 < len(self.member.rows):
            self._keep(place + 1, self._pass_over(begin + days, YEAR - days, rain))
        with self.lock:
            if known is not None:
                self.writer.fill(known.fields)
            self.writer[[row]] = states[None]
        shutil.rmtree(self._start(place))

    def _pass_over(self, begin: int, days: int, rain: np.ndarray | None) -> np.ndarray | None:
        """Run without storing; the precipitation of the last six hours."""
        for output in self._outputs(begin, days, rain):
            rain = output.precipitation[-1]
        return rain

    def _outputs(self, begin: int, days: int, rain: np.ndarray | None) -> Iterator[Output]:
        """What the model writes from day `begin` on, a month at a time, deleted when the next is asked for."""
        assert self.run is not None
        points = int(np.prod([len(axis) for axis in self.preset.axes]))
        for start in range(begin, begin + days, MONTH):
            count = min(MONTH, begin + days - start)
            if self.stopped:
                raise DriftwayError("stopped")
            check_room(self.folder, points, 4 * count)
            self._set_date(start)
            self.run.days(count)
            states, means = (self.folder / name for name in (STATES, MEANS))
            output = Output(read_raw(states), read_raw(means), self.preset.synthesis, self.program.gas, rain)
            if len(output.states) != 4 * count:
                raise DriftwayError(f"PlaSim has written {len(output.states)} states in {count} days, not {4 * count}")
            yield output
            rain = output.precipitation[-1]
            self.advance(4 * count)
            del output
            for path in (states, means):
                path.unlink()

    def _set_date(self, day: int) -> None:
        """Every year is the first of the model's calendar, which would have leap years."""
        path = self.folder / RESTART
        if path.is_file():
            restart.set_integer(path, "nstep", 4 * self.preset.steps * (JANUARY + day % YEAR))

    def _start(self, place: int) -> Path:
        return self.folder / f"start-{place:04d}"

    def _keep(self, place: int, rain: np.ndarray | None) -> None:
        """Keep what the trajectory at a place begins from: the restart file, if there is one, and the rain before."""
        partial = self.folder / "start"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        if rain is not None:
            shutil.copy(self.folder / RESTART, partial)
            np.save(partial / "rain.npy", rain)
        shutil.rmtree(self._start(place), ignore_errors=True)
        partial.replace(self._start(place))

    def _resume(self, place: int) -> np.ndarray | None:
        (self.folder / RESTART).unlink(missing_ok=True)
        kept = self._start(place)
        if not (kept / RESTART).is_file():
            return None
        shutil.copy(kept / RESTART, self.folder)
        return np.load(kept / "rain.npy", allow_pickle=False)


class Known:
    """Static fields and forcing, from the course of one trajectory; a whole year of forcing begins on 1 January."""

    def __init__(self, preset: PlaSim, folder: Path):
        self.first = 4 * preset.burn_in if preset.recurs else 0
        space = tuple(len(axis) for axis in preset.axes)
        self.fields: dict[str, np.ndarray] = {
            name: np.empty((preset.frames, *space), np.float32) for name in FORCING if name != "sst"
        }
        latitudes = preset.synthesis.latitudes
        months = read_surface(folder / SST.format(latitudes=latitudes))
        hours = preset.interval * np.arange(1, preset.frames + 1)  # the model takes that of the step after the state
        begin = 0 if preset.recurs else preset.burn_in
        self.fields["sst"] = interpolated(months, begin + hours / 24).astype(np.float32)

    def take(self, output: Output, at: int) -> None:
        """The fields of the states from number `at` on; static ones are those of the first state."""
        for name in self.fields:
            if name != "sst" and name in FORCING:
                places = np.arange(self.first + at, self.first + at + len(output.states)) % len(self.fields[name])
                self.fields[name][places] = output.channel(name)
        if at == 0:
            self.fields |= {name: output.channel(name)[0].astype(np.float32) for name in STATIC}
