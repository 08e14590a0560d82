"""A stand-in for exoplasim and PlaSim: it takes their words, writes their files, and computes next to nothing.

Used as an interpreter, `standin SCRIPT prepare` and `standin SCRIPT run PROGRAM`. Its weather is one chaotic number,
which the restart file keeps. It does without numpy, to begin at once. A file `crash` beside its folder makes it crash.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from array import array
from collections.abc import Iterable
from pathlib import Path

LAYERS, LATITUDES, TRUNCATION = 5, 32, 21
MODES = (TRUNCATION + 1) * (TRUNCATION + 2) // 2
SPACE = (2 * LATITUDES, LATITUDES)
HALF = (0.2, 0.4, 0.6, 0.8, 1.0)
SPECTRAL = (130, 133, 138, 155)


def record(data: bytes) -> bytes:
    """A record of unformatted Fortran."""
    return struct.pack("<i", len(data)) + data + struct.pack("<i", len(data))


def block(code: int, level: int, values: Iterable[float], shape: tuple[int, int]) -> bytes:
    """A header and its field."""
    return record(struct.pack("<8i", code, level, 10101, 515, *shape, 7, 360)) + record(array("f", values).tobytes())


def first_block(half: Iterable[float]) -> bytes:
    """The header of a file, with the vertical coordinate."""
    layers = list(half)
    numbers = array("f", layers + [0.0] * (SPACE[0] * SPACE[1] - len(layers)))
    head = struct.pack("<8i", 333, 0, 10101, 0, *SPACE, len(layers), TRUNCATION)
    return record(head) + record(numbers.tobytes())


def even(code: int, value: float) -> bytes:
    """A field on the grid that is the same everywhere."""
    return block(code, 0, [value] * (SPACE[0] * SPACE[1]), SPACE)


def uniform(code: int, level: int, value: float, weather: float) -> bytes:
    """A uniform field with a wave of wavenumber one on it, real and imaginary parts in turn."""
    pairs = [0.0] * (2 * MODES)
    pairs[0], pairs[2 * (TRUNCATION + 1)] = value, weather * value * 0.01
    return block(code, level, pairs, (2 * MODES, 1))


def state(weather: float, step: int) -> bytes:
    """The fields of a state."""
    blocks = [uniform(129, 0, 0.0, 0.0), uniform(152, 0, 11.5, weather)]
    for code, value in zip(SPECTRAL, (260.0, 0.003, 1e-5, 1e-6), strict=True):
        blocks += [uniform(code, level, value, weather) for level in range(1, LAYERS + 1)]
    surface = {139: 280 + weather, 140: 0.2, 160: 1e-9, 167: 281 + weather, 172: 1.0, 173: 0.1, 178: 200.0, 203: -100.0}
    return b"".join([*blocks, *(even(code, value) for code, value in {**surface, 210: step}.items())])


def mean(weather: float) -> bytes:
    """The fields of a mean of six hours."""
    codes = {142: 1e-8 * weather, 143: 2e-8, 160: 1e-9, 182: -3e-8}
    return b"".join(even(code, value) for code, value in codes.items())


def restart(nstep: int, weather: float) -> bytes:
    """A restart file: a name before each number."""
    named = {"nstep": struct.pack("<i", nstep), "weather": struct.pack("<d", weather)}
    return b"".join(record(name.encode().ljust(16)) + record(value) for name, value in named.items())


def run() -> int:
    """Some days from the restart file, or from the seed."""
    numbers = dict(re.findall(r"(?m)^\s*(\w+)\s*=\s*(.*)$", Path("plasim_namelist").read_text()))
    steps, days = int(numbers["NSTPW"]), int(numbers["N_RUN_DAYS"])
    old = Path("plasim_restart")
    if old.is_file():
        data = old.read_bytes()
        nstep, weather = struct.unpack_from("<i", data, 28)[0], struct.unpack_from("<d", data, 64)[0]
    else:
        nstep, weather = 366 * 4 * steps, int(numbers["SEED"].split(",")[0]) % 1000 / 1000
    if Path("../crash").is_file():
        Path("Abort_Message").write_text(" Planet Simulator aborted\n timestep = 17\n")
        return 0
    with Path("plasim_snapshot").open("wb") as states, Path("plasim_output").open("wb") as means:
        states.write(first_block(HALF))
        means.write(first_block(HALF))
        for _ in range(4 * days):
            weather, nstep = 3.9 * weather * (1 - weather), nstep + steps
            states.write(state(weather, nstep))
            means.write(mean(weather))
    Path("plasim_status").write_bytes(restart(nstep, weather))
    return 0


def prepare() -> int:
    """A folder with numbers and months of sea surface temperature; about.json's content is the answer."""
    about = json.loads(sys.stdin.readline())
    folder = Path(about["folder"])
    folder.mkdir()
    numbers = f" &plasim_nl\n N_RUN_DAYS  =     0\n SEED = 1 \n NSTPW = {about['steps']} \n /END\n"
    (folder / "plasim_namelist").write_text(numbers)
    months = [f"169 {month} 0 -1 64 32 0 0\n" + f"{280 + month} " * 2048 for month in range(14)]
    (folder / "N032_surf_0169.sra").write_text("\n".join(months))
    sys.stdout.write(json.dumps({"program": "plasim.x", "gas": 287.0, "version": "0"}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run() if sys.argv[2] == "run" else prepare())
