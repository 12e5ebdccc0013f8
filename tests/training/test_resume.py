from __future__ import annotations

import copy
import logging
import os
import signal
from functools import partial

import pytest
import torch
from shared import File
from toys import Adversary, make_classifier, make_loader, make_net, same

from fedbench.errors import SettingsError
from fedbench.training.classifier import Classifier
from fedbench.training.pool import TrainerPool
from fedbench.training.trainer import past_state, restore_past

MAKERS = {
    "cosine": lambda: make_classifier(schedule="cosine", clip_norm=0.5),
    "step with adam": lambda: make_classifier(optimizer="adam", schedule="step"),
    "manual": Adversary,
}


class Killed(BaseException):
    """What no code catches."""


def undisturbed(make, **length):
    module = make()
    TrainerPool("cpu", "32-true").fit(module, make_loader(), **length)
    return module


def interrupt(make, path, after, every=0.0, **length):
    """Kill a fit at the end of an epoch, after what was saved in the epochs before."""

    def kill(done, total, loss):
        if done == after:
            raise Killed

    with pytest.raises(Killed):
        TrainerPool("cpu", "32-true").fit(
            make(),
            make_loader(),
            checkpoint=File(path),
            checkpoint_every=every,
            on_epoch=kill,
            **length,
        )


@pytest.mark.parametrize("length", [{"epochs": 4}, {"steps": 11}], ids=str)
@pytest.mark.parametrize("after", [2, 4])
@pytest.mark.parametrize("kind", MAKERS)
def test_a_resumed_fit_equals_an_undisturbed_one(kind, after, length, tmp_path):
    path, calls = tmp_path / "fit.ckpt", []
    interrupt(MAKERS[kind], path, after, **length)
    assert path.exists()
    pool = TrainerPool("cpu", "32-true")
    pool.fit(Adversary(), make_loader(), epochs=1)
    module = MAKERS[kind]()
    pool.fit(
        module,
        make_loader(),
        checkpoint=File(path),
        on_epoch=lambda *call: calls.append(call[:2]),
        **length,
    )
    assert same(module, undisturbed(MAKERS[kind], **length))
    assert calls == [(epoch, 4) for epoch in range(after, 5)]
    assert list(tmp_path.iterdir()) == []
    other = make_classifier()
    pool.fit(other, make_loader(), epochs=4)
    assert same(other, undisturbed(make_classifier, epochs=4))


def test_a_resumed_fit_keeps_an_earlier_fits_optimizer(tmp_path):
    path, make = tmp_path / "fit.ckpt", MAKERS["cosine"]

    def two_fits(kill):
        pool, module, loader = TrainerPool("cpu", "32-true"), make(), make_loader()
        pool.fit(module, loader, epochs=1, keep_optimizer=True)

        def on_epoch(done, *_):
            if done == kill:
                raise Killed

        try:
            pool.fit(
                module,
                loader,
                epochs=3,
                keep_optimizer=True,
                checkpoint=File(path),
                checkpoint_every=0,
                on_epoch=on_epoch,
            )
        except Killed:
            return None
        return module

    assert two_fits(kill=2) is None
    assert same(two_fits(kill=None), undisturbed(make, epochs=4))


def test_a_checkpoint_is_not_written_before_its_time(tmp_path):
    interrupt(make_classifier, tmp_path / "fit.ckpt", 3, every=60, epochs=4)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_model_is_forgotten(tmp_path, caplog):
    path = tmp_path / "fit.ckpt"
    torch.save({"state_dict": {"weight": torch.ones(1)}}, path)
    module = make_classifier()
    with caplog.at_level(logging.WARNING, "fedbench"):
        TrainerPool("cpu", "32-true").fit(module, make_loader(), epochs=2, checkpoint=File(path))
    assert same(module, undisturbed(make_classifier, epochs=2))
    assert list(tmp_path.iterdir()) == []
    assert "training starts over" in caplog.text


