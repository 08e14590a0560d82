"""Simulators: periodic pseudo-spectral solvers, presets of them, and trajectories to learn from."""

from driftway.pdes.burgers import Burgers
from driftway.pdes.kolmogorov import EnstrophyBudget, Kolmogorov
from driftway.pdes.kuramoto import KuramotoSivashinsky
from driftway.pdes.presets import PRESETS, Counts, Preset
from driftway.pdes.simulate import simulate
from driftway.pdes.spectral import SpectralPDE

__all__ = [
    "PRESETS",
    "Burgers",
    "Counts",
    "EnstrophyBudget",
    "Kolmogorov",
    "KuramotoSivashinsky",
    "Preset",
    "SpectralPDE",
    "simulate",
]
