"""Forecasts that are made as they are looked at, one initial state at a time, so that none is held in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from driftway.data.forecasts import AXES
from driftway.data.layout import Layout

States = Callable[[int], np.ndarray]


def row_by_row(
    states: States, members: int, truth: xr.Dataset, layout: Layout, attributes: Mapping[str, Any]
) -> xr.Dataset:
    """A forecast of the initial states and lead times of a truth (trajectory, lead_time, *axes).

    states: number of the initial state → (M, L, C, *S), float32; the last one is kept
    """
    once = lru_cache(maxsize=1)(states)
    _, *space = layout.shape
    shape = (members, truth.sizes["trajectory"], truth.sizes["lead_time"], *space)
    dims = (*AXES, *(axis.name for axis in layout.axes))
    fields = {
        name: (dims, indexing.LazilyIndexedArray(_Field(once, channel, shape)))
        for channel, name in enumerate(layout.fields.names)
    }
    return xr.Dataset(fields, {"lead_time": truth["lead_time"]}, dict(attributes))


class _Field(BackendArray):
    """One field (M, N, L, *S) of states that a function gives by initial state."""

    def __init__(self, states: States, channel: int, shape: tuple[int, ...]):
        self.states, self.channel, self.shape, self.dtype = states, channel, shape, np.dtype(np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        member, row, *rest = key
        rows = [row] if np.ndim(row) == 0 and not isinstance(row, slice) else range(self.shape[1])[row]
        found = np.stack([self.states(int(r))[:, :, self.channel] for r in rows], 1)
        return found[(member, slice(None) if isinstance(row, slice) else 0, *rest)]
