"""Candidates for a sampler: what is tried, and on a law with a known answer that each scores what it should."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from driftway.build import Signature, build_stepper
from driftway.candidates import candidates, in_short, trial
from driftway.codecs import Identity
from driftway.data import Trajectories
from driftway.data.axes import Axis, Fields
from driftway.data.layout import Layout
from driftway.diffusions import Diffusion
from driftway.emulator import Emulator
from driftway.forecasting import cost
from driftway.interpolants import Follmer, Interpolant, Rectified
from driftway.noise import White
from driftway.predictions import Drift, Prediction, Velocity
from driftway.purposes import Record, choose
from driftway.randomness import generator
from driftway.samplers import Ancestral, Euler, EulerMaruyama, Heun, Sampler
from driftway.schema import load_experiment
from driftway.steppers import Generative
from driftway.tuning import scores_of_samplers
from tests import small
from tests.gaussian import Gaussian, sampled_law
from tests.test_experiments import METHODS

LEADS, MEMBERS, STATES, POINTS = 2, 8, 16, 64

# --- a law with a known answer -------------------------------------------------------------------------------------


class Exact(nn.Module):
    """What a perfectly trained network would be."""

    def __init__(self, system: Gaussian, path: Interpolant, prediction: Prediction):
        super().__init__()
        self.system, self.path, self.prediction = system, path, prediction

    def forward(self, x: Tensor, time: Tensor, params: Tensor | None = None) -> Tensor:
        now, source = x.double().chunk(2, 1)
        t = time.double().reshape(-1, 1, 1)
        means = self.system.means(self.path, now, source, t)
        return self.prediction.coefficients(self.path, t)(source, *means).to(x)


def forgetful(noise: float) -> Gaussian:
    """The next state is N(0, ¼), whatever the current one."""
    return Gaussian(slope=0.0, offset=0.0, std=0.5, source=0.0, noise=noise)


def states(count: int = STATES) -> Trajectories:
    """Trajectories of that system, after a first state 0, all in the valid split."""
    values = generator("forgetful").standard_normal((count, LEADS + 1, 1, POINTS))
    values *= 0.5 / values[:, 1:].std()
    values[:, 0] = 0
    axis = Axis.uniform("x", POINTS, 1.0)
    return Trajectories(values.astype(np.float32), Fields(("u",), ("1",)), (axis,), 1.0, splits=("valid",) * count)


def layout(data: Trajectories) -> Layout:
    return Layout(data.fields, data.axes, data.dt, data.time_units)


SYSTEMS = {
    "point": (Follmer(), Drift(), forgetful(1.0)),
    "noise": (Rectified(), Velocity(), forgetful(1.0)),
}


@pytest.fixture(scope="module")
def known() -> dict[str, tuple[list[Sampler], list[Record]]]:
    """System → its candidates and their records."""
    found = {}
    for name, (path, prediction, system) in SYSTEMS.items():
        network = Exact(system, path, prediction)
        sampler = EulerMaruyama(2) if path.starts_at_point else Euler(10)
        stepper = Generative(network, 1, path, prediction, sampler=sampler, noise=White(1, system.noise))
        data = states()
        tried = candidates(stepper)
        emulator = Emulator(Identity(), stepper, layout(data))
        found[name] = (
            tried,
            scores_of_samplers(emulator, data, tried, split="valid", leads=LEADS, members=MEMBERS, batch=512),
        )
    return found


def spreads(name: str, samplers: list[Sampler]) -> list[float]:
    """The exact standard deviation of what each sampler makes, in units of the next state's."""
    path, prediction, system = SYSTEMS[name]
    return [sampled_law(system, sampler, path, prediction)[-1].std / system.std for sampler in samplers]


def gaussian_crps(r: float) -> float:
    """E|X−Y| − ½E|X−X'| of X ~ N(0, r²S²) for Y ~ N(0, S²), S = ½."""
    return 0.5 * (math.sqrt(2 / math.pi * (1 + r**2)) - r / math.sqrt(math.pi))


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_candidate_scores_what_its_law_says(known: Any, name: str) -> None:
    samplers, records = known[name]
    for sampler, record, r in zip(samplers, records, spreads(name, samplers), strict=True):
        assert record["crps"] == pytest.approx(gaussian_crps(r), rel=0.03), sampler
        assert record["vrmse"] == pytest.approx(math.sqrt(1 + r**2 / MEMBERS), rel=0.03), sampler
        assert record["vrmse_member"] == pytest.approx(math.sqrt(1 + r**2), rel=0.03), sampler
        ratio = r * math.sqrt((MEMBERS + 1) / MEMBERS / (1 + r**2 / MEMBERS))
        assert record["spread_skill"] == pytest.approx(ratio, rel=0.03, abs=1e-6), sampler
        assert record["spread_skill_low"] <= record["spread_skill"] <= record["spread_skill_high"]
        if r > 0.1:  # what spectra of so few states scatter by adds in squares
            scatter = math.sqrt(1 / STATES + 1 / (STATES * MEMBERS))
            expected = math.hypot(2 * math.log(r), scatter)
            assert record["spectral_log_error_high"] == pytest.approx(expected, abs=0.06), sampler


