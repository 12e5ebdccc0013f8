"""Building: seeds, the global generators, sizes, and settings that reach the network."""

from __future__ import annotations

import copy
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbench.errors import ModelError, SettingsError
from fedbench.federation.artefacts import tensors_digest
from fedbench.federation.averaging import average
from fedbench.federation.message import Message
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

FORMATS = ("cpu", "cuda")


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
    filled = {"name": "convnet", "width": 128, "depth": 3, "norm": "instance"}
    assert Model().model_dump(exclude_none=True) == filled
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


def test_some_families_are_in_channels_last_on_a_cpu_with_the_same_values_and_nowhere_else():
    faster = {name for name in NAMES if MODELS.get(name).channels_last}
    assert "resnet8" in faster
    assert "convnet" not in faster
    for name in NAMES:
        shape = {"channels": 3, "size": 32, "classes": 10, "seed": 4}
        here, there = (build(Model(name=name), **shape, device=device) for device in FORMATS)
        for key, value in here.state_dict().items():
            assert torch.equal(value, there.state_dict()[key])
        kernels = [weight for weight in here.parameters() if weight.dim() == 4]
        layouts = {weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels}
        assert (layouts == {True}) == (name in faster)
        assert all(weight.is_contiguous() for weight in there.parameters())


def test_the_memory_format_outlasts_copies_and_loaded_states_and_reaches_the_maps():
    net = build(Model(name="resnet8"), channels=3, size=32, classes=10, seed=4)
    plain = {name: value.contiguous() for name, value in net.state_dict().items()}
    twin = copy.deepcopy(net)
    twin.load_state_dict(plain)
    maps = twin.body(torch.randn(2, 3, 32, 32))
    kernels = [weight for weight in twin.parameters() if weight.dim() == 4]
    for tensor in (maps, *kernels):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


def test_bytes_and_digests_do_not_depend_on_the_memory_format():
    state = build(Model(name="resnet8"), channels=3, size=32, classes=10, seed=4).state_dict()
    plain = {name: value.contiguous() for name, value in state.items()}
    assert any(value.stride() != plain[name].stride() for name, value in state.items())
    assert tensors_digest(state) == tensors_digest(plain)
    assert Message("model", state).serialise() == Message("model", plain).serialise()
    ones, others = average([(state, 1), (state, 3)]), average([(plain, 1), (plain, 3)])
    assert tensors_digest(ones) == tensors_digest(others)
