"""Mirrors: one network for each architecture, in the server's state."""

import pytest
import torch

from fedbench.models.factory import build
from fedbench.synthesis.public import mirrors

SMALL = {"name": "convnet", "width": 4, "depth": 2}
LARGE = {"name": "resnet8", "width": 8}


class Server:
    """What mirrors need of a server."""

    def __init__(self, cell):
        self.cell, self.state = cell, {}

    def build(self, model):
        return build(model, channels=1, size=16, classes=10, seed=3)


@pytest.fixture
def server(tiny):
    def make(*models):
        made = Server(tiny("fedavg", models=list(models)))
        mirrors.begin(made)
        return made

    return make


def same(net, state):
    return all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_every_architecture_begins_with_its_initial_weights(server):
    made = server(SMALL, LARGE, SMALL)
    found = dict(mirrors.final(made))
    assert list(found) == ["mirror/convnet-w4-d2", "mirror/resnet8-w8"]
    for model in mirrors.architectures(made.cell):
        assert same(made.build(model), mirrors.weights(made, model))
        assert same(found[mirrors.name(made.cell, model)], mirrors.weights(made, model))
    assert list(dict(mirrors.final(server(SMALL)))) == ["global"]


def test_a_mirror_is_what_was_kept_last_and_others_stay(server):
    made = server(SMALL, LARGE)
    small, large = mirrors.architectures(made.cell)
    before = mirrors.weights(made, large)
    new = {name: value + 1 for name, value in mirrors.weights(made, small).items()}
    mirrors.keep(made, small, new)
    assert same(mirrors.network(made, small), new)
    assert same(mirrors.network(made, large), before)
    assert same(mirrors.network(made, large, before), before)


def test_the_best_is_the_largest_until_validation_says_otherwise(server):
    made = server(SMALL, LARGE)
    small, large = mirrors.architectures(made.cell)
    assert mirrors.best(made) == large
    mirrors.rate(made, small, 0.0)
    assert mirrors.best(made) == small
    mirrors.rate(made, large, 0.5)
    assert mirrors.best(made) == large
