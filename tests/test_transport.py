"""Conversions between predictions, exact on the Gaussian system; and what a transport draws."""

from __future__ import annotations

import pytest
import torch

from driftway.densities import GridTime, LogNormalNoise, UniformTime
from driftway.diffusions import Diffusion
from driftway.errors import ConfigError
from driftway.interpolants import Follmer, Interpolant, Rectified, VarianceExploding
from driftway.noise import Fitted, White
from driftway.predictions import PREDICTIONS, Data, Drift, Karras, Prediction
from driftway.randomness import Stream, generator, stream
from driftway.transport import amplification
from tests.gaussian import Gaussian
from tests.test_interpolants import PATHS, Cosine

TARGETS: dict[str, Prediction] = {name: kind() for name, kind in PREDICTIONS.items()}
TARGETS |= {"half": Drift(Diffusion(0.5)), "follmer": Drift(Diffusion(base="follmer"))}


@pytest.mark.parametrize("wanted", TARGETS)
@pytest.mark.parametrize("given", PREDICTIONS)
@pytest.mark.parametrize("path", [*PATHS, Cosine()], ids=repr)
def test_every_conversion_is_exact(path: Interpolant, given: str, wanted: str) -> None:
    system = Gaussian(noise=0.6)
    transport = system.transport(path, TARGETS[given], rows=5)
    x = torch.linspace(-2, 2, 5, dtype=torch.float64).reshape(5, 1, 1)
    for time in (0.05, 0.37, 0.93):
        t = torch.tensor(time, dtype=torch.float64)
        data, noise = system.means(path, x, transport.source, t)
        expected = TARGETS[wanted].coefficients(path, t)(transport.source, data, noise)
        found = transport.evaluate(x, t, TARGETS[wanted])
        assert found.flatten().tolist() == pytest.approx(expected.flatten().tolist(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("path", [*PATHS, Cosine()], ids=repr)
def test_score_is_the_gradient_of_the_log_density(path: Interpolant) -> None:
    system, t = Gaussian(noise=0.6), torch.tensor(0.4, dtype=torch.float64)
    transport = system.transport(path, TARGETS["data"], rows=3)
    x = torch.tensor([-1.0, 0.2, 1.5], dtype=torch.float64).reshape(3, 1, 1)
    mean, std = system.marginal(path, 0.4)
    assert transport.score(x, t).flatten().tolist() == pytest.approx(
        (-(x - mean) / std**2).flatten().tolist(), rel=1e-6
    )


@pytest.mark.parametrize("given", ["drift", "data", "noise", "karras"])
def test_float32_networks_lose_little(given: str) -> None:
    transport = Gaussian().transport(Follmer(), TARGETS[given], rows=4)
    single = type(transport)(
        transport.interpolant,
        transport.prediction,
        lambda x, t: transport.predict(x.double(), t).float(),
        transport.source.float(),
        White(1),
    )
    x, t = torch.linspace(0, 1, 4).reshape(4, 1, 1), torch.tensor(0.5, dtype=torch.float64)
    assert single.data(x, t).dtype == torch.float32
    assert (single.data(x, t) - transport.data(x.double(), t)).abs().max() < 1e-5


def test_conversions_are_finite_at_both_ends() -> None:
    for time in (0.0, 1.0):
        transport = Gaussian().transport(Follmer(), Drift(), rows=2)
        t = torch.tensor(time, dtype=torch.float64)
        for wanted in TARGETS.values():
            assert bool(torch.isfinite(transport.evaluate(transport.source, t, wanted)).all())


def test_karras_input_and_target_have_unit_variance() -> None:
    """On standardised data of standard deviation d, at every noise level."""
    path, prediction = VarianceExploding(), Karras(0.5)
    for time in (0.1, 0.9, 0.99, 0.9999):
        t = torch.tensor(time, dtype=torch.float64)
        _, b, c = prediction.coefficients(path, t)
        assert float((0.5 * b) ** 2 + c**2) == pytest.approx(1.0, rel=1e-9)
        gamma = float(path.gamma(t))
        assert float(prediction.scale(path, t)) ** 2 * (0.25 + gamma**2) == pytest.approx(1.0, rel=1e-9)


def test_a_prediction_that_says_nothing_is_refused() -> None:
    transport = Gaussian().transport(_Straight(), TARGETS["velocity"], rows=1)
    with pytest.raises(ConfigError, match="does not determine"):
        transport.data(transport.source, torch.tensor(0.5, dtype=torch.float64))


class _Straight(Rectified):
    """A deterministic bridge: without noise, the velocity alone can be learned."""

    def alpha(self, t: torch.Tensor) -> torch.Tensor:
        return 1 - t

    def gamma(self, t: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(t)

    def rates(self, t: float | torch.Tensor):  # type: ignore[no-untyped-def]
        return Interpolant.rates(self, t)


@pytest.mark.parametrize(
    ("path", "prediction", "earliest"),
    [
        (Follmer(), "drift", 0.0),  # λ = 1 − t
        (Follmer(), "velocity", 0.01),  # its target grows as 1/√t
        (Follmer(), "noise", 0.01),  # λ = γ/β = 1/√t
        (Follmer(power=2), "drift", 0.05),  # λ = 1/2t
        (Rectified(), "noise", 0.1),
    ],
    ids=repr,
)
def test_departure_is_the_first_time_at_which_errors_grow_at_most_tenfold(
    path: Interpolant, prediction: str, earliest: float
) -> None:
    transport = Gaussian().transport(path, TARGETS[prediction], rows=1)
    t = transport.departure()
    assert float(t) == pytest.approx(earliest, rel=0.3, abs=1e-5)
    assert float(amplification(transport.interpolant, transport.prediction, Data(), t)) <= 10.0
    exact, wrong = (
        Gaussian().transport(path, TARGETS[prediction], rows=1, error=e).data(transport.source, t) for e in (0.0, 1e-3)
    )
    assert abs(float(exact - wrong)) / 1e-3 < 2 * 10.0


def test_fitted_noise_is_the_standard_deviation_of_residuals() -> None:
    torch_rng = torch.from_numpy(generator("residuals").standard_normal((64, 2, 8, 8))).float()
    residuals = torch_rng * torch.tensor([0.3, 2.0]).reshape(1, 2, 1, 1) + 5
    law = Fitted(2)
    law.fit(residuals.split(10))
    assert law.scale.tolist() == pytest.approx(residuals.double().std((0, 2, 3), unbiased=False).tolist(), rel=1e-6)
    pooled = Fitted(2, factor=2.0, per="all")
    pooled.fit(residuals.split(10))
    assert pooled.scale[0] == pooled.scale[1] and float(pooled.scale[0]) > 2.0


def test_streams_do_not_depend_on_the_batch() -> None:
    """Row 7 draws the same alone, in a batch, and in another order; different keys draw differently."""
    like = torch.zeros(1, 3, 4)
    alone = stream(0, "forecast", 5, rows=[7])
    together = stream(0, "forecast", 5, rows=range(10))
    first, second = together.normal(like.expand(10, 3, 4)), together.normal(like.expand(10, 3, 4))
    assert torch.equal(alone.normal(like)[0], first[7]) and torch.equal(alone.normal(like)[0], second[7])
    flat = first.flatten(1)
    assert len({tuple(row) for row in flat.tolist()}) == 10
    assert not torch.equal(
        stream(1, "forecast", 5, rows=[7]).normal(like), stream(0, "forecast", 5, rows=[7]).normal(like)
    )
    with pytest.raises(ValueError, match="10 rows, the batch 1"):
        together.normal(like)


def test_densities() -> None:
    like, rows = torch.zeros(4000, 1), stream("density", rows=range(4000))
    uniform = UniformTime(0.1, 0.5)(Follmer(), like, rows)
    assert float(uniform.min()) >= 0.1
    assert float(uniform.max()) < 0.5
    assert float(uniform.mean()) == pytest.approx(0.3, abs=0.01)
    grid = GridTime(5)(Follmer(), like, rows)
    assert sorted({round(t, 9) for t in grid.tolist()}) == [0.0, 0.2, 0.4, 0.6, 0.8]
    path = VarianceExploding()
    levels = path.gamma(LogNormalNoise()(path, like, rows)).log()
    assert float(levels.mean()) == pytest.approx(-1.2, abs=0.08) and float(levels.std()) == pytest.approx(1.2, abs=0.06)


def test_a_stream_is_a_normal_law() -> None:
    draws = Stream([generator("law")]).normal(torch.zeros(1, 100_000, dtype=torch.float64))
    assert float(draws.mean()) == pytest.approx(0, abs=0.015) and float(draws.std()) == pytest.approx(1, abs=0.01)
