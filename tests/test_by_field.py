"""The choice by field: that of its own scores, with a gain on states that had no part in it."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from driftway.by_field import Choice, choose_by_field, halves, table
from driftway.candidates import candidates
from driftway.cli import main
from driftway.codecs import Identity
from driftway.copies import in_words
from driftway.data import Trajectories, open_data, save_zarr
from driftway.data.axes import Axis, Fields
from driftway.data.forecasts import open_forecast
from driftway.data.layout import Layout
from driftway.emulator import Emulator
from driftway.errors import ConfigError
from driftway.evaluation import score
from driftway.purposes import PURPOSES, Record
from driftway.randomness import generator
from driftway.samplers import EulerMaruyama
from driftway.scoring import truth_for
from driftway.steppers import Generative
from driftway.tuning import field_scales, scores_of_samplers, tune_run
from driftway.workflow import fit_stepper
from tests import small

# --- two Gaussian fields of known law ------------------------------------------------------------------------------

SLOPE, SPREAD = 0.8, 0.5  # x1 | x0 ~ N(0.8 x0, 0.5²), in each field and at every point


class Exact(nn.Module):
    """The drift E[x1 | x0] − x0 at the start of the path, of two fields that do not know each other."""

    def forward(self, x: Tensor, time: Tensor | None = None, params: Tensor | None = None) -> Tensor:
        return (SLOPE - 1) * x[:, 2:]


def gaussian_choice(
    noise: Sequence[float], temperatures: Sequence[float], trajectories: int = 40, purpose: str = "crps"
) -> Choice:
    """Which temperature, of a step with noise of these standard deviations, suits each of both fields."""
    rng = generator("by field", trajectories)
    states = [rng.standard_normal((trajectories, 2, 32)) * SPREAD / math.sqrt(1 - SLOPE**2)]
    states.append(SLOPE * states[0] + SPREAD * rng.standard_normal(states[0].shape))
    fields, axis = Fields(("u", "v"), ("1", "1")), Axis.uniform("x", 32, 1.0, symmetry=1)
    data = Trajectories(np.stack(states, 1).astype(np.float32), fields, (axis,), 1.0, splits=("valid",) * trajectories)
    stepper = Generative(Exact(), 2)
    stepper.noise.scale = torch.tensor(noise)
    emulator = Emulator(Identity(), stepper, Layout(fields, (axis,), 1.0))
    samplers = [EulerMaruyama(1, temperature=value) for value in temperatures]
    settings: dict[str, Any] = {"split": "valid", "leads": 1, "members": 8, "by_field": True}
    return choose_by_field(scores_of_samplers(emulator, data, samplers, **settings), purpose)


def test_fields_that_prefer_different_samplers_gain_on_states_that_were_held_out() -> None:
    """The noise has twice the spread of v, so that half of the temperature is right for v, and all of it for u."""
    choice = gaussian_choice([SPREAD, 2 * SPREAD], [1.0, 0.5])
    assert [choice["fields"][name]["chosen"] for name in ("u", "v")] == [0, 1]
    for found in (choice["fields"]["vu"[choice["single"]]], choice["all"]):
        assert found["held_out"] > 5 * found["held_out_error"] > 0
        assert found["held_out"] == pytest.approx(found["difference"])  # both halves choose as the whole does
    same = choice["fields"]["uv"[choice["single"]]]
    assert same["held_out"] == same["difference"] == same["held_out_error"] == 0


def test_the_gain_is_what_the_law_says() -> None:
    """Fair CRPS of N(0, s²) about N(0, S²): √(2(S² + s²)/π) − s/√π, less that for s = S."""

    def crps(s: float) -> float:
        return math.sqrt(2 * (SPREAD**2 + s**2) / math.pi) - s / math.sqrt(math.pi)

    choice = gaussian_choice([SPREAD, 2 * SPREAD], [1.0, 0.5], trajectories=200)
    ratio = (2, 0.5)[choice["single"]]
    expected = crps(ratio * SPREAD) - crps(SPREAD)
    found = choice["fields"]["vu"[choice["single"]]]
    units = SPREAD / math.sqrt(1 - SLOPE**2)  # scores of several fields count in these, that of the truth
    assert abs(found["held_out"] * units - expected) < 4 * found["held_out_error"] + 0.02 * expected


def test_fields_that_prefer_the_same_gain_nothing() -> None:
    choice = gaussian_choice([SPREAD, SPREAD], [1.0, 0.5, 0.7])
    assert [found["chosen"] for found in choice["fields"].values()] == [0, 0]
    assert choice["all"]["held_out"] == choice["all"]["difference"] == 0


# --- against a loop ------------------------------------------------------------------------------------------------


def records_of(crps: np.ndarray) -> list[Record]:
    """Records of two fields from scores (candidates, 2, 10), of five trajectories from two frames each."""

    def scores(values: np.ndarray) -> Record:
        lists = {"crps_states": values, "vrmse_states": 2 * values, "spectral_half_states": 3 * values}
        means = {"crps": values.mean(), "vrmse": 2 * values.mean()}
        return {**{n: float(v) for n, v in means.items()}, **{n: v.tolist() for n, v in lists.items()}, "failures": 0}

    told = {"half": halves(5, 2)}
    return [
        {**scores(c.mean(0)), "calls": 1 + k % 3, **told, "fields": {"u": scores(c[0]), "v": scores(c[1])}}
        for k, c in enumerate(crps)
    ]


def invented() -> list[Record]:
    """Six candidates that differ."""
    rng = generator("invented")
    return records_of(rng.uniform(0.5, 1.5, (6, 2, 10)) + rng.uniform(0, 0.3, (6, 2, 1)))


def test_a_choice_among_equals_gains_on_its_own_states_alone() -> None:
    """What chance is worth: the scores of eight candidates are draws of one law, two hundred times."""
    rng = generator("equals")
    choices = [choose_by_field(records_of(rng.uniform(0.5, 1.5, (8, 2, 10))), "crps")["all"] for _ in range(200)]
    own, held_out = (np.array([choice[name] for choice in choices]) for name in ("difference", "held_out"))
    error = held_out.std(ddof=1) / math.sqrt(len(choices))
    assert abs(held_out.mean()) < 3 * error and own.mean() > 5 * error


def best(values: np.ndarray, calls: Sequence[int]) -> int:
    """The rule of the manual, of scores (candidates, states)."""
    means = values.mean(1)
    first = int(means.argmin())
    errors = (values - values[first]).std(1, ddof=1) / math.sqrt(values.shape[1])
    tied = [k for k in range(len(values)) if means[k] - means[first] <= errors[k]]
    return sorted(tied, key=lambda k: (calls[k], means[k]))[0]


@pytest.mark.parametrize("purpose", ["crps", "vrmse"])
def test_choices_and_gains_are_those_of_a_loop(purpose: str) -> None:
    records = invented()
    choice, calls = choose_by_field(records, purpose), [record["calls"] for record in records]
    fields = {n: np.array([record["fields"][n][f"{purpose}_states"] for record in records]) for n in ("u", "v")}
    mean, half = np.mean(list(fields.values()), 0), np.array(records[0]["half"])
    assert choice["single"] == best(mean, calls)
    own, everywhere = set(), []
    for name, values in fields.items():
        found, gains, singles = choice["fields"][name], np.zeros(10), np.zeros(10)
        assert found["chosen"] == best(values, calls)
        own.add(found["chosen"])
        difference = values[choice["single"]] - values[found["chosen"]]
        assert found["difference"] == pytest.approx(difference.mean())
        assert found["difference_error"] == pytest.approx(difference.std(ddof=1) / math.sqrt(10))
        assert found["single"] - found["score"] == pytest.approx(found["difference"])
        for judged in (0, 1):
            here, there = half == judged, half != judged
            single = values[best(mean[:, there], calls), here]
            gains[here], singles[here] = single - values[best(values[:, there], calls), here], single
        assert found["held_out"] == pytest.approx(gains.mean())
        assert found["held_out_error"] == pytest.approx(gains.std(ddof=1) / math.sqrt(10))
        assert found["held_out_single"] == pytest.approx(singles.mean())
        everywhere.append(gains)
    whole = np.mean(everywhere, 0)
    assert choice["all"]["held_out_error"] == pytest.approx(whole.std(ddof=1) / math.sqrt(10))
    assert choice["calls"] == sum(calls[at] for at in own)


def test_what_failed_from_any_state_is_chosen_for_no_field() -> None:
    records = invented()
    for part in (records[2], *records[2]["fields"].values()):
        part |= {"failures": 1, "crps": math.inf, "crps_states": [0.0] * 9 + [math.inf]}
    choice = choose_by_field(records, "crps")
    assert all(found["chosen"] != 2 and math.isfinite(found["held_out"]) for found in choice["fields"].values())


def test_halves_are_of_trajectories_or_of_starts_of_one() -> None:
    """In the order of initial states, start by start."""
    assert halves(3, 2) == [0, 1, 0, 0, 1, 0]
    assert halves(1, 5) == [0, 1, 0, 1, 0]


# --- records and runs ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on two fields with known inputs, two trajectories to choose on."""
    folder = tmp_path_factory.mktemp("by_field")
    data = save_zarr(small.known_trajectories(), folder / "known.zarr")
    fit_stepper(small.experiment(folder, data, training={"steps": 20, "learning_rate": 0.02}), folder / "run")
    return folder


