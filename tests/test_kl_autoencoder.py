"""The autoencoder with random latents: its divergence, its weights, what is drawn and when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from driftway.build import Signature, build_codec
from driftway.calculus import weights
from driftway.data import save_zarr
from driftway.data.trajectories import Transition
from driftway.emulator import Emulator
from driftway.errors import ConfigError
from driftway.networks import KLAutoencoder
from driftway.networks.kl_autoencoder import divergence
from driftway.randomness import generator, seeded, stream
from driftway.schema import TrainingSection
from driftway.training import fit, history
from driftway.workflow import fit_autoencoder, latents
from tests import small
from tests.test_climate_network import planet, sphere

TINY: dict[str, Any] = {"latent": 3, "width": 8, "multipliers": (1, 2), "blocks": 1}
NAMES = ("tas", "ta50", "ta250", "zg50")


def draws(*shape: int, key: str = "u") -> Tensor:
    return torch.from_numpy(generator("kl", key).standard_normal(shape)).float()


def made(boundary: tuple[str, ...] = ("periodic", "periodic"), channels: int = 2, **settings: Any) -> KLAutoencoder:
    """A small one, none of whose weights is zero."""
    model = KLAutoencoder(channels, boundary, **{**TINY, **settings})
    rng = generator("weights")
    with torch.no_grad():
        for weight in model.parameters():
            fan = weight[0].numel() if weight.ndim > 1 else 4
            weight.copy_(torch.from_numpy(rng.standard_normal(tuple(weight.shape))) / fan**0.5)
    return model


def rows(count: int, *key: int) -> Any:
    return stream(0, "train", *key, rows=range(count))


def test_the_divergence_is_that_of_normal_laws() -> None:
    mean, log = draws(4, 5), draws(4, 5, key="log")
    expected = kl_divergence(Normal(mean, (log / 2).exp()), Normal(torch.zeros(()), torch.ones(())))
    torch.testing.assert_close(divergence(mean, log), expected)
    assert divergence(torch.zeros(1), torch.zeros(1)).item() == 0


def test_the_loss_is_its_formula() -> None:
    """Point by point and channel by channel, on a sphere."""
    axes = sphere(4, 8)
    model = made(("pole", "periodic"), 4, axes=axes, names=NAMES, kl=0.3, weights={"tas": 2.0, "*[a-z]50": 0.5})
    u = draws(3, 4, 4, 8)
    mean, log = model.posterior(u)
    z = mean + (log / 2).exp() * rows(3).normal(mean)
    decoded, area = model.decode(z).detach(), weights(axes)
    assert area is not None and float(area.mean()) == pytest.approx(1)
    total = 0.0
    for c, weight in enumerate((2.0, 0.5, 1.0, 0.5)):
        for i, j in np.ndindex(4, 8):
            total += weight * float(area[i, j]) * float((decoded[:, c, i, j] - u[:, c, i, j]).square().sum())
    expected = total / u.numel() + 0.3 * divergence(mean, log).mean().item()
    assert float(model.loss(Transition(u, u), rows(3))) == pytest.approx(expected, rel=1e-5)


def test_without_axes_and_weights_every_point_counts_alike() -> None:
    model, u = made(kl=0.0), draws(2, 2, 8, 8)
    mean, log = model.posterior(u)
    z = mean + (log / 2).exp() * rows(2).normal(mean)
    plain = (model.decode(z) - u).square().mean()
    torch.testing.assert_close(model.loss(Transition(u, u), rows(2)), plain)


def test_encoding_draws_nothing_and_training_draws_from_its_stream() -> None:
    model, u = made(), draws(2, 2, 8, 8)
    assert torch.equal(model.encode(u), model.posterior(u)[0]) and torch.equal(model.encode(u), model.encode(u))
    losses = [float(model.loss(Transition(u, u), rows(2, step))) for step in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(
    ("boundary", "sizes", "multipliers"),
    [
        (("periodic",), (16,), (1, 2, 2)),
        (("pole", "periodic"), (8, 16), (1, 2, 4)),
        (("wall", "open"), (4, 6), (1, 1)),
        (("periodic", "wall", "open"), (4, 4, 6), (2, 1)),
    ],
    ids=["line", "sphere", "box", "3-D"],
)
def test_shapes(boundary: tuple[str, ...], sizes: tuple[int, ...], multipliers: tuple[int, ...]) -> None:
    model, u = made(boundary, multipliers=multipliers), draws(2, 2, *sizes)
    z = model.encode(u)
    assert z.shape == (2, 3, *(n // model.factor for n in sizes)) and model.factor == 2 ** (len(multipliers) - 1)
    assert model.decode(z).shape == u.shape
    together, alone = model.encode(u), model.encode(u[1:])
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "same"), [("periodic", True), ("wall", False)])
def test_it_pads_by_the_boundary(kind: str, same: bool) -> None:
    """A shift by a latent cell is one of the latents, where the axis is periodic and nowhere else."""
    model, u = made(("wall", kind)), draws(2, 2, 4, 16)
    z = model.encode(u)
    assert torch.allclose(model.encode(u.roll(2, 3)), z.roll(1, 3), atol=1e-4) == same
    assert torch.allclose(model.decode(z.roll(1, 3)), model.decode(z).roll(2, 3), atol=1e-4) == same


def test_gradients_reach_every_weight() -> None:
    model, u = made(), draws(2, 2, 8, 8)
    model.loss(Transition(u, u), rows(2)).backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    assert [name for name, g in gradients.items() if g is None or not g.any() or not torch.isfinite(g).all()] == []


def test_weights_of_no_channel_and_wrong_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no channel is named 'tsa'; there are tas, ta50"):
        made(channels=4, names=NAMES, weights={"tsa": 1.0})
    with pytest.raises(ConfigError, match="tas has -1, must be at least 0"):
        made(channels=4, names=NAMES, weights={"tas": -1.0})
    with pytest.raises(ConfigError, match=r"multiples of 2, got \(7, 8\)"):
        made().encode(draws(1, 2, 7, 8))


def test_latents_come_to_have_about_unit_variance() -> None:
    """Waves of two random amplitudes, whose latents are drawn from nearly the standard law once it is trained."""
    x = torch.linspace(0, 2 * np.pi, 9)[:-1]
    waves = torch.stack([x.sin(), x.cos()])
    with seeded("toy"):
        model = KLAutoencoder(1, ("periodic",), latent=1, width=8, multipliers=(1, 1), blocks=1, kl=0.05)

    def batch(step: int) -> Transition:
        u = (draws(32, 2, key=f"amplitudes {step}") @ waves)[:, None]
        return Transition(u, u)

    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(75):
        optimiser.zero_grad()
        model.loss(batch(step), rows(32, step)).backward()
        optimiser.step()
    u = batch(-1).source
    with torch.no_grad():
        mean, log = model.posterior(u)
        z = mean + (log / 2).exp() * rows(32, 1000).normal(mean)
        left = (model.decode(mean) - u).square().mean() / u.square().mean()
    assert float(left) < 0.1 and float(divergence(mean, log).mean()) > 1  # latents tell much of the fields
    assert 0.8 < float(z.std()) < 1.2 and abs(float(z.mean())) < 0.2


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    settings = TrainingSection(steps=6, batch=2, warmup=1, log_every=1, checkpoint_every=2, validate_every=6)

    def trained(folder: Path, killed: bool) -> dict[str, Tensor]:
        def batches(step: int) -> Transition:
            if killed and step == 5:
                raise KeyboardInterrupt
            u = draws(2, 2, 8, 8, key=f"batch {step}")
            return Transition(u, u)

        with seeded("resume"):
            model = KLAutoencoder(2, ("periodic", "periodic"), **TINY)
        folder.mkdir(exist_ok=True)
        return fit(model, batches, settings, folder, seed=3, resume=True).state_dict()

    whole = trained(tmp_path / "whole", killed=False)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", killed=True)
    resumed = trained(tmp_path / "killed", killed=False)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    assert history(tmp_path / "killed") == history(tmp_path / "whole")


def test_it_is_fitted_saved_and_used_as_a_codec(tmp_path: Path) -> None:
    data = save_zarr(planet(), tmp_path / "planet.zarr")
    codec = ["standardize", {"type": "kl_autoencoder", **TINY, "weights": {"tas": 2.0}}]
    codec[1]["multipliers"] = [1, 2]  # type: ignore[index]
    run = tmp_path / "autoencoder"
    fit_autoencoder(small.experiment(tmp_path, data, "autoencoder", codec=codec), run)
    emulator = Emulator.load(run)
    model: Any = emulator.codec.codecs[-1]  # type: ignore[union-attr]
    assert isinstance(model, KLAutoencoder) and model.channel_weights.tolist() == [2.0, 1.0]
    torch.testing.assert_close(model.areas, weights(planet().axes), check_dtype=False)
    assert latents(run, emulator, planet()).shape == (10, 5, 3, 4, 8)
    assert json.loads((run / "emulator.json").read_text())["codec"][1]["type"] == "kl_autoencoder"


def test_at_the_published_size_it_has_about_the_published_weights() -> None:
    """Published: 24.8 + 36.3 million (arXiv 2509.26282's code), within 3 %."""
    with torch.device("meta"):
        signature = Signature(73, ("pole", "periodic"))
        codec, inner = build_codec([{"type": "kl_autoencoder", "multipliers": [1, 2, 4]}], signature)
    model: Any = codec.codecs[0]
    assert inner.channels == 32 and model.factor == 4
    for part, published in ((model.encoder, 24.8e6), (model.decoder, 36.3e6)):
        assert sum(weight.numel() for weight in part.parameters()) == pytest.approx(published, rel=0.03)
