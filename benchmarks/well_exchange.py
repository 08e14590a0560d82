"""Files that driftway writes are read by The Well's own package, and files that the package writes by driftway.

    python benchmarks/well_exchange.py PYTHON [--json]

PYTHON is the interpreter of another environment, since the package's pins clash with those of most:

    python -m venv well && well/bin/pip install the_well==1.2.0

driftway writes convection with walls, scalars per file, a static field, one for each trajectory and a forcing, in
train, valid and test with `stats.yaml`, and exports the same as a folder; there, `WellDataset` reads every pair of
states, raw and normalised. The package's `write_dummy_data` writes a file that driftway reads. All numbers are
compared, to the last bit where nothing is computed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from driftway.data import (
    Axis,
    Fields,
    Trajectories,
    export_well,
    open_data,
    save_statistics,
    save_well,
    statistics,
    verify,
)
from driftway.randomness import generator

FIELDS = Fields(("buoyancy", "pressure", "velocity_x", "velocity_y"), ("1",) * 4)
THERE = """
import sys
from importlib.metadata import version
import numpy as np
from the_well.data import WellDataset
from the_well.data.normalization import ZScoreNormalization
from the_well.utils.dummy_data import write_dummy_data
folder = sys.argv[1]
found = {}
for name, more in {"raw": {}, "normal": dict(use_normalization=True, normalization_type=ZScoreNormalization)}.items():
    data = WellDataset(path=folder + "/ours", well_split_name="train", n_steps_input=1, n_steps_output=1, **more)
    items = [data[n] for n in range(len(data))]
    for key in ("input_fields", "output_fields", "constant_fields", "constant_scalars", "boundary_conditions"):
        found[f"{name} {key}"] = np.stack([np.asarray(item[key]) for item in items])
