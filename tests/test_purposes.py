"""The choice of a sampler among records of scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from driftway.errors import ConfigError, DivergedError
from driftway.purposes import PURPOSES, Record, choose, standard_errors


def record(scores: list[float], calls: int = 1, failures: int = 0, **others: Any) -> Record:
    crps = math.inf if failures else float(np.mean(scores))
    return {"crps": crps, "crps_states": scores, "calls": calls, "failures": failures, **others}


def test_ties_go_to_fewer_calls() -> None:
    best = record([1.0, 2.0, 3.0, 4.0], calls=10)
    tied = record([1.2, 1.9, 3.3, 4.0], calls=2)  # by 0.1, standard error of the difference 0.09129
    worse = record([1.1, 2.2, 3.1, 4.1], calls=1)  # by 0.125, standard error 0.025
    difference = torch.tensor([[0.2, -0.1, 0.3, 0.0]], dtype=torch.float64)
    assert float(standard_errors(difference)) == pytest.approx(np.std(difference.numpy(), ddof=1) / 2)
    assert choose([best, tied, worse], "crps") == 0
    nearer = record([1.2, 1.9, 3.2, 3.9], calls=2)  # by 0.05, standard error 0.0866
    assert choose([best, tied, worse, nearer], "crps") == 3
    assert choose([best, record(nearer["crps_states"], calls=10), worse], "crps") == 0


def test_what_failed_or_calls_too_much_is_never_chosen() -> None:
    failed = record([0.1, math.inf], calls=1, failures=1)
    dear, good, bad = record([0.2, 0.2], calls=11), record([0.5, 0.5], calls=10), record([0.9, 0.9], calls=5)
    assert choose([failed, dear, good, bad], "crps") == 2
    with pytest.raises(DivergedError, match="none of at most 10 calls"):
        choose([failed, dear], "crps")


def test_one_initial_state_ties_nothing() -> None:
    assert choose([record([1.0], calls=10), record([1.0001], calls=1)], "crps") == 0


def test_balance_is_the_geometric_mean_of_both_relative_to_the_best() -> None:
    def both(crps: float, spectral: float) -> Record:
        bands = {f"spectral_log_error_{band}": spectral for band in ("low", "mid")}
        return record([0.9 * crps, 1.1 * crps], spectral_states=[0.8 * spectral, 1.2 * spectral], **bands)

    records = [both(1.0, 0.4), both(2.0, 0.1), both(1.2, 0.15)]
    values, parts = PURPOSES["balance"].scores(records)
    np.testing.assert_allclose(values, [2.0, math.sqrt(2), math.sqrt(1.8)])
    np.testing.assert_allclose(parts, values[:, None] * torch.tensor([[0.85, 1.15]]))  # to first order in each state
    assert choose(records, "balance") == 2 and choose(records, "crps") == 0


def test_a_purpose_needs_what_it_is_measured_by() -> None:
    nowhere = {f"spectral_log_error_{band}": math.nan for band in ("low", "mid")}
    with pytest.raises(ConfigError, match="takes a periodic axis"):
        choose([record([1.0, 2.0], spectral_states=[math.nan] * 2, **nowhere)], "spectrum")
