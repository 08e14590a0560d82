"""The command line. Results go to standard output, progress and errors to standard error.

Exit codes: 0 done; 1 unexpected; 2 configuration or usage; 3 data; 4 diverged; 5 storage; 130 and 143 stopped by
Ctrl-C or SIGTERM after saving. `--json` prints the result for machines, `--debug` the traceback of an error.
Commands import what they need when they run, so that help and mistyped words answer at once, without torch.
"""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter
from cyclopts.types import NonNegativeInt, PositiveInt

from driftway.brief import InBrief
from driftway.diagnosis.commands import diagnose
from driftway.errors import ConfigError, DriftwayError
from driftway.forecast_command import forecast
from driftway.longterm.commands import climate
from driftway.storage import without_nan
from driftway.studies.commands import study
from driftway.version import __version__

if TYPE_CHECKING:
    from driftway.schema import Experiment

Result = Mapping[str, Any]
Split = Literal["train", "valid", "test"]
Box = Literal["kolmogorov", "kolmogorov-hard", "kolmogorov-apebench", "kuramoto-sivashinsky", "burgers"]
Convection = Literal["rayleigh-benard", "rayleigh-benard-well"]
PresetName = Literal[Box, "burgers-stochastic", Convection, "shallow-water", "plasim-t21", "plasim-t42"]
LayoutName = Literal["the-well", "weatherbench2"]
TunedBy = Literal["run", "field"]
PurposeName = Literal["crps", "vrmse", "spectrum", "balance"]

app = App(
    name="driftway",
    help="Probabilistic emulators of physical systems.",
    version=__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(negative=()),
    help_epilogue="Everywhere: --json for machines, --debug for tracebacks. Exit codes are in docs/cli.md.",
)
data = App(name="data", help="Make, inspect and check data sets.")
fit = App(name="fit", help="Fit an autoencoder or a stepper from a configuration.")
app.command(data)
app.command(fit)
app.command(study)
app.command(forecast, usage="Usage: driftway forecast RUN --data PATH --out PATH [OPTIONS]")
app.command(climate, usage="Usage: driftway climate FORECAST... --truth PATH --out FOLDER [OPTIONS]")
app.command(diagnose, usage="Usage: driftway diagnose PATH [OPTIONS]")


@app.command
def doctor() -> Result:
    """Tell versions, device, threads and settings that are known to hurt."""
    from driftway.doctor import examine

    return examine()


@data.command
def presets(preset: PresetName | None = None, /) -> Result:
    """List what `data make` can simulate, or every number of one preset.

    :param preset: name of a preset, to see what its overrides may change
    """
    from driftway.simulate import describe_presets

    return describe_presets(preset)


@data.command(usage="Usage: driftway data make PRESET [KEY=VALUE...] --out PATH [OPTIONS]")
def make(preset: PresetName, /, *overrides: str, out: Path, seed: NonNegativeInt = 0, force: bool = False) -> Result:
    """Simulate a preset's trajectories into a zarr folder.

    :param preset: what to simulate; `driftway data presets` describes them
    :param overrides: key=value, any number that `driftway data presets PRESET` lists
    :param out: folder to write
    :param seed: key of the initial states
    :param force: replace an existing folder
    """
    from driftway.simulate import make_data

    return make_data(preset, out, seed=seed, overrides=overrides, force=force)


@data.command
def export(path: Path, /, *, out: Path, layout: LayoutName = "the-well") -> Result:
    """Write a data set in a layout of others, or a forecast in that of WeatherBench 2.

    :param path: zarr folder, HDF5 file in The Well's layout, or a folder of such files; a forecast
    :param out: folder to write
    :param layout: the-well (HDF5, a file per split and set of parameters) or weatherbench2 (zarr, by date and level)
    """
    from driftway.data import export_as

    return {"path": str(export_as(layout, path, out))}


@data.command
def inspect(path: Path, /) -> Result:
    """Describe a data set: fields, units, axes, splits, sizes.

    :param path: zarr folder, HDF5 file in The Well's layout, or a folder of such files
    """
    from driftway.data import inspect as describe
    from driftway.data import open_data

    return describe(open_data(path))


