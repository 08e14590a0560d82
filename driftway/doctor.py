"""What this machine offers and what is known to hurt on it."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

import torch

from driftway.version import __version__

PACKAGES = ("torch", "numpy", "h5py", "xarray", "zarr", "safetensors", "pydantic", "cyclopts", "matplotlib")


def examine() -> dict[str, Any]:
    """Versions, devices, threads, and a list of advice."""
    return {
        "driftway": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "advice": _advice(),
    }


def _advice() -> list[str]:
    advice = []
    cores = os.cpu_count() or 1
    if torch.get_num_threads() > cores:
        advice.append(f"{torch.get_num_threads()} threads on {cores} cores: set training.threads={cores}")
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > cores:
        advice.append("other programs use the cores: threads then spin; training.threads=1 wastes least")
    if not torch.cuda.is_available():
        advice.append("no GPU: keep float32, prefer the unet trunk to dit (docs/methods.md), grids up to about 64²")
    return advice
