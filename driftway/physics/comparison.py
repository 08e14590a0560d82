"""Quantities and profiles of forecasts against those of the truth: means by lead time, distributions, and errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from driftway.calculus import rule
from driftway.data.layout import Layout
from driftway.physics.quantities import PROFILES, QUANTITIES, Measured, Quantity, available

Variable = tuple[tuple[str, ...], np.ndarray, dict[str, str]]
SHARES = 50  # of a distribution, at whose middles its quantiles are told
LEVELS = (0.05, 0.95)
POOLED = "initial states and lead times"
ERRORS = {
    "physics_error": ("error of a quantity", "√⟨(q̄−q)²⟩/|⟨q⟩|", POOLED, "always 0: 1 or more"),
    "physics_bias": ("bias of a quantity", "⟨q̂⟩/⟨q⟩−1", f"members, {POOLED}", "always 0: −1"),
    "physics_distance": (
        "distance of a quantity's distribution",
        "W₁(q̂, q)/std(q)",
        f"members, {POOLED}",
        "always ⟨q⟩: at most 1",
    ),
    "profile_error": ("error of a profile", "√(∫(p̂−p)²dy/∫p²dy)", f"members, {POOLED} first", "always 0: 1"),
}


def compared(
    methods: Mapping[str, Sequence[Measured]], truth: Sequence[Measured], layout: Layout, parameters: Sequence[str]
) -> tuple[dict[str, Variable], dict[str, list[str]]]:
    """Variables and coordinates of what each method's quantities and profiles have in common with the truth's.

    methods: name → for every initial state quantities (M, L, Q), and profiles as `Measured.condensed` leaves them;
        truth: the same of one member

    `physics` (method, quantity, lead_time) is the mean over members and initial states, `…_q05` and `…_q95` the range
    of 90 % of them, `physics_quantiles` (…, share) the values below which a share of all members, initial states and
    lead times is, and `truth_…` the truth's. With q̂ of any member, q̄ its mean over members, q of the truth and ⟨·⟩ the
    mean over initial states and lead times:

        physics_error = √⟨(q̄ − q)²⟩/|⟨q⟩| ,  physics_bias = ⟨q̂⟩/⟨q⟩ − 1 ,  physics_distance = W₁(q̂, q)/std(q)

    Those of a quantity that is not `relative` are in its own units: √⟨(q̄ − q)²⟩, ⟨q̂⟩ − ⟨q⟩ and W₁(q̂, q).

    `profiles` (method, profile, level) is the mean over members, initial states and lead times, and `profile_error` =
    √(∫(p̂ − p)² dy/∫p² dy) of these means. What is not finite makes all of a method's numbers of it NaN.
    """
    found: dict[str, Variable] = {}
    tables = [available(table, layout, parameters) for table in (QUANTITIES, PROFILES)]
    if tables[0]:
        relative = torch.tensor([quantity.relative for quantity in tables[0].values()])
        found |= _quantities({name: _stacked(all_, 0) for name, all_ in methods.items()}, _stacked(truth, 0), relative)
    if tables[1]:
        found |= _profiles({name: _stacked(all_, 1) for name, all_ in methods.items()}, _stacked(truth, 1), layout)
    return found, {**_named("quantity", tables[0]), **_named("profile", tables[1])}


def _named(dim: str, table: Mapping[str, Quantity]) -> dict[str, list[str]]:
    return {dim: list(table)} if table else {}


def _about(name: str) -> dict[str, str]:
    long_name, formula, averaging, trivial = ERRORS[name]
    return {"long_name": long_name, "formula": formula, "averaging": averaging, "perfect": "0", "trivial": trivial}


def _stacked(measured: Sequence[Measured], part: int) -> Tensor:
    """(N, M, L, Q) or (N, P, n), infinities being NaN."""
    values = torch.stack([states[part] for states in measured])
    return values.masked_fill(~values.isfinite(), torch.nan)


# --- quantities ----------------------------------------------------------------------------------------------------


def _quantities(methods: Mapping[str, Tensor], truth: Tensor, relative: Tensor) -> dict[str, Variable]:
    rows, happened = [_described(values) for values in methods.values()], _described(truth)
    found: dict[str, Variable] = {"share": (("share",), _shares(SHARES).numpy(), {})}
    for name, own in happened.items():
        where = ("quantity", "share" if name == "physics_quantiles" else "lead_time")
        found[name] = (("method", *where), torch.stack([row[name] for row in rows]).numpy(), {})
        found[f"truth_{name}"] = (where, own.numpy(), {})
    errors = [_errors(values, truth, relative) for values in methods.values()]
    for k, name in enumerate(("physics_error", "physics_bias", "physics_distance")):
        values = torch.stack([error[k] for error in errors]).numpy()
        found[name] = (("method", "quantity"), values, _about(name))
    return found


def _described(values: Tensor) -> dict[str, Tensor]:
    """Mean and range (Q, L) by lead time, and quantiles (Q, shares), of values (N, M, L, Q)."""
    pooled = values.flatten(0, 1)
    low, high = _quantiles(pooled, torch.tensor(LEVELS, dtype=torch.float64))
    quantiles = _quantiles(values.flatten(0, 2), _shares(SHARES))
    return {"physics": pooled.mean(0).T, "physics_q05": low.T, "physics_q95": high.T, "physics_quantiles": quantiles.T}


def _errors(values: Tensor, truth: Tensor, relative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Error of the mean over members, bias, and distance of the distributions, (Q,) each."""
    mean, pooled, happened = truth.mean((0, 1, 2)), values.flatten(0, 2), truth.flatten(0, 2)
    unit = torch.where(relative, mean, 1)
    width = torch.where(relative, happened.std(0, correction=0), 1)
    error = (values.mean(1) - truth[:, 0]).square().mean((0, 1)).sqrt() / unit.abs()
    return error, (pooled.mean(0) - mean) / unit, _transport(pooled, happened) / width


def _transport(a: Tensor, b: Tensor) -> Tensor:
    """W₁ of the columns of (n, Q) and (m, Q): the mean distance of their quantiles."""
    shares = _shares(8 * SHARES)
    return (_quantiles(a, shares) - _quantiles(b, shares)).abs().mean(0)


def _shares(count: int) -> Tensor:
    """The middles of `count` equal shares."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def _quantiles(values: Tensor, shares: Tensor) -> Tensor:
    """The inverse distribution function of values (n, …) along the first axis, (shares, …); NaN where there is any."""
    ordered = values.sort(0).values
    found = ordered[(shares * len(ordered)).long().clamp_max(len(ordered) - 1)]
    return found.masked_fill(values.isnan().any(0), torch.nan)


# --- profiles ------------------------------------------------------------------------------------------------------


def _profiles(methods: Mapping[str, Tensor], truth: Tensor, layout: Layout) -> dict[str, Variable]:
    axis = layout.axes[layout.boundary.index("wall")]
    weights = torch.from_numpy(rule(axis).weights.copy())
    means = torch.stack([values.mean(0) for values in methods.values()])
    happened = truth.mean(0)
    errors = (((means - happened).square() @ weights) / (happened.square() @ weights)).sqrt()
    return {
        "profiles": (("method", "profile", "level"), means.numpy(), {}),
        "truth_profiles": (("profile", "level"), happened.numpy(), {}),
        "profile_error": (("method", "profile"), errors.numpy(), _about("profile_error")),
        "level": (("level",), np.asarray(axis.coordinates), {"axis": axis.name}),
    }