class Signalled(Classifier):
    """Sends this process a signal in the second epoch."""

    number = signal.SIGINT

    def training_step(self, batch, batch_idx):
        if self.global_step == 4:
            os.kill(os.getpid(), self.number)
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_signals(number, expected, tmp_path, monkeypatch, request):
    # A shell's background job starts with Ctrl-C ignored, and Ray leaves a handler of SIGTERM.
    monkeypatch.setattr(Signalled, "number", number)
    for each, plain in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
    ):
        before = signal.signal(each, plain)
        request.addfinalizer(partial(signal.signal, each, before))
    pool, path = TrainerPool("cpu", "32-true"), tmp_path / "fit.ckpt"
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    module = Signalled(make_net(), make_classifier().recipe, steps_per_epoch=3)
    with pytest.raises(expected) as stopped:
        pool.fit(module, make_loader(), epochs=4, checkpoint=File(path), checkpoint_every=0)
    assert getattr(stopped.value, "code", 143) == 143
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert path.exists()
    module = make_classifier()
    pool.fit(module, make_loader(), epochs=4, checkpoint=File(path))
    assert same(module, undisturbed(make_classifier, epochs=4))


def test_ctrl_c_before_the_first_step_is_ctrl_c_as_well(request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    class Early(Classifier):
        def on_fit_start(self):
            os.kill(os.getpid(), signal.SIGINT)

    module = Early(make_net(), make_classifier().recipe, steps_per_epoch=3)
    with pytest.raises(KeyboardInterrupt):
        TrainerPool("cpu", "32-true").fit(module, make_loader(), epochs=1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nothing_is_saved_at_the_end(tmp_path):
    saved = []

    class Counting(File):
        def save(self, write):
            saved.append(self.path)

    for length in ({"epochs": 3}, {"steps": 7}):
        TrainerPool("cpu", "32-true").fit(
            make_classifier(),
            make_loader(),
            checkpoint=Counting(tmp_path / "f"),
            checkpoint_every=0,
            **length,
        )
    assert len(saved) == 4


@pytest.mark.parametrize("kind", MAKERS)
def test_a_module_whose_past_was_kept_goes_on_as_if_it_had_not_been(kind):
    calm, pool = MAKERS[kind](), TrainerPool("cpu", "32-true")
    loader = make_loader()
    pool.fit(calm, loader, epochs=2, keep_optimizer=True)
    kept = {name: value.clone() for name, value in calm.state_dict().items()}
    past = copy.deepcopy(past_state(calm))
    pool.fit(calm, loader, epochs=2, keep_optimizer=True)
    again = MAKERS[kind]()
    again.load_state_dict(kept)
    restore_past(again, past)
    assert past_state(again)["stepped"] == past["stepped"]  # also before it has gone on
    TrainerPool("cpu", "32-true").fit(again, make_loader(), epochs=2, keep_optimizer=True)
    assert same(calm, again)
    assert same(calm, undisturbed(MAKERS[kind], epochs=4))


class Noisy(Classifier):
    """Draws noise at work."""

    def __init__(self):
        super().__init__(make_net(), make_classifier().recipe, steps_per_epoch=3)
        self.drawn = []

    def training_step(self, batch, batch_idx):
        self.drawn.append(float(torch.rand(())))
        return super().training_step(batch, batch_idx)


def test_noise_follows_the_seed_and_the_step_whatever_the_loader():
    def drawn(seed, loader, **length):
        module = Noisy()
        TrainerPool("cpu", "32-true").fit(module, loader, seed=seed, **length)
        return module.drawn

    one = drawn(1, make_loader(), epochs=2)
    assert len(set(one)) == 6
    assert drawn(1, Bare(make_loader()), epochs=2) == one
    assert drawn(1, make_loader(), steps=4) == one[:4]
    assert not {*drawn(2, make_loader(), epochs=2)} & {*one}


class Bare:
    """Batches without a seed."""

    def __init__(self, loader):
        self.batches = list(loader)

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


def test_a_fit_whose_noise_has_no_seed_is_refused():
    with pytest.raises(SettingsError, match="needs `seed`"):
        TrainerPool("cpu", "32-true").fit(Noisy(), Bare(make_loader()), epochs=1)
