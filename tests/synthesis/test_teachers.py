"""Teachers: frozen, of any architecture, asked for logits and statistics; gradients to images."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from fedbench.data.normalisation import Normalisation
from fedbench.errors import ModelError
from fedbench.models.factory import build
from fedbench.models.inference import Inference
from fedbench.models.settings import Model
from fedbench.synthesis.teachers import UNSEEN, Layer, Teachers, batch_norm_gap, mixture

CLASSES = 5
HALF = Normalisation((0.5,), (0.5,))
EXACT, MIXED = (Inference(HALF, torch.device("cpu"), bf16=bf16) for bf16 in (False, True))
MODELS = (
    Model(name="resnet8", width=4),
    Model(name="convnet", width=4, depth=2, norm="batch"),
    Model(name="convnet", width=4, depth=2),
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(model, seed=0):
    net = build(model, channels=1, size=16, classes=CLASSES, seed=seed)
    norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():  # running statistics of some data, and not those of a new layer
        net.train()(draw(32, 1, 16, 16, seed=9) + 0.3)
    return net


def teachers(models=MODELS, inference=EXACT, **options):
    nets = [network(model, seed) for seed, model in enumerate(models)]
    return Teachers(nets, inference, **options)


def state(given):
    return [value.clone() for net in given.nets for value in net.state_dict().values()]


def test_de_5_logits_are_those_of_each_network_whatever_its_architecture():
    given, images = teachers(), draw(6, 1, 16, 16)
    found = given.logits(images)
    assert found.shape == (len(given), 6, CLASSES)
    for net, said in zip(given.nets, found, strict=True):
        assert torch.equal(net(images), said)


@pytest.mark.parametrize("inference", [EXACT, MIXED], ids=["fp32", "bf16"])
@pytest.mark.parametrize("how", ["logits", "inspect"])
def test_de_1_di_1_gradients_reach_images_and_nothing_of_a_teacher_changes(inference, how):
    given = teachers(inference=inference)
    before, images = state(given), draw(6, 1, 16, 16).requires_grad_()
    found = given.logits(images) if how == "logits" else given.inspect(images)[0]
    functional.cross_entropy(found.mean(0), torch.arange(6) % CLASSES).backward()
    assert images.grad.abs().sum() > 0
    for net in given.nets:
        assert all(weight.grad is None for weight in net.parameters())
        assert not any(module.training for module in net.modules())
    assert all(torch.equal(a, b) for a, b in zip(before, state(given), strict=True))


@pytest.mark.parametrize("inference", [EXACT, MIXED], ids=["fp32", "bf16"])
def test_logits_of_a_batch_are_those_of_a_table_inside_a_fit_too(inference):
    given = teachers(inference=inference)
    images = torch.randint(0, 256, (40, 1, 16, 16), dtype=torch.uint8)
    table = given.table(images)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=inference.bf16):
        assert torch.equal(given.logits(HALF(images)), table)
    assert table.dtype == torch.float32
    assert not torch.equal(table, table.bfloat16().float())  # the heads are in float32
    torch.testing.assert_close(given.average(images), table.mean(0))


def hooks(given):
    return sum(len(part._forward_pre_hooks) for net in given.nets for part in net.modules())


def test_statistics_are_those_of_batch_norm_and_its_hooks_are_removed():
    given, images = teachers(), draw(8, 1, 16, 16).requires_grad_()
    logits, layers = given.inspect(images)
    assert torch.equal(logits, given.logits(images))
    assert hooks(given) == 0
    for net, own in zip(given.nets, layers, strict=True):
        norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
        assert len(own) == len(norms)
        for layer, norm in zip(own, norms, strict=True):
            assert torch.equal(layer.running_mean, norm.running_mean)
            assert torch.equal(layer.running_var, norm.running_var)
            assert layer.mean.requires_grad
            assert layer.var.requires_grad
    net = given.nets[0].train()  # what train mode would learn of this batch
    norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
    inputs = []
    norms[0].register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    net(images.detach())
    assert torch.allclose(norms[0].running_mean, layers[0][0].mean, atol=1e-6)
    biased = inputs[0].var((0, 2, 3), correction=0)
    assert torch.allclose(layers[0][0].var, biased, atol=1e-6)
    assert not torch.allclose(layers[0][0].var, norms[0].running_var, atol=1e-9)  # unbiased there


def test_hooks_are_removed_when_a_network_refuses_the_images():
    given = teachers()
    with pytest.raises(RuntimeError):
        given.inspect(draw(4, 3, 16, 16))
    assert hooks(given) == 0


def test_de_3_di_2_the_gap_is_0_where_batch_and_running_statistics_agree():
    _, layers = teachers(MODELS[:1]).inspect(draw(8, 1, 16, 16))
    own = layers[0]
    assert batch_norm_gap(own) > 0
    same = [Layer(layer.mean, layer.var, layer.mean, layer.var) for layer in own]
    assert batch_norm_gap(same) == 0
    away = [Layer(torch.tensor([3.0, 4.0]), torch.ones(2), torch.zeros(2), torch.ones(2))]
    assert batch_norm_gap(away) == 5  # a length, not squared


def test_lm_8_a_network_without_batch_norm_has_no_gap():
    _, layers = teachers(MODELS[2:]).inspect(draw(4, 1, 16, 16))
    assert layers == ((),)
    with pytest.raises(ModelError, match="no BatchNorm"):
        batch_norm_gap(layers[0])


def test_a_gap_pulls_images_to_the_statistics():
    given, images = teachers(MODELS[:1]), (3 * draw(8, 1, 16, 16)).requires_grad_()
    optimizer, gaps = torch.optim.Adam([images], lr=0.1), []
    for _ in range(15):
        gap = batch_norm_gap(given.inspect(images)[1][0])
        optimizer.zero_grad()
        gap.backward()
        optimizer.step()
        gaps.append(gap.item())
    assert gaps[-1] < 0.7 * gaps[0]


def test_di_4_masked_heads_know_nothing_of_unseen_classes():
    seen = torch.tensor([[1, 1, 0, 0, 1], [0, 1, 1, 1, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)
    plain = teachers()
    masked, images = plain.masked(seen), draw(6, 1, 16, 16)
    logits, free = masked.logits(images), plain.logits(images)
    for k, own in enumerate(seen):
        assert torch.equal(logits[k][:, own], free[k][:, own])
        assert (logits[k].softmax(-1)[:, ~own] == 0).all()
        label = own.nonzero()[0].repeat(6)
        position = torch.zeros(6, dtype=torch.int64)
        loss = functional.cross_entropy(logits[k], label)
        assert torch.allclose(loss, functional.cross_entropy(free[k][:, own], position))
    raw = free.detach().requires_grad_()
    away = raw.masked_fill(~seen.unsqueeze(1), UNSEEN)
    functional.cross_entropy(away[0], torch.ones(6, dtype=torch.int64)).backward()
    assert (raw.grad[0][:, ~seen[0]] == 0).all()
    assert torch.isfinite(raw.grad).all()
    assert torch.equal(masked.subset([1]).logits(images)[0], logits[1])


def test_di_5_a_subset_is_the_same_networks():
    given = teachers()
    chosen = given.subset([2, 0])
    assert chosen.nets == (given.nets[2], given.nets[0])
    images = draw(4, 1, 16, 16)
    assert torch.equal(chosen.logits(images), given.logits(images)[[2, 0]])


def test_faults_are_named():
    with pytest.raises(ModelError, match="no teacher"):
        Teachers([], EXACT)
    with pytest.raises(ModelError, match="one row for each of 3 teachers"):
        teachers(seen=torch.ones(2, CLASSES, dtype=torch.bool))


weights = st.lists(st.floats(0, 10), min_size=3, max_size=3)


@settings(deadline=None)
@given(weights)
def test_a_mixture_is_the_weighted_mean(given):
    logits, shares = draw(3, 6, CLASSES), torch.tensor(given)
    found = mixture(logits, shares)
    whole = shares if shares.sum() > 0 else torch.ones(3)
    expected = torch.einsum("k,kbc->bc", whole.double() / whole.double().sum(), logits.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mixture(logits, shares.expand(6, 3)), found)


def test_weights_may_differ_from_image_to_image():
    logits, origin = draw(3, 6, CLASSES), torch.tensor([0, 2, 1, 1, 0, 2])
    found = mixture(logits, functional.one_hot(origin, 3).float())
    assert torch.equal(found, logits[origin, torch.arange(6)])


def test_weights_and_logits_get_gradients():
    logits, shares = draw(3, 6, CLASSES).double(), torch.ones(3).double()
    assert torch.autograd.gradcheck(mixture, (logits.requires_grad_(), shares.requires_grad_()))
    zero = torch.zeros(3, requires_grad=True)
    mixture(logits.float(), zero).sum().backward()
    assert torch.isfinite(zero.grad).all()


def test_of_a_class_those_count_that_have_seen_it():
    logits = draw(2, 6, 4)
    logits[0, :, 0] = logits[1, :, 1] = logits[0, :, 3] = logits[1, :, 3] = UNSEEN
    found = mixture(logits, torch.tensor([3.0, 1.0]))
    assert torch.allclose(found[:, 0], logits[1, :, 0])
    assert torch.allclose(found[:, 1], logits[0, :, 1])
    assert torch.allclose(found[:, 2], 0.75 * logits[0, :, 2] + 0.25 * logits[1, :, 2])
    assert (found[:, 3] == UNSEEN).all()
    alone = mixture(logits, torch.tensor([[1.0, 0.0]]).expand(6, 2))
    assert torch.equal(alone, logits[0])  # what another one has seen does not count


def test_features_and_logits_come_from_one_pass_with_gradients():
    given, images = teachers(), draw(6, 1, 16, 16).requires_grad_()
    logits, features = given.describe(images)
    assert torch.equal(logits, given.logits(images))
    for net, own in zip(given.nets, features, strict=True):
        assert torch.equal(own, net.features(images))
    (gradient,) = torch.autograd.grad(sum(own.sum() for own in features), images)
    assert gradient.abs().sum() > 0
