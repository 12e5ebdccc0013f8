import dataclasses

import numpy as np
import pytest
from PIL import Image

from fedbench.bench.cell import run_cell
from fedbench.bench.lookup import good_record


@pytest.fixture
def folder(tmp_path):
    """Write a tree of small grey images in two classes."""
    source = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 4)):
        for label in ("cat", "dog"):
            place = tmp_path / "data" / "pets" / part / label
            place.mkdir(parents=True)
            for number in range(count):
                pixels = source.integers(0, 255, (20, 16), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    return tmp_path / "data"


def test_a_record_of_a_folder_that_changed_is_moved_aside(folder, runtime, tiny, caplog):
    means = dataclasses.replace(runtime, data=folder)
    cell = tiny(
        "local",
        data={"name": "folder", "path": "pets", "train_size": None, "test_size": None},
        models={"name": "convnet", "width": 4, "depth": 2},
    )
    record = run_cell(cell, means, suite="test")
    assert record.status == "ok", record.traceback
    assert record.data["classes"] == ["cat", "dog"]
    assert good_record(means.home, "test", cell, folder)[1] == record
    Image.new("L", (16, 16)).save(folder / "pets" / "train" / "cat" / "new.png")
    assert good_record(means.home, "test", cell, folder) is None
    assert "have changed since" in caplog.text
    assert list((means.home / "test" / "records").glob("*.damaged-0"))
    again = run_cell(cell, means, suite="test")
    assert again.data["train"] == record.data["train"] + 1


def test_a_record_is_taken_where_the_files_are_gone(folder, runtime, tiny, tmp_path):
    means = dataclasses.replace(runtime, data=folder)
    cell = tiny(
        "local", data={"name": "folder", "path": "pets", "train_size": None, "test_size": None}
    )
    record = run_cell(cell, means, suite="test")
    assert good_record(means.home, "test", cell, tmp_path / "elsewhere")[1] == record


def test_failed_cells_have_no_good_record(runtime, tiny):
    cell = tiny("random_real", budget={"pixels": 10})
    run_cell(cell, runtime, suite="test")
    assert good_record(runtime.home, "test", cell, runtime.data) is None
