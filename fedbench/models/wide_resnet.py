"""WRN-16-4: a wide residual network for small images.

It differs from `resnet` by pre-activation: BatchNorm and ReLU come before each convolution, a
shortcut that changes the shape starts from the activated input, and a last BatchNorm and ReLU
stand before the average. No dropout.

Source: Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016,
https://arxiv.org/abs/1605.07146.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from fedbench.models.net import PooledNet


class PreActivationBlock(nn.Module):
    """Twice BatchNorm, ReLU and a 3x3 convolution, and a shortcut.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        stride: Of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride), rounded up."""
        active = F.relu(self.norm1(x))
        kept: Tensor = x if self.shortcut is None else self.shortcut(active)
        out: Tensor = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return out + kept


def wrn16_4(*, channels: int, size: int, classes: int) -> PooledNet:
    """Return WRN-16-4 with PyTorch's default initialisation; ``size`` does not matter."""
    layers: list[nn.Module] = [nn.Conv2d(channels, 16, 3, padding=1, bias=False)]
    inputs = 16
    for stage, outputs in enumerate((64, 128, 256)):  # widening factor 4
        for block in range(2):  # depth 16 = 6 x 2 + 4
            stride = 2 if stage and not block else 1
            layers.append(PreActivationBlock(inputs, outputs, stride))
            inputs = outputs
    layers += [nn.BatchNorm2d(inputs), nn.ReLU()]
    return PooledNet(nn.Sequential(*layers), nn.Linear(inputs, classes))
