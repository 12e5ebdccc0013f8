"""Shared sets: who contributes how many, and what a model is trained on."""

import pytest
import torch

from fedbench.federation.synthetic import SyntheticSet
from fedbench.methods.random_real import RandomReal
from fedbench.synthesis.expansion import expand
from fedbench.synthesis.sets import class_shares, train_on_set
from fedbench.training.classifier import Classifier


def shares(count, labels, seed=0):
    return class_shares(count, labels, 5, torch.Generator().manual_seed(seed))


def test_classes_share_as_evenly_as_what_is_held_allows():
    labels = torch.tensor([0] * 50 + [1] * 2 + [3] * 9)
    assert shares(3, labels) == [1, 1, 0, 1, 0]
    assert shares(20, labels) == [9, 2, 0, 9, 0]
    assert shares(100, labels) == [50, 2, 0, 9, 0]


def test_what_is_left_over_goes_to_any_class():
    labels = torch.arange(5).repeat(10)
    found = torch.tensor([shares(7, labels, seed) for seed in range(200)])
    assert (found.sum(1) == 7).all()
    assert (found.amin(), found.amax()) == (1, 2)
    assert ((found == 2).sum(0) > 50).all()


def test_a_model_learns_from_soft_labels_as_from_the_class_ids_that_they_are(
    registered, compute, monkeypatch
):
    class Softened(RandomReal):
        name = "softened"

        def conclude(self, server, shared, **how):
            labels = torch.nn.functional.one_hot(shared.labels, 10).float()
            train_on_set(
                server,
                server.build(server.cell.student_model),
                SyntheticSet(shared.images, labels, shared.normalisation),
                server.cell.student,
            )
            super().conclude(server, shared, **how)

    registered(Softened)
    losses = []
    whole = Classifier.training_step

    def note(self, batch, batch_idx):
        loss = whole(self, batch, batch_idx)
        losses.append(loss.item())
        return loss

    monkeypatch.setattr(Classifier, "training_step", note)
    compute("softened", budget={"ipc": 2})
    first, second = losses[: len(losses) // 2], losses[len(losses) // 2 :]
    assert len(first) == 4  # 20 images in batches of 16, two epochs
    assert first == pytest.approx(second, rel=1e-4)


def test_soft_labels_are_expanded_with_their_canvases():
    canvases, labels = torch.randn(2, 1, 8, 8), torch.tensor([[0.1, 0.9], [0.7, 0.3]])
    images, expanded = expand(canvases, labels, 2)
    assert len(images) == 8
    assert torch.equal(expanded, labels[[0, 1] * 4])
