"""The bases of LightningModules that train one network: its modes, and how a recipe trains it."""

from __future__ import annotations

import math

from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from fedbench.training.recipe import Recipe


class NetModule(LightningModule):
    """Trains a network in place.

    A fit puts it in train mode, and in eval mode at its end.

    Args:
        net: Any network.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def __setattr__(self, name: str, value: Tensor | nn.Module) -> None:
        # Lightning notes each hook's name, 40 times a step, and `Module` takes long to see that a
        # string is no parameter: a fifth of what a short fit costs above a bare loop.
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def on_fit_start(self) -> None:
        """Enter train mode."""
        self.train()

    def on_fit_end(self) -> None:
        """Enter eval mode."""
        self.eval()


class RecipeModule(NetModule):
    """Trains a network with a recipe's optimiser, schedule and clipping.

    Args:
        net: Any network.
        recipe: Of which batch size, epochs and augmentation are the loader's affair.
        epochs: Length of the schedule.
        steps_per_epoch: Batches that make an epoch of the schedule; with 1 it goes by steps, with
            None by the passes of the loader, whose length may change.
    """

    def __init__(
        self, net: nn.Module, recipe: Recipe, *, epochs: int, steps_per_epoch: int | None
    ) -> None:
        super().__init__(net)
        self.recipe, self.epochs, self.steps_per_epoch = recipe, epochs, steps_per_epoch

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
        epochs, length = max(self.epochs, 1), self.steps_per_epoch or 1
        schedule = LambdaLR(optimizer, lambda step: factor(recipe, step // length, epochs))
        interval = "epoch" if self.steps_per_epoch is None else "step"
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": interval},
        }

    def configure_gradient_clipping(self, optimizer: Optimizer, *_: object, **__: object) -> None:
        """Clip the norm of the gradient to the recipe's bound."""
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip_norm)


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
