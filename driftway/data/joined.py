"""Which trajectories of a data set follow one another."""

from __future__ import annotations

from collections.abc import Iterable

from driftway.data.trajectories import Trajectories

CLOSE = 1e-3  # of a step between states, by which a trajectory may begin beside the end of another


def chains(data: Trajectories, rows: Iterable[int] | None = None) -> list[list[int]]:
    """Trajectories of one run, by number, that follow one another by date without gap or overlap.

    rows: those that are looked at, by default all. The attribute `run` of a data set, if it has a number for each
    trajectory, tells which are of one run, and else all are. Without a calendar each trajectory stands alone.
    """
    rows = list(range(data.shape[0]) if rows is None else rows)
    if data.calendar is None:
        return [[row] for row in rows]
    runs, starts = data.attributes.get("run"), data.calendar.starts
    number = runs if isinstance(runs, list) and len(runs) == data.shape[0] else [0] * data.shape[0]
    length, close = data.hours(data.shape[1]), CLOSE * data.hours(1)

    def follows(end: int, row: int) -> bool:
        return number[end] == number[row] and abs(starts[end] + length - starts[row]) < close

    found: list[list[int]] = []
    for row in sorted(rows, key=lambda row: (str(number[row]), starts[row])):
        chain = next((chain for chain in found if follows(chain[-1], row)), None)
        if chain is None:
            found.append([row])
        else:
            chain.append(row)
    return found
