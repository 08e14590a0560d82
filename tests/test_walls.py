"""Walls and points that are not uniform: means are integrals, spectra go level by level, networks see the wall."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

from driftway.calculus import rule, weights
from driftway.codecs import Chain
from driftway.data.axes import Axis
from driftway.data.layout import Layout
from driftway.data.trajectories import Conditioning
from driftway.diagnosis.compression import cosine_shells
from driftway.diagnosis.examination import diagnose
from driftway.diagnosis.page import diagnosis_page
from driftway.evaluation import score, spectrum
from driftway.feeding import Encoded
from driftway.modes import to_modes
from driftway.networks.autoencoder import Autoencoder
from driftway.networks.layers import Conv
from driftway.noise import Coloured
from driftway.randomness import Stream, generator, stream
from driftway.schema import ValidationSection
from driftway.tuning import field_scales
from driftway.validation import Reconstructions, Rollouts
from tests.channel import channel, drifting, grid, wall_axis
from tests.test_evaluation import dataset, one
from tests.test_networks import build

LAYOUT = channel()
X, Y = grid(LAYOUT)


def states(*values: np.ndarray) -> np.ndarray:
    """One field (N, L, C, *S) of one initial state and a lead per value."""
    return np.stack([np.broadcast_to(v, X.shape) for v in values])[None, :, None].astype(np.float32)


def scored(forecast: np.ndarray, truth: np.ndarray, layout: Layout = LAYOUT) -> xr.Dataset:
    return score({"a": dataset(forecast, layout)}, dataset(truth, layout), layout)


# --- means over space ----------------------------------------------------------------------------------------------


def test_scores_are_integrals_over_the_channel() -> None:
    # û − u = y² and u = y: ⟨y⁴⟩ = 1/5 and ⟨(y − ½)²⟩ = 1/12
    found = scored(states(Y + Y**2)[None], states(Y))
    assert one(found, "rmse") == pytest.approx(5**-0.5, rel=1e-5)
    assert one(found, "vrmse") == pytest.approx((12 / 5) ** 0.5, rel=1e-5)
    assert one(found, "nrmse") == pytest.approx((3 / 5) ** 0.5, rel=1e-5)
    assert one(found, "crps") == pytest.approx(1 / 3, rel=1e-5)
    # of members u ± exp(y): the spread is √2 √⟨exp(2y)⟩, and the fair CRPS ⟨exp y⟩ − ⟨exp y⟩
    pair = scored(np.stack([states(Y + np.exp(Y)), states(Y - np.exp(Y))]), states(Y))
    assert one(pair, "spread") == pytest.approx((np.e**2 - 1) ** 0.5, rel=1e-5)
    assert one(pair, "crps") == pytest.approx(0, abs=1e-6)
    assert found.attrs["quadrature"] == "x Fourier, y Chebyshev–Gauss"


def test_grid_points_alike_would_score_something_else() -> None:
    axes = (LAYOUT.axes[0], Axis.uniform("y", len(LAYOUT.axes[1]), 1.0))
    alike = scored(states(Y + Y**2)[None], states(Y), replace(LAYOUT, axes=axes))
    assert abs(one(alike, "rmse")[0, 0] * 5**0.5 - 1) > 0.1


def test_weights_of_ones_count_grid_points_alike() -> None:
    forecast, truth = states(Y + Y**2)[None], states(Y)
    found = score({"a": dataset(forecast, LAYOUT)}, dataset(truth, LAYOUT), LAYOUT, weights=torch.ones(X.shape))
    assert one(found, "rmse") == pytest.approx(float((Y**4).mean() ** 0.5), rel=1e-5)


def test_the_units_of_several_fields_are_integrals_too() -> None:
    layout = channel(fields=("a", "b"))
    truth = dataset(np.concatenate([states(Y), states(3 * np.exp(Y))], 2), layout)
    variance = 9 * ((np.e**2 - 1) / 2 - (np.e - 1) ** 2)
    np.testing.assert_allclose(field_scales(truth, layout), [12**-0.5, variance**0.5], rtol=1e-5)


def test_what_training_is_watched_by_is_weighted() -> None:
    data = drifting()
    watched = Reconstructions(Encoded(data.split("valid").transitions(), Chain(), targets=False))
    frames = watched.batch.source.double()
    w = weights(data.axes)
    assert w is not None
    mean = (frames * w).mean((2, 3), keepdim=True)
    expected = (frames**2 * w).mean((2, 3)) / ((frames - mean) ** 2 * w).mean((2, 3))
    assert watched(_Zero())["valid_vrmse"] == pytest.approx(float(expected.sqrt().mean()), rel=1e-5)


class _Zero(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))

    def encode(self, u: Tensor, params: Tensor | None = None) -> Tensor:
        return u

    def decode(self, u: Tensor, params: Tensor | None = None) -> Tensor:
        return 0 * u


def test_short_forecasts_in_training_are_weighted() -> None:
    data = drifting()
    valid = data.split("valid")
    watched = Rollouts(data, Chain(), 1, ValidationSection(leads=1, trajectories=valid.shape[0]), 0)
    moved = np.asarray(valid.states)[:, :2, 0].astype(float)
    points, w = np.abs(moved[:, 1] - moved[:, 0]), rule(data.axes[1]).weights
    found = watched(_Still())
    assert found["valid_crps"] == pytest.approx(float((points.mean(1) @ w).mean()), rel=1e-5)
    assert abs(points.mean() / (points.mean(1) @ w).mean() - 1) > 0.01


class _Still(nn.Module):
    """Persistence, on the device of its weight."""

    random = False

    def __init__(self) -> None:
        super().__init__()
        self.some = nn.Parameter(torch.zeros(1))

    def step(self, state: Tensor, known: Conditioning, noise: Stream) -> Tensor:
        return state


# --- spectra -------------------------------------------------------------------------------------------------------


def test_spectra_of_each_level_are_averaged_by_weight() -> None:
    # exp(y) cos(kx) has the power ⟨exp(2y)⟩/2 in its shell: (e² − 1)/4
    u = torch.from_numpy(np.exp(Y) * np.cos(np.pi / 2 * 3 * X))[None]
    power = spectrum(u, LAYOUT)
    assert power is not None
    assert float(power[0, 3]) == pytest.approx((np.e**2 - 1) / 4, rel=1e-12)
    noise = torch.from_numpy(generator("channel").standard_normal((5, 2, *X.shape)))
    found, w = spectrum(noise, LAYOUT), LAYOUT.weights
    assert found is not None and w is not None and found.shape == (5, 2, 9)
    torch.testing.assert_close(found.sum(-1), (noise**2 * w).mean((-2, -1)))


def test_bands_of_a_channel_see_too_little_power_wherever_it_is() -> None:
    x, y = grid(channel(64, 12))
    layout = channel(64, 12)
    waves = sum(np.cos(np.pi / 2 * k * x + k) / k for k in range(1, 32)) * np.sin(np.pi * y)
    truth = np.broadcast_to(waves, (2, 3, 1, *x.shape)).astype(np.float32)
    smooth = sum(np.cos(np.pi / 2 * k * x + k) / k * (1 if k < 8 else 0.5) for k in range(1, 32)) * np.sin(np.pi * y)
    forecast = np.broadcast_to(smooth, (1, 2, 3, 1, *x.shape)).astype(np.float32)
    found = scored(forecast, truth, layout)["spectral_rmse"].sel(band=["low", "high"]).values[0, 0]
    np.testing.assert_allclose(found, [0, np.sqrt(0.75**2)], atol=2e-3)


def test_states_between_walls_alone_have_the_power_of_cosines() -> None:
    noise = torch.from_numpy(generator("box").standard_normal((3, 2, 6, 8)))
    found = cosine_shells(noise, ("wall", "wall"), (3.0, 4.0))
    torch.testing.assert_close(found.sum(-1), noise.square().mean((2, 3)))
    y = (torch.arange(8, dtype=torch.float64) + 0.5) / 8
    wave = torch.cos(torch.pi * 6 * y).expand(1, 1, 6, 8)  # three whole waves
    assert int(cosine_shells(wave, ("wall", "wall"), (3.0, 4.0)).argmax()) == 3


# --- modes, noise and diagnosis ------------------------------------------------------------------------------------


def test_on_chebyshevs_roots_cosines_by_index_are_chebyshevs_polynomials() -> None:
    y = torch.tensor(wall_axis(12).coordinates, dtype=torch.float64) * 2 - 1
    fifth = 16 * y**5 - 20 * y**3 + 5 * y
    modes = to_modes(fifth[None, None], ("wall",))[0, 0].abs()
    assert int(modes.argmax()) == 5 and float(modes.sum() - modes.max()) < 1e-12


def test_coloured_noise_has_the_variance_of_its_modes_on_any_points() -> None:
    law = Coloured(1, ("periodic", "wall"))
    steps = torch.from_numpy(generator("steps").standard_normal((400, 1, *X.shape)))
    smooth = 0.5 * (steps + steps.roll(1, 2))
    law.fit([smooth])
    drawn = law.draw(smooth.repeat(5, 1, 1, 1), stream(0, "draw", rows=range(2000)))
    assert float(drawn.var() / smooth.var()) == pytest.approx(1, abs=0.02)
    ratio = to_modes(drawn, law.boundary).abs().square().mean(0) / to_modes(smooth, law.boundary).abs().square().mean(0)
    assert float((ratio[:, :6] - 1).abs().max()) < 0.35


@pytest.mark.parametrize("walls", [(False, True), (True, True)])
def test_a_diagnosis_takes_walls(walls: tuple[bool, bool], tmp_path: Path) -> None:
    data = drifting(40, 5)
    axes = (wall_axis(16, "x"), data.axes[1]) if walls[0] else data.axes
    found = diagnose(replace(data, axes=axes))
    assert all(bool(power.isfinite().all()) for power in [found.spectra.state, *found.spectra.steps.values()])
    assert diagnosis_page(tmp_path / "page.html", found, "channel").stat().st_size > 10_000
    if not walls[0]:
        whole = torch.from_numpy(np.asarray(data.states)).double().flatten(0, 1)
        w = weights(axes)
        assert w is not None
        scale = float(whole.std()) ** 2
        assert float(found.spectra.state.sum()) == pytest.approx(float((whole**2 * w).mean()) / scale, rel=0.1)


# --- networks ------------------------------------------------------------------------------------------------------


def influence(network: nn.Module, size: int, axis: int) -> Tensor:
    """By how much every index of the outputs along an axis (0 or 1) changes with the values at its first."""
    torch.manual_seed(0)
    x = torch.randn(1, 3, size, size, dtype=torch.float64)
    other = x.clone()
    other.select(2 + axis, 0).add_(1)
    change = (network(other) - network(x)).detach().abs()
    return change.amax([d for d in range(4) if d != 2 + axis])


def local(network: nn.Module) -> nn.Module:
    """The network without its norms, which see all points of a state."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())
    return network


