"""Cells on a pretended GPU (see ``far``): nothing is left on the wrong side.

A GPU itself is tested in ``test_gpu``. This needs none, so it finds a forgotten move in every
method before one is at hand.
"""

import json
from pathlib import Path

import pytest
import torch
from far import GPU, Far, pretended
from golden_cells import CELLS, compute, each_method
from torch.nn import functional

from fedbench.seeding import generator

RECORDS = Path(__file__).parents[1] / "golden" / "records.json"


@pytest.fixture
def gpu(monkeypatch):
    with pretended(monkeypatch):
        yield GPU.type


def cells():
    """Yield a cell of every method; its other presets, and most in bfloat16, are thorough."""
    methods = set()
    for name in each_method():
        method = CELLS[name][0]["name"]
        yield pytest.param(name, marks=[pytest.mark.thorough] if method in methods else [])
        methods.add(method)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(cells()))
def test_a_cell_runs_from_end_to_end(name, cache, gpu):
    found = compute(name, cache, gpu)
    golden = json.loads(RECORDS.read_text())["cells"][name]
    assert found["outputs"].keys() == golden["outputs"].keys()
    assert found["bytes"] == golden["bytes"]
    # The same numbers in batches of another size, and by the forms for GPUs.
    assert found["accuracy"] == pytest.approx(golden["accuracy"], abs=0.1)


def test_what_was_moved_is_there_and_comes_back(gpu):
    images = torch.arange(6.0).view(2, 3)
    far = images.to(gpu)
    assert (far.device, far.device.type, far.is_cuda) == (GPU, "cuda", True)
    assert type(far.cpu()) is torch.Tensor
    assert torch.equal(far.cpu(), images)
    assert far.sum().item() == 15
    assert far.tolist() == images.tolist()
    assert isinstance(torch.zeros(3, device=gpu), Far)


def test_gradients_are_those_of_the_cpu(gpu):
    net = torch.nn.Linear(3, 2)
    images, labels = torch.randn(4, 3, generator=generator(0)), torch.tensor([0, 1, 1, 0])
    functional.cross_entropy(net(images), labels).backward()
    known = net.weight.grad.clone()
    net.zero_grad()
    weight, net = net.weight, net.to(gpu)
    assert net.weight is weight
    functional.cross_entropy(net(images.to(gpu)), labels.to(gpu)).backward()
    assert torch.equal(net.weight.grad.cpu(), known)


@pytest.mark.parametrize(
    "mix",
    [
        lambda far, near: far + near,
        lambda far, near: far @ near.T,
        lambda far, near: torch.cat([far, near]),
        lambda far, near: torch.stack([far[0, 0], torch.tensor(1.0)]),
        lambda far, near: far.index_select(0, torch.tensor([0])),
        lambda far, near: near[far[:, 0].long()],
        lambda far, near: torch.nn.Linear(3, 2)(far),
        lambda far, near: torch.randperm(3, generator=generator(0), device=far.device),
        lambda far, near: far.clone().normal_(generator=generator(0)),
    ],
)
def test_what_a_gpu_refuses_is_refused(gpu, mix):
    near = torch.ones(2, 3)
    with pytest.raises(RuntimeError, match=r"same device|.cuda. generator"):
        mix(near.to(gpu), near)


def test_what_a_gpu_takes_is_taken(gpu):
    far = torch.ones(2, 3).to(gpu)
    assert isinstance(far * torch.tensor(2.0), Far)
    assert far[torch.tensor([1])].shape == (1, 3)
    far.copy_(torch.zeros(2, 3))
    assert far.cpu().sum() == 0
    with pytest.raises(TypeError, match=r"use Tensor\.cpu"):
        far.numpy()
