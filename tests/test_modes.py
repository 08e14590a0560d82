"""Modes are scipy's Fourier and cosine transforms, and orthonormal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import scipy.fft
import torch
from torch import Tensor

from driftway.modes import from_modes, to_modes
from driftway.randomness import generator

CASES = [
    (("periodic",), (9,)),
    (("periodic", "periodic"), (8, 6)),
    (("wall", "periodic"), (5, 8)),
    (("periodic", "wall"), (8, 5)),
    (("open",), (7,)),
    (("wall", "periodic", "periodic"), (4, 6, 5)),
]


def fields(size: Sequence[int]) -> Tensor:
    return torch.from_numpy(generator("modes", *size).standard_normal((3, 2, *size)))


@pytest.mark.parametrize(("boundary", "size"), CASES)
def test_modes_are_scipys_transforms(boundary: tuple[str, ...], size: tuple[int, ...]) -> None:
    expected = fields(size).numpy()
    waves = [axis for axis, name in enumerate(boundary, 2) if name == "periodic"]
    for axis in set(range(2, 2 + len(size))) - set(waves):
        expected = scipy.fft.dct(expected, axis=axis, norm="ortho")
    expected = scipy.fft.rfftn(expected, axes=waves, norm="ortho") if waves else expected
    np.testing.assert_allclose(to_modes(fields(size), boundary), expected, atol=1e-12)


@pytest.mark.parametrize(("boundary", "size"), CASES)
def test_fields_come_back_from_their_modes(boundary: tuple[str, ...], size: tuple[int, ...]) -> None:
    x = fields(size)
    torch.testing.assert_close(from_modes(to_modes(x, boundary), boundary, size), x)


@pytest.mark.parametrize(("boundary", "size"), CASES)
def test_white_noise_has_white_modes(boundary: tuple[str, ...], size: tuple[int, ...]) -> None:
    x = torch.from_numpy(generator("white").standard_normal((20000, 1, *size)))
    power = to_modes(x, boundary).abs().square().mean(0)
    assert float((power - 1).abs().max()) < 0.06
