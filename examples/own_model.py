"""Your own model family: a perceptron with one hidden layer.

fedbench run --plugin examples/own_model.py --dataset digits --method fedavg --model perceptron
"""

from __future__ import annotations

from torch import Tensor, nn

from fedbench.models.families import Family
from fedbench.models.net import Net


class Perceptron(Net):
    """Pixels, one hidden layer, logits.

    Args:
        channels: Of the images.
        size: Their height and width in pixels.
        classes: Number of logits.
        width: Hidden units.
    """

    def __init__(self, *, channels: int, size: int, classes: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels * size**2, width)
        self.head = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the hidden units, (N, width)."""
        hidden: Tensor = self.hidden(x.flatten(1))
        return hidden.relu()


PERCEPTRON = Family(
    name="perceptron",
    title="one hidden layer on all pixels",
    build=Perceptron,
    options={"width": 64},
    min_size=1,
    batch_norm=False,
    source="an example",
)