exported = WellDataset(path=folder + "/exported", well_split_name="train", n_steps_input=1, n_steps_output=1)
found["exported"] = np.stack([np.asarray(exported[n]["input_fields"]) for n in range(len(exported))])
found["names"] = np.array(sum(data.metadata.field_names.values(), []))
found["scalars"] = np.array(data.metadata.constant_scalar_names)
found["constants"] = np.array(sum(data.metadata.constant_field_names.values(), []))
found["grid"] = np.asarray(items[0]["space_grid"])
np.savez(folder + "/found.npz", version=version("the_well"), **found)
write_dummy_data(folder + "/theirs.hdf5")
"""


def ours(folder: Path) -> dict[str, Trajectories]:
    """Two files of one parameter set each for training, and one each for valid and test."""
    wall = Axis("y", tuple(((1 - np.cos(np.pi * np.arange(8) / 7)) / 2).tolist()), "wall")
    axes, rng, parts = (Axis.uniform("x", 16, 4.0), wall), generator("exchange"), dict[str, Trajectories]()
    mask = rng.standard_normal((16, 8), np.float32)
    for name, count, rayleigh in (("train/a", 2, 1e6), ("train/b", 3, 1e7), ("valid/a", 1, 1e6), ("test/a", 1, 1e7)):
        parts[name] = Trajectories(
            states=rng.standard_normal((count, 6, 4, 16, 8), np.float32),
            fields=FIELDS,
            axes=axes,
            dt=0.25,
            parameters={"Rayleigh": np.full(count, rayleigh), "Prandtl": np.full(count, 0.5)},
            static={"mask": mask, "density": rng.standard_normal((count, 16, 8), np.float32)},
        )
        save_well(parts[name], folder / "data" / f"{name}.hdf5", "convection")
    save_statistics(open_data(folder).split("train"), folder / "stats.yaml")
    return parts


def read_there(parts: dict[str, Trajectories], folder: Path, found: Any) -> dict[str, bool]:
    """What the package read of ours, item by item: pairs of states of one trajectory after the other."""
    train = [parts["train/a"], parts["train/b"]]
    states = np.concatenate([np.moveaxis(part.states, 2, -1) for part in train])
    pairs = {
        "input": states[:, :-1].reshape(-1, *states.shape[2:]),
        "output": states[:, 1:].reshape(-1, *states.shape[2:]),
    }
    whole = statistics(open_data(folder).split("train"))
    density = np.concatenate([part.static["density"] for part in train])
    fixed = {"mask": np.stack([train[0].static["mask"]] * len(density)), "density": density}
    constants = np.stack([fixed[name] for name in found["constants"]], -1).repeat(5, 0)
    scalars = {name: np.concatenate([part.parameters[name] for part in train]) for name in ("Rayleigh", "Prandtl")}
    numbers = np.stack([scalars[name] for name in found["scalars"]], -1).astype(np.float32).repeat(5, 0)
    normal = {name: (values - whole.mean) / whole.std for name, values in pairs.items()}
    x, y = (np.asarray(axis.coordinates, np.float32) for axis in train[0].axes)
    return {
        "names of the fields": found["names"].tolist() == list(FIELDS.names),
        "states": all(np.array_equal(found[f"raw {name}_fields"][:, 0], pairs[name]) for name in pairs),
        "states of the exported folder": np.array_equal(found["exported"][:, 0], pairs["input"]),
        "states normalised by stats.yaml": all(
            np.allclose(found[f"normal {name}_fields"][:, 0], normal[name], atol=1e-5) for name in normal
        ),
        "static fields": np.array_equal(found["raw constant_fields"], constants),
        "scalars": np.array_equal(found["raw constant_scalars"], numbers),
        "boundaries": bool((found["raw boundary_conditions"] == [[2, 2], [0, 0]]).all()),
        "grid": np.array_equal(found["grid"], np.stack(np.meshgrid(x, y, indexing="ij"), -1)),
    }


def read_here(file: Path) -> dict[str, bool]:
    """What driftway reads of theirs, against h5py."""
    data, read = open_data(file), dict[str, Any]()
    with h5py.File(file) as stored:
        for order in range(3):
            group = stored[f"t{order}_fields"]
            read |= {
                str(name): (group[name][()], dict(group[name].attrs), order) for name in group.attrs["field_names"]
            }
        series = stored["scalars/time_varying_scalar"][()]
    same, static = True, True
    for name, (values, about, order) in read.items():
        names = [f"{name}_{axis}" for axis in "xy"] if order else [name]
        for component, channel in enumerate(names):
            expected = values[..., component] if order else values
            if about["time_varying"]:
                same &= np.array_equal(np.asarray(data.states)[:, :, data.fields.index(channel)], expected)
            else:
                static &= np.array_equal(data.static[channel], expected)
    moving = np.allclose(data.forcing["time_varying_scalar"][:, 0, 0], series, rtol=1e-6)
    return {
        "states": same,
        "fields fixed per trajectory": static,
        "scalar that moves": moving,
        "verify": not verify(file),
    }


def measure(python: str) -> dict[str, Any]:
    """Both directions; what is true agrees."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        parts = ours(folder / "ours")
        export_well(open_data(folder / "ours"), folder / "exported")
        subprocess.run([python, "-c", THERE, place], check=True)
        found = np.load(folder / "found.npz")
        return {
            "the_well": str(found["version"]),
            "written here, read there": read_there(parts, folder / "ours", found),
            "written there, read here": read_here(folder / "theirs.hdf5"),
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and write the table; 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="interpreter of an environment with the_well")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    found = measure(options.python)
    sys.stdout.write(json.dumps(found, indent=1) + "\n" if options.json else table(found))
    return 0 if all(all(part.values()) for part in found.values() if isinstance(part, dict)) else 1


def table(found: dict[str, Any]) -> str:
    """Plain text."""
    lines = [f"the_well {found['the_well']}"]
    for direction in ("written here, read there", "written there, read here"):
        lines += [
            direction,
            *(f"  {name:<34}{'agrees' if same else 'DIFFERS'}" for name, same in found[direction].items()),
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
