"""Emulators: forecasts that do not depend on how they are run, and input that is checked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from driftway.codecs import Identity
from driftway.data import Conditioning, open_data, save_zarr
from driftway.data.axes import Axis, Fields
from driftway.data.layout import Layout
from driftway.emulator import Emulator
from driftway.errors import ConfigError, DataError, StorageError
from driftway.randomness import Stream, generator, stream
from driftway.samplers import Ancestral, EulerMaruyama, Heun
from driftway.steppers import NOTHING, Generative, Persistence
from driftway.workflow import fit_stepper
from tests import small

ROUNDING = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a deterministic run, a generative one that bridges from its answer, and their data."""
    folder = tmp_path_factory.mktemp("emulator")
    data = small.chaos(folder)
    training = {"steps": 40, "learning_rate": 5e-3, "validate_every": 40}
    fit_stepper(small.experiment(folder, data, "deterministic", training=training), folder / "deterministic")
    guess = str(folder / "deterministic")
    fit_stepper(small.experiment(folder, data, guess=guess, training=training), folder / "generative")
    return folder


@pytest.fixture(scope="module")
def emulator(place: Path) -> Emulator:
    return Emulator.load(place / "generative")


@pytest.fixture(scope="module")
def states(place: Path) -> np.ndarray:
    return np.asarray(open_data(place / "chaos.zarr").states)[:5, 0]


def values(forecast: xr.Dataset) -> np.ndarray:
    """(members, trajectories, leads, points)."""
    return forecast["u"].values


# --- members are the same however they are run ---------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 64])
def test_members_are_the_same_in_any_batch(emulator: Emulator, states: np.ndarray, batch: int) -> None:
    whole = values(emulator.forecast(states, leads=3, members=4, batch=20))
    np.testing.assert_allclose(values(emulator.forecast(states, 3, 4, batch=batch)), whole, **ROUNDING)
    assert np.abs(np.diff(whole, axis=0)).min() > 0 and whole.std(0).min() > 1e-3


def test_members_are_the_same_when_more_are_added(emulator: Emulator, states: np.ndarray) -> None:
    few, many = (values(emulator.forecast(states, leads=3, members=m)) for m in (2, 5))
    np.testing.assert_allclose(few, many[:2], **ROUNDING)


def test_members_are_the_same_whatever_is_forecast_with_them(emulator: Emulator, states: np.ndarray) -> None:
    """A key stands for an initial state, by default its number."""
    names = ["a", "b", "c", "d", "e"]
    whole = values(emulator.forecast(states, leads=2, members=2, keys=names))
    chosen = emulator.forecast(states[[3, 1]], leads=2, members=2, keys=["d", "b"])
    np.testing.assert_allclose(values(chosen), whole[:, [3, 1]], **ROUNDING)
    assert chosen["trajectory"].values.tolist() == ["d", "b"]
    other = values(emulator.forecast(states[[3, 1]], leads=2, members=2))
    assert not np.allclose(other, whole[:, [3, 1]], atol=1e-3)
    numbered = values(emulator.forecast(states[[3, 1]], 2, 2, keys=np.array([3, 1])))
    np.testing.assert_allclose(numbered, values(emulator.forecast(states, 2, 2))[:, [3, 1]], **ROUNDING)


def test_the_noise_of_a_member_is_bitwise_the_same_in_any_batch(emulator: Emulator) -> None:
    like = torch.zeros(1, 1, 32)
    keys = [(name, member) for member in range(4) for name in range(5)]
    together = emulator.noise_stream(0, 7, keys)
    alone = emulator.noise_stream(0, 7, [(3, 2)])
    assert together is not None and alone is not None
    assert torch.equal(together.normal(like.expand(20, 1, 32))[2 * 5 + 3], alone.normal(like)[0])


def test_seeds_leads_and_members_have_noise_of_their_own(emulator: Emulator, states: np.ndarray) -> None:
    """From the same state every time: persistence of the state shows the noise alone."""
    one, two = (values(emulator.forecast(states[:1], leads=1, members=3, seed=seed)) for seed in (0, 1))
    drawn = [*one[:, 0, 0], *two[:, 0, 0], emulator.step(states[:1], lead=2)[0, 0].numpy()]
    assert all(np.abs(a - b).max() > 1e-3 for i, a in enumerate(drawn) for b in drawn[:i])


