"""What must not be mixed up: codecs, guesses and runs that were fitted to other fields, grids, steps or names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from driftway.data import open_data, save_zarr
from driftway.data.axes import Fields
from driftway.emulator import Emulator
from driftway.errors import ConfigError, DataError, DriftwayError
from driftway.workflow import fit_autoencoder, fit_stepper
from tests import small


def test_a_guess_must_be_deterministic_and_of_the_same_codec_and_step(chaos: Path, tmp_path: Path) -> None:
    data = chaos / "chaos.zarr"
    fit_stepper(small.experiment(tmp_path, data), tmp_path / "generative")
    given = open_data(data)
    doubled = replace(given, states=2 * np.asarray(given.states), digest="")
    other = save_zarr(doubled, tmp_path / "other.zarr")
    fit_stepper(small.experiment(tmp_path, other, "deterministic"), tmp_path / "other")
    cases = {
        r"generative is not a run of a deterministic stepper": (tmp_path / "generative", 1),
        r"other was fitted with another codec": (tmp_path / "other", 1),
        r"deterministic was fitted to other fields, another grid or time step": (chaos / "deterministic", 2),
    }
    for message, (guess, stride) in cases.items():
        with pytest.raises(ConfigError, match=message):
            described = {"path": str(data), "stride": stride}
            fit_stepper(small.experiment(tmp_path, data, data=described, guess=str(guess)), tmp_path / "run")


def test_codecs_that_make_no_sense_are_errors(chaos: Path, tmp_path: Path) -> None:
    data = chaos / "chaos.zarr"
    autoencoder = small.KINDS["autoencoder"]["codec"]
    with pytest.raises(ConfigError, match=r"codec must be \[standardize, autoencoder\]"):
        fit_autoencoder(small.experiment(tmp_path, data), tmp_path / "a")
    with pytest.raises(ConfigError, match=r"a stepper takes \{type: run, path: …\}"):
        fit_stepper(small.experiment(tmp_path, data, codec=autoencoder), tmp_path / "b")
    with pytest.raises(ConfigError, match=r"has nothing to fit"):
        fit_stepper(small.experiment(tmp_path, data, stepper={"type": "persistence"}), tmp_path / "c")
    run = {"type": "run", "path": str(chaos / "deterministic")}
    with pytest.raises(ConfigError, match=r"codec entry .*deterministic.*: a stepper takes \{type: run, path: …\}"):
        fit_stepper(small.experiment(tmp_path, data, codec=["standardize", run]), tmp_path / "e")
    missing = {"type": "run", "path": str(tmp_path / "none")}
    with pytest.raises(DriftwayError, match=r"none"):
        fit_stepper(small.experiment(tmp_path, data, codec=[missing]), tmp_path / "d")


def test_a_codec_fitted_to_other_fields_or_another_order_is_refused(known: Path, tmp_path: Path) -> None:
    """Channels are told by their place: (v, u) would be encoded as (u, v)."""
    fit_autoencoder(small.experiment(tmp_path, known / "known.zarr", "autoencoder"), tmp_path / "codec")
    data = small.known_trajectories()
    swapped = replace(data, states=data.states[:, :, ::-1], fields=Fields(("v", "u"), data.fields.units))
    path = save_zarr(swapped, tmp_path / "swapped.zarr")
    codec = [{"type": "run", "path": str(tmp_path / "codec")}, "standardize"]
    with pytest.raises(ConfigError) as error:
        fit_stepper(small.experiment(tmp_path, path, codec=codec), tmp_path / "run")
    what = "was fitted to u, v and differs from the data (v, u) in fields: fit it to these data"
    assert str(error.value) == f"codec {tmp_path / 'codec'} {what}"
    fit_stepper(small.experiment(tmp_path, known / "known.zarr", codec=codec), tmp_path / "run")


def test_a_run_remembers_the_names_of_what_it_knows(known: Path) -> None:
    """By their place alone, another data set's fields and parameters would pass for them."""
    emulator, data = Emulator.load(known / "generative"), small.known_trajectories()
    assert emulator.spec["field_names"] == ["orography", "sun"] and emulator.spec["parameter_names"] == ["strength"]
    emulator.check_known(data)
    other = replace(data, parameters={"viscosity": data.parameters["strength"]})
    with pytest.raises(DataError, match="knows the parameters strength, the data have viscosity: choose data"):
        emulator.check_known(other)
    with pytest.raises(DataError, match=r"knows the fields orography, sun, the data have sun"):
        emulator.check_known(replace(data, static={}))
