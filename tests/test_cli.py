"""The command line: what it offers is frozen here, what it prints can be read by people and by machines."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftway.cli import PresetName, app, main
from driftway.data.forecasts import open_forecast
from driftway.errors import ConfigError, DataError, DivergedError, DriftwayError, StorageError
from driftway.simulate import KNOWN, preset_named
from tests import small

COMMANDS = """
climate FORECASTS... --truth --split=test --also=None --also-split=train --block=None --seed=0 --out
data export PATH --out --layout=the-well
data inspect PATH
data make PRESET [OVERRIDES...] --out --seed=0 --force=False
data presets [PRESET]
data stats PATH --split=train
demo [OVERRIDES...] --out=demo --quick=False
diagnose PATH --split=train --lags=None --states=1000 --out=None
doctor
evaluate FORECASTS... --data --out=scores.json
fit autoencoder CONFIG [OVERRIDES...] --out=None --resume=False --force=False
fit stepper CONFIG [OVERRIDES...] --out=None --resume=False --force=False
forecast RUN --data --out --leads=None --members=None --split=None --trajectories=None --batch=None --start=0 \
--starts=None --sampler=None --label=None --seed=0 --every=1 --means=None --guard=False --force=False
report FOLDER --out=None
study plan FILE --workers=None --scheduler=None
study report FOLDER --out=None
study run FILE --out=None --workers=None --scheduler=None
tune RUN --for --by=run --data=None --calls=10 --leads=10 --members=8 --trajectories=None --starts=None --batch=64 \
--seed=0
verify PATH
"""
CODES = {0: "done", 1: "unexpected", 2: "configuration", 3: "data", 4: "diverged", 5: "storage", 130: "", 143: ""}
DOCS = Path(__file__).parents[1] / "docs" / "cli.md"


def commands() -> Iterator[list[str]]:
    """The words of every command."""
    groups = {"data", "fit", "study"}
    for name in app:
        if name in groups:
            yield from ([name, inner] for inner in app[name] if not inner.startswith("-"))
        elif not name.startswith("-"):
            yield [name]


def described(words: list[str]) -> str:
    """One command with its arguments, options and defaults."""
    command = app
    for word in words:
        command = command[word]
    parts = list(words)
    for argument in command.assemble_argument_collection():
        field, name = argument.field_info, argument.names[0] if argument.names else argument.name
        several = field.kind is field.VAR_POSITIONAL or str(field.annotation).startswith("list")
        if not name.startswith("-"):
            shown = name.upper() + "..." * several
            parts.append(shown if argument.required else f"[{shown}]")
        else:
            parts.append(name if argument.required else f"{name}={field.default}")
    return " ".join(parts)


class Result:
    """What a command wrote, and its exit code."""

    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """Runs a command in this process."""

    def call(*words: str | Path) -> Result:
        code = main([str(word) for word in words])
        return Result(code, *capsys.readouterr())

    return call


def shell(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "driftway.cli", *words], capture_output=True, env={**os.environ, **environment}
    )


def strict(text: str) -> Any:
    """JSON without the NaN and Infinity that Python adds to it."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


# --- what there is -----------------------------------------------------------------------------------------------


def test_the_commands_and_their_options_are_these():
    assert sorted(described(words) for words in commands()) == COMMANDS.strip().splitlines()


def test_the_presets_on_the_command_line_are_those_of_the_package():
    assert list(PresetName.__args__) == list(KNOWN)


def test_the_manual_names_every_command_option_and_exit_code():
    text = DOCS.read_text()
    for words in commands():
        section = text.split(f"## driftway {' '.join(words)}\n")[1].split("\n## ")[0]
        for option in described(words).split():
            if option.startswith("--"):
                assert f"`{option.split('=')[0]}" in section, (words, option)
    for code, meaning in CODES.items():
        assert f"| {code} | {meaning}" in text
    for word in ("--json", "--debug", "--help", "--version", "key.path=value", "NO_COLOR"):
        assert f"{word}`" in text


