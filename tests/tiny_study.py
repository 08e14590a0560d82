"""A study of three networks and four rows on 32 points, and what may be changed in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from driftway.config import dump_yaml
from driftway.studies.file import Study, load_study

NETWORK = {"type": "unet", "width": 8, "blocks": 1, "embedding": 8}
BASE: dict[str, Any] = {
    "name": "base",
    "data": {"path": "data.zarr"},
    "stepper": {"type": "deterministic"},
    "training": {"steps": 1},
}
BRIDGE = {"stepper": {"type": "generative", "noise": "fitted", "sampler": {"type": "euler_maruyama", "steps": 2}}}
TRAINING = {"steps": 6, "batch": 4, "checkpoint_every": 2, "validate_every": 6, "validation": {"leads": 2}}
NOISELESS = {"prediction": "noise", "interpolant": {"type": "follmer", "scale": 0.0}}
RATES = {"training.learning_rate": [1e-3, 2e-3]}


def document(**changes: Any) -> dict[str, Any]:
    """A study of three networks and four rows on 32 points."""
    overrides = ["size=[32]", "length=[22.0]", "frames=13", "trajectories=[6, 2, 3]", "burn_in=10.0"]
    return {
        "name": "tiny",
        "data": {"preset": "kuramoto-sivashinsky", "overrides": overrides},
        "seeds": [0, 1],
        "tolerance": 0.2,
        "common": {"stepper": {"network": NETWORK}, "training": TRAINING, "evaluation": {"leads": 4, "members": 3}},
        "tuning": {"trials": 2, "steps": 3, "trajectories": 2, "leads": 2, "members": 2},
        "curves": {"steps": [1, 2], "trajectories": 2, "leads": 2, "members": 2},
        "rows": {
            "plain": {"file": "base.yaml", "tune": RATES},
            "bridge": {
                "file": "bridge.yaml",
                "tune": {"stepper.noise.factor": [0.5, 1.0]},
                "dials": [{"temperature": [0.0, 1.0]}],
            },
            "silent": {
                "like": "bridge",
                "set": {"stepper": {"sampler": {"temperature": 0.0}}, "evaluation": {"members": 1}},
            },
            "guess": {
                "like": "bridge",
                "set": {"guess": "plain"},
                "tune": RATES,
                "exempt": "its guess was trained before it",
                "seeds": 1,
            },
        },
        **changes,
    }


def written(folder: Path, study: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "base.yaml").write_text(dump_yaml(BASE))
    (folder / "bridge.yaml").write_text(dump_yaml({"extends": "base.yaml", **BRIDGE}))
    path = folder / "tiny.yaml"
    path.write_text(dump_yaml(study))
    return path


def loaded(folder: Path, **changes: Any) -> Study:
    return load_study(written(folder, document(**changes)))


def with_row(name: str, **changes: Any) -> dict[str, Any]:
    """The rows, one of them changed or added."""
    rows = document()["rows"]
    return {"rows": {**rows, name: {**rows.get(name, {}), **changes}}}
