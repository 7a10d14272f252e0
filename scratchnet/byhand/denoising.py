"""The denoising autoencoder by hand: an autoencoder whose input is corrupted.

Read autoencoder.py first. With x̃ for the corrupted samples (Vincent et al. 2008),

    z = encoder(x̃),  a = decoder(z)               in place of (7)

The rest does not change: the error (8) and the losses (9, 9') compare with the clean x,
which the networks do not get. In the gradient (10 to 12) x̃ occurs once, as the
encoder's h_0 in (3).


The step in plain NumPy

No hidden layers, and the squared error; the encoder has W1, b1, the decoder W2, b2. The
corruption multiplies x by keep (n, d), whose entries are 0 or 1.

    x_tilde = x * keep                                         # for the encoder alone
    z = x_tilde @ W1 + b1                                      # in place of (7)
    a = z @ W2 + b2                                            # in place of (7)
    x_hat = 1 / (1 + np.exp(-a))                               # (8)
    e = x_hat - x                                              # (8): the clean x
    loss = np.sum(e**2) / n                                    # (9)

    da = 2 / n * e * x_hat * (1 - x_hat)                       # (10)
    dW2, db2 = z.T @ da, np.sum(da, axis=0)                    # (3), (4)
    dz = da @ W2.T                                             # (11)
    dW1, db1 = x_tilde.T @ dz, np.sum(dz, axis=0)              # (12): the corrupted x
"""

from scratchnet import checks, twins
from scratchnet.backend import Array
from scratchnet.byhand.autoencoder import Autoencoder


class DenoisingAutoencoder(twins.Denoising, Autoencoder):
    """An autoencoder from corrupted samples to clean ones; `step` allocates nothing.

    Args:
        sizes: as for `Autoencoder`.
        corruption: called as corruption(x, rng) for each batch, or with further arrays
            of the samples: corruption(x, depth, rng). See data/corruption.py.
        **options: as for `Autoencoder`.

    """

    def forward(self, x: Array, corrupted: Array | None = None) -> Array:
        """Compute the loss of the reconstruction of `corrupted` against clean x (n, d).

        Without `corrupted` it reconstructs x itself, as the plain autoencoder does.
        """
        if corrupted is None:
            corrupted = x
        x = self._check_rows(x, self.sizes[0])
        corrupted = self._check_rows(corrupted, self.sizes[0], "corrupted")
        checks.equal_rows(self._name, x=x, corrupted=corrupted)
        return self._forward(x, corrupted)
