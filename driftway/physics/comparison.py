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
BINS = 40
MARGIN = 0.25  # of the truth's range, by which the bins of a distribution reach beyond it
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

    methods: name → for every initial state quantities (M, L, Q) and profiles (M, L, P, n); truth: the same without M

    `physics` (method, quantity, lead_time) is the mean over members and initial states, `…_q05` and `…_q95` the range
    of 90 % of them, `physics_density` (…, bin) the distribution over members, initial states and lead times, and
    `truth_…` the truth's. With q̂ of any member, q̄ its mean over members, q of the truth and ⟨·⟩ the mean over initial
    states and lead times:

        physics_error = √⟨(q̄ − q)²⟩/|⟨q⟩| ,  physics_bias = ⟨q̂⟩/⟨q⟩ − 1 ,  physics_distance = W₁(q̂, q)/std(q)

    `profiles` (method, profile, level) is the mean over members, initial states and lead times, and `profile_error` =
    √(∫(p̂ − p)² dy/∫p² dy) of these means. What is not finite makes all of a method's numbers of it NaN.
    """
    found: dict[str, Variable] = {}
    tables = [available(table, layout, parameters) for table in (QUANTITIES, PROFILES)]
    if tables[0]:
        found |= _quantities({name: _stacked(all_, 0) for name, all_ in methods.items()}, _stacked(truth, 0)[:, None])
    if tables[1]:
        found |= _profiles(
            {name: _stacked(all_, 1) for name, all_ in methods.items()}, _stacked(truth, 1)[:, None], layout
        )
    return found, {**_named("quantity", tables[0]), **_named("profile", tables[1])}


def _named(dim: str, table: Mapping[str, Quantity]) -> dict[str, list[str]]:
    return {dim: list(table)} if table else {}


def _about(name: str) -> dict[str, str]:
    long_name, formula, averaging, trivial = ERRORS[name]
    return {"long_name": long_name, "formula": formula, "averaging": averaging, "perfect": "0", "trivial": trivial}


def _stacked(measured: Sequence[Measured], part: int) -> Tensor:
    """(N, M, L, …), infinities being NaN."""
    values = torch.stack([states[part] for states in measured])
    return values.masked_fill(~values.isfinite(), torch.nan)


# --- quantities ----------------------------------------------------------------------------------------------------


def _quantities(methods: Mapping[str, Tensor], truth: Tensor) -> dict[str, Variable]:
    edges = _edges(truth)
    rows = [_described(values, edges) for values in methods.values()]
    happened = _described(truth, edges)
    dims = {"physics_density": ("quantity", "bin")}
    found: dict[str, Variable] = {}
    for name, own in happened.items():
        where = dims.get(name, ("quantity", "lead_time"))
        found[name] = (("method", *where), torch.stack([row[name] for row in rows]).numpy(), {})
        found[f"truth_{name}"] = (where, own.numpy(), {})
    found["physics_edges"] = (("quantity", "edge"), edges.T.numpy(), {})
    errors = [_errors(values, truth) for values in methods.values()]
    for k, name in enumerate(("physics_error", "physics_bias", "physics_distance")):
        values = torch.stack([error[k] for error in errors]).numpy()
        found[name] = (("method", "quantity"), values, _about(name))
    return found


def _described(values: Tensor, edges: Tensor) -> dict[str, Tensor]:
    """Mean and range (Q, L) by lead time, and the distribution (Q, bins), of values (N, M, L, Q)."""
    pooled = values.flatten(0, 1)
    low, high = pooled.quantile(torch.tensor(LEVELS, dtype=pooled.dtype), 0)
    return {
        "physics": pooled.mean(0).T,
        "physics_q05": low.T,
        "physics_q95": high.T,
        "physics_density": torch.stack([_density(pooled[..., q].flatten(), edges[:, q]) for q in range(len(edges.T))]),
    }


def _edges(truth: Tensor) -> Tensor:
    """Edges of the bins (BINS + 1, Q): the truth's range and a quarter of it on both sides."""
    rows = truth.flatten(0, 2)
    low, high = rows.amin(0), rows.amax(0)
    margin = MARGIN * (high - low) + 1e-6 * torch.maximum(high.abs(), low.abs()) + 1e-30
    steps = torch.linspace(0, 1, BINS + 1, dtype=rows.dtype)[:, None]
    return (low - margin) * (1 - steps) + (high + margin) * steps


def _density(values: Tensor, edges: Tensor) -> Tensor:
    """Share of the values in each bin; those beyond count in the outermost. NaN where a value is not finite."""
    if not bool(values.isfinite().all()):
        return torch.full((BINS,), torch.nan, dtype=values.dtype)
    places = (torch.bucketize(values.contiguous(), edges.contiguous()) - 1).clamp(0, BINS - 1)
    return torch.bincount(places, minlength=BINS).to(values) / len(values)


def _errors(values: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Error of the mean over members, bias, and distance of the distributions, (Q,) each."""
    mean, pooled, happened = truth.mean((0, 1, 2)), values.flatten(0, 2), truth.flatten(0, 2)
    error = (values.mean(1) - truth[:, 0]).square().mean((0, 1)).sqrt() / mean.abs()
    return error, pooled.mean(0) / mean - 1, _transport(pooled, happened) / happened.std(0, correction=0)


def _transport(a: Tensor, b: Tensor, count: int = 400) -> Tensor:
    """W₁ of the columns of (n, Q) and (m, Q): the mean distance of their quantiles."""
    levels = (torch.arange(count, dtype=a.dtype) + 0.5) / count
    return (_quantiles(a, levels) - _quantiles(b, levels)).abs().mean(0)


def _quantiles(values: Tensor, levels: Tensor) -> Tensor:
    """Steps of the empirical distribution function of each column, (levels, Q)."""
    ordered = values.sort(0).values
    found = ordered[(levels * len(ordered)).long().clamp_max(len(ordered) - 1)]
    return found.masked_fill(values.isnan().any(0), torch.nan)


# --- profiles ------------------------------------------------------------------------------------------------------


def _profiles(methods: Mapping[str, Tensor], truth: Tensor, layout: Layout) -> dict[str, Variable]:
    axis = layout.axes[layout.boundary.index("wall")]
    weights = torch.from_numpy(rule(axis).weights.copy())
    means = torch.stack([values.mean((0, 1, 2)) for values in methods.values()])
    happened = truth.mean((0, 1, 2))
    errors = (((means - happened).square() @ weights) / (happened.square() @ weights)).sqrt()
    return {
        "profiles": (("method", "profile", "level"), means.numpy(), {}),
        "truth_profiles": (("profile", "level"), happened.numpy(), {}),
        "profile_error": (("method", "profile"), errors.numpy(), _about("profile_error")),
        "level": (("level",), np.asarray(axis.coordinates), {"axis": axis.name}),
    }
