"""What is asked of made images: each term by its formula, and what is not asked is not computed."""

import math

import pytest
import torch
from torch.nn import functional

from fedbench.data.normalisation import Normalisation
from fedbench.models.factory import build
from fedbench.models.inference import Inference
from fedbench.models.settings import Model
from fedbench.synthesis.data_free.terms import Seen, Terms, disagreement, one_hot, spread
from fedbench.synthesis.teachers import Teachers, batch_norm_gap

CLASSES = 4
EVEN = torch.full((2,), 0.5)
MODELS = (Model(name="resnet8", width=4), Model(name="convnet", width=4, depth=2, norm="batch"))


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def teachers(models=MODELS):
    nets = [
        build(model, channels=1, size=16, classes=CLASSES, seed=seed)
        for seed, model in enumerate(models)
    ]
    return Teachers(nets, Inference(Normalisation((0.5,), (0.5,)), torch.device("cpu")))


def seen(student=None, count=6):
    images = draw(count, 1, 16, 16).requires_grad_()
    return Seen(images, torch.arange(count) % CLASSES, student or (lambda: draw(count, CLASSES)))


def asked(batch=None, given=None, **terms):
    off = {"one_hot": 0.0, **terms}
    return Terms(**off).loss(given or teachers(), EVEN, batch or seen())


def test_de_1_gradients_reach_images_and_no_weight_of_a_teacher():
    given, batch = teachers(), seen()
    asked(batch, given, one_hot=1, batch_norm=1, adversarial=1, masked=False, entropy=1).backward()
    assert batch.images.grad.abs().sum() > 0
    assert all(weight.grad is None for net in given.nets for weight in net.parameters())


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("masked", [False, True])
def test_de_2_a_student_that_is_the_ensemble_leaves_no_disagreement(temperature, masked):
    given, batch = teachers(), seen()
    same = Seen(batch.images, batch.labels, lambda: given.logits(batch.images).mean(0))
    loss = asked(same, given, adversarial=1, masked=masked, temperature=temperature)
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_de_3_the_batch_norm_term_is_the_mean_of_the_teachers_gaps():
    given, batch = teachers(), seen()
    _, layers = given.inspect(batch.images)
    expected = sum(batch_norm_gap(own) for own in layers) / 2
    assert asked(batch, given, batch_norm=3).item() == pytest.approx(3 * expected.item(), rel=1e-5)


def test_de_3_it_is_0_where_batch_and_running_statistics_agree():
    given, batch = teachers(), seen()
    # Several times: what a layer is given depends on those before it.
    for _ in range(8):
        for net, layers in zip(given.nets, given.inspect(batch.images)[1], strict=True):
            norms = [part for part in net.modules() if isinstance(part, torch.nn.BatchNorm2d)]
            for norm, found in zip(norms, layers, strict=True):
                norm.running_mean, norm.running_var = found.mean.detach(), found.var.detach()
    assert asked(batch, given, batch_norm=1).item() == pytest.approx(0, abs=1e-4)


def test_the_cross_entropy_is_that_of_the_mixture_with_drawn_or_predicted_classes():
    given, batch = teachers(), seen()
    shares, logits = torch.tensor([3.0, 1.0]), given.logits(batch.images)
    mixed = (3 * logits[0] + logits[1]) / 4
    drawn = Terms().loss(given, shares, batch)
    assert drawn.item() == pytest.approx(functional.cross_entropy(mixed, batch.labels).item())
    predicted = Terms(drawn=False).loss(given, shares, batch)
    assert predicted.item() == pytest.approx(-mixed.log_softmax(1).amax(1).mean().item())


@pytest.mark.parametrize("hard", [0.0, 1.0, 2.5])
def test_hard_images_weigh_more_and_their_weights_have_no_gradient(hard):
    logits, labels = draw(5, CLASSES).requires_grad_(), torch.arange(5) % CLASSES
    p = logits.detach().softmax(1)[range(5), labels]
    expected = (1 - p) ** hard * functional.cross_entropy(logits, labels, reduction="none")
    loss = one_hot(logits, labels, hard)
    assert loss.item() == pytest.approx(expected.mean().item())
    wanted, found = (torch.autograd.grad(x, logits)[0] for x in (expected.mean(), loss))
    assert torch.allclose(wanted, found)


def test_disagreement_is_a_scaled_divergence_of_images_on_which_the_two_differ():
    teacher, student = draw(6, CLASSES), draw(6, CLASSES, seed=1)
    differ = teacher.argmax(1) != student.argmax(1)
    assert 0 < differ.sum() < 6

    def divergence(temperature):
        p, q = (x / temperature for x in (teacher, student))
        gaps = functional.kl_div(q.log_softmax(1), p.softmax(1), reduction="none").sum(1)
        return temperature**2 * gaps

    assert torch.allclose(disagreement(teacher, student, 3, masked=False), divergence(3).mean())
    assert torch.allclose(disagreement(teacher, student), (divergence(1) * differ).mean())
    asks_for_more = asked(seen(lambda: student), adversarial=2, masked=False)
    assert asks_for_more.item() < 0


def test_dafls_terms_ask_for_large_features_and_even_predictions():
    given, batch = teachers(), seen()
    _, features = given.describe(batch.images)
    size = sum(own.abs().mean() for own in features) / 2
    assert asked(batch, given, activation=0.1).item() == pytest.approx(-0.1 * size.item())
    even = torch.eye(CLASSES) * 1e4
    assert spread(even).item() == pytest.approx(math.log(CLASSES))
    assert spread(even[:1]).item() == 0
    mixed = given.logits(batch.images).mean(0)
    assert asked(batch, given, entropy=5).item() == pytest.approx(-5 * spread(mixed).item())


def test_what_counts_0_is_not_computed():
    def fail():
        raise AssertionError("the student was asked")

    plain = teachers((Model(name="convnet", width=4, depth=2),) * 2)  # no BatchNorm to hear
    assert asked(seen(fail), plain, one_hot=1).item() > 0
