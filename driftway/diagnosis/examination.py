"""A diagnosis: everything that the data alone say of how an interpolant will do, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from driftway.data import Trajectories
from driftway.data.layout import Layout
from driftway.diagnosis.compression import Cut, cosine_shells, cuts
from driftway.diagnosis.laws import Gap, Laws, laws_of
from driftway.diagnosis.paired import Estimate, Step, step_of
from driftway.diagnosis.pairs import checked, pairs_of, scale_of
from driftway.diagnosis.verdict import Advice, advise
from driftway.errors import DataError
from driftway.evaluation import spectrum
from driftway.metrics import Distance
from driftway.progress import progress

STATES = 1000
SAMPLE_BYTES, LEAST = 256_000_000, 32  # of the states that are looked at at once, and how many are in any case
DOUBLINGS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Spectra:
    """Power (C, K) in shells of equal wavenumber of the states, and of a step at each lag, in variances of a field.

    Along the periodic axes, level by level of the others; of cosines where there is no periodic axis.
    """

    state: Tensor
    steps: dict[int, Tensor]


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found: steps by lag, laws where there are enough trajectories, spectra, cuts, and the advice."""

    fields: tuple[str, ...]
    trajectories: int
    frames: int
    dt: float
    time_units: str
    steps: tuple[Step, ...]
    laws: tuple[Laws, ...]
    spectra: Spectra
    cuts: tuple[Cut, ...]
    advice: Advice

    def described(self) -> dict[str, Any]:
        """All numbers as plain data."""
        return {
            "fields": list(self.fields),
            "trajectories": self.trajectories,
            "frames": self.frames,
            "dt": self.dt,
            "time_units": self.time_units,
            "steps": [_plain(step) for step in self.steps],
            "laws": [_plain(law) for law in self.laws],
            "compression": [cut._asdict() for cut in self.cuts],
            "spectrum": {"state": self.spectra.state.tolist()}
            | {f"step of {lag}": power.tolist() for lag, power in self.spectra.steps.items()},
            "recommended": dict(self.advice.recommended),
            "verdict": list(self.advice.verdict),
        }


def diagnose(
    data: Trajectories, *, lags: Sequence[int] | None = None, states: int = STATES, components: int | None = None
) -> Diagnosis:
    """What the data say, before any training, of stride, noise and compression; give it the training split alone.

    Arguments:
        data: trajectories; eight give intervals, thirty-two the distances between laws
        lags: in frames, by default 1, 2, 4, … up to 64 and half of the frames
        states: at most how many of them are looked at for each lag, and no more than 256 MB of them
        components: directions along which laws are compared, by default a quarter of the samples and at most 16

    Raises DataError for a single frame, a field that never changes, values that are not finite, lags that the data do
    not have and more components than samples.
    """
    checked(data)
    chosen = _lags(data, lags)
    states = min(states, max(LEAST, SAMPLE_BYTES // (4 * math.prod(data.shape[2:]))))
    scale, boundary = scale_of(data, states), data.boundary
    layout = Layout(data.fields, data.axes, data.dt, data.time_units)
    lengths = [axis.length for axis in data.axes]
    steps, spectra, lost = [], dict[int, Tensor](), list[Cut]()
    with progress("diagnosing", len(chosen) + 1) as task:
        state: Tensor | None = None
        for lag in chosen:
            pairs = pairs_of(data, scale, lag, states // 2)
            steps.append(step_of(pairs, data.dt, boundary))
            spectra[lag] = _spectrum(pairs.target - pairs.source, layout)
            if state is None:
                state, lost = _spectrum(pairs.source, layout), cuts(pairs.source, boundary, lengths)
            task.advance(1, f"lag {lag}")
        laws = laws_of(data, scale, chosen, components)
        task.advance(1, "laws")
    assert state is not None
    return Diagnosis(
        data.fields.names,
        data.shape[0],
        data.shape[1],
        data.dt,
        data.time_units,
        tuple(steps),
        tuple(laws),
        Spectra(state, spectra),
        tuple(lost),
        advise(steps, laws, lost, data.time_units),
    )


def _lags(data: Trajectories, lags: Sequence[int] | None) -> list[int]:
    last = data.shape[1] - 1
    if lags is None:
        return [lag for lag in DOUBLINGS if lag == 1 or lag <= last // 2]
    wrong = next((lag for lag in lags if not 1 <= lag <= last), None)
    if wrong is not None or not lags:
        raise DataError(f"a lag of {wrong} frames, where trajectories have {data.shape[1]}: give 1 to {last}")
    return sorted(set(lags))


def _spectrum(states: Tensor, layout: Layout) -> Tensor:
    power = spectrum(states.double(), layout)
    if power is None:
        power = cosine_shells(states.double(), layout.boundary, [axis.length for axis in layout.axes])
    return power.mean(0)


def _plain(value: Any) -> Any:
    """Named tuples as mappings, by depth."""
    if isinstance(value, Step | Laws | Gap | Estimate | Distance):
        return {name: _plain(part) for name, part in value._asdict().items()}
    return value
