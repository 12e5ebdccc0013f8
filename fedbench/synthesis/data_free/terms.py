"""What is asked of made images: a sum of terms that teachers and student decide.

DENSE and Co-Boosting draw a class for each image; DAFL takes the class that the teachers see in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fedbench.synthesis.teachers import Teachers, batch_norm_gap, mixture


@dataclass(frozen=True)
class Terms:
    """How much each term of the loss counts; one that counts 0 is not computed.

    Attributes:
        one_hot: Of the cross entropy of the teachers' mixture with the images' classes.
        hard: h, at least 0: images weigh (1 - p)^h in it, p being the probability of their class.
        drawn: Their classes are drawn; if not, they are what the mixture predicts (DAFL).
        batch_norm: Of the mean over teachers of their BatchNorm gaps.
        adversarial: Of the divergence between mixture and student, which is to be large.
        masked: Only of images on whose class the two disagree.
        temperature: T of that divergence, which is multiplied by T².
        activation: Of the mean size of the teachers' features, which is to be large (DAFL).
        entropy: Of the entropy of the mean prediction, which is to be large (DAFL).
    """

    one_hot: float = 1.0
    hard: float = 0.0
    drawn: bool = True
    batch_norm: float = 0.0
    adversarial: float = 0.0
    masked: bool = True
    temperature: float = 1.0
    activation: float = 0.0
    entropy: float = 0.0

    def loss(self, teachers: Teachers, shares: Tensor, seen: Seen) -> Tensor:
        """Return the loss of a batch, a scalar with gradients to its images.

        Args:
            teachers: Asked here.
            shares: (K,) of them, at least 0.
            seen: The batch, and what the student says of it.
        """
        logits, gap, size = self._ask(teachers, seen.images)
        mixed = mixture(logits, shares)
        total = mixed.new_zeros(())
        if self.one_hot:
            labels = seen.labels if self.drawn else mixed.detach().argmax(1)
            total = total + self.one_hot * one_hot(mixed, labels, self.hard)
        if gap is not None:
            total = total + self.batch_norm * gap
        if self.adversarial:
            gain = disagreement(mixed, seen.student(), self.temperature, masked=self.masked)
            total = total - self.adversarial * gain
        if size is not None:
            total = total - self.activation * size
        return total - self.entropy * spread(mixed) if self.entropy else total

    def _ask(
        self, teachers: Teachers, images: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return logits, and where they count the BatchNorm gap and the features' mean size."""
        gap = size = None
        if self.batch_norm:
            logits, layers = teachers.inspect(images)
            gap = torch.stack([batch_norm_gap(own) for own in layers]).mean()
        if self.activation:
            logits, features = teachers.describe(images)
            size = torch.stack([own.float().abs().mean() for own in features]).mean()
        elif gap is None:
            logits = teachers.logits(images)
        return logits, gap, size


@dataclass(frozen=True)
class Seen:
    """A batch as teachers and student see it.

    Attributes:
        images: (B, C, S, S) normalised floats.
        labels: (B,) classes that were drawn for them.
        student: Returns (B, classes) logits of the student, with gradients to the images.
    """

    images: Tensor
    labels: Tensor
    student: Callable[[], Tensor]


def one_hot(logits: Tensor, labels: Tensor, hard: float = 0.0) -> Tensor:
    """Return the cross entropy, in which images weigh less the surer the teachers are.

    Args:
        logits: (B, classes).
        labels: (B,).
        hard: h of the weights (1 - p)^h, which have no gradient; 0 weighs all alike.
    """
    losses = functional.cross_entropy(logits, labels, reduction="none")
    if hard:
        sure = logits.detach().softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
        losses = (1 - sure) ** hard * losses
    return losses.mean()


def disagreement(
    teacher: Tensor, student: Tensor, temperature: float = 1.0, *, masked: bool = True
) -> Tensor:
    """Return T² times the mean KL(teacher ‖ student), with gradients to both.

    Args:
        teacher: (B, classes) logits.
        student: Likewise.
        temperature: T.
        masked: Images on whose class they agree count 0.
    """
    target = (teacher / temperature).log_softmax(1)
    guess = (student / temperature).log_softmax(1)
    gaps = temperature**2 * (target.exp() * (target - guess)).sum(1)
    if masked:
        gaps = gaps * (teacher.argmax(1) != student.argmax(1))
    return gaps.mean()


def spread(logits: Tensor) -> Tensor:
    """Return the entropy of the mean prediction of (B, classes) logits, in nats."""
    mean = logits.softmax(1).mean(0)
    return -(mean * mean.clamp_min(torch.finfo(mean.dtype).tiny).log()).sum()
