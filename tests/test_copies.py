"""A sampler for each field: its forecast is that of its sampler alone, however it is run, kept and loaded again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from driftway.build import build_emulator, describe, load_emulator, save_emulator, save_sampler
from driftway.copies import in_words
from driftway.data import Conditioning, open_data
from driftway.data.axes import Fields
from driftway.data.forecasts import open_forecast
from driftway.emulator import Emulator
from driftway.errors import ConfigError, DataError
from driftway.forecasting import cost, forecast_run
from driftway.randomness import stream
from driftway.samplers import EulerMaruyama, Heun, Sampler
from tests.test_build import LAYOUT, STEPPERS, made, small

SAMPLERS: dict[str, Sampler] = {"u": EulerMaruyama(3, temperature=0.7), "v": Heun(2)}
STATES = np.random.default_rng(0).normal(size=(3, 2, 16)).astype(np.float32)


def generative(codec: str = "standardize", guess: dict[str, Any] | None = None) -> Emulator:
    return made(small(STEPPERS["generative"]), codec, guess)


@pytest.mark.parametrize("batch", [2, 3, 64])
@pytest.mark.parametrize("codec", ["none", "standardize", "autoencoder"])
def test_each_field_has_bit_for_bit_the_forecast_by_its_sampler_alone(codec: str, batch: int) -> None:
    emulator = generative(codec, small(STEPPERS["deterministic"]) if codec == "standardize" else None)
    settings = {"leads": 3, "members": 5, "seed": 4, "batch": batch, "keys": ["a", "b", "c"]}
    together = emulator.with_samplers(SAMPLERS).forecast(STATES, **settings)
    alone = {name: emulator.with_sampler(sampler).forecast(STATES, **settings) for name, sampler in SAMPLERS.items()}
    for name in SAMPLERS:
        assert np.array_equal(together[name], alone[name][name])
    assert not np.array_equal(alone["u"]["u"], alone["v"]["u"])


def test_a_step_by_field_is_that_of_each_sampler() -> None:
    emulator = generative()
    by_field, u = emulator.with_samplers(SAMPLERS), torch.from_numpy(STATES)
    for lead in (1, 2):
        expected = [emulator.with_sampler(s).step(u, lead=lead)[:, c] for c, s in enumerate(SAMPLERS.values())]
        assert torch.equal(by_field.step(u, lead=lead), torch.stack(expected, 1))


def test_fields_of_one_sampler_share_a_copy() -> None:
    """Three fields, two samplers: two copies of three channels; the two fields are of one state of one rollout."""
    layout = replace(LAYOUT, fields=Fields(("u", "v", "w"), ("1",) * 3))
    emulator = build_emulator(describe(layout, [], small(STEPPERS["generative"])))
    by_field = emulator.with_samplers({"w": Heun(2), "v": EulerMaruyama(2), "u": Heun(2)})
    assert list(by_field.samplers) == ["u", "v", "w"]
    codec, _ = by_field.running
    states = torch.arange(6.0).reshape(1, 3, 2)
    encoded = codec.encode(states)
    assert torch.equal(encoded, torch.cat([states, states], 1)) and torch.equal(codec.decode(encoded), states)
    assert codec.decode(torch.arange(6.0).reshape(1, 6, 1)).flatten().tolist() == [0, 4, 2]
    assert in_words(by_field.samplers) == f"{Heun(2)!r} for u, w; {EulerMaruyama(2)!r} for v"


def test_one_sampler_for_every_field_is_the_plain_emulator() -> None:
    emulator = generative()
    same = emulator.with_samplers(dict.fromkeys(SAMPLERS, Heun(2)))
    assert same.samplers == {} and same.running == (same.codec, same.stepper)
    assert same.forecast(STATES, 2, 2).identical(emulator.with_sampler(Heun(2)).forecast(STATES, 2, 2))


def test_a_sampler_that_is_given_is_that_of_all_fields() -> None:
    emulator = generative()
    by_field = emulator.with_samplers(SAMPLERS)
    asked = by_field.forecast(STATES, 2, 2, sampler=Heun(3))
    assert asked.identical(emulator.forecast(STATES, 2, 2, sampler=Heun(3)))
    assert by_field.with_sampler(Heun(3)).samplers == {}


def test_a_twin_draws_what_its_stream_does_and_disturbs_nothing() -> None:
    one, same = (stream(0, "twin", rows=["a", "b"]) for _ in range(2))
    like = torch.zeros(2, 7)
    assert torch.equal(one.normal(like), same.normal(like))
    twin = one.twin()
    drawn = [twin.normal(like), twin.normal(like)]
    for found in drawn:
        assert torch.equal(found, same.normal(like)) and torch.equal(found, one.normal(like))
    assert not torch.equal(*drawn)


@pytest.mark.parametrize(
    ("samplers", "message"),
    [
        ({"u": Heun(2)}, "samplers: v is missing or unknown: give one for each of u, v"),
        ({**SAMPLERS, "w": Heun(2), "x": Heun(2)}, "samplers: w, x are missing or unknown"),
        ({"u": Heun(2), "v": "heun"}, "samplers: v should have a sampler"),
        ({"u": Heun(2), "v": None}, "samplers: v should have a sampler"),
    ],
)
def test_every_field_needs_a_sampler(samplers: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        generative().with_samplers(samplers)


def test_what_has_no_sampler_has_none_by_field() -> None:
    with pytest.raises(ConfigError, match="a sampler needs a generative stepper"):
        made(small(STEPPERS["deterministic"])).with_samplers(SAMPLERS)


# --- kept ----------------------------------------------------------------------------------------------------------


def test_samplers_are_saved_with_the_emulator_and_loaded(tmp_path: Path) -> None:
    by_field = generative().with_samplers(SAMPLERS)
    folder = save_emulator(by_field, tmp_path / "emulator")
    described = json.loads((folder / "emulator.json").read_text())["samplers"]
    assert described["v"] == {"type": "heun", "steps": 2, "grid": None} and list(described) == ["u", "v"]
    loaded = load_emulator(folder)
    assert loaded.samplers == SAMPLERS and loaded.state_dict().keys() == by_field.state_dict().keys()
    assert loaded.forecast(STATES, 2, 2).identical(by_field.forecast(STATES, 2, 2))
    save_emulator(loaded.with_sampler(Heun(3)), folder, force=True)
    assert "samplers" not in json.loads((folder / "emulator.json").read_text())
    assert load_emulator(folder).samplers == {}


def test_a_folder_takes_other_samplers_without_its_weights(tmp_path: Path) -> None:
    emulator = generative()
    folder = save_emulator(emulator, tmp_path / "emulator")
    before = (folder / "emulator.safetensors").stat().st_mtime_ns
    save_sampler(folder, Heun(5), SAMPLERS)
    loaded = load_emulator(folder)
    assert loaded.samplers == SAMPLERS and loaded.stepper.sampler == Heun(5)
    assert loaded.forecast(STATES, 2, 2).identical(emulator.with_samplers(SAMPLERS).forecast(STATES, 2, 2))
    save_sampler(folder, Heun(5))
    assert load_emulator(folder).samplers == {}
    assert (folder / "emulator.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", [["u"], {"u": "heun"}, {"u": "heun", "v": "none"}, {"u": "heun", "v": 3}, "heun", 7])
def test_samplers_that_are_damaged_are_refused(tmp_path: Path, damage: Any) -> None:
    folder = save_emulator(generative(), tmp_path / "emulator")
    described = json.loads((folder / "emulator.json").read_text())
    (folder / "emulator.json").write_text(json.dumps({**described, "samplers": damage}))
    with pytest.raises(DataError, match=r"emulator\.json"):
        load_emulator(folder)


def test_a_forecast_on_disk_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftway.record.SAVED", 2)
    emulator = generative().with_samplers(SAMPLERS)
    settings: dict[str, Any] = {"leads": 6, "members": 3, "batch": 6, "key": "it"}
    whole = emulator.forecast(STATES, out=tmp_path / "whole.zarr", **settings)
    leads: list[int] = []

    def stops(lead: int) -> Conditioning:
        leads.append(lead)
        if len(leads) == 9:  # the second block, after one lead to check and six of the first
            raise KeyboardInterrupt
        return Conditioning()

    with pytest.raises(KeyboardInterrupt):
        emulator.forecast(STATES, out=tmp_path / "part.zarr", conditioning=stops, **settings)
    leads.clear()
    found = emulator.forecast(STATES, out=tmp_path / "part.zarr", conditioning=lambda _: Conditioning(), **settings)
    for name in SAMPLERS:
        assert np.array_equal(found[name], whole[name])


# --- a run ---------------------------------------------------------------------------------------------------------


def test_a_run_forecasts_by_field_and_says_so(known: Path, tmp_path: Path) -> None:
    asked = {"leads": 2, "members": 3, "seed": 3}
    for name, sampler in SAMPLERS.items():
        forecast_run(known / "generative", known / "known.zarr", tmp_path / f"{name}.zarr", sampler=sampler, **asked)
    save_sampler(known / "generative", Heun(1), SAMPLERS)
    told = forecast_run(known / "generative", known / "known.zarr", tmp_path / "both.zarr", **asked)
    both, single = open_forecast(tmp_path / "both.zarr"), {n: open_forecast(tmp_path / f"{n}.zarr") for n in SAMPLERS}
    for name in SAMPLERS:
        assert np.array_equal(both[name], single[name][name])
    assert both.attrs["sampler"] == in_words(SAMPLERS)
    assert told["calls"] == sum(one.attrs["calls"] for one in single.values())
    assert told["parameters"] == single["u"].attrs["parameters"]
    again = forecast_run(known / "generative", known / "known.zarr", tmp_path / "one.zarr", sampler="heun", **asked)
    assert again["calls"] == cost(Emulator.load(known / "generative").with_sampler(Heun()))["calls"]


def test_conditioning_reaches_every_copy(known: Path) -> None:
    emulator, valid = Emulator.load(known / "generative"), open_data(known / "known.zarr").split("valid")
    states = np.asarray(valid.states)[:, 0]
    conditioning = valid.conditioning(np.arange(2), np.zeros(2, int))
    found = emulator.with_samplers(SAMPLERS).forecast(states, 2, 2, conditioning=conditioning)
    for name, sampler in SAMPLERS.items():
        expected = emulator.with_sampler(sampler).forecast(states, 2, 2, conditioning=conditioning)
        assert np.array_equal(found[name], expected[name])
