"""`fedbench show` and `fedbench export` as a user types them, on records of tiny cells."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.runtime import Runtime
from fedbench.bench.records.record import Record, record_path, write_record
from fedbench.cli.main import app
from fedbench.data.load import load
from fedbench.data.normalisation import Normalisation
from fedbench.data.settings import Data
from fedbench.errors import DataError, SettingsError, StoreError
from fedbench.federation.synthetic import SyntheticSet
from fedbench.methods import METHODS
from fedbench.methods.single_image import crops_of
from fedbench.plugins import load_plugin
from fedbench.report.pictures import sets

IMAGE = {
    "name": "single_image",
    "image": "noise",
    "crops": 60,
    "selected": 20,
    "steps": 4,
    "batch_size": 8,
    "selection": {"clusters": 5, "prune_share": 0.5},
}
SHARED = {"budget": {"pixels": 64 * 96}}


def made(number, **over):
    values = {
        "cell_id": f"abc{number}",
        "status": "ok",
        "suite": "toy",
        "settings": {
            "data": {"name": "digits"},
            "partition": {"scheme": "iid", "clients": 5},
            "method": {"name": "fedavg", "preset": None},
            "seed": number,
        },
        "versions": {},
        "metrics": {"accuracy": 0.5, "models": {}},
        "data": {"classes": ["a"]},
        "partition": {"histogram": [[1] * 10] * 5},
    }
    return Record(**{**values, **over})


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


@pytest.fixture
def keep(home):
    """Keep a record made by hand with a shared set as its output."""

    def write(images, labels, classes, settings=None, **over):
        shared = SyntheticSet(
            images, labels, Normalisation((0.5,) * images.shape[1], (0.25,) * images.shape[1])
        )
        record = made(0, data={"classes": classes, "size": images.shape[-1], "test": 10}, **over)
        record.settings["method"] |= settings or {}
        record.outputs["synthetic"] = shared.save(home / "toy" / "outputs")
        write_record(record_path(home, "toy", record.cell_id), record)
        return record, shared

    return write


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_each_round_of_a_single_image_has_its_pictures(call, compute, home):
    record = compute({**IMAGE, "rounds": 2}, **SHARED)
    said = call("show", "patches", record.cell_id[:8], "--map", "pca")
    folder = home / "test" / "pictures" / record.cell_id
    kinds = ("patches-round-{}.png", "patches-round-{}.svg", "image-round-{}.png")
    kinds += ("map-round-{}.png", "map-round-{}.svg")
    files = sorted(kind.format(number) for kind in kinds for number in (1, 2))
    assert names(folder) == files
    assert sorted(said) == [str(folder / name) for name in files]
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = home / "elsewhere"
    again = ("show", "patches", f"test/{record.cell_id}", "--round", 2, "--out", other)
    call(*again, "--map", "pca")
    assert names(other) == sorted(kind.format(2) for kind in kinds)
    assert all((other / name).read_bytes() == first[name] for name in names(other))
    call(*again)  # few enough for t-SNE
    assert (other / "map-round-2.svg").read_bytes() != first["map-round-2.svg"]
    with pytest.raises(SettingsError, match="has rounds 1 to 2"):
        call("show", "patches", record.cell_id, "--round", 3)


PLUGIN = """
from fedbench.methods.single_image import SingleImage
class Mine(SingleImage):
    name = "mine"