@pytest.fixture
def run(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(place / "run", tmp_path / "run"))


def brief(run: Path, **settings: Any) -> dict[str, Any]:
    """A search of seconds."""
    asked = {"purpose": "crps", "by": "field", "calls": 2, "leads": 2, "members": 3, "starts": 3, **settings}
    return tune_run(run, **asked)


def test_the_scores_of_a_field_are_those_of_its_forecast(place: Path) -> None:
    emulator, data = Emulator.load(place / "run"), open_data(place / "known.zarr")
    valid = data.split("valid")
    asked: dict[str, Any] = {"split": "valid", "leads": 3, "members": 4, "seed": 2}
    (record,) = scores_of_samplers(emulator, data, [emulator.stepper.sampler], **asked, by_field=True)
    (plain,) = scores_of_samplers(emulator, data, [emulator.stepper.sampler], **asked)
    truth = truth_for(valid, 3)
    forecast = emulator.forecast(
        np.asarray(valid.states)[:, 0],
        3,
        4,
        seed=2,
        keys=[f"valid {row}, frame 0" for row in range(2)],
        conditioning=lambda lead: valid.conditioning(np.arange(2), np.full(2, lead - 1)),
    )
    found, scales = score({"it": forecast}, truth, emulator.layout).isel(method=0), field_scales(truth, emulator.layout)
    for name in ("u", "v"):
        own, scale = found.sel(field=name), float(scales.sel(field=name))
        told = record["fields"][name]
        assert told["crps"] == pytest.approx(float(own["crps"].mean()) / scale, rel=1e-5)
        assert told["vrmse_states"] == pytest.approx(own["vrmse_states"].values.tolist(), rel=1e-5)
        bands = float(own["spectral_log_error"].sel(band="mid").mean())
        assert told["spectral_log_error_mid"] == pytest.approx(bands, rel=1e-4)
    assert {n: record[n] for n in plain if n != "ms_per_step"} == {n: v for n, v in plain.items() if n != "ms_per_step"}
    spectral = [record["fields"][name]["spectral_states"] for name in ("u", "v")]
    np.testing.assert_allclose(record["spectral_states"], np.mean(spectral, 0))


