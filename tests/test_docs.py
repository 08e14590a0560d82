"""The documentation runs: its Python, its configurations, its links, and the tables that repeat the code."""

from __future__ import annotations

import inspect
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic.fields import FieldInfo

import driftway
from driftway import (
    Ancestral,
    Drift,
    Emulator,
    Euler,
    EulerMaruyama,
    Follmer,
    Heun,
    Noise,
    Rectified,
    VariancePreserving,
    Velocity,
)
from driftway.build import CODECS, STEPPERS, check_codec, check_stepper
from driftway.cli import main
from driftway.config import load_yaml, parse_value
from driftway.densities import DENSITIES
from driftway.glossary import OTHERS, SCORES
from driftway.grids import GRIDS
from driftway.interpolants import INTERPOLANTS
from driftway.networks import NETWORKS
from driftway.noise import NOISES
from driftway.physics.comparison import ERRORS
from driftway.physics.quantities import PROFILES, QUANTITIES
from driftway.predictions import PREDICTIONS
from driftway.samplers import SAMPLERS
from driftway.schema import Experiment, Section, keys, load_experiment
from tests import small
from tests.gaussian import Gaussian, sampled_law
from tests.test_experiments import METHODS, ROWS, SPREADS, calls

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the line of the page on which it starts, and what it holds."""

    language: str
    line: int
    text: str


def blocks(page: Path, language: str) -> list[Block]:
    found = re.finditer(r"^```([^\n]*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    parts = [Block(m[1].strip(), page.read_text().count("\n", 0, m.start()) + 2, m[2]) for m in found]
    return [block for block in parts if block.language == language]


@pytest.fixture
def tables() -> Iterator[None]:
    """The names of parts, as they were before a page added its own."""
    before = [(table, dict(table)) for table in (CODECS, INTERPOLANTS, NETWORKS)]
    yield
    for table, names in before:
        table.clear()
        table.update(names)  # type: ignore[arg-type]


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page in order, as one module and in a folder that holds committed results and samples alone."""
    (tmp_path / "results").symlink_to(ROOT / "results")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    module = ModuleType("documentation")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in blocks(page, "python"):
        padded = "\n" * (block.line - 1) + block.text
        exec(compile(padded, str(page), "exec", dont_inherit=True), vars(module))


def named_files(page: Path, folder: Path) -> None:
    """Writes the configurations that name their file in the first line, for those that extend them."""
    for block in blocks(page, "yaml"):
        named = re.match(r"# (\w+\.yaml)\n", block.text)
        if named:
            (folder / named[1]).write_text(block.text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configurations_load(page: Path, tmp_path: Path) -> None:
    """What says how to train is a whole experiment, on its own or over another file; the rest is YAML."""
    (tmp_path / "methods").symlink_to(METHODS)
    named_files(page, tmp_path)
    for block in blocks(page, "yaml"):
        file = tmp_path / f"{block.line}.yaml"
        file.write_text(block.text)
        if re.search(r"^(training|extends):", block.text, re.MULTILINE):
            experiment = load_experiment(file)
            check_codec(experiment.codec)
            check_stepper(experiment.stepper)
        else:
            load_yaml(file)


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}"


def rows(page: str, columns: int) -> list[list[str]]:
    """The rows of the tables of a page that have so many columns, without header and ruler."""
    lines = [line for line in (ROOT / "docs" / page).read_text().splitlines() if line.startswith("|")]
    split = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [cells for cells in split if len(cells) == columns and not set(cells[0]) <= set("-:")]


def limits(field: FieldInfo) -> list[str]:
    """The bounds of a number, as the page writes them."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    return [f"{signs[kind]} {value:g}" for bound in field.metadata for kind, value in bounds_of(bound, signs)]


def bounds_of(bound: object, kinds: Iterable[str]) -> list[tuple[str, float]]:
    return [(kind, getattr(bound, kind)) for kind in kinds if getattr(bound, kind, None) is not None]


def fields(section: type[Section] = Experiment, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every dotted key of the schema with its field."""
    for name, field in section.model_fields.items():
        yield prefix + name, field
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from fields(field.annotation, f"{prefix}{name}.")


def test_the_table_of_keys_is_the_schema() -> None:
    found = {cells[0].strip("`"): cells[1:] for cells in rows("experiments.md", 4)[1:]}
    assert list(found) == list(keys())
    for key, field in fields():
        default, values, meaning = found[key]
        assert meaning == field.description, key
        assert (default == "required") == field.is_required(), key
        assert re.findall(r"[≥≤<>] [\d.]+", values) == limits(field), key
        if isinstance(field.default, int | float | str | None):
            assert load_value(default) == field.default, key


TABLES: dict[str, Mapping[str, type]] = {
    "codec": CODECS,
    "stepper": STEPPERS,
    "network": NETWORKS,
    "noise": NOISES,
    "interpolant": INTERPOLANTS,
    "prediction": PREDICTIONS,
    "density": DENSITIES,
    "sampler": SAMPLERS,
    "grid": GRIDS,
}
SUPPLIED = {"channels", "boundary", "parameters", "inputs", "outputs", "guess", "physics"}
SUPPLIED |= {"fields", "axes", "known_axes", "names"}


