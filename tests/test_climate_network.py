"""The climate transformer: what it makes of a state on the sphere and of fields on a grid of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from driftway.build import Signature, build_stepper
from driftway.data import Trajectories, save_zarr
from driftway.data.axes import Axis, Fields
from driftway.data.trajectories import Conditioning
from driftway.emulator import Emulator
from driftway.errors import ConfigError
from driftway.networks.climate import ClimateDiT, centres, filled_up
from driftway.networks.dit import Block
from driftway.randomness import generator
from driftway.sphere import spherical_harmonics
from driftway.workflow import fit_autoencoder, fit_stepper, latents
from tests import small

SPHERE = ("pole", "periodic")
TINY: dict[str, Any] = {"width": 16, "depth": 2, "heads": 2, "embedding": 16, "degree": 3}


def sphere(nlat: int, nlon: int, south: bool = False) -> tuple[Axis, Axis]:
    """Gaussian latitudes, from north to south or from `south` to north, and longitudes from Greenwich."""
    lat = np.degrees(np.arcsin(np.polynomial.legendre.leggauss(nlat)[0]))
    lat = lat if south else lat[::-1]
    return (
        Axis("lat", tuple(lat.tolist()), "pole", 180.0, "degrees_north"),
        replace(Axis.uniform("lon", nlon, 360.0), units="degrees_east"),
    )


def draws(*shape: int, key: str = "x") -> Tensor:
    return torch.from_numpy(generator("climate", key).standard_normal(shape))


def made(fields: int = 2, parameters: int = 1, known: tuple[int, int] = (16, 32), **settings: Any) -> ClimateDiT:
    """A small float64 network on 8×16 points, none of whose weights is zero."""
    given = {**TINY, "fields": fields, "parameters": parameters, **settings}
    network = ClimateDiT(3, 2, SPHERE, axes=sphere(8, 16), known_axes=sphere(*known), **given).double()
    rng = generator("weights")
    with torch.no_grad():
        for weight in network.parameters():
            fan = weight[0].numel() if weight.ndim > 1 else 4
            weight.copy_(torch.from_numpy(rng.standard_normal(tuple(weight.shape))) / fan**0.5)
    return network


def asked(network: ClimateDiT, rows: int = 2, known: tuple[int, int] = (16, 32)) -> tuple[Tensor, ...]:
    """A state, a label, parameters and fields for it."""
    return (
        draws(rows, 3, 8, 16),
        torch.linspace(0.2, 0.8, rows),
        draws(rows, 1, key="p"),
        draws(rows, 2, *known, key="f"),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("patch", [1, 2])
def test_shape_type_and_zero_output_at_the_start(dtype: torch.dtype, patch: int) -> None:
    network = ClimateDiT(
        3, 2, SPHERE, parameters=1, fields=2, axes=sphere(8, 16), known_axes=sphere(16, 32), patch=patch, **TINY
    ).to(dtype)
    x, time, params, fields = (part.to(dtype) for part in asked(network))
    y = network(x, time, params, fields)
    assert y.shape == (2, 2, 8, 16) and y.dtype == dtype and torch.count_nonzero(y) == 0


def test_rows_are_stepped_by_themselves() -> None:
    network = made()
    parts = asked(network, 3)
    together = network(*parts)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(network(*(part[order] for part in parts)), together[order], rtol=0, atol=1e-12)
    alone = network(*(part[1:2] for part in parts))
    torch.testing.assert_close(alone, together[1:2], rtol=0, atol=1e-12)
    assert together.std() > 0.01


def test_every_input_and_every_weight_counts() -> None:
    network = made()
    x, time, params, fields = asked(network)
    y = network(x, time, params, fields)
    nearby = fields.clone()
    nearby[:, 1, 5, 7] += 0.5  # one point of one field, on the finer grid
    for other in (network(x, time + 0.1, params, fields), network(x, None, params, fields)):
        assert (other - y).abs().max() > 1e-3
    assert (network(x, time, params + 0.3, fields) - y).abs().max() > 1e-3
    assert (network(x, time, params, nearby) - y).abs().max() > 1e-5
    fields.requires_grad_()
    (network(x, time, params, fields) * draws(*y.shape, key="w")).sum().backward()
    assert fields.grad is not None and bool((fields.grad != 0).all()) and bool(torch.isfinite(fields.grad).all())
    gradients = {name: weight.grad for name, weight in network.named_parameters()}
    assert [name for name, g in gradients.items() if g is None or not g.any() or not torch.isfinite(g).all()] == []


@pytest.mark.parametrize("known", [(16, 32), (8, 16), (13, 22), (5, 6)])
def test_fields_of_any_resolution_are_taken(known: tuple[int, int]) -> None:
    network = made(known=known)
    y = network(*asked(network, known=known))
    assert y.shape == (2, 2, 8, 16) and bool(torch.isfinite(y).all())
    assert network.fields is not None and len(network.fields.place.harmonics) == -(-known[0] // 4) * -(-known[1] // 4)


def test_without_fields_or_parameters_there_is_no_crossing() -> None:
    network = made(fields=0, parameters=0)
    assert not len(network.crossings) and network.fields is None
    assert network(draws(1, 3, 8, 16)).shape == (1, 2, 8, 16)


def test_the_first_half_of_the_blocks_attends_to_fields() -> None:
    for depth, crossed in ((1, 1), (2, 1), (5, 3), (12, 6)):
        network = made(depth=depth)
        assert len(network.blocks) == depth and len(network.crossings) == crossed


def test_places_are_harmonics_at_the_middle_of_cells() -> None:
    network, axes = made(), sphere(16, 32)
    assert network.fields is not None
    lat, lon = (np.asarray(axis.coordinates).reshape(-1, 4).mean(1) for axis in axes)
    expected = spherical_harmonics(lat.tolist(), lon.tolist(), 3).flatten(1).mT
    torch.testing.assert_close(network.fields.place.harmonics.double(), expected, rtol=0, atol=1e-6)
    grid = spherical_harmonics(*(axis.coordinates for axis in sphere(8, 16)), 3).flatten(1).mT
    torch.testing.assert_close(network.place.harmonics.double(), grid, rtol=0, atol=1e-6)


def test_a_grid_that_runs_the_other_way_makes_the_same_of_the_same_earth() -> None:
    """State, fields and coordinates turned over in latitude, the answer is turned over as well."""
    network, turned = made(), made()
    turned.place.harmonics = network.place.harmonics.unflatten(0, (8, 16)).flip(0).flatten(0, 1)
    south = ClimateDiT(
        3, 2, SPHERE, fields=2, parameters=1, axes=sphere(8, 16, True), known_axes=sphere(16, 32, True), **TINY
    )
    torch.testing.assert_close(south.place.harmonics.double(), turned.place.harmonics.double(), rtol=0, atol=1e-6)
    south = south.double()
    south.load_state_dict(network.state_dict())
    x, time, params, fields = asked(network)
    with torch.no_grad():  # the cells of the fields see their points turned over too
        south.fields.cells.weight.copy_(network.fields.cells.weight.flip(2))  # type: ignore[union-attr]
    expected = network(x, time, params, fields).flip(2)
    torch.testing.assert_close(south(x.flip(2), time, params, fields.flip(2)), expected, rtol=0, atol=1e-6)


def test_cells_are_filled_up_across_the_date_line() -> None:
    axis = Axis.uniform("lon", 6, 360.0)
    assert centres(axis, 4).tolist() == [90.0, 330.0]  # 240, 300, 360 and 420 degrees
    west = Axis("lon", tuple(range(300, -60, -60)), "periodic", 360.0)
    assert centres(west, 4).tolist() == [210.0, -30.0]
    assert centres(sphere(6, 8)[0], 6).tolist() == pytest.approx([0.0], abs=1e-12)
    x = torch.arange(6.0).expand(1, 1, 4, 6)
    assert filled_up(x, ("open", "periodic"), 4)[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
    assert filled_up(x, ("open", "periodic"), 4).shape == (1, 1, 4, 8)


@pytest.mark.parametrize(
    ("boundary", "axes"),
    [
        (SPHERE, None),
        (("wall", "periodic"), (Axis("x", (0.0, 1.0), "wall"), Axis.uniform("y", 16, 360.0))),
        (SPHERE, (sphere(8, 16)[0], Axis.uniform("lon", 16, 6.28))),
        (("periodic",), (Axis.uniform("x", 16, 360.0),)),
    ],
    ids=["none", "walls", "radians", "line"],
)
def test_other_axes_are_refused(boundary: tuple[str, ...], axes: tuple[Axis, ...] | None) -> None:
    with pytest.raises(ConfigError, match=r"latitude with boundary 'pole'.*correct the data's axes"):
        ClimateDiT(3, 2, boundary, axes=axes, **TINY)


def test_a_wrong_grid_is_named() -> None:
    network = made()
    x, time, params, fields = asked(network)
    with pytest.raises(ConfigError, match=r"grid of \(8, 16\) and got \(8, 8\)"):
        network(x[..., :8], time, params, fields)
    with pytest.raises(ConfigError, match=r"known fields \(2, 16, 32\) per state and got none"):
        network(x, time, params)
    with pytest.raises(ConfigError, match=r"got \(2, 8, 16\)"):
        network(x, time, params, fields[..., :8, :16])
    with pytest.raises(ConfigError, match="a width that its heads divide"):
        made(heads=3)


def test_at_the_published_size_it_has_about_the_published_weights() -> None:
    """Published: 313.1 million (arXiv 2509.26282's code), within 1 %."""
    with torch.device("meta"):
        network = ClimateDiT(
            64,
            32,
            SPHERE,
            parameters=2,
            fields=6,
            axes=sphere(16, 32),
            known_axes=sphere(64, 128),
            width=1024,
            depth=12,
            heads=16,
            embedding=1024,
        )
    assert sum(weight.numel() for weight in network.parameters()) == pytest.approx(313.1e6, rel=0.01)
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    assert len(blocks) == 12 and len(network.place.harmonics) == 512
    assert network.fields is not None and len(network.fields.place.harmonics) == 512


# --- in a run -------------------------------------------------------------------------------------------------------


def planet(count: int = 10, frames: int = 5, nlat: int = 8, nlon: int = 16) -> Trajectories:
    """Random states of a small planet with a static field and a forcing in the units of their kind."""
    rng, axes = generator("planet"), sphere(nlat, nlon)
    forcing = 300 + 50 * rng.standard_normal((frames, nlat, nlon))
    means = np.array([280.0, 5500.0])[:, None, None]
    states = means + rng.standard_normal((count, frames, 2, nlat, nlon)) + forcing[None, :, None] / 50
    return Trajectories(
        states.astype(np.float32),
        Fields(("tas", "zg500"), ("K", "m")),
        axes,
        6.0,
        "h",
        static={"sg": 4e4 * rng.random((nlat, nlon), dtype=np.float32)},
        forcing={"sst": forcing.astype(np.float32)},
        splits=("train",) * 6 + ("valid",) * 2 + ("test",) * 2,
    )


NETWORK = {"type": "climate_dit", **TINY, "stride": 2}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoencoder of a small planet and a stepper on its latents."""
    folder = tmp_path_factory.mktemp("planet")
    data = save_zarr(planet(), folder / "planet.zarr")
    codec = ["standardize", {"type": "autoencoder", "stem": 2, "widths": [8], "blocks": 1, "latent": 3}]
    fit_autoencoder(small.experiment(folder, data, "autoencoder", codec=codec), folder / "autoencoder")
    codec = [{"type": "run", "path": str(folder / "autoencoder")}, "standardize"]
    stepper = {"type": "generative", "network": NETWORK}
    fit_stepper(small.experiment(folder, data, "generative", codec=codec, stepper=stepper), folder / "run")
    return folder


def test_latents_keep_the_fields_of_the_data(runs: Path) -> None:
    data = planet()
    found = latents(runs / "autoencoder", Emulator.load(runs / "autoencoder"), data)
    assert found.shape == (10, 5, 3, 4, 8)
    known = found.split("valid").conditioning(np.array([0, 1]), np.array([2, 3]))
    expected = data.split("valid").conditioning(np.array([0, 1]), np.array([2, 3]))
    assert known.fields is not None and expected.fields is not None and known.fields.shape == (2, 2, 8, 16)
    assert torch.equal(known.fields, expected.fields)


def test_a_run_sees_the_fields_at_their_own_resolution(runs: Path) -> None:
    emulator, data = Emulator.load(runs / "run"), planet().split("test")
    network: Any = emulator.stepper.network  # type: ignore[attr-defined]
    assert network.sizes == (4, 8) and network.fields.shape == (2, 8, 16)
    rows = np.arange(2)
    known = data.conditioning(rows, 0 * rows)
    assert known.fields is not None
    first = torch.as_tensor(np.asarray(data.states)[:, 0])
    one = emulator.forecast(first, 2, 2, conditioning=known)["tas"].values
    again = emulator.forecast(first, 2, 2, conditioning=known)["tas"].values
    assert np.isfinite(one).all() and np.array_equal(one, again)
    checkered = known.fields.clone()  # has the same mean in every cell of the latent grid
    checkered[:, 1, ::2] += 40
    checkered[:, 1, 1::2] -= 40
    other = emulator.forecast(first, 2, 2, conditioning=Conditioning(checkered))["tas"].values
    assert np.abs(other - one).max() > 0


def test_fields_enter_in_standard_deviations_of_the_training_split(runs: Path) -> None:
    emulator, data = Emulator.load(runs / "run"), planet()
    scale: Any = emulator.stepper.known  # type: ignore[attr-defined]
    for k, values in enumerate((data.static["sg"], data.forcing["sst"])):
        assert float(scale.mean[k]) == pytest.approx(values.mean(), rel=1e-5)
        assert float(scale.std[k]) == pytest.approx(values.std(), rel=1e-5)


def test_other_networks_see_them_joined_and_in_standard_deviations() -> None:
    seen = []

    class Watching(torch.nn.Module):
        def forward(self, x: Tensor, time: Tensor | None, params: Tensor | None) -> Tensor:
            seen.append(x)
            return x[:, :1]

    stepper: Any = build_stepper({"type": "deterministic", "network": "unet"}, Signature(1, SPHERE, fields=1))
    stepper.network = Watching()
    stepper.scale_fields([300.0], [50.0])
    stepper.step(torch.zeros(1, 1, 4, 8), Conditioning(torch.full((1, 1, 8, 16), 350.0)))
    assert torch.equal(seen[0][:, 1], torch.ones(1, 4, 8))
