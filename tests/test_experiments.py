"""Every experiment that comes with the package: it builds, takes a loss, steps, and samples the law it should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import driftway
from driftway.build import Signature, Spec, build_codec, build_stepper, check_codec, check_stepper
from driftway.coarse import Physics
from driftway.codecs import Identity
from driftway.config import load_yaml
from driftway.data.axes import Axis
from driftway.data.layout import Layout
from driftway.data.trajectories import Conditioning, Transition
from driftway.densities import GridTime
from driftway.noise import Fitted
from driftway.pdes import PRESETS
from driftway.randomness import stream
from driftway.schema import load_experiment
from driftway.sphere import gaussian_latitudes
from driftway.steppers import Generative, LearnedStepper
from tests.gaussian import Gaussian, Probes, sampled_law

EXPERIMENTS = Path(driftway.__file__).parent / "experiments"
METHODS = EXPERIMENTS / "methods"
FILES = sorted(path for folder in ("methods", "demo") for path in (EXPERIMENTS / folder).glob("*.yaml"))
ROWS = sorted(path.stem for path in METHODS.glob("*.yaml") if path.stem != "base")
# What the steps in a file leave of the right standard deviation, with an exact network: from, to.
SPREADS = {
    "interpolant": (0.99, 1.02),  # noise of the size of the spread: calibrated at any number of steps
    "interpolant_noise_free": (0.0, 0.0),  # the conditional mean
    "interpolant_ode": (0.94, 0.97),  # ten steps of order 2, the first of which leaves a point
    "interpolant_follmer": (0.92, 0.95),  # two steps of order 1
    "interpolant_discrete": (0.99, 1.02),  # another training, the same sampler
    "interpolant_velocity": (0.96, 0.99),  # twenty steps of order 1
    "flow_matching": (0.85, 0.88),  # ten steps of order 1
    "flow_matching_increment": (0.86, 0.89),  # ten, on a path as wide as the increment
    "ddpm": (0.92, 0.95),  # a hundred steps of order 1
    "ddim": (0.73, 0.76),  # ten
    "ddim_leading": (0.82, 0.85),  # ten, and noise where there should be signal
    "acdm": (0.80, 0.84),  # twenty
    "tsm": (0.0, 0.02),  # a jump from where the data are hardly seen: the conditional mean again
    "pde_refiner": (0.16, 0.20),  # its first noise is all the spread that it builds
    "edm": (1.04, 1.07),  # eighteen steps of order 2
    "edm_euler": (0.71, 0.75),  # ten of order 1
    "edm_churned": (0.74, 0.79),  # eighteen of order 1
    "residual_diffusion": (0.81, 0.85),  # ten of order 1, on a path as wide as the increment
}
CALIBRATED = {"interpolant", "interpolant_discrete"}
# And of the mean, where a path starts from pure noise and should not.
BIASES = {"ddim_leading": (-0.08, -0.05)}
ELSEWHERE = {"interpolant_noise_free", "tsm", "pde_refiner", "ddim_leading"}  # more steps do not lead to the law
CONVERGING = sorted(set(SPREADS) - CALIBRATED - ELSEWHERE)


SPHERE = (
    Axis("lat", tuple(gaussian_latitudes(16).tolist()), "pole", units="degrees_north"),
    Axis.uniform("lon", 8, 360.0, units="degrees_east"),
)
GRIDS = {"sfno": (("pole", "periodic"), SPHERE)}  # of the networks that are for some axes only


def described(row: str) -> Spec:
    return dict(load_experiment(METHODS / f"{row}.yaml").stepper)


def small(row: str, fields: int = 0, parameters: int = 0) -> LearnedStepper:
    """The file's stepper with a network of a few thousand weights, none of them zero as they are at the start."""
    spec = described(row)
    sizes: dict[str, dict[str, Any]] = {
        "unet": {"width": 8, "blocks": 1},
        "dit": {"width": 16, "depth": 1},
        "fno": {"width": 4, "depth": 1, "modes": 3},
        "sfno": {"width": 4, "depth": 1},
    }
    spec["network"] = {**spec["network"], **sizes[spec["network"]["type"]]}
    boundary, axes = GRIDS.get(spec["network"]["type"], (("periodic", "wall"), None))
    stepper = build_stepper(spec, Signature(2, boundary, fields, parameters, axes=axes))
    assert isinstance(stepper, LearnedStepper)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in stepper.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return stepper


def transition() -> Transition:
    torch.manual_seed(1)
    source = torch.randn(3, 2, 16, 8)
    return Transition(source, source + 0.3 * torch.randn_like(source))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(EXPERIMENTS)))
def test_every_file_describes_what_can_be_made(path: Path) -> None:
    experiment = load_experiment(path)
    assert experiment.name == path.stem
    check_codec(experiment.codec)
    check_stepper(experiment.stepper)
    network = experiment.stepper.get("network", "unet")
    boundary, axes = GRIDS.get(network if isinstance(network, str) else network["type"], (("periodic",) * 2, None))
    signature = Signature(2, boundary, axes=axes)
    if not any(spec["type"] == "run" for spec in experiment.codec):
        _, signature = build_codec(experiment.codec, signature)
    preset = PRESETS["kuramoto-sivashinsky"]
    physics = Physics(Identity(), Layout(preset.fields, preset.axes, preset.interval))
    build_stepper(experiment.stepper, signature, physics=physics)


