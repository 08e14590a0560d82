"""A run that is killed at any step and resumed ends in the same bits as one that was not."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from driftway.cli import main
from driftway.runs import locked
from driftway.training import history
from tests import small

STEPS, EVERY = 60, 5
TRAINING = {"steps": STEPS, "checkpoint_every": EVERY, "validate_every": 10}
PARTS = ("emulator.safetensors", f"checkpoints/step-{STEPS:06d}/state.safetensors", "metrics.jsonl")
KILLS = sorted(random.Random(23).sample(range(1, 40), 4))
"""Steps at which runs are killed, the first before there is a checkpoint; a fifth kill comes right after one."""


Moment = Callable[[Path], bool]


def at_step(step: int) -> Moment:
    """When the log has come to a step."""
    return lambda run: (run / "metrics.jsonl").exists() and len(history(run)) >= step


def at_checkpoint(step: int) -> Moment:
    """When a checkpoint has just been put in place."""
    return lambda run: (run / "checkpoints" / f"step-{step:06d}").is_dir()


def digests(run: Path) -> list[str]:
    """SHA-256 of final weights and moving average, of the last training state and of the log."""
    return [hashlib.sha256((run / part).read_bytes()).hexdigest() for part in PARTS]


def command(place: Path, name: str, run: Path, *options: str) -> list[str]:
    kind = "autoencoder" if name == "autoencoder" else "stepper"
    return ["fit", kind, str(place / f"{name}.yaml"), "--out", str(run), *options]


def fit(place: Path, name: str, run: Path, *options: str) -> int:
    return main(command(place, name, run, *options))


def start(place: Path, name: str, run: Path, *options: str) -> subprocess.Popen[str]:
    """The same in a process of its own."""
    words = [sys.executable, "-m", "driftway.cli", *command(place, name, run, *options)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def stop(process: subprocess.Popen[str], run: Path, moment: Moment, number: int) -> str:
    """Send a signal at a moment; returns what the process wrote to standard error."""
    deadline = time.monotonic() + 120
    while not moment(run):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(2e-4)
    os.kill(process.pid, number)
    return process.communicate(timeout=60)[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with data, configurations and the unbroken runs."""
    threads, folder = torch.get_num_threads(), tmp_path_factory.mktemp("resume")
    chaos = small.chaos(folder)
    small.written(folder, chaos, "deterministic", training=TRAINING)
    follows = {**small.KINDS["generative"]["stepper"], "noise": {"type": "coloured", "of": "residual"}}
    small.written(folder, chaos, "generative", training=TRAINING, guess=str(folder / "deterministic"), stepper=follows)
    small.written(folder, small.flow(folder), "autoencoder", training=TRAINING)
    for name in ("deterministic", "generative", "autoencoder"):
        assert fit(folder, name, folder / name) == 0
    yield folder
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("name", "kills"),
    [
        ("deterministic", [at_step(KILLS[0])]),
        ("generative", [at_step(KILLS[1]), at_checkpoint(2 * EVERY), at_step(KILLS[2])]),
        ("autoencoder", [at_step(KILLS[3])]),
    ],
    ids=["deterministic", "generative with a guess and noise that follows", "autoencoder"],
)
def test_killed_runs_end_in_the_same_bits(place: Path, name: str, kills: list[Moment]) -> None:
    run = place / f"killed {name}"
    disk = "data.memory=0"  # the unbroken runs held their data in memory
    for number, moment in enumerate(kills):
        process = start(place, name, run, disk, *["--resume"] * (number > 0))
        stop(process, run, moment, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL and not (run / "emulator.json").exists()
    assert fit(place, name, run, disk, "--resume") == 0
    assert digests(run) == digests(place / name)


def test_sigterm_saves_and_resumes_to_the_same_bits(place: Path) -> None:
    run = place / "terminated"
    process = start(place, "deterministic", run)
    error = stop(process, run, at_step(7), signal.SIGTERM)
    done = len(history(run))
    assert process.returncode == 143 and error.splitlines()[-1].endswith("go on with --resume")
    assert done < STEPS and at_checkpoint(done)(run)
    assert fit(place, "deterministic", run, "--resume") == 0
    assert digests(run) == digests(place / "deterministic")


def test_a_second_run_in_one_folder_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, before = place / "deterministic", digests(place / "deterministic")
    with locked(run / "lock"):
        for option in ("--resume", "--force"):
            assert fit(place, "deterministic", run, option) == 5
            assert f"{run} is in use by process {os.getpid()} on" in capsys.readouterr().err
    assert digests(run) == before
    assert (run / "lock").exists() and fit(place, "deterministic", run, "--resume") == 0
