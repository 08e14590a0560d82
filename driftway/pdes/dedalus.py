"""Dedalus 3 as the engine of convection: the reference that the solver here is compared with.

Dedalus is under the GPL, so that it is never imported: `driftway/engines/dedalus_convection.py` runs in a process of
its own, one for each trajectory, with the interpreter named by DRIFTWAY_DEDALUS or else with this one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from driftway.errors import ConfigError, DriftwayError

SCRIPT = Path(__file__).parents[1] / "engines" / "dedalus_convection.py"
INTERPRETER = "DRIFTWAY_DEDALUS"
MISSING = 77
NEEDED = (
    "install the extra `convection` after the Debian packages libopenmpi-dev, openmpi-bin, libfftw3-dev, "
    "libfftw3-mpi-dev, pkg-config and gfortran, as docs/simulators.md tells"
)


def trajectories(about: Mapping[str, Any], state: Tensor, numbers: Tensor) -> Iterator[Tensor]:
    """The states (B, 4, nx, ny) one interval after the other, without end, from one process per row.

    Raises ConfigError where the interpreter has no Dedalus, DriftwayError where Dedalus ends otherwise.

    Arguments:
        about: size, width, interval, courant and checks of the solver
        numbers: Pr and Ra of each row, (B, 2)
    """
    with ExitStack() as running:
        processes = []
        for row, (prandtl, rayleigh) in enumerate(numbers.tolist()):
            numbered = {**about, "prandtl": prandtl, "rayleigh": rayleigh}
            processes.append(running.enter_context(_started(numbered, state[row].double().numpy())))
        while True:
            yield torch.from_numpy(np.stack([_next(process, log, state.shape[1:]) for process, log in processes])).to(
                state
            )


@contextmanager
def _started(about: Mapping[str, Any], start: np.ndarray) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    command = [os.environ.get(INTERPRETER, sys.executable), str(SCRIPT)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, cwd=SCRIPT.parent
            )
        except OSError as error:
            raise ConfigError(f"{INTERPRETER}={command[0]} cannot be run; {NEEDED}") from error
        try:
            _send(process, json.dumps(about).encode() + b"\n" + start.tobytes())
            yield process, log
        finally:
            process.kill()
            process.wait()


def _send(process: subprocess.Popen[bytes], message: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(message)
        process.stdin.close()
    except BrokenPipeError:
        pass  # it has ended, and says why when its first state is asked for


def _next(process: subprocess.Popen[bytes], log: IO[bytes], shape: tuple[int, ...]) -> np.ndarray:
    assert process.stdout is not None
    count = 8 * int(np.prod(shape))
    message = process.stdout.read(count)
    if len(message) == count:
        return np.frombuffer(message).reshape(shape)
    if process.wait() == MISSING:
        raise ConfigError(f"{process.args[0]} has no Dedalus, which engine = dedalus needs; {NEEDED}")  # type: ignore[index]
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    raise DriftwayError(
        f"Dedalus ended with exit code {process.returncode}: {lines[-1] if lines else 'it says nothing'}"
    )
