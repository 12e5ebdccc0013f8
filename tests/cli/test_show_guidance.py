"""`fedbench show guidance` and `fedbench pretrain-diffusion` as a user types them."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fedbench.cli.main import app
from fedbench.errors import SettingsError
from fedbench.report.pictures.guidance import Images, over_steps, side_by_side
from fedbench.synthesis import pretraining

NET = {"models": {"name": "resnet8", "width": 4}, "data": {"image_size": 8}}
SKEW = {"partition": {"domains": ["plain", "invert", "edge"]}}
GUIDED = {
    "name": "fedlmg",
    "prior": "unused@30",
    "prior_steps": 2,
    "images_per_class": 1,
    "batch_size": 10,
    "steps": 3,
    "epochs": 1,
}


@pytest.fixture
def call(home, monkeypatch):
    """Call a command and return its lines, or let its error out."""
    monkeypatch.setattr("fedbench.cli.console.stdout.width", 300, raising=False)

    def run(*words):
        result = CliRunner().invoke(app, [str(word) for word in words])
        if result.exception:
            raise result.exception
        return result.output.splitlines()

    return run


def test_a_cell_has_sheets_of_clients_terms_and_edits_and_curves_over_the_steps(
    compute, call, tmp_path
):
    record = compute(GUIDED, **NET, **SKEW)
    call("show", "guidance", record.cell_id, "--count", "2", "--out", tmp_path / "one")
    names = {path.name for path in (tmp_path / "one").iterdir()}
    curves = {
        f"guided-{name}.{end}" for name in ("confidence", "batch-norm") for end in ("png", "svg")
    }
    sheets = {"guided-terms.png", "guided-edits.png"}
    clients = {f"guided-client-{k}.png" for k in range(3)}
    assert names == curves | sheets | clients
    assert Image.open(tmp_path / "one" / "guided-terms.png").size[0] > 300


def test_without_a_prior_the_clients_images_are_all_and_other_methods_have_none(
    compute, call, tmp_path
):
    record = compute({**GUIDED, "prior": "none", "descent_steps": 1}, **NET)
    call("show", "guidance", record.cell_id, "--out", tmp_path / "none")
    assert all(path.name.startswith("guided-client") for path in (tmp_path / "none").iterdir())
    other = compute({"name": "fedavg", "preset": "one_shot"}, **NET)
    with pytest.raises(SettingsError, match="guides no diffusion model"):
        call("show", "guidance", other.cell_id)


def test_sheets_leave_out_classes_that_nobody_has_and_curves_what_is_not_known():
    images = Images(np.zeros((3, 1, 8, 8), np.uint8), np.array([0, 0, 2]))
    sketch = side_by_side("a", ["head"], {"x": images, "y": images}, ["a", "b", "c"], count=1)
    assert sketch.name == "a"
    texts = [text.get_text() for text in sketch.drawing.axes[0].texts]
    assert "b" not in texts
    values = {"x": np.array([0.1, np.nan, 0.4])}
    lines = over_steps("b", "head", [900, 500, 100], values, "distance").drawing.axes[0].lines
    assert len(lines) == 1


def test_a_prior_is_trained_with_sheets_and_is_there_already_the_next_time(
    call, tmp_path, monkeypatch
):
    monkeypatch.setattr(pretraining, "_EPOCHS", 2)
    monkeypatch.setattr(pretraining, "_STEPS", 2)
    out = tmp_path / "prior"
    words = ["pretrain-diffusion", "--dataset", "digits", "--out", out, "--image-size", 8]
    words += ["--steps", 2, "--device", "cpu", "--unused", "--train-size", 1400, "--channels", 3]
    assert call(*words)[-1].endswith(f"{out}: trained")
    note = json.loads((out / "fedbench.json").read_text())
    assert (note["images"], note["count"], note["train_size"]) == ("unused", 37, 1400)
    assert note["shape"] == [3, 8, 8]
    sheet = Image.open(out / "samples" / "epoch-002.png")
    assert sheet.size == (6 * 8 * 4, 6 * 8 * 4)
    assert call(*words)[-1].endswith(f"{out}: is there already")


def test_unused_images_need_to_know_which_are_used(call, tmp_path):
    words = ["pretrain-diffusion", "--dataset", "digits", "--out", tmp_path]
    for more in (["--unused"], ["--train-size", "100"]):
        with pytest.raises(SettingsError, match="belong together"):
            call(*words, *more)
