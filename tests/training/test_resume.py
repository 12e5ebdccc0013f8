from __future__ import annotations

import logging
import os
import pickle
import signal

import pytest
import torch
from conftest import Adversary, make_classifier, make_loader, make_net, same

from fedbench.training.classifier import Classifier
from fedbench.training.pool import TrainerPool

MAKERS = {
    "cosine": lambda: make_classifier(schedule="cosine", proximal=0.1),
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


def signalled(number):
    module = Signalled(make_net(), make_classifier().recipe, steps_per_epoch=3)
    module.number = number
    return module


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_signals(number, expected, tmp_path):
    pool, path = TrainerPool("cpu", "32-true"), tmp_path / "fit.ckpt"
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(expected) as stopped:
        pool.fit(signalled(number), make_loader(), epochs=4, checkpoint=path, checkpoint_every=0)
    assert getattr(stopped.value, "code", 143) == 143
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert path.exists()
    module = make_classifier()
    pool.fit(module, make_loader(), epochs=4, checkpoint=path)
    assert same(module, undisturbed(make_classifier, epochs=4))
