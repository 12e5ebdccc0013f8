"""What may be set of an inversion, for methods that invert clients' models."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from fedbench.config import MethodConfig
from fedbench.synthesis.data_free.inversion import (
    PARAMETERS,
    Combine,
    Descent,
    Keep,
    Terms,
    Weighting,
)


class InversionConfig(MethodConfig):
    """Settings of inversion: the loss, the descent, and which teachers are asked."""

    parameters: Literal["short", "github", "more", "paper"] = "short"  # fedbench: S3 github
    """Hyper-parameters of the inversion; those below that are not None override the set's."""
    steps: int | None = Field(None, ge=1)
    """Steps of Adam for a batch: 100, 1000, 3000, 2000 in the sets."""
    inversion_lr: float | None = Field(None, gt=0)
    """Adam's learning rate: .25, .1, .1, .05 in the sets."""
    tv: float | None = Field(None, ge=0)
    """Weight of the total variation: 1e-3, `paper` 2.5e-5."""
    l2: float | None = Field(None, ge=0)
    """Weight of the batch's length: 0, `paper` 3e-8."""
    batch_norm: float | None = Field(None, ge=0)
    """Weight of the gap to BatchNorm's statistics: 10, `short` 1. 0 needs no BatchNorm."""
    compete: float | None = Field(None, ge=0)
    """Weight of 1 - JS(teacher, student) where the method is adaptive: 10, `short` 1."""
    adaptive: bool = True  # S3, Yin et al.
    """The student competes: images are to be what it does not know; if not, plain inversion."""
    inversion_schedule: Literal["constant", "cosine"] | None = None
    """Of Adam's learning rate over a batch's steps: `cosine` in `short`, constant in the others."""
    keep: Keep = "last"  # fedbench: S3 and NVlabs keep the best
    """Which images a batch becomes: the `last`, the `best` by the loss of their step, or the best
    shifted view (`best_view`, S3's code)."""
    persist_moments: bool = False  # fedbench: as NVlabs; S3's code lets them persist
    """Adam begins a batch with the moments of the batch before."""
    draw: Literal["cycle", "sample"] = "sample"  # S3: better where clients are IID
    """`cycle` makes each batch with the next teacher, `sample` each with several."""
    sampled: int | None = Field(3, ge=1)  # S3
    """Teachers that a sampling step asks, all where there are fewer; None asks all."""
    subset: Literal["step", "batch"] = "step"  # S3; `batch` is its open idea
    """Draw them anew at each step, or once for a batch."""
    sampling_competes: bool = True  # S3's text; its code leaves the term out
    """The student competes where several teachers are asked, too."""
    combine: Combine = "losses"  # S3
    """Average the asked teachers' losses, or their logits, as DENSE's ensemble does."""
    label_weights: Weighting = "none"  # fedbench: clients tell no counts
    """Weigh a teacher's cross entropy by its share of images of the label: `normalised` as torch
    does, by which a teacher's own weight cancels; `absolute`, divided by the number of images; or
    `across`, by which the asked teachers' weights of an image have the mean 1."""
    mask: bool = True  # S3
    """Restrict a teacher's head to the classes that it has seen, which clients then tell."""
    similar: float = Field(0.0, ge=0)  # S3's open idea
    """Weight of other teachers' scores for the classes most similar to the image's; as many others
    are asked, so a step takes twice the time."""
    nearest: int = Field(1, ge=1)  # fedbench
    """Classes that count as similar to one."""

    @property
    def terms(self) -> Terms:
        """Weights of the loss, once the student competes."""
        known, _ = PARAMETERS[self.parameters]
        names = ("tv", "l2", "batch_norm", "compete")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if not self.adaptive or (self.draw == "sample" and not self.sampling_competes):
            given["compete"] = 0.0
        return replace(known, similar=self.similar, nearest=self.nearest, **given)

    @property
    def descent(self) -> Descent:
        """How a batch moves."""
        _, known = PARAMETERS[self.parameters]
        return replace(
            known,
            steps=self.steps or known.steps,
            lr=self.inversion_lr or known.lr,
            schedule=self.inversion_schedule or known.schedule,
            keep=self.keep,
            combine=self.combine,
        )
