"""Axes that end at poles: what they must be, and how fields and convolutions go on over a pole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from driftway.data.axes import Axis, Fields, is_sphere
from driftway.data.layout import Layout
from driftway.data.trajectories import Trajectories
from driftway.errors import ConfigError, DataError
from driftway.networks import NETWORKS, Autoencoder
from driftway.networks.layers import Conv, folded, pad
from driftway.randomness import generator
from driftway.sphere import POLES, poles

CELLS = np.linspace(-84.375, 84.375, 16)
LON = np.arange(12) * 30.0
ROWS = {
    "pole": CELLS,
    "pole-both": np.linspace(90, -90, 13),
    "pole-first": 90 - 10.0 * np.arange(18),  # the south pole cut off, so that the number of rows is even
    "pole-last": -85 + 5.0 * np.arange(36),
}
every_pole = pytest.mark.parametrize("kind", list(POLES))
SMALL: dict[str, dict[str, Any]] = {
    "unet": {"width": 16, "multipliers": (1, 2), "blocks": 1, "embedding": 16},
    "dit": {"width": 32, "depth": 1, "heads": 2, "patch": 2, "embedding": 16},
    "fno": {"width": 8, "depth": 1, "modes": 3, "embedding": 16},
}


def lat(rows: np.ndarray, **options: Any) -> Axis:
    return Axis("lat", tuple(rows.tolist()), "pole", **{"units": "degrees_north", **options})


def lon(count: int, length: float = 360.0) -> Axis:
    return Axis.uniform("lon", count, length, units="degrees_east")


def smooth(rows: np.ndarray, longitudes: np.ndarray) -> Tensor:
    """A smooth function of the place on the sphere, also at latitudes that are counted on over a pole."""
    phi, lam = np.deg2rad(rows)[:, None], np.deg2rad(longitudes)
    x, y, z = np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi) + 0 * lam
    return torch.from_numpy(np.exp(x - 0.5 * y) + z * np.sin(2 * x + y) + z**3)[None, None]


def beyond(rows: np.ndarray, amount: int) -> np.ndarray:
    """The rows with those that lie over the poles: as far behind a pole as their images are before it."""
    sign = 1 if rows[0] < rows[-1] else -1
    first, last = int(abs(rows[0]) == 90), int(abs(rows[-1]) == 90)
    before, after = rows[first : first + amount][::-1], rows[len(rows) - last - amount : len(rows) - last][::-1]
    return np.concatenate([-180 * sign - before, rows, 180 * sign - after])


@every_pole
@pytest.mark.parametrize("amount", [1, 3])
def test_padding_is_the_same_function_over_the_poles_and_across_the_date_line(kind: str, amount: int) -> None:
    rows = ROWS[kind]
    extended = beyond(rows, amount)
    assert (np.diff(extended) > 0).all() or (np.diff(extended) < 0).all()
    longitudes = 30.0 * np.arange(-amount, 12 + amount)
    assert poles(tuple(rows)) == kind
    found = pad(smooth(rows, LON), (kind, "periodic"), amount)
    torch.testing.assert_close(found, smooth(extended, longitudes), rtol=0, atol=1e-12)


def test_gaussian_rows_go_on_over_the_poles_too() -> None:
    rows = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(16)[0]))[::-1]
    found = pad(smooth(rows, LON), ("pole", "periodic"), (2, 0))
    torch.testing.assert_close(found, smooth(beyond(rows, 2), LON), rtol=0, atol=1e-12)


def test_levels_may_come_before_latitudes() -> None:
    x = torch.cat([smooth(CELLS, LON), 2 * smooth(CELLS, LON)], 0)[:, 0][None, None]  # (1, 1, level, lat, lon)
    found = pad(x, ("wall", "pole", "periodic"), (0, 1, 1))
    flat = pad(smooth(CELLS, LON), ("pole", "periodic"), 1)[0, 0]
    torch.testing.assert_close(found[0, 0], torch.stack([flat, 2 * flat]))


@every_pole
def test_padding_over_poles_has_the_gradient_of_its_definition(kind: str) -> None:
    x = torch.from_numpy(generator(0, "poles").standard_normal((1, 2, 4, 4))).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: pad(v, (kind, "periodic"), 2), (x,))


def test_a_convolution_reads_the_meridian_opposite() -> None:
    conv = Conv(1, 1, ("pole", "periodic"))
    with torch.no_grad():
        conv.taps.weight.zero_()
        conv.taps.weight[0, 0, 0, 1] = 1  # the row before
        conv.taps.bias.zero_()  # type: ignore[union-attr]
        x = torch.arange(12.0).reshape(1, 1, 3, 4)
        assert conv(x)[0, 0].tolist() == [[2, 3, 0, 1], [0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("boundary", "found"),
    [(("pole", "periodic"), "7 periodic"), (("pole", "wall"), "7 wall"), (("periodic", "pole"), "nothing")],
)
def test_poles_without_opposite_meridians_are_refused(boundary: tuple[str, str], found: str) -> None:
    with pytest.raises(ConfigError, match=f"even number of periodic longitudes, not by {found}"):
        pad(torch.zeros(1, 1, 6, 7), boundary, 1)


# --- networks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize("kind", ["pole", "pole-first"])
def test_networks_turn_with_the_longitude(name: str, kind: str) -> None:
    network = NETWORKS[name](2, 2, (kind, "periodic"), **SMALL[name]).double()
    randomise(network)
    rows = ROWS[kind]
    x = torch.cat([smooth(rows, LON), smooth(rows, LON).square()], 1)
    y = network(x)
    assert y.shape == x.shape and y.std() > 1e-3
    torch.testing.assert_close(network(x.roll(4, 3)), y.roll(4, 3), rtol=0, atol=1e-9)


def test_a_convolution_network_feels_what_lies_over_the_pole() -> None:
    network = NETWORKS["unet"](1, 1, ("pole", "periodic"), width=16, blocks=1, embedding=16).double()
    randomise(network)
    x = smooth(CELLS, np.arange(32) * 11.25).requires_grad_()
    network(x)[0, 0, 0, 0].backward()
    assert x.grad is not None
    felt = x.grad[0, 0, 0].abs()  # mean and variance of the norm reach every point, convolutions their neighbours
    assert felt[16] > 10 * max(felt[8], felt[24])


def randomise(network: nn.Module) -> None:
    rng = generator(0, "weights")
    with torch.no_grad():
        for parameter in network.parameters():
            fan = max(parameter[0].numel(), 1) if parameter.ndim > 1 else 4
            parameter.copy_(torch.from_numpy(rng.standard_normal(tuple(parameter.shape))) / fan**0.5)


def test_blocks_of_rows_never_lie_on_a_pole() -> None:
    assert folded(("pole-first", "periodic"), 2) == ("pole", "periodic")
    assert folded(("pole-first", "periodic"), 1) == ("pole-first", "periodic")
    codec = Autoencoder(1, ("pole-first", "periodic"), stem=1, widths=(8, 8), latent=2, blocks=1)
    ends = [module.boundary[0] for module in codec.modules() if isinstance(module, Conv)]
    assert "pole-first" in ends and ends[-1] == "pole"
    u = smooth(ROWS["pole-first"], LON).float()
    assert codec.decode(codec.encode(u)).shape == u.shape


# --- axes ----------------------------------------------------------------------------------------------------------


def test_latitudes_span_half_a_circle_and_say_where_they_meet_a_pole() -> None:
    for kind, rows in ROWS.items():
        axis = lat(rows)
        assert axis.length == 180 and axis.continuation == kind and axis.boundary == "pole"
    layout = Layout(Fields(("u",), ("m",)), (lat(ROWS["pole-both"]), lon(12)), 1.0)
    assert layout.boundary == ("pole-both", "periodic")
    assert is_sphere(layout.axes) and not is_sphere(layout.axes[1:])


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (np.linspace(-91, 91, 8), {}, "latitudes from -91 to 91, must lie within −90 … 90"),
        (np.deg2rad(CELLS), {"units": "rad"}, "units 'rad' of latitudes, must be degrees_north"),
        (CELLS[:8], {"length": 90.0}, "length = 90, is 180 from pole to pole"),
    ],
)
def test_what_is_no_latitude_is_refused(rows: np.ndarray, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        lat(rows, **options)


@pytest.mark.parametrize(
    ("after", "found"),
    [((lon(11),), "11 periodic points over 360"), ((lon(12, 180.0),), "12 periodic points over 180"), ((), "no axis")],
)
def test_a_data_set_on_the_sphere_has_meridians_opposite(after: tuple[Axis, ...], found: str) -> None:
    states = np.zeros((1, 2, 1, 16, *map(len, after)), np.float32)
    with pytest.raises(DataError, match=f"even number of periodic longitudes over 360 degrees, not by {found}"):
        Trajectories(states, Fields(("u",), ("m",)), (lat(CELLS), *after), 1.0)
