"""Shared sets: hard and soft labels, origins, files, and which of several the budget bounds."""

import pytest
import safetensors.torch
import torch

from fedbench.bench.cells.cell import run_cell
from fedbench.data.normalisation import Normalisation
from fedbench.errors import FedbenchError, StoreError
from fedbench.federation.synthetic import SyntheticSet, is_set, named_sets
from fedbench.methods.random_real import RandomReal

HALF = Normalisation((0.5,), (0.25,))


def made(count=4, **options):
    return SyntheticSet(torch.randn(count, 1, 8, 8), torch.arange(count) % 3, HALF, **options)


def soft(count=4):
    labels = torch.rand(count, 3).softmax(1)
    return SyntheticSet(torch.zeros(count, 1, 8, 8, dtype=torch.uint8), labels, HALF)


@pytest.mark.parametrize("given", [made(), made(origin=torch.tensor([0, 2, 2, -1])), soft()])
def test_a_set_passes_through_its_file(given, tmp_path):
    digest = given.save(tmp_path)
    found = SyntheticSet.load(tmp_path / f"{digest}.safetensors")
    assert torch.equal(found.images, given.images)
    assert torch.equal(found.labels, given.labels)
    assert found.normalisation == given.normalisation
    assert (found.origin is None) == (given.origin is None)
    if given.origin is not None:
        assert torch.equal(found.origin, given.origin)


def test_files_without_origins_are_as_before(tmp_path):
    given = made()
    old = {"images": given.images, "labels": given.labels}
    old |= {"mean": torch.tensor((0.5,)), "std": torch.tensor((0.25,))}
    safetensors.torch.save_file(old, tmp_path / "old.safetensors")
    found = SyntheticSet.load(tmp_path / "old.safetensors")
    assert found.origin is None
    assert found.save(tmp_path) == given.save(tmp_path)
    assert safetensors.torch.load_file(tmp_path / f"{given.save(tmp_path)}.safetensors").keys() == (
        old.keys()
    )


def test_another_file_is_no_set(tmp_path):
    safetensors.torch.save_file({"images": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(StoreError, match="not a synthetic set"):
        SyntheticSet.load(tmp_path / "other.safetensors")


def test_soft_labels_count_in_bytes_and_class_ids_do_not():
    assert made().label_bytes == 0
    given = soft()
    assert given.label_bytes == 4 * 3 * 4
    assert given.pixels == 4 * 64
    assert torch.equal(given.classes, given.labels.argmax(1))
    assert made().classes.tolist() == [0, 1, 2, 0]


def test_the_shared_set_comes_first_and_others_stand_beside_it():
    one, other = made(), soft()
    assert named_sets(None) == {}
    assert named_sets(one) == {"synthetic": one}
    several = named_sets({"base": other, "synthetic": one})
    assert list(several.items()) == [("synthetic", one), ("synthetic/base", other)]
    assert [is_set(name) for name in (*several, "selection", "synthetics")] == [
        True,
        True,
        False,
        False,
    ]
    with pytest.raises(FedbenchError, match="leaves the sets base; call the one"):
        named_sets({"base": other})


class Several(RandomReal):
    """Leaves its set with soft labels, and twice as many images as it began with."""

    name = "several"

    def synthetic(self, server):
        kept = super().synthetic(server)
        shared = torch.nn.functional.one_hot(kept.labels, 10).float()
        base = SyntheticSet(kept.images.repeat(2, 1, 1, 1), kept.labels.repeat(2), HALF)
        return {"synthetic": SyntheticSet(kept.images, shared, HALF), "base": base}


def test_several_sets_are_outputs_and_the_budget_bounds_the_shared_one(
    registered, runtime, tiny, home
):
    registered(Several)
    record = run_cell(tiny("several", budget={"ipc": 1}), runtime, suite="test")
    assert record.status == "ok", record.traceback
    assert {name for name in record.outputs if is_set(name)} == {"synthetic", "synthetic/base"}
    assert record.shared_pixels == 10 * 256
    assert record.label_bytes == 10 * 10 * 4
    folder = home / "test" / "outputs"
    sizes = {
        name: len(SyntheticSet.load(folder / f"{record.outputs[name]}.safetensors").images)
        for name in record.outputs
        if is_set(name)
    }
    assert sizes == {"synthetic": 10, "synthetic/base": 20}