def test_the_same_forecast_is_bitwise_the_same(emulator: Emulator, states: np.ndarray) -> None:
    torch.manual_seed(0)
    first = values(emulator.forecast(states, leads=3, members=2, seed=5))
    torch.manual_seed(1)
    assert np.array_equal(values(emulator.forecast(states, leads=3, members=2, seed=5)), first)


def test_steps_one_by_one_are_a_forecast(emulator: Emulator, states: np.ndarray) -> None:
    whole, now = values(emulator.forecast(states, leads=3, members=1, seed=4))[0], states
    for lead in (1, 2, 3):
        now = emulator.step(now, lead=lead, seed=4)
        np.testing.assert_allclose(now[:, 0], whole[:, lead - 1], rtol=1e-4, atol=1e-4)


def test_members_of_a_deterministic_stepper_are_equal(place: Path, states: np.ndarray) -> None:
    found = values(Emulator.load(place / "deterministic").forecast(states, leads=2, members=3))
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
    assert np.abs(found[0, :, 0] - states[:, 0]).max() > 1e-3


# --- where forecasts go --------------------------------------------------------------------------------------------


def test_a_streamed_forecast_equals_the_one_in_memory(emulator: Emulator, states: np.ndarray, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"leads": 3, "members": 5, "batch": 4, "attributes": {"label": "mine"}}
    memory = emulator.forecast(states, **settings)
    disk = emulator.forecast(states, **settings, out=tmp_path / "forecast.zarr")
    xr.testing.assert_identical(disk.load(), memory)
    assert memory.attrs["label"] == "mine" and memory.attrs["seed"] == 0
    np.testing.assert_allclose(memory["lead_time"], [1.0, 2.0, 3.0])
    assert memory["u"].dims == ("realization", "trajectory", "lead_time", "x")
    xr.testing.assert_identical(xr.open_zarr(tmp_path / "forecast.zarr", consolidated=False).load()["u"], memory["u"])


def test_a_forecast_is_not_overwritten_and_a_failed_one_leaves_nothing(
    emulator: Emulator, states: np.ndarray, tmp_path: Path
) -> None:
    out = tmp_path / "forecast.zarr"
    first = emulator.forecast(states, leads=1, members=1, out=out).load()
    with pytest.raises(StorageError, match=r"forecast.zarr exists"):
        emulator.forecast(states, leads=2, members=1, out=out)
    with pytest.raises(DataError, match="takes 0 known parameters, the conditioning has 1"):
        emulator.forecast(
            states, 2, 1, conditioning=lambda lead: Conditioning(params=torch.ones(5, lead - 1)), out=out, force=True
        )
    xr.testing.assert_identical(xr.open_zarr(out, consolidated=False).load()["u"], first["u"])
    assert [path.name for path in tmp_path.iterdir()] == ["forecast.zarr"]


# --- samplers ------------------------------------------------------------------------------------------------------


def test_a_sampler_can_be_chosen_for_one_forecast(place: Path, emulator: Emulator, states: np.ndarray) -> None:
    own = emulator.stepper
    assert isinstance(own, Generative)
    forecasts = {s: values(emulator.forecast(states, 2, 2, sampler=s)) for s in (Heun(steps=2), Ancestral(steps=3))}
    np.testing.assert_allclose(
        forecasts[Heun(steps=2)], values(emulator.with_sampler(Heun(steps=2)).forecast(states, 2, 2)), **ROUNDING
    )
    assert emulator.stepper is own and own.sampler == EulerMaruyama(steps=2)
    for wrong in ("heun", Heun, {"type": "heun"}):
        with pytest.raises(ConfigError, match=r"sampler must be made, such as Heun\(steps=5\), got"):
            emulator.forecast(states, 1, sampler=wrong)  # type: ignore[arg-type]
    assert np.abs(forecasts[Heun(steps=2)] - forecasts[Ancestral(steps=3)]).max() > 1e-3
    with pytest.raises(ConfigError, match="a sampler needs a generative stepper; this one is Deterministic"):
        Emulator.load(place / "deterministic").with_sampler(Heun())


def test_a_chosen_sampler_is_saved(emulator: Emulator, states: np.ndarray, tmp_path: Path) -> None:
    for number, sampler in enumerate((Heun(steps=3), EulerMaruyama(steps=1, temperature=0.5, denoise_last=True))):
        chosen = emulator.with_sampler(sampler)
        loaded = Emulator.load(chosen.save(tmp_path / str(number)))
        assert isinstance(loaded.stepper, Generative) and loaded.stepper.sampler == sampler
        assert np.array_equal(values(loaded.forecast(states, 2, 2)), values(chosen.forecast(states, 2, 2)))


