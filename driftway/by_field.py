"""Choosing by field: for each field the sampler that suits it, and whether that pays beyond chance.

The best of many candidates on few states looks better than it is. So the gain over one sampler for all fields is also
told held out: on each half of the initial states with the choices, of both, that the other half makes.
Records are those of `driftway.tuning.scores_of_samplers` with `by_field`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from driftway.errors import ConfigError
from driftway.purposes import LARGE, PURPOSES, Record, choose, standard_errors

LEAST = 4  # initial states, for two in each half
Choice = dict[str, Any]


def choose_by_field(records: Sequence[Record], purpose: str, calls: int = 10) -> Choice:
    """The best sampler for each field, by the rule of `choose` on the field's scores, against one for all fields.

    Returns under `fields`, for each name, the number of the record that is `chosen`, its `score` and the `single`
    record's; their `difference`, single − own, over all initial states with its standard error; `held_out`, the same
    difference with choices of other states, with its standard error, and `held_out_single`, what it is a part of. Under
    `all` are means of these over fields, under `calls` those of a step of all different samplers.
    """
    single = choose(records, purpose, calls)
    names = list(records[0]["fields"])
    own = {name: choose(of_field(records, name), purpose, calls) for name in names}
    gains, singles = _held_out(records, purpose, calls)
    fields, differences = {}, {}
    for name in names:
        scores = PURPOSES[purpose].scores(of_field(records, name))
        differences[name] = scores.states[single] - scores.states[own[name]]
        fields[name] = {
            "chosen": own[name],
            "score": float(scores.values[own[name]]),
            "single": float(scores.values[single]),
            **_gains(differences[name], gains[name], singles[name]),
        }
    every = [torch.stack([part[name] for name in names]).mean(0) for part in (differences, gains, singles)]
    means = {part: sum(fields[name][part] for name in names) / len(names) for part in ("score", "single")}
    spent = sum(records[at]["calls"] for at in set(own.values()))
    return {"single": single, "fields": fields, "all": {**means, **_gains(*every)}, "calls": spent}


def of_field(records: Sequence[Record], name: str) -> list[Record]:
    """What records say of one field; a rollout that failed failed for all fields."""
    return [{"calls": r["calls"], "failures": r["failures"], **r["fields"][name]} for r in records]


def _held_out(records: Sequence[Record], purpose: str, calls: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Field → what each initial state gains over the single sampler, and its score by that; its other half chooses."""
    halves = torch.tensor(records[0]["half"])
    scores = PURPOSES[purpose].scores
    gains = {name: torch.zeros(len(halves), dtype=torch.float64) for name in records[0]["fields"]}
    singles = {name: gain.clone() for name, gain in gains.items()}
    for judged in (0, 1):
        rows, others = (halves == judged).nonzero()[:, 0], (halves != judged).nonzero()[:, 0]
        single = choose(_of_states(records, others), purpose, calls)
        for name in gains:
            field = of_field(records, name)
            own = choose(_of_states(field, others), purpose, calls)
            states = scores(_of_states(field, rows)).states
            gains[name][rows], singles[name][rows] = states[single] - states[own], states[single]
    return gains, singles


def _of_states(records: Sequence[Record], rows: Tensor) -> list[Record]:
    """Records of some initial states, all of one half, alone; what failed from any state has failed."""

    def part(record: Record, name: str) -> list[float]:
        return [math.inf] * len(rows) if record["failures"] else [record[name][row] for row in rows.tolist()]

    found = []
    for record in records:
        states = {name: part(record, f"{name}_states") for name in ("crps", "vrmse")}
        spectral = part(record, "spectral_half_states")
        means = {name: _mean(values) for name, values in states.items()}
        means |= {f"spectral_log_error_{band}": _mean(spectral) for band in LARGE}
        kept = {f"{name}_states": values for name, values in states.items()} | {"spectral_states": spectral}
        found.append({**record, **means, **kept})
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _gains(difference: Tensor, gain: Tensor, single: Tensor) -> dict[str, float]:
    """Means over initial states, of differences with their standard errors."""
    found = {"difference": difference, "held_out": gain}
    means = {name: float(values.mean()) for name, values in found.items()}
    errors = {f"{name}_error": float(standard_errors(values[None])[0]) for name, values in found.items()}
    return {**means, **errors, "held_out_single": float(single.mean())}


def check_states(count: int) -> None:
    """Raise ConfigError where there are too few initial states to hold half of them out."""
    if count < LEAST:
        raise ConfigError(
            f"{count} initial states, of which half are held out by field: give at least {LEAST} by --trajectories or "
            "--starts"
        )


def halves(trajectories: int, starts: int) -> list[int]:
    """The half, 0 or 1, of each initial state, start by start: every second trajectory, or start if there is one."""
    return [(start if trajectories == 1 else row) % 2 for start in range(starts) for row in range(trajectories)]


def table(choice: Choice) -> list[str]:
    """The choice, samplers by name, for people: for each field sampler, scores, held-out gain ± standard error."""
    head = ("field", "sampler", "score", "by one for all", "held-out gain")
    rows = [(name, found["chosen"], *_shown(found)) for name, found in choice["fields"].items()]
    rows = [head, *rows, ("mean of fields", f"{choice['calls']} calls", *_shown(choice["all"]))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _shown(found: Mapping[str, float]) -> tuple[str, str, str]:
    """Scores as they are, the held-out gain in per cent of the single sampler's held-out score."""
    whole = abs(found["held_out_single"]) or math.nan
    gain, error = (100 * found[name] / whole for name in ("held_out", "held_out_error"))
    return f"{found['score']:.4g}", f"{found['single']:.4g}", f"{gain:+.2f} ± {error:.2f} %"
