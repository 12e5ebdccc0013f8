"""What every network is: features, a linear head, and logits."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Net(nn.Module, ABC):
    """Base of all classifiers. A subclass sets ``head`` and defines ``features``.

    There is no dropout and no other randomness in a forward pass, so that a network trained twice
    from one seed gives the same weights wherever the batches come from one generator.
    """

    #: Maps features to logits.
    head: nn.Linear

    @property
    def feature_dim(self) -> int:
        """Number of penultimate features, d."""
        return self.head.in_features

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Return penultimate features.

        Args:
            x: (N, channels, H, W) float images in normalised space.

        Returns:
            (N, d) float.
        """

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (N, classes), of (N, channels, H, W) images in normalised space."""
        logits: Tensor = self.head(self.features(x))
        return logits


class FlatNet(Net):
    """Features are the flattened last map, so their number depends on the image size.

    Args:
        body: Maps (N, channels, H, W) to (N, C', h, w).
        feature_dim: C' x h x w.
        classes: Number of logits.
    """

    def __init__(self, body: nn.Module, feature_dim: int, classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(feature_dim, classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the flattened last map, (N, d)."""
        maps: Tensor = self.body(x)
        return maps.flatten(1)


class PooledNet(Net):
    """Features are the averages of the last map's channels, whatever the image size.

    Args:
        body: Maps (N, channels, H, W) to (N, d, h, w).
        head: Maps d features to logits.
    """

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def features(self, x: Tensor) -> Tensor:
        """Return the channels' averages over the last map, (N, d)."""
        maps: Tensor = self.body(x)
        return maps.mean((2, 3))
