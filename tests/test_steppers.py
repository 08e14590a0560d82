"""Steppers: losses against the formula written out, and training against the closed form of a Gaussian system."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from driftway.data.trajectories import Conditioning, Transition
from driftway.densities import Density, GridTime
from driftway.interpolants import Follmer, Interpolant, Rectified, VariancePreserving
from driftway.networks import UNet
from driftway.noise import White
from driftway.pdes import KuramotoSivashinsky
from driftway.predictions import Data, Drift, Karras, Noise, Prediction, Velocity
from driftway.randomness import Stream, generator, stream
from driftway.samplers import EulerMaruyama, Heun
from driftway.schema import TrainingSection
from driftway.steppers import Climatology, Deterministic, Generative, Persistence
from driftway.training import Trainer
from tests.gaussian import Gaussian, OneStream, sampled_law


def normal(*shape: int, key: str = "x") -> Tensor:
    return torch.from_numpy(generator("steppers", key).standard_normal(shape)).float()


class Recorder(nn.Module):
    """A pointwise linear network (B, inputs, n) → (B, outputs, n) that remembers what it was called with."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(normal(outputs, inputs, key="weight"))
        self.calls: list[tuple[Tensor, Tensor | None, Tensor | None]] = []

    def forward(self, x: Tensor, time: Tensor | None, params: Tensor | None) -> Tensor:
        self.calls.append((x.detach(), time, params))
        return torch.einsum("oi,bin->bon", self.weight, x)


@dataclass(frozen=True)
class FixedTime(Density):
    time: float

    def __call__(self, interpolant: Interpolant, like: Tensor, stream: Stream) -> Tensor:
        return torch.full((len(like),), self.time, dtype=torch.float64)


def loss_of(stepper: Deterministic | Generative, batch: Transition | None = None) -> float:
    return stepper.loss(BATCH if batch is None else batch, stream("loss", rows=range(5))).item()


BATCH = Transition(normal(5, 2, 8, key="source"), normal(5, 2, 8, key="target"))


def test_persistence_and_climatology() -> None:
    mean = normal(2, 8, key="mean")
    assert torch.equal(Persistence().step(BATCH.source), BATCH.source)
    assert torch.equal(Climatology(mean).step(BATCH.source), mean.expand(5, 2, 8))


@pytest.mark.parametrize("residual", [True, False])
def test_deterministic_loss_is_the_squared_error_of_a_step(residual: bool) -> None:
    network = Recorder(2, 2)
    stepper = Deterministic(network, residual=residual)
    increment = np.einsum("oi,bin->bon", network.weight.detach().numpy(), BATCH.source.numpy())
    predicted = BATCH.source.numpy() * residual + increment
    expected = ((predicted - BATCH.target.numpy()) ** 2).mean()
    assert loss_of(stepper) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(stepper.step(BATCH.source).detach(), predicted, rtol=1e-4, atol=1e-5)


def test_generative_loss_is_the_formula_of_the_follmer_drift() -> None:
    """x_t = (1−t)x0 + t·x1 + s(1−t)√t·z, target −x0 + x1 − s√t·z, network input [x_t, x0], all in numpy."""
    network, law = Recorder(4, 2), White(2, 0.3)
    stepper = Generative(network, 2, interpolant=Follmer(scale=2.0), noise=law)
    loss = loss_of(stepper)
    again = stream("loss", rows=range(5))
    t = again.uniform(BATCH.source).numpy()[:, None, None]
    z = 0.3 * again.normal(BATCH.source).double().numpy()
    x0, x1 = BATCH.source.double().numpy(), BATCH.target.double().numpy()
    x = (1 - t) * x0 + t * x1 + 2 * (1 - t) * np.sqrt(t) * z
    y = np.einsum("oi,bin->bon", network.weight.detach().numpy(), np.concatenate([x, x0], 1))
    assert loss == pytest.approx(((y - (-x0 + x1 - 2 * np.sqrt(t) * z)) ** 2).mean(), rel=1e-5)
    label = network.calls[0][1]
    assert label is not None and label.tolist() == pytest.approx(t.ravel().tolist(), rel=1e-6)


def test_generative_loss_scales_input_and_time_as_the_prediction_says() -> None:
    path, prediction, network = VariancePreserving(), Karras(0.5), Recorder(4, 2)
    stepper = Generative(network, 2, path, prediction, FixedTime(0.6), noise=White(2))
    loss = loss_of(stepper)
    z = stream("loss", rows=range(5)).normal(BATCH.source)
    beta, gamma = float(path.beta(torch.tensor(0.6).double())), float(path.gamma(torch.tensor(0.6).double()))
    sigma, d = gamma / beta, 0.5
    skip, out = d**2 / (sigma**2 + d**2), sigma * d / (sigma**2 + d**2) ** 0.5
    noisy = BATCH.target + sigma * z  # EDM's x, of which x_t is β times
    scaled = noisy / (sigma**2 + d**2) ** 0.5
    y = torch.einsum("oi,bin->bon", network.weight, torch.cat([scaled, BATCH.source], 1))
    assert loss == pytest.approx(((y - (BATCH.target - skip * noisy) / out) ** 2).mean().item(), rel=1e-4)
    label = network.calls[0][1]
    assert label is not None and label.tolist() == pytest.approx([np.log(sigma) / 4] * 5, rel=1e-5)