# --- saving and loading --------------------------------------------------------------------------------------------


def test_a_saved_emulator_makes_bitwise_the_same_forecast(
    emulator: Emulator, states: np.ndarray, tmp_path: Path
) -> None:
    """Guess, noise law and codec are in it: the folder needs no other."""
    emulator.save(tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["emulator.json", "emulator.safetensors"]
    loaded = Emulator.load(tmp_path / "copy")
    assert isinstance(loaded.stepper, Generative) and loaded.stepper.guess is not None
    assert np.array_equal(values(loaded.forecast(states, 3, 2)), values(emulator.forecast(states, 3, 2)))
    with pytest.raises(StorageError, match="already holds an emulator"):
        emulator.save(tmp_path / "copy")


def test_weights_that_were_tampered_with_are_refused(emulator: Emulator, tmp_path: Path) -> None:
    weights = emulator.save(tmp_path / "copy") / "emulator.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(DataError, match=r"emulator.safetensors is damaged: SHA-256"):
        Emulator.load(tmp_path / "copy")
    weights.unlink()
    with pytest.raises(DataError, match=r"emulator.safetensors is missing"):
        Emulator.load(tmp_path / "copy")


def test_a_description_cannot_name_code(emulator: Emulator, tmp_path: Path) -> None:
    path = emulator.save(tmp_path / "copy") / "emulator.json"
    spec = json.loads(path.read_text())
    for name in ("os.system", "builtins.eval", "torch.nn.Linear"):
        path.write_text(json.dumps({**spec, "stepper": {"type": name}}))
        with pytest.raises(DataError, match="unknown type"):
            Emulator.load(tmp_path / "copy")


def test_an_emulator_without_a_description_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only an emulator with a description can be saved"):
        Emulator(Identity(), Persistence(), LAYOUT).save(tmp_path / "none")
    assert not (tmp_path / "none").exists()


# --- what goes in --------------------------------------------------------------------------------------------------

LAYOUT = Layout(Fields(("u", "v"), ("1", "K")), (Axis.uniform("x", 4, 1.0), Axis.uniform("y", 6, 1.0)), 0.5)


def test_states_come_as_arrays_tensors_and_datasets(emulator: Emulator) -> None:
    persistence = Emulator(Identity(), Persistence(), LAYOUT)
    array = generator("states").standard_normal((3, 2, 4, 6)).astype(np.float32)
    dims = ("trajectory", "y", "x")
    dataset = xr.Dataset({name: (dims, array[:, c].swapaxes(1, 2)) for c, name in enumerate(("u", "v"))})
    dataset["other"] = xr.zeros_like(dataset["u"])
    for state in (array, torch.from_numpy(array), torch.from_numpy(array).double(), dataset):
        found = persistence.forecast(state, leads=2)
        for c, name in enumerate(("u", "v")):
            np.testing.assert_array_equal(found[name][0, :, 1], array[:, c])
    assert persistence.forecast(array[0], leads=1).sizes["trajectory"] == 1
    assert found["v"].attrs["units"] == "K" and found["lead_time"].values.tolist() == [0.5, 1.0]


def test_states_that_do_not_fit_are_errors() -> None:
    persistence = Emulator(Identity(), Persistence(), LAYOUT)
    good = np.zeros((3, 2, 4, 6), np.float32)
    bad = good.copy()
    bad[1, 0, 2, 2] = np.nan
    cases: list[tuple[Any, str]] = [
        (good[:, :1], r"takes states \(N, 2, 4, 6\) with fields u, v; got \(3, 1, 4, 6\)"),
        (good.swapaxes(2, 3), r"got \(3, 2, 6, 4\)"),
        (good[0, 0], r"got \(4, 6\)"),
        (bad, "NaN or infinite"),
        (np.full_like(good, np.inf), "NaN or infinite"),
        (xr.Dataset({"u": (("x", "y"), good[0, 0])}), "lacks the field v; it has u"),
        (xr.Dataset(dict.fromkeys("uv", (("a", "y"), good[0, 0]))), r"dims \('a', 'y'\), not \('x', 'y'\)"),
    ]
    dataset = xr.Dataset(
        dict.fromkeys("uv", (("x", "y"), good[0, 0])), {"x": 0.25 * np.arange(4), "y": np.arange(6) / 6}
    )
    persistence.forecast(dataset, leads=1)
    cases.append((dataset.isel(y=slice(None, None, -1)), "other points along y than the emulator: sort or interpolate"))
    for state, message in cases:
        with pytest.raises(DataError, match=message):
            persistence.forecast(state, leads=1)
    for settings in ({"leads": 0}, {"leads": 1, "members": 0}, {"leads": 1, "batch": 0}):
        with pytest.raises(ConfigError, match="must be at least 1"):
            persistence.forecast(good, **settings)
    with pytest.raises(DataError, match="2 keys for 3 initial states"):
        persistence.forecast(good, leads=1, keys=["a", "b"])


# --- what is known besides the state -------------------------------------------------------------------------------


class Adding:
    """Adds the known field and the parameter to the state."""

    random = False

    def step(self, state: Tensor, conditioning: Conditioning = NOTHING, stream: Stream | None = None) -> Tensor:
        assert conditioning.fields is not None and conditioning.params is not None
        return state + conditioning.fields + conditioning.params[:, :1, None, None]


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_each_lead_and_state_has_its_own_conditioning(batch: int) -> None:
    """A function of the lead, counted from 1; in every block the rows of its own states."""
    emulator = Emulator(Identity(), Adding(), LAYOUT)
    rows = torch.arange(3.0)

    def known(lead: int) -> Conditioning:
        return Conditioning(10.0**lead * torch.ones(3, 2, 4, 6), 0.1 * rows[:, None])

    found = emulator.forecast(np.zeros((3, 2, 4, 6)), leads=3, members=2, conditioning=known, batch=batch)
    for lead, total in enumerate((10.0, 110.0, 1110.0)):
        for row in range(3):
            expected = total + 0.1 * row * (lead + 1)
            np.testing.assert_allclose(found["v"][:, row, lead], expected, rtol=1e-6)
    constant = emulator.forecast(np.zeros((3, 2, 4, 6)), leads=2, conditioning=known(1))
    np.testing.assert_allclose(constant["u"][0, 2, 1], 20.4, rtol=1e-6)


def test_conditioning_reaches_a_fitted_emulator_and_is_checked(tmp_path: Path) -> None:
    data = small.known_trajectories()
    path = save_zarr(data, tmp_path / "known.zarr")
    training = {"steps": 40, "learning_rate": 0.05}
    emulator = fit_stepper(small.experiment(tmp_path, path, training=training), tmp_path / "run")
    part = data.split("test")
    initial = np.asarray(part.states)[:, 0]

    def known(lead: int) -> Conditioning:
        return part.conditioning(np.arange(2), np.full(2, lead - 1))

    first = values(emulator.forecast(initial, 3, 2, conditioning=known))
    assert np.array_equal(first, values(Emulator.load(tmp_path / "run").forecast(initial, 3, 2, conditioning=known)))
    for change in ("fields", "params"):
        other = values(emulator.forecast(initial, 3, 2, conditioning=lambda lead, c=change: doubled(known(lead), c)))
        assert np.abs(other - first).max() > 1e-4
    cases = {
        "takes 2 known fields, the conditioning has 0": NOTHING,
        r"takes 1 known parameters, .* has 0; pass conditioning=data.conditioning\(rows, frames\)$": replace(
            known(1), params=None
        ),
        "3 rows of fields for 2 states": replace(known(1), fields=torch.zeros(3, 2, 16)),
    }
    for message, wrong in cases.items():
        with pytest.raises(DataError, match=message):
            emulator.forecast(initial, 1, conditioning=wrong)
        with pytest.raises(DataError, match=message):
            emulator.step(initial, conditioning=wrong)
    for value in (known(1).params, {"strength": 1.0}, lambda lead: known(lead).fields):
        with pytest.raises(ConfigError, match="conditioning must be a Conditioning or a function of the lead"):
            emulator.forecast(initial, 1, conditioning=value)  # type: ignore[arg-type]


def doubled(known: Conditioning, name: str) -> Conditioning:
    return replace(known, **{name: 2 * getattr(known, name)})


def test_a_stepper_that_says_nothing_of_noise_is_given_a_stream() -> None:
    class Noisy:
        def step(self, state: Tensor, conditioning: Conditioning = NOTHING, stream: Stream | None = None) -> Tensor:
            assert stream is not None
            return stream.normal(state)

    emulator = Emulator(Identity(), Noisy(), LAYOUT)
    found = emulator.forecast(np.zeros((2, 2, 4, 6)), leads=2, members=2, seed=3)
    expected = stream(3, "forecast", 2, rows=[(1, 1)]).normal(torch.zeros(1, 2, 4, 6))[0]
    np.testing.assert_array_equal(found["u"][1, 1, 1], expected[0])
