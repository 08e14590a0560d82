"""Training by the fair CRPS of samples: what it is, where its gradient goes, and what it is least for."""

from __future__ import annotations

from pathlib import Path

import pytest
import scoringrules
import torch
from torch import Tensor, nn

from driftway.data.trajectories import Transition
from driftway.emulator import Emulator
from driftway.errors import ConfigError
from driftway.interpolants import Follmer, Rectified, Residual
from driftway.noise import White
from driftway.predictions import Drift, Velocity
from driftway.randomness import stream
from driftway.samplers import Euler, EulerMaruyama, Heun, Sampler
from driftway.steppers import Generative
from driftway.workflow import fit_stepper
from tests import small

ROWS = 4000


class Gain(nn.Module):
    """y = gain·x of the first channel, the state on the path; it remembers where a gradient was asked for."""

    def __init__(self, gain: float):
        super().__init__()
        self.gain, self.asked = nn.Parameter(torch.tensor(gain)), list[bool]()

    def forward(self, x: Tensor, time: Tensor | None, params: Tensor | None) -> Tensor:
        self.asked.append(torch.is_grad_enabled())
        return self.gain * x[:, :1]


def batch(spread: float) -> Transition:
    """x1 = 0.3 + spread·ε, whatever x0 is."""
    draws = stream("scored", rows=range(ROWS)).normal(torch.empty(ROWS, 1, 4))
    return Transition(torch.zeros(ROWS, 1, 4), 0.3 + spread * draws)


def from_noise(gain: float, sampler: Sampler, crps: float = 1.0) -> Generative:
    """Where the velocity is gain·z, one step of Euler from noise z ends at (1 + gain)·z."""
    return Generative(Gain(gain), 1, Rectified(), Velocity(), sampler=sampler, noise=White(1), crps=crps)


def test_it_is_the_crps_of_the_law_of_samples() -> None:
    """Fair: the mean over pairs of samples of N(0, s²) is the CRPS of that law, here against N(0.3, 0.5²)."""
    for s in (0.5, 1.0, 2.0):
        given = batch(0.5)
        loss = from_noise(s - 1, Euler(steps=1)).loss(given, stream("draws", rows=range(ROWS)))
        exact = scoringrules.crps_normal(given.target.numpy(), 0.0, s).mean()
        assert abs(float(loss.detach()) - exact) < 0.01 * s


def test_it_is_least_where_samples_have_the_spread_of_the_truth() -> None:
    given = Transition(batch(0.5).source, batch(0.5).target - 0.3)
    stepper = from_noise(0.0, Euler(steps=1))
    network = stepper.network
    assert isinstance(network, Gain)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for k in range(150):
        optimizer.zero_grad()
        stepper.loss(given, stream("draws", k, rows=range(ROWS))).backward()
        optimizer.step()
    assert abs(1 + float(network.gain.detach()) - 0.5) < 0.02


@pytest.mark.parametrize(
    ("sampler", "asked"),
    [
        (Euler(steps=1), [True, True]),
        (Euler(steps=3), [False, False, True] * 2),
        (Heun(steps=2), [False, False, True] * 2),
    ],
    ids=repr,
)
def test_the_gradient_goes_through_the_last_step_alone(sampler: Sampler, asked: list[bool]) -> None:
    stepper = from_noise(0.1, sampler)
    stepper.loss(batch(0.5), stream("draws", rows=range(ROWS))).backward()
    network = stepper.network
    assert isinstance(network, Gain) and network.asked == asked and network.gain.grad is not None


def test_samples_are_those_of_the_sampler() -> None:
    """Split before its last step, a sampler is the same map."""
    for sampler in (Euler(steps=3), EulerMaruyama(steps=2), Heun(steps=2)):
        stepper = Generative(Gain(0.2), 1, Residual(Rectified()), Velocity(), sampler=sampler, noise=White(1), crps=1.0)
        given, draws = batch(0.5), [stream("draws", rows=range(ROWS)) for _ in range(2)]
        with torch.no_grad():
            assert torch.equal(stepper._sample(given, draws[0]), stepper.step(given.source, stream=draws[1]))


def test_shares_of_both_losses_add_up() -> None:
    given = batch(0.5)

    def loss(crps: float) -> float:
        stepper = Generative(
            Gain(0.2), 1, Follmer(), Drift(), sampler=EulerMaruyama(steps=1), noise=White(1), crps=crps
        )
        return float(stepper.loss(given, stream("draws", rows=range(ROWS))).detach())

    assert loss(0.25) == pytest.approx(0.75 * loss(0.0) + 0.25 * loss(1.0), rel=0.02)
    assert loss(0.0) != pytest.approx(loss(1.0), rel=0.1)
    with pytest.raises(ValueError, match=r"crps is a share of the loss, from 0 to 1, got 1.5"):
        loss(1.5)


# --- starting from the weights of a run ----------------------------------------------------------------------------


def test_training_starts_from_the_weights_and_noise_of_a_run(chaos: Path, tmp_path: Path) -> None:
    """With a learning rate of next to nothing the second run is the first."""
    data, stepper = chaos / "chaos.zarr", {"type": "generative", "network": small.NETWORK, "noise": "fitted"}
    fit_stepper(small.experiment(tmp_path, data, stepper=stepper), tmp_path / "first")
    scored = {**stepper, "crps": 1.0, "noise": {"type": "fitted", "factor": 0.5}}
    changes = {"start": str(tmp_path / "first"), "training": {"learning_rate": 1e-12, "steps": 2}}
    fit_stepper(small.experiment(tmp_path, data, stepper=scored, **changes), tmp_path / "second")
    first, second = (Emulator.load(tmp_path / run).stepper.state_dict() for run in ("first", "second"))  # type: ignore[union-attr]
    assert first.keys() == second.keys() and "noise.scale" in first
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-6, msg=name)


def test_a_start_with_another_network_is_refused(chaos: Path, tmp_path: Path) -> None:
    data, start = chaos / "chaos.zarr", str(chaos / "deterministic")
    with pytest.raises(ConfigError, match=r"start .*deterministic has another network, noise or guess than this"):
        fit_stepper(small.experiment(tmp_path, data, start=start), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"start .*deterministic was fitted to other fields, another grid or time"):
        described = {"path": str(data), "stride": 2}
        fit_stepper(small.experiment(tmp_path, data, data=described, start=start), tmp_path / "run")
