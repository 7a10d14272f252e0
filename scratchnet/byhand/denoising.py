"""The denoising autoencoder by hand: the autoencoder, reading what is corrupted.

Read autoencoder.py first. With x̃ for the corrupted samples (Vincent et al. 2008),

    z = encoder(x̃),  a = decoder(z)               in place of (7)

and the rest is as it was: the error (8) and the losses (9, 9') compare with the clean
x, which nothing before (8) has seen. In the gradient (10 to 12) x̃ occurs once, as the
encoder's h_0 in (3).
"""

from scratchnet import checks, twins
from scratchnet.backend import Array
from scratchnet.byhand.autoencoder import Autoencoder


class DenoisingAutoencoder(twins.Denoising, Autoencoder):
    """An autoencoder from corrupted samples to clean ones; `step` allocates nothing.

    Args:
        sizes: as for `Autoencoder`.
        corruption: called as corruption(x, rng) for each batch, or with what else
            belongs to the samples: corruption(x, depth, rng). See data/corruption.py.
        **options: as for `Autoencoder`.

    """

    def forward(self, x: Array, corrupted: Array | None = None) -> Array:
        """Compute the loss of clean x (n, d) against what is made of `corrupted`.

        Without `corrupted`, of x itself: that is the plain autoencoder.
        """
        if corrupted is None:
            corrupted = x
        x = self._check_rows(x, self.sizes[0])
        corrupted = self._check_rows(corrupted, self.sizes[0], "corrupted")
        checks.equal_rows(self._name, x=x, corrupted=corrupted)
        return self._forward(x, corrupted)
