"""What every architecture promises: shapes, features, gradients, smallest images, BatchNorm."""

from __future__ import annotations

import contextlib

import pytest
import torch
from safetensors.torch import load, save
from torch import nn
from torch.nn import functional as F

from fedbench.models.factory import build
from fedbench.models.families import MODELS
from fedbench.models.net import FlatNet, Net, PooledNet
from fedbench.models.settings import Model

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


def test_no_family_is_left_out():
    built_in = {name for name in MODELS.names() if "fedbench.models." in MODELS.get(name).build}
    assert built_in == set(NAMES)


@pytest.mark.parametrize(
    "images", [(1, 28), (3, 32), (1, "smallest"), (3, "smallest"), (3, 33)], ids=str
)
@pytest.mark.parametrize("model", MODELS_HERE, ids=label)
def test_shapes_and_logits_are_head_of_features(model, images):
    channels, size = images
    size = MODELS.get(model.name).smallest(model) if size == "smallest" else size
    net, x = net_and_images(model, channels, size)
    net.eval()
    features, logits = net.features(x), net(x)
    assert features.shape == (2, net.feature_dim)
    assert logits.shape == (2, 7)
    assert logits.dtype == torch.float32
    assert type(net.head) is nn.Linear
    assert torch.equal(logits, net.head(features))
    # In training mode: the untrained statistics of a deep net's BatchNorm let its signal vanish.
    first, second = net.train().features(x)
    assert not torch.allclose(first, second), "features must depend on the image"


@pytest.mark.parametrize("model", MODELS_HERE, ids=label)
def test_gradient_reaches_all_parameters_and_the_images(model):
    net, x = net_and_images(model)
    x.requires_grad_()
    F.cross_entropy(net(x), torch.tensor([0, 3])).backward()
    still = [
        name
        for name, weight in net.named_parameters()
        if weight.grad is None or not weight.grad.isfinite().all()
    ]
    assert still == []
    # A bias in front of BatchNorm has no effect; every weight of more than one dimension has.
    idle = [
        name for name, weight in net.named_parameters() if weight.ndim > 1 and not weight.grad.any()
    ]
    assert idle == []
    assert x.grad.any()


@pytest.mark.parametrize("model", WITHOUT_BATCH_NORM, ids=label)
def test_without_batch_norm_an_image_does_not_see_its_batch(model):
    net, x = net_and_images(model, count=3)
    torch.testing.assert_close(net(x)[1:2], net(x[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [16, 28, 32, 64])
@pytest.mark.parametrize("model", MODELS_HERE, ids=label)
def test_batch_norm_is_declared_as_it_is(model, size):
    family = MODELS.get(model.name)
    if size < family.smallest(model):
        pytest.skip("smaller than it takes")
    net = build(model, channels=1, size=size, classes=3, seed=0)
    layers = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert family.has_batch_norm(model, size) is bool(layers)
    assert bool(list(net.buffers())) is bool(layers)


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


@pytest.mark.parametrize("model", MODELS_HERE, ids=label)
def test_state_goes_through_safetensors_without_shared_tensors(model):
    net, x = net_and_images(model)
    net(x)  # moves the statistics of BatchNorm away from where they start
    state = {name: value.contiguous() for name, value in net.state_dict().items()}
    places = [tensor.untyped_storage().data_ptr() for tensor in state.values()]
    assert len(set(places)) == len(places)
    other = build(model, channels=3, size=32, classes=7, seed=9)
    other.load_state_dict(load(save(state)))
    assert torch.equal(other.eval()(x), net.eval()(x))


@pytest.mark.parametrize("name", NAMES)
def test_training_mode_is_not_random(name):
    net, x = net_and_images(Model(name=name))
    assert torch.equal(net(x), net(x))


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
