"""Tiny networks, loaders and modules, seeded, for the tests of training."""

from __future__ import annotations

import torch
from lightning import LightningModule
from torch import nn

from fedbench.data.normalisation import Normalisation
from fedbench.data.stream import Columns, Stream
from fedbench.seeding import isolated
from fedbench.training.classifier import Classifier
from fedbench.training.recipe import Recipe


def make_net():
    """A network with all that makes trouble: convolution, BatchNorm buffers, dropout."""
    with isolated(7):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(4 * 64, 3),
        )


def make_loader(count=25, seed=0, augment="flip_crop"):
    source = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=source)
    labels = torch.randint(0, 3, (count,), generator=source)
    return Stream(
        Columns(images, labels),
        batch_size=8,
        seed=seed,
        normalisation=Normalisation((0.5,), (0.25,)),
        augment=augment,
    )


def make_classifier(proximal=0.0, **recipe):
    epochs = recipe.setdefault("epochs", 4)
    return Classifier(
        make_net(), Recipe(**recipe), epochs=epochs, steps_per_epoch=3, proximal=proximal
    )


class Adversary(LightningModule):
    """Manual optimisation of two parts with two optimisers, one of them with a schedule."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.net = make_net()

    def configure_optimizers(self):
        first = torch.optim.SGD(self.net[0].parameters(), lr=0.1, momentum=0.9)
        second = torch.optim.Adam(self.net[5].parameters(), lr=0.01)
        return [first, second], [torch.optim.lr_scheduler.StepLR(first, 1, 0.5)]

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
        return loss

    def on_train_epoch_end(self):
        self.lr_schedulers().step()


def same(one, other):
    """Whether two modules have the same bits."""
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )
