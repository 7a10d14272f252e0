"""The systems, written as their forward pass; the engine differentiates them."""

from scratchnet.models.autoencoder import Autoencoder

__all__ = ["Autoencoder"]
