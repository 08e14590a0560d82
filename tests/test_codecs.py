"""Codecs: what is encoded comes back, standardised fields are standard, and chains run in order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from driftway.codecs import Chain, Identity, Standardize
from driftway.errors import DataError

MEAN, STD = [3.0, -0.5, 100.0], [2.0, 0.1, 7.0]


class Power(nn.Module):
    """u ↦ sign(u) |u|^p, with p scaled by the first parameter: does not commute with a standardisation."""

    def __init__(self, power: float):
        super().__init__()
        self.power = power

    def encode(self, u: Tensor, params: Tensor | None = None) -> Tensor:
        return self._apply_power(u, self.power, params)

    def decode(self, v: Tensor, params: Tensor | None = None) -> Tensor:
        return self._apply_power(v, 1 / self.power, params, -1)

    def _apply_power(self, u: Tensor, power: float, params: Tensor | None, sign: int = 1) -> Tensor:
        exponents = power if params is None else power * params[:, :1, None, None] ** sign
        return u.sign() * u.abs() ** exponents


@pytest.mark.parametrize("shape", [(5,), (5, 4), (5, 4, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_standardisation_inverts_to_rounding(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    u = torch.randn(2, 3, *shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    u = u * torch.tensor(STD).reshape(3, *(1,) * len(shape)) + torch.tensor(MEAN).reshape(3, *(1,) * len(shape))
    codec = Standardize(3).fit(MEAN, STD)
    v = codec.encode(u)
    assert v.dtype == dtype and v.shape == u.shape
    assert torch.allclose(codec.decode(v), u, rtol=4 * torch.finfo(dtype).eps, atol=0)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3)), min_size=1, max_size=4))
def test_standardised_channels_have_mean_0_and_deviation_1(channels: list[tuple[float, float]]) -> None:
    z = torch.randn(8, len(channels), 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mean, std = torch.tensor(channels, dtype=torch.float64).T.reshape(2, -1, 1)
    u = mean + std * z
    moments = u.mean((0, 2)).tolist(), u.std((0, 2), correction=0).tolist()
    v = Standardize(len(channels)).double().fit(*moments).encode(u)
    assert v.mean((0, 2)).abs().max() < 1e-8
    assert (v.std((0, 2), correction=0) - 1).abs().max() < 1e-8


def test_a_standardisation_in_double_precision_keeps_its_digits() -> None:
    codec = Standardize(1).double().fit([0.1], [0.3])
    assert codec.encode(torch.tensor([[[0.4]]], dtype=torch.float64)).item() == (0.4 - 0.1) / 0.3


def test_an_unfitted_standardisation_changes_nothing() -> None:
    u = torch.randn(2, 3, 4)
    assert torch.equal(Standardize(3).encode(u), u)


def test_one_mean_and_deviation_per_channel_are_needed() -> None:
    with pytest.raises(DataError, match="3 channels need one mean and std each, got 2 and 3"):
        Standardize(3).fit([0.0, 1.0], STD)


def test_one_deviation_for_all_channels_keeps_their_ratios_and_the_mean_square() -> None:
    u = torch.randn(64, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    u = u * torch.tensor(STD).reshape(3, 1) + torch.tensor(MEAN).reshape(3, 1)
    moments = u.mean((0, 2)).tolist(), u.std((0, 2), correction=0).tolist()
    codec = Standardize(3, per="all").double().fit(*moments)
    v = codec.encode(u)
    assert v.mean((0, 2)).abs().max() < 1e-12
    assert v.square().mean().item() == pytest.approx(1)
    distances = (u[1:] - u[:-1]).square().sum((1, 2)).sqrt(), (v[1:] - v[:-1]).square().sum((1, 2)).sqrt()
    assert torch.allclose(distances[0] / distances[1], distances[0][0] / distances[1][0])
    assert torch.allclose(codec.decode(v), u)


def test_mean_and_deviation_are_saved_with_the_weights() -> None:
    codec = Chain(Standardize(3).fit(MEAN, STD), Identity())
    fresh = Chain(Standardize(3), Identity())
    fresh.load_state_dict(codec.state_dict())
    u = torch.randn(2, 3, 5)
    assert torch.equal(fresh.encode(u), codec.encode(u))


def test_the_identity_is_one() -> None:
    u = torch.randn(2, 3, 4)
    assert Identity().encode(u) is u
    assert Identity().decode(u) is u


def test_a_chain_encodes_from_first_to_last_and_decodes_back() -> None:
    scale, power = Standardize(3).double().fit(MEAN, STD), Power(3.0)
    u = torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    mean, std = (torch.tensor(values, dtype=torch.float64).reshape(3, 1, 1) for values in (MEAN, STD))
    assert torch.allclose(Chain(scale, power).encode(u), ((u - mean) / std) ** 3, rtol=1e-12)
    assert torch.allclose(Chain(power, scale).encode(u), (u**3 - mean) / std, rtol=1e-12)
    for chain in (Chain(scale, power), Chain(power, scale), Chain(Chain(power, scale), Identity(), scale), Chain()):
        assert torch.allclose(chain.decode(chain.encode(u)), u, rtol=1e-9)


def test_a_chain_hands_parameters_to_every_codec() -> None:
    chain, params = Chain(Power(2.0), Identity(), Power(3.0)), torch.tensor([[1.0], [0.5]], dtype=torch.float64)
    u = torch.rand(2, 3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 0.5
    powers = torch.tensor([6.0, 1.5], dtype=torch.float64).reshape(2, 1, 1, 1)
    assert torch.allclose(chain.encode(u, params), u**powers, rtol=1e-12)
    assert torch.allclose(chain.decode(chain.encode(u, params), params), u, rtol=1e-12)
