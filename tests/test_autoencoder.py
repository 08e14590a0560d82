"""Autoencoder: the linear code is the data's principal components, and what is learned only adds to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from driftway.data.trajectories import Conditioning, Transition
from driftway.errors import ConfigError, DataError
from driftway.networks import Autoencoder
from driftway.networks.autoencoder import averaging
from driftway.networks.layers import unshuffle
from driftway.randomness import generator, stream

PERIODIC = ("periodic", "periodic")
NOBODY = stream(0, "nobody", rows=[])  # without a KL weight nothing is drawn
LAYOUTS: list[dict[str, Any]] = [
    {"stem": 4, "widths": (24,)},  # 16 pixels per patch and channel fit
    {"stem": 2, "widths": (4, 16)},
    {"stem": 1, "widths": (4, 4, 16)},
]


def noise(*shape: int, key: str = "x") -> Tensor:
    return torch.from_numpy(generator(0, "autoencoder", key).standard_normal(shape))


def fields(count: int, size: int = 16, channels: int = 1, key: str = "fields") -> Tensor:
    """Smooth random fields with zero mean and unit variance over all."""
    white = noise(count, channels, size, size, key=key)
    k = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64)
    u = torch.fft.ifft2(torch.fft.fft2(white) / (1 + k[:, None] ** 2 + k**2)).real
    return (u - u.mean()) / u.std()


def transition(u: Tensor, params: Tensor | None = None) -> Transition:
    return Transition(u, torch.zeros_like(u), Conditioning(params=params))


def small(channels: int = 1, boundary: tuple[str, ...] = PERIODIC, **changes: Any) -> Autoencoder:
    """A float64 autoencoder that is quick to build."""
    settings: dict[str, Any] = {"latent": 5, "stem": 4, "widths": (24,), "blocks": 1, "bound": None}
    return Autoencoder(channels, boundary, **(settings | changes)).double()


def randomise(model: Autoencoder) -> Autoencoder:
    rng = generator(0, "weights")
    with torch.no_grad():
        for parameter in model.parameters():
            fan = max(parameter[0].numel(), 1) if parameter.ndim > 1 else 4
            parameter.copy_(torch.from_numpy(rng.standard_normal(tuple(parameter.shape))) / fan**0.5)
    return model


def principal(train: Tensor, test: Tensor, patch: int, count: int) -> np.ndarray:
    """Patches of `test` (rows) projected on the leading components of those of `train`, by numpy's SVD."""

    def rows(u: Tensor) -> np.ndarray:
        folded = unshuffle(u, patch).numpy()
        return np.moveaxis(folded, 1, -1).reshape(-1, folded.shape[1])

    mean = rows(train).mean(0)
    basis = np.linalg.svd(rows(train) - mean, full_matrices=False)[2][:count]
    return (rows(test) - mean) @ basis.T @ basis + mean


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda v: f"stem {v['stem']}")
def test_initialised_it_is_the_principal_component_analysis(layout: dict[str, Any], channels: int) -> None:
    layout = layout | {"widths": tuple(channels * w for w in layout["widths"])}
    train, test = fields(40, channels=channels) + 0.3, fields(6, channels=channels, key="test")
    model = small(channels, **layout).initialise(train)
    decoded = unshuffle(model.decode(model.encode(test)).detach(), 4)
    expected = principal(train, test, 4, 5).reshape(6, 4, 4, -1).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(decoded.numpy(), expected, rtol=0, atol=1e-10)


def test_float32_is_as_close_as_float32_can_be() -> None:
    train, test = fields(40).float(), fields(6, key="test").float()
    model = small().float().initialise(train)
    decoded = unshuffle(model.decode(model.encode(test)).detach(), 4)
    expected = principal(train, test, 4, 5).reshape(6, 4, 4, -1).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(decoded.numpy(), expected, rtol=0, atol=1e-5)


def test_as_many_latents_as_pixels_lose_nothing() -> None:
    train, test = fields(40), fields(6, key="test")
    model = small(latent=16).initialise(train)
    torch.testing.assert_close(model.decode(model.encode(test)), test, rtol=0, atol=1e-8)