def test_spectra_of_a_half_know_nothing_of_the_other(place: Path) -> None:
    """Of two trajectories the first is a half: alone it has the same pseudo-values."""
    emulator, data = Emulator.load(place / "run"), open_data(place / "known.zarr")
    asked: dict[str, Any] = {"split": "valid", "leads": 2, "members": 3, "starts": 3}
    (both,) = scores_of_samplers(emulator, data, [emulator.stepper.sampler], **asked, by_field=True)
    (first,) = scores_of_samplers(emulator, data, [emulator.stepper.sampler], **asked, trajectories=1)
    assert both["half"] == [0, 1] * 3
    np.testing.assert_allclose(both["spectral_half_states"][::2], first["spectral_states"], rtol=1e-4)
    assert not np.allclose(both["spectral_half_states"], both["spectral_states"])


def test_a_run_keeps_the_sampler_of_each_field_with_all_tables(run: Path) -> None:
    before = Emulator.load(run).stepper.sampler
    found, stored = brief(run), json.loads((run / "tuned.json").read_text())
    tuned = Emulator.load(run)
    assert stored["by"] == found["by"] == "field"
    for name in ("u", "v"):
        told = stored["by_field"]["fields"][name]
        candidates = stored["candidates"]
        own = next(one for one in candidates if one["sampler"] == told["chosen"])
        assert own["fields"][name]["score"] == pytest.approx(told["score"])
        allowed = [one for one in candidates if one["calls"] <= 2]
        values = np.array([one["fields"][name]["crps_states"] for one in allowed])
        assert allowed[best(values, [one["calls"] for one in allowed])]["sampler"] == told["chosen"]
        assert found["by_field"]["fields"][name]["chosen"] == own["name"]
        sampler = tuned.samplers[name] if tuned.samplers else tuned.stepper.sampler
        assert repr(sampler) == own["repr"]
    single = next(one for one in stored["candidates"] if one["sampler"] == stored["chosen"])
    assert stored["by_field"]["single"] == stored["chosen"] and found["chosen"]["repr"] == single["repr"]
    assert stored["before"] == found["before"]["sampler"] and found["before"]["repr"] == repr(before)
    assert "fields" not in found["chosen"]


