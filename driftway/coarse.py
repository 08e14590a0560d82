"""A solver as a stepper of encoded states: a coarse one is a first guess that needs no training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor

from driftway.codecs import Codec
from driftway.data.layout import Layout
from driftway.data.trajectories import Conditioning, Transition
from driftway.errors import ConfigError
from driftway.pdes import PRESETS, SpectralPDE
from driftway.randomness import Stream
from driftway.steppers import NOTHING, LearnedStepper

AS_IT_IS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Physics:
    """What encoded states stand for: `codec` decodes them to fields on `layout`."""

    codec: Codec
    layout: Layout


class CoarseSolver(LearnedStepper):
    """The increment that a solver makes, with as few points and steps as its numbers say, in the encoded space.

        û(t+Δt) = u + R'(φ(R u) − R u) ,    R and R' Fourier interpolation to the solver's grid and back

    φ is one interval of the solver of `preset`, or as many as there are in Δt, with other `numbers`. What its grid does
    not hold stays as it was. There is nothing to train, and no network is called. Raises ConfigError where the preset
    has other fields or another box than the data, where Δt is no multiple of its interval, and where its forcing is
    random.
    """

    trained = False

    def __init__(self, physics: Physics, preset: str, numbers: Mapping[str, Any] = AS_IT_IS):
        super().__init__()
        self.physics, self.solver = physics, _solver(preset, numbers)
        self.intervals = _intervals(self.solver, physics.layout)
        self._check_determined()

    def loss(self, batch: Transition, stream: Stream) -> Tensor:
        """Mean squared error."""
        return (self.step(batch.source, batch.conditioning) - batch.target).square().mean()

    def step(self, state: Tensor, conditioning: Conditioning = NOTHING, stream: Stream | None = None) -> Tensor:
        codec, params = self.physics.codec, conditioning.fixed
        u = codec.decode(state, params)
        before = after = resampled(u, self.solver.size)
        for _ in range(self.intervals):
            after = self.solver.step(after)
        return codec.encode(u + resampled(after - before, u.shape[2:]), params)

    def _check_determined(self) -> None:
        try:
            self.solver.step(torch.zeros(1, self.solver.channels, *self.solver.size))
        except ValueError as error:
            raise ConfigError(f"{error}: a guess has none, set the forcing to 0") from error


def resampled(u: Tensor, size: Sequence[int]) -> Tensor:
    """Fields (B, C, *S) on another periodic grid of the same box, by Fourier interpolation."""
    for axis, n in enumerate(size, start=2):
        m = u.shape[axis]
        if m != n:
            waves = torch.fft.rfft(u, dim=axis, norm="forward").narrow(axis, 0, (min(m, n) + 1) // 2)
            u = torch.fft.irfft(waves, n=n, dim=axis, norm="forward")
    return u


def _solver(preset: str, numbers: Mapping[str, Any]) -> SpectralPDE:
    periodic = {name: made for name, made in PRESETS.items() if isinstance(made.solver, SpectralPDE)}
    if preset not in periodic:
        raise ConfigError(f"'{preset}' is no preset of a periodic box; valid: {', '.join(periodic)}")
    return cast(SpectralPDE, periodic[preset].override(numbers).solver)


def _intervals(solver: SpectralPDE, layout: Layout) -> int:
    """How often the solver's interval is in Δt."""
    if solver.fields.names != layout.fields.names:
        raise ConfigError(f"the solver has the fields {solver.fields.names}, the data {layout.fields.names}")
    for axis, length in zip(layout.axes, solver.length, strict=True):
        if axis.boundary != "periodic" or abs(axis.length - length) > 1e-3 * length:
            raise ConfigError(
                f"the solver's box is periodic and {length:g} long, the data's axis '{axis.name}' {axis.boundary} and "
                f"{axis.length:g}"
            )
    count = round(layout.dt / solver.interval)
    if count < 1 or abs(count * solver.interval - layout.dt) > 1e-6 * layout.dt:
        raise ConfigError(
            f"dt·substeps = {solver.interval:g} of the solver must divide the time step {layout.dt:g} of the emulator"
        )
    return count
