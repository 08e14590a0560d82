"""Long forecasts against a truth run: everything that the page and the file of numbers are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from driftway.data.layout import Layout
from driftway.data.summaries import open_means
from driftway.errors import ConfigError, DataError
from driftway.longterm.bias import STATISTICS, Climate, Values, band, by_chance, climate, compared
from driftway.longterm.reading import Member, area_of, gather, month_means
from driftway.longterm.sources import Sampling, Source, of_data, of_forecast, undated
from driftway.longterm.years import Bins, Blocks, Seasons, Years, assembled
from driftway.scoring import open_forecasts

SHARES = 10  # blocks of a forecast without seasons, unless said otherwise
SAID = ("diverged", "drifting")
TRUTH, OTHER = "truth", "other truth"  # what truth runs are called
EVERY, KEPT = "all steps, from the means of months", "the states kept"


@dataclass(frozen=True)
class Band:
    """Numbers of `STATISTICS`, each (C,), and between what chance leaves 95 % of them."""

    values: Values
    low: Values
    high: Values

    def inside(self, name: str) -> np.ndarray:
        """Whether a number lies where chance leaves it, (C,)."""
        return (self.values[name] >= self.low[name]) & (self.values[name] <= self.high[name])


@dataclass(frozen=True)
class Compared:
    """A forecast, or another truth run, against the truth.

    members: name → years; those that left the finite numbers are in `failures` alone, name → what happened. pooled,
    climate: of all members, None where one failed
    """

    label: str
    truth: bool
    members: Mapping[str, Years]
    failures: Mapping[str, str]
    climate: Climate | None
    pooled: Band | None
    alone: Mapping[str, Band]
    spectra: Mapping[str, np.ndarray] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Examination:
    """What `examine` found; `reference` is the truth's climate, `spectra` its power, by name (C, K)."""

    layout: Layout
    truth: Years
    reference: Climate
    spectra: Mapping[str, np.ndarray]
    compared: Sequence[Compared]
    facts: Mapping[str, Any]
    noun: str
    land: np.ndarray | None = None

    @property
    def seasons(self) -> bool:
        """Whether there are months."""
        return len(self.reference.weights) > 1

    @property
    def statistics(self) -> tuple[str, ...]:
        """The numbers that are defined."""
        return tuple(name for name in STATISTICS if self.seasons or name != "season")


def examine(
    paths: Sequence[Path],
    truth: Path,
    *,
    split: str = "test",
    also: Path | None = None,
    also_split: str = "train",
    block: int | None = None,
    seed: int = 0,
) -> Examination:
    """Compare the climate of forecasts with that of a truth run.

    also: another truth run, whose numbers tell how far one run is from another, and whose years widen what is known of
    chance. block: states that are kept in a block, in place of years with seasons; without a calendar a tenth of the
    shortest forecast. seed: of the resampling.

    Raises DataError where forecasts and truth have other fields, grids or hours, hold no complete year, or where the
    truth is not finite; ConfigError where there is no forecast, or both truths are one.
    """
    forecasts = open_forecasts(paths)
    _check_names(forecasts, (truth, split), (also, also_split))
    known = of_data(truth, split)
    if block is not None and not all("initial_times" in forecast.attrs for forecast in forecasts.values()):
        known = undated(known)
    sources = {label: of_forecast(label, forecast, known) for label, forecast in forecasts.items()}
    kept = _sampling(sources)
    bins = _bins(known, sources, kept, block)
    means = _means(paths, forecasts, known, kept) if isinstance(bins, Seasons) else None
    reading = _Reading(bins, kept, None if means is None else means.sampling)
    runs = {known.name: reading.truth(known)}
    if also is not None:
        beside = of_data(also, also_split, known.layout.fields.names)
        beside = beside if known.calendar is not None else undated(beside)
        _check_alike(known, beside)
        runs[beside.name] = reading.truth(beside)
    found = [reading.forecast(label, source, means) for label, source in sources.items()]
    return _examined(known, list(runs.items()), found, forecasts, reading, seed)


