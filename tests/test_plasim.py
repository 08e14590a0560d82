"""PlaSim's data sets with a stand-in for the program: runs, splits, years, restarts, refusals."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from driftway.climate import making, presets, program
from driftway.climate.presets import CLIMATES, PlaSim
from driftway.climate.restart import get_integer, set_integer
from driftway.data import open_zarr, verify
from driftway.errors import ConfigError, DataError, DivergedError, Suspended
from driftway.pdes import Counts
from driftway.pdes.solver import Names
from driftway.simulate import make_data, preset_named
from tests import plasim_standin

SMALL = ("layers=5", "burn_in=1", "days=2", "consecutive=2", "trajectories=[3, 1, 1]", "variables=[tas, pr_12h, zg500]")
PRESET = CLIMATES["plasim-t21"]


@pytest.fixture(autouse=True)
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that is the stand-in."""
    words = f'#!/bin/sh\nexec {sys.executable} -S {plasim_standin.__file__} "$@"\n'
    interpreter(tmp_path, monkeypatch, words)


def interpreter(folder: Path, monkeypatch: pytest.MonkeyPatch, words: str) -> Path:
    path = folder / "python"
    path.write_text(words)
    path.chmod(0o755)
    monkeypatch.setenv(program.INTERPRETER, str(path))
    return path


