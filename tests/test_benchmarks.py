"""Every benchmark of the loops runs: the figures in the documentation come from them."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from driftway.data import open_data
from driftway.data.forecasts import open_forecast
from driftway.forecasting import forecast_run
from driftway.workflow import fit_stepper
from tests import small

NEEDS = re.compile(r'add_argument\("[a-z]+"(?!.*nargs="[*?]")[^\n]*\)')  # a positional argument that has no default
FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Benchmarks run on one thread; other tests get theirs back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_training_overhead(capsys: pytest.CaptureFixture[str]) -> None:
    assert loaded("training_overhead").main(["--quick", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"bare_ms", "driftway_ms", "overhead", "checkpoints"} and min(found.values()) > -1


def test_sampler_overhead(capsys: pytest.CaptureFixture[str]) -> None:
    assert loaded("sampler_overhead").main(["--quick", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["sampler"]: row["calls"] for row in rows} == {"EulerMaruyama": 2, "Heun": 2, "Ancestral": 2}
    assert all(row["outside_ms"] > 0 and row["network_ms"] > 0 for row in rows)


def test_forecast_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert loaded("forecast_memory").main(["--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["leads", "output", "peak", "memory"] and lines[-1].startswith("ratio of the peaks ")
    assert float(lines[-1].split()[-1]) < 1.1


def test_emulator_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert loaded("emulator_cost").main(["--quick", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() > {"solver", "guess, SDE, 1 step"} and min(found.values()) > 0


def test_convection_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert loaded("convection_cost").main(["--quick", "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)["cpu_seconds"]
    assert cost.keys() > {"solver", "solver, one flow", "interpolant, 8 members"} and min(cost.values()) > 0


def test_climate_cost(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = FOLDER.parent / "docs" / "data" / "plasim.zarr"
    fit_stepper(small.experiment(tmp_path, data), tmp_path / "run")
    assert loaded("climate_cost").main([str(tmp_path / "run"), str(data), "--quick", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cpu_seconds_a_year"].keys() == {"emulator, 1 member", "emulator, 8 members"}
    assert all(map(math.isfinite, found["cpu_seconds_a_year"].values()))  # of a few steps only noise is seen
    assert min(found["peak_mb"].values()) > 100


def test_climate_drift(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = FOLDER.parent / "docs" / "data" / "plasim.zarr"
    fit_stepper(small.experiment(tmp_path, data, "deterministic"), tmp_path / "run")
    assert (
        loaded("climate_drift").main([str(tmp_path / "run"), str(data), "--split", "test", "--days", "3", "--json"])
        == 0
    )
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["day"] for one in found] == [1, 3] and all(0.5 < one["size"] < 2 for one in found)
    out = tmp_path / "f.zarr"
    forecast_run(tmp_path / "run", data, out, leads=12, members=1)
    part, ours = open_data(data).split("test"), open_forecast(out)
    off = ours["zg500"].values[0, :, 11] - np.asarray(part.states[[0], [12]])[:, part.fields.index("zg500")]
    assert found[1]["zg500"] == pytest.approx(float(np.sqrt((off**2).mean())), rel=1e-4)


def test_chaos(capsys: pytest.CaptureFixture[str]) -> None:
    assert loaded("chaos").main(["--quick", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 4 and all(abs(one["exponent"]) < 50 for one in found)


def test_well_reading(capsys: pytest.CaptureFixture[str]) -> None:
    assert loaded("well_reading").main(["--quick", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {(r["from"], r["files"], r["frames"]) for r in found} == set(
        product(("disk", "memory"), ("contiguous", "chunked"), (2, 16))
    )
    assert all(row["ratio"] > 0 and row["same"] > 0 for row in found)


def test_well_mass(capsys: pytest.CaptureFixture[str]) -> None:
    assert loaded("well_mass").main(["--quick", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] >= 2 and found["peak_mb"] > 0
    assert len(found["ms_per_step"]) == len(found["cpu_ms_per_step"]) == 2 and min(found["ms_per_step"]) > 0


def test_make_runs_those_that_need_nothing_and_no_other() -> None:
    planned = subprocess.run(["make", "-n", "benchmark"], cwd=FOLDER.parent, capture_output=True, text=True, check=True)
    run = set(re.findall(r"benchmarks/(\w+)\.py", planned.stdout))
    needy = {path.stem for path in FOLDER.glob("*.py") if NEEDS.search(path.read_text())}
    assert run == {path.stem for path in FOLDER.glob("*.py")} - needy
