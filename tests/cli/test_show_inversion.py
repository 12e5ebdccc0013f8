"""`fedbench show inversion` as a user types it, on records of tiny cells."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fedbench.cli.main import app
from fedbench.cli.show_inversion import _confused
from fedbench.errors import SettingsError
from fedbench.report.pictures.inversion import Made, over_time

METHOD = {
    "name": "deep_inversion",
    "steps": 2,
    "initial_batches": 2,
    "student_epochs": 2,
    "steps_per_epoch": 2,
    "batch_size": 8,
}
RESNET = {"models": {"name": "resnet8", "width": 4}}
HALF = {"partition": {"scheme": "classes_round_robin", "clients": 1, "classes_per_client": 5}}


@pytest.fixture
def call(home, monkeypatch):
    """Call a command and return its lines, or let its error out."""
    monkeypatch.setattr("fedbench.session.console.stdout.width", 300, raising=False)

    def run(*words):
        result = CliRunner().invoke(app, [str(word) for word in words])
        if result.exception:
            raise result.exception
        return result.output.splitlines()

    return run


def test_cycling_has_a_sheet_for_each_client_and_stands_beside_sampling(compute, call, tmp_path):
    cycling = compute({**METHOD, "draw": "cycle"}, **RESNET)
    sampling = compute(METHOD, **RESNET)
    call("show", "inversion", cycling.cell_id, "--out", tmp_path / "one")
    names = {path.name for path in (tmp_path / "one").iterdir()}
    sheets = {f"inverted-client-{k}.png" for k in range(3)}
    assert names == sheets | {"fresh.png", "fresh.svg", "confusion.png", "confusion.svg"}
    assert all(Image.open(tmp_path / "one" / name).size[0] > 300 for name in sheets)
    call("show", "inversion", sampling.cell_id, "--out", tmp_path / "two")
    assert (tmp_path / "two" / "inverted.png").exists()
    beside = ["--beside", sampling.cell_id, "--out", tmp_path / "three"]
    call("show", "inversion", cycling.cell_id, *beside)
    assert [path.name for path in (tmp_path / "three").iterdir()] == ["inverted-beside.png"]


def test_the_confusion_matrix_is_that_of_the_records_accuracy_and_knows_owned_classes(
    compute, runtime
):
    record = compute({**METHOD, "own": "unassigned", "learn": "labels"}, **RESNET, **HALF)
    path = runtime.home / "test" / "records" / f"{record.cell_id}.json"
    matrix, owned = _confused(path, record)
    assert matrix.sum() == 60
    assert np.trace(matrix) / 60 == pytest.approx(record.metrics["accuracy"])
    assert (owned == (np.array(record.partition["histogram"])[0] == 0)).all()


def test_images_stand_in_order_of_their_batches():
    images = np.zeros((4, 1, 8, 8), dtype=np.uint8)
    made = Made(images, np.array([1, 1, 1, 0]), np.array([5, 0, 3, 2]))
    drawing = over_time("x", ["X"], [("", made)], ["a", "b", "c"]).drawing
    words = [text.get_text() for axes in drawing.axes for text in axes.texts]
    assert [word for word in words if word.isdigit()] == ["2", "0", "3", "5"]
    assert {"a", "b"} <= {*words}
    assert "c" not in words


def test_a_cell_of_another_method_has_nothing_to_show(compute, call):
    record = compute({"name": "ensemble"})
    with pytest.raises(SettingsError, match="inverts no models"):
        call("show", "inversion", record.cell_id)
