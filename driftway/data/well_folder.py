"""A whole data set as a folder of The Well's layout (Ohana et al. 2024, arXiv 2412.00568)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from driftway.data.trajectories import SPLITS, Trajectories
from driftway.data.well_writer import save_well
from driftway.errors import DataError
from driftway.storage import atomic_folder


def export_well(data: Trajectories, folder: str | Path, name: str | None = None) -> Path:
    """Write `folder/data/{train,valid,test}/NAME_….hdf5`, a file for each set of parameters, as The Well has it.

    `name` is the data set's, by default its preset's or the one that it was read with. The folder appears when all is
    written. Raises StorageError if it exists and where it cannot be written, DataError for data without splits.
    """
    if data.splits is None:
        raise DataError("The Well keeps train, valid and test apart, and these data have no splits: give them some")
    known = data.attributes
    name = name or str(known.get("dataset_name", known.get("preset", "data"))).replace("-", "_")
    with atomic_folder(Path(folder)) as partial:
        for split in SPLITS:
            for words, rows in _sets(data, [row for row, other in enumerate(data.splits) if other == split]):
                save_well(data.select(rows), partial / "data" / split / f"{'_'.join([name, *words])}.hdf5", name)
    return Path(folder)


def _sets(data: Trajectories, rows: list[int]) -> Iterator[tuple[list[str], list[int]]]:
    """Rows of one set of parameters each, with the words of a file's name."""
    values = {row: tuple(float(data.parameters[name][row]) for name in sorted(data.parameters)) for row in rows}
    for numbers in sorted(set(values.values())):
        words = [f"{name}_{number:g}" for name, number in zip(sorted(data.parameters), numbers, strict=True)]
        yield words, [row for row in rows if values[row] == numbers]
