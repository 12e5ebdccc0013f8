"""How convolutions start: PyTorch's way, and those of the codes that we compare with."""

import pytest
import torch
from torch import nn

from fedbench.errors import SettingsError
from fedbench.models.factory import build
from fedbench.models.families import MODELS
from fedbench.models.settings import Model
from fedbench.settings import validate

TAKE = ("resnet18", "resnet20", "resnet8", "wrn16_4")


def net(seed=1, **model):
    return build(Model(**model), channels=3, size=32, classes=10, seed=seed)


def spread(network, inputs, outputs):
    """Return the standard deviation of the weights of all 3x3 convolutions of that shape."""
    found = [
        layer.weight.detach().flatten()
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d) and layer.weight.shape == (outputs, inputs, 3, 3)
    ]
    return float(torch.cat(found).std())


@pytest.mark.parametrize("name", ["resnet8", "resnet20"])
def test_resnets_start_as_in_feddf_and_the_single_image(name):
    """Normal with √(2/n), n outputs of an input: .0589 for 64 channels; PyTorch has .0241."""
    started = net(name=name, initialisation="kaiming_normal")
    assert spread(started, 64, 64) == pytest.approx((2 / 576) ** 0.5, rel=0.01)
    assert spread(started, 64, 64) == pytest.approx(0.059, abs=5e-4)
    assert spread(started, 32, 64) == pytest.approx((2 / 576) ** 0.5, rel=0.02)  # not inputs
    assert spread(net(name=name), 64, 64) == pytest.approx(0.0241, abs=3e-4)


def test_wrn_starts_as_in_the_single_image():
    """Uniform with √(2/n), n inputs of an output: .0295 for 256 channels; PyTorch has .0120."""
    started = net(name="wrn16_4", initialisation="kaiming_uniform")
    assert spread(started, 256, 256) == pytest.approx(0.0295, abs=1e-4)
    assert spread(started, 128, 256) == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.01)
    assert spread(net(name="wrn16_4"), 256, 256) == pytest.approx(0.0120, abs=1e-4)
    bound = (6 / (256 * 9)) ** 0.5
    values = [
        layer.weight.detach()
        for layer in started.modules()
        if isinstance(layer, nn.Conv2d) and layer.in_channels == 256
    ]
    assert all(bound * 0.99 < float(value.abs().max()) <= bound for value in values)


def test_only_convolutions_start_otherwise():
    plain, started = net(name="resnet8"), net(name="resnet8", initialisation="kaiming_normal")
    same = {
        name
        for name, value in plain.state_dict().items()
        if torch.equal(value, started.state_dict()[name])
    }
    assert {name for name in plain.state_dict() if "norm" in name or "head" in name} <= same
    assert not {name for name in same if "conv" in name}


def test_the_seed_decides_it_and_pytorchs_start_is_as_before():
    one, other = (net(name="resnet8", initialisation="kaiming_normal") for _ in range(2))
    assert all(
        torch.equal(*both) for both in zip(one.parameters(), other.parameters(), strict=True)
    )
    third = net(seed=2, name="resnet8", initialisation="kaiming_normal")
    assert not torch.equal(next(one.parameters()), next(third.parameters()))


def test_families_whose_source_has_another_start_refuse_it_with_those_that_take_it():
    assert tuple(name for name in MODELS.names() if MODELS.get(name).initialisation) == TAKE
    with pytest.raises(SettingsError, match=r"'convnet' takes no `initialisation`.*resnet18, "):
        validate(Model, {"name": "convnet", "initialisation": "kaiming_normal"})


def test_labels_tell_the_start():
    assert Model(name="resnet8").label == "resnet8"
    label = Model(name="resnet8", width=8, initialisation="kaiming_normal").label
    assert label == "resnet8-w8-kaiming_normal"
