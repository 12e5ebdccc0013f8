import dataclasses
import os

from PIL import Image
from shared import PETS

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.lookup import good_record


def test_a_record_of_a_folder_that_changed_is_moved_aside(pets, runtime, tiny, caplog):
    means = dataclasses.replace(runtime, data=pets)
    cell = tiny(
        "local",
        data=PETS,
        models={"name": "convnet", "width": 4, "depth": 2},
    )
    record = run_cell(cell, means, suite="test")
    assert record.status == "ok", record.traceback
    assert record.data["classes"] == ["cat", "dog"]
    assert good_record(means.home, "test", cell, pets)[1] == record
    Image.new("L", (16, 16)).save(pets / "pets" / "train" / "cat" / "new.png")
    assert good_record(means.home, "test", cell, pets) is None
    assert "have changed since" in caplog.text
    assert list((means.home / "test" / "records").glob("*.damaged-0"))
    again = run_cell(cell, means, suite="test")
    assert again.data["train"] == record.data["train"] + 1


def test_a_record_is_of_its_data_and_not_of_files_with_equal_names_and_sizes(
    pets, runtime, tiny, caplog
):
    means = dataclasses.replace(runtime, data=pets)
    cell = tiny("local", data=PETS, models={"name": "convnet", "width": 4, "depth": 2})
    record = run_cell(cell, means, suite="test")
    assert record.data["notes"] == []
    cat, dog = (sorted((pets / "pets" / "train" / name).iterdir())[0] for name in ("cat", "dog"))
    about, content = cat.stat(), cat.read_bytes()
    assert cat.stat().st_size == dog.stat().st_size
    cat.write_bytes(dog.read_bytes())
    dog.write_bytes(content)
    for path in (cat, dog):
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert good_record(means.home, "test", cell, pets) is None
    assert "have changed since" in caplog.text
    again = run_cell(cell, means, suite="test")
    assert again.data["fingerprint"] != record.data["fingerprint"]


def test_a_record_is_taken_where_the_files_are_gone(pets, runtime, tiny, tmp_path):
    means = dataclasses.replace(runtime, data=pets)
    cell = tiny(
        "local", data={"name": "folder", "path": "pets", "train_size": None, "test_size": None}
    )
    record = run_cell(cell, means, suite="test")
    assert good_record(means.home, "test", cell, tmp_path / "elsewhere")[1] == record


def test_failed_cells_have_no_good_record(runtime, tiny):
    cell = tiny("random_real", budget={"pixels": 10})
    run_cell(cell, runtime, suite="test")
    assert good_record(runtime.home, "test", cell, runtime.data) is None