def _check_names(forecasts: Mapping[str, xr.Dataset], truth: tuple[Path, str], also: tuple[Path | None, str]) -> None:
    taken = next((label for label in forecasts if label in (TRUTH, OTHER)), None)
    if taken is not None:
        raise ConfigError(
            f"a forecast has the label '{taken}', which is the truth's; make it again with another --label"
        )
    if truth == also:
        raise ConfigError(f"--also is the truth itself, {truth[0]} ({truth[1]}): give another run, or leave it out")


def _sampling(sources: Mapping[str, Source]) -> Sampling:
    """Which states forecasts keep; raises DataError where they keep different ones."""
    (first, source), *_ = sources.items()
    piece = source.runs[0][0]
    kept = Sampling(piece.step, None if source.calendar is None else piece.start)
    for label, other in sources.items():
        for run in other.runs:
            if abs(run[0].step - kept.step) > 1e-6 * kept.step:
                steps = f"{run[0].step:g}, '{first}' each {kept.step:g}"
                raise DataError(f"forecast '{label}' keeps a state each {steps}: compare them apart")
            run[0].places(kept)
    return kept


def _bins(truth: Source, sources: Mapping[str, Source], kept: Sampling, block: int | None) -> Bins:
    if block is None and truth.calendar is not None:
        return Seasons(truth.calendar)
    shortest = min(len(run[0].places(kept)) for source in sources.values() for run in source.runs)
    if block is not None and block > shortest:
        raise ConfigError(f"--block {block}: the shortest forecast keeps {shortest} states, give at most as many")
    return Blocks(kept.step * (block or max(1, shortest // SHARES)))


def _check_alike(truth: Source, also: Source) -> None:
    """Raise DataError where two truth runs have another grid or calendar."""
    if what := truth.layout.difference(also.layout):
        raise DataError(f"{also.name}: its {what} are not those of {truth.name}: give runs of one model")
    names = [None if source.calendar is None else source.calendar.name for source in (truth, also)]
    if names[0] != names[1]:
        raise DataError(f"{also.name} has the calendar {names[1]}, {truth.name} {names[0]}: give runs of one model")


@dataclass(frozen=True)
class _Means:
    """The means of months of all forecasts, by label, and the steps that they are of."""

    found: Mapping[str, xr.Dataset]
    sampling: Sampling


def _means(paths: Sequence[Path], forecasts: Mapping[str, xr.Dataset], truth: Source, kept: Sampling) -> _Means | None:
    """Means of months where all forecasts have them, of the same steps, at which the truth has states too."""
    if not all((path / "means").is_dir() for path in paths):
        return None
    found = {label: open_means(path) for label, path in zip(forecasts, paths, strict=True)}
    strides = {int(m["count"].values[0].sum()) // forecasts[label].sizes["lead_time"] for label, m in found.items()}
    named = all("-" in str(m["label"].values[0, 0]) for m in found.values())
    stride = strides.pop()
    sampling = Sampling(kept.step / stride, kept.phase)
    fits = truth.runs[0][0].step <= sampling.step * (1 + 1e-6)
    return _Means(found, sampling) if named and not strides and fits else None


# --- reading -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Gathered:
    """Years of members, their failures, and the power averaged over members and time."""

    years: Mapping[str, Years]
    failures: Mapping[str, str]
    spectra: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class _Reading:
    bins: Bins
    kept: Sampling
    every: Sampling | None

    def years(self, members: Sequence[Member], name: str) -> Years:
        """The years of members, of which each is a run."""
        tables = [member.kept for member in members]
        fuller = tables if self.every is None else [member.every for member in members]
        full_step = self.kept.step if self.every is None else self.every.step
        try:
            return assembled(tables, fuller, self.bins, self.kept.step, full_step)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error

    def truth(self, source: Source) -> _Gathered:
        """Its runs, each alone."""
        runs = [members[0] for members in gather(source, self.bins, self.kept, self.every)]
        failed = next((run.failure for run in runs if run.failure is not None), None)
        if failed is not None:
            where = f"field '{failed.field}' is not finite in state {failed.state} of a run"
            raise DataError(f"{source.name}: {where}: fill it, or choose another split")
        years = self.years(runs, source.name)
        return _Gathered({source.name: years}, {}, _pooled(runs))

    def forecast(self, label: str, source: Source, means: _Means | None) -> _Gathered:
        """Its members, of each initial state."""
        years: dict[str, Years] = {}
        failures: dict[str, str] = {}
        found = gather(source, self.bins, self.kept)
        for row, members in enumerate(found):
            for number, member in enumerate(members):
                name = f"member {number}" + (f" of state {row}" if len(found) > 1 else "")
                if member.failure is not None:
                    lead = source.layout.dt * member.failure.state
                    unit = "" if source.layout.time_units == "1" else f" {source.layout.time_units}"
                    failures[name] = f"'{member.failure.field}' is not finite at lead time {lead:g}{unit}"
                    continue
                if means is not None:
                    member.every = month_means(means.found[label], number, row, source.layout)
                years[name] = self.years([member], f"forecast '{label}', {name}")
        return _Gathered(years, failures, {} if failures else _pooled([m for run in found for m in run]))


def _pooled(members: Sequence[Member]) -> dict[str, np.ndarray]:
    total = sum(member.states for member in members)
    names = members[0].spectra
    return {n: np.sum([m.spectra[n] * (m.states / total) for m in members if m.states], 0) for n in names}


# --- comparing -----------------------------------------------------------------------------------------------------


def _examined(
    known: Source,
    runs: Sequence[tuple[str, _Gathered]],
    found: Sequence[_Gathered],
    forecasts: Mapping[str, xr.Dataset],
    reading: _Reading,
    seed: int,
) -> Examination:
    (name, own), *others = runs
    years = own.years[name]
    truths = [gathered.years[label] for label, gathered in runs]
    judge = _Judge(climate([years]), truths, len(years), area_of(known.layout), seed)
    compared_ = [judge(OTHER, True, gathered, {}) for _, gathered in others]
    for label, gathered in zip(forecasts, found, strict=True):
        about = forecasts[label].attrs
        compared_.append(judge(label, False, gathered, {what: str(about[what]) for what in SAID if what in about}))
    left = {label: own.left_out for (label, _), own in zip(runs, truths, strict=True)}
    facts = {
        "truth": name,
        OTHER: others[0][0] if others else "none",
        f"{reading.bins.noun}s of the truth": len(years),
        f"{reading.bins.noun}s that chance is known from": sum(map(len, truths)),
        "step between states that are kept": reading.kept.step,
        "means are of": KEPT if reading.every is None else EVERY,
        f"states in no complete {reading.bins.noun}": left,
        "quadrature": known.layout.quadrature,
    }
    return Examination(
        known.layout, years, judge.reference, own.spectra, compared_, facts, reading.bins.noun, known.land
    )


@dataclass(frozen=True)
class _Judge:
    """Compares with the truth, and with what chance gives between a run of as many years and the truth."""

    reference: Climate
    truths: Sequence[Years]
    years: int
    area: np.ndarray
    seed: int
    bands: dict[int, Any] = field(default_factory=dict)

    def __call__(self, label: str, truth: bool, found: _Gathered, said: Mapping[str, str]) -> Compared:
        parts = list(found.years.values())
        whole = None if found.failures or not parts else climate(parts)
        alone = {} if truth else {name: self._band(climate([own]), len(own)) for name, own in found.years.items()}
        pooled = None if whole is None else self._band(whole, sum(map(len, parts)))
        return Compared(label, truth, found.years, found.failures, whole, pooled, alone, found.spectra, said)

    def _band(self, own: Climate, years: int) -> Band:
        if years not in self.bands:
            drawn = by_chance(self.truths, self.area, years, self.years, seed=self.seed)
            self.bands[years] = band(drawn, own.variance.shape[0])
        ends = self.bands[years]
        values = compared(own, self.reference, self.area)
        low = {name: ends[name][0] - self.rounding * (name == "bias") for name in STATISTICS}
        high = {name: ends[name][1] + self.rounding * (name != "variance") for name in STATISTICS}
        return Band(values, low, high)

    @property
    def rounding(self) -> np.ndarray:
        """What single precision, in which states are kept, cannot tell apart: ε √⟨ū²⟩, (C,)."""
        mean_square = (self.area * self.reference.mean**2).mean(tuple(range(-self.area.ndim, 0)))
        return np.finfo(np.float32).eps * np.sqrt(mean_square)