def test_initialised_latents_are_uncorrelated_and_ordered() -> None:
    train = fields(40)
    z = small().initialise(train).encode(train).detach()
    covariance = np.cov(z.transpose(0, 1).flatten(1).numpy(), bias=True)
    variances = np.diag(covariance)
    np.testing.assert_allclose(covariance, np.diag(variances), rtol=0, atol=1e-10)
    assert variances[0] == pytest.approx(0.25)
    assert (np.diff(variances) < 0).all()
    errors = [small(latent=c).initialise(train).loss(transition(train), NOBODY).item() for c in (1, 2, 5, 9)]
    assert errors == sorted(errors, reverse=True)


def test_the_initialised_code_keeps_distances() -> None:
    """So that an error in any latent costs the same when it is decoded."""
    train = fields(40)
    model = small().initialise(train)
    z = model.encode(train[:5]).detach()
    errors = torch.eye(5, dtype=torch.float64).reshape(5, 5, 1, 1) * torch.ones_like(z)
    costs = (model.decode(z + errors) - model.decode(z)).square().sum((1, 2, 3))
    torch.testing.assert_close(costs, costs.mean().expand(5), rtol=1e-9, atol=0)


def test_initialise_unlearns() -> None:
    train = fields(20)
    fresh, used = small().initialise(train), randomise(small()).initialise(train)
    torch.testing.assert_close(used.decode(used.encode(train)), fresh.decode(fresh.encode(train)))


def test_directions_without_variance_do_no_harm() -> None:
    train = fields(20)
    train[..., ::2] = train[..., 1::2]  # pairs of equal pixels: 8 components have no variance
    model = small(latent=12).initialise(train)
    assert model.loss(transition(train), NOBODY) < 1e-12


@pytest.mark.parametrize("frames", [torch.ones(4, 1, 8, 8), torch.full((4, 1, 8, 8), torch.nan)], ids=["ones", "nan"])
def test_frames_without_components_are_refused(frames: Tensor) -> None:
    with pytest.raises(DataError, match="constant or not finite"):
        small().initialise(frames.double())


def test_training_starts_from_the_linear_code_and_improves() -> None:
    train, test = fields(64), fields(16, key="test")
    model = small(blocks=1).initialise(train)
    start = model.loss(transition(test), NOBODY).item()
    optimiser, rng = torch.optim.AdamW(model.parameters(), 1e-3), generator(0, "order")
    losses = []
    for _ in range(60):
        loss = model.loss(transition(train[torch.from_numpy(rng.integers(0, 64, 16))]), NOBODY)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert max(losses) < 1.2 * losses[0]  # the first steps do not spoil what is there
    assert model.loss(transition(test), NOBODY).item() < 0.9 * start


