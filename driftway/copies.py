"""Copies of one state, each stepped by a sampler of its own, from which every field is taken by its own choice.

With K different samplers the encoded state is (B, K·D, *Z), copy after copy. All copies draw the same noise, so that
field c of the forecast is, number by number, field c of the forecast by its sampler alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from driftway.codecs import Codec
from driftway.data.trajectories import Conditioning
from driftway.randomness import Stream
from driftway.samplers import Sampler
from driftway.steppers import NOTHING, Generative


class Copied:
    """A codec that encodes to K equal copies (B, K·D, *Z) and decodes channel c from copy `copy_of[c]`."""

    def __init__(self, codec: Codec, copy_of: Sequence[int]):
        self.codec, self.copy_of = codec, list(copy_of)

    def encode(self, u: Tensor, params: Tensor | None = None) -> Tensor:
        return torch.cat([self.codec.encode(u, params)] * self._count, 1)

    def decode(self, v: Tensor, params: Tensor | None = None) -> Tensor:
        decoded = [self.codec.decode(copy, params) for copy in v.chunk(self._count, 1)]
        return torch.stack([decoded[copy][:, channel] for channel, copy in enumerate(self.copy_of)], 1)

    @property
    def _count(self) -> int:
        return max(self.copy_of) + 1


class SideBySide:
    """A stepper of copies (B, K·D, *Z): each by a stepper of its own, all with the same noise."""

    random = True

    def __init__(self, steppers: Sequence[Generative]):
        self.steppers = list(steppers)

    def step(self, state: Tensor, conditioning: Conditioning = NOTHING, stream: Stream | None = None) -> Tensor:
        copies = zip(self.steppers, state.chunk(len(self.steppers), 1), strict=True)
        return torch.cat([s.step(v, conditioning, None if stream is None else stream.twin()) for s, v in copies], 1)


def side_by_side(codec: Codec, stepper: Generative, samplers: Sequence[Sampler]) -> tuple[Copied, SideBySide]:
    """What steps and decodes each channel by its own of `samplers`: a copy of the state for each different one."""
    different = list(dict.fromkeys(samplers))
    copied = Copied(codec, [different.index(sampler) for sampler in samplers])
    return copied, SideBySide([stepper.with_sampler(sampler) for sampler in different])


def in_words(samplers: Mapping[str, Sampler]) -> str:
    """Field → sampler in one line, a sampler once: `Heun(…) for u, v; Euler(…) for w`."""
    fields: dict[Sampler, list[str]] = {}
    for name, sampler in samplers.items():
        fields.setdefault(sampler, []).append(name)
    return "; ".join(f"{sampler!r} for {', '.join(names)}" for sampler, names in fields.items())
