"""The systems, each written as its forward pass; the engine differentiates it."""

from scratchnet.models.autoencoder import Autoencoder
from scratchnet.models.denoising import DenoisingAutoencoder
from scratchnet.models.gan import GAN
from scratchnet.models.iwae import IWAE
from scratchnet.models.stacked import StackedAutoencoder
from scratchnet.models.vae import VAE

__all__ = [
    "GAN",
    "IWAE",
    "VAE",
    "Autoencoder",
    "DenoisingAutoencoder",
    "StackedAutoencoder",
]
