"""The record of a forecast as it is made: what is kept, what is gathered, and how far it has come."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, from_numpy

from driftway.checkpoints import drop_place, load_place, save_place
from driftway.data.forecasts import Sink, describe_forecast
from driftway.data.layout import Layout
from driftway.data.summaries import Made, Summary
from driftway.randomness import Key

SAVED = 100  # leads between two notes of how far a forecast has come


class Record:
    """Takes the states of a forecast, block by block and lead by lead.

    every: of the leads, each how many-th goes to `sink`; summaries: see all of them; notes: whether it is noted how far
    the forecast has come, so that one that was stopped goes on there
    """

    def __init__(self, sink: Sink, every: int, summaries: Sequence[Summary], notes: bool):
        self.sink, self.every, self.summaries = sink, every, summaries
        self.notes = sink.folder if notes else None
        self.place: tuple[int, int, dict[str, Tensor]] = (0, 0, {})

    def open(self, layout: Layout, members: int, names: Sequence[Key], leads: int, together: int) -> None:
        """Make what summaries write to, and look up how far the forecast has come."""
        if self.sink.folder is not None:
            for summary in self.summaries:
                summary.open(Made(self.sink.folder, layout, members, names, leads, together))
        if self.notes is not None:
            self.place = load_place(self.notes)
        for k, summary in enumerate(self.summaries):
            found = {n.removeprefix(f"{k}."): t.numpy() for n, t in self.place[2].items() if n.startswith(f"{k}.")}
            if found:
                summary.restore(found)

    def resume(self, block: int, leads: int) -> tuple[int, Tensor | None]:
        """The lead at which a block goes on, beyond the last if it is done, and the encoded states before that."""
        number, lead, tensors = self.place
        if block < number:
            return leads + 1, None
        return (lead + 1, tensors["encoded"]) if block == number and lead else (1, None)

    def sees(self, lead: int) -> bool:
        """Whether states at a lead, counted from 1, are kept or gathered: others need not be decoded."""
        return lead % self.every == 0 or bool(self.summaries)

    def put(
        self, block: int, members: slice, trajectories: slice, lead: int, encoded: Tensor, states: Tensor | None
    ) -> None:
        """Take states (m, n, C, *S) of a block at a lead; none where it does not see them."""
        if states is not None:
            self._take(members, trajectories, lead, states.cpu().numpy())
        if self.notes is not None and lead % SAVED == 0:
            gathered = {f"{k}.{n}": from_numpy(a) for k, s in enumerate(self.summaries) for n, a in s.state().items()}
            save_place(self.notes, block, lead, {"encoded": encoded, **gathered})

    def _take(self, members: slice, trajectories: slice, lead: int, values: np.ndarray) -> None:
        if lead % self.every == 0:
            self.sink.put(members, trajectories, lead // self.every - 1, values)
        for summary in self.summaries:
            summary.see(members, trajectories, lead, values)

    def close(self) -> None:
        """Let summaries write what is left, and the forecast say what they found."""
        said = {name: text for summary in self.summaries for name, text in summary.close().items()}
        if self.sink.folder is not None and said:
            describe_forecast(self.sink.folder, said)
        if self.notes is not None:
            drop_place(self.notes)
