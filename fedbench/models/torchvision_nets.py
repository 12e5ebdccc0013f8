"""MobileNetV2, ShuffleNetV2 and VGG from torchvision's layers, for small images.

torchvision's networks are made for 224x224 pixels and would shrink 32x32 to one pixel half way.
Ours drop early strides, as is usual for CIFAR; MobileNetV2 and ShuffleNetV2 then have a total
stride of 8. None has dropout (see ``Net``), and each ends in global average pooling and one linear
layer. Weights start as torchvision starts them, never pretrained.

Sources: https://arxiv.org/abs/1801.04381 (MobileNetV2), https://arxiv.org/abs/1807.11164
(ShuffleNetV2), https://arxiv.org/abs/1409.1556 (VGG); torchvision,
https://pytorch.org/vision/stable/models.html.
"""

from __future__ import annotations

from torch import nn
from torchvision.models import MobileNetV2, ShuffleNetV2
from torchvision.models.vgg import cfgs, make_layers

from fedbench.models.net import PooledNet

_MOBILENET = [  # Sandler et al., table 2: expansion, channels, repeats, stride
    [1, 16, 1, 1],
    [6, 24, 2, 1],  # the paper has stride 2; 1 is usual for CIFAR
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
]


def mobilenet_v2(*, channels: int, size: int, classes: int) -> PooledNet:
    """Return MobileNetV2 with strides of 1 in the stem and the second stage.

    Args:
        channels: Of the images.
        size: Does not matter.
        classes: Number of logits.
    """
    whole = MobileNetV2(num_classes=classes, inverted_residual_setting=_MOBILENET)
    stem = nn.Conv2d(channels, 32, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out")
    whole.features[0][0] = stem
    return PooledNet(whole.features, whole.classifier[1])


def shufflenet_v2(*, channels: int, size: int, classes: int) -> PooledNet:
    """Return ShuffleNetV2 x1.0 with a stem of stride 1 and no max-pooling.

    Args:
        channels: Of the images.
        size: Does not matter.
        classes: Number of logits.
    """
    whole = ShuffleNetV2([4, 8, 4], [24, 116, 232, 464, 1024], num_classes=classes)  # table 5
    whole.conv1[0] = nn.Conv2d(channels, 24, 3, padding=1, bias=False)
    body = nn.Sequential(whole.conv1, whole.stage2, whole.stage3, whole.stage4, whole.conv5)
    return PooledNet(body, whole.fc)


def vgg11(*, channels: int, size: int, classes: int) -> PooledNet:
    """Return VGG-11 (configuration A); ``size`` does not matter."""
    return _vgg(cfgs["A"], channels, classes)


def vgg16(*, channels: int, size: int, classes: int) -> PooledNet:
    """Return VGG-16 (configuration D); ``size`` does not matter."""
    return _vgg(cfgs["D"], channels, classes)


def _vgg(plan: list[int | str], channels: int, classes: int) -> PooledNet:
    """Return a VGG with one linear layer in place of three: 512 features instead of 25,088."""
    body = make_layers(plan)
    body[0] = nn.Conv2d(channels, 64, 3, padding=1)
    for layer in body:
        if isinstance(layer, nn.MaxPool2d):
            # Rounding up gives 28x28 the five poolings that 32x32 has; 32x32 is not changed.
            layer.ceil_mode = True
        elif isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            assert layer.bias is not None  # torchvision's VGG has biases
            nn.init.zeros_(layer.bias)
    head = nn.Linear(512, classes)
    nn.init.normal_(head.weight, 0, 0.01)
    nn.init.zeros_(head.bias)
    return PooledNet(body, head)
