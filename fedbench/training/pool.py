"""The pool of Lightning Trainers: the one place of fedbench that makes one.

A Trainer is lent for one fit and taken back, so its size is the depth of nesting and not the
number of clients. Making one takes three times as long as a short fit.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Protocol

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from fedbench.errors import SettingsError, TrainingError
from fedbench.seeding import derive, isolated
from fedbench.training.determinism import settle
from fedbench.training.recipe import Precision
from fedbench.training.trainer import (
    Past,
    give_past,
    hushed,
    make_trainer,
    past_of,
    prepare,
    release,
    take_past,
)
from fedbench.training.watch import OnEpoch, Watch

log = logging.getLogger(__name__)


class FitCheckpoint(Protocol):
    """Where a fit saves itself. What it finds there is what was written: it has been verified."""

    def found(self) -> Path | None:
        """Return the checkpoint to go on from, or None to start."""
        ...

    def save(self, write: Callable[[Path], None]) -> None:
        """Have a checkpoint written to a path, in place of the last one."""
        ...

    def reject(self) -> None:
        """Forget what was found: it belongs to another model, and the fit starts."""
        ...

    def close(self) -> None:
        """Forget it: the fit is over."""
        ...


class TrainerPool:
    """Lends silent Trainers for one device and precision. Not thread-safe.

    Making one settles how torch computes on its device (see ``determinism``), for the process.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``32-true`` or ``bf16-mixed``.
        strict: Whether an operation that a GPU cannot repeat is an error.
    """

    def __init__(self, device: str, precision: Precision, *, strict: bool = True) -> None:
        self.device, self.precision = torch.device(device), precision
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", torch.cuda.current_device())
        self._free: list[Trainer] = []
        settle(self.device, strict=strict)

    def fit(
        self,
        module: LightningModule,
        loader: Iterable[object],
        *,
        epochs: int | None = None,
        steps: int | None = None,
        seed: int | None = None,
        checkpoint: FitCheckpoint | None = None,
        checkpoint_every: float = 60.0,
        keep_optimizer: bool = False,
        on_epoch: OnEpoch | None = None,
    ) -> None:
        """Train a module in place.

        Afterwards it is on the pool's device and has no gradients. Which of its parts are in train
        mode is its own affair (``Classifier`` trains in train mode and ends in eval mode). Its own
        randomness, such as dropout or drawn noise, is seeded anew before each step; the global
        generators are as before.

        Args:
            module: With automatic or manual optimisation. If ``training_step`` returns a loss it is
                watched.
            loader: Gives the batches of one epoch each time it is iterated; a list of batches does.
            epochs: Passes over the loader; this or ``steps``. 0 leaves the module as it is.
            steps: Batches; the loader is iterated as often as that takes.
            seed: Root of the module's own randomness; None takes the loader's, which has to have
                one. The steps of two fits with one seed draw alike.
            checkpoint: Where to save at the end of an epoch. If one is found, the fit goes on from
                it, with the same bits as if it had not been interrupted, provided that the module
                keeps all that it needs in its state dict or its checkpoint hooks.
            checkpoint_every: Seconds between two checkpoints.  # fedbench: a lost minute is cheap
            keep_optimizer: Go on where the module's last fit ended: its optimisers, schedules and
                counts of epochs and steps.
            on_epoch: Called with epochs done, their number (0 if unknown) and the mean loss of the
                last one (NaN if the module returns none).

        Raises:
            TrainingError: The loss is not finite (at the end of the epoch in which that happens),
                or the loader gives no batch in some epoch.
            KeyboardInterrupt: Ctrl-C; the last checkpoint stays.
            SystemExit: SIGTERM, after the batch in hand, with code 143; the last checkpoint stays.
        """
        if (epochs is None) == (steps is None):
            raise SettingsError("a fit takes either `epochs` or `steps`, and not both")
        if not (epochs or steps):
            return
        if isinstance(loader, Sized) and len(loader) == 0:
            raise TrainingError("there is no batch to train on; give the loader at least one image")
        last = past_of(module)
        past = last if keep_optimizer and last is not None else Past()
        root = _seed(loader) if seed is None else seed
        last_step = None if steps is None else past.steps_done + steps
        watch = Watch(
            seed=derive(root, "module"),
            epochs_before=past.epochs_done,
            epochs=_passes(loader, steps) if epochs is None else epochs,
            last_step=last_step,
            checkpoint=None if checkpoint is None else checkpoint.save,
            every=checkpoint_every,
            on_epoch=on_epoch,
        )
        resume = None if checkpoint is None else _found(checkpoint, module)
        with hushed(), torch.enable_grad(), isolated(derive(root, "module")):
            trainer = self._free.pop() if self._free else make_trainer(self.device, self.precision)
            prepare(trainer, past, watch, epochs)
            try:
                _run(trainer, module, _as_one(loader), resume)
                give_past(module, take_past(trainer))
                self._free.append(trainer)
            finally:
                release(trainer, module)
        module.zero_grad()
        if checkpoint is not None:
            checkpoint.close()


class _Batches:
    """A list of batches as one loader: Lightning takes a bare list for several loaders."""

    def __init__(self, batches: Sequence[object]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[object]:
        return iter(self._batches)


def _as_one(loader: Iterable[object]) -> Iterable[object]:
    """Return what Lightning takes for one loader.

    Raises:
        SettingsError: It is a mapping: of which part of it would a batch be?
    """
    if isinstance(loader, Mapping):
        raise SettingsError(
            f"a fit takes one loader, not a mapping of {', '.join(map(str, loader))}; give one "
            "that yields batches"
        )
    return _Batches(loader) if isinstance(loader, list | tuple) else loader


def _run(
    trainer: Trainer, module: LightningModule, loader: Iterable[object], resume: Path | None
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, loader, ckpt_path=resume, weights_only=True)
    except SystemExit as stop:
        # Lightning turns Ctrl-C into an exit and ignores it from then on.
        if isinstance(stop.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None
        if isinstance(stop, SIGTERMException):  # its own code is 0, that of success
            raise SystemExit(128 + signal.SIGTERM) from None
        raise


def _passes(loader: Iterable[object], steps: int | None) -> int:
    """Return how often a loader is iterated for so many steps; 0 where it has no length."""
    if steps is None or not isinstance(loader, Sized):
        return 0
    return -(-steps // len(loader))


def _seed(loader: Iterable[object]) -> int:
    """Return a loader's own seed.

    Raises:
        SettingsError: It has none: all fits would draw alike.
    """
    seed = getattr(loader, "seed", None)
    if not isinstance(seed, int):
        raise SettingsError(
            f"a fit over a {type(loader).__name__} needs `seed`: an integer derived by name "
            "(fedbench.seeding.derive), from which the module's own noise is drawn"
        )
    return seed


def _found(checkpoint: FitCheckpoint, module: LightningModule) -> Path | None:
    """Return the checkpoint to go on from, if there is one and it is of this module."""
    place = checkpoint.found()
    if place is None:
        return None
    saved = torch.load(place, map_location="cpu", weights_only=True)["state_dict"]
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    if {name: value.shape for name, value in saved.items()} == shapes:
        return place
    log.warning("checkpoint %s belongs to another model; training starts over", place)
    checkpoint.reject()
    return None
