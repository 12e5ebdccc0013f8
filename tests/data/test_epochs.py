"""The protocol of epochs: numbered, by seed and number alone, found by Lightning."""

import pytest
import torch

from fedbench.data.epochs import Epochs
from fedbench.seeding import generator


class Draws(Epochs):
    """Two draws an epoch, with the epoch's number."""

    def __len__(self):
        return 2

    def batches(self, epoch, source):
        for _ in range(2):
            yield epoch, int(torch.randint(1000, (), generator=source))


class Others(Draws):
    _purpose = "others"


def test_epochs_follow_one_another_and_one_can_be_named():
    made = Draws(5)
    epochs = [list(made) for _ in range(3)]
    assert [[number for number, _ in epoch] for epoch in epochs] == [[0, 0], [1, 1], [2, 2]]
    assert len({draw for epoch in epochs for _, draw in epoch}) == 6
    made.set_epoch(1)
    assert [list(made), list(made)] == epochs[1:]


def test_an_epoch_depends_on_seed_kind_and_number_alone():
    used, fresh = Draws(5), Draws(5)
    next(iter(used))
    torch.manual_seed(1)
    used.set_epoch(3)
    fresh.set_epoch(3)
    epoch = list(fresh)
    assert list(used) == epoch
    source = generator(5, "epoch", 3)
    assert [draw for _, draw in epoch] == [
        int(torch.randint(1000, (), generator=source)) for _ in range(2)
    ]
    for other in (Draws(6), Others(5)):
        other.set_epoch(3)
        assert list(other) != epoch


def test_a_first_epoch_shifts_the_draws():
    later, whole = Draws(5, first_epoch=2), Draws(5)
    whole.set_epoch(2)
    assert [draw for _, draw in later] == [draw for _, draw in whole]


def test_lightning_finds_the_sampler():
    made = Draws(5)
    made.sampler.set_epoch(4)
    assert next(iter(made))[0] == 4
    assert made.seed == 5


def test_a_kind_without_length_or_batches_cannot_be_made():
    with pytest.raises(TypeError):
        Epochs(0)
