"""A data set that is simulated in a blink, and experiments on it that train in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from driftway.config import dump_yaml
from driftway.data import Trajectories
from driftway.data.axes import Axis, Fields
from driftway.randomness import generator
from driftway.schema import Experiment, load_experiment
from driftway.simulate import make_data

CHAOS = ("size=[32]", "length=[22.0]", "frames=13", "trajectories=[6, 2, 2]", "burn_in=30.0")
FLOW = ("size=[16, 16]", "frames=13", "trajectories=[6, 2, 2]", "burn_in=1.0")
NETWORK = {"type": "unet", "width": 8, "blocks": 1, "embedding": 8}
KINDS: dict[str, dict[str, Any]] = {
    "deterministic": {"stepper": {"type": "deterministic", "network": NETWORK}},
    "generative": {"stepper": {"type": "generative", "network": NETWORK}},
    "autoencoder": {
        "codec": ["standardize", {"type": "autoencoder", "stem": 4, "widths": [8], "blocks": 1, "latent": 4}]
    },
}
TRAINING: dict[str, Any] = {
    "steps": 6,
    "batch": 4,
    "warmup": 2,
    "log_every": 1,
    "checkpoint_every": 2,
    "validate_every": 3,
}
TRAINING |= {"threads": 1, "validation": {"trajectories": 2, "leads": 2, "members": 2}}


def chaos(folder: Path) -> Path:
    """Kuramoto–Sivashinsky on 32 points."""
    make_data("kuramoto-sivashinsky", folder / "chaos.zarr", overrides=CHAOS)
    return folder / "chaos.zarr"


def flow(folder: Path) -> Path:
    """Kolmogorov flow on 16×16 points."""
    make_data("kolmogorov", folder / "flow.zarr", overrides=FLOW)
    return folder / "flow.zarr"


def written(folder: Path, data: Path, kind: str, /, **changes: Any) -> Path:
    """The YAML file of an experiment; `training` is merged with the defaults, other keys replace them."""
    training = {**TRAINING, **changes.pop("training", {})}
    path = folder / f"{kind}.yaml"
    described = {"name": kind, "data": {"path": str(data)}, **KINDS[kind], "training": training, **changes}
    path.write_text(dump_yaml(described))
    return path


def experiment(folder: Path, data: Path, kind: str = "generative", /, **changes: Any) -> Experiment:
    """The same, loaded."""
    return load_experiment(written(folder, data, kind, **changes))


def known_trajectories(count: int = 10, frames: int = 9, size: int = 16) -> Trajectories:
    """Random fields that depend on a parameter, a static field and a forcing, with splits of 6, 2 and 2."""
    rng, axis = generator("known"), Axis.uniform("x", size, 1.0, symmetry=1)
    strength = rng.uniform(1, 2, count).astype(np.float32)
    forcing = rng.standard_normal((frames, size)).astype(np.float32)
    states = strength[:, None, None, None] * (rng.standard_normal((count, frames, 2, size)) + forcing[None, :, None])
    return Trajectories(
        states.astype(np.float32),
        Fields(("u", "v"), ("m s-1", "m s-1")),
        (axis,),
        0.5,
        parameters={"strength": strength},
        static={"orography": np.linspace(0, 1, size, dtype=np.float32)},
        forcing={"sun": forcing},
        splits=("train",) * 6 + ("valid",) * 2 + ("test",) * 2,
    )
