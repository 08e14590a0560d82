"""The structure of the package: who may import whom, and the form that its code keeps."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

import driftway

ROOT = Path(driftway.__file__).parent

# From bottom to top; what stands in one line does not import one another. `name.*` is a package that is closed in
# itself: its modules may import one another, and what a line below offers.
LAYERS = """
errors version glossary lazy brief engines.*
randomness storage progress processes sphere
sums
config.* data.axes data.calendar data.cf data.conditioning data.states
data.seasons
data.trajectories
calculus
data.layout
data.* metrics.* networks.* pdes.* codecs modes
grids noise physics.* climate.*
interpolants
diffusions
predictions densities
transport
samplers
steppers
linear coarse parameters copies
schema checkpoints
record
emulator
build
training evaluation simulate doctor feeding
validation runs forecasting studies.statistics
report.* verifying
workflow scoring candidates purposes forecast_command
by_field
tried
tuning
demo studies.* diagnosis.* longterm.*
cli
"""
# Inside a function: what a method offers although it is made one layer above.
DEFERRED = {("emulator", "build")}

# Packages of others, and the only modules that know of them.
HOMES = {
    "xarray": {
        "data.climatologies", "data.forecasts", "data.row_by_row", "data.stacks", "data.summaries", "data.weather",
        "data.weather_grid", "data.weather_reader", "data.weather_time", "data.weather_writer", "data.zarr_checks",
        "data.zarr_store", "emulator", "evaluation", "scoring", "tuning",
        "report.findings", "report.styling", "report.plotting", "report.pictures", "report.tables", "report.page",
        "report.outcome", "report.study", "report.study_plotting", "report.physical", "studies.statistics",
        "studies.tables", "studies.results", "studies.judging", "longterm.sources", "longterm.reading",
        "longterm.examination", "longterm.results",
    },
    "zarr": {"data.zarr_store", "data.forecasts", "data.summaries", "data.weather_writer"},
    "h5py": {"data.well", "data.well_reader", "data.well_writer"},
    "pydantic": {"config.build", "schema", "studies.sections"},
    "pydantic_core": {"config.build", "schema"},
    "ruamel": {"config.yaml"},
    "safetensors": {"checkpoints"},
    "rich": {"progress"},
    "cyclopts": {"cli", "forecast_command", "studies.commands", "diagnosis.commands", "longterm.commands"},
    "distributed": {"studies.engine"},
    "matplotlib": {
        "report.styling", "report.panels", "report.plotting", "report.pictures", "report.parts", "report.study",
        "report.study_plotting", "report.physical", "report.animations", "report.coasts", "diagnosis.page",
        "longterm.page", "longterm.figures",
    },
    "PIL": {"report.animations", "report.page", "report.parts"},
    "jinja2": {"report.parts"},
    "scipy": {"studies.statistics"},
    "pandas": {"studies.tables"},
    "pyarrow": {"studies.tables"},
    "dedalus": {"engines.dedalus_convection"},
    "exoplasim": {"engines.exoplasim_earth"},
}  # fmt: skip
EVERYWHERE = {"torch", "numpy"}
CORE = {
    "interpolants", "grids", "modes", "noise", "diffusions", "predictions", "densities", "transport", "samplers",
    "steppers", "codecs", "copies",
}  # fmt: skip
CLOSED = {"networks", "pdes", "metrics"}


def name_of(path: Path) -> str:
    """data/zarr_store.py → data.zarr_store, data/__init__.py → data."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "driftway"


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
MODULES = sorted(set(FILES) - {"driftway"})


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text())


