"""What a study's scores can carry: intervals, paired tests between rows, errors by segment, network calls needed.

Two chances are told apart. Over the seeds of training each score is a sample of its own, so that their scatter tells
what another training might score. Over test trajectories the scores of all rows are paired, so that their differences
tell whether the order of two rows would be another on other states. A seed that was not scored is missing, and left
out; a forecast that diverged is a failure, makes its score NaN, and is never left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from driftway.errors import ConfigError
from driftway.glossary import SCORES, is_reference
from driftway.metrics import interval, resampled_means
from driftway.metrics.intervals import LEVEL
from driftway.randomness import generator

SIGNIFICANT, SEGMENTS = 0.05, 10
WINDOWS = (20, 60)  # leads after which a window of a long rollout ends, as others report them
# Every pattern of signs up to so many differences, so many random ones beyond.
EXACT, FLIPS = 13, 9999
BANDED = ("spectral_rmse", "spectral_rmse_paper", "spectral_log_error")

Record = Mapping[str, Any]


class Bounds(NamedTuple):
    """The ends of an interval or range; NaN where there is none."""

    low: float
    high: float


NOWHERE = Bounds(math.nan, math.nan)


# --- which rows there are ------------------------------------------------------------------------------------------


def rows_of(results: xr.Dataset, references: bool = False) -> list[str]:
    """The rows that were scored, or the references beside them."""
    return [str(row) for row in results["row"].values if is_reference(str(row)) == references]


def seeds_of(results: xr.Dataset, row: str) -> list[int]:
    """The seeds with which a row was scored."""
    there = results["failures"].sel(row=row).notnull()
    return results["seed"].values[there.values].tolist()


def missing(results: xr.Dataset, planned: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Rows that were not scored with every seed that was planned, and the seeds that they lack."""
    there = {row: seeds_of(results, row) if row in results["row"] else [] for row in planned}
    lacking = {row: [seed for seed in seeds if seed not in there[row]] for row, seeds in planned.items()}
    return {row: seeds for row, seeds in lacking.items() if seeds}


class Failures(NamedTuple):
    """From how many initial states forecasts diverged, of how many, over all seeds."""

    bad: int
    of: int


def failures(results: xr.Dataset, row: str) -> Failures:
    """How often a row diverged."""
    bad = results["failures"].sel(row=row).sum()
    return Failures(int(bad), results.sizes["trajectory"] * len(seeds_of(results, row)))


def together(results: xr.Dataset) -> xr.Dataset:
    """Rows as methods: means over the seeds scored, and of each score the range over seeds in `…_low` and `…_high`.

    `failures` counts over all seeds.
    """
    there = results["failures"].notnull()
    plain = [str(name) for name, values in results.items() if "seed" in values.dims and values.dtype.kind in "fiu"]
    kept = results[plain].where(there)
    counts = there.sum("seed")
    found = kept.where(there, 0).sum("seed", skipna=False) / counts
    for name in (name for name in SCORES if name in kept):
        every = (kept[name].notnull() | ~there).all("seed")
        found[f"{name}_low"], found[f"{name}_high"] = (
            kept[name].min("seed").where(every),
            kept[name].max("seed").where(every),
        )
    found["failures"] = kept["failures"].sum("seed")
    for name in map(str, list(found)):  # what the truth alone decides
        if name.startswith("truth_") or name == "resolved":
            found[name] = found[name].isel(row=0)
    for name in found:
        found[name].attrs = results[name].attrs if name in results else {}
    if "units" in results:
        found["units"] = results["units"].isel({d: 0 for d in results["units"].dims if d != "field"}, drop=True)
    return found.rename(row="method").assign_attrs(results.attrs)


# --- means and intervals -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A row's mean score: of each seed, with its interval over seeds (Student) and over initial states (bootstrap)."""

    mean: float
    values: tuple[float, ...]
    seeds: Bounds
    states: Bounds

    @property
    def span(self) -> Bounds:
        """The lowest and the highest of the seeds; NaN if any is."""
        return Bounds(float(np.min(self.values)), float(np.max(self.values)))


def estimate(results: xr.Dataset, name: str, row: str, fields: Sequence[str] = (), band: str = "") -> Estimate:
    """The mean of a score over lead times, fields, initial states and seeds.

    fields: all by default; of several, scores with a unit count in `scales`. band: of a spectral error.
    """
    values = per_seed(results, name, row, fields, band)
    states = resampled(per_state(results, name, row, fields)) if f"{name}_states" in results else NOWHERE
    return Estimate(float(values.mean()), tuple(values.tolist()), student(values), states)


def per_seed(results: xr.Dataset, name: str, row: str, fields: Sequence[str] = (), band: str = "") -> np.ndarray:
    """A score with each of the seeds that the row was scored with, (seeds,): its mean over lead times and fields."""
    values = results[name].sel(band=band) if band else results[name]
    return _over(results, name, values, row, fields).values


