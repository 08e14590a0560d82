"""Isotropic power spectra and how far the forecast's is from the truth's, band by band.

Wavenumbers count waves over the longest side of the domain. Fields must be periodic on a uniform grid along
every axis that is transformed; where only the last axis is periodic, `space=1` gives one spectrum per row. On the
sphere the wavenumber is the total degree of spherical harmonics.

Averaging order: the scores take spectra, not fields. The caller averages the spectra of forecast and truth
over samples (and members) first, and scores the averages. The ratio of single-sample spectra scatters by its
own sampling noise: two independent draws of one law would then score far from 0, although their law is the
same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from driftway.errors import DataError
from driftway.metrics.errors import quotient
from driftway.sphere import Transform, power

BANDS = ("low", "mid", "high")


class Spectrum(NamedTuple):
    """Shell wavenumbers (K,) = 0, 1, …, K − 1 and the power (..., K) in each, in squared field units."""

    wavenumbers: Tensor
    power: Tensor


class SpectralMetric(Protocol):
    """A score of forecast and truth spectra (..., K) for each band up to `k_max`: name → (...)."""

    def __call__(self, forecast: Tensor, truth: Tensor, *, k_max: float) -> dict[str, Tensor]: ...


def isotropic_spectrum(u: Tensor, *, space: int, lengths: Sequence[float] | None = None) -> Spectrum:
    """Power in shells of equal wavenumber.

    P(κ) = Σ_{κ − ½ ≤ |k| < κ + ½} |û(k)|², û(k) = N⁻¹ Σₓ u(x) e^{−ik·x}, κ = 0, 1, 2, …

    u: (..., C, *S), periodic, giving power (..., C, K)
    space: number of trailing axes that are transformed; 1 on a latitude-longitude grid gives zonal spectra
    lengths: side of the domain along each axis, any unit; None: the cells are square

    Parseval: Σ_κ P(κ) = ⟨u²⟩, with the mean in shell 0. A plane wave a cos(k·x) gives a²/2 in the shell
    nearest |k|. Shells beyond `nyquist` hold the corners of the grid only and are incomplete.
    """
    sizes = _sizes(u, space)
    axes = tuple(range(-space, 0))
    energy = torch.fft.rfftn(u, dim=axes, norm="forward").abs().square()
    shells, copies = _half_plane(sizes, _stretches(sizes, lengths))
    energy = (energy * copies.to(energy)).flatten(-space)
    count = int(shells.max()) + 1
    found = energy.new_zeros(*energy.shape[:-1], count)
    found = found.index_add(-1, shells.flatten().to(u.device), energy)
    return Spectrum(torch.arange(count, dtype=found.dtype, device=u.device), found)


def spherical_spectrum(u: Tensor, lat: Sequence[float], lon: Sequence[float]) -> Spectrum:
    """Power by total degree l of the spherical harmonics.

    P(l) = Σ_m |û_lm|² / 4π over −l ≤ m ≤ l, l = 0, 1, 2, …

    u: (..., C, nlat, nlon), giving power (..., C, K), with K − 1 the largest degree that the grid tells apart
    lat, lon: degrees, as `driftway.sphere.Transform` takes them

    Parseval: Σ_l P(l) = ⟨u²⟩, the mean over the area, of a field of no higher degrees, with the mean in shell 0. No
    rotation of the sphere changes it.
    """
    found = power(_transform(tuple(lat), tuple(lon)).analysis(u))
    return Spectrum(torch.arange(found.shape[-1], dtype=found.dtype, device=u.device), found)


@lru_cache(maxsize=4)
def _transform(lat: tuple[float, ...], lon: tuple[float, ...]) -> Transform:
    return Transform(lat, lon)


def zonal_spectrum(u: Tensor) -> Spectrum:
    """Power by zonal wavenumber at each latitude: `isotropic_spectrum` of (..., C, nlat, nlon) along the last axis."""
    return isotropic_spectrum(u, space=1)


def nyquist(sizes: Sequence[int], lengths: Sequence[float] | None = None) -> float:
    """Largest wavenumber that every axis resolves, in waves over the longest side.

    k_N = minᵢ ⌊nᵢ / 2⌋ (max L / Lᵢ)

    sizes: grid points along each axis
    lengths: side of the domain along each axis; None: the cells are square, and k_N is half the largest size
    """
    return min(n // 2 * stretch for n, stretch in zip(sizes, _stretches(sizes, lengths), strict=True))


def log_bands(k_max: float, bands: int = 3, k_min: float = 1.0) -> tuple[float, ...]:
    """Edges of bands that are equally wide in ln k.

    eᵢ = k_min (k_max / k_min)^{i / n}, i = 0, …, n

    k_max: upper end, usually `nyquist`; the largest dealiased wavenumber where the truth has none above it
    """
    if not 0 < k_min < k_max:
        raise DataError(f"bands from {k_min} to {k_max} are empty; give 0 < k_min < k_max")
    # Rounded, so that an edge that is a whole number in exact arithmetic is one here.
    return tuple(round(k_min * (k_max / k_min) ** (i / bands), 9) for i in range(bands + 1))


def spectral_rmse(forecast: Tensor, truth: Tensor, *, k_max: float) -> dict[str, Tensor]:
    """Relative error of the spectrum, in bands: SRMSE with the forecast over the truth.

    SRMSE = √⟨(1 − P̂(k) / P(k))²⟩_k over the shells of a band

    forecast, truth: power P̂, P (..., K) in shells 0, 1, …, averaged over samples by the caller
    k_max: last shell counted, usually `nyquist`; the thirds of [1, k_max] in ln k are low, mid and high
        (lower edge in, upper edge out, but for the last), all of it is all; the mean and the corners of the
        grid are left out

    Perfect 0; no power scores 1, which bounds the loss from smoothing; twice the power scores 1, ten times 9.
    Shells where the truth is rounding noise dominate: use float64 or a lower k_max. Rozet et al. 2025,
    arXiv:2507.02608.
    """
    return _banded(_relative_square, forecast, truth, k_max)


def spectral_rmse_paper(forecast: Tensor, truth: Tensor, *, k_max: float) -> dict[str, Tensor]:
    """The same with the ratio the other way up, truth over forecast, to compare with arXiv:2509.26282.

    √⟨(1 − P(k) / P̂(k))²⟩_k over the shells of a band

    forecast, truth, k_max: as in `spectral_rmse`

    Perfect 0; too much power never scores above 1, too little without bound (a tenth: 9): it favours noise.
    The published numbers also add 1e-6 to both powers and use other bins.
    """
    return _banded(lambda p, q: _relative_square(q, p), forecast, truth, k_max)


def spectral_log_error(forecast: Tensor, truth: Tensor, *, k_max: float) -> dict[str, Tensor]:
    """Error of the logarithm of the spectrum: too much and too little power by one factor cost the same.

    √⟨ln²(P̂(k) / P(k))⟩_k over the shells of a band

    forecast, truth, k_max: as in `spectral_rmse`

    Perfect 0; a factor f in every shell scores |ln f|, 0.69 for 2 or ½; no power scores ∞. Symmetric in its
    arguments.
    """
    return _banded(_log_square, forecast, truth, k_max)


def _banded(
    square: Callable[[Tensor, Tensor], Tensor], forecast: Tensor, truth: Tensor, k_max: float
) -> dict[str, Tensor]:
    """Root of the mean of `square(P̂, P)` over the shells of each band and of all bands."""
    if forecast.shape != truth.shape:
        raise DataError(
            f"forecast spectrum {tuple(forecast.shape)} and truth {tuple(truth.shape)} differ in shape; "
            "take both on one grid"
        )
    if not 3 <= k_max < truth.shape[-1]:
        raise DataError(
            f"k_max {k_max} with {truth.shape[-1]} shells; give 3 (one shell per band) or more, within them"
        )
    edges = log_bands(k_max)
    k = torch.arange(truth.shape[-1], dtype=torch.float64, device=truth.device)
    # A little beyond the last edge, so that the last shell belongs to the last band.
    limits = [*edges[:-1], edges[-1] + 1e-6]
    ends = dict(zip(BANDS, pairwise(limits), strict=True)) | {"all": (limits[0], limits[-1])}
    squares = square(forecast, truth)
    return {name: squares[..., (k >= low) & (k < high)].mean(-1).sqrt() for name, (low, high) in ends.items()}


def _relative_square(power: Tensor, reference: Tensor) -> Tensor:
    return quotient(power - reference, reference).square()


def _log_square(power: Tensor, reference: Tensor) -> Tensor:
    # Equal powers have the ratio 1, also where both vanish.
    return torch.where(power == reference, torch.zeros_like(power), power.log() - reference.log()).square()


def _sizes(u: Tensor, space: int) -> tuple[int, ...]:
    if not 1 <= space <= u.ndim:
        raise DataError(f"{space} spatial axes asked of shape {tuple(u.shape)}; give 1 to {u.ndim}")
    return tuple(u.shape[-space:])


def _stretches(sizes: Sequence[int], lengths: Sequence[float] | None) -> tuple[float, ...]:
    """Waves over the longest side for one wave along each axis: max L / Lᵢ."""
    sides = sizes if lengths is None else lengths
    if len(sides) != len(sizes) or min(sides) <= 0:
        raise DataError(f"lengths {tuple(sides)} for {len(sizes)} axes; give one positive length per axis")
    return tuple(max(sides) / side for side in sides)


def _half_plane(sizes: Sequence[int], stretches: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Shell of every mode that a real transform keeps, and how many modes of the full one it stands for."""
    modes = [torch.fft.fftfreq(n, 1 / n, dtype=torch.float64).round() for n in sizes[:-1]]
    last = torch.arange(sizes[-1] // 2 + 1, dtype=torch.float64)
    grids = torch.meshgrid(*[s * m for s, m in zip(stretches, [*modes, last], strict=True)], indexing="ij")
    radius = torch.stack(grids).square().sum(0).sqrt()
    unpaired = (last == 0) | (2 * last == sizes[-1])
    return (radius + 0.5).floor().long(), torch.where(unpaired, 1.0, 2.0)
