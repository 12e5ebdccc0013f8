"""Noise that a module draws at work: by its loader's seed and the epoch, whatever loader it is."""

import torch
from lightning import LightningModule
from torch import nn

from fedbench.data.epochs import Epochs
from fedbench.synthesis.matching.distribution import MomentLoader, Moments
from fedbench.training.pool import TrainerPool


class Noisy(LightningModule):
    """Draws a number a step, and learns nothing of it."""

    def __init__(self):
        super().__init__()
        self.weight, self.drawn = nn.Parameter(torch.zeros(())), []

    def training_step(self, batch, batch_idx):
        self.drawn.append(float(torch.rand(())))
        return self.weight * 0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Two(Epochs):
    def __len__(self):
        return 2

    def batches(self, epoch, source):
        yield from range(2)


def drawn(loader, epochs=3):
    module = Noisy()
    TrainerPool("cpu", "32-true").fit(module, loader, epochs=epochs)
    return module.drawn


def test_two_seeds_never_draw_alike_and_one_seed_always_does():
    found = drawn(Two(1))
    assert found == drawn(Two(1))
    assert not set(found) & set(drawn(Two(2)))
    assert len(set(found)) == 6


def test_a_loader_of_moments_hands_its_seed_on():
    moments = Moments(0, (), torch.zeros(0, 1))
    one, other = (
        drawn(MomentLoader(lambda _: moments, 4, seed=seed, epoch_steps=2), 2) for seed in (1, 2)
    )
    assert not set(one) & set(other)
