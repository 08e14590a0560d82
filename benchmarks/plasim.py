"""What is in a data set of PlaSim: global means, maps, and the small sample that comes with the sources.

    python benchmarks/plasim.py means DATA
    python benchmarks/plasim.py picture DATA OUT.png
    python benchmarks/plasim.py sample DATA OUT.zarr --frames 20

`sample` keeps the first frames of every trajectory and rounds each field to a power of two below a sixteenth of its
standard deviation over six hours, so that the files become small.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from driftway import Trajectories, open_data, save_zarr
from driftway.data import cf

# Fields of the picture: name, colours, and the value about which they are symmetric, if any.
MAPS = (("tas", "RdYlBu_r", None), ("zg500", "viridis", None), ("ua250", "RdBu_r", 0.0), ("pr_6h", "Blues", None))


def main(arguments: list[str] | None = None) -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--frames", type=int, default=20)
    options = parser.parse_args(arguments)
    WHAT[options.what](open_data(options.data), options)
    return 0


def weights(data: Trajectories) -> np.ndarray:
    """Of the latitudes, (lat, 1): Gaussian weights, which are those of equal areas."""
    nodes, found = np.polynomial.legendre.leggauss(len(data.axes[0]))
    order = np.argsort(nodes) if data.axes[0].coordinates[0] < 0 else np.argsort(-nodes)
    return found[order, None] / (2 * len(data.axes[1]))


def means(data: Trajectories, options: argparse.Namespace) -> None:
    """Mean over the globe of each field, in the first and last day of each trajectory, and its range in all."""
    area = weights(data)
    sys.stdout.write(f"{'field':8} {'first day':>12} {'last day':>12} {'least':>12} {'most':>12}  units" + "\n")
    for channel, (name, units) in enumerate(zip(data.fields.names, data.fields.units, strict=True)):
        states = np.asarray(data.states)[:, :, channel].astype(float)
        course = (area * states).sum((2, 3)).mean(0)
        numbers = course[:4].mean(), course[-4:].mean(), states.min(), states.max()
        sys.stdout.write(f"{name:8} " + " ".join(f"{number:12.5g}" for number in numbers) + f"  {units}" + "\n")


def picture(data: Trajectories, options: argparse.Namespace) -> None:
    """Maps of the last state of the first trajectory, with the coasts of the land mask."""
    state = np.asarray(data.states[[0], [data.shape[1] - 1]])[0]
    latitudes, longitudes = (np.array(axis.coordinates) for axis in data.axes)
    figure, panels = plt.subplots(2, 2, figsize=(10, 6), layout="constrained", sharex=True, sharey=True)
    for panel, (name, colours, centre) in zip(panels.flat, MAPS, strict=True):
        values = state[data.fields.index(name)]
        span = None if centre is None else float(np.abs(values - centre).max())
        limits = {} if span is None else {"vmin": centre - span, "vmax": centre + span}
        shown = panel.pcolormesh(longitudes, latitudes, values, cmap=colours, shading="nearest", **limits)
        panel.contour(longitudes, latitudes, data.static["lsm"], [0.5], colors="black", linewidths=0.8)
        known = cf.meaning(name)
        assert known is not None
        figure.colorbar(shown, ax=panel, shrink=0.8, label=known.units)
        panel.set_title(f"{name}: {known.long_name}", fontsize=10)
    for panel in panels[1]:
        panel.set_xlabel("longitude, degrees east")
    for panel in panels[:, 0]:
        panel.set_ylabel("latitude, degrees north")
    figure.savefig(options.out, dpi=120)


def rounded(data: Trajectories) -> np.ndarray:
    """The states in multiples of a power of two, for each field below σ/16 of its change in a step."""
    states = np.asarray(data.states).astype(np.float32)
    change = np.diff(states.astype(float), axis=1).std((0, 1, 3, 4))
    step = 2.0 ** np.floor(np.log2(np.maximum(change, 1e-12) / 16))
    step = step[:, None, None]
    return (step * np.round(states / step)).astype(np.float32)


def sample(data: Trajectories, options: argparse.Namespace) -> None:
    """A small data set of the same kind."""
    few = data.window(0, options.frames).load()
    about = {**few.attributes, "rounded": "to a power of two below a sixteenth of the change in six hours"}
    save_zarr(replace(few, states=rounded(few), attributes=about, digest=""), options.out)
    size = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file())
    sys.stdout.write(f"{options.out}: {few.shape}, {size / 1e6:.2f} MB" + "\n")


WHAT = {"means": means, "picture": picture, "sample": sample}

if __name__ == "__main__":
    sys.exit(main())
