from __future__ import annotations

import gc
import logging
import math
import resource
import sys
import warnings
import weakref
from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning import Callback, LightningModule
from shared import File
from torch import nn
from toys import Adversary, make_classifier, make_loader, make_net, same

from fedbench.errors import SettingsError, TrainingError
from fedbench.training.classifier import Classifier
from fedbench.training.pool import TrainerPool

MAKERS = {
    "constant": make_classifier,
    "cosine": lambda: make_classifier(schedule="cosine", clip_norm=0.5, proximal=0.1),
    "step with adam": lambda: make_classifier(optimizer="adam", schedule="step"),
    "manual": Adversary,
}


class Broken(Classifier):
    """Fails in its fourth step."""

    def training_step(self, batch, batch_idx):
        if self.global_step == 3:
            raise ZeroDivisionError
        return super().training_step(batch, batch_idx)


def broken():
    made = make_classifier(schedule="cosine")
    return Broken(made.net, made.recipe, steps_per_epoch=3)


def fit(module, pool=None, **length):
    pool = pool or TrainerPool("cpu", "32-true")
    pool.fit(module, make_loader(), **(length or {"epochs": 4}))
    return module


@pytest.fixture
def pool():
    return TrainerPool("cpu", "32-true")


@pytest.mark.parametrize("length", [{"epochs": 4}, {"steps": 7}], ids=str)
@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_reused_trainer_equals_a_new_one(kind, precision, length):
    used = TrainerPool("cpu", precision)
    fit(make_classifier(schedule="step"), used, steps=5)
    fit(Adversary(), used, epochs=2)
    with pytest.raises(ZeroDivisionError):
        fit(broken(), used)
    fit(make_classifier(schedule="cosine"), used, steps=2)
    new = fit(MAKERS[kind](), TrainerPool("cpu", precision), **length)
    reused = fit(MAKERS[kind](), used, **length)
    assert same(new, reused)
    assert not same(new, MAKERS[kind]())


def test_the_pool_reuses_one_trainer_and_drops_a_broken_one(pool):
    lent = []

    class Spy(Classifier):
        def on_fit_start(self):
            super().on_fit_start()
            lent.append(id(self.trainer))

    def spy():
        return Spy(make_net(), make_classifier().recipe, steps_per_epoch=3)

    fit(spy(), pool)
    keep_alive = list(pool._free)
    fit(spy(), pool)
    assert lent[0] == lent[1]
    with pytest.raises(ZeroDivisionError):
        fit(broken(), pool)
    fit(spy(), pool)
    assert lent[2] != id(keep_alive[0])


@pytest.mark.parametrize("base", [Classifier, Adversary])
def test_a_reused_trainer_counts_from_zero(base, pool):
    counters = []

    class Counted(base):
        def on_train_end(self):
            loop = self.trainer.fit_loop
            counters.append((deepcopy(loop.state_dict()), loop.epoch_loop._batches_that_stepped))

    def counted():
        recipe = make_classifier(schedule="cosine").recipe
        return Counted() if base is Adversary else Counted(make_net(), recipe, steps_per_epoch=3)

    fit(counted())
    fit(Adversary(), pool, steps=5)
    fit(make_classifier(schedule="step"), pool, steps=4)
    fit(counted(), pool)
    assert counters[0] == counters[1]
    assert "epoch_loop.scheduler_progress" in counters[0][0]


def test_precision_changes_the_bits():
    assert not same(
        fit(make_classifier()), fit(make_classifier(), TrainerPool("cpu", "bf16-mixed"))
    )


def test_bl_2_no_epochs_leave_the_module_as_it_is(pool):
    module = fit(make_classifier(), pool, epochs=0)
    fit(module, pool, steps=0)
    assert same(module, make_classifier())
    assert module.training


@pytest.mark.parametrize("kind", MAKERS)
def test_keeping_the_optimizer_makes_four_fits_one(kind, pool):
    kept, lost, whole = MAKERS[kind](), MAKERS[kind](), fit(MAKERS[kind]())
    loader, other = make_loader(), make_loader()
    for epoch in range(4):
        pool.fit(kept, loader, epochs=1, keep_optimizer=True)
        fit(make_classifier(), pool, epochs=1)
        other.set_epoch(epoch)
        pool.fit(lost, other, epochs=1)
    assert same(kept, whole)
    assert not same(lost, whole)