def settings(kind: type) -> dict[str, Any]:
    """What a description may set of a component, with the defaults."""
    known = {} if kind.__init__ is object.__init__ else inspect.signature(kind).parameters
    return {name: parameter.default for name, parameter in known.items() if name not in SUPPLIED}


def test_the_table_of_components_is_that_of_the_constructors() -> None:
    found = {(part, name.strip("`")): written for part, name, written in rows("experiments.md", 3)[1:]}
    assert list(found) == [(part, name) for part, table in TABLES.items() for name in table]
    for (part, name), written in found.items():
        shown = re.findall(r"`(\w+)(?:: (.*?))?`", written)
        expected = settings(TABLES[part][name])
        assert [setting for setting, _ in shown] == list(expected), (part, name)
        for setting, text in shown:
            default = expected[setting]
            if isinstance(default, int | float | str | tuple):
                assert load_value(text) == (list(default) if isinstance(default, tuple) else default), (name, setting)


def load_value(text: str) -> Any:
    return parse_value(text.strip("`"), "the page")


def test_the_latent_recipe_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "experiments.md"
    recipe = next(block.text for block in blocks(page, "sh") if "autoencoder" in block.text)
    small.flow(tmp_path).rename(tmp_path / "mine.zarr")
    named_files(page, tmp_path)
    monkeypatch.chdir(tmp_path)
    for command in recipe.splitlines():
        _, *words = shlex.split(command)
        words += ["training.steps=2", "training.threads=1", "evaluation.leads=2"] if words[0] == "fit" else []
        assert main(words) == 0, command
    assert Emulator.load("runs/guess").spec["guess"]["type"] == "deterministic"
    assert (tmp_path / "report.html").exists()


def test_the_table_of_layers_names_every_module() -> None:
    layers = "".join(cell for cells in rows("extending.md", 2) for cell in cells[1:])
    package = Path(driftway.__file__).parent
    modules = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert modules - {"__init__"} <= set(re.findall(r"`(\w+)`", layers))


def test_the_table_of_methods_is_that_of_the_files() -> None:
    table = {re.sub(r".*`(\w+)\.yaml`.*", r"\1", cells[5]): cells for cells in rows("methods.md", 8)[1:]}
    assert sorted(table) == ROWS
    for row, cells in table.items():
        assert int(cells[6]) == (calls(row) if row in SPREADS else 1), row


SAMPLED = {
    ("Follmer", "EulerMaruyama"): (Follmer(), Drift(), EulerMaruyama()),
    ("Follmer", "Heun"): (Follmer(), Drift(), Heun()),
    ("Rectified", "Euler"): (Rectified(), Velocity(), Euler()),
    ("Rectified", "Heun"): (Rectified(), Velocity(), Heun()),
    ("VariancePreserving", "Ancestral(eta=0)"): (VariancePreserving(), Noise(), Ancestral(eta=0.0)),
}


def test_the_table_of_few_steps_is_what_the_samplers_do() -> None:
    header, *table = rows("methods.md", 7)
    counts = [int(cell.split()[0]) for cell in header[2:]]
    assert len(table) == 6
    for path, sampler, *spreads in table:
        name, noise = path.split(", ")
        interpolant, prediction, chosen = SAMPLED[name.strip("`"), sampler.strip("`")]
        system = Gaussian(noise=Gaussian.std if noise == "fitted" else 1.0)
        for steps, spread in zip(counts, spreads, strict=True):
            end = sampled_law(system, replace(chosen, steps=steps), interpolant, prediction)[-1]
            assert float(spread) == pytest.approx(end.std / system.std, abs=0.0051), (path, sampler, steps)


def test_the_page_of_scores_says_what_the_code_says() -> None:
    table = {cells[0].strip("`"): cells[1:] for cells in rows("metrics.md", 6)}
    for name, score in {**SCORES, **OTHERS}.items():
        bars = [score.long_name, score.formula, score.averaging, score.perfect, score.trivial]
        assert [cell.replace(r"\|", "|") for cell in table[name]] == [text or "–" for text in bars], name


def test_recipes_are_short() -> None:
    for block in blocks(ROOT / "docs" / "extending.md", "python"):
        assert len(block.text.splitlines()) <= 30, f"extending.md:{block.line}"


def test_the_tables_of_quantities_are_those_of_the_code() -> None:
    found = {cells[0].strip("`"): cells[1:3] for cells in rows("metrics.md", 4) if cells[0].strip("`") in QUANTITIES}
    assert found == {key: [q.long_name, q.formula.replace("|", r"\|")] for key, q in QUANTITIES.items()}
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert all(f"`{key}` {profile.formula}" in text.replace("\n", " ") for key, profile in PROFILES.items())
    errors = {cells[0].strip("`"): cells[1] for cells in rows("metrics.md", 3) if cells[0].strip("`") in ERRORS}
    assert errors == {key: formula.replace("|", r"\|") for key, (_, formula, *_) in ERRORS.items()}
