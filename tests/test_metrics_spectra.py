"""Spectra: Parseval, plane waves, a loop over modes; spectral scores with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from driftway.errors import DataError
from driftway.metrics import (
    SPECTRAL_METRICS,
    isotropic_spectrum,
    log_bands,
    nyquist,
    spectral_log_error,
    spectral_rmse,
    spectral_rmse_paper,
)
from driftway.randomness import generator

GRIDS = [(16,), (15,), (12, 12), (11, 13), (16, 8), (8, 32), (6, 6, 6), (4, 7, 10)]
grids = pytest.mark.parametrize("sizes", GRIDS, ids=str)
quick = settings(deadline=None, max_examples=50)


def noise(*shape: int, key: int | str = 0) -> Tensor:
    return torch.from_numpy(generator("spectra", key).standard_normal(shape))


def by_loop(u: np.ndarray, lengths: tuple[float, ...]) -> np.ndarray:
    """Shell power by a loop over every mode of the full transform."""
    energy = np.abs(np.fft.fftn(u) / u.size) ** 2
    power: dict[int, float] = {}
    for index in np.ndindex(*u.shape):
        waves = [i if 2 * i <= n else i - n for i, n in zip(index, u.shape, strict=True)]
        radius = math.sqrt(sum((m * max(lengths) / side) ** 2 for m, side in zip(waves, lengths, strict=True)))
        shell = math.floor(radius + 0.5)
        power[shell] = power.get(shell, 0.0) + energy[index]
    return np.array([power.get(k, 0.0) for k in range(max(power) + 1)])


@grids
@pytest.mark.parametrize("cube", [False, True])
def test_against_a_loop_over_modes(sizes: tuple[int, ...], cube: bool) -> None:
    u = 0.4 + noise(2, 3, *sizes, key=str(sizes))
    sides = (2.5,) * len(sizes) if cube else None
    k, power = isotropic_spectrum(u, space=len(sizes), lengths=sides)
    lengths = (1.0,) * len(sizes) if cube else tuple(float(n) for n in sizes)
    expected = np.array([[by_loop(c.numpy(), lengths) for c in sample] for sample in u])
    np.testing.assert_allclose(power.numpy(), expected, rtol=1e-10, atol=1e-15)
    assert k.tolist() == list(range(power.shape[-1]))


@quick
@given(seed=st.integers(0, 10**6), sizes=st.sampled_from(GRIDS), scale=st.floats(1e-6, 1e6))
def test_parseval(seed: int, sizes: tuple[int, ...], scale: float) -> None:
    u = scale * (0.3 + noise(2, *sizes, key=seed))
    power = isotropic_spectrum(u, space=len(sizes)).power
    axes = tuple(range(-len(sizes), 0))
    torch.testing.assert_close(power.sum(-1), u.square().mean(axes), rtol=1e-10, atol=0)
    torch.testing.assert_close(power[:, 0], u.mean(axes).square(), rtol=1e-8, atol=1e-14 * scale**2)


@quick
@given(seed=st.integers(0, 10**6), sizes=st.sampled_from(GRIDS))
def test_rolls_and_reflections_change_nothing(seed: int, sizes: tuple[int, ...]) -> None:
    u = noise(1, *sizes, key=seed)
    axes = tuple(range(-len(sizes), 0))
    shift = tuple(int(s) for s in generator("roll", seed).integers(-9, 10, len(sizes)))
    power = isotropic_spectrum(u, space=len(sizes)).power
    for moved in (u.roll(shift, axes), u.flip(axes), -u):
        torch.testing.assert_close(isotropic_spectrum(moved, space=len(sizes)).power, power, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    ("sizes", "waves", "lengths", "shell"),
    [
        ((32,), (5,), None, 5),
        ((32, 32), (3, 4), None, 5),
        ((32, 32), (3, -4), None, 5),
        ((32, 32), (1, 1), None, 1),  # √2 is nearer to 1
        ((32, 32), (2, 2), None, 3),  # √8 is nearer to 3
        ((64, 16), (0, 1), None, 4),  # one wave on the short side of a 4:1 domain of square cells
        ((64, 16), (0, 1), (1.0, 1.0), 1),
        ((16, 16), (1, 0), (1.0, 2.0), 2),
        ((12, 14, 16), (1, 2, 2), (1.0, 1.0, 1.0), 3),
    ],
)
def test_plane_wave(
    sizes: tuple[int, ...], waves: tuple[int, ...], lengths: tuple[float, ...] | None, shell: int
) -> None:
    axes = [2 * math.pi * m * torch.arange(n, dtype=torch.float64) / n for m, n in zip(waves, sizes, strict=True)]
    u = 3 * torch.stack(torch.meshgrid(*axes, indexing="ij")).sum(0).add(0.7).cos()[None]
    power = isotropic_spectrum(u, space=len(sizes), lengths=lengths).power[0]
    expected = torch.zeros_like(power)
    expected[shell] = 9 / 2
    torch.testing.assert_close(power, expected, rtol=1e-10, atol=1e-12)


def test_wave_at_the_nyquist_wavenumber_counts_once() -> None:
    u = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(8)[None]
    power = isotropic_spectrum(u, space=1).power[0]
    assert power[8].item() == pytest.approx(1, rel=1e-12) and power[:8].abs().max() < 1e-15


def test_white_noise_fills_shells_by_their_number_of_modes() -> None:
    u = noise(400, 16, 16)
    power = isotropic_spectrum(u, space=2).power.mean(0)
    modes = torch.from_numpy(by_loop(np.eye(1, 256).reshape(16, 16) * 256, (1.0, 1.0)))
    # Each mode has power 1/256 with a relative scatter of at most √(2/400) = 7 %; five of them.
    torch.testing.assert_close(power, modes / 256, rtol=0.36, atol=0)


def test_one_axis_gives_one_spectrum_per_row() -> None:
    u = noise(2, 3, 6, 16)
    rows = isotropic_spectrum(u, space=1).power
    assert rows.shape == (2, 3, 6, 9)
    torch.testing.assert_close(rows[1, 2, 4], isotropic_spectrum(u[1, 2, 4][None], space=1).power[0])


def test_float32_parseval() -> None:
    u = (100 + noise(2, 128, 128)).float()
    power = isotropic_spectrum(u, space=2).power
    assert power.dtype == torch.float32
    torch.testing.assert_close(power.sum(-1), u.square().mean((-2, -1)), rtol=1e-5, atol=0)
    exact = isotropic_spectrum(u.double(), space=2).power
    # Beside a mean of 100, the fluctuations of power 1/128² per mode keep about three digits.
    torch.testing.assert_close(power.double(), exact, rtol=1e-3, atol=0)


def test_nan_fills_the_spectrum_of_its_channel_and_the_score() -> None:
    u = noise(2, 2, 16, 16)
    truth = isotropic_spectrum(u, space=2).power
    u[1, 0, 3, 3] = torch.nan
    power = isotropic_spectrum(u, space=2).power
    assert power[1, 0].isnan().all() and power.isnan().sum() == power.shape[-1]
    for metric in SPECTRAL_METRICS.values():
        for score in (*metric(power, truth, k_max=8).values(), *metric(truth, power, k_max=8).values()):
            assert score.isnan().nonzero().tolist() == [[1, 0]]


def test_nyquist() -> None:
    assert nyquist((64, 64)) == 32
    assert nyquist((15,)) == 7
    assert nyquist((512, 128)) == 256
    assert nyquist((64, 64), (1.0, 2.0)) == 32
    assert nyquist((64, 32), (1.0, 1.0)) == 16


@pytest.mark.parametrize("k_max", [3, 4, 5, 8, 27, 64, 80, 125, 1000])
def test_bands_are_equal_in_the_logarithm_and_share_out_the_shells(k_max: int) -> None:
    edges = log_bands(k_max)
    np.testing.assert_allclose(np.diff(np.log(edges)), math.log(k_max) / 3, rtol=1e-7)
    assert edges[0] == 1 and edges[-1] == k_max
    # A power that differs in one shell alone is seen by one band, and by all of them together.
    truth = torch.ones(k_max + 3, dtype=torch.float64)
    for shell in range(k_max + 3):
        forecast = truth.clone()
        forecast[shell] = 2
        scores = {name: s.item() for name, s in spectral_rmse(forecast, truth, k_max=k_max).items()}
        inside = 1 <= shell <= k_max
        assert sum(scores[name] > 0 for name in ("low", "mid", "high")) == inside
        assert scores["all"] == pytest.approx(math.sqrt(inside / k_max), rel=1e-12)
        if inside:
            band = sum(shell >= e for e in edges[1:3])
            assert scores[("low", "mid", "high")[band]] > 0


def test_whole_number_edges_belong_to_the_upper_band() -> None:
    assert log_bands(64) == (1, 4, 16, 64)
    truth = torch.ones(70, dtype=torch.float64)
    forecast = truth.clone()
    forecast[4] = 2
    scores = spectral_rmse(forecast, truth, k_max=64)
    assert scores["low"] == 0 and scores["mid"].item() == pytest.approx(12**-0.5)


@pytest.mark.parametrize(
    ("factor", "plain", "paper", "log"),
    [
        (1.0, 0.0, 0.0, 0.0),
        (2.0, 1.0, 0.5, math.log(2)),
        (0.5, 0.5, 1.0, math.log(2)),
        (10.0, 9.0, 0.9, math.log(10)),
        (0.1, 0.9, 9.0, math.log(10)),
        (0.0, 1.0, math.inf, math.inf),
    ],
)
def test_one_factor_in_every_shell(factor: float, plain: float, paper: float, log: float) -> None:
    truth = noise(2, 3, 20).square() + 0.01
    for metric, expected in ((spectral_rmse, plain), (spectral_rmse_paper, paper), (spectral_log_error, log)):
        for score in metric(factor * truth, truth, k_max=16).values():
            torch.testing.assert_close(score, torch.full_like(score, expected), rtol=1e-10, atol=1e-12)


@quick
@given(seed=st.integers(0, 10**6), k_max=st.integers(3, 18))
def test_scores_by_loop_and_symmetries(seed: int, k_max: int) -> None:
    forecast, truth = noise(2, 20, key=seed).square() + 0.01
    for name, metric in SPECTRAL_METRICS.items():
        scores = metric(forecast, truth, k_max=k_max)
        ratio = forecast[1 : k_max + 1] / truth[1 : k_max + 1]
        error = {
            "spectral_rmse": 1 - ratio,
            "spectral_rmse_paper": 1 - 1 / ratio,
            "spectral_log_error": ratio.log(),
        }
        torch.testing.assert_close(scores["all"], error[name].square().mean().sqrt(), rtol=1e-10, atol=0)
        rescaled = metric(1e-8 * forecast, 1e-8 * truth, k_max=k_max)
        swapped = metric(truth, forecast, k_max=k_max)
        for band, score in scores.items():
            torch.testing.assert_close(rescaled[band], score, rtol=1e-9, atol=1e-12)
            if name == "spectral_log_error":
                torch.testing.assert_close(swapped[band], score, rtol=1e-10, atol=0)
    paper = spectral_rmse_paper(forecast, truth, k_max=k_max)
    torch.testing.assert_close(paper["mid"], spectral_rmse(truth, forecast, k_max=k_max)["mid"])


def test_empty_shells_of_an_exact_forecast_score_nothing() -> None:
    truth = torch.tensor([1.0, 2.0, 0.0, 3.0, 0.0])
    for metric in SPECTRAL_METRICS.values():
        assert all(score == 0 for score in metric(truth, truth, k_max=4).values())


def test_averaging_spectra_first_removes_the_sampling_noise() -> None:
    """Two sets of draws of one law: mean spectra score near 0, single ones do not."""
    forecast, truth = (isotropic_spectrum(noise(200, 16, 16, key=k), space=2).power for k in ("a", "b"))
    averaged = spectral_rmse(forecast.mean(0), truth.mean(0), k_max=8)["low"].item()
    single = spectral_rmse(forecast, truth, k_max=8)["low"].mean().item()
    assert averaged < 0.15 < 0.5 < single


def test_misfits_are_refused_in_one_line() -> None:
    u = torch.zeros(2, 8, 8)
    power = torch.ones(2, 6)
    bad = [
        lambda: isotropic_spectrum(u, space=4),
        lambda: isotropic_spectrum(u, space=2, lengths=(1.0,)),
        lambda: isotropic_spectrum(u, space=2, lengths=(1.0, 0.0)),
        lambda: log_bands(1),
        lambda: spectral_rmse(power, power[:1], k_max=4),
        lambda: spectral_rmse(power, power, k_max=2),
        lambda: spectral_rmse(power, power, k_max=6),
    ]
    for call in bad:
        with pytest.raises(DataError) as caught:
            call()
        assert "\n" not in str(caught.value)
