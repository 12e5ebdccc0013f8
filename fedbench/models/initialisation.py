"""How convolutions start where settings ask for another way than PyTorch's.

He et al., "Delving Deep into Rectifiers", ICCV 2015, https://arxiv.org/abs/1502.01852: before a
ReLU, a standard deviation of √(2/n) keeps the size of maps (n inputs of an output) or of gradients
(n outputs of an input). PyTorch's own is √(1/3n) with n inputs, less than half of it.
"""

from __future__ import annotations

from torch import nn

from fedbench.models.families import Initialisation


def start(net: nn.Module, how: Initialisation) -> None:
    """Draw the weights of all convolutions anew, from torch's generator; biases become 0.

    Linear layers and normalisations stay as they are, as in the codes that start so.

    Args:
        net: Changed in place.
        how: ``kaiming_normal``: normal, n counts outputs; ``kaiming_uniform``: uniform, n counts
            inputs.
    """
    for layer in net.modules():
        if not isinstance(layer, nn.Conv2d):
            continue
        if how == "kaiming_normal":
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        else:
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
