"""The settings of training: at a client, and on a shared or synthetic set."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fedbench.models.settings import Model
from fedbench.settings import Settings

Augment = Literal["standard", "none", "crop", "flip", "flip_crop"]
Precision = Literal["32-true", "bf16-mixed"]


class Recipe(Settings):
    """How a classifier is trained."""

    optimizer: Literal["sgd", "adam"] = "sgd"  # DENSE, Co-Boosting, CollabDM
    """SGD with momentum, or Adam (which ignores `momentum`)."""
    lr: float = Field(0.01, gt=0)  # DENSE, Co-Boosting, CollabDM
    """Learning rate at the start."""
    momentum: float = Field(0.9, ge=0, lt=1)  # DENSE, Co-Boosting, CollabDM
    """Momentum of SGD."""
    weight_decay: float = Field(0.0, ge=0)  # DENSE
    """L2 penalty on all weights, as torch's optimisers define it."""
    batch_size: int = Field(64, ge=1)  # FedDF
    """Images in a step; a last batch of one image joins the one before it."""
    epochs: int = Field(20, ge=0)  # FedLMG
    """Passes over the training images."""
    schedule: Literal["constant", "cosine", "step"] = "constant"  # DENSE
    """`cosine` falls to 0 at the last epoch; `step` divides by 10 at each milestone."""
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5,)  # CollabDM, MTT
    """Shares of the epochs after which `step` divides the learning rate by 10."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest norm of the gradient; None does not clip."""
    augment: Augment = "standard"
    """`standard` is the data set's own; `crop` pads by an eighth; `flip_crop` mirrors as well, and
    `flip` only that."""


class Student(Recipe):
    """How any model is trained on a shared or synthetic set."""

    weight_decay: float = Field(5e-4, ge=0)  # CollabDM, DM
    """L2 penalty on all weights."""
    batch_size: int = Field(256, ge=1)  # CollabDM, DM
    """Images in a step."""
    epochs: int = Field(300, ge=0)  # fedbench: CollabDM has 1001
    """Passes over the shared set."""
    schedule: Literal["constant", "cosine", "step"] = "step"  # CollabDM: x0.1 at half
    """`step` divides by 10 at each milestone."""
    model: Model | None = None  # CollabDM, DM: the network of the matching
    """Another architecture than the clients', to see whether the set serves it (cross-architecture
    evaluation); None takes the clients'."""
