"""A classifier's training: cross entropy by a recipe, with FedProx's term if it asks for it."""

from __future__ import annotations

import math

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from fedbench.training.logits import LogitBound
from fedbench.training.module import NetModule
from fedbench.training.recipe import Recipe


class Classifier(NetModule):
    """Trains a network on images and labels.

    Args:
        net: Returns logits; its weights now are θ₀ of the proximal term (Li et al. 2020,
            https://arxiv.org/abs/1812.06127).
        recipe: Optimiser, schedule and clipping.
        epochs: Length of the schedule instead of the recipe's.
        steps_per_epoch: Batches that make an epoch of the schedule.
        proximal: μ of the proximal term (μ/2)·‖θ−θ₀‖²; 0 leaves it out.
        logit_bound: Bound on the length of the logits that the loss sees.
    """

    def __init__(
        self,
        net: nn.Module,
        recipe: Recipe,
        *,
        epochs: int | None = None,
        steps_per_epoch: int,
        proximal: float = 0.0,
        logit_bound: LogitBound | None = None,
    ) -> None:
        super().__init__(net)
        self.recipe, self.proximal = recipe, proximal
        self.logit_bound = logit_bound
        self.epochs = recipe.epochs if epochs is None else epochs
        self.steps_per_epoch = steps_per_epoch
        if proximal > 0:
            for number, weight in enumerate(net.parameters()):
                # A buffer moves with the module; not a persistent one, because a resumed fit is
                # given the starting weights again.
                self.register_buffer(f"anchor{number}", weight.detach().clone(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, classes) logits of (B, C, S, S) normalised images."""
        logits: Tensor = self.net(images)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of images and (B,) labels or (B, classes) probabilities."""
        images, labels = batch
        # In float32 also under bf16-mixed: a softmax in bfloat16 has two digits.
        logits = self.net(images).float()
        if self.logit_bound is not None:
            logits = self.logit_bound(logits)
        loss = functional.cross_entropy(logits, labels)
        return loss + self._proximal_term() if self.proximal > 0 else loss

    def configure_optimizers(self) -> Optimizer | OptimizerLRSchedulerConfig:
        """Return the recipe's optimiser, and its schedule unless that is constant."""
        recipe, weights = self.recipe, self.net.parameters()
        optimizer: Optimizer
        if recipe.optimizer == "sgd":
            optimizer = SGD(
                weights, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
            )
        else:
            optimizer = Adam(weights, lr=recipe.lr, weight_decay=recipe.weight_decay)
        if recipe.schedule == "constant":
            return optimizer
        # A local name, not `self`: the schedule would keep the module alive in a circle.
        epochs, length = max(self.epochs, 1), self.steps_per_epoch
        schedule = LambdaLR(optimizer, lambda step: factor(recipe, step // length, epochs))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def configure_gradient_clipping(self, optimizer: Optimizer, *_: object, **__: object) -> None:
        """Clip the norm of the gradient to the recipe's bound."""
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip_norm)

    def _proximal_term(self) -> Tensor:
        """Return (μ/2)·‖θ−θ₀‖² over the parameters; buffers have no part in it."""
        gaps = [
            (weight - self.get_buffer(f"anchor{number}")).square().sum()
            for number, weight in enumerate(self.net.parameters())
        ]
        return self.proximal / 2 * torch.stack(gaps).sum()


def factor(recipe: Recipe, epoch: int, epochs: int) -> float:
    """Return what the learning rate is multiplied with in an epoch.

    Args:
        recipe: Gives schedule and milestones.
        epoch: From 0.
        epochs: Length of the schedule.

    Returns:
        A number in [0, 1]: ``cosine`` falls from 1 and would reach 0 in the epoch after the last
        one (SGDR without restarts, https://arxiv.org/abs/1608.03983); ``step`` is divided by 10
        when each milestone's share of the epochs is done.
    """
    if recipe.schedule == "cosine":
        return (1 + math.cos(math.pi * min(epoch / epochs, 1))) / 2
    if recipe.schedule == "step":
        # A share such as .7 of 10 epochs may be a hair more than 7.
        return math.prod(0.1 for share in recipe.milestones if epoch >= share * epochs - 1e-9)
    return 1.0