@cache
def imported(module: str) -> tuple[frozenset[str], frozenset[str]]:
    """Modules of the package and packages of others that a module imports, at its head or in a function."""
    own: set[str] = set()
    others: set[str] = set()
    for node in ast.walk(tree(module)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [m if m.removeprefix("driftway.") in FILES else str(node.module) for m in members]
        for name in names:
            if name.startswith("driftway."):
                own.add(name.removeprefix("driftway."))
            else:
                others.add(name.partition(".")[0])
    return frozenset(own), frozenset(others)


def place(module: str) -> tuple[int, str]:
    """The layer of a module, and the entry that it stands under."""
    lines = [line.split() for line in LAYERS.strip().splitlines()]
    package = module.partition(".")[0] + ".*"
    for entry in (module, package):
        for layer, entries in enumerate(lines):
            if entry in entries:
                return layer, entry
    raise AssertionError(f"{module} has no layer: give it one in LAYERS")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_below_only(module: str) -> None:
    layer, entry = place(module)
    for other in imported(module)[0] - {above for below, above in DEFERRED if below == module}:
        other_layer, other_entry = place(other)
        same_package = entry.endswith(".*") and other_entry == entry
        assert other_layer < layer or same_package, f"{module} must not import {other}"


def test_deferred_imports_are_real_and_inside_functions() -> None:
    for below, above in DEFERRED:
        assert above in imported(below)[0]
        head = ast.Module([node for node in tree(below).body if isinstance(node, ast.ImportFrom)], [])
        assert f"driftway.{above}" not in {node.module for node in head.body if isinstance(node, ast.ImportFrom)}


def test_packages_are_free_of_cycles() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"cycle: {' → '.join((*path, module))}"
        if module not in done:
            for other in imported(module)[0] - {above for below, above in DEFERRED if below == module}:
                visit(other, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("module", MODULES)
def test_packages_of_others_are_known_where_they_belong(module: str) -> None:
    for package in imported(module)[1] & set(HOMES):
        assert module in HOMES[package], f"{module} imports {package}: use what {HOMES[package]} offer"


def test_packages_of_others_are_listed() -> None:
    found = set().union(*(imported(module)[1] for module in MODULES)) - set(sys.stdlib_module_names) - {"driftway"}
    assert found == set(HOMES) | EVERYWHERE
    for package, modules in HOMES.items():
        for module in modules:
            assert package in imported(module)[1], f"{module} does not import {package} any more"


def test_the_core_knows_torch_and_numpy_alone() -> None:
    for module in CORE | {m for m in MODULES if m.partition(".")[0] in CLOSED}:
        assert not imported(module)[1] & set(HOMES), module


# --- form ----------------------------------------------------------------------------------------------------------

FORBIDDEN = {"print", "eval", "exec", "compile", "breakpoint", "input", "__import__"}
# Everything in `context` is checked against the signature of what is made.
KEYWORDS = {("config.build", "construct")}


@pytest.mark.parametrize("module", sorted(FILES))
def test_files_and_functions_are_short(module: str) -> None:
    assert len(FILES[module].read_text().splitlines()) <= 400
    for function in functions(module):
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= 60, f"{module}.{function.name} has {length} lines"


def functions(module: str) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize("module", sorted(FILES))
def test_nothing_is_printed_unpickled_or_evaluated(module: str) -> None:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in FORBIDDEN, f"{module}: {called}"
            settings = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert called != "torch.load" or settings.get("weights_only") == "True", f"{module}: torch.load"
            assert settings.get("allow_pickle", "False") == "False", f"{module}: allow_pickle"
    assert not {"pickle", "dill", "joblib", "shelve", "marshal"} & imported(module)[1]


@pytest.mark.parametrize("module", sorted(FILES))
def test_signatures_are_exact_and_annotated(module: str) -> None:
    for function in functions(module):
        if function.name.startswith("_") and function.name != "__init__":
            continue
        arguments = function.args
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        bare = [a.arg for a in named if a.annotation is None and a.arg not in ("self", "cls")]
        assert not bare, f"{module}.{function.name}: {bare} without annotation"
        assert function.returns or function.name == "__init__", f"{module}.{function.name}: what does it return?"
        assert arguments.kwarg is None or (module, function.name) in KEYWORDS, f"{module}.{function.name}: **"


def documented_somewhere() -> set[str]:
    """Names of methods that some class of the package explains: its implementations need not do so again."""
    return {
        item.name
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ClassDef)
        for item in node.body
        if isinstance(item, ast.FunctionDef) and ast.get_docstring(item)
    }


@pytest.mark.parametrize("module", sorted(FILES))
def test_what_is_public_is_explained(module: str) -> None:
    known = documented_somewhere() | {"forward", "write"}  # torch and io explain these
    assert ast.get_docstring(tree(module))
    for node in tree(module).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{module}.{node.name}"
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            summary = ast.get_docstring(node) or ""
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
                    explained = ast.get_docstring(item) or item.name in known or f"{item.name}:" in summary
                    assert explained, f"{module}.{node.name}.{item.name}"
