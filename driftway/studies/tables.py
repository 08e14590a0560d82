"""A study's results as tidy tables: one value per line, in CSV and parquet, for any tool."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from driftway.errors import ConfigError
from driftway.evaluation import ROLLOUT
from driftway.glossary import SCORES
from driftway.report.study_protocol import in_words
from driftway.storage import atomic_write
from driftway.studies.statistics import BANDED, rows_of, seeds_of, segments, windows

if TYPE_CHECKING:
    import pandas

TIDY = ("study", "row", "network", "seed", "field", "score", "part", "value", "unit")
LINE = ("row", "seed", "field", "score", "part", "value", "unit")
CURVES = ("study", "row", "network", "seed", "dial", "value", "sampler")
PHYSICS = {  # score → whose name stands in the place of a field
    "physics_error": "quantity",
    "physics_bias": "quantity",
    "physics_distance": "quantity",
    "profile_error": "profile",
}
COSTS = ("parameters", "members", "calls", "ms_per_step", "forecast_seconds", "peak_memory", "train_seconds")


def tidy(study: str, results: xr.Dataset, networks: Mapping[str, str]) -> pandas.DataFrame:
    """Every test score in long form, with the columns `TIDY`; a row and seed that were not scored have no lines.

    results: as `driftway.studies.results.collect` gives them; networks: row → the row whose network it samples

    `part` is what the value is a mean over: `rollout` (all leads), `lead k`, `segment k` of ten, `leads 1–20` and on,
    the band of a spectral error, or `state k` (all leads from one initial state). Scores that are not finite are NaN.
    Errors of what a flow does as a whole have the quantity or profile in the place of the field.
    """
    lines = [line for row in results["row"].values for line in _lines(results, str(row))]
    table = _pandas().DataFrame(lines, columns=list(LINE))
    return table.assign(study=study, network=[networks.get(row, "") for row in table["row"]])[list(TIDY)]


def costs(study: str, results: xr.Dataset, networks: Mapping[str, str], steps: Mapping[str, int]) -> pandas.DataFrame:
    """What each row cost with each seed; steps: row → optimiser steps behind it, those of its guess included.

    `ms_per_step` is per member, `peak_memory` in bytes.
    """

    def line(row: str, seed: int) -> dict[str, Any]:
        here = results.sel(row=row, seed=seed)
        numbers = {name: float(here[name]) if name in here else np.nan for name in COSTS}
        return {"study": study, "row": row, "network": networks[row], "seed": seed, **numbers}

    lines = [line(row, seed) for row in rows_of(results) for seed in seeds_of(results, row)]
    table = _pandas().DataFrame(lines)
    return table.assign(optimiser_steps=[steps[row] for row in table["row"]])


def tuning(study: str, choices: Mapping[str, Mapping[str, Any]]) -> pandas.DataFrame:
    """Every trial of every network: what it changed, its CRPS on the validation split, and whether it was chosen."""
    lines = [
        {
            "study": study,
            "network": network,
            "trial": number,
            "change": in_words(trial["change"]),
            "valid_crps": np.inf if trial["crps"] is None else float(trial["crps"]),
            "chosen": number == choice["chosen"],
        }
        for network, choice in choices.items()
        for number, trial in enumerate(choice["trials"])
    ]
    return _pandas().DataFrame(lines, columns=["study", "network", "trial", "change", "valid_crps", "chosen"])


def curves(study: str, records: Sequence[Mapping[str, Any]], networks: Mapping[str, str]) -> pandas.DataFrame:
    """Validation scores along sampling steps and dials, a line per row, seed and point; `sampler` says it in full.

    What each initial state has in them stays in the records.
    """
    lines = [
        {
            "study": study,
            "row": record["row"],
            "network": networks[record["row"]],
            **{key: value for key, value in record.items() if not isinstance(value, list | dict) and key != "repr"},
            "sampler": record["repr"],
        }
        for record in records
    ]
    return _pandas().DataFrame(lines, columns=None if lines else list(CURVES))


def save(table: pandas.DataFrame, path: Path) -> Path:
    """Write a table as CSV or parquet, by the ending of `path`, complete or not at all."""
    buffer = io.BytesIO()
    if path.suffix == ".parquet":
        table.to_parquet(buffer, index=False)
    else:
        table.to_csv(buffer, index=False)
    atomic_write(path, buffer.getvalue())
    return path


def _pandas() -> Any:
    """Pandas, and what it writes parquet with."""
    try:
        import pandas
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"the tables of a study need {error.name}: pip install 'driftway[study]'") from error
    return pandas


# --- lines of the long table ---------------------------------------------------------------------------------------


def _lines(results: xr.Dataset, row: str) -> Iterator[tuple[Any, ...]]:
    """`LINE` of every value of a row."""
    time = str(results["lead_time"].attrs.get("time_units", "1"))
    for seed in seeds_of(results, row):
        here = results.sel(row=row, seed=seed)
        yield row, seed, "", "failures", "rollout", float(here["failures"]), "1"
        for field in map(str, results["field"].values):
            for score, part, value in _values(here.sel(field=field)):
                own = time if score == "correlation_time" else _unit(here, field, score)
                yield row, seed, field, score, part, value, own
        for score, of in PHYSICS.items():
            if score in here:
                values = zip(here[of].values, here[score].values, strict=True)
                yield from ((row, seed, str(name), score, "rollout", float(value), "1") for name, value in values)


def _unit(here: xr.Dataset, field: str, score: str) -> str:
    known = "units" in here and score in SCORES and SCORES[score].dimensional
    return str(here["units"].sel(field=field).item()) if known else "1"


def _values(here: xr.Dataset) -> Iterator[tuple[str, str, float]]:
    """(score, part, value) of one row, seed and field."""
    for name in (name for name in SCORES if name in here):
        values = here[name].values
        yield name, "rollout", float(values.mean())
        yield from ((name, f"lead {k}", float(value)) for k, value in enumerate(values, 1))
    for name in ROLLOUT:
        parts = segments(here.sizes["lead_time"])
        named = {f"segment {k}": part for k, part in enumerate(parts, 1)}
        named |= {f"leads {w.start + 1}–{w.stop}": w for w in windows(here.sizes["lead_time"])}
        yield from ((name, part, float(here[name].values[leads].mean())) for part, leads in named.items())
        yield from ((name, f"state {k}", float(value)) for k, value in enumerate(here[f"{name}_states"].values, 1))
    for name in (name for name in BANDED if name in here):
        bands = zip(here["band"].values, here[name].values, strict=True)
        yield from ((name, str(band), float(value)) for band, value in bands)
    yield from ((name, "rollout", float(here[name])) for name in ("correlation_time", "censored"))
