"""Networks: any map (x, time, params) → (B, D, *S). They know shapes, boundaries and a label, no method."""

from driftway.networks.autoencoder import Autoencoder
from driftway.networks.climate import ClimateDiT
from driftway.networks.dit import DiT
from driftway.networks.fno import FNO
from driftway.networks.kl_autoencoder import KLAutoencoder
from driftway.networks.sfno import SFNO
from driftway.networks.unet import UNet

NETWORKS = {"unet": UNet, "dit": DiT, "fno": FNO, "sfno": SFNO, "climate_dit": ClimateDiT}

__all__ = ["FNO", "NETWORKS", "SFNO", "Autoencoder", "ClimateDiT", "DiT", "KLAutoencoder", "UNet"]
