"""`fedbench show guidance` and `fedbench pretrain-diffusion` as a user types them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from fedbench.cli import show_guidance
from fedbench.cli.main import app
from fedbench.data.normalisation import Normalisation
from fedbench.errors import SettingsError
from fedbench.federation.loop import participants
from fedbench.models.factory import build
from fedbench.models.settings import Model
from fedbench.report.pictures.guidance import Images, over_steps, side_by_side
from fedbench.synthesis.diffusion import pretraining
from fedbench.synthesis.diffusion.priors import SCALES, network

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

INVERTED = {"name": "fedlmg", "prior": "none", "images_per_class": 1, "batch_size": 10, "epochs": 1}


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


def test_a_classifier_without_batch_norm_has_the_term_that_it_can_guide_by(
    compute, call, tmp_path, monkeypatch
):
    asked, side = {}, "fedbench.report.pictures.guidance.side_by_side"

    def spy(name, head, blocks, classes, *, count):
        asked[name] = {block: set(images.labels.tolist()) for block, images in blocks.items()}
        return side_by_side(name, head, blocks, classes, count=count)

    monkeypatch.setattr(side, spy)
    plain = {"models": {"name": "convnet", "width": 4, "depth": 2}, "data": {"image_size": 8}}
    few = {"partition": {"scheme": "classes_round_robin", "clients": 2, "classes_per_client": 2}}
    record = compute({**GUIDED, "batch_norm": 0}, **plain, **few)
    call("show", "guidance", record.cell_id, "--count", "2", "--out", tmp_path / "one")
    assert list(asked["guided-terms"]) == ["unguided", "cross entropy"]
    assert len(asked["guided-edits"]) == 3
    (own,) = {frozenset(found) for found in asked["guided-terms"].values()}
    assert own == asked["guided-client-0"]["its own images"]  # no class that it has never seen


def test_terms_that_a_cell_leaves_out_are_drawn_with_their_usual_weight(
    compute, call, tmp_path, monkeypatch
):
    ways, run = [], show_guidance._run

    def spy(model, sampler, teacher, guidance, *rest):
        ways.append(guidance)
        return run(model, sampler, teacher, guidance, *rest)

    monkeypatch.setattr(show_guidance, "_run", spy)
    record = compute({**GUIDED, "cross_entropy": 0}, **NET)
    call("show", "guidance", record.cell_id, "--count", "1", "--out", tmp_path / "one")
    weights = [(way.cross_entropy, way.batch_norm, way.scale) for way in ways[:4]]
    assert weights == [(1, 0.1, 0), (1, 0, 1), (0, 0.1, 1), (1, 0.1, 1)]


def test_without_a_prior_the_clients_images_are_all_and_other_methods_have_none(
    compute, call, tmp_path
):
    record = compute({**INVERTED, "descent_steps": 1}, **NET)
    call("show", "guidance", record.cell_id, "--out", tmp_path / "none")
    assert all(path.name.startswith("guided-client") for path in (tmp_path / "none").iterdir())
    other = compute({"name": "fedavg", "preset": "one_shot"}, **NET)
    with pytest.raises(SettingsError, match="guides no diffusion model"):
        call("show", "guidance", other.cell_id)


def test_what_guides_is_of_the_first_client_that_took_part_and_asked_as_the_cell_asks(
    tiny, monkeypatch
):
    models = [{"name": "convnet", "width": 4, "depth": 2}, NET["models"]]
    seed = next(n for n in range(50) if participants(n, 3, 0.4, 0)[0] == 2)
    method = {**GUIDED, "batch_norm": 0}
    cell = tiny(method, models=models, data=NET["data"], seed=seed, participation=0.4)
    cell = cell.model_copy(update={"precision": "bf16-mixed"})
    scale = Normalisation((0.5,), (0.5,))
    data = SimpleNamespace(channels=1, size=8, classes="abc", normalisation=lambda _: scale)
    kept = {
        "guide": build(Model(**NET["models"]), channels=1, size=8, classes=3, seed=1).state_dict(),
        "prior": network(SCALES["tiny"], 1, 8)[0].state_dict(),
    }
    monkeypatch.setattr(show_guidance, "read_output", lambda _, __, name: kept[name])
    teacher = show_guidance._teacher(None, None, cell, data)
    assert teacher.nets[0].state_dict().keys() == kept["guide"].keys()
    before = torch.get_rng_state()
    assert show_guidance._model(None, None, cell, cell.method, data, None).bf16
    assert torch.equal(torch.get_rng_state(), before)


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
    words += ["--subset-seed", 5]
    assert call(*words)[-1].endswith(f"{out}: trained")
    note = json.loads((out / "fedbench.json").read_text())
    assert (note["images"], note["count"], note["train_size"]) == ("unused", 37, 1400)
    assert note["subset_seed"] == 5
    assert note["shape"] == [3, 8, 8]
    sheet = Image.open(out / "samples" / "epoch-002.png")
    assert sheet.size == (6 * 8 * 4, 6 * 8 * 4)
    assert call(*words)[-1].endswith(f"{out}: is there already")


def test_images_have_one_channel_or_three(call, tmp_path):
    words = ["pretrain-diffusion", "--dataset", "digits", "--out", tmp_path, "--channels", 2]
    with pytest.raises(SettingsError, match=r"--channels 2: images have 1 \(grey\) or 3"):
        call(*words)


def test_unused_images_need_to_know_which_are_used(call, tmp_path):
    words = ["pretrain-diffusion", "--dataset", "digits", "--out", tmp_path]
    for more in (["--unused"], ["--train-size", "100"]):
        with pytest.raises(SettingsError, match="belong together"):
            call(*words, *more)
    with pytest.raises(SettingsError, match="--subset-seed 3 says which"):
        call(*words, "--subset-seed", 3)