def test_every_command_line_in_the_manual_is_understood():
    commands = (line for line in DOCS.read_text().splitlines() if line.startswith("driftway "))
    lines = [line for line in commands if not re.search(r"\[[A-Z]", line)]
    assert len(lines) >= 3
    for line in lines:
        command, bound, _ = app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)
        assert bound.arguments, command


def test_help_and_usage_errors_do_not_import_torch():
    words = [" ".join([*words, "--help"]) for words in commands()]
    words += ["--version", "--help", "", "fit", "forcast", "data make", "data make kolmogorv --out x"]
    words += ["fit stepper none.yaml"]
    code = f"""
import sys
from driftway.cli import main
for words in {words!r}:
    main(words.split())
heavy = {{"torch", "zarr", "xarray", "matplotlib", "h5py"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_argument_and_option_has_help(run, words):
    found = run(*words, "--help")
    assert found.code == 0 and found.err == ""
    for argument in _help_rows(words):
        assert argument, words


def _help_rows(words: list[str]) -> Iterator[str]:
    """The explanation of each argument in the docstring of a command."""
    command = app
    for word in words:
        command = command[word]
    text = command.default_command.__doc__ or ""
    for argument in command.assemble_argument_collection():
        yield text.partition(f":param {argument.field_info.name}:")[2].split("\n")[0].strip()


@pytest.mark.parametrize(("columns", "words"), [(40, ["forecast", "--help"]), (40, ["--help"]), (200, ["--help"])])
def test_help_fits_the_terminal_and_has_no_colours_without_one(columns, words):
    done = shell(*words, COLUMNS=str(columns), NO_COLOR="1")
    text = done.stdout.decode()
    assert done.returncode == 0 and "\x1b" not in text
    assert max(map(len, text.splitlines())) <= columns


# --- exit codes --------------------------------------------------------------------------------------------------


def test_each_kind_of_error_has_its_exit_code():
    kinds = {DriftwayError: 1, ConfigError: 2, DataError: 3, DivergedError: 4, StorageError: 5}
    assert {kind: kind.exit_code for kind in kinds} == kinds


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("forcast", 'Unknown command "forcast". Did you mean "forecast"?'),
        ("data mkae", 'Unknown command "mkae". Did you mean "make"?'),
        ("data make", "data make needs PRESET, one of kolmogorov, kolmogorov-hard"),
        ("data make kolmogorv --out x", 'Did you mean "kolmogorov"?'),
        ("data make burgers", "data make needs --out"),
        ("data make burgers frmaes=3 --out x", "preset 'burgers' has no number 'frmaes'; did you mean 'frames'?"),
        ("data make burgers frames --out x", "override 'frames' must be name=value"),
        ("data make burgers frames=3.5 --out x", "frames = 3.5 is not of the kind of its default 101"),
        ("data make burgers --out x --seed -1", 'Invalid value "-1" for --seed. Must be >= 0.'),
        ("data inspect", "data inspect needs PATH"),
        ("data stats x --split tset", 'Did you mean "test"?'),
        ("fit stepper", "fit stepper needs CONFIG"),
        ("fit stepper none.yaml", "none.yaml: cannot be read (No such file or directory); check its path"),
        ("forecast x --data y", "forecast needs --out"),
        ("forecast x --data y --out z --lead 3", "Unknown option: --lead. Did you mean --leads?"),
        ("forecast x --data y --out z --leads 0", 'Invalid value "0" for --leads. Must be > 0.'),
        ("forecast x --data y --out z --leads ten", 'unable to convert "ten" into int'),
        ("forecast x --data y --out z --sampler eulr", "--sampler: unknown type 'eulr'; did you mean 'euler'? valid: "),
        ("forecast x --data y --out z --sampler {type:heun,stpes:2}", "--sampler: "),
        ("forecast x --data y --out z --sampler [1]", "--sampler: should be a name or a mapping with 'type'"),
        ("evaluate --data x", "evaluate needs FORECASTS"),
        ("demo training.stpes=3 --out x", "training.stpes: unknown key 'stpes'; did you mean 'steps'?"),
    ],
)
def test_a_mistake_in_usage_is_one_line_with_the_remedy_and_exit_code_2(run, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    found = run(*words.split())
    assert found.code == 2 and found.out == ""
    assert found.err.startswith("driftway: ") and found.err.count("\n") == 1 and message in found.err
    assert list(tmp_path.iterdir()) == []


def test_a_solver_that_blows_up_ends_with_exit_code_4_and_leaves_nothing(run, tmp_path):
    words = ("frames=3", "trajectories=[1, 1, 1]", "dt=0.5", "viscosity=0.0001", "amplitude=100.0")
    found = run("data", "make", "burgers", *words, "--out", tmp_path / "x.zarr")
    assert found.code == 4 and "is not finite at time" in found.err and "use dt = 0.25" in found.err
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_saves_a_training_and_ends_with_exit_code_130(run, study, tmp_path):
    log = tmp_path / "run" / "metrics.jsonl"

    def interrupt() -> None:
        while not (log.exists() and log.stat().st_size):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    found = run("fit", "stepper", study / "generative.yaml", "training.steps=100000", "--out", tmp_path / "run")
    thread.join()
    assert found.code == 130 and found.err.count("\n") == 1 and "go on with --resume" in found.err
    assert list((tmp_path / "run" / "checkpoints").iterdir())


def test_debug_adds_the_traceback_and_keeps_the_exit_code(run):
    found = run("data", "inspect", "none.zarr", "--debug")
    assert found.code == 3
    assert found.err.startswith("Traceback") and "DataError: none.zarr does not exist" in found.err


# --- a whole study, on one command line after the other ----------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a generative run, two forecasts and their scores."""
    folder = tmp_path_factory.mktemp("study")
    data, forecasts = str(folder / "data.zarr"), folder / "forecasts"
    config = small.written(folder, Path(data), "generative", evaluation={"leads": 3, "members": 2, "trajectories": 1})
    assert main(["data", "make", "kuramoto-sivashinsky", *small.CHAOS, "--out", data]) == 0
    assert main(["fit", "stepper", str(config), "training.steps=3", "--out", str(folder / "run")]) == 0
    common = ["forecast", str(folder / "run"), "--data", data]
    assert main([*common, "--out", str(forecasts / "sde.zarr")]) == 0
    one = ["--sampler", "{type: euler_maruyama, steps: 1, temperature: 0}", "--members", "1"]
    assert main([*common, "--out", str(forecasts / "drift.zarr"), "--label", "noise-free", *one]) == 0
    paths = [str(path) for path in sorted(forecasts.iterdir())]
    assert main(["evaluate", *paths, "--data", data, "--out", str(folder / "scores.json")]) == 0
    return folder


