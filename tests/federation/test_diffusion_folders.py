"""Diffusion models as resources: folders, their sizes and digests, what is refused and why."""

import json

import pytest
import torch
from safetensors.torch import save_file

from fedbench.config import parse
from fedbench.errors import DataError, PrivacyError
from fedbench.federation.priors import NOTE, settings_of
from fedbench.federation.resources import Folders, Scene, declared, digests, why_not

SETTINGS = {"sample_size": 16, "in_channels": 1, "out_channels": 1}


@pytest.fixture
def folder(tmp_path):
    """A folder as diffusers writes it, with weights of no network."""
    place = tmp_path / "model"
    (place / "unet").mkdir(parents=True)
    (place / "unet" / "config.json").write_text(json.dumps(SETTINGS))
    save_file({"w": torch.zeros(3)}, place / "unet" / "diffusion_pytorch_model.safetensors")
    return place


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path, tmp_path / "home")


def cell(**data):
    return parse({"data": {"name": "digits", **data}, "method": "local"})


def load(folders, of, name="diffusers:model"):
    return declared(name).load(Scene(of, 1, of.data.size, 10, folders, lambda _: None))


def test_a_folder_has_a_size_and_a_digest_of_all_its_files(folder, folders):
    found = load(folders, cell())
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    assert found.size_bytes == weights.stat().st_size
    assert found.folder == folder
    assert found.pixels == 0
    first = digests(["diffusers:model"], folders)
    assert first == {"diffusers:model": found.digest}
    (folder / "samples.png").write_bytes(b"no part of it")
    assert digests(["diffusers:model"], folders) == first
    save_file({"w": torch.ones(3)}, weights)
    assert digests(["diffusers:model"], folders) != first
    assert digests(["diffusers:elsewhere"], folders) == {}


def test_an_absolute_path_is_taken_as_it_is(folder, folders):
    assert load(folders, cell(), f"diffusers:{folder}").folder == folder


def refusal(folders, of=None):
    return why_not(["diffusers:model"], cell() if of is None else of, folders)


def test_models_of_another_size_or_with_variances_are_refused(folder, folders):
    assert refusal(folders) is None
    assert "16x16 and the clients' have 8x8" in refusal(folders, cell(image_size=8))
    with pytest.raises(DataError, match=r"set data\.image_size to 16"):
        load(folders, cell(image_size=8))
    (folder / "unet" / "config.json").write_text(json.dumps({**SETTINGS, "out_channels": 2}))
    assert "variances" in refusal(folders)


def test_a_pickle_is_never_read(folder, folders):
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"pickled")
    assert refusal(folders) is None  # the safetensors beside it are taken
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert "is a pickle, which is never read" in refusal(folders)
    with pytest.raises(DataError, match="safe_serialization=True"):
        load(folders, cell())


def test_what_is_not_there_may_come_and_what_is_no_model_is_named(folder, folders):
    assert why_not(["diffusers:nowhere"], cell(), folders) is None
    with pytest.raises(DataError, match="pretrain-diffusion"):
        load(folders, cell(), "diffusers:nowhere")
    (folder / "unet" / "config.json").write_text("{")
    with pytest.raises(DataError, match="is not the settings of a network"):
        settings_of(folder)
    (folder / "unet" / "config.json").unlink()
    assert "no diffusion model that is known" in refusal(folders)


def note(folder, **values):
    (folder / NOTE).write_text(json.dumps({"dataset": "digits", "images": "all", **values}))


def test_a_model_of_the_clients_own_images_is_refused_and_one_of_unused_ones_a_privilege(
    folder, folders
):
    kind = declared("diffusers:model")
    assert kind.privilege(folders) is None
    note(folder)
    assert "the clients' own data set" in refusal(folders)
    with pytest.raises(PrivacyError, match="--unused"):
        load(folders, cell())
    note(folder, dataset="mnist")
    assert refusal(folders) is None
    assert kind.privilege(folders) is None
    note(folder, images="unused", count=237, train_size=1200, subset_seed=0)
    assert refusal(folders, cell(train_size=1200)) is None
    assert "clients may hold them" in refusal(folders, cell(train_size=1300))
    assert kind.privilege(folders) == (
        "a diffusion model trained on 237 images of digits that no client holds"
    )


def test_prompts_are_those_prepared_or_need_a_text_encoder(folder, folders):
    (folder / "vae").mkdir()
    prompts = torch.rand(11, 4, 8)
    save_file({"prompts": prompts}, folder / "prompts.safetensors")
    assert torch.equal(load(folders, cell()).tensors["prompts"], prompts)
    save_file({"prompts": prompts[:4]}, folder / "prompts.safetensors")
    with pytest.raises(DataError, match="4 prompts; give one for each of 10 classes"):
        load(folders, cell())
