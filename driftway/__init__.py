"""Probabilistic emulators of physical systems: bridge from the current state to the next one.

Every name is imported where it is first used, so that `import driftway` alone costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from driftway.lazy import lazily, listed
from driftway.version import __version__ as __version__

if TYPE_CHECKING:
    from driftway import metrics as metrics
    from driftway import networks as networks
    from driftway import pdes as pdes
    from driftway.codecs import Chain as Chain
    from driftway.codecs import Codec as Codec
    from driftway.codecs import Identity as Identity
    from driftway.codecs import Standardize as Standardize
    from driftway.data.axes import Axis as Axis
    from driftway.data.axes import Fields as Fields
    from driftway.data.files import open_data as open_data
    from driftway.data.layout import Layout as Layout
    from driftway.data.trajectories import Conditioning as Conditioning
    from driftway.data.trajectories import Trajectories as Trajectories
    from driftway.data.trajectories import Transition as Transition
    from driftway.data.zarr_store import save_zarr as save_zarr
    from driftway.densities import GridTime as GridTime
    from driftway.densities import LogNormalNoise as LogNormalNoise
    from driftway.densities import UniformTime as UniformTime
    from driftway.diagnosis.examination import Diagnosis as Diagnosis
    from driftway.diagnosis.examination import diagnose as diagnose
    from driftway.diffusions import Diffusion as Diffusion
    from driftway.emulator import Emulator as Emulator
    from driftway.errors import DriftwayError as DriftwayError
    from driftway.evaluation import score as score
    from driftway.grids import Grid as Grid
    from driftway.grids import KarrasSpacing as KarrasSpacing
    from driftway.grids import Leading as Leading
    from driftway.grids import Power as Power
    from driftway.grids import Truncated as Truncated
    from driftway.grids import Uniform as Uniform
    from driftway.interpolants import Bridge as Bridge
    from driftway.interpolants import Coefficients as Coefficients
    from driftway.interpolants import Follmer as Follmer
    from driftway.interpolants import Interpolant as Interpolant
    from driftway.interpolants import Rectified as Rectified
    from driftway.interpolants import Residual as Residual
    from driftway.interpolants import VarianceExploding as VarianceExploding
    from driftway.interpolants import VariancePreserving as VariancePreserving
    from driftway.linear import Linear as Linear
    from driftway.noise import Coloured as Coloured
    from driftway.noise import Fitted as Fitted
    from driftway.noise import White as White
    from driftway.predictions import Data as Data
    from driftway.predictions import Drift as Drift
    from driftway.predictions import Karras as Karras
    from driftway.predictions import Noise as Noise
    from driftway.predictions import Prediction as Prediction
    from driftway.predictions import Score as Score
    from driftway.predictions import Velocity as Velocity
    from driftway.randomness import Stream as Stream
    from driftway.randomness import stream as stream
    from driftway.samplers import Ancestral as Ancestral
    from driftway.samplers import Euler as Euler
    from driftway.samplers import EulerMaruyama as EulerMaruyama
    from driftway.samplers import Heun as Heun
    from driftway.samplers import Sampler as Sampler
    from driftway.schema import Experiment as Experiment
    from driftway.schema import load_experiment as load_experiment
    from driftway.simulate import make_data as make_data
    from driftway.steppers import Deterministic as Deterministic
    from driftway.steppers import Generative as Generative
    from driftway.steppers import LearnedStepper as LearnedStepper
    from driftway.steppers import Persistence as Persistence
    from driftway.steppers import Stepper as Stepper
    from driftway.transport import Transport as Transport
    from driftway.tuning import tune_run as tune_run
    from driftway.workflow import fit_autoencoder as fit_autoencoder
    from driftway.workflow import fit_stepper as fit_stepper

_NAMES = {
    "metrics": "",
    "networks": "",
    "pdes": "",
    "codecs": "Chain Codec Identity Standardize",
    "data.files": "open_data",
    "data.layout": "Layout",
    "data.trajectories": "Axis Conditioning Fields Trajectories Transition",
    "data.zarr_store": "save_zarr",
    "densities": "GridTime LogNormalNoise UniformTime",
    "diagnosis.examination": "Diagnosis diagnose",
    "diffusions": "Diffusion",
    "emulator": "Emulator",
    "errors": "DriftwayError",
    "evaluation": "score",
    "grids": "Grid KarrasSpacing Leading Power Truncated Uniform",
    "interpolants": "Bridge Coefficients Follmer Interpolant Rectified Residual VarianceExploding VariancePreserving",
    "linear": "Linear",
    "noise": "Coloured Fitted White",
    "predictions": "Data Drift Karras Noise Prediction Score Velocity",
    "randomness": "Stream stream",
    "samplers": "Ancestral Euler EulerMaruyama Heun Sampler",
    "schema": "Experiment load_experiment",
    "simulate": "make_data",
    "steppers": "Deterministic Generative LearnedStepper Persistence Stepper",
    "transport": "Transport",
    "tuning": "tune_run",
    "workflow": "fit_autoencoder fit_stepper",
}
__all__ = [*listed(_NAMES), "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]

if not TYPE_CHECKING:  # or every misspelt name would have a type
    __getattr__ = lazily(__name__, _NAMES)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
