"""The stacked autoencoder by hand: several layers, each an autoencoder of its own.

Read autoencoder.py first: end to end, the stack is that system, with the same gradient.

Trained greedily (Bengio et al. 2007), layer k = 1, ..., C sees as its data the codes
h_{k-1} of the layers below, which stay as they are, and goes down its own loss,

    Loss_k = 1/n Σ_i ‖h_{k-1} - f(f(h_{k-1} W_k + b_k) W'_k + b'_k)‖²

with W_k from the encoder and W'_k, b'_k from the decoder's layer that mirrors it: the
autoencoder with sizes (d_{k-1}, d_k) and s = f. Two layers differ, as they do in the
stack: what the first reconstructs are the data, so that its s and its loss are those of
the stack, and the code of the last one has f only if the stack's has. Nothing is
propagated to the layers below, and nothing comes from those above, so the gradient is
(10 to 12) of that small system. Then the whole stack is trained end to end from there.
"""

from collections.abc import Sequence
from typing import Any

from scratchnet import twins
from scratchnet.byhand.autoencoder import Autoencoder
from scratchnet.kernels import buffers


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
        arrays = {name: self.parameters[name] for name in found}
        buffers.load_state(owner, arrays, found)
