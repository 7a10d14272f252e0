"""The stacked autoencoder: several layers, trained one by one and then together.

Each layer is first trained as an autoencoder of the codes of the layer below (Bengio et
al. 2007; Hinton & Salakhutdinov 2006, who used restricted Boltzmann machines). Training
of the whole stack starts from these weights. `training.pretrain` is that loop; without
it the stack is trained end to end from random weights.
"""

import numpy as np

from scratchnet import twins
from scratchnet.models.autoencoder import Autoencoder


class StackedAutoencoder(twins.Stacked, Autoencoder):
    """An autoencoder of several layers that can be trained one by one.

    `layer(k)` returns one, `set_layer(k, layer)` puts it back; see `twins.Stacked`.

    Args:
        sizes: as for `Autoencoder`: columns of the data, hidden layers, code.
        **options: as for `Autoencoder`.

    """

    kind = Autoencoder

    def _write(self, owner: str, found: dict[str, np.ndarray]) -> None:
        self._load(owner, found, found)
