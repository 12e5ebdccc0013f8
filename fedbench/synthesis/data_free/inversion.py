"""Inversion: images from frozen classifiers alone, as Deep Inversion makes them.

Yin et al. 2020, DeepInversion, https://arxiv.org/abs/1912.08795; for several teachers after
Jellouli's EPFL report (S3) and its code. Terms of the loss, who is asked at each step, and the
descent of one batch. Nothing here knows a server or a pool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fedbench.errors import TrainingError
from fedbench.synthesis.teachers import UNSEEN, Teachers, batch_norm_gap, mixture

Keep = Literal["last", "best", "best_view"]
Combine = Literal["losses", "logits"]
Weighting = Literal["none", "normalised", "absolute", "across"]

#: Probabilities in the divergence are kept within these, and logits divided by the temperature.
_RANGE, _TEMPERATURE = (0.01, 0.99), 3.0  # NVlabs, S3


@dataclass(frozen=True)
class Terms:
    """Weights of the terms of one teacher's loss.

    Attributes:
        tv: Of the total variation.
        l2: Of the length of the whole batch.
        batch_norm: Of the gap to the BatchNorm statistics; 0 asks no layer.
        compete: Of 1 - JS(teacher, student); 0 asks no student.
        similar: Of other teachers' scores for similar classes; 0 asks no other teacher.
        nearest: How many classes count as similar to one.
    """

    tv: float
    l2: float
    batch_norm: float
    compete: float = 0.0
    similar: float = 0.0
    nearest: int = 1


@dataclass(frozen=True)
class Descent:
    """How a batch moves.

    Attributes:
        steps: Of Adam.
        lr: Its learning rate.
        schedule: ``cosine`` falls to 0 with the last step.
        jitter: Largest shift of the view that a step sees, in pixels along each axis.
        keep: ``last`` images, or those of lowest loss: as they are (``best``), or the shifted view
            that had it (``best_view``).
        combine: Average the teachers' losses, or take one loss of their averaged logits.
    """

    steps: int
    lr: float
    schedule: Literal["constant", "cosine"] = "constant"
    jitter: int = 2  # NVlabs, S3
    keep: Keep = "last"
    combine: Combine = "losses"


#: Sets of hyper-parameters: terms and descent. `github` is what NVlabs' page recommends and S3's
#: main setting, `more` its longer runs, `paper` that of Yin et al. as S3's code has it; `short` is
#: what two cores have time for: where Adam has a tenth of the steps, a weight of 10 lets the
#: statistics win, and two of three images are not what their label says
#: (docs/methods/deep_inversion.md).
PARAMETERS: Mapping[str, tuple[Terms, Descent]] = {
    "short": (Terms(1e-3, 0.0, 1.0, 1.0), Descent(100, 0.25, "cosine")),
    "github": (Terms(1e-3, 0.0, 10.0, 10.0), Descent(1000, 0.1)),
    "more": (Terms(1e-3, 0.0, 10.0, 10.0), Descent(3000, 0.1)),
    "paper": (Terms(2.5e-5, 3e-8, 10.0, 10.0), Descent(2000, 0.05)),
}


class Group(NamedTuple):
    """Who takes part in a step, by position.

    Attributes:
        asked: Teachers whose losses count.
        others: Teachers whose scores for similar classes are held down.
    """

    asked: tuple[int, ...]
    others: tuple[int, ...] = ()


#: Gives the group of each step in turn.
Draw = Callable[[], Group]


def one_teacher(number: int, count: int, source: torch.Generator) -> Draw:
    """Ask one teacher at every step (`cycling` takes the next one for the next batch).

    Args:
        number: Which.
        count: How many there are; another one, drawn anew each step, is beside it.
        source: A CPU generator.
    """
    rest = [k for k in range(count) if k != number]

    def draw() -> Group:
        if not rest:
            return Group((number,))
        return Group((number,), (rest[int(torch.randint(len(rest), (), generator=source))],))

    return draw


def some_teachers(size: int, count: int, source: torch.Generator, *, fixed: bool) -> Draw:
    """Ask some teachers, drawn without replacement for each step, or once for all of them.

    Args:
        size: How many; all where there are fewer.
        count: How many there are. As many others as are left, at most ``size``, are beside them.
        source: A CPU generator.
        fixed: Draw once.
    """

    def draw() -> Group:
        order = torch.randperm(count, generator=source).tolist()
        return Group(tuple(order[:size]), tuple(order[size : 2 * size]))

    if not fixed:
        return draw
    once = draw()
    return lambda: once


def total_variation(images: Tensor) -> Tensor:
    """Return the lengths of the differences to four neighbours of every pixel, summed.

    Each length is over the whole batch (B, C, H, W), so it grows with the root of its size.
    """
    down, right = images.diff(dim=2), images.diff(dim=3)
    falling = images[:, :, 1:, 1:] - images[:, :, :-1, :-1]
    rising = images[:, :, 1:, :-1] - images[:, :, :-1, 1:]
    return torch.stack([part.norm() for part in (right, down, falling, rising)]).sum()


def jittered(images: Tensor, reach: int, source: torch.Generator) -> Tensor:
    """Return all images rolled by the same random shift of at most ``reach`` along each axis."""
    down, right = torch.randint(-reach, reach + 1, (2,), generator=source).tolist()
    return torch.roll(images, (down, right), (2, 3)) if reach else images


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of two (B, classes) logits as NVlabs and S3 compute it.

    From the mean to both, and not from both to the mean; probabilities are clamped. A class that
    both have as ``UNSEEN`` adds nothing.

    Returns:
        The mean over the batch, in [0, 1]; 0 for equal logits.
    """
    one, other = ((logits / _TEMPERATURE).softmax(-1) for logits in (teacher, student))
    mean = (0.5 * (one + other)).clamp(*_RANGE)
    one, other = one.clamp(*_RANGE), other.clamp(*_RANGE)
    halves = mean * (2 * mean.log() - one.log() - other.log())
    return (0.5 * halves.sum(-1).mean()).clamp(0.0, 1.0)