"""


def test_the_crops_of_a_plugins_method_are_drawn_with_the_plugin(call, compute, home, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    load_plugin(str(plugin))
    try:
        record = compute({**IMAGE, "name": "mine"}, **SHARED)
        METHODS._loaded.pop("mine")
        with pytest.raises(SettingsError, match="no method 'mine'"):
            call("show", "patches", record.cell_id)
        call("show", "patches", record.cell_id, "--map", "pca", "--plugin", plugin)
    finally:
        METHODS._loaded.pop("mine", None)
    assert "image-round-1.png" in names(home / "test" / "pictures" / record.cell_id)


def test_what_is_drawn_is_the_bank_that_the_cell_had(call, compute, home, monkeypatch):
    record = compute({**IMAGE, "flip": "both"}, **SHARED)
    drawn = {}
    monkeypatch.setattr(
        "fedbench.report.pictures.crops.selection_sheet",
        lambda *args, **options: drawn.update(bank=args[2], chosen=args[5]),
    )
    with pytest.raises(AttributeError):  # there is no sheet to write
        call("show", "patches", record.cell_id)
    (file,) = (home / "artefacts" / "crops").glob("*.safetensors")
    assert (drawn["bank"] == load_file(file)["crops"].numpy()).all()
    kept = load_file(home / "test" / "outputs" / f"{record.outputs['selection']}.safetensors")
    assert (drawn["chosen"] == kept["0/chosen"].numpy()).all()


def test_outlines_are_those_of_the_crops():
    config = METHODS.get("single_image").Config(**{**IMAGE, "name": "single_image"})
    crops = crops_of(config, size=16, seed=3)
    assert (crops.count, crops.size) == (60, 16)
    assert (
        crops.seed
        == crops_of(config, size=32, seed=3).seed
        != crops_of(config, size=16, seed=4).seed
    )
    ramp = torch.arange(200, dtype=torch.uint8).repeat(120, 1)  # its grey level is x
    picture = ramp[None]
    bank, corners = crops.bank(picture), crops.outlines(picture, torch.arange(60))
    middles = bank[:, 0, 7:9, 7:9].float().mean((1, 2))
    plain = (middles - corners[..., 0].mean(1)).abs() < 3  # half of the crops change their levels
    assert plain.float().mean() > 0.4


def test_a_picture_that_is_gone_or_has_changed_is_an_error(call, tiny, home, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDBENCH_DATA", str(tmp_path))
    file = tmp_path / "street.png"
    grey = np.arange(64 * 96, dtype=np.uint8).reshape(64, 96)
    Image.fromarray(grey).save(file)
    runtime = Runtime(home=home, data=tmp_path, device="cpu", threads=1, offline=True)
    cell = tiny({**IMAGE, "image": "street.png"}, **SHARED)
    record = run_cell(cell, runtime, suite="test")
    assert record.status == "ok", record.traceback
    file.rename(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"there is no picture .*street\.png"):
        call("show", "patches", record.cell_id)
    Image.fromarray(grey.T.copy()).save(file)
    with pytest.raises(DataError, match="has changed since"):
        call("show", "patches", record.cell_id)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "patches", "abc0"], "fedavg, which selects no crops; a cell of single_image"),
        (["show", "synthetic", "abc0"], "fedavg, which leaves no shared images"),
        (["show", "generated", "abc0"], "fedavg, which has no generator; a cell of dense or co_"),
        (["export", "abc0"], "neither images nor models"),
        (["show", "synthetic", "abc1"], "failed and left nothing to show: no luck"),
        (["show", "synthetic", "abc"], "beginning of 2 cell ids: abc0, abc1"),
        (["show", "synthetic", "toy/abd"], "nothing called 'toy/abd' here; give a cell id"),
        (["show", "synthetic", "other/abc0"], "nothing called"),
        (["show", "synthetic", "toy/"], "nothing called"),
        (["show", "synthetic", "*"], "nothing called"),
    ],
)
def test_what_cannot_be_shown_says_why(call, home, words, message):
    for record in (made(0), made(1, status="failed", reason="no luck")):
        write_record(record_path(home, "toy", record.cell_id), record)
    with pytest.raises(SettingsError, match=message.replace("*", r"\*")):
        call(*words)


def test_a_set_is_found_from_a_records_file_and_drawn(call, keep, home, tmp_path):
    images = torch.randint(256, (6, 3, 8, 8)).to(torch.uint8)
    record, _ = keep(images, torch.tensor([0, 0, 1, 1, 1, 1]), ["cat", "dog"])
    path = home / "toy" / "records" / f"{record.cell_id}.json"
    call("show", "synthetic", path)
    folder = home / "toy" / "pictures" / record.cell_id
    assert names(folder) == ["synthetic.png", "synthetic.svg"]
    copy = tmp_path / "leaderboards" / "toy" / "records" / path.name
    copy.parent.mkdir(parents=True)
    copy.write_bytes(path.read_bytes())
    call("show", "synthetic", copy, "--out", tmp_path / "out")
    assert (tmp_path / "out" / "synthetic.png").read_bytes() == (
        folder / "synthetic.png"
    ).read_bytes()


def test_outputs_that_are_gone_or_damaged_are_errors(call, keep, home):
    record, _ = keep(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), ["cat", "dog"])
    (file,) = (home / "toy" / "outputs").iterdir()
    whole = file.read_bytes()
    normalisation = Normalisation((0.5,), (0.25,))
    other = SyntheticSet(torch.ones(2, 1, 8, 8), torch.tensor([0, 1]), normalisation)
    written = other.save(home / "toy")
    (home / "toy" / f"{written}.safetensors").replace(file)
    with pytest.raises(StoreError, match="not what its name says"):
        call("show", "synthetic", record.cell_id)
    file.write_bytes(b"half a file")
    with pytest.raises(StoreError, match="damaged"):
        call("export", record.cell_id)
    assert not (home / "toy" / "exports" / record.cell_id / "train").exists()
    file.unlink()
    with pytest.raises(StoreError, match=r"is not here .* compute it again: fedbench run"):
        call("show", "synthetic", record.cell_id)
    again = home / "reproduced" / "outputs" / file.name  # where `run --record` leaves it
    again.parent.mkdir(parents=True)
    again.write_bytes(whole)
    call("show", "synthetic", record.cell_id)


def test_cd_4_canvases_are_drawn_before_and_after_expansion(call, keep, monkeypatch):
    canvases = torch.zeros(4, 1, 8, 8)
    for number in range(4):  # of canvas n, tile t at (row, column) is 2n + t / 10
        for tile, (row, column) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
            place = canvases[number, 0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            place.fill_((0.2 * number + 0.04 * tile - 0.5) / 0.25)
    record, _ = keep(canvases, torch.tensor([0, 1, 0, 1]), ["cat", "dog"], {"expand": 2})
    drawn = {}

    whole = sets.set_sheet

    def spy(name, header, images, labels, classes, **how):
        drawn[name] = images, labels, how
        return whole(name, header, images, labels, classes, **how)

    monkeypatch.setattr(sets, "set_sheet", spy)
    call("show", "synthetic", record.cell_id)
    images, labels, how = drawn["synthetic-expanded"]
    levels = [round(float(image.mean()) / 255, 2) for image in images]
    assert levels == [round(0.2 * n + 0.04 * t, 2) for n in range(4) for t in range(4)]
    assert labels.tolist() == [0] * 4 + [1] * 4 + [0] * 4 + [1] * 4
    assert how["group"] == 4
    assert len(drawn["synthetic"][0]) == 4


def test_exported_pixels_are_read_back_by_the_folder_data_set(call, compute, home, tmp_path):
    record = compute({"name": "random_real"}, budget={"ipc": 2})
    out = tmp_path / "data" / "shared"
    said = call("export", record.cell_id, "--out", out)
    assert said == [f"2 outputs of random_real in {out}"]
    assert names(out) == ["README.txt", "models", "record.json", "synthetic.safetensors", "train"]
    kept = home / "test" / "outputs"
    digest = record.outputs["synthetic"]
    assert (out / "synthetic.safetensors").read_bytes() == (
        kept / f"{digest}.safetensors"
    ).read_bytes()
    model = kept / f"{record.outputs['global']}.safetensors"
    assert (out / "models" / "global.safetensors").read_bytes() == model.read_bytes()
    assert json.loads((out / "record.json").read_text()) == record.model_dump(mode="json")
    text = (out / "README.txt").read_text()
    assert "exact pixels" in text
    assert "random_real on digits, iid, 3 clients, seed 0" in text
    (out / "test").mkdir()
    (out / "train" / "0").rename(out / "test" / "0")  # any images will do for testing
    (out / "train" / "0").mkdir()
    for path in (out / "test" / "0").iterdir():
        (out / "train" / "0" / path.name).write_bytes(path.read_bytes())
    settings = Data(name="folder", path="shared", train_size=None, test_size=None, image_size=16)
    found = load(settings, root=tmp_path / "data", cache=home / "cache", offline=True)
    shared = SyntheticSet.load(out / "synthetic.safetensors")
    order = shared.labels.argsort(stable=True)
    assert torch.equal(found.train.labels, shared.labels[order])
    assert torch.equal(found.train.images, shared.images[order])


def test_exports_of_floats_say_what_png_files_lose(call, keep, home):
    images = torch.linspace(-4, 4, 3 * 3 * 64).reshape(3, 3, 8, 8)
    record, shared = keep(
        images, torch.tensor([0, 1, 2]), ["T-shirt/top", "a:b", "a/b"], {"expand": 2}
    )
    call("export", "abc0")
    out = home / "toy" / "exports" / record.cell_id
    text = (out / "README.txt").read_text()
    assert "clipped (50.00 % of all)" in text
    assert "canvas of 2x2 tiles" in text
    assert "0 T-shirt/top, 1 a:b, 2 a/b" in text
    assert names(out / "train") == ["T-shirt-top", "a-b-1", "a-b-2"]
    pixels = np.asarray(Image.open(out / "train" / "a-b-1" / "1.png"))
    wanted = ((shared.images[1].double() * 0.25 + 0.5).clamp(0, 1) * 255).round()
    assert (pixels.transpose(2, 0, 1) == wanted.numpy()).all()
    assert torch.equal(load_file(out / "synthetic.safetensors")["images"], images)


def test_an_export_does_not_mix_with_other_files(call, keep, tmp_path):
    record, _ = keep(torch.zeros(1, 1, 8, 8), torch.tensor([0]), ["cat"])
    out = tmp_path / "out"
    call("export", record.cell_id, "--out", out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    call("export", record.cell_id, "--out", out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    keep(torch.ones(1, 1, 8, 8), torch.tensor([0]), ["cat"])
    with pytest.raises(SettingsError, match="holds other files"):
        call("export", record.cell_id, "--out", out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    with pytest.raises(SettingsError, match="holds other files"):
        call("export", record.cell_id, "--out", Path(__file__).parent)
    for text in ("", "[]", "{"):
        (tmp_path / "own").mkdir(exist_ok=True)
        (tmp_path / "own" / "record.json").write_text(text)
        with pytest.raises(SettingsError, match="holds other files"):
            call("export", record.cell_id, "--out", tmp_path / "own")
        assert (tmp_path / "own" / "record.json").read_text() == text
    with pytest.raises(SettingsError, match="is a file; give a folder"):
        call("export", record.cell_id, "--out", Path(__file__))


def test_several_sets_are_drawn_and_exported_apart(call, keep, home, monkeypatch):
    images, labels = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 1, 0])
    record, shared = keep(images, torch.eye(2)[labels], ["cat", "dog"])
    base = SyntheticSet(torch.zeros_like(images), labels, shared.normalisation, labels.clone())
    record.outputs["synthetic/base"] = base.save(home / "toy" / "outputs")
    write_record(record_path(home, "toy", record.cell_id), record)
    heads, whole = {}, sets.set_sheet

    def spy(name, header, *what, **how):
        heads[name] = " ".join(header)
        return whole(name, header, *what, **how)

    monkeypatch.setattr(sets, "set_sheet", spy)
    call("show", "synthetic", record.cell_id)
    pictures = home / "toy" / "pictures" / record.cell_id
    stems = ("synthetic-base", "synthetic")
    assert names(pictures) == [f"{stem}.{end}" for stem in stems for end in ("png", "svg")]
    assert "soft labels of 32 bytes" in heads["synthetic"]
    assert "Images `base` beside those shared by" in heads["synthetic-base"]
    call("export", record.cell_id)
    out = home / "toy" / "exports" / record.cell_id
    assert names(out / "train" / "cat") == names(out / "synthetic-base" / "train" / "cat")
    assert SyntheticSet.load(out / "synthetic-base.safetensors").origin.tolist() == [0, 1, 1, 0]
    text = (out / "README.txt").read_text()
    assert "in synthetic-base/train/CLASS/NUMBER.png" in text
    assert "labels (N, classes), a number for each class" in text
    assert "origin (N,), the client, or -1" in text


@pytest.mark.parametrize(("method", "files"), [("dense", []), ("co_boosting", ["shares"])])
def test_what_generators_made_is_drawn_and_so_are_learnt_weights(
    call, compute, home, method, files
):
    small = {"epochs": 2, "steps": 1, "batch_size": 30, "noise": 4, "width": 2}
    record = compute({"name": method, **small, "batch_norm": 0})
    call("show", "generated", record.cell_id)
    folder = home / "test" / "pictures" / record.cell_id
    stems = ["generated", *files]
    assert names(folder) == sorted(f"{stem}.{kind}" for stem in stems for kind in ("png", "svg"))
