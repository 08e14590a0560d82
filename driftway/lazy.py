"""Names of a package that are imported where they are first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package; `names` maps each module to the names it offers, '' to the module itself."""
    homes = {name: f"{package}.{module}" for module, listed in names.items() for name in listed.split()}
    modules = {module: f"{package}.{module}" for module, listed in names.items() if not listed}

    def get(name: str) -> Any:
        if name in modules:
            return import_module(modules[name])
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(homes[name]), name)

    return get


def listed(names: Mapping[str, str]) -> list[str]:
    """What `from package import *` gives."""
    return [name for module, offered in names.items() for name in (offered.split() or [module])]
