"""Simulators: solvers on boxes, between walls and on the sphere, presets of them, and trajectories to learn from."""

from driftway.pdes.burgers import Burgers
from driftway.pdes.convection import EnergyBudget, RayleighBenard
from driftway.pdes.kolmogorov import EnstrophyBudget, Kolmogorov
from driftway.pdes.kuramoto import KuramotoSivashinsky
from driftway.pdes.presets import PRESETS, Counts, Preset
from driftway.pdes.shallow_water import ShallowWater
from driftway.pdes.simulate import simulate
from driftway.pdes.solver import Fault, Solver, Values
from driftway.pdes.spectral import SpectralPDE

__all__ = [
    "PRESETS",
    "Burgers",
    "Counts",
    "EnergyBudget",
    "EnstrophyBudget",
    "Fault",
    "Kolmogorov",
    "KuramotoSivashinsky",
    "Preset",
    "RayleighBenard",
    "ShallowWater",
    "Solver",
    "SpectralPDE",
    "Values",
    "simulate",
]
