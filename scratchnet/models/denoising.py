"""The denoising autoencoder: corrupted data in, clean data out.

    loss = mean over samples of ‖s(decoder(encoder(x̃))) − x‖²,  x̃ = x corrupted

To remove the noise it has to learn the structure of the data (Vincent et al. 2008,
2010).
byhand/denoising.py is the same system with its gradient derived on paper.
"""

from typing import Any

from scratchnet import checks, twins
from scratchnet.models.autoencoder import Autoencoder
from scratchnet.tensor import Tensor


class DenoisingAutoencoder(twins.Denoising, Autoencoder):
    """An autoencoder from corrupted samples to clean ones.

    Args:
        sizes: as for `Autoencoder`.
        corruption: called as corruption(x, rng) for each batch, or with further arrays
            of the samples: corruption(x, depth, rng). See data/corruption.py.
        **options: as for `Autoencoder`.

    """

    def loss(self, x: Any, corrupted: Any = None) -> Tensor:
        """Return the loss of the reconstruction of `corrupted` against clean x (n, d).

        Raises:
            TypeError, ValueError: a wrong shape or dtype.

        """
        if corrupted is None:
            corrupted = x
        x = self._check(x)
        corrupted = self._check(corrupted, "corrupted")
        checks.on_backend("DenoisingAutoencoder", x)
        checks.equal_rows("DenoisingAutoencoder", x=x, corrupted=corrupted)
        return self._loss(x, corrupted)
