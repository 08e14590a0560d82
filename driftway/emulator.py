"""Emulator: codec + stepper + fields, what a user holds: physical units in, ensembles in physical units out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from driftway.codecs import Codec
from driftway.copies import side_by_side
from driftway.data.forecasts import in_memory, on_disk
from driftway.data.layout import Layout
from driftway.data.seasons import Told
from driftway.data.summaries import Summary
from driftway.data.trajectories import Conditioning, Trajectories
from driftway.errors import ConfigError, DataError
from driftway.parameters import checked_parameters
from driftway.progress import progress
from driftway.randomness import Key, Stream, stream
from driftway.record import Record
from driftway.samplers import Sampler
from driftway.steppers import NOTHING, Generative, Stepper

Known = Conditioning | Callable[[int], Conditioning]
"""What steps may know besides the state: the same at every lead, or a function of the lead, counted from 1."""


def always(lead: int) -> bool:
    """States are seen at every lead."""
    return True


class Block(NamedTuple):
    """Which part of an ensemble runs together."""

    members: slice
    trajectories: slice

    @property
    def rows(self) -> int:
        """How many states that is."""
        return (self.members.stop - self.members.start) * (self.trajectories.stop - self.trajectories.start)


class Emulator(nn.Module):
    """A stepper between a codec's `encode` and `decode`; solvers and baselines fit in as well as learned steppers.

    `spec` is the plain description from which `driftway.build` makes the same objects again; `samplers` the sampler of
    each field, where they differ (see `with_samplers`).
    """

    def __init__(
        self,
        codec: Codec,
        stepper: Stepper,
        layout: Layout,
        spec: dict[str, Any] | None = None,
        samplers: Mapping[str, Sampler] | None = None,
    ):
        super().__init__()
        self.codec, self.stepper, self.layout, self.spec = codec, stepper, layout, spec or {}
        self.samplers = dict(samplers or {})
        self.eval()

    @classmethod
    def load(cls, folder: str | Path) -> Emulator:
        """The emulator that `save` or a training run left in `folder`; runs no code from it and unpickles nothing."""
        from driftway.build import load_emulator

        return load_emulator(Path(folder))

    def save(self, folder: str | Path, force: bool = False) -> Path:
        """Write `emulator.json` and `emulator.safetensors` into `folder`; refuses to replace one without `force`."""
        from driftway.build import save_emulator

        return save_emulator(self, Path(folder), force)

    def with_sampler(self, sampler: Sampler | None) -> Emulator:
        """The same weights with another sampler, which is free to choose after training."""
        if sampler is None:
            return self
        if not isinstance(sampler, Sampler):
            raise ConfigError(f"sampler must be made, such as Heun(steps=5), got {shorten(repr(sampler), 80)}")
        if not isinstance(self.stepper, Generative):
            raise ConfigError(f"a sampler needs a generative stepper; this one is {type(self.stepper).__name__}")
        return Emulator(self.codec, self.stepper.with_sampler(sampler), self.layout, self.spec)

    def with_samplers(self, samplers: Mapping[str, Sampler]) -> Emulator:
        """The same weights with a sampler for each field, which gets the forecast that it has by its sampler alone.

        Every different sampler rolls out a copy of the whole state, at its own cost and with the noise that all share,
        and each field is taken from the copy of its sampler. Fields of a member whose samplers differ thus come from
        different rollouts: what combines fields should be forecast with one sampler.
        Raises ConfigError where a field is missing, unknown or has no sampler.
        """
        names = self.layout.fields.names
        if set(samplers) != set(names):
            wrong = sorted(set(samplers) ^ set(names))
            raise ConfigError(
                f"samplers: {', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} missing or unknown: give one for "
                f"each of {', '.join(names)}"
            )
        for name in names:
            if not isinstance(samplers[name], Sampler):
                raise ConfigError(f"samplers: {name} should have a sampler, such as Heun(steps=5)")
        first = self.with_sampler(samplers[names[0]])
        if len(set(samplers.values())) == 1:
            return first
        return Emulator(self.codec, self.stepper, self.layout, self.spec, {name: samplers[name] for name in names})

    @property
    def running(self) -> tuple[Codec, Stepper]:
        """What forecasts encode, step and decode with: by field, a copy of the state for each different sampler."""
        if not (self.samplers and isinstance(self.stepper, Generative)):
            return self.codec, self.stepper
        return side_by_side(self.codec, self.stepper, list(self.samplers.values()))

    def step(
        self, state: Tensor | np.ndarray | xr.Dataset, *, lead: int = 1, seed: int = 0, conditioning: Known = NOTHING
    ) -> Tensor:
        """States (N, C, *S) one step later, in physical units: what `forecast` has of member 0 at `lead`.

        The noise is keyed by (seed, lead, row): count `lead` up from step to step, or every step draws the same.
        """
        u = self._as_states(state)
        return next(self.rollout(u, 1, [(row, 0) for row in range(len(u))], seed, conditioning, first=lead))

    @torch.no_grad()
    def rollout(
        self,
        u: Tensor,
        leads: int,
        keys: Sequence[tuple[Key, ...]],
        seed: int = 0,
        conditioning: Known = NOTHING,
        first: int = 1,
    ) -> Iterator[Tensor]:
        """States (B, C, *S) at leads `first` and on, one by one; row r's noise is keyed by (seed, lead, keys[r])."""
        for _, states in self._steps(u, None, range(first, first + leads), keys, seed, conditioning):
            assert states is not None
            yield states

    @torch.no_grad()
    def _steps(
        self,
        u: Tensor,
        v: Tensor | None,
        leads: range,
        keys: Sequence[tuple[Key, ...]],
        seed: int,
        conditioning: Known,
        seen: Callable[[int], bool] = always,
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Encoded states of `rollout` at some leads, from the encoded v before the first, or from u.

        Beside them decoded ones, at the leads at which they are seen.
        """
        codec, stepper = self.running
        for lead in leads:
            known = self._at(conditioning, lead, len(u))
            v = codec.encode(u, known.fixed) if v is None else v
            v = stepper.step(v, known, self.noise_stream(seed, lead, keys))
            yield v, codec.decode(v, known.fixed) if seen(lead) else None

    def noise_stream(self, seed: int, lead: int, keys: Sequence[tuple[Key, ...]]) -> Stream | None:
        """The noise of one lead, a function of (seed, lead, key) alone; None if the stepper says it is not random."""
        return stream(seed, "forecast", lead, rows=keys) if getattr(self.stepper, "random", True) else None

    def forecast(
        self,
        state: Tensor | np.ndarray | xr.Dataset,
        leads: int,
        members: int = 1,
        *,
        seed: int = 0,
        sampler: Sampler | None = None,
        keys: Sequence[Key] | None = None,
        conditioning: Known = NOTHING,
        batch: int = 64,
        out: str | Path | None = None,
        force: bool = False,
        attributes: Mapping[str, Any] | None = None,
        every: int = 1,
        summaries: Sequence[Summary] = (),
        key: str = "",
    ) -> xr.Dataset:
        """An ensemble forecast in physical units.

        state: (N, C, *S), or a dataset with one variable per field. members: all equal where the stepper draws
        nothing. keys: a name or number per initial state (by default 0 … N−1) that its noise is keyed by: member m
        of a state is the same in any batch, alone or added later. conditioning: N rows, or a function of the lead
        that returns them. batch: rows that are stepped at once. out: a zarr folder to stream to, in memory constant
        in `leads`. attributes: what else the dataset shall say of itself. every: of the leads, each how many-th is
        kept. summaries: what is gathered of all leads besides, with `out` alone. key: letters and digits that stand for
        all that makes this forecast; one to `out` that was stopped goes on where it was if it has the same.

        Returns a dataset with dims (realization, trajectory, lead_time, *axes); from `out` it is read lazily.
        Raises DataError for states or conditioning that do not fit, and for states that are not finite.
        """
        if leads < 1 or members < 1 or batch < 1:
            raise ConfigError(f"leads, members and batch must be at least 1, got {leads}, {members}, {batch}")
        if not 1 <= every <= leads:
            raise ConfigError(f"every = {every}, must be from 1 to the number of leads, {leads}")
        if summaries and out is None:
            raise ConfigError("summaries are written beside a forecast on disk: give `out`")
        emulator = self.with_sampler(sampler)
        u = self._as_states(state)
        names = list(range(len(u))) if keys is None else list(keys)
        if len(names) != len(u):
            raise DataError(f"{len(names)} keys for {len(u)} initial states; give one each")
        about = {"seed": seed, **self._told(conditioning, len(u)), **(attributes or {})}
        together = min(members, batch)
        writer = in_memory if out is None else on_disk(Path(out), together, force, key)
        with (
            writer(replace(self.layout, dt=self.layout.dt * every), members, names, leads // every, about) as sink,
            progress("forecast", members * len(u) * leads) as task,
        ):
            record = Record(sink, every, summaries, bool(key))
            record.open(self.layout, members, names, leads, together)
            for number, block in enumerate(_blocks(members, len(u), batch)):
                first, v = record.resume(number, leads)
                task.advance((first - 1) * block.rows)
                steps = emulator._run(u, v, block, names, range(first, leads + 1), seed, conditioning, record.sees)
                for lead, (v, states) in enumerate(steps, first):
                    record.put(number, block.members, block.trajectories, lead, v, states)
                    task.advance(block.rows)
            record.close()
        return sink.dataset()

    def _run(
        self,
        u: Tensor,
        v: Tensor | None,
        block: Block,
        names: Sequence[Key],
        leads: range,
        seed: int,
        conditioning: Known,
        seen: Callable[[int], bool],
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The block's encoded states and, where they are seen, its states (m, n, C, *S), lead by lead."""
        part = u[block.trajectories]
        members = range(block.members.start, block.members.stop)
        keys = [(name, m) for m in members for name in names[block.trajectories]]

        def rows(lead: int) -> Conditioning:
            return repeated(self._at(conditioning, lead, len(u)), block.trajectories, len(members), u)

        first = part.repeat(len(members), *(1,) * (part.ndim - 1))
        for encoded, states in self._steps(first, v, leads, keys, seed, rows, seen):
            yield encoded, None if states is None else states.unflatten(0, (len(members), len(part)))

    def _at(self, conditioning: Known, lead: int, rows: int) -> Conditioning:
        """What is known at a lead, checked against what the emulator was made for."""
        known = conditioning(lead) if callable(conditioning) else conditioning
        if not isinstance(known, Conditioning):
            raise ConfigError(
                "conditioning must be a Conditioning or a function of the lead that returns one, got "
                f"{shorten(repr(known), 80)}"
            )
        for kind, found in (("fields", known.fields), ("parameters", known.params)):
            count = 0 if found is None else found.shape[1]
            wanted = self.spec.get(kind, count)
            if count != wanted:
                raise DataError(
                    f"this emulator takes {wanted} known {kind}, the conditioning has {count}; "
                    "pass conditioning=data.conditioning(rows, frames)"
                )
            if found is not None and len(found) != rows:
                raise DataError(f"the conditioning has {len(found)} rows of {kind} for {rows} states; give one each")
        checked_parameters(self.spec.get("parameter_scales", ()), known.params)
        return known

    def _told(self, conditioning: Known, rows: int) -> dict[str, str]:
        """What a forecast says of parameters beyond those that were trained at, with a warning."""
        known = self._at(conditioning, 1, rows)
        said = "; ".join(checked_parameters(self.spec.get("parameter_scales", ()), known.params))
        if said:
            warnings.warn(f"{said}: the forecast is an extrapolation", stacklevel=3)
        return {"beyond": said} if said else {}

    def told(self, data: Trajectories) -> Trajectories:
        """A data set whose steps are told of dates and forcing what the emulator was fitted to."""
        if not self.spec:
            return data
        dates = self.spec.get("dates", {"features": [], "at": "start"})
        return replace(data, told=Told(tuple(dates["features"]), dates["at"]))

    def check_known(self, data: Trajectories) -> None:
        """Raise DataError where the known fields or parameters of a data set have other names than those fitted to."""
        for kind, found in (("field", data.field_names), ("parameter", data.parameter_names)):
            fitted = self.spec.get(f"{kind}_names")
            if fitted is not None and list(found) != fitted:
                raise DataError(
                    f"the emulator knows the {kind}s {', '.join(fitted) or '(none)'}, the data have "
                    f"{', '.join(found) or '(none)'}: choose data with the same, under the same names"
                )

    def _as_states(self, state: Tensor | np.ndarray | xr.Dataset) -> Tensor:
        """A float32 tensor (N, C, *S) on the emulator's device, checked against the layout."""
        if isinstance(state, xr.Dataset):
            state = _stack(state, self.layout)
        u = torch.as_tensor(state, dtype=torch.float32)
        if u.ndim == len(self.layout.shape):
            u = u[None]
        if tuple(u.shape[1:]) != self.layout.shape:
            raise DataError(
                f"the emulator takes states (N, {', '.join(map(str, self.layout.shape))}) with fields "
                f"{', '.join(self.layout.fields.names)}; got {tuple(u.shape)}"
            )
        if not bool(torch.isfinite(u).all()):
            raise DataError("the initial state holds NaN or infinite values: fill or remove them first")
        return u.to(next(self.parameters(), u).device)


def _stack(state: xr.Dataset, layout: Layout) -> np.ndarray:
    axes = [axis.name for axis in layout.axes]
    for name in layout.fields.names:
        if name not in state:
            raise DataError(f"the initial state lacks the field {name}; it has {', '.join(map(str, state))}")
        if not set(axes) <= set(state[name].dims):
            raise DataError(f"field {name} of the initial state has the dims {state[name].dims}, not {tuple(axes)}")
    for axis in layout.axes:
        if axis.name in state.coords and not axis.holds(state[axis.name].values):
            raise DataError(
                f"the initial state has other points along {axis.name} than the emulator: sort or interpolate"
            )
    return np.stack([state[name].transpose(..., *axes).values for name in layout.fields.names], -len(axes) - 1)


def _blocks(members: int, trajectories: int, batch: int) -> Iterator[Block]:
    """Whole ensembles of a few states, or part of the members of one, at most `batch` rows together."""
    some = min(members, batch)
    several = max(1, batch // some)
    for start in range(0, trajectories, several):
        for member in range(0, members, some):
            yield Block(slice(member, min(member + some, members)), slice(start, min(start + several, trajectories)))


def repeated(conditioning: Conditioning, rows: slice, times: int, like: Tensor) -> Conditioning:
    """The conditioning of some states, once for every member, on the device of `like`."""

    def repeat(x: Tensor | None) -> Tensor | None:
        return None if x is None else x[rows].repeat(times, *(1,) * (x.ndim - 1)).to(like.device)

    return replace(conditioning, fields=repeat(conditioning.fields), params=repeat(conditioning.params))