def made(path: Path, *overrides: str, seed: int = 0) -> dict[str, Any]:
    """A small data set with years of three days."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (presets, making):
            patch.setattr(module, "YEAR", 3)
        return make_data("plasim-t21", path, overrides=(*SMALL, *overrides), seed=seed)


def test_a_data_set_has_years_in_runs_that_serve_one_split_each(tmp_path: Path) -> None:
    made(tmp_path / "a.zarr")
    data = open_zarr(tmp_path / "a.zarr")
    assert data.shape == (5, 8, 3, 32, 64) and not verify(tmp_path / "a.zarr")
    assert data.splits == ("test", "valid", "train", "train", "train")
    assert list(data.attributes["run"]) == [0, 1, 2, 2, 3]
    tas = np.asarray(data.states)[:, :, 0].mean((2, 3)).astype(float) - 281
    assert np.allclose(tas[:, 1:], 3.9 * tas[:, :-1] * (1 - tas[:, :-1]), atol=1e-3)
    starts = tas[[0, 1, 2, 4], 0]
    assert len(set(np.round(starts, 4))) == 4, "runs begin differently"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_second_year_of_a_run_goes_on_where_the_first_has_ended(tmp_path: Path) -> None:
    """Without a gap between them, so that the weather of one follows from that of the other."""
    made(tmp_path / "a.zarr", "days=3", "trajectories=[2, 0, 0]")
    tas = np.asarray(open_zarr(tmp_path / "a.zarr").states)[:, :, 0].mean((2, 3)).astype(float) - 281
    assert tas[1, 0] == pytest.approx(3.9 * tas[0, -1] * (1 - tas[0, -1]), abs=1e-3)


def test_forcing_and_static_fields_are_those_of_the_run(tmp_path: Path) -> None:
    made(tmp_path / "a.zarr")
    data = open_zarr(tmp_path / "a.zarr")
    assert data.field_names == ("lsm", "sg", "z0", "rsdt", "sic", "sst")
    assert np.allclose(data.forcing["rsdt"], 300) and np.allclose(data.static["z0"], 0.1)
    # the stand-in writes its step as ice: one day is passed over, and every year is the first of the calendar
    assert data.forcing["sic"][:, 0, 0].tolist() == [8 * (4 * 367 + n) for n in range(1, 9)]
    days = 1 + np.arange(1, 9) / 4
    assert np.allclose(data.forcing["sst"][:, 0, 0], 280 + (days + 16) / 31, atol=1e-4)


def test_precipitation_of_twelve_hours_knows_what_fell_before_the_first_state(tmp_path: Path) -> None:
    made(tmp_path / "a.zarr", "variables=[pr_6h, pr_12h]", "trajectories=[2, 0, 0]", "days=3")
    rain = np.asarray(open_zarr(tmp_path / "a.zarr").states)[..., 0, 0].astype(float)
    assert np.allclose(rain[:, 1:, 1], rain[:, 1:, 0] + rain[:, :-1, 0], rtol=1e-5)
    assert rain[1, 0, 1] == pytest.approx(rain[1, 0, 0] + rain[0, -1, 0], rel=1e-5)
    assert rain[0, 0, 0] > 0.4 and rain[0, 0, 1] != pytest.approx(2 * rain[0, 0, 0], rel=1e-3)


def test_a_data_set_is_one_that_xarray_and_a_climate_scientist_know(tmp_path: Path) -> None:
    made(tmp_path / "a.zarr")
    data = xr.open_zarr(tmp_path / "a.zarr", consolidated=False, chunks=None, decode_times=False)
    assert data["zg500"].attrs["standard_name"] == "geopotential_height" and data["zg500"].attrs["units"] == "m"
    assert data["tas"].attrs["long_name"] == "air temperature at 2 m"
    assert data["lat"].attrs["standard_name"] == "latitude" and data["lat"].values[0] == pytest.approx(85.76, abs=0.01)
    assert data["rsdt"].attrs["units"] == "W m-2" and data["rsdt"].dims == ("time", "lat", "lon")
    assert data.attrs["truncation"] == 21 and data.attrs["co2"] == 360.0 and data.attrs["exoplasim"] == "0"


def test_every_channel_of_both_presets_is_finite(tmp_path: Path) -> None:
    names = ", ".join(CLIMATES["plasim-t42"].variables)
    made(tmp_path / "a.zarr", f"variables=[{names}]", "trajectories=[1, 0, 0]", "days=1")
    data = open_zarr(tmp_path / "a.zarr")
    assert data.shape == (1, 4, 73, 32, 64) and np.isfinite(np.asarray(data.states)).all()
    assert set(PRESET.variables) < set(CLIMATES["plasim-t42"].variables)


# --- stopping and going on -----------------------------------------------------------------------------------------


def stop_at(monkeypatch: pytest.MonkeyPatch, call: int, error: BaseException) -> None:
    """The program runs for the last time before the call of this number."""
    count, days = 0, program.Run.days

    def counted(run: program.Run, number: int) -> None:
        nonlocal count
        count += 1
        if count >= call:
            raise error
        days(run, number)

    monkeypatch.setattr(program.Run, "days", counted)


@pytest.mark.parametrize(
    ("call", "error"),
    [(1, Suspended("full")), (2, KeyboardInterrupt()), (4, KeyboardInterrupt()), (6, Suspended("full"))],
)
def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(
    call: int, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("driftway.simulate.processors", lambda: 1)
    few = ("trajectories=[2, 0, 1]",)
    with monkeypatch.context() as context:
        stop_at(context, call, error)
        with pytest.raises(type(error)):
            made(tmp_path / "a.zarr", *few)
    assert not (tmp_path / "a.zarr").exists()
    made(tmp_path / "a.zarr", *few)
    made(tmp_path / "b.zarr", *few)
    assert open_zarr(tmp_path / "a.zarr").fingerprint() == open_zarr(tmp_path / "b.zarr").fingerprint()


def test_years_that_are_written_are_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftway.simulate.processors", lambda: 1)
    few = ("trajectories=[3, 0, 0]", "consecutive=3", "days=3")
    with monkeypatch.context() as context:
        stop_at(context, 4, Suspended("full"))  # after the burn-in and two years
        with pytest.raises(Suspended):
            made(tmp_path / "a.zarr", *few)
    calls: list[int] = []
    days = program.Run.days
    monkeypatch.setattr(program.Run, "days", lambda run, number: (calls.append(number), days(run, number))[1])
    made(tmp_path / "a.zarr", *few)
    assert calls == [3]


def test_a_killed_process_leaves_no_program_behind(tmp_path: Path) -> None:
    """Of the script that runs it: the program ends when the standard input of the script does."""
    process = script(tmp_path, "#!/bin/sh\necho $$ > pid\nexec sleep 1000\n")
    while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text().strip():
        time.sleep(0.01)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(10) == 128 + 9
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def script(folder: Path, words: str) -> subprocess.Popen[bytes]:
    """The script that runs a program of these words in a folder."""
    path = folder / "program.x"
    path.write_text(words)
    path.chmod(0o755)
    return subprocess.Popen([sys.executable, program.SCRIPT, "run", path.name], stdin=subprocess.PIPE, cwd=folder)


@pytest.mark.parametrize(("words", "code"), [("exit 3", 3), ("exit 0", 0), ("kill -8 $$", 128 + 8)])
def test_a_program_that_ends_by_itself_passes_its_exit_code_on(words: str, code: int, tmp_path: Path) -> None:
    """While the standard input of the script is still open."""
    assert script(tmp_path, f"#!/bin/sh\n{words}\n").wait(20) == code


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (77, r"python has no exoplasim; install the extra `climate` .* gfortran, g\+\+ and make, .* docs/"),
        (78, r"python has exoplasim and no compiler for it; install .* \(there is no gfortran\)"),
        (79, "python cannot compile exoplasim, which does so in its own folder; make a virtual environment"),
        (80, "python has not compiled exoplasim"),
        (3, r"python ended with exit code 3 \(there is no gfortran\)"),
    ],
)
def test_what_is_missing_is_told_with_what_to_install(
    code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter(tmp_path, monkeypatch, f"#!/bin/sh\nread x\necho there is no gfortran >&2\nexit {code}\n")
    with pytest.raises(ConfigError, match=message):
        made(tmp_path / "a.zarr")
    assert not list(tmp_path.glob("*.zarr*")) and not list(tmp_path.glob(".*"))


def test_the_script_itself_tells_what_is_missing(tmp_path: Path) -> None:
    answers = [
        subprocess.run(
            [sys.executable, "-S", program.SCRIPT, "prepare"], input=b"{}\n", capture_output=True, env=env, check=False
        )
        for env in ({"PATH": str(tmp_path)}, {"PATH": str(tmp_path / "tools")})
        if (tmp_path / "tools").mkdir(exist_ok=True) is None
        and all(_tool(tmp_path / "tools" / tool) for tool in ("gfortran", "gcc", "g++", "make"))
    ]
    assert [answer.returncode for answer in answers] == [78, 77]
    assert answers[0].stderr == b"there is no gfortran\n"


def _tool(path: Path) -> bool:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return True


def test_an_interpreter_that_does_not_exist_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(program.INTERPRETER, str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match=r"DRIFTWAY_EXOPLASIM=.*nothing cannot be run; install the extra `climate`"):
        made(tmp_path / "a.zarr")


def test_a_crash_is_told_in_the_model_s_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = program.prepare
    monkeypatch.setattr(making, "prepare", lambda about, folder: _with(prepared(about, folder), "crash"))
    with pytest.raises(DivergedError, match=r"PlaSim .* says: Planet Simulator aborted timestep = 17; take a shorter"):
        made(tmp_path / "a.zarr")


def _with(made: program.Program, name: str) -> program.Program:
    (made.folder.parent / name).touch()
    return made


def test_a_program_that_was_killed_may_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program.Run, "_run", lambda run: (run.folder / program.LOG).touch() or 128 + 9)
    with pytest.raises(Suspended, match=r"PlaSim was killed .exit code 137.; give the same command again"):
        made(tmp_path / "a.zarr")
    assert list(tmp_path.glob(".a.zarr.*.partial"))


def test_a_disk_without_room_is_told_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "WORDS_PER_POINT", 10**12)
    with pytest.raises(Suspended, match=r"GB are free there and PlaSim writes .* GB before they are converted"):
        made(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("truncation=31", "plasim-t21: truncation = 31, must be 21 or 42: of these exoplasim has Earth's surface"),
        ("timestep=50", "timestep = 50.0, must be whole minutes that divide 360"),
        ("precision=2", "precision = 2, must be 4 or 8"),
        ("days=366", "days = 366, must be 1 to 365"),
        ("trajectories=[0, 0, 0]", "trajectories = .*, must be ≥ 0, some > 0"),
        ("variables=[tas, tas]", "must be different names, at least one"),
        ("variables=[tas850]", "there is no variable 'tas850'; there are tas, ts, pl, .* mrso, and hus, ta, .* ta850"),
        ("variables=[sst]", "there is no variable 'sst'"),
        ("variables=[zg9000]", "there is no variable 'zg9000'"),
        ("variables=[1]", "variables = 1 is not of the kind"),
        ("trunkation=21", "preset 'plasim-t21' has no number 'trunkation'; did you mean 'truncation'"),
    ],
)
def test_wrong_numbers_are_refused_in_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        preset_named("plasim-t21", [override])
    assert "\n" not in str(error.value)


def test_overrides_reach_every_number() -> None:
    preset = preset_named("plasim-t21", ["variables=[tas, zg500]", "co2=720", "trajectories=[2, 1, 1]"])
    assert isinstance(preset, PlaSim) and preset.variables == Names(("tas", "zg500"))
    assert (preset.co2, preset.trajectories) == (720.0, Counts(2, 1, 1))
    assert preset.fields.units == ("K", "m")


def test_members_and_dates_follow_from_the_numbers() -> None:
    preset = PRESET.override({"trajectories": [5, 1, 2], "consecutive": 2, "days": 365})
    assert [list(member.rows) for member in preset.members] == [[0, 1], [2], [3, 4], [5, 6], [7]]
    starts = preset.template({}).calendar
    assert starts is not None and starts.name == "noleap"
    assert [hour / 24 % 365 * 24 for hour in starts.starts] == pytest.approx([5.25] * 8)
    assert [int(hour // 8760) for hour in starts.starts] == [1, 2, 1, 1, 2, 1, 2, 1]
    assert preset.frames == 1460 and preset.states(range(8)) == 4 * 365 * (8 + 5) and preset.states([1, 2]) == 1460 * 3


def test_a_restart_file_takes_another_date(tmp_path: Path) -> None:
    path = tmp_path / "plasim_restart"
    path.write_bytes(plasim_standin.restart(17, 0.25))
    set_integer(path, "nstep", 11712)
    assert get_integer(path, "nstep") == 11712 and path.read_bytes() == plasim_standin.restart(11712, 0.25)
    with pytest.raises(DataError, match="is no restart file of PlaSim: it has no integer 'mstep'"):
        get_integer(path, "mstep")


# --- the sample ----------------------------------------------------------------------------------------------------

SAMPLE = Path(__file__).parents[1] / "docs" / "data" / "plasim.zarr"


def test_the_sample_is_small_whole_and_an_earth() -> None:
    """Of the real model: the jets blow from the west, winter is in the north, rain and moisture are in the tropics."""
    assert not verify(SAMPLE) and sum(file.stat().st_size for file in SAMPLE.rglob("*")) < 4e6
    data = open_zarr(SAMPLE)
    assert data.fields == PRESET.fields and data.axes == PRESET.axes and data.attributes["exoplasim"] == "3.4.2"
    states = np.asarray(data.states).astype(float)
    latitude = np.array(data.axes[0].coordinates)
    zonal = dict(zip(data.fields.names, states.mean((0, 1, 4)), strict=True))
    assert np.isfinite(states).all() and states[:, :, data.fields.index("pr_6h")].min() >= 0
    for side in (latitude > 0, latitude < 0):
        strongest = latitude[side][zonal["ua250"][side].argmax()]
        assert 20 < abs(strongest) < 50 and zonal["ua250"][side].max() > 20
    assert zonal["tas"][latitude > 60].mean() < 255 < zonal["tas"][latitude < -60].mean()
    tropics = np.abs(latitude) < 20
    assert zonal["hus850"][tropics].mean() > 0.008 and 5650 < zonal["zg500"][tropics].mean() < 5850
    assert data.static["sg"].max() > 3e4 and set(np.unique(data.static["lsm"])) == {0.0, 1.0}
    hours = data.forcing["rsdt"][:4, :, :].argmax(2).mean(1)
    assert len(set(hours.round())) == 4, "the sun goes round"