def networks(boundary: tuple[str, str]) -> dict[str, tuple[nn.Module, int, int]]:
    """Convolutional networks, a size beyond twice their reach, and the reach."""
    torch.manual_seed(1)
    stack = nn.Sequential(*[Conv(3, 3, boundary) for _ in range(4)]).double()
    unet = local(build("unet", boundary))
    code = Autoencoder(3, boundary, stem=2, widths=(8,), blocks=1, encoder_blocks=1, latent=4).double()
    with torch.no_grad():
        for parameter in code.parameters():
            parameter.normal_(0, 0.2)

    class Reconstruct(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.code = local(code)

        def forward(self, x: Tensor) -> Tensor:
            return code.decode(code.encode(x))

    return {"convolutions": (stack, 16, 4), "unet": (unet, 32, 14), "autoencoder": (Reconstruct(), 40, 19)}


@pytest.mark.parametrize("name", ["convolutions", "unet", "autoencoder"])
def test_one_wall_does_not_reach_the_other(name: str) -> None:
    network, size, reach = networks(("periodic", "wall"))[name]
    across, along = influence(network, size, 1), influence(network, size, 0)
    assert across[: reach // 2].min() > 0 and float(across[reach + 1 :].max()) == 0
    assert float(along[-1]) > 1e-6 and float(along[reach + 1 : size - reach].sum()) == 0


@pytest.mark.parametrize("name", ["convolutions", "autoencoder"])
def test_shifts_are_free_along_the_channel_and_not_across(name: str) -> None:
    network, size, _ = networks(("periodic", "wall"))[name]
    x = torch.randn(1, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    y = network(x)
    torch.testing.assert_close(network(x.roll(2, 2)), y.roll(2, 2), rtol=0, atol=1e-10)
    assert (network(x.roll(2, 3)) - y.roll(2, 3)).abs().max() > 1e-3