def test_keeping_the_optimizer_counts_steps_on(pool):
    module, calls = make_classifier(), []
    pool.fit(module, make_loader(), steps=4, keep_optimizer=True)
    pool.fit(
        module,
        make_loader(),
        steps=4,
        keep_optimizer=True,
        on_epoch=lambda *call: calls.append(call),
    )
    assert [call[:2] for call in calls] == [(1, 2), (2, 2)]


@pytest.mark.parametrize(("length", "batches"), [({"epochs": 2}, 6), ({"steps": 7}, 7)], ids=str)
@pytest.mark.parametrize("base", [Classifier, Adversary])
def test_number_of_batches(base, length, batches, pool):
    seen = []

    class Counting(base):
        def on_train_batch_start(self, batch, batch_idx):
            seen.append(len(batch[1]))

    made = make_classifier()
    module = Counting() if base is Adversary else Counting(made.net, made.recipe, steps_per_epoch=3)
    fit(module, pool, **length)
    assert seen == ([8, 8, 9] * 3)[:batches]


def test_progress_reports_epochs_and_mean_loss(pool):
    calls, losses = [], []

    class Logging(Classifier):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            losses.append(loss.item())
            self.log("loss", loss)
            return loss

    module = Logging(make_net(), make_classifier().recipe, steps_per_epoch=3)
    pool.fit(module, make_loader(), epochs=2, on_epoch=lambda *call: calls.append(call))
    assert [call[:2] for call in calls] == [(1, 2), (2, 2)]
    assert calls[1][2] == pytest.approx(sum(losses[3:]) / 3)


def test_after_a_fit(pool):
    module = fit(make_classifier(), pool)
    assert not module.net[1].training
    assert all(weight.grad is None for weight in module.parameters())
    assert module._trainer is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_caught_in_its_epoch(bad, pool, tmp_path):
    seen = []

    class Poisoned(Classifier):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss * bad if self.current_epoch == 1 and batch_idx == 0 else loss

    module = Poisoned(make_net(), make_classifier(lr=0.25).recipe, steps_per_epoch=3)
    with pytest.raises(TrainingError, match=r"epoch 2, at learning rate 0\.25; lower `lr`"):
        pool.fit(
            module,
            make_loader(),
            epochs=4,
            checkpoint=File(tmp_path / "fit.ckpt"),
            checkpoint_every=0,
            on_epoch=lambda done, *_: seen.append(done),
        )
    assert seen == [1]
    assert same(fit(make_classifier(), pool), fit(make_classifier()))


def test_callbacks_do_not_leak_into_the_next_fit(pool):
    counted = []

    class Count(Callback):
        def on_train_epoch_start(self, *_):
            counted.append(1)

    class WithCallback(Classifier):
        def configure_callbacks(self):
            return Count()

    fit(WithCallback(make_net(), make_classifier().recipe, steps_per_epoch=3), pool, epochs=1)
    fit(make_classifier(), pool, epochs=1)
    assert len(counted) == 1


def test_a_fit_inside_a_fit(pool):
    inner = []

    class Outer(Classifier):
        def on_train_epoch_end(self):
            inner.append(fit(make_classifier(schedule="cosine"), pool, epochs=2))

    outer = Outer(make_net(), make_classifier().recipe, steps_per_epoch=3)
    fit(outer, pool)
    assert same(outer, fit(make_classifier()))
    assert all(same(each, fit(make_classifier(schedule="cosine"), epochs=2)) for each in inner)
    assert len(inner) == 4
    assert len(pool._free) == 2


def test_global_state_is_as_before(pool):
    state, level = torch.get_rng_state(), warnings.filters[:]
    with torch.no_grad():
        fit(make_classifier(), pool)
        assert not torch.is_grad_enabled()
    assert torch.equal(state, torch.get_rng_state())
    assert warnings.filters == level


def test_dropout_follows_the_loaders_seed(pool):
    torch.manual_seed(1)
    one = fit(make_classifier(), pool)
    torch.manual_seed(2)
    assert same(one, fit(make_classifier(), pool))
    plain, other = make_classifier(), make_classifier()
    for module, seed in ((plain, 0), (other, 1)):
        loader = make_loader(8, augment="none", seed=seed)
        loader._shuffle = False
        pool.fit(module, loader, epochs=1)
    assert not same(plain, other)