def test_forecasts_of_a_run_tuned_by_field_are_by_its_samplers(
    run: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a choice that certainly differs."""

    def differing(*given: Any) -> Choice:
        choice = choose_by_field(*given)
        return {**choice, "fields": {n: {**f, "chosen": at} for at, (n, f) in enumerate(choice["fields"].items())}}

    monkeypatch.setattr("driftway.tried.choose_by_field", differing)
    brief(run)
    tuned, first = Emulator.load(run), candidates(Emulator.load(place / "run").stepper, 2)  # type: ignore[arg-type]
    assert tuned.samplers == {"u": first[0], "v": first[1]}
    words = ["--data", str(place / "known.zarr"), "--out", str(tmp_path / "f.zarr"), "--leads", "2"]
    assert main(["forecast", str(run), *words]) == 0
    assert open_forecast(tmp_path / "f.zarr").attrs["sampler"] == in_words(tuned.samplers)


def test_tuning_by_run_gives_one_sampler_again(run: Path) -> None:
    first = brief(run)
    second = brief(run, by="run")
    stored = json.loads((run / "tuned.json").read_text())
    assert Emulator.load(run).samplers == {} and "by_field" not in stored and "fields" not in stored["candidates"][0]
    assert second["before"]["repr"] == first["chosen"]["repr"]


@pytest.mark.parametrize("purpose", PURPOSES)
def test_every_purpose_can_be_chosen_for_by_field(run: Path, purpose: str) -> None:
    told = brief(run, purpose=purpose)["by_field"]
    assert all(math.isfinite(value) for value in told["all"].values())
    assert len(table(told)) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"by": "variable"}, "by 'variable' is neither run"),
        ({"starts": 1}, "2 initial states, of which half are held out by field: give at least 4"),
        ({"starts": 3, "trajectories": 1}, "3 initial states"),
    ],
)
def test_what_cannot_be_told_by_field_is_refused(run: Path, settings: dict[str, Any], message: str) -> None:
    kept = (run / "emulator.json").read_bytes()
    with pytest.raises(ConfigError, match=message):
        brief(run, **settings)
    assert (run / "emulator.json").read_bytes() == kept and not (run / "tuned.json").exists()


def test_the_command_shows_a_line_for_each_field(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tune", str(run), "--for", "crps", "--by", "field", "--calls", "2", "--leads", "2", "--members", "2"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "by: field" in lines
    start = lines.index("by_field:") + 1
    shown = [line.removeprefix("- ").split()[0] for line in lines[start : start + 4]]
    assert shown == ["field", "u", "v", "mean"]
    assert all("±" in line and line.endswith("%") for line in lines[start + 1 : start + 4])
    assert main([*words, "--json"]) == 0
    fields = json.loads(capsys.readouterr().out)["by_field"]["fields"]
    assert {"chosen", "score", "single", "difference_error", "held_out", "held_out_error"} <= fields["u"].keys()
