"""Folders of diffusion models: what is refused before anything is computed, and what when read."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from fedbench.bench.suites.plan import planned
from fedbench.config import parse
from fedbench.errors import DataError, SettingsError
from fedbench.federation.priors import NOTE, PROMPTS
from fedbench.federation.resources import Folders, Scene, declared
from fedbench.seeding import isolated
from fedbench.synthesis.diffusion.priors import of_folder

CPU = torch.device("cpu")
WEIGHTS = "diffusion_pytorch_model.safetensors"


def pixels(folder, **settings):
    """Write a small pipeline in pixel space, as diffusers does."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    small = {
        "sample_size": 8,
        "in_channels": 1,
        "out_channels": 1,
        "block_out_channels": (8, 8),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "norm_num_groups": 4,
    }
    with isolated(0):
        net = UNet2DModel(**{**small, **settings})
    DDPMPipeline(net, DDPMScheduler(num_train_timesteps=100)).save_pretrained(
        folder, safe_serialization=True
    )
    return folder


def latents(folder, prompts):
    """Write the parts of a small latent pipeline, and embeddings of prompts."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel

    with isolated(0):
        net = UNet2DConditionModel(
            sample_size=4,
            block_out_channels=(8, 8),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=8,
            attention_head_dim=4,
            norm_num_groups=4,
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
        )
    net.save_pretrained(folder / "unet", safe_serialization=True)
    vae.save_pretrained(folder / "vae", safe_serialization=True)
    DDPMScheduler(num_train_timesteps=100).save_pretrained(folder / "scheduler")
    save_file(prompts, folder / PROMPTS)
    return folder


def refused(folder, **data):
    """Return why a cell with the folder is skipped when it is planned."""
    settings = {
        "data": {"name": "digits", "image_size": 8, **data},
        "models": {"name": "resnet8", "width": 4},
        "method": {"name": "fedlmg", "prior": f"diffusers:{folder}"},
    }
    return planned(parse(settings)).skip


def loaded(folder, name="digits", channels=1, size=8):
    cell = parse({"data": {"name": name, "image_size": size}, "method": "local"})
    scene = Scene(cell, channels, size, 10, Folders(folder, folder), lambda _: None)
    return declared(f"diffusers:{folder}").load(scene)


def test_a_whole_folder_is_not_refused(tmp_path):
    assert refused(pixels(tmp_path / "a")) is None
    assert refused(pixels(tmp_path / "b", sample_size=(8, 8))) is None


def test_a_model_told_the_classes_of_other_data_is_refused(tmp_path):
    folder = pixels(tmp_path / "told", num_class_embeds=11)
    assert refused(folder) is None
    (folder / NOTE).write_text(json.dumps({"dataset": "fashion_mnist", "images": "all"}))
    assert "told the classes of fashion_mnist, which are not those of digits" in refused(folder)
    plain = pixels(tmp_path / "plain")
    (plain / NOTE).write_text(json.dumps({"dataset": "fashion_mnist", "images": "all"}))
    assert refused(plain) is None


def test_a_checkpoint_beside_the_parts_is_not_looked_at(tmp_path):
    folder = pixels(tmp_path / "a")
    (folder / "model.ckpt").write_bytes(b"\x80")
    assert refused(folder) is None
    (folder / "unet" / WEIGHTS).rename(folder / "unet" / "diffusion_pytorch_model.bin")
    assert "unet/diffusion_pytorch_model.bin is a pickle, which is never read" in refused(folder)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: (folder / "unet" / WEIGHTS).unlink(), f"has no {WEIGHTS}"),
        (lambda folder: truncate(folder / "unet" / WEIGHTS), "is damaged"),
        (
            lambda folder: (folder / "scheduler" / "scheduler_config.json").write_text("{"),
            "is not the settings of a scheduler",
        ),
        (
            lambda folder: (folder / "scheduler" / "scheduler_config.json").unlink(),
            "nobody knows what its network predicts",
        ),
        (lambda folder: (folder / "unet" / "config.json").write_text("["), "not the settings"),
        (lambda folder: (folder / "vqvae").mkdir(), "codes of a VQ-VAE"),
        (lambda folder: rename_class(folder), "its network is a Transformer2DModel"),
        (lambda folder: (folder / "vae").mkdir(), "pipelines with a VAE have a UNet2DConditionMod"),
    ],
)
def test_what_cannot_be_read_is_refused_before_anything_is_computed(tmp_path, harm, words):
    folder = pixels(tmp_path / "a")
    harm(folder)
    assert words in refused(folder)


def truncate(file):
    file.write_bytes(file.read_bytes()[:-40])


def rename_class(folder):
    place = folder / "unet" / "config.json"
    settings = json.loads(place.read_text())
    place.write_text(json.dumps({**settings, "_class_name": "Transformer2DModel"}))


def test_a_folder_that_lacks_weights_is_not_filled_up_with_random_ones(tmp_path):
    folder = pixels(tmp_path / "a")
    place = folder / "unet" / WEIGHTS
    weights = load_file(place)
    kept = dict(list(weights.items())[2:])
    save_file(kept, place, {"format": "pt"})
    with pytest.raises(DataError, match="lacks 2 weights of its UNet2DModel, such as"):
        of_folder(loaded(folder), CPU, size=8, classes=10)
    save_file(weights, place, {"format": "pt"})
    of_folder(loaded(folder), CPU, size=8, classes=10)


def test_prompts_in_half_precision_are_read_in_whole(tmp_path):
    folder = latents(tmp_path / "a", {"prompts": torch.randn(11, 3, 8).half()})
    found = loaded(folder, "cifar10", 3, 32)
    assert found.tensors["prompts"].dtype == torch.float32
    model = of_folder(found, CPU, size=32, classes=10)
    model.ask(torch.randn(1, 4, 4, 4), 5, torch.tensor([1]))


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ({"other": torch.zeros(11, 3, 8)}, "holds prompts of shape None"),
        ({"prompts": torch.zeros(10, 3, 8)}, r"shape \(10, 3, 8\).*\(11, length, 8\)"),
        ({"prompts": torch.zeros(11, 3, 9)}, r"shape \(11, 3, 9\)"),
        ({"prompts": torch.zeros(11, 8)}, r"shape \(11, 8\)"),
    ],
)
def test_prompts_of_another_shape_are_named(tmp_path, prompts, words):
    folder = latents(tmp_path / "a", prompts)
    with pytest.raises(DataError, match=words):
        loaded(folder, "cifar10", 3, 32)


def test_none_of_something_is_no_resource():
    for name in ("unused@0", "dataset:mnist@0"):
        with pytest.raises(SettingsError, match="no number from 1 on"):
            declared(name)
