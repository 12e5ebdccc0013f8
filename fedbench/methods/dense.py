"""DENSE: a generator makes images that clients' models recognise, a student distils them.

One round: clients upload trained weights and nothing else. The server has no data. Preset
`fed_dafl` is the rival of its tables: the losses of DAFL in the same loop.

Source: Zhang et al. 2022, "DENSE: Data-Free One-Shot Federated Learning",
https://arxiv.org/abs/2112.12371, and its code. DAFL: Chen et al. 2019, "Data-Free Learning of
Student Networks", https://arxiv.org/abs/1904.01186.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field

from fedbench.federation.method import Course, Upload
from fedbench.federation.server import Server
from fedbench.synthesis.data_free.terms import Terms
from fedbench.synthesis.data_free.workshop import DataFreeConfig, DataFreeMethod, Workshop


class DenseConfig(DataFreeConfig):
    """Settings of DENSE."""

    drawn: bool = True  # DENSE; DAFL: false
    """Draw a class for each image; if not, it is the one that the clients see in it."""
    activation: float = Field(0.0, ge=0)  # DENSE; DAFL: .1
    """λ of the mean size of the clients' features, which is to be large (DAFL)."""
    entropy: float = Field(0.0, ge=0)  # DENSE; DAFL: 20
    """λ of the entropy of the mean prediction, which is to be large (DAFL)."""

    @property
    def terms(self) -> Terms:
        """What is asked of images, DAFL's terms with it."""
        return replace(
            super().terms, drawn=self.drawn, activation=self.activation, entropy=self.entropy
        )


class Dense(DataFreeMethod):
    """Data-free one-shot distillation through a generator."""

    name = "dense"
    course = Course(
        down="a seed",
        client="trains from the common start",
        up="weights, once",
        server="makes images with a generator and distils what clients say of them",
    )
    Config = DenseConfig
    config: DenseConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # What we recommend: the defaults.
        "fedbench": {},
        # The command of DENSE's README, as its code behaves.
        "reference": {
            "batch_norm_heard": False,
            "view": "flip_crop",
            "pool_space": "pixels",
        },
        # The terms of DAFL, with the weights of CMI's code (scripts/dafl_cifar10.sh).
        "fed_dafl": {
            "drawn": False,
            "activation": 0.1,
            "entropy": 20.0,
            "batch_norm": 0.0,
            "adversarial": 0.0,
        },
    }

    def aggregate(self, server: Server, uploads: Iterable[Upload], round: int) -> None:
        """Make a batch and learn from all batches, epoch after epoch."""
        shop = Workshop(server, self.config, uploads)
        batches = shop.batches("student")
        for epoch in server.stages("epochs", self.config.epochs, keep=shop.kept):
            images, labels = shop.make(epoch)
            shop.pool.add(images, labels)
            shop.learn(batches)
            shop.look(epoch, images, labels)
        shop.finish()
