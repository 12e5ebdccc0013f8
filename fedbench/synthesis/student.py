"""A student: one network that learns from labels, from teachers' logits, or from both.

Where ``Classifier`` knows images and labels, this also asks teachers for each batch: a table of
logits that clients sent, or networks at the server. Teachers are no part of the module, so they get
no gradient and are not in its checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedbench.errors import SettingsError
from fedbench.training.distillation import Distillation, Teacher
from fedbench.training.logits import LogitBound
from fedbench.training.module import RecipeModule
from fedbench.training.recipe import Recipe


class Listener(Protocol):
    """Whoever is told of each step, such as ``voting.Best``."""

    def __call__(self, step: int) -> bool:
        """Take note of a step, from 1, and return whether to stop."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what it remembers: tensors and plain values."""
        ...

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Become what ``state_dict`` returned."""
        ...


class Student(RecipeModule):
    """Trains a network, whose BatchNorm statistics follow the images, by labels and teachers.

    Args:
        net: Returns logits.
        recipe: Optimiser, schedule and clipping.
        columns: Names of what a batch has beside its images, in order. ``labels`` are learnt from,
            (B,) class ids or (B, classes) soft ones; ``weights`` (B,) weigh the images in that; a
            teacher may ask for any, such as ``places`` or ``origins``.
        epochs: Length of the schedule.
        steps_per_epoch: Batches that make an epoch of the schedule; with 1 it goes by steps.
        teacher: Asked for each batch; without gradients, in eval mode.
        shares: (K,) of the teachers, summing to 1; None weighs them alike.
        distillation: What is made of their logits.
        class_weights: (classes,) that weigh images in the loss of the labels by their class.
        absolute: Divide the weighted loss of the labels by the number of images, and not by the sum
            of their weights as torch does, where a weight common to a whole batch would cancel.
        logit_bound: Bound on the length of the logits that the losses see.
        after_step: Called with the number of steps done; ends the fit where it returns True. What
            it remembers is in the module's checkpoints.

    Raises:
        SettingsError: There are neither labels nor a teacher to learn from.
    """

    shares: Tensor | None
    class_weights: Tensor | None

    def __init__(
        self,
        net: nn.Module,
        recipe: Recipe,
        columns: Sequence[str],
        *,
        epochs: int,
        steps_per_epoch: int = 1,
        teacher: Teacher | None = None,
        shares: Tensor | None = None,
        distillation: Distillation | None = None,
        class_weights: Tensor | None = None,
        absolute: bool = False,
        logit_bound: LogitBound | None = None,
        after_step: Listener | None = None,
    ) -> None:
        super().__init__(net, recipe, epochs=epochs, steps_per_epoch=steps_per_epoch)
        if teacher is None and "labels" not in columns:
            raise SettingsError("a student has nothing to learn from; give it labels or a teacher")
        self._columns, self._ask, self._after_step = tuple(columns), teacher, after_step
        self._distillation = distillation or Distillation()
        self._absolute, self.logit_bound = absolute, logit_bound
        # No part of a checkpoint, because a resumed fit is given them again.
        floats = {"shares": shares, "class_weights": class_weights}
        for name, value in floats.items():
            kept = None if value is None else value.float()
            self.register_buffer(name, kept, persistent=False)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Return the loss of normalised images with their columns."""
        images, *rest = batch
        row = dict(zip(self._columns, rest, strict=True))
        teachers = None
        if self._ask is not None:
            with torch.no_grad():
                teachers = self._ask(images, row).float()
        # In float32 also under bf16-mixed: a softmax in bfloat16 has two digits.
        logits = self.net(images).float()
        if self.logit_bound is not None:
            logits = self.logit_bound(logits)
        losses = [self._of_labels(logits, row)] if "labels" in row else []
        if teachers is not None:
            shares = self.shares
            if shares is None:
                shares = logits.new_full((len(teachers),), 1 / len(teachers))
            losses.append(self._distillation.loss(logits, teachers, shares))
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def on_train_batch_end(self, *_: object) -> None:
        """Tell who listens how many steps are done."""
        if self._after_step is not None and self._after_step(self.trainer.global_step):
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put what the listener remembers into a checkpoint."""
        if self._after_step is not None:
            checkpoint["after_step"] = self._after_step.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        if self._after_step is not None:
            self._after_step.load_state_dict(checkpoint["after_step"])

    def _of_labels(self, logits: Tensor, row: Mapping[str, Tensor]) -> Tensor:
        """Return the cross entropy with the labels, weighted where there are weights."""
        labels, weights = row["labels"], row.get("weights")
        if weights is None and self.class_weights is None:
            return functional.cross_entropy(logits, labels)
        losses = functional.cross_entropy(logits, labels, reduction="none")
        weights = torch.ones_like(losses) if weights is None else weights.float()
        if self.class_weights is not None:
            soft = labels.ndim == 2
            weights = weights * (
                labels.float() @ self.class_weights if soft else self.class_weights[labels]
            )
        total = weights.new_full((), len(weights)) if self._absolute else weights.sum()
        # Where no weight is above 0, there is nothing to learn: 0, and not 0/0.
        return (weights * losses).sum() / total.clamp_min(torch.finfo(total.dtype).tiny)