@data.command
def stats(path: Path, /, *, split: Split = "train") -> Result:
    """Mean, standard deviation and size of a step for each field of a split.

    :param path: zarr folder, HDF5 file in The Well's layout, or a folder of such files
    :param split: which part of the data set
    """
    from driftway.data import open_data, statistics
    from driftway.errors import naming

    part = open_data(path).split(split)
    with naming(path):
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


@fit.command(usage="Usage: driftway fit autoencoder CONFIG [KEY.PATH=VALUE...] [OPTIONS]")
def autoencoder(
    config: Path, /, *overrides: str, out: Path | None = None, resume: bool = False, force: bool = False
) -> Result:
    """Fit the autoencoder of a configuration by reconstruction.

    :param config: YAML file
    :param overrides: key.path=value, any field of the configuration
    :param out: run folder, by default runs/NAME
    :param resume: go on from the last checkpoint, bit for bit
    :param force: start over in a folder that holds a run
    """
    experiment, folder = _experiment(config, overrides, out)
    from driftway.workflow import fit_autoencoder

    fit_autoencoder(experiment, folder, resume=resume, force=force)
    return _fitted(folder)


@fit.command(usage="Usage: driftway fit stepper CONFIG [KEY.PATH=VALUE...] [OPTIONS]")
def stepper(
    config: Path, /, *overrides: str, out: Path | None = None, resume: bool = False, force: bool = False
) -> Result:
    """Fit the stepper of a configuration on encoded transitions.

    :param config: YAML file
    :param overrides: key.path=value, any field of the configuration
    :param out: run folder, by default runs/NAME
    :param resume: go on from the last checkpoint, bit for bit
    :param force: start over in a folder that holds a run
    """
    experiment, folder = _experiment(config, overrides, out)
    from driftway.workflow import fit_stepper

    fit_stepper(experiment, folder, resume=resume, force=force)
    return _fitted(folder)


def _experiment(config: Path, overrides: Sequence[str], out: Path | None) -> tuple[Experiment, Path]:
    """The configuration, read before torch is imported, and the run folder."""
    from driftway.schema import load_experiment

    experiment = load_experiment(config, overrides)
    from driftway.workflow import use_threads

    use_threads(experiment.training.threads)
    return experiment, out or Path("runs") / experiment.name


def _fitted(folder: Path) -> Result:
    """Where a run is, and the last line of its log."""
    last = (folder / "metrics.jsonl").read_text().splitlines()[-1]
    return {"run": str(folder), **json.loads(last)}


@app.command(usage="Usage: driftway tune RUN --for PURPOSE [OPTIONS]")
def tune(
    run: Path,
    /,
    *,
    purpose: Annotated[PurposeName, Parameter(name="--for")],
    by: TunedBy = "run",
    data: Path | None = None,
    calls: PositiveInt = 10,
    leads: PositiveInt = 10,
    members: PositiveInt = 8,
    trajectories: PositiveInt | None = None,
    starts: PositiveInt | None = None,
    batch: PositiveInt = 64,
    seed: NonNegativeInt = 0,
) -> Result:
    """Choose a run's sampler, its steps and its dials on the valid split, and store it with the emulator.

    :param run: folder of a finished run; its record becomes tuned.json there
    :param purpose: what forecasts are for; balance is the geometric mean of crps and spectrum
    :param by: run, one sampler for all fields; field, one for each, with what that gains on held-out states
    :param data: data set with a valid split, by default the one that the run was fitted to
    :param calls: most network calls of a step
    :param leads: number of steps of each forecast
    :param members: size of each ensemble
    :param trajectories: how many of the split, by default at most 16
    :param starts: frames of each trajectory to start from, by default what makes 16 initial states
    :param batch: rows that run together
    :param seed: key of the noise
    """
    from driftway.by_field import table
    from driftway.tuning import tune_run

    given = {"calls": calls, "leads": leads, "members": members, "trajectories": trajectories, "starts": starts}
    found = tune_run(run, purpose=purpose, data=data, **given, batch=batch, seed=seed, by=by)
    names = {"chosen": found["chosen"]["name"], "before": found["before"]["name"]}
    return InBrief(found, {**found, **names, **({"by_field": table(found["by_field"])} if by == "field" else {})})


