import pytest
import torch
from torch import nn

from fedbench.evaluation.describe import describe
from fedbench.evaluation.predict import outputs
from fedbench.models.factory import build
from fedbench.models.net import Net
from fedbench.models.settings import Model

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.2, 0.3)
WHERE = {"mean": MEAN, "std": STD, "device": torch.device("cpu")}


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
    features, logits = describe(net, images, **WHERE)
    assert torch.equal(features, outputs(net, images, what="features", **WHERE))
    assert torch.equal(logits, outputs(net, images, **WHERE))
    assert features.shape == (150, net.feature_dim)
    assert not logits.requires_grad


def test_floats_are_taken_as_they_are():
    net, images = network(), pictures()
    scale = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    ready = (images / 255 - scale[0]) / scale[1]
    for one, other in zip(
        describe(net, ready, **WHERE), describe(net, images, **WHERE), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-5)
    one, other = (describe(net, given, **WHERE)[1] for given in (images / 255, images))
    assert not torch.allclose(one, other, atol=1e-2)


@pytest.mark.parametrize("name", ["resnet8", "convnet"])
def test_bfloat16_is_near_and_logits_come_from_its_features(name):
    net, images = network(name), pictures()
    features, logits = describe(net, images, autocast=True, **WHERE)
    assert (features.dtype, logits.dtype) == (torch.bfloat16, torch.float32)
    exact = describe(net, images, **WHERE)[0]
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

    features, logits = describe(Raw(), pictures(), autocast=True, **WHERE)
    assert (features.dtype, logits.dtype) == (torch.bfloat16, torch.float32)


def test_modes_are_put_back_even_after_an_error():
    net = network().train()
    net.head.eval()
    modes = [module.training for module in net.modules()]
    before = [buffer.clone() for buffer in net.buffers()]
    describe(net, pictures(), **WHERE)
    with pytest.raises(RuntimeError):
        describe(net, torch.zeros(4, 1, 16, 16), **WHERE)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(one, two) for one, two in zip(before, net.buffers(), strict=True))
