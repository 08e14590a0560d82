"""The verdict in words: whether starting from the current state pays, at which stride, with which noise and codec.

The limits are those at which trainings turned; docs/diagnosis.md says which.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driftway.diagnosis.compression import Cut
from driftway.diagnosis.laws import Laws
from driftway.diagnosis.paired import Estimate, Step

CLOSE, FAR = 0.5, 0.8  # increments, in standard deviations: below the first starting from the state pays, not above
BEST = 0.3  # the increment of a step that is neither too much for one network nor too little to be worth a call
WHITE = 0.5  # share of the waves that a residual fills above which white noise does
PERSISTENT = 0.9  # share of the increment above which the linear model is of no use


@dataclass(frozen=True)
class Advice:
    """Sentences, and what to write into a configuration."""

    verdict: tuple[str, ...]
    recommended: Mapping[str, Any]


def advise(steps: Sequence[Step], laws: Sequence[Laws], lost: Sequence[Cut], time_units: str) -> Advice:
    """What to do with a system of these steps, from the first lag to the last."""
    best = min(steps, key=lambda step: abs(math.log(max(step.increment.value, 1e-12) / BEST)))
    cut = next((c for c in reversed(lost) if c.lost <= best.increment.value / 2), None)
    noise = {"type": "fitted" if best.flatness > WHITE else "coloured", "of": "residual"}
    unit = "" if time_units in ("1", "") else f" {time_units}"
    verdict = (
        *_worth(steps, unit),
        _stride(best, unit),
        _noise(best, noise["type"]),
        _compression(best, cut),
        _linear(best),
        *_laws(laws),
    )
    return Advice(verdict, {"stride": best.lag, "noise": noise, "compression": 1 if cut is None else cut.factor})


def worth(step: Step) -> str:
    """'pays', 'pays little' or 'does not pay': to start a step of this size from the current state."""
    moved = step.increment.value
    return "pays" if moved <= CLOSE else "pays little" if moved <= FAR else "does not pay"


def _worth(steps: Sequence[Step], unit: str) -> list[str]:
    """Up to which stride it pays, and from which it does not."""
    said = []
    for what, where in (("pays", "up to"), ("pays little", "at"), ("does not pay", "from")):
        found = [step for step in steps if worth(step) == what]
        if found:
            step = found[-1] if where == "up to" else found[0]
            said.append(
                f"Starting from the current state {what} {where} a stride of {step.lag} ({step.time:g}{unit}), which "
                f"moves it by {_value(step.increment)} of its standard deviation (√2 is unrelated; correlation "
                f"{_value(step.autocorrelation)})."
            )
    return said


def _stride(best: Step, unit: str) -> str:
    moved = best.increment.value
    why = f"the step nearest to {BEST:g} of a standard deviation"
    if moved > 2 * BEST:
        why += "; a finer time step would suit better"
    if moved < BEST / 2:
        why += "; coarser steps would need fewer calls"
    return f"Recommended stride: {best.lag} ({best.time:g}{unit}), {why}."


def _noise(best: Step, law: str) -> str:
    white = "white enough" if law == "fitted" else "far from white"
    said = (
        f"Recommended noise: {{type: {law}, of: residual}}, which finds σ while it trains: at most {best.spread:.2g} "
        f"standard deviations. What a step leaves open fills {best.flatness:.1%} of the waves, {white}; in latents it "
        "is whiter."
    )
    return said.replace("%", " %")


def _compression(best: Step, cut: Cut | None) -> str:
    if cut is None:
        return "No compression: to keep a quarter of the waves would lose more than half of what a step moves."
    return (
        f"Compression: {cut.factor} times fewer numbers lose {cut.lost:.2g} standard deviations where the largest "
        f"waves are kept, less than half of what a step moves ({best.increment.value:.2g})."
    )


def _linear(best: Step) -> str:
    share = best.linear.value / best.increment.value
    if not math.isfinite(share):
        return "A linear model of each wavenumber was not fitted: it needs more pairs of states than there are fields."
    use = "no help as a first guess" if share > PERSISTENT else "a first guess that costs nothing"
    return f"A linear model of each wavenumber leaves {share:.0%} of what a step moves: {use}.".replace("%", " %")


def _laws(laws: Sequence[Laws]) -> list[str]:
    if not laws:
        return ["The laws of states and of next states were not compared, which takes 32 trajectories at least."]
    drifts = [law for law in laws if law.next.mmd.distinct and law.next.classifier.distinct]
    first = laws[0]
    said = [
        f"Gaussian noise of the same size is {first.noise.sliced_wasserstein:.2g} away from the law of states, the law "
        f"of the states one step earlier {first.next.sliced_wasserstein:.2g}, and two halves of the trajectories are "
        f"{first.floor.sliced_wasserstein:.2g} apart (sliced Wasserstein distance over the spread)."
    ]
    if drifts:
        when = ", ".join(f"{law.at:g} to {law.at + law.time:g}" for law in drifts[:3])
        said.append(f"The law of states changes with time, beyond chance from {when}: the system is not stationary.")
    else:
        said.append("The law of states does not change with time, as far as these trajectories tell.")
    return said


def _value(estimate: Estimate) -> str:
    value, low, high = estimate
    return f"{value:.2g}" if low != low else f"{value:.2g} ({low:.2g}–{high:.2g})"
