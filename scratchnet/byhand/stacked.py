"""The stacked autoencoder by hand: several layers, each an autoencoder of its own.

Read autoencoder.py first. Trained end to end, the stack is that system, with the same
gradient.

In greedy training (Bengio et al. 2007) layer k = 1, ..., C is trained alone. Its data
are the codes h_{k-1} of the layers below, which do not change, and it minimises

    Loss_k = 1/n Σ_i ‖h_{k-1} - f(f(h_{k-1} W_k + b_k) W'_k + b'_k)‖²

with W_k from the encoder and W'_k, b'_k from the decoder's layer that mirrors it. This
is the autoencoder with sizes (d_{k-1}, d_k) and s = f. Two layers differ: layer 1
reconstructs the data, so it has the stack's s and loss; layer C has f on its code only
if the stack has. Other layers take no part, so the gradient is (10 to 12) of this small
autoencoder. Afterwards the whole stack is trained end to end, from these weights.


The step in plain NumPy

Layer 2 of three, with f = relu. W1, b1 belong to layer 1, trained before; V2, c2 are
W'_2, b'_2.

    h1 = np.maximum(x @ W1 + b1, 0)                            # the data of layer 2
    h2 = np.maximum(h1 @ W2 + b2, 0)                           # (7), with f: its code
    h1_hat = np.maximum(h2 @ V2 + c2, 0)                       # (7), (8), s = f
    e = h1_hat - h1                                            # (8)
    loss = np.sum(e**2) / n                                    # (9)

    da = 2 / n * e * (h1_hat > 0)                              # (10)
    dV2, dc2 = h2.T @ da, np.sum(da, axis=0)                   # (3), (4)
    dh2 = da @ V2.T                                            # (11)
    delta2 = dh2 * (h2 > 0)                                    # (6)
    dW2, db2 = h1.T @ delta2, np.sum(delta2, axis=0)           # (12)

    for p, dp in [(W2, dW2), (b2, db2), (V2, dV2), (c2, dc2)]:
        p -= lr * dp                                           # W1 and b1 stay
"""

import numpy as np

from scratchnet import twins
from scratchnet.byhand.autoencoder import Autoencoder
from scratchnet.kernels import buffers


class StackedAutoencoder(twins.Stacked, Autoencoder):
    """An autoencoder of several layers that can be trained one by one.

    `layer(k)` returns one, `set_layer(k, layer)` puts it back; see `twins.Stacked`.

    Args:
        sizes: as for `Autoencoder`: columns of the data, hidden layers, code.
        **options: as for `Autoencoder`.

    """

    kind = Autoencoder

    def _write(self, owner: str, found: dict[str, np.ndarray]) -> None:
        arrays = {name: self.parameters[name] for name in found}
        buffers.load_state(owner, arrays, found)
