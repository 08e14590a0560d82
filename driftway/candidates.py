"""Candidates: the samplers that are worth a try with a trained stepper, and what they call.

The table depends on a path through its properties alone: whether it starts at a point, whether it has noise of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from driftway.diffusions import NATURAL, Diffusion
from driftway.forecasting import networks_of
from driftway.interpolants import Interpolant
from driftway.randomness import stream
from driftway.samplers import Ancestral, EulerMaruyama, Heun, Sampler
from driftway.steppers import Generative
from driftway.transport import Transport

STEPS = (1, 2, 3, 5, 10)
TEMPERATURES = (0.0, 0.5, 0.7, 0.85, 1.0, 1.15)
ETAS = (0.0, 0.5, 1.0)


def candidates(stepper: Generative, calls: int = 10) -> list[Sampler]:
    """Samplers of at most `calls` network calls, after the one that the stepper has now, whatever it calls.

    Round the present one and round a few that are good on paths like this one, steps, temperature, diffusion and eta
    are changed one at a time. Of several names for one map the first is kept: `Ancestral` with eta 0 is `Euler`.
    """
    path, present = stepper.interpolant, stepper.sampler
    dials = {"steps": STEPS, "temperature": TEMPERATURES, "diffusion": _diffusions(path), "eta": ETAS}
    found = {present: trial(stepper, present)}
    for centre in (present, *_centres(path)):
        for other in _around(centre, dials):
            tried = trial(stepper, other)
            if tried.calls <= calls and not any(tried.same(before) for before in found.values()):
                found[other] = tried
    return list(found)


def _centres(path: Interpolant) -> list[Sampler]:
    """From a point a step or two may do, from noise it takes more; an ODE is `Ancestral` with eta 0, on any path."""
    few, many = ((1, 2, 5), 5) if path.starts_at_point else ((5, 10), 10)
    base = _diffusions(path)[0]
    noisy = [EulerMaruyama(steps, diffusion=base) for steps in few]
    return [*noisy, Heun(2), Ancestral(many, eta=0.0), Ancestral(many, eta=1.0)]


def _diffusions(path: Interpolant) -> tuple[Diffusion, ...]:
    """The path's own, if it has one, and others that are worth a try."""
    own = bool(path.sigma(path.inside(0.5)) > 0)
    return (*([NATURAL] if own else []), Diffusion(1.0, "follmer"), Diffusion(0.5))


def _around(centre: Sampler, dials: Mapping[str, Sequence[Any]]) -> Iterator[Sampler]:
    """The centre with each of its dials at each of its values, one at a time."""
    own = [field.name for field in fields(centre)]
    yield centre
    for name, values in dials.items():
        if name in own:
            yield from (replace(centre, **{name: value}) for value in values)


class Trial(NamedTuple):
    """Network calls of one step, that of a guess included, and what the step made of a network that is made up."""

    calls: int
    made: Tensor

    def same(self, other: Trial) -> bool:
        """Whether both are one map, but for where they put the end of a path's domain: γ(1e-6) may be 1e-3."""
        return torch.allclose(self.made, other.made, rtol=2e-3, atol=2e-3, equal_nan=True)


def trial(stepper: Generative, sampler: Sampler) -> Trial:
    """One step of eight points with a sampler on the stepper's path."""
    count = len(networks_of(stepper)) - 1

    def predict(x: Tensor, t: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return (3 * x + 2 * t).sin()

    source = torch.linspace(-1, 1, 8, dtype=torch.float64).expand(1, len(stepper.noise.scale), 8)
    transport = Transport(stepper.interpolant, stepper.prediction, predict, source, stepper.noise)
    made = sampler(transport, stream("trial", rows=[0]))
    return Trial(count, made)


def in_short(component: Any) -> str:
    """A sampler for people: its steps, and its other settings where they are not the default."""
    shown = [
        f"{field.name}={_short(getattr(component, field.name))}"
        for field in fields(component)
        if field.name == "steps" or getattr(component, field.name) != field.default
    ]
    return f"{type(component).__name__}({', '.join(shown)})"


def _short(value: Any) -> str:
    return in_short(value) if is_dataclass(value) else repr(value)
