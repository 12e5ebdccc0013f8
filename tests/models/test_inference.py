import pytest
import torch
from torch import nn

from fedbench.data.normalisation import Normalisation
from fedbench.models.factory import build
from fedbench.models.inference import (
    Inference,
    ask,
    batch_norm_inputs,
    features,
    moments,
    unhooked,
)
from fedbench.models.net import Net
from fedbench.models.settings import Model

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.2, 0.3)
EXACT, MIXED = (
    Inference(Normalisation(MEAN, STD), torch.device("cpu"), bf16=bf16) for bf16 in (False, True)
)


def network(name="resnet8"):
    net = build(Model(name=name, width=8), channels=3, size=16, classes=5, seed=0)
    with torch.no_grad():  # statistics of BatchNorm, without which it would do nothing
        net.train()(pictures() / 128 - 1)
    return net


def pictures(count=150):
    source = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=source)


@pytest.mark.parametrize("name", ["resnet8", "convnet"])
def test_one_pass_gives_what_two_passes_give(name):
    net, images = network(name), pictures()
    features, logits = EXACT.both(net, images)
    assert torch.equal(features, EXACT.features(net, images))
    assert torch.equal(logits, EXACT.logits(net, images))
    assert features.shape == (150, net.feature_dim)
    assert not logits.requires_grad


def test_floats_are_taken_as_they_are():
    net, images = network(), pictures()
    scale = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    ready = (images / 255 - scale[0]) / scale[1]
    for one, other in zip(EXACT.both(net, ready), EXACT.both(net, images), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    one, other = (EXACT.both(net, given)[1] for given in (images / 255, images))
    assert not torch.allclose(one, other, atol=1e-2)


@pytest.mark.parametrize("name", ["resnet8", "convnet"])
def test_bfloat16_is_near_and_logits_come_from_its_features(name):
    net, images = network(name), pictures()
    features, logits = MIXED.both(net, images)
    assert (features.dtype, logits.dtype) == (torch.bfloat16, torch.float32)
    exact = EXACT.both(net, images)[0]
    assert (features - exact).norm() < 0.03 * exact.norm()
    assert not torch.equal(features, exact.bfloat16())  # computed in bfloat16, not only kept so
    with torch.no_grad():
        assert torch.allclose(logits, net.head(features.float()), atol=1e-5)
    assert not torch.equal(logits, logits.bfloat16().float())


def test_features_that_autocast_left_in_float32_are_kept_in_bfloat16():
    class Raw(Net):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3 * 16 * 16, 5)

        def features(self, x):
            return x.flatten(1)

    features, logits = MIXED.both(Raw(), pictures())
    assert (features.dtype, logits.dtype) == (torch.bfloat16, torch.float32)


def test_modes_are_put_back_even_after_an_error():
    net = network().train()
    net.head.eval()
    modes = [module.training for module in net.modules()]
    before = [buffer.clone() for buffer in net.buffers()]
    EXACT.both(net, pictures())
    with pytest.raises(RuntimeError):
        EXACT.both(net, torch.zeros(4, 1, 16, 16))
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(one, two) for one, two in zip(before, net.buffers(), strict=True))


@pytest.mark.parametrize("name", ["resnet8", "convnet"])
def test_logits_in_bfloat16_are_those_of_both_and_of_one_batch(name):
    net, images = network(name).eval(), pictures(40)
    logits = MIXED.logits(net, images)
    assert torch.equal(logits, MIXED.both(net, images)[1])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):  # as inside a fit
        found, said = ask(net, EXACT.normalise(images), bf16=True)
        assert torch.equal(found, features(net, EXACT.normalise(images), bf16=True))
    assert torch.equal(said, logits)
    assert torch.equal(found, MIXED.features(net, images))


def test_float32_is_kept_inside_autocast():
    net, images = network(), pictures()
    expected = EXACT.logits(net, images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(EXACT.logits(net, images), expected)


def test_a_module_without_a_head_computes_in_float32():
    net = network()
    wrapped = nn.Sequential(net)
    assert torch.equal(MIXED.logits(wrapped, pictures()), EXACT.logits(net, pictures()))


def test_statistics_of_a_pass_are_those_of_all_images_at_once():
    net, images = network().eval(), pictures()  # more than one batch
    found = EXACT.statistics(net, images)
    with torch.no_grad(), batch_norm_inputs(net) as heard:
        net(EXACT.normalise(images))
    layers = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [layer for layer, _ in heard] == layers
    assert len(found) == len(layers)
    for (mean, var), (_, given) in zip(found, heard, strict=True):
        assert torch.allclose(mean, given.mean((0, 2, 3)), atol=1e-5)
        assert torch.allclose(var, given.var((0, 2, 3), correction=0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(moments(given), (mean, var), rtol=1e-4, atol=1e-5)
    assert EXACT.statistics(network("convnet"), images) == ()


def test_a_statistic_is_what_batch_norm_would_learn_of_one_batch():
    net, images = network(), EXACT.normalise(pictures(32))
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    net.train()
    with torch.no_grad(), batch_norm_inputs(net) as heard:
        net(images)
    for layer, given in heard:
        assert torch.allclose(layer.running_mean, moments(given).mean, atol=1e-5)


def hooks(net):
    return sum(len(module._forward_pre_hooks) for module in net.modules())


def test_hooks_are_gone_after_a_pass_and_after_an_error():
    net = network()
    EXACT.statistics(net, pictures(4))
    with batch_norm_inputs(net):
        assert hooks(net) > 0
    with pytest.raises(RuntimeError), batch_norm_inputs(net):
        net(torch.zeros(4, 1, 16, 16))
    assert hooks(net) == 0


def test_a_copy_has_no_hooks_and_the_owner_keeps_his():
    net, heard = network(), []
    net.register_forward_hook(lambda *_: heard.append(1))
    shown = unhooked(net)
    assert torch.equal(EXACT.logits(shown, pictures()), EXACT.logits(shown, pictures()))
    assert heard == []
    EXACT.logits(net, pictures(2))
    assert heard == [1]


@pytest.mark.parametrize("shape", [(4, 3, 5, 5), (6, 2), (2, 3, 4)])
def test_moments_and_their_gradients_are_those_of_torch(shape):
    given = (torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 3).double()
    over = [axis for axis in range(given.ndim) if axis != 1]
    images = [given.float().requires_grad_(), given.clone().requires_grad_()]
    found = moments(images[0])
    expected = torch.var_mean(images[1], over, correction=0)
    weights = torch.arange(1.0, shape[1] + 1)
    for (var, mean), each in ((found[::-1], images[0]), (expected, images[1])):
        ((weights * mean).sum() + (weights * var).sum()).backward()
        assert each.grad is not None
    torch.testing.assert_close(found.mean.double(), expected[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.var.double(), expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(images[0].grad.double(), images[1].grad, rtol=1e-5, atol=1e-6)