def test_lightning_says_nothing_but_a_module_may(capfd, request):
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).addHandler(handler)
        request.addfinalizer(partial(logging.getLogger(name).removeHandler, handler))

    class Talking(Classifier):
        def training_step(self, batch, batch_idx):
            warnings.warn("mine", UserWarning, stacklevel=1)
            return super().training_step(batch, batch_idx)

        def on_fit_start(self):
            self.eval()

    module = Talking(make_net(), make_classifier().recipe, steps_per_epoch=3)
    batches = torch.utils.data.DataLoader(
        list(zip(torch.rand(8, 1, 8, 8), torch.zeros(8).long(), strict=True)), batch_size=4
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        TrainerPool("cpu", "32-true").fit(module, batches, epochs=2, seed=0)
    assert {str(each.message) for each in caught} == {"mine"}
    assert capfd.readouterr() == ("", "")
    assert records == []


class Plain(LightningModule):
    """No loss that could be watched, and a frozen part in eval mode."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.net, self.teacher = make_net(), make_net().eval()

    def training_step(self, batch, batch_idx):
        self.teacher(batch[0])

    def configure_optimizers(self):
        return None


def test_modules_without_loss_or_optimizer_run_and_keep_their_modes(pool):
    module, calls = Plain(), []
    pool.fit(module, make_loader(), epochs=1, on_epoch=lambda *call: calls.append(call))
    assert math.isnan(calls[0][2])
    assert module.training
    assert not module.teacher.training
    assert same(module, Plain())


def test_faults_are_named(pool):
    for length in ({}, {"epochs": 1, "steps": 1}):
        with pytest.raises(SettingsError, match="either `epochs` or `steps`"):
            pool.fit(make_classifier(), make_loader(), **length)
    with pytest.raises(TrainingError, match="no batch"):
        pool.fit(make_classifier(), [], epochs=1)


@pytest.mark.parametrize("asked", [{"epochs": 2}, {"steps": 5}])
@pytest.mark.parametrize("left", [0, 1])
def test_a_loader_that_is_used_up_is_an_error(pool, asked, left):
    used = iter([*make_loader()][:left])
    with pytest.raises(TrainingError, match=f"no batch in epoch {left + 1}"):
        pool.fit(make_classifier(), used, seed=0, **asked)


def test_a_list_of_batches_is_one_loader(pool):
    batches, one, other = [*make_loader()], make_classifier(), make_classifier()
    pool.fit(one, batches, epochs=2, seed=0)
    pool.fit(other, Batches(batches), epochs=2, seed=0)
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
    with pytest.raises(SettingsError, match="not a mapping of a"):
        pool.fit(make_classifier(), {"a": batches}, epochs=1, seed=0)


class Batches:
    def __init__(self, batches):
        self._batches = batches

    def __iter__(self):
        return iter(self._batches)


@pytest.mark.parametrize("make", [*MAKERS.values(), broken])
def test_modules_and_loaders_are_let_go(make, pool):
    module, loader = make(), make_loader()
    weight = next(module.parameters())
    found = [weakref.ref(each) for each in (module, module.net, weight, loader)]
    try:
        pool.fit(module, loader, epochs=2)
    except ZeroDivisionError:
        sys.last_value = None
    del module, weight, loader
    gc.collect()
    assert [each() for each in found] == [None] * 4


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_two_hundred_fits_take_no_more_memory(pool):
    def megabytes():
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    def once():
        # 1 MB of weights, and as much of momentum: one module kept in ten would show.
        wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 4000), nn.Linear(4000, 3))
        pool.fit(
            Classifier(wide, make_classifier().recipe, steps_per_epoch=1), make_loader(8), epochs=1
        )

    for _ in range(10):
        once()
    before = megabytes()
    for _ in range(200):
        once()
    assert megabytes() - before < 20


def test_no_notice_of_lightning_reaches_the_user(tmp_path):
    seen = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        pool = TrainerPool("cpu", "32-true")
        pool.fit(
            make_classifier(),
            make_loader(),
            epochs=3,
            checkpoint=File(tmp_path / "c"),
            checkpoint_every=0,
        )
        logging.getLogger("lightning.pytorch.utilities.rank_zero").info("outside a fit")
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    assert seen == ["outside a fit"]