@pytest.mark.parametrize(
    ("boundary", "sizes", "stem", "widths", "factor"),
    [
        (("periodic",), (24,), 2, (6, 8, 10), 8),
        (("periodic", "wall"), (8, 12), 4, (12,), 4),
        (("open", "periodic"), (8, 16), 1, (6, 8), 2),
        (("periodic", "wall", "open"), (4, 8, 12), 2, (8, 12), 4),
    ],
    ids=["1-D", "2-D", "2-D without stem", "3-D"],
)
def test_shapes(
    boundary: tuple[str, ...], sizes: tuple[int, ...], stem: int, widths: tuple[int, ...], factor: int
) -> None:
    model = Autoencoder(2, boundary, latent=3, stem=stem, widths=widths, blocks=1, encoder_blocks=1)
    assert (model.factor, model.latent) == (factor, 3)
    u = noise(2, 2, *sizes).float()
    z = model.initialise(u).encode(u)
    assert z.shape == (2, 3, *(n // factor for n in sizes))
    assert model.decode(z).shape == u.shape


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ConfigError, match=r"multiples of 8, got \(12, 16\)"):
        small(stem=2, widths=(4, 8, 8)).encode(noise(1, 1, 12, 16))


def test_latents_saturate_at_the_bound() -> None:
    free, bounded = small(), small(bound=2.0)
    bounded.load_state_dict(free.state_dict())
    u = fields(4)
    z = free.encode(u)
    torch.testing.assert_close(bounded.encode(u), z / (1 + z**2 / 4).sqrt())
    far = bounded.encode(1e6 * u).abs()
    assert far.max() <= 2.0 and far.median() > 1.99


def test_the_usual_bound_hardly_changes_the_linear_code() -> None:
    train = fields(40)
    free, bounded = (small(bound=b).initialise(train).loss(transition(train), NOBODY).item() for b in (None, 5.0))
    assert free < bounded < 1.05 * free


def test_the_divergence_is_that_of_normal_distributions() -> None:
    u, kl = fields(6), 0.7
    model = small(kl=kl).initialise(fields(40))
    value = model.loss(transition(u), stream(0, "kl", rows=range(6)))
    mean = model.encode(u)
    sample = mean + np.exp(-3.0) * stream(0, "kl", rows=range(6)).normal(mean)
    normal = torch.distributions.Normal
    divergence = torch.distributions.kl_divergence(normal(mean, float(np.exp(-3.0))), normal(0.0, 1.0)).mean()
    torch.testing.assert_close(value, (model.decode(sample) - u).square().mean() + kl * divergence)


def test_a_divergence_weight_learns_the_width_and_leaves_encoding_without_noise() -> None:
    u = fields(6)
    model = randomise(small(kl=0.1))
    one, two = (model.loss(transition(u), stream(seed, "kl", rows=range(6))) for seed in (0, 1))
    assert one != two and torch.equal(model.encode(u), model.encode(u))
    one.backward()
    assert model.log_variance is not None and model.log_variance.taps.weight.grad is not None
    assert model.log_variance.taps.weight.grad.any()


def test_parameters_matter_once_learned_and_are_asked_for() -> None:
    model = randomise(small(parameters=2, encoder_blocks=1))
    u, a, b = fields(2), torch.tensor([[0.1, 0.2]]).repeat(2, 1), torch.tensor([[0.1, 0.4]]).repeat(2, 1)
    z = model.encode(u, a)
    assert (model.encode(u, b) - z).abs().max() > 1e-3
    assert (model.decode(z, b) - model.decode(z, a)).abs().max() > 1e-3
    assert model.loss(transition(u, a), NOBODY) != model.loss(transition(u, b), NOBODY)
    for call in (model.encode, model.decode):
        with pytest.raises(ConfigError, match="built for 2 parameters"):
            call(u if call == model.encode else z)


def test_parameters_need_blocks() -> None:
    with pytest.raises(ConfigError, match="set blocks"):
        small(parameters=1, blocks=0)


@pytest.mark.parametrize(
    "changes", [{}, {"parameters": 1, "encoder_blocks": 1}, {"stem": 2, "widths": (6, 8)}], ids=str
)
def test_gradients_reach_every_parameter(changes: dict[str, Any]) -> None:
    model = randomise(small(**changes))
    params = noise(3, 1, key="params") if "parameters" in changes else None
    model.loss(transition(fields(3), params), NOBODY).backward()
    assert [k for k, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_shifts_by_a_patch_shift_the_latents() -> None:
    model, u = randomise(small(stem=2, widths=(6, 8), encoder_blocks=1)), fields(2)
    z = model.encode(u)
    torch.testing.assert_close(model.encode(u.roll((4, 8), (2, 3))), z.roll((1, 2), (2, 3)), rtol=0, atol=1e-10)
    torch.testing.assert_close(model.decode(z.roll(1, 3)), model.decode(z).roll(4, 3), rtol=0, atol=1e-10)


def test_walls_are_not_seams() -> None:
    wrapped, closed = randomise(small()), randomise(small(boundary=("periodic", "wall")))
    u = fields(2, size=32)
    difference = (wrapped.encode(u) - closed.encode(u)).abs()
    # Two convolutions one after the other see two points beyond the ends of the second axis.
    assert difference[..., [0, 1, -2, -1]].min() > 0 and torch.count_nonzero(difference[..., 2:-2]) == 0


def test_the_code_survives_saving() -> None:
    u = fields(8)
    model, other = small().initialise(u), small()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.decode(other.encode(u)), model.decode(model.encode(u)))


@pytest.mark.parametrize(("inputs", "outputs"), [(4, 2), (2, 4), (3, 2), (2, 3), (5, 5)])
def test_averaging_keeps_constants_and_repeats_are_averaged_back(inputs: int, outputs: int) -> None:
    down, up = averaging(inputs, outputs), averaging(outputs, inputs)
    torch.testing.assert_close(down.sum(1), torch.ones(outputs))
    if inputs % outputs == 0:
        torch.testing.assert_close(down @ up, torch.eye(outputs))
