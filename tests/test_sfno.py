"""The spherical Fourier neural operator: what a rotation, a label, a grid and the builder may do to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from driftway.build import Signature, build_codec, build_emulator, build_stepper, describe, load_emulator, save_emulator
from driftway.data.axes import Axis, Fields
from driftway.data.layout import Layout
from driftway.errors import ConfigError, DataError
from driftway.networks import SFNO
from driftway.randomness import generator
from driftway.sphere import Transform, gaussian_latitudes, spherical_harmonics

LON = Axis.uniform("lon", 20, 360.0, units="degrees_east")
GRIDS = {
    "Gauss": gaussian_latitudes(10).flip(0).numpy(),
    "cells": np.linspace(-81, 81, 10),
    "poles": np.linspace(90, -90, 11),
}
SMALL: dict[str, Any] = {"width": 8, "depth": 2, "embedding": 16}
every_grid = pytest.mark.parametrize("grid", list(GRIDS))


def axes(grid: str) -> tuple[Axis, Axis]:
    return Axis("lat", tuple(GRIDS[grid].tolist()), "pole", units="degrees_north"), LON


def network(grid: str, parameters: int = 0, **options: Any) -> SFNO:
    """A small float64 network from 3 to 2 channels without a weight that is zero."""
    found = SFNO(3, 2, ("pole", "periodic"), axes=axes(grid), parameters=parameters, **{**SMALL, **options}).double()
    rng = generator(0, "weights")
    with torch.no_grad():
        for weight in found.parameters():
            weight.copy_(torch.from_numpy(rng.standard_normal(tuple(weight.shape))) / max(weight[0].numel(), 2) ** 0.5)
    return found


def state(grid: str, count: int = 2) -> torch.Tensor:
    return torch.from_numpy(generator(0, "state").standard_normal((count, 3, len(GRIDS[grid]), 20)))


@every_grid
def test_it_is_zero_at_the_start_and_turns_with_the_longitude(grid: str) -> None:
    x, time = state(grid), torch.tensor([0.2, 0.7])
    start = SFNO(3, 2, ("pole", "periodic"), axes=axes(grid), **SMALL)
    assert torch.count_nonzero(start(x.float(), time)) == 0
    found = network(grid)
    y = found(x, time)
    assert y.shape == (2, 2, len(GRIDS[grid]), 20) and y.std() > 0.01
    torch.testing.assert_close(found(x.roll(7, 3), time), y.roll(7, 3), rtol=0, atol=1e-11)
    assert (found(x.flip(2), time) - y.flip(2)).abs().max() > 1e-3  # north is not south


def test_a_layer_is_a_zonal_convolution_that_any_rotation_turns() -> None:
    """All harmonics of a degree, which rotations mix, are multiplied alike, and stay what they are."""
    found = network("Gauss")
    layer, transform = found.layers[0], found.transform
    lat, lon = GRIDS["Gauss"], LON.coordinates
    y = spherical_harmonics(lat, lon, 3)
    x = torch.zeros(1, 8, 10, 20, dtype=torch.float64)
    for index, degree in ((1, 1), (2, 1), (3, 1), (9, 3), (14, 3)):
        x[0, 0] = y[index]
        expected = layer.weight[degree, 0].double()[:, None, None] * y[index]  # type: ignore[union-attr, index]
        torch.testing.assert_close(layer.filtered(x, transform)[0], expected, rtol=0, atol=1e-12)  # type: ignore[operator]


def test_label_parameters_and_gradients_reach_it() -> None:
    found, x = network("Gauss", parameters=1), state("Gauss", 1)
    time, params = torch.tensor([0.5]), torch.tensor([[0.3]])
    y = found(x, time, params)
    for other in (found(x, None, params), found(x, time + 0.1, params), found(x, time, params + 0.2)):
        assert (other - y).abs().max() > 1e-3
    (y * state("Gauss", 1)[:, :2]).sum().backward()
    assert [name for name, weight in found.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_its_weights_can_be_averaged_as_training_does() -> None:
    found = network("cells")
    average = torch.optim.swa_utils.AveragedModel(found, use_buffers=True)
    average.update_parameters(found)
    average.update_parameters(found)
    x = state("cells", 1)
    torch.testing.assert_close(average(x), found(x))


def test_it_learns_a_filter_of_degrees() -> None:
    torch.manual_seed(0)
    found = SFNO(1, 1, ("pole", "periodic"), axes=axes("Gauss"), width=8, depth=1, embedding=8)
    transform = Transform(GRIDS["Gauss"], LON.coordinates)
    x = transform.synthesis(transform.analysis(state("Gauss", 8)[:, :1])).float()
    smooth = transform.synthesis(transform.analysis(x) / (1 + transform.rates[:, None])).float()
    optimiser = torch.optim.Adam(found.parameters(), 1e-2)
    for _ in range(60):
        loss = F.mse_loss(found(x), smooth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.3 * smooth.square().mean().item()


def test_it_needs_a_sphere_its_grid_and_no_latents() -> None:
    flat = (Axis.uniform("x", 8, 1.0), Axis.uniform("y", 8, 1.0))
    for wrong in (flat, None):
        with pytest.raises(ConfigError, match="latitudes from pole to pole, then longitudes over 360 degrees"):
            SFNO(1, 1, ("periodic", "periodic"), axes=wrong)
    with pytest.raises(DataError, match=r"for grids of \(10, 20\), got fields of \(20, 10\)"):
        network("Gauss")(state("Gauss").mT)
    with pytest.raises(DataError, match="degrees up to 9 apart, 12 is asked"):
        network("Gauss", degree=12)
    codec = {"type": "autoencoder", "stem": 2, "widths": [8], "blocks": 1, "latent": 3}
    _, latent = build_codec([codec], Signature(2, ("pole-both", "periodic"), axes=axes("Gauss")))
    assert latent.boundary == ("pole", "periodic")
    with pytest.raises(ConfigError, match="is not for latents"):
        build_stepper({"type": "deterministic", "network": {"type": "sfno", **SMALL}}, replace(latent, axes=None))


def test_it_is_made_saved_and_loaded_by_its_name(tmp_path: Path) -> None:
    layout = Layout(Fields(("h", "u"), ("m", "m s-1")), axes("poles"), 6.0, "h")
    spec = {"type": "deterministic", "network": {"type": "sfno", **SMALL, "degree": 5}}
    emulator = build_emulator(describe(layout, ["standardize"], spec))
    with torch.no_grad():
        for weight in emulator.parameters():
            weight.add_(0.1)
    loaded = load_emulator(save_emulator(emulator, tmp_path / "emulator"))
    u = state("poles")[:, :2].float().numpy()
    first, second = (one.forecast(u, 2)["h"].values for one in (emulator, loaded))
    assert np.isfinite(first).all() and (first == second).all() and (first[:, :, 0] != u[:, 0]).any()