def test_a_forecast_is_as_the_run_is_configured_unless_options_say_otherwise(study):
    with open_forecast(study / "forecasts" / "sde.zarr") as found:
        assert found["u"].sizes == {"realization": 2, "trajectory": 1, "lead_time": 3, "x": 32}
        assert bool(np.isfinite(found["u"]).all()) and found.attrs["label"] == "sde"
    with open_forecast(study / "forecasts" / "drift.zarr") as found:
        assert found.sizes["realization"] == 1 and found.attrs["label"] == "noise-free"
        assert "temperature=0" in found.attrs["sampler"]


def test_scores_go_to_a_file_and_their_means_to_standard_output(run, study, tmp_path):
    paths = sorted((study / "forecasts").iterdir())
    found = run("evaluate", *paths, "--data", study / "data.zarr", "--out", tmp_path / "scores.json", "--json")
    means = strict(found.out)
    assert found.code == 0 and {"sde", "noise-free", "persistence", "climatology"} <= means.keys()
    assert means["noise-free"]["energy_score"] is None or means["noise-free"]["energy_score"] > 0
    assert means["noise-free"]["spread"] is None
    strict((tmp_path / "scores.json").read_text())


def test_people_are_shown_findings_and_one_line_for_each_method(run, study, tmp_path):
    paths = sorted((study / "forecasts").iterdir())
    found = run("evaluate", *paths, "--data", study / "data.zarr", "--out", tmp_path / "scores.json")
    head, _, methods = found.out.partition("methods:\n")
    assert head.startswith(f"scores: {tmp_path / 'scores.json'}\nfindings:\n- Lowest VRMSE")
    names = [line.split(":")[0] for line in methods.splitlines()]
    assert names == ["- persistence", "- climatology", "- noise-free", "- sde"]
    assert re.search(
        r"^- sde: calls 2, members 2, VRMSE [\d.]+, CRPS [\d.]+, spread / skill [\d.]+–[\d.]+$", methods, re.M
    )
    assert re.search(r"^- persistence: calls –, members 1, VRMSE [\d.]+, CRPS [\d.]+, spread / skill –$", methods, re.M)


