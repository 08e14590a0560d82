"""Data sets with a run on them, which several modules start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from driftway.data import save_zarr
from driftway.workflow import fit_stepper
from tests import small


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set and a deterministic run on it."""
    folder = tmp_path_factory.mktemp("chaos")
    fit_stepper(small.experiment(folder, small.chaos(folder), "deterministic"), folder / "deterministic")
    return folder


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data of a parameter, a static field and a forcing, and a run on them."""
    folder = tmp_path_factory.mktemp("known")
    data = save_zarr(small.known_trajectories(), folder / "known.zarr")
    fit_stepper(small.experiment(folder, data), folder / "generative")
    return folder
