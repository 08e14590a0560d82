"""The Kuramoto–Sivashinsky equation: the cheapest spatio-temporal chaos."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from driftway.pdes.spectral import SpectralPDE
from driftway.randomness import Stream


@dataclass(frozen=True)
class KuramotoSivashinsky(SpectralPDE):
    """Flame fronts and film flow in one dimension, in conservation form.

        u_t + ½(u²)_x + u_xx + u_xxxx = 0

    The mean is conserved (zero here). Good values: length 60 (seven cells or so, chaotic), 256 points, dt =
    0.1. On some lengths, 64 among them, the chaos is transient: now and then a trajectory settles into steady
    cells. Kuramoto & Tsuzuki 1976; Sivashinsky 1977; scheme and test case of Kassam & Trefethen 2005.

    Arguments:
        amplitude: max|u| of random initial states
        cutoff: their largest wavenumber
    """

    size: tuple[int, ...] = (256,)
    length: tuple[float, ...] = (60.0,)
    dt: float = 0.1
    substeps: int = 10
    amplitude: float = 1.0
    cutoff: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(len(self.size) == 1, "size", "one number")
        self._require_waves(self.amplitude, self.cutoff)

    def linear(self, k: tuple[Tensor, ...]) -> Tensor:
        return k[0] ** 2 - k[0] ** 4

    def nonlinear(self, v: Tensor) -> Tensor:
        return self._flux * self.to_modes(self.to_grid(v) ** 2)

    def initial(self, stream: Stream) -> Tensor:
        return self.amplitude * self.random_waves(stream, self.cutoff)

    @cached_property
    def _flux(self) -> Tensor:
        return -0.5 * self.derivative(0)
