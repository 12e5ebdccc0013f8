"""Records and shared sets as artifacts, sets as pictures."""

import numpy as np
import pytest
from safetensors.numpy import save_file
from test_wandb_writer import wandb  # noqa: F401  (a fixture)
from wandb_suite import record

from fedbench.bench.records.record import write_record
from fedbench.report.tracking.content import of_record
from fedbench.report.tracking.kept import CLASSES, IMAGES, grid
from fedbench.report.tracking.writer import Writer


def a_set(count=4, channels=1, dtype=np.uint8):
    images = np.zeros((count, channels, 2, 3), dtype)
    return {
        "images": images,
        "labels": np.arange(count) // 2,
        "mean": np.full(channels, 0.5, np.float32),
        "std": np.full(channels, 0.5, np.float32),
    }


def test_a_record_and_its_sets_are_artifacts_with_digests(wandb, tmp_path):  # noqa: F811
    made = record("collabdm", outputs={"global": "beef", "synthetic": "5e7" * 20})
    write_record(tmp_path / "records" / f"{made.cell_id}.json", made)
    (tmp_path / "outputs").mkdir()
    save_file(a_set(), tmp_path / "outputs" / f"{'5e7' * 20}.safetensors")
    assert Writer(tmp_path).write(of_record(made)).state == "written"
    kinds = {one.type: one for one in wandb.artifacts}
    assert kinds["record"].name == f"record-{made.cell_id}"
    assert kinds["synthetic_set"].metadata["digest"] == "5e7" * 20
    assert [len(one.files) for one in kinds.values()] == [1, 1]
    (shown,) = [point for point in wandb.logged if "images/synthetic" in point]
    assert shown["images/synthetic"].grid.shape == (2 * 2 + 1, 2 * 3 + 1)


def test_files_that_are_not_here_are_left_out(wandb, tmp_path):  # noqa: F811
    made = record("collabdm", outputs={"synthetic": "5e7" * 20})
    assert Writer(tmp_path).write(of_record(made)).state == "written"
    assert wandb.artifacts == []


@pytest.mark.parametrize(("channels", "last"), [(1, ()), (3, (3,)), (2, ())])
def test_a_grid_has_a_row_for_each_class(channels, last):
    made = a_set(6, channels)
    made["images"][0] = 200
    found = grid(**made)
    assert found.shape == (3 * 2 + 2, 2 * 3 + 1, *last)
    assert found.dtype == np.uint8
    assert (found[:2, :3] == 200).all()
    assert (found[2] == 255).all()  # between rows


def test_normalised_images_become_pixels_again_and_soft_labels_classes():
    made = a_set(4, 1, np.float32)
    made["labels"] = np.eye(2, dtype=np.float32)[made["labels"]]
    assert set(np.unique(grid(**made))) == {128, 255}


def test_a_large_set_is_shown_in_part():
    made = a_set((CLASSES + 5) * 30)
    made["labels"] = np.arange(len(made["images"])) // 30
    assert grid(**made).shape == (CLASSES * 3 - 1, IMAGES * 4 - 1)
