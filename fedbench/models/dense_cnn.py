"""The small networks of DENSE, chosen as its code chooses them, by data set.

- From 32x32 pixels: three unpadded 3x3 convolutions, max-pooling after the first two, no
  normalisation; wider with 100 classes or more (DENSE: for CIFAR-100).
- Below: two padded 5x5 convolutions with BatchNorm and max-pooling (DENSE: for 28x28).

Both end in one linear layer on the flattened map. The reference has these for its own image sizes
only; ours fit the linear layer to any.

Source: Zhang et al., "DENSE: Data-Free One-Shot Federated Learning", NeurIPS 2022,
https://arxiv.org/abs/2112.12371.
"""

from __future__ import annotations

from torch import nn

from fedbench.models.families import DENSE_CNN_PLAIN_FROM
from fedbench.models.net import FlatNet

#: From this number of classes on, the plain network is the wide one.
WIDE_FROM_CLASSES = 100  # DENSE: CIFAR-100


def dense_cnn(*, channels: int, size: int, classes: int) -> FlatNet:
    """Return the network of DENSE for these images, with PyTorch's default initialisation.

    Args:
        channels: Of the images.
        size: Height of the images in pixels, at least 4.
        classes: Number of logits.
    """
    if size < DENSE_CNN_PLAIN_FROM:
        return _padded(channels, size, classes)
    widths = (256, 256, 128) if classes >= WIDE_FROM_CLASSES else (128, 128, 128)  # DENSE
    return _plain(channels, size, classes, widths)


def _plain(channels: int, size: int, classes: int, widths: tuple[int, int, int]) -> FlatNet:
    first, second, third = widths
    body = nn.Sequential(
        nn.Conv2d(channels, first, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(second, third, 3),
        nn.ReLU(),
    )
    last = ((size - 2) // 2 - 2) // 2 - 2
    return FlatNet(body, third * last**2, classes)


def _padded(channels: int, size: int, classes: int) -> FlatNet:
    body = nn.Sequential(
        nn.Conv2d(channels, 16, 5, padding=2),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5, padding=2),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
    return FlatNet(body, 32 * (size // 4) ** 2, classes)
