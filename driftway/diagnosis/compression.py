"""How much of a state lies in its smaller waves: what is lost where a codec keeps no more than the largest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from driftway.modes import from_modes, to_modes

FACTORS = (4, 16, 64, 256)


class Cut(NamedTuple):
    """What is lost, √⟨|u − u_cut|²⟩ in standard deviations, where the largest waves alone are kept, 1/factor of all.

    Waves of one length are kept together, so that it is a few more.
    """

    factor: int
    lost: float


def cuts(states: Tensor, boundary: tuple[str, ...], lengths: Sequence[float]) -> list[Cut]:
    """The cuts of some states (B, C, *S), as far as there is anything left to keep."""
    size = tuple(states.shape[2:])
    radius = wavenumbers(size, boundary, lengths)
    order = radius.flatten().sort().values
    return [
        Cut(factor, _lost(states, boundary, radius <= order[len(order) // factor - 1]))
        for factor in FACTORS
        if factor <= len(order)
    ]


def wavenumbers(size: tuple[int, ...], boundary: tuple[str, ...], lengths: Sequence[float]) -> Tensor:
    """|k| of every mode that `to_modes` gives, in waves over the longest axis."""
    modes = to_modes(torch.zeros(1, 1, *size), boundary).shape[2:]
    last = max((i for i, kind in enumerate(boundary) if kind == "periodic"), default=-1)
    axes = []
    for i, (n, kind, length) in enumerate(zip(size, boundary, lengths, strict=True)):
        if kind != "periodic":
            k = torch.arange(n) / 2
        elif i == last:
            k = torch.arange(modes[i])
        else:
            k = torch.fft.fftfreq(n, 1 / n).abs()
        axes.append(k * max(lengths) / length)
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt()


def cosine_shells(states: Tensor, boundary: tuple[str, ...], lengths: Sequence[float]) -> Tensor:
    """Power (B, C, K) of states (B, C, *S) without periodic axes, in shells of equal |k|: Σ P = ⟨u²⟩ over points."""
    energy = to_modes(states, boundary).square().flatten(2) / states[0, 0].numel()
    shells = (wavenumbers(tuple(states.shape[2:]), boundary, lengths) + 0.5).long().flatten()
    return energy.new_zeros(*energy.shape[:2], int(shells.max()) + 1).index_add(2, shells, energy)


def _lost(states: Tensor, boundary: tuple[str, ...], kept: Tensor) -> float:
    cut = from_modes(to_modes(states, boundary) * kept, boundary, states.shape[2:])
    return float((states - cut).square().mean().sqrt())