def per_state(results: xr.Dataset, name: str, row: str, fields: Sequence[str] = ()) -> np.ndarray:
    """VRMSE or CRPS from each initial state, (N,): its mean over lead times, fields and seeds."""
    return _over(results, name, results[f"{name}_states"], row, fields, "trajectory").mean("seed", skipna=False).values


def per_part(
    results: xr.Dataset, name: str, row: str, parts: Sequence[slice], fields: Sequence[str] = ()
) -> np.ndarray:
    """A score's mean over each of some parts of the lead times."""
    values = _over(results, name, results[name], row, fields, "lead_time").mean("seed", skipna=False).values
    return np.array([values[part].mean() for part in parts])


def segments(count: int, parts: int = SEGMENTS) -> list[slice]:
    """`count` lead times in equal segments, each lead in exactly one; their lengths differ by at most one."""
    parts = min(parts, count)
    return [slice(k * count // parts, (k + 1) * count // parts) for k in range(parts)]


def windows(count: int) -> list[slice]:
    """Leads 1–20, 21–60 and 61 to `count`; none where there are no more than 20.

    Reference: Rozet et al. 2025, Lost in latent space (arXiv 2507.02608).
    """
    ends = [*(end for end in WINDOWS if end < count), count]
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)] if len(ends) > 1 else []


def _over(
    results: xr.Dataset, name: str, values: xr.DataArray, row: str, fields: Sequence[str], kept: str = ""
) -> xr.DataArray:
    """The mean over everything but the seeds scored and one dimension that is kept."""
    chosen = list(fields) or results["field"].values.tolist()
    found = values.sel(row=row, seed=seeds_of(results, row), field=chosen)
    if len(chosen) > 1 and name in SCORES and SCORES[name].dimensional:
        found = found / scales(results)
    return found.mean([dim for dim in found.dims if dim not in ("seed", kept)], skipna=False)


def scales(results: xr.Dataset) -> xr.DataArray:
    """What scores with a unit count in where fields are averaged, (field,): the truth's standard deviation over space.

    σ = RMSE/VRMSE, mean over lead times, since a flow that sets in has next to none at the first; of the first
    reference, or else row, for which they are defined
    """
    ratio = (results["rmse"] / results["vrmse"]).mean(("seed", "lead_time"))
    ordered = [*rows_of(results, references=True), *rows_of(results)]
    found = [ratio.sel(row=row, drop=True) for row in ordered]
    return next((values for values in found if np.isfinite(values).all()), xr.ones_like(found[0]))


def student(values: np.ndarray, level: float = LEVEL) -> Bounds:
    """The interval of the mean of n normal samples, NaN for one.

    v̄ ± t·s/√n, t the (1 + level)/2 quantile of Student's distribution with n − 1 degrees of freedom
    """
    if len(values) < 2:
        return NOWHERE
    try:
        from scipy.special import stdtrit
    except ImportError as error:
        raise ConfigError("intervals over seeds need scipy: pip install 'driftway[study]'") from error
    half = float(stdtrit(len(values) - 1, (1 + level) / 2)) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Bounds(float(values.mean()) - half, float(values.mean()) + half)


def resampled(values: np.ndarray) -> Bounds:
    """The bootstrap interval of the mean of N samples, NaN for fewer than eight."""
    low, high = interval(resampled_means(torch.from_numpy(np.ascontiguousarray(values))), len(values))
    return Bounds(float(low), float(high))


# --- tests ---------------------------------------------------------------------------------------------------------


def sign_flip_test(differences: np.ndarray, seed: int = 0) -> float:
    """Two-sided p-value of N paired differences having mean 0, if each is as likely as its negative.

    p = share of the patterns of signs s for which |Σ sᵢ dᵢ| ≥ |Σ dᵢ|

    All 2ᴺ patterns for N ≤ 13; else 9999 that are drawn, and the one that was observed. NaN if any difference is not
    finite. Smallest: 2¹⁻ᴺ, or 10⁻⁴. Fisher 1935; Phipson & Smyth 2010 for the count.
    """
    found = np.asarray(differences, float)
    if not np.isfinite(found).all():
        return math.nan
    sums = np.abs(_signs(len(found), seed) @ found)
    # Sums of the same numbers in another order differ by rounding.
    far = sums >= abs(found.sum()) - 1e-12 * np.abs(found).sum()
    return float(far.mean()) if len(found) <= EXACT else float((1 + far.sum()) / (1 + len(far)))


def _signs(count: int, seed: int) -> np.ndarray:
    if count <= EXACT:
        return 1 - 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
    return 2 * generator(seed, "signs", count).integers(0, 2, (FLIPS, count)) - 1


