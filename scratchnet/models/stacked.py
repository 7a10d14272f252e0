"""The stacked autoencoder: several layers, trained one by one and then together.

Each layer is first an autoencoder of its own, for the codes of the layer below
(Bengio et al. 2007; Hinton & Salakhutdinov 2006, who used other machines for it). What
it has learned is where the training of the whole stack starts. `training.pretrain` is
that loop; without it the stack is trained end to end, from its random weights.
"""

from collections.abc import Sequence
from typing import Any

from scratchnet import twins
from scratchnet.models.autoencoder import Autoencoder


class StackedAutoencoder(Autoencoder):
    """An autoencoder of several layers, each of which can be trained on its own.

    Args:
        sizes: as for `Autoencoder`: columns of the data, hidden layers, code.
        **options: as for `Autoencoder`.

    """

    def __init__(
        self, sizes: Sequence[int] = (784, 512, 256, 16), **options: Any
    ) -> None:
        super().__init__(sizes, **options)
        del options["rng"]  # a layer's weights are the stack's
        self._options = options

    def layer(self, k: int) -> Autoencoder:
        """Return layer k = 1, 2, ... as an autoencoder, with this stack's weights.

        It takes the codes of layer k - 1 to those of layer k and back, through the
        activations that are there in the stack. The first has the stack's own output
        and loss; the others, squared error.

        Raises:
            ValueError: there is no layer k.

        """
        names = twins.layer_names(self.sizes, k)
        options = self._options | twins.layer_options(self.sizes, k)
        made = Autoencoder(self.sizes[k - 1 : k + 1], **options)
        state = self.state_dict()
        made.load_state_dict({mine: state[name] for mine, name in names.items()})
        return made

    def set_layer(self, k: int, layer: Autoencoder) -> None:
        """Take over the weights of what `layer(k)` returned.

        Raises:
            TypeError, ValueError: there is no layer k, or it is another one.

        """
        if not isinstance(layer, Autoencoder):
            raise TypeError(
                f"set_layer: a {type(layer).__name__} given, an Autoencoder expected"
            )
        state = layer.state_dict()
        names = twins.layer_names(self.sizes, k)
        found = {name: state[mine] for mine, name in names.items()}
        owner = f"{type(self).__name__}.set_layer"
        self._load(owner, found, found)
