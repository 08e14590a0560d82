"""The command line of studies. Commands import what they need when they run, so that help answers at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cyclopts import App
from cyclopts.types import PositiveInt

study = App(name="study", help="Train, tune and score many methods under one protocol.")


@study.command(usage="Usage: driftway study plan FILE [OPTIONS]")
def plan(file: Path, /, *, workers: PositiveInt | None = None, scheduler: str | None = None) -> Mapping[str, Any]:
    """Check a study and predict how long it takes; nothing is written.

    :param file: YAML file of the study
    :param workers: tasks at a time, by default one per processor
    :param scheduler: address of a Dask scheduler, to count on its workers
    """
    from driftway.studies.run import plan_study

    return plan_study(file, workers=workers, scheduler=scheduler)


@study.command(usage="Usage: driftway study run FILE [OPTIONS]")
def run(
    file: Path,
    /,
    *,
    out: Path | None = None,
    workers: PositiveInt | None = None,
    scheduler: str | None = None,
) -> Mapping[str, Any]:
    """Carry out a study; what is done is kept, what was stopped is resumed.

    :param file: YAML file of the study
    :param out: folder for everything, by default studies/ and the file's name
    :param workers: tasks at a time, by default one per processor
    :param scheduler: address of a Dask scheduler whose workers see the folder, e.g. tcp://host:8786
    """
    from driftway.studies.run import run_study

    return run_study(file, out or Path("studies") / file.stem, workers=workers, scheduler=scheduler)


@study.command(usage="Usage: driftway study report FOLDER [OPTIONS]")
def report(folder: Path, /, *, out: Path | None = None) -> Mapping[str, Any]:
    """Write one HTML page and tidy tables from what a study has so far.

    :param folder: where the study was run
    :param out: HTML file, by default FOLDER/report.html; one that exists is replaced
    """
    from driftway.studies.report import report_study

    return report_study(folder, out)
