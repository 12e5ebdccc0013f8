"""METHODS, section 0, table "Shared networks": parameters, features, buffers."""

from __future__ import annotations

import pytest

from fedbench.models.factory import build, parameter_count
from fedbench.models.settings import Model

TABLE = [
    ("convnet", (3, 32, 10), 320_010, 2048),
    ("convnet", (1, 28, 10), 317_706, 2048),
    ("convnet", (3, 32, 100), 504_420, 2048),
    ("convnet", (1, 64, 5), 338_181, 8192),
    ("resnet8", (3, 32, 10), 78_042, 64),
    ("resnet20", (3, 32, 10), 272_474, 64),
    ("wrn16_4", (3, 32, 10), 2_748_890, 256),
    ("resnet18", (3, 32, 10), 11_173_962, 512),
    ("dense_cnn", (3, 32, 10), 319_242, 2048),
    ("dense_cnn", (1, 28, 10), 29_034, 1568),
    ("dense_cnn", (3, 32, 100), 1_097_188, 2048),
]

# Not in METHODS: torchvision's own counts with the stem and the head changed, worked out by hand.
OURS = [
    ("mobilenet_v2", (3, 32, 10), 3_504_872 - 1281 * 1000 + 1281 * 10, 1280),
    ("shufflenet_v2", (3, 32, 10), 2_278_604 - 1025 * 1000 + 1025 * 10, 1024),
    ("vgg11", (3, 32, 10), 9_220_480 + 513 * 10, 512),
    ("vgg16", (3, 32, 10), 14_714_688 + 513 * 10, 512),
]


@pytest.mark.parametrize(("name", "images", "parameters", "features"), TABLE + OURS)
def test_counts_equal_the_table(name, images, parameters, features):
    channels, size, classes = images
    net = build(Model(name=name), channels=channels, size=size, classes=classes, seed=0)
    assert parameter_count(net) == parameters
    assert net.feature_dim == features


@pytest.mark.parametrize(
    ("name", "images", "values"),
    [
        ("dense_cnn", (1, 28), 98),  # METHODS
        ("dense_cnn", (3, 32), 0),
        ("convnet", (3, 32), 0),
        ("resnet8", (3, 32), 2 * (16 + 2 * 16 + 3 * 32 + 3 * 64) + 9),
    ],
)
def test_buffer_values(name, images, values):
    channels, size = images
    net = build(Model(name=name), channels=channels, size=size, classes=10, seed=0)
    assert sum(buffer.numel() for buffer in net.buffers()) == values


@pytest.mark.parametrize(
    ("name", "width", "features"),
    [("resnet8", 8, 32), ("resnet20", 8, 32), ("resnet18", 16, 128), ("convnet", 32, 512)],
)
def test_width_scales_the_features(name, width, features):
    narrow = build(Model(name=name, width=width), channels=3, size=32, classes=10, seed=0)
    assert narrow.feature_dim == features


@pytest.mark.parametrize(
    ("depth", "norm", "parameters"),
    [
        (1, "none", (27 * 8 + 8) + (8 * 16 * 16 * 10 + 10)),
        (2, "none", (27 * 8 + 8) + (72 * 8 + 8) + (8 * 8 * 8 * 10 + 10)),
        (2, "batch", (27 * 8 + 8) + (72 * 8 + 8) + 2 * 16 + (8 * 8 * 8 * 10 + 10)),
        (2, "group", (27 * 8 + 8) + (72 * 8 + 8) + 2 * 16 + (8 * 8 * 8 * 10 + 10)),
    ],
)
def test_convnet_depth_and_norm(depth, norm, parameters):
    model = Model(name="convnet", width=8, depth=depth, norm=norm)
    assert parameter_count(build(model, channels=3, size=32, classes=10, seed=0)) == parameters
