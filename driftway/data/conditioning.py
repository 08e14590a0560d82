"""What a step works on: two states, and what it may know besides the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """What a step may know besides the state: fields (B, F, *S) such as orography, and parameters (B, P).

    The last `dates` of the parameters tell the date; the others belong to a trajectory.
    """

    fields: Tensor | None = None
    params: Tensor | None = None
    dates: int = 0

    @property
    def fixed(self) -> Tensor | None:
        """The parameters that belong to a trajectory, or None; codecs know these alone."""
        if self.params is None or not self.dates:
            return self.params
        return self.params[:, : -self.dates] if self.params.shape[1] > self.dates else None


class Transition(NamedTuple):
    """One physical step: source u(t) and target u(t+Δt), each (B, C, *S)."""

    source: Tensor
    target: Tensor
    conditioning: Conditioning = Conditioning()

    def first(self, count: int) -> Transition:
        """The first rows of the batch."""
        known = self.conditioning
        fields, params = (None if x is None else x[:count] for x in (known.fields, known.params))
        return Transition(self.source[:count], self.target[:count], Conditioning(fields, params, known.dates))


def stacked(columns: Sequence[np.ndarray]) -> Tensor | None:
    """Arrays (B, ...) as one tensor (B, n, ...) of single precision; None of no arrays."""
    return torch.from_numpy(np.ascontiguousarray(np.stack(columns, 1), dtype=np.float32)) if columns else None