def test_antithetic_pairs_take_both_signs_of_the_same_noise() -> None:
    single, double = Recorder(4, 2), Recorder(4, 2)
    plain = Generative(single, 2, density=FixedTime(0.5), noise=White(2))
    pairs = Generative(double, 2, density=FixedTime(0.5), noise=White(2), antithetic=True)
    loss = loss_of(pairs)
    first, second = (call[0][:, :2] for call in double.calls)
    np.testing.assert_allclose((first + second) / 2, (BATCH.source + BATCH.target) / 2, atol=1e-6)
    assert (first - second).std() > 0.3

    loss_of(plain)
    assert torch.equal(single.calls[0][0], double.calls[0][0])
    mirrored = Transition(-BATCH.source, -BATCH.target)  # the loss of −z is that of z on the mirrored pair
    assert loss == pytest.approx((loss_of(plain) + loss_of(plain, mirrored)) / 2, rel=1e-5)


# --- the minimiser of the loss -------------------------------------------------------------------------------------


class Affine(nn.Module):
    """w(t)·[x_t, x0] + c(t), with weights of its own for each of `times` labels."""

    def __init__(self, times: int = 1):
        super().__init__()
        self.times, self.table = times, nn.Parameter(torch.zeros(times, 3, dtype=torch.float64))

    def forward(self, x: Tensor, time: Tensor, params: Tensor | None) -> Tensor:
        a, b, c = self.table[(time * self.times).round().long() % self.times].unbind(-1)
        return a[:, None, None] * x[:, :1] + b[:, None, None] * x[:, 1:] + c[:, None, None]


@dataclass(frozen=True)
class Toy:
    """Transitions of the Gaussian system from random states."""

    system: Gaussian = field(default_factory=lambda: Gaussian(std=0.4, noise=0.5))
    rows: int = 20_000

    def batch(self) -> Transition:
        rng, system = generator("toy"), self.system
        x0 = rng.normal(0.2, 1.0, (self.rows, 1, 1))
        x1 = system.slope * x0 + system.offset + system.std * rng.standard_normal(x0.shape)
        return Transition(torch.from_numpy(x0), torch.from_numpy(x1))

    def trained(self, stepper: Generative) -> Generative:
        """Trained to the minimum of the loss on all transitions with the same noise at every evaluation."""
        stepper, batch = stepper.double(), self.batch()
        optimizer = torch.optim.LBFGS(stepper.parameters(), max_iter=100, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = stepper.loss(batch, Rows("minimiser"))
            loss.backward()
            return loss

        optimizer.step(closure)
        return stepper

    def stepper(self, network: nn.Module, path: Interpolant, prediction: Prediction, density: Density) -> Generative:
        return Generative(network, 1, path, prediction, density, noise=White(1, self.system.noise))


class Rows(OneStream):
    """Many rows of noise and of times from one generator."""

    def integers(self, high: int, like: Tensor) -> Tensor:
        return torch.from_numpy(self.generators[0].integers(high, size=len(like)))


@pytest.mark.parametrize("prediction", [Drift(), Velocity(), Data(), Noise(), Karras(0.7)], ids=repr)
@pytest.mark.parametrize("path", [Follmer(), Rectified()], ids=repr)
def test_the_minimiser_of_the_loss_is_the_conditional_mean(path: Interpolant, prediction: Prediction) -> None:
    """On a linear-Gaussian system every prediction is affine in (x_t, x0): the best affine network must be it."""
    toy, time = Toy(), 0.4
    network = Affine()
    toy.trained(toy.stepper(network, path, prediction, FixedTime(time)))
    x = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).reshape(3, 1, 1)
    x0 = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).reshape(3, 1, 1)
    t = torch.tensor(time, dtype=torch.float64)
    means = toy.system.means(path, x, x0, t)
    c, with_x, with_x0 = prediction.coefficients(path, t)(x0, *means).flatten().tolist()
    scale = float(prediction.scale(path, t))
    expected = [(with_x - c) / scale, with_x0 - c, c]
    np.testing.assert_allclose(network.table[0].detach().numpy(), expected, atol=0.03)


def test_a_trained_stepper_samples_the_law_that_it_was_trained_on() -> None:
    """From loss to ensemble: 4 Euler–Maruyama steps with trained weights have the law of the exact network's."""
    toy, sampler = Toy(), EulerMaruyama(steps=4)
    stepper = toy.trained(toy.stepper(Affine(4), Follmer(), Drift(), GridTime(4)))
    stepper = stepper.with_sampler(sampler)
    exact = sampled_law(toy.system, sampler, Follmer(), Drift())[-1]
    with torch.no_grad():
        sample = stepper.step(torch.full((40_000, 1, 1), toy.system.source).double(), stream=OneStream("ensemble"))
    assert float(sample.mean()) == pytest.approx(exact.mean, abs=0.02)
    assert float(sample.std()) == pytest.approx(exact.std, rel=0.03)
    assert exact.mean == pytest.approx(toy.system.mean) and exact.std == pytest.approx(toy.system.std, rel=0.1)


