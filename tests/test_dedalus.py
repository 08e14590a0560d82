"""Dedalus as an engine: never imported, named when it is missing, and in agreement where it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from driftway.data import Conditioning
from driftway.errors import ConfigError, DriftwayError
from driftway.pdes import PRESETS, RayleighBenard, Values, dedalus, simulate
from driftway.randomness import stream

FLOW = RayleighBenard(size=(48, 24), rayleigh=Values((1e5,)), drop=(1.0, 1.0), noise=0.1)
INTERPRETER = os.environ.get(dedalus.INTERPRETER, sys.executable)


def installed() -> bool:
    return subprocess.run([INTERPRETER, "-c", "import dedalus"], capture_output=True, check=False).returncode == 0


def fake(path: Path, code: str) -> str:
    """An interpreter that runs `code` whatever it is given."""
    path.write_text(f"#!{sys.executable}\nimport sys\nsys.stdin.buffer.read()\n{code}\n")
    path.chmod(0o755)
    return str(path)


def first(engine: str = "dedalus") -> torch.Tensor:
    return next(replace(FLOW, engine=engine).rollout(FLOW.initial(stream(0, "initial", rows=[0])), Conditioning()))


def test_an_interpreter_without_dedalus_is_told_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(dedalus.INTERPRETER, fake(tmp_path / "python", f"sys.exit({dedalus.MISSING})"))
    with pytest.raises(ConfigError, match=r"python has no Dedalus, .* the extra `convection` .* libopenmpi-dev"):
        first()


def test_an_interpreter_that_does_not_exist_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dedalus.INTERPRETER, str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match=r"DRIFTWAY_DEDALUS=.*nothing cannot be run; install the extra"):
        first()


def test_another_end_is_told_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dedalus.INTERPRETER, fake(tmp_path / "python", "raise RuntimeError('no factors')"))
    with pytest.raises(DriftwayError, match="Dedalus ended with exit code 1: RuntimeError: no factors"):
        first()


def test_states_come_through_the_pipe_and_the_process_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import struct, time\nsys.stdout.buffer.write(struct.pack('<4608d', *range(4608)) * 3)\ntime.sleep(1000)"
    monkeypatch.setenv(dedalus.INTERPRETER, fake(tmp_path / "python", code))
    following = replace(FLOW, engine="dedalus").rollout(FLOW.initial(stream(0, "initial", rows=[0])), Conditioning())
    assert torch.equal(next(following), torch.arange(4608, dtype=torch.float64).view(1, 4, 48, 24))
    following.close()  # type: ignore[attr-defined]


def test_its_script_is_never_imported() -> None:
    script = (
        "import sys, driftway, driftway.cli, driftway.pdes, driftway.simulate\n"
        "assert not [name for name in sys.modules if name == 'dedalus' or name.startswith('driftway.engines')]"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_it_steps_one_trajectory_at_a_time() -> None:
    assert (FLOW.chunk, replace(FLOW, engine="dedalus").chunk) == (28, 1)
    with pytest.raises(ConfigError, match="engine = 'nek', must be one of torch, dedalus"):
        replace(FLOW, engine="nek")


@pytest.mark.skipif(not installed(), reason="Dedalus is not installed")
def test_both_engines_give_the_same_flow() -> None:
    """From one state at rest through the onset: Dedalus' steps are of order 2 and its walls a tau method's."""
    state = FLOW.initial(stream(0, "initial", rows=[0]))
    engines = [replace(FLOW, engine=name).rollout(state, Conditioning()) for name in ("torch", "dedalus")]
    for _ in range(40):
        ours, theirs = (next(engine) for engine in engines)
    assert float(theirs[:, 2:].square().mean().sqrt()) > 0.03
    difference = (ours - theirs).square().mean((0, 2, 3)).sqrt() / theirs.std((0, 2, 3))
    assert float(difference.max()) < 0.02


@pytest.mark.skipif(not installed(), reason="Dedalus is not installed")
def test_a_preset_is_made_by_it() -> None:
    numbers = {"size": [32, 16], "rayleigh": [1e4, 1e5], "prandtl": [1], "frames": 2, "trajectories": [2, 0, 0]}
    both = [
        list(simulate(PRESETS["rayleigh-benard"].override({**numbers, "burn_in": 1, "engine": engine}), 0, range(2)))
        for engine in ("torch", "dedalus")
    ]
    assert [len(chunks) for chunks in both] == [1, 2]
    ours, theirs = (torch.cat([torch.from_numpy(chunk) for chunk in chunks]) for chunks in both)
    assert torch.allclose(ours[:, :, 0], theirs[:, :, 0], atol=5e-3)