def test_a_report_is_one_page(run, study, tmp_path):
    found = run("report", study, "--out", tmp_path / "page.html")
    assert found.code == 0 and found.out == f"report: {tmp_path / 'page.html'}\n"
    assert "noise-free" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    "words",
    [
        "doctor",
        "data presets",
        "data presets burgers",
        "data inspect {data}",
        "data stats {data} --split test",
        "verify {data}",
    ],
)
def test_results_are_read_by_people_and_by_machines(run, study, words):
    split = [word.format(data=study / "data.zarr") for word in words.split()]
    plain, machine = run(*split), run("--json", *split)
    assert plain.code == machine.code == 0 and plain.err == machine.err == ""
    assert [line.partition(":")[0] for line in plain.out.splitlines() if line[0] not in " -"] == list(
        strict(machine.out)
    )


def test_all_numbers_of_a_preset_can_be_given_back_as_overrides(run):
    for name, preset in KNOWN.items():
        numbers = strict(run("data", "presets", name, "--json").out)
        words = [f"{key}={json.dumps(value)}" for key, value in numbers.items() if key not in ("preset", "description")]
        assert preset_named(name, words) == preset and numbers["description"] == preset.description


def test_data_of_a_preset_depend_on_preset_and_seed_alone(run, study, tmp_path):
    common = ("data", "make", "kuramoto-sivashinsky", *small.CHAOS, "--json")
    same = strict(run(*common, "--out", tmp_path / "same.zarr").out)
    other = strict(run(*common, "--out", tmp_path / "other.zarr", "--seed", "1").out)
    before = strict(run("data", "inspect", study / "data.zarr", "--json").out)
    assert same["fingerprint"] == before["fingerprint"] != other["fingerprint"]


def test_a_damaged_data_set_is_found_with_exit_code_3(run, study, tmp_path):
    data = tmp_path / "damaged.zarr"
    subprocess.run(["cp", "-r", study / "data.zarr", data], check=True)
    chunk = next(path for path in sorted((data / "u" / "c").rglob("*")) if path.is_file())
    chunk.write_bytes(bytes([chunk.read_bytes()[0] ^ 1]) + chunk.read_bytes()[1:])
    found = run("verify", data)
    assert found.code == 3 and found.err.count("\n") == 1
    assert f"{data} is damaged in 1 places, first: {data}: {chunk.relative_to(data)} has changed" in found.err


# --- pipes and terminals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["forecast --help", "data presets"])
def test_a_reader_that_leaves_early_is_no_error(monkeypatch, capsys, words):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(words.split()) == 0
    monkeypatch.undo()
    assert capsys.readouterr().err == ""


def test_an_output_that_lacks_a_character_is_no_error(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert main(["data", "presets"]) == 0
    assert b"2-D turbulence, ? = 0.005 on 64?" in written.getvalue()
