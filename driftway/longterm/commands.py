"""The command line of climates. It imports what it needs when it runs, so that help answers at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from cyclopts.types import NonNegativeInt, PositiveInt

from driftway.brief import InBrief

Part = Literal["train", "valid", "test", "all"]


def climate(
    forecasts: list[Path],
    /,
    *,
    truth: Path,
    split: Part = "test",
    also: Path | None = None,
    also_split: Part = "train",
    block: PositiveInt | None = None,
    seed: NonNegativeInt = 0,
    out: Path,
) -> Mapping[str, Any]:
    """Compare the climate of long forecasts with that of a truth run, and with what chance makes runs differ by.

    :param forecasts: zarr folders made by `forecast`, of years or longer
    :param truth: data set with the truth run
    :param split: which part of it, or all
    :param also: data set with another truth run, whose years say more of chance
    :param also_split: which part of that, or all
    :param block: states kept in a block, in place of years with seasons
    :param seed: key of the resampling of years
    :param out: folder for climate.html, climate.json and maps.zarr; ones that exist are replaced
    """
    from driftway.longterm.examination import examine
    from driftway.longterm.page import climate_page, findings
    from driftway.longterm.results import described, save_maps, save_numbers

    found = examine(forecasts, truth, split=split, also=also, also_split=also_split, block=block, seed=seed)
    made = {
        "numbers": str(save_numbers(found, out / "climate.json")),
        "maps": str(save_maps(found, out / "maps.zarr")),
        "page": str(climate_page(out / "climate.html", found)),
    }
    said = findings(found)
    return InBrief({**described(found), **made, "findings": said}, {**found.facts, **made, "findings": said})
