"""Forecasts and truth as tensors, one initial state at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from driftway.data.layout import Layout
from driftway.errors import DataError


def ensembles(forecast: xr.Dataset, layout: Layout) -> Iterator[Tensor]:
    """Ensemble after ensemble, (M, L, C, *S)."""
    for row in range(forecast.sizes["trajectory"]):
        yield _tensor(forecast.isel(trajectory=row), layout, ("realization", "lead_time"))


def states_of(truth: xr.Dataset, layout: Layout) -> Iterator[Tensor]:
    """Truth after truth, (L, C, *S)."""
    for row in range(truth.sizes["trajectory"]):
        yield _tensor(truth.isel(trajectory=row), layout, ("lead_time",))


def _tensor(data: xr.Dataset, layout: Layout, dims: tuple[str, ...]) -> Tensor:
    order = (*dims, *(axis.name for axis in layout.axes))
    try:
        fields = [data[name].transpose(*order).values for name in layout.fields.names]
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"a forecast is damaged ({reason}); copy it or make it again") from error
    return torch.from_numpy(np.stack(fields, len(dims)))


def check_alike(name: str, forecast: xr.Dataset, truth: xr.Dataset, layout: Layout) -> None:
    """Raise DataError where a forecast and the truth are not of the same fields, initial states, leads and grid."""
    missing = [f for f in layout.fields.names if f not in forecast or f not in truth]
    if missing:
        raise DataError(f"forecast '{name}' and truth must both have the fields {', '.join(missing)}")
    if forecast.sizes.get("realization", 0) == 0:
        raise DataError(f"forecast '{name}' has no members along 'realization'; make it with one or more")
    for dim in ("trajectory", "lead_time", *(axis.name for axis in layout.axes)):
        if forecast.sizes.get(dim) != truth.sizes.get(dim):
            raise DataError(
                f"forecast '{name}' has {forecast.sizes.get(dim)} along {dim}, the truth {truth.sizes.get(dim)}: "
                "score the same initial states, leads and grid"
            )
