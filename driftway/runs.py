"""Run folders: who may write into one, what a run was made from, and what is left of it when it is done.

A run folder holds the resolved `config.yaml`, `manifest.json` (versions, seed, inputs, times), `metrics.jsonl`,
`checkpoints/` and, when it is finished, the emulator and `SHA256SUMS` of all of these. `lock` belongs to the process
that is at work there.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from driftway.checkpoints import read_json
from driftway.data import open_data
from driftway.errors import ConfigError, DataError, StorageError
from driftway.schema import Experiment, dump
from driftway.storage import atomic_write, explained
from driftway.sums import SUMS, differences, read_sums, write_sums
from driftway.version import __version__

PARTS = ("config.yaml", "manifest.json", "metrics.jsonl", "emulator.*", "tuned.json", "checkpoints/*/*")


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[None]:
    """Holds the lock file `path`; the operating system lets go of it when the process ends, however it ends."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read() or "another process"
            raise StorageError(f"{path.parent} is in use by {holder}: wait for it or choose another folder") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield


@dataclass(frozen=True)
class Run:
    """A run folder that this process holds, the experiment that is run there, and whether it goes on."""

    folder: Path
    experiment: Experiment
    resume: bool
    started: float

    def begin(self) -> None:
        """Write what the run is made from; one that goes on must find the data and runs that it began with."""
        path, inputs = self.folder / "manifest.json", _inputs(self.experiment)
        before = read_json(path, "a run folder").get("inputs") if self.resume and path.exists() else None
        if before not in (None, inputs):
            changed = next((name for name in inputs if before.get(name) != inputs[name]), self.experiment.data.path)
            raise DataError(f"{changed} has changed since the run in {self.folder} began: bring it back, or --force")
        if not self.resume:  # what `fit` writes it also replaces
            (self.folder / "emulator.json").unlink(missing_ok=True)
        (self.folder / SUMS).unlink(missing_ok=True)
        (self.folder / "tuned.json").unlink(missing_ok=True)  # the emulator gets the configuration's sampler again
        atomic_write(self.folder / "config.yaml", dump(self.experiment).encode())
        self._write_manifest(inputs)

    def finish(self, parameters: int, statistics: str) -> None:
        """Write what there is to know of the run in the end, and where its mean and standard deviation are from."""
        self._write_manifest(
            _inputs(self.experiment),
            parameters=parameters,
            statistics=statistics,
            seconds=round(time.time() - self.started, 1),
        )
        seal(self.folder)

    def _write_manifest(self, inputs: dict[str, str], **facts: float | str) -> None:
        manifest = {
            "driftway": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "system": platform.platform(),
            "threads": torch.get_num_threads(),
            "command": " ".join(["driftway", *sys.argv[1:]]),
            "seed": self.experiment.seed,
            "inputs": inputs,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self.started)),
            **facts,
        }
        atomic_write(self.folder / "manifest.json", json.dumps(manifest, indent=1).encode())


@contextmanager
def opened(folder: Path, experiment: Experiment, *, resume: bool, force: bool) -> Iterator[Run]:
    """Holds a run folder, and refuses one whose run would be lost or mixed with another; writes nothing but `lock`."""
    if resume and force:
        raise ConfigError("--resume goes on with a run and --force starts over: give one of them")
    with locked(folder / "lock"):
        config = folder / "config.yaml"
        if config.exists() and not (resume or force):
            raise StorageError(f"{folder} holds a run already: go on with --resume, start over with --force")
        if resume and config.exists() and config.read_text() != dump(experiment):
            raise ConfigError(f"{config} differs from the configuration given: resume with the same one, or --force")
        yield Run(folder, experiment, resume, time.time())


def seal(folder: Path) -> None:
    """Write the checksums of what a finished run is."""
    write_sums(folder, sorted(str(path.relative_to(folder)) for part in PARTS for path in folder.glob(part)))


def verify_run(folder: Path) -> list[str]:
    """What is missing or changed in the folder of a run; of one that is not finished, its checkpoints tell."""
    return differences(folder, read_sums(folder))


def _inputs(experiment: Experiment) -> dict[str, str]:
    """Path → digest of the data set and of the runs that an experiment builds on."""
    runs = [str(codec["path"]) for codec in experiment.codec if "path" in codec]
    runs += [run for run in (experiment.guess, experiment.start) if run is not None]
    digests = {path: str(read_json(Path(path) / "emulator.json", "a finished run").get("sha256")) for path in runs}
    return {experiment.data.path: open_data(experiment.data.path).fingerprint(), **digests}
