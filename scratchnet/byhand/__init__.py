"""The systems of models/ once more, each with its backward pass derived on paper."""

from scratchnet.byhand.autoencoder import Autoencoder

__all__ = ["Autoencoder"]
