"""Sources read once: what is gathered of their members as the states go by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import torch
import xarray as xr

from driftway.calculus import rule
from driftway.data.axes import is_sphere
from driftway.data.layout import Layout
from driftway.evaluation import spectrum
from driftway.longterm.sources import Piece, Sampling, Source
from driftway.longterm.years import MONTHS, Bins, Moments, Place, Table, put
from driftway.metrics import isotropic_spectrum
from driftway.progress import progress

TOGETHER = 1.1  # of the states of a month, which two halves of it may have


@dataclass(frozen=True)
class Failure:
    """Where a member left the finite numbers: which of the states of its run, counted from 1, and which field."""

    state: int
    field: str


@dataclass(frozen=True)
class _Block:
    """Some states of a run, (members, t, C, *S): the number of the first one, years and months of each, and which of
    them are kept and which the means of months are of."""

    first: int
    states: np.ndarray
    places: Sequence[Place]
    kept: np.ndarray
    every: np.ndarray


@dataclass
class Member:
    """What is gathered of a member in a run: moments of the states kept and of all, mean spectra, its failure.

    spectra: by name, power (C, K)
    """

    kept: Table = field(default_factory=dict)
    every: Table = field(default_factory=dict)
    spectra: Mapping[str, np.ndarray] = field(default_factory=dict)
    states: int = 0
    failure: Failure | None = None

    def see(self, block: _Block, number: int, layout: Layout) -> None:
        """Add the block's states of the member with this number, if it is finite; from its failure on nothing."""
        states = block.states[number]
        self.failure = self.failure or _failure(states, block.first, layout)
        if self.failure is not None:
            return
        _add(self.every, states[block.every], [block.places[k] for k in block.every], squares=False)
        if len(block.kept):
            _add(self.kept, states[block.kept], [block.places[k] for k in block.kept])
            self._average(states[block.kept], layout)

    def _average(self, states: np.ndarray, layout: Layout) -> None:
        count, before = self.states + len(states), self.spectra
        totals = {name: power.sum(0) for name, power in spectra(states, layout).items()}
        self.spectra = {name: (self.states * before.get(name, 0.0) + total) / count for name, total in totals.items()}
        self.states = count


def _failure(states: np.ndarray, first: int, layout: Layout) -> Failure | None:
    """The first of states (t, C, *S) that is not finite."""
    bad = np.argwhere(~np.isfinite(states).all(tuple(range(2, states.ndim))))
    return Failure(first + int(bad[0][0]) + 1, layout.fields.names[bad[0][1]]) if len(bad) else None


def _add(table: Table, states: np.ndarray, places: Sequence[Place], squares: bool = True) -> None:
    first = 0
    for place, group in groupby(places):
        count = len(list(group))
        put(table, place, Moments.of(states[first : first + count], squares))
        first += count


def spectra(states: np.ndarray, layout: Layout) -> dict[str, np.ndarray]:
    """Power of states (t, C, *S), (t, C, K): `power` along periodic axes, on the sphere by degree, and there `zonal`.

    The zonal power is that of waves along circles of latitude, averaged with the latitudes' areas.
    """
    u = torch.from_numpy(states.astype(np.float64))
    power = spectrum(u, layout)
    if power is None or not is_sphere(layout.axes):
        return {} if power is None else {"power": power.numpy()}
    areas = torch.from_numpy(rule(layout.axes[0]).weights.copy())
    zonal = torch.einsum("l,tclk->tck", areas / areas.sum(), isotropic_spectrum(u, space=1).power)
    return {"power": power.numpy(), "zonal": zonal.numpy()}


def area_of(layout: Layout) -> np.ndarray:
    """The weights (*S) of the mean over space, one on average."""
    found = layout.weights
    return np.ones(layout.shape[1:]) if found is None else found.numpy()


def gather(source: Source, bins: Bins, kept: Sampling, every: Sampling | None = None) -> list[list[Member]]:
    """Read a source once: of each of its runs the members.

    every: the states that means of months are of, where these are not those that are kept
    """
    found = [[Member() for _ in range(source.members)] for _ in source.runs]
    with progress(f"reading {source.name}", source.length) as task:
        for members, run in zip(found, source.runs, strict=True):
            for block in _blocks(source, run, bins, kept, every):
                for number, member in enumerate(members):
                    member.see(block, number, source.layout)
                task.advance(len(block.places))
    return found


def _blocks(
    source: Source, run: Sequence[Piece], bins: Bins, kept: Sampling, every: Sampling | None
) -> Iterator[_Block]:
    """A run by and by."""
    before, nothing = 0, np.zeros(0, int)
    for piece in run:
        chosen, means = piece.places(kept), nothing if every is None else piece.places(every)
        for first, states in source.blocks(piece):
            inside = np.arange(first, first + states.shape[1])
            places = bins.places(piece.start + piece.step * inside, run[0].start)
            here = (np.flatnonzero(np.isin(inside, numbers)) for numbers in (chosen, means))
            yield _Block(before + first, states, places, *here)
        before += piece.length


def month_means(found: xr.Dataset, member: int, row: int, layout: Layout) -> Table:
    """The means of months that a forecast has gathered of all its states, as the moments of a table.

    The twelve months from the first on are a year, and so on. A last month that is the other half of the first, as of a
    forecast of whole years that begins within a month, goes with it.
    """
    here = found.isel(realization=member, trajectory=row)
    counts, labels = here["count"].values, here["label"].values
    means = np.stack([here[name].values for name in layout.fields.names], 1).astype(np.float64)
    table: Table = {}
    for k in np.flatnonzero(counts):
        month = int(str(labels[k]).rpartition("-")[2]) - 1
        other_half = k and k % MONTHS == 0 and counts[0] + counts[k] <= TOGETHER * counts.max()
        put(
            table,
            (0 if other_half else int(k) // MONTHS, month),
            Moments(int(counts[k]), means[k]),
        )
    return table
