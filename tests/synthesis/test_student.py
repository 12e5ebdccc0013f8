"""A student: from teachers, from labels, from both; weights, schedules, resuming."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shared import File
from torch import nn
from torch.nn import functional
from toys import make_loader, make_net, same

from fedbench.data.stream import Columns, Stream
from fedbench.errors import SettingsError
from fedbench.synthesis.student import Student
from fedbench.training.classifier import Classifier
from fedbench.training.distillation import Distillation, distillation_loss
from fedbench.training.logits import LogitBound
from fedbench.training.pool import TrainerPool
from fedbench.training.recipe import Recipe


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rows(*columns, count=25, seed=0):
    """Batches of images and columns, in the order of ``make_loader`` without augmentation."""
    whole = make_loader(count, seed, "none")
    return Stream(
        Columns(whole.rows.images, *columns),
        batch_size=8,
        seed=seed,
        normalisation=whole.normalisation,
    )


def places(count=25, seed=0):
    """Batches of images and their positions."""
    return rows(torch.arange(count), count=count, seed=seed)


def make_student(after_step=None, bound=None, **recipe):
    table = draw(2, 25, 3, seed=5)
    return Student(
        make_net(),
        Recipe(**{"optimizer": "adam", "lr": 0.01, **recipe}),
        ("places",),
        epochs=11,
        teacher=lambda _, row: table[:, row["places"]],
        shares=torch.tensor([0.5, 0.5]),
        logit_bound=bound,
        after_step=after_step,
    )


def fit(module, steps=11, **options):
    TrainerPool("cpu", "32-true").fit(module, places(), steps=steps, **options)
    return module


def test_a_student_comes_nearer_to_its_teachers():
    module = make_student(lr=0.02)
    loader = places()
    table = draw(2, 25, 3, seed=5)

    def gap():
        images, order = (torch.cat(parts) for parts in zip(*loader, strict=True))
        with torch.no_grad():
            logits = module.net.eval()(images)
        return distillation_loss(logits, table[:, order], module.shares).item()

    before = gap()
    fit(module, 60)
    assert gap() < 0.7 * before
    assert not module.net.training


def test_fd_2_teachers_get_no_gradient_and_are_no_part_of_the_module():
    teacher = make_net().eval()
    kept = copy.deepcopy(teacher.state_dict())
    module = Student(
        make_net(),
        Recipe(optimizer="adam"),
        ("places",),
        epochs=5,
        teacher=lambda batch, _: teacher(batch)[None],
        class_weights=torch.ones(3),
    )
    fit(module, 5)
    assert all(weight.grad is None for weight in teacher.parameters())
    assert all(torch.equal(kept[name], value) for name, value in teacher.state_dict().items())
    assert set(module.state_dict()) == {f"net.{name}" for name in make_net().state_dict()}


def test_steps_are_adams_with_a_cosine_and_clipping():
    module = fit(make_student(schedule="cosine", clip_norm=0.1))
    net, table = make_net().train(), draw(2, 25, 3, seed=5)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 11)
    batches, loader, steps = [], places(), 11
    for epoch in range(4):
        loader.set_epoch(epoch)
        batches += list(loader)
    # Dropout is seeded by the pool; without it, both must agree.
    for part in (net, module_again := make_student(schedule="cosine", clip_norm=0.1)):
        for layer in part.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
    fit(module_again)
    for images, at in batches[:steps]:
        optimizer.zero_grad()
        target = table[:, at].mean(0).log_softmax(-1)
        guess = net(images).log_softmax(-1)
        functional.kl_div(guess, target, reduction="batchmean", log_target=True).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        optimizer.step()
        schedule.step()
    for mine, theirs in zip(module_again.net.parameters(), net.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)
    assert not same(module, module_again)


def test_the_bound_is_on_the_students_logits():
    loose, tight = (
        fit(make_student(bound=bound)) for bound in (LogitBound(1e6, "clip"), LogitBound(0.5))
    )
    assert same(loose, fit(make_student()))
    assert not same(tight, loose)


def test_listening_ends_a_fit_and_changes_nothing_before():
    heard = []

    def listen(step):
        heard.append(step)
        return step == 6

    stopped = fit(make_student(listen))
    assert heard == [1, 2, 3, 4, 5, 6]
    assert same(stopped, fit(make_student(), 6))


def test_a_killed_distillation_goes_on_with_the_same_bits(tmp_path):
    class Killed(BaseException):
        pass

    def kill(done, *_):
        if done == 2:
            raise Killed

    path = tmp_path / "fit.ckpt"
    with pytest.raises(Killed):
        fit(
            make_student(schedule="cosine"),
            checkpoint=File(path),
            checkpoint_every=0,
            on_epoch=kill,
        )
    assert path.exists()
    resumed = fit(make_student(schedule="cosine"), checkpoint=File(path))
    assert same(resumed, fit(make_student(schedule="cosine")))


def labels(count=25):
    return make_loader(count).rows.columns[0]


def by_labels(*columns, **options):
    names = ("labels", "weights")[: len(columns)]
    recipe = Recipe(lr=0.05, schedule="step", milestones=(0.5,), weight_decay=1e-3, clip_norm=1.0)
    module = Student(make_net(), recipe, names, epochs=4, steps_per_epoch=4, **options)
    TrainerPool("cpu", "32-true").fit(module, rows(*columns), epochs=4)
    return module


def test_from_labels_alone_it_is_a_classifier_bit_for_bit():
    student = by_labels(labels())
    recipe = student.recipe
    classifier = Classifier(make_net(), recipe, epochs=4, steps_per_epoch=4)
    TrainerPool("cpu", "32-true").fit(classifier, rows(labels()), epochs=4)
    assert same(student, classifier)


def loss_of(columns, batch, **options):
    """Return the loss of one batch, of a network in eval mode."""
    module = Student(make_net().eval(), Recipe(), columns, epochs=1, **options)
    return module.training_step(batch, 0).detach(), module.net(batch[0]).detach()


IMAGES = draw(6, 1, 8, 8, seed=3)
CLASSES = torch.tensor([0, 1, 2, 1, 0, 2])


@settings(deadline=None, max_examples=30)
@given(weights=st.lists(st.floats(0, 5), min_size=3, max_size=3))
def test_di_6_class_weights_are_those_of_torch(weights):
    given = torch.tensor(weights)
    found, logits = loss_of(("labels",), (IMAGES, CLASSES), class_weights=given)
    if given.sum() == 0:
        assert found == 0  # nothing to learn, and no 0/0
    else:
        torch.testing.assert_close(found, functional.cross_entropy(logits, CLASSES, weight=given))
    absolute, _ = loss_of(("labels",), (IMAGES, CLASSES), class_weights=given, absolute=True)
    each = functional.cross_entropy(logits, CLASSES, reduction="none")
    torch.testing.assert_close(absolute, (given[CLASSES] * each).mean())


def test_weights_of_images_and_classes_multiply():
    own, by_class = torch.tensor([1.0, 0, 2, 1, 0, 3]), torch.tensor([1.0, 4.0, 0.5])
    batch = (IMAGES, CLASSES, own)
    found, logits = loss_of(("labels", "weights"), batch, class_weights=by_class)
    each = functional.cross_entropy(logits, CLASSES, reduction="none")
    whole = own * by_class[CLASSES]
    torch.testing.assert_close(found, (whole * each).sum() / whole.sum())
    soft = functional.one_hot(CLASSES, 3).float()
    same_again, _ = loss_of(("labels", "weights"), (IMAGES, soft, own), class_weights=by_class)
    torch.testing.assert_close(same_again, found)


def test_soft_labels_are_learnt_from():
    soft = draw(6, 3, seed=4).softmax(1)
    found, logits = loss_of(("labels",), (IMAGES, soft))
    torch.testing.assert_close(found, -(soft * logits.log_softmax(1)).sum(1).mean())


def test_lm_6_both_losses_add_up_and_a_teacher_may_ask_for_the_origin():
    table, clients = draw(3, 6, 3, seed=5), torch.tensor([0, 2, 1, 1, 0, 2])

    def teacher(_, row):
        return table[row["clients"], torch.arange(6)][None]

    how = Distillation("avg_probs", 2.0, share=0.5)
    batch = (IMAGES, CLASSES, clients)
    both, logits = loss_of(("labels", "clients"), batch, teacher=teacher, distillation=how)
    own = table[clients, torch.arange(6)][None]
    taught = 0.5 * distillation_loss(logits, own, torch.ones(1), "avg_probs", 2.0)
    torch.testing.assert_close(both, functional.cross_entropy(logits, CLASSES) + taught)
    # A column of another name is not learnt from.
    alone, _ = loss_of(("targets", "clients"), batch, teacher=teacher, distillation=how)
    torch.testing.assert_close(alone, taught)


def test_without_shares_teachers_count_alike():
    table = draw(3, 6, 3, seed=5)
    found, logits = loss_of(("places",), (IMAGES, torch.arange(6)), teacher=lambda *_: table)
    torch.testing.assert_close(found, distillation_loss(logits, table, torch.full((3,), 1 / 3)))


def test_without_labels_and_teacher_there_is_nothing_to_learn():
    with pytest.raises(SettingsError, match="labels or a teacher"):
        Student(make_net(), Recipe(), ("places",), epochs=1)


def test_a_schedule_may_follow_the_passes_of_a_loader_that_grows():
    pool, rates = TrainerPool("cpu", "32-true"), []

    class Noted(Student):
        def training_step(self, batch, batch_idx):
            rates.append(self.optimizers().param_groups[0]["lr"])
            return super().training_step(batch, batch_idx)

    module = Noted(
        make_net(),
        Recipe(lr=0.1, schedule="cosine"),
        ("places",),
        epochs=4,
        steps_per_epoch=None,
        teacher=lambda _, row: draw(1, 25, 3, seed=5)[:, row["places"]],
    )
    for count in (8, 16, 24):
        pool.fit(module, places(count), epochs=1, keep_optimizer=True)
    factors = [1.0, (1 + 0.5**0.5) / 2, 0.5]
    expected = [0.1 * factors[place] for place in (0, 1, 1, 2, 2, 2)]
    assert rates == pytest.approx(expected)
