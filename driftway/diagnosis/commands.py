"""The command line of a diagnosis. It imports what it needs when it runs, so that help answers at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.types import PositiveInt

from driftway.brief import InBrief


def diagnose(
    path: Path,
    /,
    *,
    split: Literal["train", "valid", "test"] = "train",
    lags: Annotated[tuple[PositiveInt, ...] | None, Parameter(consume_multiple=True)] = None,
    states: PositiveInt = 1000,
    out: Path | None = None,
) -> Mapping[str, Any]:
    """Will an interpolant pay off for these data, and with which stride, noise and compression? Nothing is trained.

    :param path: zarr folder, HDF5 file in The Well's layout, or a folder of such files
    :param split: which part of the data set
    :param lags: numbers of frames between states, by default 1, 2, 4, … 64
    :param states: at most how many states to look at for each lag
    :param out: HTML page with figures, beside which all numbers go into a JSON file; ones that exist are replaced
    """
    from driftway.data import open_data
    from driftway.diagnosis.examination import diagnose as examine
    from driftway.errors import naming
    from driftway.storage import atomic_write, without_nan

    with naming(path):
        found = examine(open_data(path).split(split), lags=lags, states=states)
    result: dict[str, Any] = {"path": str(path), "split": split, **found.described()}
    if out is not None:
        from driftway.diagnosis.page import diagnosis_page

        result["report"] = str(diagnosis_page(out, found, str(path)))
        described = json.dumps(without_nan(result), indent=1, ensure_ascii=False)
        atomic_write(out.with_suffix(".json"), described.encode())
    seen = ("path", "split", "trajectories", "frames", "recommended", "verdict", "report")
    return InBrief(result, {key: result[key] for key in seen if key in result})
