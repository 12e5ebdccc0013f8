"""ResNet-8, ResNet-20 and ResNet-18 for small images.

All have a 3x3 stem of stride 1, no max-pooling, blocks of two 3x3 convolutions with BatchNorm, and
1x1 convolutions with BatchNorm as shortcuts where the shape changes. ResNet-8 and -20 have three
stages (16, 32 and 64 channels), ResNet-18 four (64 to 512). The paper's CIFAR networks pad their
shortcuts with zeros instead; the federated codes that we compare with use the convolutions.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016,
https://arxiv.org/abs/1512.03385.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from fedbench.models.net import PooledNet


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, ReLU after the sum.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        stride: Of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride), rounded up."""
        out = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(out)) + self.shortcut(x))


def resnet8(*, channels: int, size: int, classes: int, width: int) -> PooledNet:
    """Return ResNet-8; ``size`` does not matter, ``width`` is the first stage's channels."""
    return _resnet(channels, classes, width, stages=3, blocks=1)


def resnet20(*, channels: int, size: int, classes: int, width: int) -> PooledNet:
    """Return ResNet-20; ``size`` does not matter, ``width`` is the first stage's channels."""
    return _resnet(channels, classes, width, stages=3, blocks=3)


def resnet18(*, channels: int, size: int, classes: int, width: int) -> PooledNet:
    """Return ResNet-18; ``size`` does not matter, ``width`` is the first stage's channels."""
    return _resnet(channels, classes, width, stages=4, blocks=2)


def _resnet(channels: int, classes: int, width: int, *, stages: int, blocks: int) -> PooledNet:
    """Return a ResNet whose stages double the width and, after the first, halve the map."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    inputs = width
    for stage in range(stages):
        outputs = width * 2**stage
        for block in range(blocks):
            layers.append(BasicBlock(inputs, outputs, stride=2 if stage and not block else 1))
            inputs = outputs
    return PooledNet(nn.Sequential(*layers), nn.Linear(inputs, classes))
