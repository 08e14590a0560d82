"""Networks: what a shift, a batch neighbour, a label and a boundary may and may not do to the output."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from driftway.errors import ConfigError
from driftway.networks import NETWORKS
from driftway.networks.dit import rotate, rotations
from driftway.networks.fno import SpectralConv
from driftway.networks.layers import Conv, Sinusoids, pad, shuffle, unshuffle
from driftway.randomness import generator

SMALL: dict[str, dict[str, Any]] = {
    "unet": {"width": 16, "multipliers": (1, 2), "blocks": 1, "embedding": 16},
    "dit": {"width": 32, "depth": 2, "heads": 2, "patch": 2, "embedding": 16},
    "fno": {"width": 8, "depth": 2, "modes": 3, "embedding": 16},
}
GRIDS = [(16,), (8, 12), (4, 6, 8)]
every_network = pytest.mark.parametrize("name", list(SMALL))  # on any axes; spheres have tests of their own
every_grid = pytest.mark.parametrize("sizes", GRIDS, ids=str)


def noise(*shape: int, key: str = "x") -> Tensor:
    return torch.from_numpy(generator(0, "networks", key).standard_normal(shape))


def build(name: str, boundary: tuple[str, ...], parameters: int = 0) -> nn.Module:
    """A small float64 network from 3 to 2 channels whose weights are all random, also those that start at zero."""
    network = NETWORKS[name](3, 2, boundary, parameters=parameters, **SMALL[name]).double()
    randomise(network)
    return network


def randomise(network: nn.Module) -> None:
    rng = generator(0, "weights")
    with torch.no_grad():
        for parameter in network.parameters():
            fan = max(parameter[0].numel(), 1) if parameter.ndim > 1 else 4
            parameter.copy_(torch.from_numpy(rng.standard_normal(tuple(parameter.shape))) / fan**0.5)


def periodic(sizes: tuple[int, ...]) -> tuple[str, ...]:
    return ("periodic",) * len(sizes)


@every_network
@every_grid
@pytest.mark.parametrize("kind", ["periodic", "wall", "open"])
def test_shapes_and_zero_output_at_the_start(name: str, sizes: tuple[int, ...], kind: str) -> None:
    network = NETWORKS[name](3, 2, (kind,) * len(sizes), parameters=1, **SMALL[name])
    y = network(noise(2, 3, *sizes).float(), torch.tensor([0.1, 0.9]), torch.tensor([[0.0], [1.0]]))
    assert y.shape == (2, 2, *sizes) and y.dtype == torch.float32
    assert torch.count_nonzero(y) == 0


@every_network
@every_grid
def test_a_shift_of_the_input_shifts_the_output(name: str, sizes: tuple[int, ...]) -> None:
    network, x, time = build(name, periodic(sizes)), noise(2, 3, *sizes), torch.tensor([0.3, 0.6])
    shifts, axes = tuple(2 * (k + 1) for k in range(len(sizes))), tuple(range(2, 2 + len(sizes)))
    y = network(x, time)
    assert y.std() > 0.01
    torch.testing.assert_close(network(x.roll(shifts, axes), time), y.roll(shifts, axes), rtol=0, atol=1e-10)


@every_network
@pytest.mark.parametrize("kind", ["wall", "open"])
def test_only_periodic_axes_allow_shifts(name: str, kind: str) -> None:
    network, x = build(name, ("periodic", kind)), noise(2, 3, 8, 12)
    y = network(x)
    torch.testing.assert_close(network(x.roll(2, 2)), y.roll(2, 2), rtol=0, atol=1e-10)
    assert (network(x.roll(2, 3)) - y.roll(2, 3)).abs().max() > 1e-3


@every_network
def test_a_wall_is_not_a_seam(name: str) -> None:
    x = noise(2, 3, 8, 12)
    closed, wrapped = build(name, ("wall", "wall")), build(name, periodic((8, 12)))
    state = {k: v for k, v in closed.state_dict().items() if k in wrapped.state_dict()}
    lift = next(k for k in state if k.startswith("lift") and k.endswith("weight"))
    folds = state[lift].shape[1] // 5  # three channels and one coordinate for each wall
    wrapped.load_state_dict(state | {lift: state[lift][:, : 3 * folds]})
    assert (closed(x) - wrapped(x)).abs().max() > 1e-3


@every_network
def test_time_and_parameters_matter_and_need_each_other_not(name: str) -> None:
    network, x = build(name, periodic((8, 8)), parameters=2), noise(1, 3, 8, 8)
    time, params = torch.tensor([0.5]), torch.tensor([[0.2, -0.4]])
    y = network(x, time, params)
    for other in (
        network(x, time + 0.05, params),
        network(x, None, params),
        network(x, time, params + torch.tensor([[0.1, 0.0]])),
        network(x, time, params + torch.tensor([[0.0, 0.1]])),
    ):
        assert (other - y).abs().max() > 1e-3


@every_network
def test_a_network_for_parameters_wants_them_all(name: str) -> None:
    network = build(name, periodic((8, 8)), parameters=2)
    with pytest.raises(ConfigError, match="built for 2 parameters"):
        network(noise(1, 3, 8, 8))
    with pytest.raises(ConfigError, match="got 1"):
        network(noise(1, 3, 8, 8), None, torch.ones(1, 1))


@every_network
def test_a_state_does_not_see_its_batch_neighbours(name: str) -> None:
    network, x, time = build(name, periodic((8, 8))), noise(3, 3, 8, 8), torch.tensor([0.1, 0.5, 0.9])
    together = network(x, time)
    alone = torch.cat([network(x[k : k + 1], time[k : k + 1]) for k in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


@every_network
@pytest.mark.parametrize("boundary", [("periodic", "periodic"), ("wall", "periodic")])
def test_gradients_reach_every_parameter(name: str, boundary: tuple[str, ...]) -> None:
    network = build(name, boundary, parameters=1)
    y = network(noise(2, 3, 8, 12), torch.tensor([0.2, 0.7]), torch.tensor([[0.3], [-1.0]]))
    (y * noise(*y.shape, key="weights of the outputs")).sum().backward()
    missing = [k for k, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []


@every_network
def test_a_zero_output_still_learns(name: str) -> None:
    network = NETWORKS[name](3, 2, periodic((8, 8)), **SMALL[name]).double()
    x = noise(4, 3, 8, 8)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        loss = F.mse_loss(network(x), x[:, :2].roll(2, 2))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.parametrize(("name", "sizes", "multiple"), [("unet", (7, 8), 2), ("dit", (8, 9), 2)], ids=["unet", "dit"])
def test_sizes_that_do_not_fit_are_named(name: str, sizes: tuple[int, int], multiple: int) -> None:
    with pytest.raises(ConfigError, match=rf"multiples of {multiple}, got \({sizes[0]}, {sizes[1]}\)"):
        build(name, periodic(sizes))(noise(1, 3, *sizes))


def test_one_resolution_takes_any_size() -> None:
    network = NETWORKS["unet"](3, 2, periodic((5, 7)), width=8, blocks=1)
    assert network(noise(1, 3, 5, 7).float()).shape == (1, 2, 5, 7)


@pytest.mark.parametrize(("width", "heads"), [(30, 4), (20, 4), (4, 2)])
def test_heads_that_cannot_be_rotated_are_refused(width: int, heads: int) -> None:
    with pytest.raises(ConfigError, match=f"width {width} over {heads} heads"):
        NETWORKS["dit"](3, 2, periodic((8, 8)), width=width, heads=heads)


def test_half_precision_labels_do_not_change_the_output_type() -> None:
    network = build("unet", periodic((8, 8)))
    assert network(noise(1, 3, 8, 8), torch.tensor([0.5], dtype=torch.float32)).dtype == torch.float64


# --- layers ---------------------------------------------------------------------------------------------------------

MODES = {"periodic": "wrap", "wall": "edge", "open": "edge"}
kinds = st.sampled_from(list(MODES))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(kinds, st.integers(3, 5), st.integers(0, 3)), min_size=1, max_size=3))
def test_padding_is_numpys(axes: list[tuple[str, int, int]]) -> None:
    boundary, sizes, amounts = zip(*axes, strict=True)
    x = noise(2, 2, *sizes)
    expected = x.numpy()
    for axis, (kind, amount) in enumerate(zip(boundary, amounts, strict=True), start=2):
        ends = [(amount, amount) if k == axis else (0, 0) for k in range(x.ndim)]
        expected = np.pad(expected, ends, mode=MODES[kind])  # type: ignore[call-overload]
    np.testing.assert_array_equal(pad(x, boundary, amounts).numpy(), expected)


@pytest.mark.parametrize("boundary", [("periodic",), ("periodic", "wall"), ("open", "periodic", "periodic")])
def test_padding_has_the_gradient_of_its_definition(boundary: tuple[str, ...]) -> None:
    x = noise(1, 2, *(3, 4, 3)[: len(boundary)]).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: pad(v, boundary, 2), (x,))


def test_a_convolution_wraps_or_repeats() -> None:
    wrapped, closed = Conv(1, 1, ("periodic",)), Conv(1, 1, ("wall",))
    for conv in (wrapped, closed):
        with torch.no_grad():
            conv.taps.weight.copy_(torch.tensor([[[1.0, 0.0, 0.0]]]))
            conv.taps.bias.zero_()  # type: ignore[union-attr]
    x = torch.tensor([[[1.0, 2.0, 3.0]]])
    assert wrapped(x).tolist() == [[[3.0, 1.0, 2.0]]]
    assert closed(x).tolist() == [[[1.0, 1.0, 2.0]]]


@every_grid
@pytest.mark.parametrize("factor", [1, 2])
def test_folding_space_is_undone(sizes: tuple[int, ...], factor: int) -> None:
    x = noise(2, 3, *sizes)
    folded = unshuffle(x, factor)
    assert folded.shape == (2, 3 * factor ** len(sizes), *(n // factor for n in sizes))
    assert torch.equal(shuffle(folded, factor), x)
    if factor == 2:  # the second channel of the first fold is the neighbour along the last axis
        odd = (slice(None), 0, *[slice(0, None, 2)] * (len(sizes) - 1), slice(1, None, 2))
        assert torch.equal(folded[:, 1], x[odd])


def test_near_times_look_alike_and_different_times_do_not() -> None:
    waves = Sinusoids(1.0, 200.0)
    times = torch.linspace(-1.7, 1.2, 300, dtype=torch.float64)
    features = waves(times[:, None])
    assert features.shape == (300, 64)
    distances = torch.cdist(features, features)
    gaps = (times[:, None] - times).abs()
    # A step of 1e-3 turns the fastest wave by 0.2 rad, little next to the √128 between opposites.
    step = (waves(times[:, None] + 1e-3) - features).norm(dim=1)
    assert step.min() > 0.2 and step.max() < 1.0
    assert distances[gaps > 0.02].min() > 2.0


# --- rotations ------------------------------------------------------------------------------------------------------


def test_rotated_products_depend_on_the_distance_only() -> None:
    sizes, boundary = (6, 5), ("periodic", "wall")
    q, k = noise(16, key="q"), noise(16, key="k")
    turned = rotations(sizes, boundary, 16)
    products = rotate(q.expand(1, 1, 30, 16), turned) @ rotate(k.expand(1, 1, 30, 16), turned).mT
    table = products.reshape(6, 5, 6, 5)
    expected = table[0, 0]
    for i in range(6):
        torch.testing.assert_close(table[i, 0].roll(-i, 0), expected, rtol=0, atol=1e-12)
    for j in range(5):
        torch.testing.assert_close(table[0, j, :, j:], expected[:, : 5 - j], rtol=0, atol=1e-12)
    assert (table[0, 4, 0, 0] - table[0, 0, 0, 1]).abs() > 1e-3  # the ends of a wall axis are not neighbours
    assert len({round(v, 9) for v in expected.flatten().tolist()}) == 30  # every distance is told apart


# --- Fourier layers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(9,), (8, 7), (5, 4, 6)], ids=str)
def test_the_spectral_convolution_is_a_sum_over_wavenumbers(sizes: tuple[int, ...]) -> None:
    modes, width = 2, 2
    layer = SpectralConv(width, modes, len(sizes)).double()
    randomise(layer)
    x = noise(1, width, *sizes)
    matrices = torch.view_as_complex(layer.weight.detach()).numpy()
    spectrum = np.fft.fftn(x.numpy(), axes=range(2, x.ndim))
    full = np.zeros_like(spectrum)
    limits = [min(modes, (n - 1) // 2) for n in sizes]
    for k in np.ndindex(*[2 * m + 1 for m in limits]):
        wave = tuple(int(v) - m for v, m in zip(k, limits, strict=True))
        if wave[-1] >= 0:  # one half of the plane carries the weights
            place = (*(v + modes for v in wave[:-1]), wave[-1])
            image = spectrum[(0, slice(None), *wave)] @ matrices[place]
            # Twice the real part makes up for the missing half; the plane k = 0 is its own mirror image.
            full[(0, slice(None), *wave)] += image * (1 if wave[-1] == 0 else 2)
    expected = np.fft.ifftn(full, axes=range(2, x.ndim)).real
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=0, atol=1e-12)


def test_a_fourier_operator_takes_other_grids() -> None:
    """A smooth field on a finer grid gives the same output: the operator belongs to the field, not the grid."""
    network = build("fno", ("periodic",))

    def field(n: int) -> Tensor:
        x = torch.arange(n, dtype=torch.float64) * (2 * torch.pi / n)
        return torch.stack([x.sin(), (2 * x).cos(), (x + 1).sin()])[None]

    # Only the nonlinearity's high wavenumbers, which fall on others on the coarse grid, make a difference.
    torch.testing.assert_close(network(field(128))[..., ::2], network(field(64)), rtol=0, atol=1e-3)