# --- guess, conditioning, samplers ---------------------------------------------------------------------------------


def guessed() -> Generative:
    """A generative stepper whose paths start from another network's answer."""
    return Generative(Recorder(6, 2), 2, noise=White(2, 0.1), guess=Deterministic(Recorder(2, 2)))


def test_paths_start_from_the_guess_and_the_network_sees_state_and_guess() -> None:
    stepper = guessed()
    guess = stepper.guess.step(BATCH.source)  # type: ignore[union-attr]
    stepper.density = FixedTime(0.0)
    loss_of(stepper)
    seen = stepper.network.calls[0][0]  # type: ignore[index]
    assert torch.equal(seen, torch.cat([guess, BATCH.source, guess], 1).detach())
    transport = stepper.transport(BATCH.source)
    assert torch.equal(transport.start(torch.zeros((), dtype=torch.float64), stream(0, rows=range(5))), guess)


def test_the_guess_is_frozen() -> None:
    stepper = guessed()
    before = copy.deepcopy(stepper.guess.state_dict())  # type: ignore[union-attr]
    trained = stepper.network.weight.detach().clone()  # type: ignore[union-attr]
    settings = TrainingSection(steps=5, learning_rate=0.1, warmup=0, weight_decay=0.5)
    trainer = Trainer(stepper, lambda k: BATCH, settings, 0)
    for k in range(5):
        trainer.step(k)
    assert len(trainer.weights) == 1 and trainer.weights[0] is stepper.network.weight
    for module in (stepper, trainer.ema.module):
        after = module.guess.state_dict()  # type: ignore[union-attr]
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is None for p in stepper.guess.parameters())  # type: ignore[union-attr]
    assert not torch.equal(trained, stepper.network.weight)  # type: ignore[arg-type]


def test_the_guess_is_saved_with_the_stepper() -> None:
    one, other = guessed(), guessed()
    with torch.no_grad():
        one.guess.network.weight.mul_(2)  # type: ignore[union-attr]
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.source(BATCH.source), other.source(BATCH.source))


@pytest.mark.parametrize("kind", ["deterministic", "generative"])
def test_known_fields_and_parameters_reach_the_network(kind: str) -> None:
    """Fields on a finer grid are averaged over the state's cells."""
    known = Conditioning(normal(5, 3, 16, key="fields"), normal(5, 2, key="params"))
    network = Recorder(5, 2) if kind == "deterministic" else Recorder(7, 2)
    stepper = Deterministic(network) if kind == "deterministic" else Generative(network, 2, noise=White(2))
    loss_of(stepper, Transition(BATCH.source, BATCH.target, known))
    stepper.step(BATCH.source, known, stream(0, rows=range(5)))
    assert known.fields is not None
    for x, _, params in network.calls:
        assert torch.equal(x[:, -3:], known.fields.unflatten(2, (8, 2)).mean(-1))
        assert params is known.params


def test_a_generative_step_needs_a_stream() -> None:
    with pytest.raises(ValueError, match="draws its noise from a stream"):
        guessed().step(BATCH.source)


def test_another_sampler_shares_the_weights_and_leaves_the_stepper_alone() -> None:
    stepper = guessed()
    twin = stepper.with_sampler(Heun(steps=3))
    assert (twin.sampler, stepper.sampler) == (Heun(steps=3), EulerMaruyama(steps=2))
    assert twin.network is stepper.network and twin.noise is stepper.noise
    calm = stepper.with_sampler(replace(EulerMaruyama(steps=2), temperature=0.0))
    a, b = (calm.step(BATCH.source, stream=stream(seed, rows=range(5))) for seed in (0, 1))
    assert torch.equal(a, b)
    a, b = (stepper.step(BATCH.source, stream=stream(seed, rows=range(5))) for seed in (0, 1))
    assert not torch.equal(a, b)


def test_a_coarse_solver_is_a_guess_with_the_noise_of_its_error() -> None:
    fine = KuramotoSivashinsky(size=(32,), length=(22.0,), dt=0.1, substeps=10)
    coarse = replace(fine, dt=0.5, substeps=2, order=1)
    state = fine.initial(stream(0, rows=range(6)))
    batch = Transition(state, fine.step(state))
    stepper = Generative(UNet(3, 1, ("periodic",), width=8, blocks=1), 1, guess=coarse)
    stepper.prepare(lambda: [batch])
    error = batch.target - coarse.step(state)
    assert stepper.noise.scale.item() == pytest.approx(error.std(correction=0).item(), rel=1e-5)
    assert stepper.noise.scale.item() < 0.5 * (batch.target - state).std().item()
    assert torch.isfinite(stepper.step(state, stream=stream(1, rows=range(6)))).all()
