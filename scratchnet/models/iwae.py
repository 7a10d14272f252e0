"""The importance-weighted autoencoder: the VAE with a tighter bound.

    log w_j = log p(x | z_j) + log N(z_j; 0, 1) − log q(z_j | x),  z_j from q, j ≤ k
    loss = mean over samples of −log 1/k Σ_j w_j

Burda et al. 2016, equation 8. byhand/iwae.py is the same system with its gradient
derived on paper.
"""

import math
from typing import Any

import numpy as np

from scratchnet import checks, twins
from scratchnet.functions import logsumexp
from scratchnet.losses import bernoulli_terms, gaussian_terms
from scratchnet.models.vae import VAE
from scratchnet.tensor import Tensor


class IWAE(twins.ImportanceWeighted, VAE):
    """A VAE trained on the bound of k draws.

    Args:
        sizes: as for `VAE`.
        k: the number of draws of each code.
        **options: as for `VAE`; this bound has no β.

    Raises:
        TypeError, ValueError: an argument has a wrong type or value.

    """

    def loss(self, x: Any, eps: Any) -> Tensor:
        """Return −log 1/k Σ_j w_j, averaged over the samples x (n, d), in nats.

        Args:
            x: the samples (n, d).
            eps: the noise (n, k, c) of the k draws, from N(0, 1).

        Raises:
            TypeError, ValueError: a wrong shape or dtype.

        """
        x = checks.rows("IWAE", x, self.sizes[0], self.dtype)
        checks.on_backend("IWAE", x)
        shape = (len(x), self.k, self.sizes[-1])
        eps = checks.noise("IWAE", eps, shape, self.dtype)
        mu, log_var = self._split(self.encoder(x))
        z = mu[:, None] + np.exp(log_var / 2)[:, None] * eps  # (n, k, c)
        a = self.decoder(z)
        if self.gaussian:
            terms = gaussian_terms(a, self.log_var_x, x[:, None])
        else:
            terms = bernoulli_terms(a, x[:, None])
        # The factors of 2π in the prior and in q cancel, and (z − mu) / σ is ε.
        ratio = np.square(eps) - np.square(z) + log_var[:, None]
        log_w = np.sum(ratio, axis=2) / 2 - np.sum(terms, axis=2)  # (n, k)
        bound = logsumexp(log_w, axis=1) - math.log(self.k)
        loss: Tensor = -np.mean(bound)
        return loss
