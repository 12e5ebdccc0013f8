"""The one callback of every fit: it checks the loss, reports, saves, stops and seeds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from fedbench.errors import TrainingError
from fedbench.seeding import derive

OnEpoch = Callable[[int, int, float], None]


class Watch(Checkpoint):
    """Watches one fit. As a ``Checkpoint`` it is called after the module's own epoch end.

    Args:
        seed: Root of the module's own randomness, such as dropout.
        epochs_before: Epochs of the module's earlier fits, when this one goes on from them.
        epochs: Epochs of this fit; 0 where they are not known.
        last_step: Batches of all fits at which this one ends; None for the epochs' end.
        checkpoint: Has a checkpoint written; None saves nothing.
        every: Seconds between two checkpoints.
        on_epoch: Called with epochs done, their number and the mean loss of the last one.
    """

    def __init__(
        self,
        *,
        seed: int,
        epochs_before: int,
        epochs: int,
        last_step: int | None,
        checkpoint: Callable[[Callable[[Path], None]], None] | None,
        every: float,
        on_epoch: OnEpoch | None,
    ) -> None:
        self._seed, self._before, self._epochs = seed, epochs_before, epochs
        self._last_step, self._on_epoch = last_step, on_epoch
        self._checkpoint, self._every = checkpoint, every
        self._saved = time.monotonic()
        self._total: Tensor | None = None
        self._count, self._batches, self._rate = 0, 0, math.nan

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed what the module draws before its first step, and begin to add up the loss."""
        self._reseed(trainer, "epoch", trainer.current_epoch)
        self._total, self._count, self._batches = None, 0, 0
        # The rate is noted now because schedulers step before the epoch's end is announced.
        groups = [group for each in trainer.optimizers for group in each.param_groups]
        self._rate = float(groups[0]["lr"]) if groups else math.nan

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Seed the module's randomness by the step, so that a resumed fit draws the same."""
        self._reseed(trainer, "step", trainer.fit_loop.total_batch_idx)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Tensor] | None,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Add up the loss where it is: reading it at every step would make a GPU wait."""
        self._batches += 1
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is not None:
            self._total = loss if self._total is None else self._total + loss
            self._count += 1
        if self._last_step is not None and trainer.fit_loop.total_batch_idx + 1 >= self._last_step:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that there was one, check the loss, tell who listens, save if it is time."""
        if self._batches == 0:
            raise TrainingError(
                f"the loader gave no batch in epoch {trainer.current_epoch + 1}; it has to give "
                "the batches of an epoch each time it is iterated; a generator does so only once"
            )
        loss = math.nan if self._total is None else float(self._total) / self._count
        if self._total is not None and not math.isfinite(loss):
            raise TrainingError(
                f"the training loss became {loss} in epoch {trainer.current_epoch + 1}, at "
                f"learning rate {self._rate:g}; lower `lr`, or set `clip_norm`"
                + ("" if trainer.precision == "32-true" else ", or use precision '32-true'")
            )
        done = trainer.current_epoch + 1 - self._before
        if self._on_epoch is not None:
            self._on_epoch(done, self._epochs, loss)
        over = trainer.should_stop or done == self._epochs
        due = time.monotonic() - self._saved >= self._every
        if self._checkpoint is not None and due and not over:
            self._checkpoint(trainer.save_checkpoint)
            self._saved = time.monotonic()

    def _reseed(self, trainer: Trainer, *names: str | int) -> None:
        seed, device = derive(self._seed, *names), trainer.strategy.root_device
        # `torch.manual_seed` formats the call stack for CUDA's sake, at the price of half a step.
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.default_generators[device.index].manual_seed(seed)
