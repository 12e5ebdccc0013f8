"""A student's distillation from teachers' logits: the loss, the optimiser, its steps.

Where ``Classifier`` learns from labels, this learns from a teacher that is asked for each batch: a
table of logits that clients sent, or networks at the server. Teachers are no part of the module, so
they get no gradient and are not in its checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from fedbench.training.distillation import Distillation, Teacher, distillation_loss
from fedbench.training.module import NetModule


class Distiller(NetModule):
    """Distils teachers into a network, whose BatchNorm statistics follow the public images.

    Args:
        net: The student; returns logits.
        teacher: Asked for each batch; without gradients, in eval mode.
        weights: (K,) of the teachers, summing to 1.
        plan: How.
        after_step: Called with the number of steps done; ends the fit where it returns True.
    """

    weights: Tensor

    def __init__(
        self,
        net: nn.Module,
        teacher: Teacher,
        weights: Tensor,
        plan: Distillation,
        after_step: Callable[[int], bool] | None = None,
    ) -> None:
        super().__init__(net)
        self.plan = plan
        self._ask, self._after_step = teacher, after_step
        self.register_buffer("weights", weights.float(), persistent=False)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of normalised images and their positions in the public set."""
        images, places = batch
        with torch.no_grad():
            teachers = self._ask(images, places).float()
        logits = self.net(images).float()
        if self.plan.logit_bound is not None:
            logits = self.plan.logit_bound(logits)
        return distillation_loss(
            logits, teachers, self.weights, self.plan.objective, self.plan.temperature
        )

    def configure_optimizers(self) -> Optimizer | OptimizerLRSchedulerConfig:
        """Return Adam, with its schedule unless that is constant."""
        optimizer = Adam(self.net.parameters(), lr=self.plan.lr)
        if self.plan.schedule == "constant":
            return optimizer
        steps = max(self.plan.steps, 1)
        schedule = LambdaLR(
            optimizer, lambda step: (1 + math.cos(math.pi * min(step / steps, 1))) / 2
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def configure_gradient_clipping(self, optimizer: Optimizer, *_: object, **__: object) -> None:
        """Clip the norm of the gradient to the plan's bound."""
        if self.plan.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.plan.clip_norm)

    def on_train_batch_end(self, *_: object) -> None:
        """Tell who listens how many steps are done."""
        if self._after_step is not None and self._after_step(self.trainer.global_step):
            self.trainer.should_stop = True