@pytest.mark.parametrize("purpose", ["crps", "spectrum", "balance"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_what_is_chosen_for_an_ensemble_has_nearly_the_right_spread(known: Any, name: str, purpose: str) -> None:
    """One step with unit noise is twice too wide, two of Euler from noise less than half as wide as they should be."""
    samplers, records = known[name]
    exact, chosen = spreads(name, samplers), choose(records, purpose)
    assert exact[chosen] == pytest.approx(1, abs=0.16), samplers[chosen]
    wrong = EulerMaruyama(1) if name == "point" else Euler(2)
    assert abs(math.log(exact[samplers.index(wrong)])) > 0.6
    assert abs(math.log(min(exact, key=lambda r: abs(math.log(r + 1e-9))))) < 0.02


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_smallest_error_of_the_mean_has_no_spread_and_one_call(known: Any, name: str) -> None:
    samplers, records = known[name]
    chosen = choose(records, "vrmse")
    assert records[chosen]["calls"] == 1 and spreads(name, samplers)[chosen] < 0.01, samplers[chosen]


def test_scores_are_paired() -> None:
    """Two samplers that are one map score the same to the last digit of float32, since their noise is the same."""
    path, prediction, system = SYSTEMS["noise"]
    stepper = Generative(Exact(system, path, prediction), 1, path, prediction, noise=White(1))
    data = states(4)
    emulator = Emulator(Identity(), stepper, layout(data))
    pair = scores_of_samplers(
        emulator, data, [Euler(5), Ancestral(5, eta=0.0)], split="valid", leads=2, members=4, seed=3
    )
    np.testing.assert_allclose(pair[0]["crps_states"], pair[1]["crps_states"], rtol=1e-5)
    other = scores_of_samplers(emulator, data, [Euler(5)], split="valid", leads=2, members=4, seed=4)
    assert abs(other[0]["crps"] - pair[0]["crps"]) > 1e-4


# --- candidates ----------------------------------------------------------------------------------------------------


def methods() -> Iterator[Generative]:
    """The steppers of the package's methods, with small networks."""
    for file in sorted(METHODS.glob("*.yaml")):
        described = load_experiment(file).stepper
        if described["type"] == "generative":
            described = {**described, "network": small.NETWORK}
            stepper = build_stepper(described, Signature(1, ("periodic",)))
            assert isinstance(stepper, Generative)
            yield stepper


def test_candidates_of_every_method_are_different_and_call_no_more_than_they_may() -> None:
    for stepper in methods():
        present, *others = candidates(stepper, 5)
        assert present == stepper.sampler and len(others) >= 8
        trials = [trial(stepper, other) for other in others]
        assert not any(one.same(another) for one, another in combinations(trials, 2))
        assert max(tried.calls for tried in trials) == 5
        for kind in (EulerMaruyama, Ancestral, Heun):
            assert any(type(sampler) is kind for sampler in (present, *others)), (kind, present)


def test_dials_are_turned_one_at_a_time_round_the_present_sampler() -> None:
    present = EulerMaruyama(3, temperature=0.9)
    stepper = Generative(nn.Identity(), 1, Follmer(), sampler=present)
    found = candidates(stepper)
    for change in ({"steps": 5}, {"temperature": 0.0}, {"temperature": 1.15}, {"diffusion": Diffusion(0.5)}):
        assert replace(present, **change) in found
    assert EulerMaruyama(5, temperature=0.9, diffusion=Diffusion(0.5)) not in found


@pytest.mark.parametrize("path", [Follmer(), Rectified()])
def test_two_names_of_one_map_are_one_candidate(path: Interpolant) -> None:
    stepper = Generative(nn.Identity(), 1, path, sampler=Euler(5))
    first, *others = [Euler(5), Ancestral(5, eta=0.0), EulerMaruyama(5, diffusion=Diffusion(0.0))]
    assert all(trial(stepper, other).same(trial(stepper, first)) for other in others)
    assert Ancestral(5, eta=0.0) not in candidates(stepper)
    for different in (Euler(3), Heun(5), Ancestral(5, eta=0.5), EulerMaruyama(5, diffusion=Diffusion(0.5))):
        assert not trial(stepper, different).same(trial(stepper, first))


def test_calls_are_those_of_a_real_step_with_a_guess_or_without() -> None:
    signature = Signature(1, ("periodic",))
    guess = build_stepper({"type": "deterministic", "network": small.NETWORK}, signature)
    data = states()
    for chosen in (None, guess):
        stepper: Any = build_stepper({"type": "generative", "network": small.NETWORK}, signature, chosen)
        for sampler in (EulerMaruyama(3), Heun(4), Ancestral(2)):
            emulator = Emulator(Identity(), stepper.with_sampler(sampler), layout(data))
            assert trial(stepper, sampler).calls == cost(emulator)["calls"]


def test_a_sampler_in_short_tells_its_steps_and_what_is_not_the_default() -> None:
    assert in_short(EulerMaruyama()) == "EulerMaruyama(steps=10)"
    assert in_short(EulerMaruyama(2, temperature=0.5, diffusion=Diffusion(base="follmer"))) == (
        "EulerMaruyama(steps=2, diffusion=Diffusion(base='follmer'), temperature=0.5)"
    )
