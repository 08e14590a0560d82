"""A spherical Fourier neural operator."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from driftway.data.axes import Axis, is_sphere
from driftway.errors import ConfigError
from driftway.networks.layers import Embedding, FiLM, pointwise, zero
from driftway.sphere import Transform


class SFNO(nn.Module):
    """Layers that multiply spherical harmonics by a learned matrix for each degree, and the points by another.

        h + GELU(FiLM(S⁻¹(R_l·S h) + W h))

    S is the transform of `driftway.sphere`, truncated at a triangle. One real matrix for all orders of a degree is a
    convolution with zonal kernels, which turns with any rotation of the sphere; the sine of the latitude, a channel
    beside the input, leaves rotations about the axis alone: a shift in longitude shifts the output exactly.
    inputs, outputs: channels; boundary: ("pole", "periodic"); axes: latitude and longitude; parameters: physical
    parameters per state; degree: the largest kept, None for all that the grid tells apart; embedding: width of the
    label's vector. Good starting values: width 32, depth 4. Raises ConfigError where the axes are no sphere.

    Reference: Bonev et al. 2023 (arXiv 2306.03838), linear layers of zonal filters; modulation as in `FNO`.
    """

    height: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        boundary: tuple[str, ...],
        *,
        axes: tuple[Axis, ...] | None,
        parameters: int = 0,
        width: int = 32,
        depth: int = 4,
        degree: int | None = None,
        embedding: int = 128,
    ):
        super().__init__()
        if axes is None or not is_sphere(axes):
            raise ConfigError(
                "sfno needs latitudes from pole to pole, then longitudes over 360 degrees, and is not for latents: "
                f"these axes are {' × '.join(boundary)}; take fno"
            )
        lat, lon = (axis.coordinates for axis in axes)
        self.transform = Transform(lat, lon, degree)
        height = torch.sin(torch.deg2rad(torch.tensor(lat, dtype=torch.float64)))
        self.register_buffer("height", height[:, None].repeat(1, len(lon)), persistent=False)
        self.embedding = Embedding(parameters, embedding)
        self.lift = pointwise(inputs + 1, width, 2)
        self.layers = nn.ModuleList(SphericalLayer(width, self.transform.degree, embedding) for _ in range(depth))
        self.hidden = pointwise(width, 4 * width, 2)
        self.project = zero(pointwise(4 * width, outputs, 2))

    def forward(self, x: Tensor, time: Tensor | None = None, params: Tensor | None = None) -> Tensor:
        vector = self.embedding(x, time, params)
        self.transform.check(x)
        h = self.lift(torch.cat([x, self.height.to(x).expand(len(x), 1, -1, -1)], 1))
        for layer in self.layers:
            h = layer(h, vector, self.transform)
        return self.project(F.gelu(self.hidden(h)))


class SphericalLayer(nn.Module):
    """One residual layer of the operator: (B, width, nlat, nlon) → (B, width, nlat, nlon)."""

    def __init__(self, width: int, degree: int, embedding: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(degree + 1, width, width) / width)
        self.bypass = pointwise(width, width, 2)
        self.film = FiLM(embedding, width)

    def forward(self, h: Tensor, vector: Tensor, transform: Transform) -> Tensor:
        return h + F.gelu(self.film(self.filtered(h, transform) + self.bypass(h), vector))

    def filtered(self, h: Tensor, transform: Transform) -> Tensor:
        """The field whose harmonics are R_l times those of h."""
        waves = torch.view_as_real(transform.analysis(h))
        mixed = torch.einsum("bilmr,lio->bolmr", waves, self.weight)
        return transform.synthesis(torch.view_as_complex(mixed.contiguous()))
