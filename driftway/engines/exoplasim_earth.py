"""PlaSim, an Earth of it, by ExoPlaSim 3.4 (Paradise et al. 2022, MNRAS 511, 3272): a folder made ready, a program run.

Run by `driftway.climate.program`, with an interpreter that has exoplasim. `prepare` reads a line of JSON from standard
input, compiles the model, fills a folder with what it needs and answers with a line of JSON. `run PROGRAM` runs the
compiled program in the present folder, and ends it when standard input does.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MISSING, NO_COMPILER, READ_ONLY, NOT_COMPILED = 77, 78, 79, 80
TOOLS = ("gfortran", "gcc", "g++", "make")
AIR = {"pN2": 0.7809, "pO2": 0.2095, "pAr": 0.0093}  # bar


def main() -> int:
    """Prepare or run, as the first word says."""
    return run(sys.argv[2]) if sys.argv[1] == "run" else prepare(json.loads(sys.stdin.readline()))


def run(program: str) -> int:
    """Run the program; its exit code, 128 and the number of the signal where one ended it."""
    process = subprocess.Popen([f"./{program}"], stdin=subprocess.DEVNULL, stdout=sys.stderr)
    threading.Thread(target=_end_with_parent, args=(process,), daemon=True).start()
    code = process.wait()
    return code if code >= 0 else 128 - code


def _end_with_parent(process: subprocess.Popen[bytes]) -> None:
    """The program of a parent that was killed would go on for hours."""
    while os.read(0, 1024):  # below sys.stdin, whose lock would still be held when the interpreter ends
        pass
    process.kill()


def prepare(about: dict[str, Any]) -> int:
    """A folder with the program, its numbers and Earth's surface; the answer is a line of JSON."""
    # What exoplasim prints belongs to the log.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if lacking:
        sys.stderr.write(f"there is no {lacking[0]}\n")
        return NO_COMPILER
    # meson, which exoplasim needs once, lies beside the interpreter.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    try:
        import exoplasim  # pyright: ignore[reportMissingImports]
    except ImportError:
        return MISSING
    home = Path(str(exoplasim.__file__)).parent
    if not os.access(home, os.W_OK):
        sys.stderr.write(f"{home} is read-only\n")
        return READ_ONLY
    with _alone(home):
        model = _model(exoplasim, about)
    if not (Path(about["folder"]) / model.executable).is_file():
        return NOT_COMPILED
    answer.write(json.dumps({"program": model.executable, "gas": _gas(about), "version": _version()}) + "\n")
    answer.flush()
    return 0


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Within the block no other process compiles: all do so in one folder."""
    with (home / "driftway.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _model(exoplasim: Any, about: dict[str, Any]) -> Any:
    model = exoplasim.Model(
        workdir=about["folder"],
        ncpus=1,
        resolution=f"T{about['truncation']}",
        layers=about["layers"],
        precision=about["precision"],
        recompile=True,  # programs of either precision have one name
    )
    steps = str(about["steps"])
    part = about["co2"] * 1e-6
    gases = {**AIR, "pCO2": part / (1 - part) * sum(AIR.values())}
    model.configure(
        timestep=about["timestep"],
        snapshots=about["steps"],
        year=365,
        # orbit: ExoPlaSim's own numbers are those of a planet without seasons
        obliquity=23.441,
        eccentricity=0.016715,
        lonvernaleq=102.7,
        fixedorbit=True,
        **gases,
        ozone=True,
        modeltop=50.0,
        vtype=4,
        otherargs={
            "NOCEAN@oceanmod_namelist": "0",  # prescribed sea surface temperature
            "NICE@icemod_namelist": "0",  # and sea ice
            "NDCYCLE@radmod_namelist": "1",
            "NSTPW@plasim_namelist": steps,  # means over the interval
            "N_RUN_YEARS@plasim_namelist": "0",
            "N_RUN_DAYS@plasim_namelist": "0",
            "SEED@plasim_namelist": "1",
        },
    )
    return model


def _gas(about: dict[str, Any]) -> float:
    """The gas constant that the model has of the mixture."""
    text = (Path(about["folder"]) / "planet_namelist").read_text()
    return float(re.findall(r"GASCON\s*=\s*([0-9.]+)", text)[0])


def _version() -> str:
    from importlib.metadata import version

    return version("exoplasim")


if __name__ == "__main__":
    sys.exit(main())
