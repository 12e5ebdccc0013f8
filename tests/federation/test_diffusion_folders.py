"""Diffusion models as resources: folders, their sizes and digests, what is refused and why."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from fedbench.config import parse
from fedbench.errors import DataError, PrivacyError
from fedbench.federation.priors import NOTE, settings_of
from fedbench.federation.resources import Folders, Scene, declared, digests, why_not
from fedbench.seeding import isolated

SETTINGS = {"sample_size": 16, "in_channels": 1, "out_channels": 1}


@pytest.fixture
def folder(tmp_path):
    """A folder as diffusers writes it, with weights of no network."""
    place = tmp_path / "model"
    (place / "unet").mkdir(parents=True)
    (place / "unet" / "config.json").write_text(json.dumps(SETTINGS))
    (place / "scheduler").mkdir()
    (place / "scheduler" / "scheduler_config.json").write_text("{}")
    save_file({"w": torch.zeros(3)}, place / "unet" / "diffusion_pytorch_model.safetensors")
    return place


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path, tmp_path / "home")


def cell(**data):
    return parse({"data": {"name": "digits", **data}, "method": "local"})


def load(folders, of, name="diffusers:model", read=lambda _: None):
    return declared(name).load(Scene(of, 1, of.data.size, 10, folders, read))


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


def test_models_of_other_channels_or_classes_are_refused(folder, folders):
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps({**SETTINGS, "in_channels": 3, "out_channels": 3}))
    assert "images of 3 channels and the clients' have 1" in refusal(folders)
    config.write_text(json.dumps({**SETTINGS, "num_class_embeds": 4}))
    assert "takes 4 classes and the clients have 10" in refusal(folders)
    for classes in (10, 11):
        config.write_text(json.dumps({**SETTINGS, "num_class_embeds": classes}))
        assert refusal(folders) is None


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
    assert kind.privilege(cell(), folders).startswith("a diffusion model of unknown origin")
    note(folder)
    assert "the clients' own data set" in refusal(folders)
    with pytest.raises(PrivacyError, match="--unused"):
        load(folders, cell())
    note(folder, dataset="mnist")
    assert refusal(folders) is None
    assert kind.privilege(cell(), folders) is None
    note(folder, dataset="mnist", images="unused", count=5)
    assert kind.privilege(cell(), folders) is None  # of other clients' kind of images
    note(folder, images="unused", count=237, train_size=1200, subset_seed=0)
    assert refusal(folders, cell(train_size=1200)) is None
    assert "clients may hold them" in refusal(folders, cell(train_size=1300))
    assert kind.privilege(cell(train_size=1200), folders) == (
        "a diffusion model trained on 237 images of digits that no client holds"
    )


def write_vae(folder):
    (folder / "vae").mkdir()
    save_file({"w": torch.zeros(3)}, folder / "vae" / "diffusion_pytorch_model.safetensors")


def test_prompts_are_those_prepared_or_need_a_text_encoder(folder, folders):
    write_vae(folder)
    assert "images of 3 channels and the clients' have 1" in refusal(folders)
    photos = cell(name="cifar10")
    prompts = torch.rand(11, 4, 8)
    save_file({"prompts": prompts}, folder / "prompts.safetensors")
    assert torch.equal(load(folders, photos).tensors["prompts"], prompts)
    save_file({"prompts": prompts[:4]}, folder / "prompts.safetensors")
    with pytest.raises(DataError, match=r"shape \(4, 4, 8\).*one for each of 10 classes"):
        load(folders, photos)


LETTERS = "abcdefghijklmnopqrstuvwxyz"


def write_text_encoder(folder):
    """Stable Diffusion's tokenizer and text encoder, tiny: it spells, and takes 16 letters."""
    from transformers import CLIPTextConfig, CLIPTextModel

    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    files = {
        "vocab.json": json.dumps({word: place for place, word in enumerate(words)}),
        "merges.txt": "#version: 0.2\n",
        "tokenizer_config.json": json.dumps({"model_max_length": 16}),
    }
    (folder / "tokenizer").mkdir()
    for name, text in files.items():
        (folder / "tokenizer" / name).write_text(text)
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
    )
    with isolated(0):
        CLIPTextModel(config).save_pretrained(folder / "text_encoder")


def test_prompts_name_the_classes_and_the_folders_text_encoder_reads_them(folder, folders):
    write_vae(folder)
    write_text_encoder(folder)
    photos = cell(name="cifar10")

    def read(_):
        return SimpleNamespace(classes=("airplane", *"bcdefghij"))

    prompts = load(folders, photos, read=read).tensors["prompts"]
    assert prompts.shape == (11, 16, 8)
    assert not prompts.requires_grad
    assert len({tuple(one.flatten().tolist()) for one in prompts}) == 11
    again = load(folders, photos, read=read).tensors["prompts"]
    assert torch.equal(again, prompts)  # nothing is drawn
    before = digests(["diffusers:model"], folders)
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\na n</w>\n")
    assert digests(["diffusers:model"], folders) != before  # what reads prompts is a part of it
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(DataError, match=r"has no tokenizer; copy the whole pipeline, or put .*"):
        load(folders, photos, read=read)