@app.command(usage="Usage: driftway evaluate FORECAST... --data PATH [OPTIONS]")
def evaluate(forecasts: list[Path], /, *, data: Path, out: Path = Path("scores.json")) -> Result:
    """Score forecasts of the same initial states against a data set.

    :param forecasts: zarr folders made by `forecast`
    :param data: data set with the truth
    :param out: JSON file of all scores; one that exists is replaced
    """
    from driftway.report.findings import in_brief
    from driftway.scoring import evaluate_forecasts, load_scores

    found = evaluate_forecasts(forecasts, data, out)
    brief = {"scores": found["scores"], "findings": found["findings"], "methods": in_brief(load_scores(out))}
    return InBrief(found, brief)


@app.command
def verify(path: Path, /) -> Result:
    """Compare what driftway wrote with the checksums written beside it: data, runs, checkpoints, forecasts.

    :param path: one of them, or a folder with any of them
    """
    from driftway.errors import DataError
    from driftway.verifying import verify as check

    count, problems = check(path)
    if problems:
        raise DataError(f"{path} is damaged in {len(problems)} places, first: {problems[0]}; copy or make it again")
    return {"path": str(path), "verified": count, "damaged": 0}


@app.command
def report(folder: Path, /, *, out: Path | None = None) -> Result:
    """Write one HTML page from the forecasts and scores in a folder.

    :param folder: with scores.json and forecasts/
    :param out: HTML file, by default FOLDER/report.html; one that exists is replaced
    """
    from driftway.scoring import report_folder

    return {"report": str(report_folder(folder, out or folder / "report.html"))}


@app.command(usage="Usage: driftway demo [KEY.PATH=VALUE...] [OPTIONS]")
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
        return _fail(str(error), error.exit_code, debug)
    except CycloptsError as error:
        return _fail(_usage(error), ConfigError.exit_code, debug)
    except KeyboardInterrupt:
        sys.stderr.write("driftway: stopped\n")
        return 130
    except (BrokenPipeError, SystemExit):
        # Whoever read the output has left (rich then exits); what is still buffered must not raise again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _take(words: list[str], flag: str) -> bool:
    found = flag in words
    words[:] = [word for word in words if word != flag]
    return found


def _usage(error: CycloptsError) -> str:
    """What is wrong with the words of a command, and where its help is."""
    command = " ".join(error.command_chain or ())
    wrong, argument = str(error), error.argument
    if isinstance(error, MissingArgumentError) and argument is not None:
        choices = ", ".join(argument.get_choices() or ())
        wrong = f"{command} needs {argument.name}{f', one of {choices}' if choices else ''}."
    return f"{wrong} See `{' '.join(['driftway', *command.split()])} --help`."


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    else:
        sys.stderr.write(f"driftway: {' '.join(message.split())}\n")
    return code


def _show(result: object, as_json: bool) -> None:
    """Write a result; a terminal that lacks one of its characters shows '?' there."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if isinstance(result, Mapping):
        shown = result.brief if isinstance(result, InBrief) else result
        text = json.dumps(without_nan(result), indent=1, default=str) if as_json else "\n".join(_lines(shown))
        sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _lines(result: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for key, value in result.items():
        if isinstance(value, Mapping):
            yield f"{indent}{key}:"
            yield from _lines(value, indent + "  ")
        elif isinstance(value, list | tuple) and any(isinstance(entry, str) for entry in value):
            yield f"{indent}{key}:"
            yield from (f"{indent}- {entry}" for entry in value)
        else:
            yield f"{indent}{key}: {value:.5g}" if isinstance(value, float) else f"{indent}{key}: {value}"


if __name__ == "__main__":
    sys.exit(main())
