"""The systems of models/ again, each with its backward pass derived on paper."""

from scratchnet.byhand.autoencoder import Autoencoder
from scratchnet.byhand.denoising import DenoisingAutoencoder
from scratchnet.byhand.gan import GAN
from scratchnet.byhand.iwae import IWAE
from scratchnet.byhand.stacked import StackedAutoencoder
from scratchnet.byhand.vae import VAE

__all__ = [
    "GAN",
    "IWAE",
    "VAE",
    "Autoencoder",
    "DenoisingAutoencoder",
    "StackedAutoencoder",
]
