from __future__ import annotations

import logging
import os
import pickle
import signal
from functools import partial

import pytest
import torch
from toys import Adversary, make_classifier, make_loader, make_net, same

from fedbench.training import watch
from fedbench.training.classifier import Classifier
from fedbench.training.pool import TrainerPool

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
            make(), make_loader(), checkpoint=path, checkpoint_every=every, on_epoch=kill, **length
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
        checkpoint=path,
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
                checkpoint=path,
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


class Trap:
    """A pickle that would run code."""

    def __reduce__(self):
        return os.mkdir, (Trap.place,)


@pytest.mark.parametrize("kind", ["garbage", "empty", "pickle", "another model"])
def test_a_foreign_checkpoint_is_moved_aside(kind, tmp_path, caplog):
    path = tmp_path / "fit.ckpt"
    Trap.place = str(tmp_path / "sprung")
    if kind == "another model":
        torch.save({"state_dict": {"weight": torch.ones(1)}}, path)
    else:
        path.write_bytes(
            {"garbage": b"junk" * 99, "empty": b"", "pickle": pickle.dumps(Trap(), protocol=2)}[
                kind
            ]
        )
    module = make_classifier()
    with caplog.at_level(logging.WARNING, "fedbench"):
        TrainerPool("cpu", "32-true").fit(module, make_loader(), epochs=2, checkpoint=path)
    assert same(module, undisturbed(make_classifier, epochs=2))
    assert [each.name for each in tmp_path.iterdir()] == ["fit.ckpt.damaged-0"]
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
        pool.fit(module, make_loader(), epochs=4, checkpoint=path, checkpoint_every=0)
    assert getattr(stopped.value, "code", 143) == 143
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert path.exists()
    module = make_classifier()
    pool.fit(module, make_loader(), epochs=4, checkpoint=path)
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


def test_nothing_is_saved_at_the_end(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(watch, "write_atomic", lambda path, content: saved.append(path))
    for length in ({"epochs": 3}, {"steps": 7}):
        TrainerPool("cpu", "32-true").fit(
            make_classifier(),
            make_loader(),
            checkpoint=tmp_path / "f",
            checkpoint_every=0,
            **length,
        )
    assert len(saved) == 4
