"""Sentences from constructed scores: what they say must be true, and nothing that failed may win."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from driftway.randomness import generator
from driftway.report.findings import deterministic, ensembles, estimate, findings, ranking
from tests.report_example import METHODS, SMALL, datasets, scores_of

LEADS = 3


def constructed(methods: dict[str, dict[str, Any]], states: int = 12, fields: tuple[str, ...] = ("u",)) -> xr.Dataset:
    """Scores with given levels: `vrmse` and `crps` by initial state around a level, `ratio` by lead, and so on."""
    wobble = 0.1 * generator("wobble").standard_normal((len(fields), states))
    wobble -= wobble.mean(-1, keepdims=True)
    rows = []
    for about in methods.values():
        level = {"vrmse": about.get("vrmse", 1.0), "crps": about.get("crps", 1.0)}
        own = about.get("noise", 0.0) * generator("own", str(level)).standard_normal(wobble.shape)
        ratio = np.broadcast_to(about.get("ratio", np.nan), (len(fields), LEADS)).astype(float)
        crps = np.broadcast_to(about.get("crps_by_lead", level["crps"]), (len(fields), LEADS)).astype(float)
        bands = np.broadcast_to(about.get("bands", (0.5, 0.5, 0.5, 0.5)), (len(fields), 4)).astype(float)
        rows.append(
            xr.Dataset(
                {
                    **{f"{n}_states": (("field", "trajectory"), v + wobble + own) for n, v in level.items()},
                    "crps": (("field", "lead_time"), crps),
                    "spread_skill": (("field", "lead_time"), ratio),
                    "spread": (("field", "lead_time"), ratio),
                    "spectral_rmse": (("field", "band"), bands),
                    "members": about.get("members", 1 if np.isnan(ratio).all() else 8),
                    "failures": about.get("failures", 0),
                    "first_failure": about.get("first_failure", np.nan),
                    "sampler": about.get("sampler", ""),
                }
            )
        )
    scores = xr.concat(rows, "method").assign_coords(
        method=list(methods),
        field=list(fields),
        band=["low", "mid", "high", "all"],
        lead_time=("lead_time", [1.0, 2.0, 3.0], {"time_units": "h"}),
    )
    return scores.assign_attrs(initial_states=states)


def test_winners_are_named_with_interval_runner_up_and_references() -> None:
    scores = constructed(
        {
            "a": {"vrmse": 0.5, "crps": 0.40},
            "b": {"vrmse": 0.6, "crps": 0.30},
            "persistence": {"vrmse": 0.9, "crps": 0.8},
            "climatology": {"vrmse": 1.0, "crps": 0.7},
        }
    )
    first, second, *_ = findings(scores)
    assert first.startswith("Lowest VRMSE of the (ensemble) mean over the rollout: “a”, 0.500 (95 % interval 0.4")
    assert "next “b”, 0.600 (the difference, 0.100 to 0.100, is beyond chance)" in first
    assert first.endswith("For comparison: persistence 0.900, climatology 1.00.")
    assert second.startswith("Lowest fair CRPS over the rollout: “b”, 0.300") and "next “a”, 0.400" in second


def test_a_difference_smaller_than_its_noise_may_be_chance() -> None:
    """Initial states differ by 0.1, forecasts of one state by less: only the difference tells them apart."""
    clear = findings(constructed({"a": {"vrmse": 0.50}, "b": {"vrmse": 0.52}}))[0]
    close = findings(constructed({"a": {"vrmse": 0.50}, "b": {"vrmse": 0.52, "noise": 0.2}}))[0]
    assert "is beyond chance" in clear and "may be chance" in close


def test_a_winner_that_loses_to_a_reference_is_told_so() -> None:
    scores = constructed({"a": {"vrmse": 1.2, "crps": 0.5}, "persistence": {"vrmse": 0.9, "crps": 0.8}})
    first, second, *_ = findings(scores)
    assert first.endswith("No forecast is better than persistence.") and "No forecast" not in second


@pytest.mark.parametrize("order", [("bad", "good"), ("good", "bad")])
def test_a_diverged_forecast_never_wins_and_is_named(order: tuple[str, ...]) -> None:
    about = {
        "bad": {"vrmse": np.nan, "crps": np.nan, "ratio": np.nan, "bands": np.nan, "failures": 3, "first_failure": 2.0},
        "good": {"vrmse": 0.7, "ratio": 1.0},
    }
    scores = constructed({name: about[name] for name in order})
    found = findings(scores)
    assert ranking(scores, "vrmse", list(order), ["u"]) == ["good"]
    assert all("“good”" in sentence and "“bad”" not in sentence for sentence in found[:3])
    assert found[-1] == (
        "Diverged, so without scores from then on and not ranked: “bad” from 3 of 12 initial states, first at lead 2 h."
    )


def test_when_all_diverge_nothing_is_ranked() -> None:
    found = findings(constructed({"bad": {"vrmse": np.nan, "crps": np.nan, "bands": np.nan, "failures": 12}}))
    assert found[0].endswith("none, since no forecast stayed finite.") and "not ranked: “bad”" in found[-1]


def test_calibration_means_every_lead() -> None:
    scores = constructed(
        {
            "fits": {"ratio": (0.85, 0.95, 1.05)},
            "edges": {"ratio": (0.8, 1.0, 1.1)},
            "right on average": {"ratio": (0.5, 1.0, 1.5)},
            "narrow": {"ratio": (0.7, 0.9, 0.9)},
            "wide": {"ratio": (1.0, 1.0, 1.2)},
        }
    )
    sentence = next(s for s in findings(scores) if s.startswith("Calibrated"))
    assert sentence == (
        "Calibrated, with spread / skill within 0.8–1.1 at every lead: “fits” 0.85–1.05; “edges” 0.80–1.10. "
        "Too wide: “wide” 1.00–1.20. Too narrow: “narrow” 0.70–0.90. "
        "Too narrow and too wide: “right on average” 0.50–1.50."
    )


def test_a_forecast_without_noise_is_no_ensemble_however_many_members_it_has() -> None:
    scores = constructed(
        {"one": {"members": 1}, "copies": {"members": 8, "ratio": 0.0}, "many": {"members": 8, "ratio": 1.0}}
    )
    assert ensembles(scores) == ["many"]
    assert all("“copies”" not in s for s in findings(scores) if s.startswith("Calibrated"))


def test_gain_over_the_deterministic_stepper_means_every_lead() -> None:
    scores = constructed(
        {
            "plain": {"sampler": "None", "crps": 0.5},
            "always": {"ratio": 1.0, "crps_by_lead": (0.4, 0.4, 0.4), "crps": 0.4},
            "mostly": {"ratio": 1.0, "crps_by_lead": (0.6, 0.1, 0.1), "crps": 0.27},
        }
    )
    assert deterministic(scores, ["plain", "always", "mostly"]) == "plain"
    sentence = next(s for s in findings(scores) if s.startswith("Lower CRPS"))
    assert sentence.endswith("“plain”, the deterministic stepper, at every lead: “always”.")


def test_spectral_error_is_put_beside_the_autoencoders_own() -> None:
    scores = constructed(
        {
            "a": {"bands": (0.05, 0.4, 0.9, 0.9)},
            "b": {"bands": (0.06, 0.2, 0.9, 0.9)},
            "autoencoder floor": {"bands": (0.01, 0.02, 0.03, 0.04)},
            "persistence": {"bands": (0.0, 0.0, 0.0, 0.0)},
        }
    )
    sentence = next(s for s in findings(scores) if s.startswith("Lowest error of the spectrum"))
    assert sentence == (
        "Lowest error of the spectrum: low wavenumbers “a”, 0.050 (the autoencoder alone 0.010); "
        "mid wavenumbers “b”, 0.200 (the autoencoder alone 0.020)."
    )


def test_crps_in_different_units_is_ranked_for_each_field() -> None:
    found = findings(constructed({"a": {}, "b": {"crps": 2.0}}, fields=("u", "t")))
    assert [s.split(" over")[0] for s in found[1:3]] == ["Lowest fair CRPS of u", "Lowest fair CRPS of t"]


def test_an_estimate_of_few_states_has_no_interval() -> None:
    assert estimate(np.ones(3)).ends(1.0) == "" and estimate(np.ones(9)).ends(1.0) == "1.00 to 1.00"


def test_findings_of_a_real_evaluation_name_the_perfect_ensemble() -> None:
    truth, forecasts = datasets(SMALL)
    found = findings(scores_of(SMALL, truth, forecasts))
    assert "“SI, SDE”" in found[1].split(";")[0] and "“SI, SDE”" in found[2].split(". ")[0]
    assert any("“FNO”, the deterministic stepper" in s for s in found) and len(METHODS) == 8
