"""Local distillation by kernel inducing points: FD3-1, bytes, budgets and artefacts."""

import torch

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.suites.plan import planned
from fedbench.data.dataset import Split
from fedbench.federation.synthetic import SyntheticSet
from fedbench.methods.local_kip import first_images
from fedbench.synthesis.matching.kip import TargetBatches

QUICK = {"name": "local_kip", "steps": 4, "target_batch": 20}
TWO_CLASSES = {"partition": {"scheme": "classes_exact", "clients": 3, "classes_per_client": 2}}


def shared(runtime, record):
    path = runtime.home / "test" / "outputs" / f"{record.outputs['synthetic']}.safetensors"
    return SyntheticSet.load(path)


def test_fd3_1_a_client_gives_as_many_of_each_class_that_it_holds(compute, runtime):
    pixels = 2 * 3 * 16 * 16  # three images of each of two classes
    record = compute(QUICK, budget={"pixels": pixels, "scope": "per_client"}, **TWO_CLASSES)
    histogram = torch.tensor(record.partition["histogram"])
    found = shared(runtime, record)
    assert len(found.labels) == 3 * 3 * 2
    for client, labels in enumerate(found.labels.split(6)):
        held = histogram[client].nonzero().flatten()
        assert torch.equal(labels.unique(), held)
        assert torch.bincount(labels)[held].tolist() == [3, 3]


def test_what_is_shared_are_learnt_floats_within_the_budget(compute, runtime):
    record = compute(QUICK, budget={"ipc": 3})
    found = shared(runtime, record)
    assert found.images.shape == (30, 1, 16, 16)
    assert found.images.dtype == torch.float32
    assert record.shared_pixels == 30 * 256
    assert record.ledger["payload_up"] == 30 * (4 * 256 + 8)
    assert record.ledger["payload_down"] == 3 * 8
    # Adam's first step moves a pixel by the rate: no image is a stored one any more.
    pixels = (found.images * found.normalisation.std[0] + found.normalisation.mean[0]) * 255
    assert ((pixels - pixels.round()).abs() > 1e-3).float().mean() > 0.5


def test_steps_move_the_images(compute, runtime):
    """Images stay where the cell normalises to: the real ones they start from are near."""
    sets = [shared(runtime, compute({**QUICK, "steps": n}, budget={"ipc": 2})) for n in (1, 8)]
    gap = (sets[0].images - sets[1].images).abs()
    assert torch.equal(sets[0].labels, sets[1].labels)
    assert 0 < gap.max() <= 7 * 4e-3 * 1.5


def test_a_variant_of_the_student_shares_the_distillation(compute):
    first = compute(QUICK, budget={"ipc": 2})
    again = compute(QUICK, budget={"ipc": 2}, student={"epochs": 3})
    assert first.ledger["shared_seconds"] == 0 < again.ledger["shared_seconds"]
    assert first.outputs["synthetic"] == again.outputs["synthetic"]
    other = compute({**QUICK, "ridge": 1e-3}, budget={"ipc": 2})
    assert other.outputs["synthetic"] != first.outputs["synthetic"]


def test_a_client_without_images_sends_none(compute, runtime):
    skew = {"scheme": "dirichlet", "clients": 3, "beta": 0.5, "min_size": 0}
    data = Split(torch.zeros(0, 1, 16, 16, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    assert len(first_images(data, 4, 10, torch.Generator())) == 0
    record = compute(QUICK, budget={"pixels": 256}, partition=skew)
    assert len(shared(runtime, record).labels) == 1  # two of three clients have nothing to give


def test_targets_are_of_the_classes_that_the_set_has_images_of(compute, monkeypatch):
    """Two images cannot answer for ten classes: they would be bent to say what the others are."""
    pairs = []

    class Spy(TargetBatches):
        def __init__(self, split, *arguments, **options):
            pairs.append(len(split.labels.unique()))
            super().__init__(split, *arguments, **options)

    monkeypatch.setattr("fedbench.synthesis.matching.kip.TargetBatches", Spy)
    compute(QUICK, budget={"pixels": 2 * 256, "scope": "per_client"})
    assert pairs == [2, 2, 2]


def test_it_learns_as_much_as_its_labels_allow(compute):
    sizes = {"models": {"name": "convnet", "width": 8, "depth": 2}, "student": {"epochs": 60}}
    record = compute({**QUICK, "steps": 60, "target_batch": 100}, budget={"ipc": 4}, **sizes)
    assert record.metrics["accuracy"] > 0.6


def test_first_images_are_even_over_the_classes():
    labels = torch.tensor([0] * 10 + [2] * 10 + [4])
    data = Split(torch.arange(21, dtype=torch.uint8).view(-1, 1, 1, 1), labels)
    drawn = first_images(data, 9, 5, torch.Generator().manual_seed(0))
    assert torch.bincount(drawn.labels).tolist() == [4, 0, 4, 0, 1]
    assert len(drawn.images.unique()) == 9
    other = first_images(data, 9, 5, torch.Generator().manual_seed(1))
    assert not torch.equal(drawn.images, other.images)


def test_presets_differ_by_steps_and_targets(tiny):
    reference, ours = (
        tiny({"name": "local_kip", "preset": preset}).method for preset in ("reference", "fedbench")
    )
    assert (reference.target_batch, ours.target_batch) == (10, 200)
    assert (reference.steps, ours.steps) == (3000, 300)
    assert (reference.ridge, reference.lr, reference.stop) == (1e-6, 4e-3, 0.999)  # FedD3


def test_it_needs_a_budget_that_holds_an_image(tiny, runtime):
    assert "needs a budget" in planned(tiny(QUICK)).skip
    record = run_cell(tiny(QUICK, budget={"pixels": 100}), runtime, suite="test")
    assert "at least 256 pixels" in record.reason
