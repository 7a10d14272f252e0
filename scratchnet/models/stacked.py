"""The stacked autoencoder: several layers, trained one by one and then together.

Each layer is first an autoencoder of its own, for the codes of the layer below
(Bengio et al. 2007; Hinton & Salakhutdinov 2006, who used other machines for it). What
it has learned is where the training of the whole stack starts. `training.pretrain` is
that loop; without it the stack is trained end to end, from its random weights.
"""

import numpy as np

from scratchnet import twins
from scratchnet.models.autoencoder import Autoencoder


class StackedAutoencoder(twins.Stacked, Autoencoder):
    """An autoencoder of several layers, each of which can be trained on its own.

    `layer(k)` takes one out, `set_layer(k, layer)` puts it back: see `twins.Stacked`.

    Args:
        sizes: as for `Autoencoder`: columns of the data, hidden layers, code.
        **options: as for `Autoencoder`.

    """

    kind = Autoencoder

    def _write(self, owner: str, found: dict[str, np.ndarray]) -> None:
        self._load(owner, found, found)
