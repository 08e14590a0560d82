"""The command `driftway forecast`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from cyclopts.types import NonNegativeInt, PositiveInt


def forecast(
    run: Path,
    /,
    *,
    data: Path,
    out: Path,
    leads: PositiveInt | None = None,
    members: PositiveInt | None = None,
    split: Literal["train", "valid", "test"] | None = None,
    trajectories: PositiveInt | None = None,
    batch: PositiveInt | None = None,
    start: NonNegativeInt = 0,
    starts: PositiveInt | None = None,
    sampler: str | None = None,
    label: str | None = None,
    seed: NonNegativeInt = 0,
    every: PositiveInt = 1,
    means: str | None = None,
    guard: bool = False,
    force: bool = False,
) -> Mapping[str, Any]:
    """Forecast an ensemble from states of a data set with a fitted run.

    What is not given of leads, members, split, trajectories, starts and batch is as the run's configuration has it
    under `evaluation`.

    :param run: folder of a finished run
    :param data: data set with the initial states
    :param out: zarr folder to write, streamed in constant memory
    :param leads: number of steps
    :param members: size of the ensemble
    :param split: which part of the data set
    :param trajectories: how many, at most all of the split
    :param batch: rows that run together
    :param start: first frame of each trajectory to start from
    :param starts: how many frames to start from, evenly spaced
    :param sampler: YAML, e.g. "{type: euler_maruyama, steps: 2}"; the run's own by default
    :param label: its name in scores and plots, by default that of the folder
    :param seed: key of the noise
    :param every: of the steps, each how many-th is kept
    :param means: month, or a number of steps: means of such periods are kept besides
    :param guard: tell where members leave what the training split spans
    :param force: replace an existing forecast
    """
    from driftway.forecasting import forecast_run
    from driftway.schema import evaluation_of

    given = {"leads": leads, "members": members, "split": split, "trajectories": trajectories}
    given |= {"starts": starts, "batch": batch}
    chosen = evaluation_of(run, {name: value for name, value in given.items() if value is not None}).model_dump()
    choices: dict[str, Any] = {"start": start, "sampler": sampler, "label": label, "seed": seed, "force": force}
    return forecast_run(run, data, out, **chosen, **choices, every=every, means=means, guard=guard)
