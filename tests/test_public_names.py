"""What `import driftway` offers: every name at its place, typed, and nothing loaded before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import driftway

SOURCE = ast.parse(Path(driftway.__file__).read_text())


def typed() -> dict[str, str]:
    """name → module, as type checkers read them."""
    block = next(node for node in SOURCE.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    return {
        alias.name: node.module or ""
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }


def fresh(code: str) -> str:
    """What a new interpreter prints."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_every_public_name_is_the_one_of_its_module() -> None:
    for name, module in typed().items():
        home = import_module(f"driftway.{name}") if module == "driftway" else getattr(import_module(module), name)
        assert getattr(driftway, name) is home
        assert name in dir(driftway)


def test_types_and_values_agree() -> None:
    assert sorted([*typed(), "__version__"]) == sorted(driftway.__all__)


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Emulater'"):
        driftway.Emulater  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = fresh("import sys, driftway; print(*sorted(sys.modules))").split()
    assert "driftway.version" in loaded
    assert not {"torch", "numpy", "xarray", "zarr", "pydantic", "matplotlib"} & set(loaded)


def test_a_star_import_gets_every_name() -> None:
    found = fresh("from driftway import *; print(Emulator.__module__, metrics.crps.__name__)")
    assert found == "driftway.emulator crps"