def label_loss(
    logits: Tensor, labels: Tensor, weights: Tensor | None = None, *, absolute: bool = False
) -> Tensor:
    """Return the cross entropy of (B, classes) logits, weighted by (B,) image weights.

    Args:
        logits: Where a class is ``UNSEEN``, images of it need the weight 0.
        labels: (B,) int64.
        weights: At least 0. Where all of them are 0 the loss is 0.
        absolute: Divide by the number of images, and not by the sum of the weights.
    """
    if weights is None:
        return functional.cross_entropy(logits, labels)
    losses = functional.cross_entropy(logits, labels, reduction="none")
    total = float(len(labels)) if absolute else weights.sum().clamp_min(1e-30)
    return (weights * losses).sum() / total


def label_table(weighting: Weighting, counts: Tensor | None, seen: Tensor | None) -> Tensor | None:
    """Return what each teacher's images of each class weigh, (K, classes), or None for all alike.

    Args:
        weighting: ``none`` leaves out the classes that a masked head lacks; the others take the
            class's share of the teacher's images, n_kc / n_k, of classes seen.
        counts: (K, classes) images that teachers were trained on; needed unless ``none``.
        seen: (K, classes) bool of masked heads; None where they are whole.
    """
    if weighting == "none":
        return None if seen is None else seen.float()
    assert counts is not None  # the method has them sent
    counts = counts if seen is None else counts.to(seen.device)
    shares = counts.float() / counts.sum(1, keepdim=True).clamp_min(1)
    return shares if seen is None else shares * seen


def similar_scores(others: Tensor, labels: Tensor, nearest: int) -> Tensor:
    """Return the mean probability that other teachers give to the classes most similar to the own.

    Similar to a class are those that a teacher finds likeliest, on average, in this batch's images
    of it.

    Args:
        others: (n, B, classes) logits; n at least 1.
        labels: (B,) int64.
        nearest: How many classes are similar.

    Returns:
        A scalar in [0, 1].
    """
    found, classes = others.softmax(-1), others.shape[-1]
    own = functional.one_hot(labels, classes)
    with torch.no_grad():
        table = torch.einsum("bl,nbc->nlc", own.float(), found.float())
        table.diagonal(dim1=1, dim2=2).fill_(-1.0)
        chosen = table.topk(min(nearest, classes - 1), dim=-1).indices
        mask = torch.zeros_like(table).scatter_(-1, chosen, 1.0)
    return (found * mask[:, labels]).sum(-1).mean()


