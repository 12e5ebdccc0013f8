"""Settings of guided sampling: where a prior is from, how it is sampled, and how classifiers steer.

A setting that would change nothing is an error: two cells with equal numbers would pass for two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from fedbench.config import MethodConfig
from fedbench.data.specs import DATASETS
from fedbench.synthesis.diffusion.guidance import Guidance
from fedbench.synthesis.diffusion.model import Sampling
from fedbench.synthesis.diffusion.priors import Size

#: How the names of priors begin.
UNUSED, PUBLIC, FOLDER = "unused", "public:", "diffusers:"
#: Settings of priors that are trained here, and of how any prior is steered.
_OF_TRAINING = ("prior_size", "prior_steps", "conditional")
_OF_STEERING = (
    "emphasis",
    "sampler",
    "steps",
    "cross_entropy",
    "batch_norm_layers",
    "scale",
    "step",
    "edits",
    "edit_with",
    "detach_eps",
    "predict_twice",
    "clamp",
)
#: Settings of how a step or an edit is taken, where any is.
_OF_PULLS = (
    "batch_norm_layers",
    "step",
    "edits",
    "edit_with",
    "detach_eps",
    "predict_twice",
    "clamp",
)


class GuidedConfig(MethodConfig):
    """Settings of methods that make images with a guided prior."""

    prior: str = "unused"  # fedbench: S4 has Stable Diffusion
    """Where the diffusion model is from. `unused[@COUNT]`: trained here on images that
    `data.train_size` leaves to nobody (a privilege); `public:NAME[@COUNT]`: on another data set's;
    `diffusers:PATH`: a folder of yours; `none`: Deep Inversion in the same frame."""
    prior_size: Size = "tiny"  # fedbench
    """Of a prior that is trained here: `tiny` for digits, `small` for MNIST, `large`."""
    prior_steps: int | None = Field(None, ge=1)
    """Steps of its training; None takes those of its size."""
    conditional: bool = False  # fedbench: the classifier says what an image is of
    """Tell a prior of unused images their classes, which are the clients'."""
    emphasis: float = Field(1.0, ge=0)  # fedbench: S4 3, of Stable Diffusion's prompts
    """Of the classes that a prior takes (classifier-free guidance); 1 asks it once."""
    images_per_class: int = Field(30, ge=1)  # S4
    """Images of each class that a client has seen."""
    batch_size: int = Field(64, ge=1)  # fedbench: S4 1, of which BatchNorm's statistics are none
    """Images of one client that are made together, of all its classes."""
    classes: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(None, min_length=1)
    """Make images of these classes only; None of all that a client has seen."""
    sampler: Sampling = "ddpm"  # S4
    """How the prior is sampled."""
    steps: int = Field(20, ge=1)  # fedbench: S4 50
    """Denoising steps."""
    cross_entropy: float = Field(1.0, ge=0)  # S4
    """Weight of the classifier's cross entropy."""
    batch_norm: float = Field(0.1, ge=0)  # S4
    """Weight of the gap to BatchNorm's statistics, λ. 0 needs no BatchNorm. Without a prior it
    says whether there is such a term; its weight is then Deep Inversion's."""
    batch_norm_layers: Literal["sum", "mean"] = "sum"  # S4
    """Sum that gap over the layers of a client's network, or take their mean, so that one λ serves
    networks of few and of many layers."""
    scale: float = Field(1.0, ge=0)  # S4
    """Of guidance's steps, s; 0 leaves the prior to itself."""
    step: Literal["raw", "normalised"] = "raw"  # S4
    """Bring gradients to one length before they are weighed, or take them as they are."""
    edits: int = Field(0, ge=0)  # fedbench: docs/methods/fedlmg.md; S4 10
    """Steps at the initial noise, M."""
    edit_with: Literal["batch_norm", "both"] = "both"  # S4's text; its code takes batch_norm
    """What these follow."""
    detach_eps: bool = False  # S4
    """Take the predicted noise for a constant: no gradient through the diffusion model."""
    predict_twice: bool = True  # S4; without, in DPS's order
    """Predict again from the moved samples before each denoising step."""
    clamp: Literal["straight_through", "hard"] = "hard"  # S4
    """Whether gradients pass where images are cut to black and white."""
    filter: float | None = Field(None, gt=0)  # S4: .5, commented out
    """Keep an image only if its client's classifier gives it its class, with a cross entropy of
    at most this."""
    attempts: int = Field(3, ge=1)  # fedbench
    """With a filter: as many times as many images are made at most."""
    descent_steps: int = Field(100, ge=1)  # fedbench: as Deep Inversion's `short`
    """Without a prior: steps of Adam for a batch."""

    @field_validator("prior")
    @classmethod
    def _known(cls, value: str) -> str:
        kind, _, count = value.partition("@")
        if value.startswith(FOLDER):
            if value == FOLDER:
                raise ValueError(f"prior {value!r} names no folder; write diffusers:PATH")
            return value
        if value.startswith(PUBLIC):
            DATASETS.get(kind.removeprefix(PUBLIC))
        elif kind != UNUSED and value != "none":
            raise ValueError(
                f"prior {value!r} is none of 'none', 'unused[@COUNT]', 'public:NAME[@COUNT]' and "
                "'diffusers:PATH'"
            )
        if "@" in value and not (count.isdigit() and int(count)):
            raise ValueError(f"prior {value!r}: {count!r} after the @ is no number from 1 on")
        return value

    @model_validator(mode="after")
    def _of_effect(self) -> Self:
        for names, where in self._without_effect():
            fields = {name: GuidedConfig.model_fields[name].default for name in names}
            changed = [name for name, usual in fields.items() if getattr(self, name) != usual]
            if changed:
                usual = ", ".join(f"{name}: {fields[name]}" for name in changed)
                raise ValueError(f"{where}, {', '.join(changed)} would change nothing; set {usual}")
        on = GuidedConfig.model_fields["batch_norm"].default
        if self.prior == "none" and self.batch_norm not in (0, on):
            raise ValueError(
                f"without a prior, batch_norm is on ({on}) or off (0), and {self.batch_norm:g} "
                f"would change nothing; set {on} or 0"
            )
        if self.conditional and self.prior.startswith(PUBLIC):
            raise ValueError(
                f"prior {self.prior!r} cannot be conditional: another data set's classes are not "
                "the clients'; set conditional: false"
            )
        return self

    def _without_effect(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield names of settings that do nothing here, and where that is."""
        if self.filter is None:
            yield ("attempts",), "without a filter"
        if self.prior == "none":
            yield (*_OF_TRAINING, *_OF_STEERING), "without a prior"
            return
        yield ("descent_steps",), "with a prior"
        if not self.trains:
            yield _OF_TRAINING, f"with prior {self.prior!r}, which is not trained here"
        elif not self.conditional:
            yield ("emphasis",), "with a prior that is told no classes (conditional: false)"
        if not self.batch_norm or self.step == "normalised":
            why = "step: normalised" if self.batch_norm else "batch_norm: 0"
            yield ("batch_norm_layers",), f"with {why}"
        if self.edit_with == "batch_norm" and not self.batch_norm:
            yield ("edits",), "with edit_with: batch_norm and batch_norm: 0"
        if not self.edits:
            yield ("edit_with",), "with edits: 0"
        if not self.guidance.steers:
            nothing = "scale: 0" if not self.scale else "cross_entropy: 0 and batch_norm: 0"
            yield _OF_PULLS, f"with {nothing}, which guides nothing"

    @property
    def trains(self) -> bool:
        """Whether the prior is trained in the cell."""
        return self.prior.startswith((UNUSED, PUBLIC))

    @property
    def guidance(self) -> Guidance:
        """How classifiers steer."""
        return Guidance(
            cross_entropy=self.cross_entropy,
            batch_norm=self.batch_norm,
            layers=self.batch_norm_layers,
            scale=self.scale,
            normalised=self.step == "normalised",
            edits=self.edits,
            edit_with=self.edit_with,
            detach=self.detach_eps,
            twice=self.predict_twice,
            straight=self.clamp == "straight_through",
            emphasis=self.emphasis,
        )
