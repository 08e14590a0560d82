"""The command line. Results go to standard output, progress and errors to standard error.

Exit codes: 0 done; 1 unexpected; 2 configuration or usage; 3 data; 4 diverged; 5 storage; 130 and 143 stopped by
Ctrl-C or SIGTERM after saving. `--json` prints the result for machines, `--debug` the traceback of an error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cyclopts import App, CycloptsError, Parameter

from driftway.errors import ConfigError, DriftwayError
from driftway.version import __version__

Result = Mapping[str, Any]

app = App(
    name="driftway",
    help="Probabilistic emulators of physical systems.",
    version=__version__,
    result_action="return_value",
    default_parameter=Parameter(negative=()),
    help_epilogue="Everywhere: --json for machines, --debug for tracebacks. Exit codes are in docs/cli.md.",
)
data = App(name="data", help="Make, inspect and check data sets.")
fit = App(name="fit", help="Fit an autoencoder or a stepper from a configuration.")
app.command(data)
app.command(fit)


@app.command
def doctor() -> Result:
    """Tell versions, device, threads and settings that are known to hurt."""
    from driftway.doctor import examine

    return examine()


@data.command
def make(preset: str, *overrides: str, out: Path, seed: int = 0, force: bool = False) -> Result:
    """Simulate the preset's trajectories into a zarr folder.

    :param preset: a name from docs/simulators.md, e.g. kolmogorov
    :param overrides: key=value, a field of the preset or of its solver
    :param out: folder to write
    :param seed: key of the initial states
    :param force: replace an existing folder
    """
    from driftway.simulate import make_data

    return make_data(preset, out, seed=seed, overrides=overrides, force=force)


@data.command
def inspect(path: Path) -> Result:
    """Describe a data set: fields, units, axes, splits, sizes."""
    from driftway.data import inspect as describe
    from driftway.data import open_data

    return describe(open_data(path))


@data.command
def stats(path: Path, split: str = "train") -> Result:
    """Mean, standard deviation and size of a step for each field of a split."""
    from driftway.data import open_data, statistics

    part = open_data(path).split(split)
    found = statistics(part)
    return {
        name: {
            "mean": float(found.mean[c]),
            "std": float(found.std[c]),
            "increment_std": float(found.increment_std[c]),
            "minimum": float(found.minimum[c]),
            "maximum": float(found.maximum[c]),
        }
        for c, name in enumerate(part.fields.names)
    }


@data.command
def verify(path: Path) -> Result:
    """Compare every chunk of a data set with the checksum written beside it."""
    from driftway.data import verify as check
    from driftway.errors import DataError

    problems = check(path)
    if problems:
        raise DataError(f"{path} is damaged in {len(problems)} places, first: {problems[0]}; copy or make it again")
    return {"path": str(path), "damaged": 0}


@fit.command
def autoencoder(
    config: Path, *overrides: str, out: Path | None = None, resume: bool = False, force: bool = False
) -> Result:
    """Fit the autoencoder of a configuration by reconstruction.

    :param config: YAML file
    :param overrides: key.path=value, any field of the configuration
    :param out: run folder, by default runs/NAME
    :param resume: go on from the last checkpoint, bit for bit
    :param force: start over in a folder that holds a run
    """
    from driftway.workflow import fit_autoencoder

    return _fit(fit_autoencoder, config, overrides, out, resume, force)


@fit.command
def stepper(
    config: Path, *overrides: str, out: Path | None = None, resume: bool = False, force: bool = False
) -> Result:
    """Fit the stepper of a configuration on encoded transitions.

    :param config: YAML file
    :param overrides: key.path=value, any field of the configuration
    :param out: run folder, by default runs/NAME
    :param resume: go on from the last checkpoint, bit for bit
    :param force: start over in a folder that holds a run
    """
    from driftway.workflow import fit_stepper

    return _fit(fit_stepper, config, overrides, out, resume, force)


def _fit(run: Any, config: Path, overrides: Sequence[str], out: Path | None, resume: bool, force: bool) -> Result:
    from driftway.schema import load_experiment
    from driftway.workflow import use_threads

    experiment = load_experiment(config, overrides)
    use_threads(experiment.training.threads)
    folder = out or Path("runs") / experiment.name
    run(experiment, folder, resume=resume, force=force)
    last = (folder / "metrics.jsonl").read_text().splitlines()[-1]
    return {"run": str(folder), **json.loads(last)}


@app.command
def forecast(
    run: Path,
    *,
    data: Path,
    out: Path,
    leads: int = 20,
    members: int = 16,
    split: str = "test",
    trajectories: int | None = None,
    start: int = 0,
    sampler: str | None = None,
    label: str | None = None,
    seed: int = 0,
    batch: int = 64,
    force: bool = False,
) -> Result:
    """Forecast an ensemble from states of a data set with a fitted run.

    :param run: folder of a finished run
    :param data: data set with the initial states
    :param out: zarr folder to write, streamed in constant memory
    :param leads: number of steps
    :param members: size of the ensemble
    :param split: which part of the data set
    :param trajectories: how many initial states (all)
    :param start: frame of each trajectory to start from
    :param sampler: YAML, e.g. "{type: euler_maruyama, steps: 2}"; the run's own by default
    :param label: its name in scores and plots, by default that of the folder
    :param seed: key of the noise
    :param batch: rows that run together
    :param force: replace an existing forecast
    """
    from driftway.forecasting import forecast_run

    return forecast_run(
        run, data, out, leads=leads, members=members, split=split, trajectories=trajectories, start=start,
        sampler=sampler, label=label, seed=seed, batch=batch, force=force,
    )  # fmt: skip


@app.command
def evaluate(forecasts: list[Path], *, data: Path, out: Path = Path("scores.json")) -> Result:
    """Score forecasts of the same initial states against a data set.

    :param forecasts: zarr folders made by `forecast`
    :param data: data set with the truth
    :param out: JSON file of all scores
    """
    from driftway.scoring import evaluate_forecasts

    return evaluate_forecasts(forecasts, data, out)


@app.command
def report(folder: Path, *, out: Path | None = None) -> Result:
    """Write one HTML page from the forecasts and scores in a folder.

    :param folder: with scores.json and forecasts/
    :param out: HTML file, by default FOLDER/report.html
    """
    from driftway.scoring import report_folder

    return {"report": str(report_folder(folder, out or folder / "report.html"))}


@app.command
def demo(*overrides: str, out: Path = Path("demo"), quick: bool = False) -> Result:
    """Simulate turbulence, fit, forecast, score and report; parts that are done are reused.

    :param overrides: key.path=value, for every training
    :param out: folder for everything
    :param quick: a tiny version in under a minute, to see that all works
    """
    from driftway.demo import run_demo

    return run_demo(out, overrides, quick=quick)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug, as_json = (_take(words, flag) for flag in ("--debug", "--json"))
    try:
        result = app(words, exit_on_error=False, print_error=False)
        _show(result, as_json)
        return 0
    except DriftwayError as error:
        return _fail(error, error.exit_code, debug)
    except CycloptsError as error:
        return _fail(ConfigError(" ".join(str(error).split())), 2, debug)
    except KeyboardInterrupt:
        sys.stderr.write("driftway: stopped\n")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _take(words: list[str], flag: str) -> bool:
    found = flag in words
    words[:] = [word for word in words if word != flag]
    return found


def _fail(error: Exception, code: int, debug: bool) -> int:
    if debug:
        raise error
    sys.stderr.write(f"driftway: {' '.join(str(error).split())}\n")
    return code


def _show(result: object, as_json: bool) -> None:
    if not isinstance(result, Mapping):
        return
    text = json.dumps(result, indent=1, default=str) if as_json else "\n".join(_lines(result))
    sys.stdout.write(text + "\n")


def _lines(result: Mapping[str, Any], indent: str = "") -> list[str]:
    lines: list[str] = []
    for key, value in result.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {value:.5g}" if isinstance(value, float) else f"{indent}{key}: {value}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
