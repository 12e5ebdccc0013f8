"""Building: seeds, the global generators, sizes, and settings that reach the network."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbench.errors import ModelError, SettingsError
from fedbench.models.factory import build
from fedbench.models.families import MODELS, Family
from fedbench.models.settings import Model, why_not

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


def weights(model, seed, size=32):
    net = build(model, channels=3, size=size, classes=10, seed=seed)
    return net.state_dict()


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_same_weights_and_leaves_the_global_generators(name):
    torch.manual_seed(5)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    one = weights(Model(name=name), 11)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all()
    torch.manual_seed(6)
    again, other = weights(Model(name=name), 11), weights(Model(name=name), 12)
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_two_builds_share_no_memory():
    one, two = weights(Model(), 3), weights(Model(), 3)
    one["head.weight"].zero_()
    assert two["head.weight"].any()


@pytest.mark.parametrize("name", NAMES)
def test_too_small_images_are_refused_with_value_bound_and_fix(name):
    model = Model(name=name)
    smallest = MODELS.get(name).smallest(model)
    with pytest.raises(
        ModelError,
        match=f"{name!r}.*{smallest}x{smallest}.*"
        f"{smallest - 1}x{smallest - 1}; set data.image_size to "
        f"{smallest} or more",
    ):
        build(model, channels=3, size=smallest - 1, classes=10, seed=0)


@given(depth=st.integers(1, 6), size=st.integers(8, 64))
@settings(max_examples=30, deadline=None)
def test_why_not_says_what_build_does(depth, size):
    model = Model(name="convnet", width=2, depth=depth)
    reason = why_not(model, size)
    if reason is None:
        net = build(model, channels=1, size=size, classes=2, seed=0)
        assert net(torch.zeros(2, 1, size, size)).shape == (2, 2)
    else:
        assert "lower the model's depth" in reason
        with pytest.raises(ModelError, match=f"at least {2**depth}x{2**depth} pixels"):
            build(model, channels=1, size=size, classes=2, seed=0)


def test_a_family_of_fixed_depth_does_not_advise_a_lower_one():
    assert "depth" not in str(why_not(Model(name="vgg11"), 16))


def test_settings_fill_in_and_reach_the_network():
    assert Model().model_dump() == {"name": "convnet", "width": 128, "depth": 3, "norm": "instance"}
    net = build(Model(width=12), channels=3, size=32, classes=10, seed=0)
    assert net.feature_dim == 12 * 16


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [("vgg11", "width", 32), ("dense_cnn", "depth", 2), ("resnet8", "norm", "group")],
)
def test_an_option_that_a_family_does_not_take_is_refused(name, option, value):
    with pytest.raises((SettingsError, ValueError), match=f"takes no '{option}'"):
        Model.model_validate({"name": name, option: value})


@pytest.mark.parametrize("name", NAMES)
def test_families_are_complete(name):
    family = MODELS.get(name)
    assert isinstance(family, Family)
    assert family.name == name
    assert "https://" in family.source
    assert family.version >= 1


def test_a_third_party_family_is_built_from_its_own_module(monkeypatch):
    family = Family(
        name="mine",
        title="",
        build="fedbench.models.resnet:resnet8",
        min_size=5,
        batch_norm=True,
        source="",
        options={"width": 4},
    )
    monkeypatch.setitem(MODELS._loaded, "mine", family)
    assert build(Model(name="mine"), channels=1, size=8, classes=2, seed=0).feature_dim == 16


def test_families_and_settings_import_no_torch():
    code = (
        "import sys; from fedbench.models.settings import Model, why_not; "
        "assert why_not(Model(), 7); Model(name='vgg16'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
