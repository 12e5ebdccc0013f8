"""A classifier's training: cross entropy by a recipe, with FedProx's term if it asks for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedbench.training.logits import LogitBound
from fedbench.training.module import RecipeModule
from fedbench.training.recipe import Recipe


class Classifier(RecipeModule):
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
        length = recipe.epochs if epochs is None else epochs
        super().__init__(net, recipe, epochs=length, steps_per_epoch=steps_per_epoch)
        self.proximal, self.logit_bound = proximal, logit_bound
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

    def _proximal_term(self) -> Tensor:
        """Return (μ/2)·‖θ−θ₀‖² over the parameters; buffers have no part in it."""
        gaps = [
            (weight - self.get_buffer(f"anchor{number}")).square().sum()
            for number, weight in enumerate(self.net.parameters())
        ]
        return self.proximal / 2 * torch.stack(gaps).sum()