class Inverter:
    """Makes batches of images out of teachers.

    Args:
        teachers: Masked where their heads are to be.
        terms: Of the loss.
        descent: How a batch moves.
        weighting: How cross entropies are weighted by label.
        counts: (K, classes), see ``label_table``.
    """

    def __init__(
        self,
        teachers: Teachers,
        terms: Terms,
        descent: Descent,
        *,
        weighting: Weighting = "none",
        counts: Tensor | None = None,
    ) -> None:
        self._each = [teachers.subset([k]) for k in range(len(teachers))]
        self._seen, self._terms, self._descent = teachers.seen, terms, descent
        self._weighting: Weighting = weighting
        table = label_table(weighting, counts, teachers.seen)
        self._table = None if table is None else table.to(teachers.device)

    def loss(
        self, view: Tensor, labels: Tensor, group: Group, student: Teachers | None = None
    ) -> Tensor:
        """Return the loss of one step, with gradients to the images.

        Args:
            view: (B, C, S, S) normalised floats.
            labels: (B,) int64.
            group: Who is asked.
            student: One network; needed where it competes.
        """
        terms, asked = self._terms, group.asked
        guess = student.logits(view)[0] if student is not None and terms.compete else None
        weights = self._weights(asked, labels)
        said, gaps = zip(*(self._ask(k, view) for k in asked), strict=True)
        if self._descent.combine == "logits":
            shares = view.new_ones(len(asked)) if weights is None else weights.T
            known = None if weights is None else (weights.sum(0) > 0).float()
            mean = mixture(torch.stack(said), shares)
            seen = None if self._seen is None else self._seen[list(asked)].any(0)
            own = [self._of_logits(mean, labels, known, guess, seen)]
        else:
            rows = [None] * len(asked) if weights is None else list(weights)
            own = [
                self._of_logits(
                    logits, labels, row, guess, None if self._seen is None else self._seen[k]
                )
                for k, logits, row in zip(asked, said, rows, strict=True)
            ]
        total = torch.stack(own).mean() + terms.batch_norm * torch.stack(gaps).mean()
        if terms.tv:
            total = total + terms.tv * total_variation(view)
        if terms.l2:
            total = total + terms.l2 * view.norm()
        if terms.similar and group.others:
            others = torch.cat([self._each[k].logits(view) for k in group.others])
            total = total + terms.similar * similar_scores(others, labels, terms.nearest)
        return total

    def run(
        self,
        start: Tensor,
        labels: Tensor,
        draw: Draw,
        source: torch.Generator,
        *,
        student: Teachers | None = None,
        moments: MutableMapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the images that a batch becomes.

        Args:
            start: (B, C, S, S) normalised floats.
            labels: (B,) int64, on the same device.
            draw: Gives each step's group.
            source: Of the jitter, on the CPU.
            student: One frozen network, where it competes.
            moments: Adam's, taken over from the batch before and left for the next one; None
                starts and ends without.

        Raises:
            TrainingError: The images are not finite.
        """
        descent, images = self._descent, start.clone().requires_grad_()
        adam = torch.optim.Adam([images], lr=descent.lr)
        if moments:
            adam.state[images] = {name: value.clone() for name, value in moments.items()}
        factor = _cosine(descent.steps) if descent.schedule == "cosine" else lambda _: 1.0
        least, kept = float("inf"), start
        for step in range(descent.steps):
            view = jittered(images, descent.jitter, source)
            loss = self.loss(view, labels, draw(), student)
            (images.grad,) = torch.autograd.grad(loss, images)
            if descent.keep != "last" and (value := float(loss.detach())) < least:
                least = value
                kept = (view if descent.keep == "best_view" else images).detach().clone()
            adam.param_groups[0]["lr"] = descent.lr * factor(step)
            adam.step()
        made = images.detach() if descent.keep == "last" else kept
        lost = descent.keep != "last" and least == float("inf")  # no loss was a number
        if lost or not torch.isfinite(made).all():
            raise TrainingError(
                "inverted images are not finite; lower the method's inversion_lr, or look whether "
                "the clients' models have diverged"
            )
        if moments is not None:
            moments.clear()
            moments.update(adam.state[images])
        return made

    def _ask(self, k: int, view: Tensor) -> tuple[Tensor, Tensor]:
        """Return a teacher's (B, classes) logits and its BatchNorm gap, 0 where that is unasked."""
        if not self._terms.batch_norm:
            return self._each[k].logits(view)[0], view.new_zeros(())
        (logits,), (layers,) = self._each[k].inspect(view)
        return logits, batch_norm_gap(layers)

    def _of_logits(
        self,
        logits: Tensor,
        labels: Tensor,
        weights: Tensor | None,
        guess: Tensor | None,
        seen: Tensor | None,
    ) -> Tensor:
        """Return cross entropy and competition of a teacher's logits, or of averaged ones."""
        absolute = self._weighting in ("absolute", "across")
        loss = label_loss(logits, labels, weights, absolute=absolute)
        if guess is None:
            return loss
        if seen is not None:
            guess = guess.masked_fill(~seen, UNSEEN)
        return loss + self._terms.compete * (1 - divergence(logits, guess))

    def _weights(self, asked: Sequence[int], labels: Tensor) -> Tensor | None:
        """Return what images weigh in each asked teacher's cross entropy, (n, B), or None."""
        if self._table is None:
            return None
        weights = self._table[list(asked)][:, labels]
        if self._weighting != "across":
            return weights
        # The asked teachers' weights of an image have the mean 1: who knows it better counts more.
        return weights / weights.mean(0).clamp_min(1e-30)


def _cosine(steps: int) -> Callable[[int], float]:
    ends = torch.linspace(0, torch.pi, steps + 1)[:-1]
    shape = ((1 + ends.cos()) / 2).tolist()
    return lambda step: float(shape[step])
