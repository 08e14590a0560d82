"""Data sets: read, written, described and verified, in zarr and in The Well's HDF5 layout."""

from driftway.data.files import inspect, open_data, verify
from driftway.data.statistics import Statistics, statistics
from driftway.data.trajectories import Axis, Conditioning, Fields, Trajectories, Transition, unwritten
from driftway.data.well import open_well
from driftway.data.well_writer import save_well
from driftway.data.zarr_store import open_zarr, save_zarr, write_zarr

__all__ = [
    "Axis",
    "Conditioning",
    "Fields",
    "Statistics",
    "Trajectories",
    "Transition",
    "inspect",
    "open_data",
    "open_well",
    "open_zarr",
    "save_well",
    "save_zarr",
    "statistics",
    "unwritten",
    "verify",
    "write_zarr",
]
