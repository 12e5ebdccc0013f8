"""Inversion: DI-1 to DI-6 and DI-8 to DI-10; groups, weights, similar classes, image sizes."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from fedbench.data.normalisation import Normalisation
from fedbench.errors import ModelError, TrainingError
from fedbench.models.factory import build
from fedbench.models.inference import Inference
from fedbench.models.settings import Model
from fedbench.synthesis.data_free.inversion import (
    PARAMETERS,
    Descent,
    Group,
    Inverter,
    Terms,
    divergence,
    jittered,
    label_loss,
    label_table,
    one_teacher,
    similar_scores,
    some_teachers,
    total_variation,
)
from fedbench.synthesis.teachers import Teachers, frozen

CLASSES = 5
INFERENCE = Inference(Normalisation((0.5,), (0.5,)), torch.device("cpu"))
RESNET = Model(name="resnet8", width=4)
PLAIN = Model(name="convnet", width=4, depth=2)
TERMS = Terms(1e-3, 1e-3, 10.0, 10.0)
SHORT = Descent(3, 0.1)


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=source(seed))


def network(seed=0, model=RESNET, size=16):
    return build(model, channels=1, size=size, classes=CLASSES, seed=seed)


def teachers(count=3, **options):
    return Teachers([network(seed) for seed in range(count)], INFERENCE, **options)


def batch(count=6, size=16):
    return draw(count, 1, size, size), torch.arange(count) % CLASSES


def state(given):
    return [value.clone() for net in given.nets for value in net.state_dict().values()]


@pytest.mark.parametrize("name", PARAMETERS)
def test_di_1_nothing_of_teachers_and_student_changes_and_only_images_have_gradients(name):
    terms, _ = PARAMETERS[name]
    given, net = teachers(2), network(9).train()
    images, labels = batch()
    before = state(given), [value.clone() for value in net.state_dict().values()]
    with frozen(net, INFERENCE) as student:
        inverter = Inverter(given, terms, SHORT)
        made = inverter.run(images, labels, one_teacher(0, 2, source()), source(), student=student)
        assert not any(weight.requires_grad for weight in net.parameters())
        assert not net.training
    after = state(given), list(net.state_dict().values())
    for old, new in zip(before, after, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(old, new, strict=True))
    nets = [*given.nets, net]
    assert all(weight.grad is None for each in nets for weight in each.parameters())
    assert net.training
    assert all(weight.requires_grad for weight in net.parameters())
    assert not any(layer._forward_pre_hooks for each in nets for layer in each.modules())
    assert not torch.equal(made, images)


def test_di_2_the_batch_norm_term_is_0_for_the_teachers_own_statistics_and_else_above():
    net, (images, labels) = network(), batch(32)
    for norm in (part for part in net.modules() if isinstance(part, torch.nn.BatchNorm2d)):
        norm.momentum = None  # the statistics of this one batch, layer by layer
        norm.reset_running_stats()
    net.eval()
    given = Teachers([net], INFERENCE)
    for _ in range(20):  # each pass settles at least one more layer
        with torch.no_grad():
            _, (layers,) = given.inspect(images)
            for layer in layers:
                layer.running_mean.copy_(layer.mean)
                layer.running_var.copy_(layer.var)
    only = Inverter(given, Terms(0.0, 0.0, 1.0), SHORT)
    none = Inverter(given, Terms(0.0, 0.0, 0.0), SHORT)
    group = Group((0,))
    gap = only.loss(images, labels, group) - none.loss(images, labels, group)
    assert gap.abs() < 1e-4
    other = draw(32, 1, 16, 16, seed=3) + 1
    assert only.loss(other, labels, group) > none.loss(other, labels, group) + 0.1


def test_di_3_equal_logits_do_not_diverge_and_the_divergence_lies_in_0_to_1():
    logits = draw(8, CLASSES) * 5
    assert divergence(logits, logits) == 0
    for scale in (0.1, 10.0, 1e4):
        found = divergence(scale * draw(8, CLASSES, seed=1), scale * draw(8, CLASSES, seed=2))
        assert 0 < found <= 1


def test_the_divergence_is_the_sum_of_nvlabs():
    one, other = draw(8, CLASSES, seed=1), draw(8, CLASSES, seed=2)
    p, q = (part.div(3).softmax(1) for part in (one, other))
    mean = (0.5 * (p + q)).clamp(0.01, 0.99)
    p, q = p.clamp(0.01, 0.99), q.clamp(0.01, 0.99)
    halves = [functional.kl_div(part.log(), mean, reduction="batchmean") for part in (p, q)]
    assert divergence(one, other) == pytest.approx(0.5 * sum(map(float, halves)), rel=1e-5)


@pytest.mark.parametrize("compete", [0.0, 10.0])
def test_di_4_masked_heads_take_no_gradient_and_no_notice_of_unseen_logits(compete):
    seen = torch.tensor([[True, True, True, False, False]])
    net, student = network(), network(8)
    given = Teachers([net], INFERENCE, seen)
    images, labels = draw(6, 1, 16, 16), torch.arange(6) % 3
    inverter = Inverter(given, Terms(0.0, 0.0, 0.0, compete), SHORT)
    net.head.bias.requires_grad_()
    with frozen(student, INFERENCE) as other:
        first = inverter.loss(images, labels, Group((0,)), other)
        (slope,) = torch.autograd.grad(first, net.head.bias)
        assert torch.equal(slope[3:], torch.zeros(2))
        assert (slope[:3] != 0).all()
        with torch.no_grad():
            net.head.bias[3:] += 50.0
            student.head.bias[3:] -= 7.0
        assert torch.equal(inverter.loss(images, labels, Group((0,)), other), first)


def test_a_masked_student_is_masked_beside_averaged_teachers_as_well():
    seen = torch.tensor([[True, True, False, False, False], [False, True, True, False, False]])
    given, student = Teachers([network(1), network(2)], INFERENCE, seen), network(8)
    images, labels = draw(6, 1, 16, 16), torch.arange(6) % 3
    descent = replace(SHORT, combine="logits")
    inverter = Inverter(given, Terms(0.0, 0.0, 0.0, 10.0), descent)
    with frozen(student, INFERENCE) as other, torch.no_grad():
        first = inverter.loss(images, labels, Group((0, 1)), other)
        student.head.bias[3:] -= 7.0
        assert torch.equal(inverter.loss(images, labels, Group((0, 1)), other), first)
        student.head.bias[:3] += torch.tensor([1.0, 0.0, -1.0])
        assert not torch.equal(inverter.loss(images, labels, Group((0, 1)), other), first)


def test_images_of_classes_that_a_masked_teacher_lacks_leave_its_cross_entropy():
    seen = torch.tensor([[True, True, False, False, False]])
    given, labels = teachers(1, seen=seen), torch.tensor([0, 1, 4, 3])
    inverter = Inverter(given, Terms(0.0, 0.0, 0.0), SHORT)
    images = draw(4, 1, 16, 16)
    expected = functional.cross_entropy(given.logits(images)[0, :2], labels[:2])
    assert inverter.loss(images, labels, Group((0,))) == pytest.approx(float(expected), rel=1e-5)
    assert inverter.loss(images, torch.tensor([4, 3, 2, 4]), Group((0,))) == 0


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("combine", ["losses", "logits"])
def test_di_5_equal_teachers_sampled_are_one_teacher(size, combine):
    net = network()
    same = Teachers([network() for _ in range(3)], INFERENCE)
    descent = Descent(3, 0.1, combine=combine)
    (images, labels), group = batch(), some_teachers(size, 3, source(), fixed=False)()
    with frozen(network(8), INFERENCE) as student:
        several = Inverter(same, TERMS, descent).loss(images, labels, group, student)
        alone = Inverter(Teachers([net], INFERENCE), TERMS, SHORT)
        assert several == pytest.approx(
            float(alone.loss(images, labels, Group((0,)), student)), rel=1e-5
        )


def test_di_6_equal_weights_are_none_and_absolute_ones_scale():
    logits, labels = draw(8, CLASSES), torch.arange(8) % CLASSES
    plain = functional.cross_entropy(logits, labels)
    weights = torch.full((8,), 0.2)
    assert label_loss(logits, labels, weights) == pytest.approx(float(plain), rel=1e-6)
    found = label_loss(logits, labels, weights, absolute=True)
    assert found == pytest.approx(0.2 * float(plain), rel=1e-6)
    assert label_loss(logits, labels, torch.zeros(8)) == 0
    assert label_loss(logits, labels, torch.zeros(8), absolute=True) == 0


def test_weights_are_shares_of_a_teachers_images():
    counts = torch.tensor([[6, 2, 0], [0, 4, 4]])
    table = label_table("normalised", counts, None)
    assert torch.equal(table, torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.5, 0.5]]))
    assert label_table("none", None, None) is None
    masked = label_table("absolute", counts, torch.tensor([[True, False, True], [True] * 3]))
    assert torch.equal(masked[0], torch.tensor([0.75, 0.0, 0.0]))


def test_weights_across_teachers_have_the_mean_1_for_each_image():
    counts = torch.tensor([[6, 2, 0, 0, 0], [0, 4, 4, 0, 0]])
    inverter = Inverter(teachers(2), TERMS, SHORT, weighting="across", counts=counts)
    weights = inverter._weights((0, 1), torch.tensor([0, 1, 2, 3]))
    assert torch.allclose(weights.mean(0), torch.tensor([1.0, 1.0, 1.0, 0.0]))
    assert torch.allclose(weights[:, 1], torch.tensor([2 / 3, 4 / 3]))


@pytest.mark.parametrize("fixed", [False, True])
def test_di_8_one_seed_makes_one_batch(fixed):
    given, (images, labels) = teachers(), batch()

    def make(seed):
        own = source(seed)
        group = some_teachers(2, 3, own, fixed=fixed)
        return Inverter(given, Terms(1e-3, 0.0, 10.0), SHORT).run(images, labels, group, own)

    assert torch.equal(make(1), make(1))
    assert not torch.equal(make(1), make(2))


def test_groups_cycle_sample_anew_or_stay():
    sampled = [some_teachers(2, 5, source(seed), fixed=False) for seed in range(20)]
    groups = [group() for group in sampled for _ in range(3)]
    assert {len(group.asked) for group in groups} == {2}
    assert all(not {*group.asked} & {*group.others} for group in groups)
    assert {k for group in groups for k in group.asked} == set(range(5))
    stays = some_teachers(2, 5, source(), fixed=True)
    assert stays() == stays()
    assert some_teachers(3, 1, source(), fixed=False)() == Group((0,))  # K = 1
    assert one_teacher(0, 1, source())() == Group((0,))
    assert one_teacher(1, 2, source())() == Group((1,), (0,))


def test_sampling_asks_the_drawn_teachers_and_no_other():
    given, asked = teachers(4), []
    for k, net in enumerate(given.nets):
        net.head.register_forward_pre_hook(lambda *_, k=k: asked.append(k))
    images, labels = batch()
    Inverter(given, Terms(0.0, 0.0, 10.0), SHORT).loss(images, labels, Group((2, 0), (1,)))
    assert asked == [2, 0]


def test_di_9_jitter_moves_pixels_and_changes_none():
    images = draw(4, 1, 16, 16)
    views = [jittered(images, 2, source(seed)) for seed in range(30)]
    for view in views:
        assert torch.equal(view.flatten(1).sort(1).values, images.flatten(1).sort(1).values)
    shifts = {(int(v), int(h)) for v in range(-2, 3) for h in range(-2, 3)}
    found = {
        shift
        for view in views
        for shift in shifts
        if torch.equal(view, torch.roll(images, shift, (2, 3)))
    }
    assert len(found) > 10
    assert jittered(images, 0, source()) is images


def test_di_10_a_constant_image_has_no_variation_and_a_batch_is_one_length():
    assert total_variation(torch.full((2, 3, 8, 8), 0.7)) == 0
    images = draw(1, 1, 8, 8)
    four = total_variation(images.repeat(4, 1, 1, 1))
    assert four == pytest.approx(2 * float(total_variation(images)), rel=1e-5)


def test_similar_classes_are_those_that_others_find_likeliest_in_a_class():
    labels = torch.tensor([0, 0, 1])
    said = torch.tensor([[[0.0, 5.0, 1.0], [0.0, 5.0, 1.0], [9.0, 0.0, 8.0]]])
    chances = said.softmax(-1)
    expected = (chances[0, 0, 1] + chances[0, 1, 1] + chances[0, 2, 0]) / 3
    assert similar_scores(said, labels, 1) == pytest.approx(float(expected), rel=1e-5)
    everything = similar_scores(said, labels, 7)
    own = (chances[0, 0, 0] + chances[0, 1, 0] + chances[0, 2, 1]) / 3
    assert everything == pytest.approx(float(1 - own), rel=1e-5)


def test_a_penalty_for_similar_classes_pushes_other_teachers_scores_down():
    given, (images, labels) = teachers(2), batch(10)

    def score(weight):
        terms, descent = Terms(0.0, 0.0, 0.0, similar=weight), Descent(15, 0.1)
        made = Inverter(given, terms, descent).run(
            images, labels, one_teacher(0, 2, source()), source()
        )
        return float(similar_scores(given.logits(made)[1:], labels, 1))

    assert score(20.0) < score(0.0)


@pytest.mark.parametrize("keep", ["last", "best", "best_view"])
def test_what_is_kept_of_a_descent(keep):
    given, (images, labels) = teachers(1), batch()
    inverter = Inverter(given, Terms(1e-3, 0.0, 10.0), Descent(6, 0.1, keep=keep))
    seen, inner = [], inverter.loss

    def spy(view, *rest):
        loss = inner(view, *rest)
        seen.append((float(loss.detach()), view.detach().clone()))
        return loss

    inverter.loss = spy
    made = inverter.run(images, labels, one_teacher(0, 1, source()), source())
    best = min(seen, key=lambda pair: pair[0])[1]
    same = torch.equal(made, best)
    rolled = torch.equal(made.flatten(1).sort(1).values, best.flatten(1).sort(1).values)
    assert (same, rolled) in {
        "last": [(False, False)],
        "best": [(True, True), (False, True)],
        "best_view": [(True, True)],
    }[keep]


def test_moments_persist_where_they_are_kept():
    given, (images, labels) = teachers(1), batch()
    inverter = Inverter(given, Terms(1e-3, 0.0, 10.0), SHORT)

    def make(moments):
        return inverter.run(images, labels, one_teacher(0, 1, source()), source(), moments=moments)

    moments = {}
    first = make(moments)
    assert float(moments["step"]) == 3
    second = make(moments)
    assert float(moments["step"]) == 6
    assert torch.equal(first, make(None))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("size", [16, 28, 32])
def test_images_of_any_size_are_made_and_their_loss_falls(size):
    given = Teachers([network(size=size)], INFERENCE)
    images, labels = batch(4, size)
    inverter = Inverter(given, Terms(1e-3, 0.0, 10.0), Descent(8, 0.1, schedule="cosine"))
    made = inverter.run(images, labels, one_teacher(0, 1, source()), source())
    group = Group((0,))
    assert inverter.loss(made, labels, group) < inverter.loss(images, labels, group)


def test_a_teacher_without_batch_norm_is_refused_unless_its_weight_is_0():
    given, (images, labels) = Teachers([network(model=PLAIN)], INFERENCE), batch()
    with pytest.raises(ModelError, match="no BatchNorm"):
        Inverter(given, TERMS, SHORT).loss(images, labels, Group((0,)))
    assert Inverter(given, Terms(0.0, 0.0, 0.0), SHORT).loss(images, labels, Group((0,))) > 0


@pytest.mark.parametrize("keep", ["last", "best", "best_view"])
def test_images_that_are_not_finite_are_refused(keep):
    given, (images, labels) = teachers(1), batch()
    inverter = Inverter(given, Terms(1e-3, 0.0, 10.0), replace(SHORT, keep=keep))
    with pytest.raises(TrainingError, match="inversion_lr"):
        inverter.run(images / 0, labels, one_teacher(0, 1, source()), source())


@pytest.mark.parametrize("keep", ["last", "best", "best_view"])
def test_teachers_that_say_nothing_are_refused_whatever_is_kept(keep):
    net, (images, labels) = network(), batch()
    with torch.no_grad():
        net.head.bias[0] = torch.nan
    inverter = Inverter(
        Teachers([net], INFERENCE), Terms(1e-3, 0.0, 10.0), replace(SHORT, keep=keep)
    )
    with pytest.raises(TrainingError, match="diverged"):
        inverter.run(images, labels, one_teacher(0, 1, source()), source())