def test_a_method_says_only_what_differs() -> None:
    for row in ROWS:
        path = METHODS / f"{row}.yaml"
        assert load_yaml(path)["data"] == load_yaml(METHODS / "base.yaml")["data"]
        assert len(path.read_text().splitlines()) <= 10


def test_every_generative_method_has_a_law_to_meet() -> None:
    assert sorted(row for row in ROWS if described(row)["type"] == "generative") == sorted(SPREADS)


@pytest.mark.parametrize("row", [row for row in ROWS if "network" in described(row)])
def test_every_method_takes_a_loss_with_gradients_and_steps(row: str) -> None:
    stepper, batch = small(row), transition()
    stepper.prepare(lambda: [batch])
    loss = stepper.loss(batch, stream(0, "train", 0, rows=range(3)))
    loss.backward()
    gradients = [weight.grad for weight in stepper.parameters() if weight.grad is not None]
    assert loss.ndim == 0 and bool(torch.isfinite(loss))
    assert all(bool(torch.isfinite(g).all()) for g in gradients)
    assert sum(float(g.abs().sum()) for g in gradients) > 0
    with torch.no_grad():
        state = stepper.step(batch.source, batch.conditioning, stream(0, "forecast", 1, rows=range(3)))
    assert state.shape == batch.source.shape
    assert bool(torch.isfinite(state).all())
    assert not torch.equal(state, batch.source)


@pytest.mark.parametrize("row", ["interpolant", "edm", "dit", "fno"])
def test_methods_take_known_fields_and_parameters(row: str) -> None:
    stepper = small(row, fields=1, parameters=2)
    torch.manual_seed(2)
    fields, params, state = torch.randn(3, 1, 16, 8), torch.randn(3, 2), torch.randn(3, 2, 16, 8)
    known = Conditioning(fields, params), Conditioning(fields, params + 1), Conditioning(fields + 1, params)
    with torch.no_grad():
        steps = [stepper.step(state, k, stream(0, "forecast", 1, rows=range(3))) for k in known]
    assert not torch.allclose(steps[0], steps[1])
    assert not torch.allclose(steps[0], steps[2])


def law(row: str, refinement: int = 1) -> tuple[float, float]:
    """Error of the mean and ratio of standard deviations of the file's sampler with a perfectly trained network."""
    stepper = generative(row)
    system = Gaussian(noise=Gaussian.std if isinstance(stepper.noise, Fitted) else 1.0)
    sampler = replace(stepper.sampler, steps=refinement * stepper.sampler.steps)
    end = sampled_law(system, sampler, stepper.interpolant, stepper.prediction)[-1]
    return end.mean - system.mean, end.std / system.std


@pytest.mark.parametrize("row", SPREADS)
def test_the_sampler_of_every_method_meets_the_law_as_well_as_its_steps_allow(row: str) -> None:
    bias, spread = law(row)
    for found, (lowest, highest) in ((bias, BIASES.get(row, (-0.01, 0.01))), (spread, SPREADS[row])):
        assert lowest <= found <= highest


@pytest.mark.parametrize("row", CONVERGING)
def test_what_is_missing_vanishes_with_more_steps(row: str) -> None:
    """Eight times the steps leave a third of the error of twice the steps, as order 1 should, and order 2 more so."""
    assert abs(law(row, 8)[1] - 1) < abs(law(row, 2)[1] - 1) / 3 + 1e-3


def asked(stepper: Generative) -> list[float]:
    """The times of the network calls of one step."""
    transport, times = Gaussian().transport(stepper.interpolant, stepper.prediction, 3), list[float]()

    def predict(x: Tensor, t: Tensor) -> Tensor:
        times.append(float(t))
        return transport.predict(x, t)

    stepper.sampler(replace(transport, predict=predict), Probes())
    return times


def generative(row: str) -> Generative:
    stepper = build_stepper({**described(row), "network": "unet"}, Signature(1, ("periodic",)))
    assert isinstance(stepper, Generative)
    return stepper


def calls(row: str) -> int:
    """Network calls of one step."""
    return len(asked(generative(row)))


@pytest.mark.parametrize(
    ("row", "expected"),
    [("interpolant", 2), ("interpolant_ode", 18), ("tsm", 10), ("ddim", 10), ("ddpm", 100), ("edm", 35)],
)
def test_network_calls_of_a_step(row: str, expected: int) -> None:
    """Heun's method takes two calls a step, and one at the last and for a leap."""
    assert calls(row) == expected


@pytest.mark.parametrize("row", [row for row in SPREADS if isinstance(generative(row).density, GridTime)])
def test_a_network_of_discrete_times_is_asked_where_it_is_trained(row: str) -> None:
    stepper = generative(row)
    assert isinstance(stepper.density, GridTime)
    trained = stepper.density.grid(stepper.density.points)[:-1]
    for time in asked(stepper):
        assert float((trained - time).abs().min()) < 1e-9


def test_the_noise_of_pde_refiner_falls_geometrically_from_nothing_known() -> None:
    sampler = generative("pde_refiner").sampler
    assert sampler.grid is not None
    levels = 1 - sampler.grid(sampler.steps)[:-1]
    assert levels.tolist() == pytest.approx([0.0006 ** (k / 3) for k in range(4)], rel=0.02)