def smallest(count: int, tests: int) -> float:
    """The smallest corrected p-value that `tests` sign-flip tests of `count` differences can give."""
    return min(1.0, tests * (2.0 ** (1 - count) if count <= EXACT else 1 / (1 + FLIPS)))


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, so that one below 5 % is a false alarm in 5 % of studies at most.

    p̃₍ᵢ₎ = max over j ≤ i of min(1, (m − j + 1)·p₍ⱼ₎)

    NaN stays NaN, and is not counted in m. Holm 1979.
    """
    order = sorted((k for k, p in enumerate(values) if not math.isnan(p)), key=values.__getitem__)
    found, above = [math.nan] * len(values), 0.0
    for rank, k in enumerate(order):
        above = max(above, min(1.0, (len(order) - rank) * values[k]))
        found[k] = above
    return found


@dataclass(frozen=True)
class Ranked:
    """A row's place: its score, how it differs from the best row's on the same initial states, and what that says.

    difference, bounds, p: to the best row, p before Holm's correction and `corrected` after it; apart: whether the
    ranges over seeds have nothing in common.
    """

    row: str
    score: Estimate
    failures: Failures
    difference: float = math.nan
    bounds: Bounds = NOWHERE
    p: float = math.nan
    corrected: float = math.nan
    apart: bool = False

    @property
    def ranked(self) -> bool:
        """Whether it has a score: no forecast diverged."""
        return math.isfinite(self.score.mean) and self.failures.bad == 0

    @property
    def beaten(self) -> bool:
        """Whether the best row is better beyond chance, over initial states and over seeds."""
        return self.corrected < SIGNIFICANT and self.apart


def ranking(results: xr.Dataset, name: str, fields: Sequence[str] = ()) -> list[Ranked]:
    """Rows from the best on, by VRMSE or CRPS, each tested against the best; those that diverged last.

    References have no place. Each row's test is of its initial states' scores, averaged over seeds, less the best's.
    """
    found = [Ranked(row, estimate(results, name, row, fields), failures(results, row)) for row in rows_of(results)]
    first, *others = sorted(found, key=_place)
    if not first.ranked:
        return [first, *others]
    tested = [_against(results, name, fields, first, other) if other.ranked else other for other in others]
    corrected = holm([other.p for other in tested])
    return [first, *(replace(other, corrected=p) for other, p in zip(tested, corrected, strict=True))]


def _place(entry: Ranked) -> tuple[bool, float]:
    return (False, entry.score.mean) if entry.ranked else (True, entry.failures.bad / max(entry.failures.of, 1))


def _against(results: xr.Dataset, name: str, fields: Sequence[str], first: Ranked, other: Ranked) -> Ranked:
    best, states = (per_state(results, name, entry.row, fields) for entry in (first, other))
    difference = states - best
    return replace(
        other,
        difference=float(difference.mean()),
        bounds=resampled(difference),
        p=sign_flip_test(difference),
        apart=other.score.span.low > first.score.span.high,
    )


# --- curves along sampling steps and dials -------------------------------------------------------------------------

KEYS = ("row", "seed", "dial", "value")


def curve(records: Sequence[Record], row: str, dial: str = "steps") -> list[dict[str, Any]]:
    """A row's points along a dial, in the order in which they were tried: `value`, and means over seeds.

    Where forecasts of any seed diverged, in number `failures`, the scores are infinite.
    """
    chosen = [record for record in records if record["row"] == row and record["dial"] == dial]
    values = list(dict.fromkeys(record["value"] for record in chosen))
    return [_point([record for record in chosen if record["value"] == value], value) for value in values]


def _point(records: Sequence[Record], value: Any) -> dict[str, Any]:
    numbers = [key for key, v in records[0].items() if key not in KEYS and (v is None or isinstance(v, int | float))]
    bad = sum(record["failures"] for record in records)
    nothing = math.inf if bad else math.nan
    found = {k: float(np.mean([nothing if r[k] is None else r[k] for r in records])) for k in numbers}
    return {"value": value, "repr": records[0].get("repr", ""), **found, "failures": bad}


def dials_of(records: Sequence[Record], row: str) -> list[str]:
    """The dials along which a row was scored."""
    return list(dict.fromkeys(record["dial"] for record in records if record["row"] == row))


class Needed(NamedTuple):
    """Network calls until a CRPS within reach of the row's own with `steps` steps, NaN if they are never reached."""

    steps: float
    level: float
    calls: float
    other: float


def nfe_needed(
    records: Sequence[Record], row: str, within: float = 0.05, reference: str | None = None, steps: int = 50
) -> Needed:
    """The fewest network calls at which a row comes within 5 % of its own CRPS with 50 steps, and another row does.

    within: share of that CRPS; reference: another row, which has to reach the same level; steps: those that the level
    is taken from, or the most that were tried if these were not
    """
    points = curve(records, row)
    nothing = Needed(math.nan, math.nan, math.nan, math.nan)
    base = next((p for p in points if p["value"] == steps), max(points, key=lambda p: p["value"], default=None))
    if base is None or not math.isfinite(base["crps"]):
        return nothing
    level = (1 + within) * base["crps"]
    other = math.nan if reference is None else _reaches(curve(records, reference), level)
    return Needed(base["value"], level, _reaches(points, level), other)


def _reaches(points: Sequence[Record], level: float) -> float:
    return min((p["calls"] for p in points if p["crps"] <= level), default=math.nan)
