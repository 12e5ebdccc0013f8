"""What every architecture promises: shapes, features, gradients, smallest images, BatchNorm."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from fedbench.models.factory import build
from fedbench.models.families import MODELS
from fedbench.models.net import FlatNet, Net, PooledNet
from fedbench.models.settings import Model
from fedbench.testing import ModelProperties

NAMES = (
    "convnet",
    "dense_cnn",
    "mobilenet_v2",
    "resnet18",
    "resnet20",
    "resnet8",
    "shufflenet_v2",
    "vgg11",
    "vgg16",
    "wrn16_4",
)
NORMS = [Model(name="convnet", width=8, norm=norm) for norm in ("batch", "group", "none")]
MODELS_HERE = [Model(name=name) for name in NAMES] + NORMS
WITHOUT_BATCH_NORM = [
    Model(name="convnet", width=8),
    Model(name="dense_cnn"),
    Model(name="vgg11"),
    Model(name="convnet", width=8, norm="group"),
]


def net_and_images(model, channels=3, size=32, count=2, classes=7):
    net = build(model, channels=channels, size=size, classes=classes, seed=1)
    generator = torch.Generator().manual_seed(2)
    return net, torch.randn(count, channels, size, size, generator=generator)


def label(model):
    return model.label


def _properties(model):
    """Return the test class of an architecture."""
    name = f"Test_{model.label.replace('-', '_')}"
    body = {
        "model": model.name,
        "settings": model.model_dump(exclude={"name"}, exclude_none=True),
        "__module__": __name__,
    }
    return type(name, (ModelProperties,), body)


globals().update({kind.__name__: kind for kind in map(_properties, MODELS_HERE)})


def test_no_family_is_left_out():
    built_in = {name for name in MODELS.names() if "fedbench.models." in MODELS.get(name).build}
    assert built_in == set(NAMES)


@pytest.mark.parametrize("model", WITHOUT_BATCH_NORM, ids=label)
def test_without_batch_norm_an_image_does_not_see_its_batch(model):
    net, x = net_and_images(model, count=3)
    torch.testing.assert_close(net(x)[1:2], net(x[1:2]), rtol=1e-4, atol=1e-5)


def smallest_map(net, size):
    """Return the height of the smallest map that a convolution gives, and whether all went well."""
    heights, fine = [], False
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda *call: heights.append(call[2].shape[-1]))
    with contextlib.suppress(ValueError, RuntimeError):
        net.features(torch.zeros(1, 3, size, size))
        fine = True
    return min(heights), fine


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(
    "model", [*MODELS_HERE, Model(name="convnet", width=4, depth=4)], ids=label
)
def test_smallest_image_is_the_least_that_keeps_maps_of_2x2(model, monkeypatch):
    size = MODELS.get(model.name).smallest(model)
    net = build(model, channels=3, size=size, classes=3, seed=0)
    height, fine = smallest_map(net.train(), size)
    assert height >= 2
    assert fine, "one image in training mode"
    monkeypatch.setattr("fedbench.models.factory.why_not", lambda *_: None)
    smaller = build(model, channels=3, size=size - 1, classes=3, seed=0)
    assert smallest_map(smaller, size - 1)[0] < 2


def test_convnet_pads_grey_images_to_larger_maps():
    """As DM, MTT and CollabDM: 28x28 with one channel gives the maps of 32x32, and 64 of 68."""
    for size, first in ((28, 32), (64, 68), (12, 16)):
        net, x = net_and_images(Model(name="convnet", width=4), 1, size)
        assert net.body[0](x).shape == (2, 4, first, first)
    net, x = net_and_images(Model(name="convnet", width=4), 3, 28)
    assert net.body[0](x).shape == (2, 4, 28, 28)


def test_convnet_instance_norm_is_one_group_a_channel():
    net, x = net_and_images(Model(name="convnet", width=8))
    maps = net.body[1](net.body[0](x))
    torch.testing.assert_close(maps.mean((2, 3)), torch.zeros(2, 8), atol=1e-5, rtol=0)
    torch.testing.assert_close(maps.var((2, 3), correction=0), torch.ones(2, 8), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("width", "groups"), [(8, 4), (6, 2), (5, 1)])
def test_convnet_group_norm_has_four_groups_where_they_fit(width, groups):
    net, _ = net_and_images(Model(name="convnet", width=width, norm="group"))
    assert net.body[1].num_groups == groups


def test_wide_dense_cnn_starts_at_a_hundred_classes():
    widths = {
        classes: net_and_images(Model(name="dense_cnn"), classes=classes)[0].body[0].out_channels
        for classes in (99, 100)
    }
    assert widths == {99: 128, 100: 256}


def test_wide_resnet_shortcut_starts_from_the_activated_input():
    net, _ = net_and_images(Model(name="wrn16_4"))
    block = net.body[1].eval()
    nn.init.zeros_(block.conv2.weight)
    nn.init.ones_(block.shortcut.weight)
    assert not block(-torch.ones(1, 16, 4, 4)).any(), "a negative input is cut by ReLU first"
    assert block(torch.ones(1, 16, 4, 4)).all()


def test_resnet_block_adds_its_input():
    net, _ = net_and_images(Model(name="resnet8"))
    block = net.body[3].eval()
    nn.init.zeros_(block.norm2.weight)
    x = torch.rand(1, 16, 4, 4)
    assert torch.equal(block(x), x)


def test_features_are_the_flattened_map_or_its_channels_averages():
    maps = torch.arange(16.0).view(1, 2, 2, 4)
    assert FlatNet(nn.Identity(), 16, 3).features(maps).tolist() == [list(range(16))]
    assert PooledNet(nn.Identity(), nn.Linear(2, 3)).features(maps).tolist() == [[3.5, 11.5]]


def test_net_is_abstract():
    with pytest.raises(TypeError, match="features"):
        Net()
