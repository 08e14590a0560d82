"""A diagnosis of systems whose answers are known: what is paired, what is not, and what the data cannot say."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import dct, fft

from driftway import diagnose
from driftway.cli import main
from driftway.data import Trajectories, save_zarr
from driftway.data.axes import Axis, Fields
from driftway.diagnosis import examination
from driftway.diagnosis.compression import cuts
from driftway.diagnosis.paired import Estimate, Step, flatness
from driftway.diagnosis.pairs import scale_of
from driftway.diagnosis.verdict import CLOSE, FAR, advise, worth
from driftway.errors import DataError
from driftway.randomness import generator
from tests import small

KEPT, POINTS = 0.8, 16


def chain(rows: int = 64, frames: int = 9, kept: float = KEPT, colour: float = 0.0, drift: float = 0.0) -> Trajectories:
    """u(t+1) = kept·u(t) + √(1 − kept²)·ε: stationary, Gaussian, of unit variance; ε has power ∝ (1 + k²)^(−colour)."""
    rng = generator("chain", rows, frames)
    waves = (1 + np.fft.rfftfreq(POINTS, 1 / POINTS) ** 2) ** (-colour / 2)

    def field() -> np.ndarray:
        white = np.fft.rfft(rng.standard_normal((rows, 2, POINTS)), norm="ortho") * waves
        return np.fft.irfft(white, POINTS, norm="ortho")

    states = [field()]
    for _ in range(frames - 1):
        states.append(kept * states[-1] + math.sqrt(1 - kept**2) * field())
    moved = np.stack(states, 1) + drift * np.arange(frames)[:, None, None]
    units = np.array([[2.0], [50.0]])
    fields, axes = Fields(("u", "v"), ("1", "1")), (Axis.uniform("x", POINTS, 1.0),)
    return Trajectories((7 + units * moved).astype(np.float32), fields, axes, 0.5, "s")


@pytest.mark.parametrize("colour", [0.0, 2.0])
def test_steps_of_a_linear_system(colour: float) -> None:
    found = diagnose(chain(colour=colour), lags=[1, 2, 4])
    for step in found.steps:
        left = KEPT**step.lag
        assert step.time == 0.5 * step.lag
        for estimate, value in (
            (step.increment, math.sqrt(2 * (1 - left))),
            (step.autocorrelation, left),
            (step.linear, math.sqrt(1 - left**2)),
        ):
            assert estimate.value == pytest.approx(value, abs=0.06)
            assert estimate.low - 0.02 < value < estimate.high + 0.02


def test_flatness_is_the_share_of_the_waves_that_are_filled() -> None:
    white = diagnose(chain(), lags=[1]).steps[0].flatness
    red = diagnose(chain(colour=3.0), lags=[1]).steps[0].flatness
    assert white > 0.9 and red < 0.25
    rng, x = generator("waves"), np.arange(POINTS)
    phases = rng.uniform(0, 2 * np.pi, (4000, 1, 1))
    one_wave = torch.from_numpy(np.cos(2 * np.pi * 3 * x / POINTS + phases))
    assert flatness(one_wave, ("periodic",)) == pytest.approx(2 / POINTS, rel=0.05)  # a wave and its conjugate


def test_laws_are_told_apart_where_they_differ_alone() -> None:
    still = diagnose(chain(rows=192, colour=2.0), lags=[1, 4], components=4)
    assert len(still.laws) == 6
    assert all(law.noise.mmd.distinct for law in still.laws)
    assert all(law.noise.sliced_wasserstein > 2 * law.floor.sliced_wasserstein for law in still.laws)
    assert sum(law.next.mmd.distinct for law in still.laws) <= 1
    white = diagnose(chain(rows=192), lags=[1], components=4)
    assert sum(law.noise.mmd.distinct for law in white.laws) <= 1
    drifting = diagnose(chain(rows=192, drift=0.5), lags=[1, 4], components=4)
    assert drifting.laws[1].next.mmd.distinct and drifting.laws[1].next.classifier.distinct
    assert any("changes with time" in said for said in drifting.advice.verdict)
    assert any("does not change with time" in said for said in still.advice.verdict)


def test_laws_need_trajectories() -> None:
    assert diagnose(chain(rows=31)).laws == ()
    with pytest.raises(DataError, match="60 components of 32 samples of 32 numbers: ask for 1 to 31"):
        diagnose(chain(rows=32), components=60)


@pytest.mark.parametrize("boundary", ["periodic", "wall"])
def test_cuts_lose_the_power_of_the_smaller_waves(boundary: str) -> None:
    states = generator("cuts").standard_normal((3, 1, 8, 8)).cumsum(-1)
    kinds = ("periodic", boundary)
    found = {cut.factor: cut.lost for cut in cuts(torch.from_numpy(states), kinds, (1.0, 1.0))}
    waves, halves = np.abs(np.fft.fftfreq(8, 1 / 8)), np.arange(8) / 2
    k = waves, waves if boundary == "periodic" else halves
    modes = fft(states, axis=2, norm="ortho")
    if boundary == "periodic":
        modes = fft(modes, axis=3, norm="ortho")
    else:
        modes = dct(modes.real, axis=3, norm="ortho") + 1j * dct(modes.imag, axis=3, norm="ortho")
    radius = np.hypot(k[0][:, None], k[1][None])
    kept = np.sort(radius[:, :5] if boundary == "periodic" else radius[:5], axis=None)
    for factor, lost in found.items():
        beyond = radius > kept[len(kept) // factor - 1]
        assert lost == pytest.approx(math.sqrt((np.abs(modes[..., beyond]) ** 2).sum() / states.size), rel=1e-6)


def step(increment: float, linear: float = 1.0, flat: float = 1.0) -> Step:
    return Step(1, 1.0, Estimate(increment, 0, 2), Estimate(0.9, 0, 1), Estimate(linear, 0, 2), flat)


def test_the_verdict_follows_from_the_steps() -> None:
    assert [worth(step(x)) for x in (CLOSE, CLOSE + 0.01, FAR, FAR + 0.01)] == [
        "pays", "pays little", "pays little", "does not pay"
    ]  # fmt: skip
    white = advise([step(0.3)], [], [], "s")
    red = advise([step(0.3, linear=0.1, flat=0.1)], [], [], "s")
    assert white.recommended == {"stride": 1, "noise": {"type": "fitted", "of": "residual"}, "compression": 1}
    assert red.recommended["noise"] == {"type": "coloured", "of": "residual"}
    assert any("no help as a first guess" in said for said in white.verdict)
    assert any("a first guess that costs nothing" in said for said in red.verdict)


# --- what the data cannot say ---------------------------------------------------------------------------------------


def test_no_more_states_are_looked_at_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    data = chain()
    asked = list[int]()
    monkeypatch.setattr(examination, "scale_of", lambda data, states: asked.append(states) or scale_of(data, states))
    for size, least in ((10**9, 1), (40 * data.states[0, 0].nbytes, 1), (0, 50)):
        monkeypatch.setattr(examination, "SAMPLE_BYTES", size)
        monkeypatch.setattr(examination, "LEAST", least)
        diagnose(data, lags=[1], states=100)
    assert asked == [100, 40, 50]


def broken(data: Trajectories, at: Any, value: float) -> Trajectories:
    states = np.array(data.states)
    states[at] = value
    return replace(data, states=states)


@pytest.mark.parametrize(
    ("data", "lags", "message"),
    [
        (chain(frames=1), None, "trajectories have 1 frame: a diagnosis compares states at two times"),
        (chain(frames=9), [9], "a lag of 9 frames, where trajectories have 9: give 1 to 8"),
        (broken(chain(), np.s_[:, :, 1], 3.0), None, "field 'v' has the same values in all of"),
        (broken(chain(8), (5, 4, 0), math.nan), None, "field 'u' holds nan at trajectory 5, frame 4"),
        (broken(chain(8), (2, 8, 1), math.inf), None, "field 'v' holds inf at trajectory 2, frame 8"),
    ],
)
def test_what_cannot_be_diagnosed_is_an_error(data: Trajectories, lags: list[int] | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        diagnose(data, lags=lags)


def test_few_trajectories_have_no_intervals_and_many_fields_no_linear_model() -> None:
    found = diagnose(chain(rows=4, frames=5), lags=[1], states=8)
    assert math.isnan(found.steps[0].increment.low) and found.steps[0].increment.value > 0
    assert diagnose(chain(rows=1, frames=40), lags=[1]).steps[0].linear.value > 0
    assert math.isnan(diagnose(chain(rows=1, frames=5), lags=[1]).steps[0].linear.value)


# --- from the command line ------------------------------------------------------------------------------------------


def test_the_command_prints_a_verdict_and_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = save_zarr(chain(rows=48), tmp_path / "chain.zarr")
    page = tmp_path / "found.html"
    assert main(["diagnose", str(tmp_path / "chain.zarr"), "--lags", "1", "2", "--out", str(page)]) == 0
    shown = capsys.readouterr().out
    assert "Recommended stride: 1" in shown and "steps:" not in shown
    described = json.loads(page.with_suffix(".json").read_text())
    assert [step["lag"] for step in described["steps"]] == [1, 2]
    assert all(step[name].keys() == {"value", "low", "high"} for step in described["steps"]
               for name in ("increment", "autocorrelation", "linear"))  # fmt: skip
    assert described["recommended"]["noise"] == {"type": "fitted", "of": "residual"}
    html = page.read_text()
    assert "Diagnosis of chain.zarr" in html and html.count("<svg") + html.count("data:image/svg") >= 3
    assert "http://" not in html.replace("http://www.w3.org", "") and data is not None


def test_the_command_names_the_file_of_bad_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_zarr(broken(chain(), np.s_[:, :, 0], 1.0), tmp_path / "flat.zarr")
    assert main(["diagnose", str(tmp_path / "flat.zarr")]) == 3
    assert "flat.zarr: field 'u' has the same values" in capsys.readouterr().err


def test_a_simulated_system_is_diagnosed(tmp_path: Path) -> None:
    assert main(["diagnose", str(small.flow(tmp_path)), "--json"]) == 0
