"""Purposes: what a sampler may be chosen for, and the choice among records of scores, by what is no chance.

A record is a plain mapping, as `driftway.tuning.scores_of_samplers` makes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from driftway.errors import ConfigError, DivergedError

Record = dict[str, Any]
LARGE = ("low", "mid")  # bands of scales that a forecast can be wrong about and not merely blur


class Scores(NamedTuple):
    """What is to be lowered, of R candidates (R,), and what each of N initial states has in it (R, N)."""

    values: Tensor
    states: Tensor


@dataclass(frozen=True)
class Purpose:
    """What a sampler is chosen for: in words, and of records."""

    about: str
    scores: Callable[[Sequence[Record]], Scores]
    spectral: bool = False


def _crps(records: Sequence[Record]) -> Scores:
    return Scores(_column(records, "crps"), _column(records, "crps_states"))


def _vrmse(records: Sequence[Record]) -> Scores:
    return Scores(_column(records, "vrmse"), _column(records, "vrmse_states"))


def _spectrum(records: Sequence[Record]) -> Scores:
    bands = torch.stack([_column(records, f"spectral_log_error_{band}") for band in LARGE])
    return Scores(bands.mean(0), _column(records, "spectral_states"))


def _balance(records: Sequence[Record]) -> Scores:
    """√(c/c* · s/s*), and of a state, to first order, that times the mean of cᵢ/c and sᵢ/s."""
    parts = [scores(records) for scores in (_crps, _spectrum)]
    relative = [part.values / part.values.nan_to_num(math.inf).min().clamp_min(1e-12) for part in parts]
    shares = [part.states / part.values[:, None] for part in parts]
    values = (relative[0] * relative[1]).clamp_min(0).sqrt()
    return Scores(values, values[:, None] * (shares[0] + shares[1]) / 2)


def _column(records: Sequence[Record], name: str) -> Tensor:
    return torch.tensor([record[name] for record in records], dtype=torch.float64)


PURPOSES: dict[str, Purpose] = {
    "crps": Purpose("fair CRPS, mean over leads", _crps),
    "vrmse": Purpose("VRMSE of the ensemble mean, mean over leads", _vrmse),
    "spectrum": Purpose("spectral log error, mean over leads and the low and mid bands", _spectrum, True),
    "balance": Purpose("geometric mean of CRPS and spectral log error, each over the best candidate's", _balance, True),
}


def choose(records: Sequence[Record], purpose: str, calls: int = 10) -> int:
    """The record of the sampler to take: of those that are no worse than the best by chance, the cheapest.

    No worse by chance is: by at most one standard error of the paired difference over initial states. Records of more
    than `calls` calls and of rollouts that failed are not chosen. Raises DivergedError where none is left.
    """
    scores = PURPOSES[purpose].scores(records)
    if PURPOSES[purpose].spectral and bool(scores.values.isnan().any()):
        raise ConfigError(no_spectra(purpose))
    allowed = [at for at, record in enumerate(records) if record["calls"] <= calls and scores.values[at] < math.inf]
    if not allowed:
        raise DivergedError(
            f"of {len(records)} samplers none of at most {calls} calls kept all forecasts finite: tune on fewer leads, "
            "or train longer"
        )
    best = min(allowed, key=lambda at: float(scores.values[at]))
    errors = standard_errors(scores.states - scores.states[best])
    tied = [at for at in allowed if scores.values[at] - scores.values[best] <= errors[at]]
    return min(tied, key=lambda at: (records[at]["calls"], float(scores.values[at])))


def standard_errors(values: Tensor) -> Tensor:
    """s/√N of each row of (R, N); 0 where it is not defined, so that nothing is tied."""
    count = values.shape[1]
    return (values.std(1, correction=min(1, count - 1)) / math.sqrt(count)).nan_to_num(0.0)


def no_spectra(purpose: str) -> str:
    """What is wrong with tuning for a purpose that takes spectra, where there are none."""
    return f"tuning for {purpose} takes a periodic axis with three resolved wavenumbers or more: tune for crps or vrmse"
