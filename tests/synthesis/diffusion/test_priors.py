"""Priors: networks of every size, their training and average, folders, latent models."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from shared import File

from fedbench.config import parse
from fedbench.errors import DataError, ModelError, SettingsError
from fedbench.federation.resources import Folders, Scene, declared
from fedbench.seeding import isolated
from fedbench.synthesis.diffusion import pretraining
from fedbench.synthesis.diffusion.denoiser import Denoiser
from fedbench.synthesis.diffusion.model import Sampler
from fedbench.synthesis.diffusion.pretraining import Plan, pretrain
from fedbench.synthesis.diffusion.priors import SCALES, SCHEDULE, network, of_folder, of_network
from fedbench.synthesis.diffusion.trained_priors import PriorImages
from fedbench.training.pool import TrainerPool

CPU = torch.device("cpu")
IMAGES = torch.randint(
    0, 256, (20, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
LABELS = torch.arange(20) % 3
ABOUT = {"dataset": "digits", "images": "all"}


class Killed(Exception):
    """What a kill does to a call."""


@pytest.mark.parametrize(
    ("size", "image", "parameters"),
    [("tiny", 16, 176_849), ("small", 28, None), ("large", 32, None)],
)
def test_networks_of_every_size_take_their_images(size, image, parameters):
    net, settings = network(SCALES[size], 1 if size != "large" else 3, image, 10)
    count = sum(weight.numel() for weight in net.parameters())
    if size == "large":
        assert count == 6_475_011  # METHODS
    model = of_network(net, settings, SCHEDULE, CPU, classes=10)
    assert model.shape[1:] == (image, image)
    assert (model.classes, model.null) == (11, 10)
    if parameters is not None:
        plain = network(SCALES[size], 1, image)[0]
        assert sum(weight.numel() for weight in plain.parameters()) == parameters


def test_lm_2_a_prior_is_frozen_whatever_it_comes_as():
    net, settings = network(SCALES["tiny"], 1, 8)
    assert all(weight.requires_grad for weight in net.parameters())
    model = of_network(net.train(), settings, SCHEDULE, CPU, classes=10)
    assert not any(weight.requires_grad for weight in net.parameters())
    assert not net.training
    here = torch.randn(1, 1, 8, 8, requires_grad=True)
    model.ask(here, 5).sum().backward()
    assert here.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in net.parameters())


def test_images_that_cannot_be_halved_and_other_classes_are_errors():
    with pytest.raises(SettingsError, match="multiple of 4"):
        network(SCALES["small"], 1, 30)
    net, settings = network(SCALES["tiny"], 1, 8, 5)
    with pytest.raises(ModelError, match="takes 6 classes and the clients have 10"):
        of_network(net, settings, SCHEDULE, CPU, classes=10)


def denoiser(steps=6, null=None):
    with isolated(1):
        net, settings = network(SCALES["tiny"], 1, 8, None if null is None else null)
    scale = replace(SCALES["tiny"], batch_size=4)
    return Denoiser(net, scale, steps=steps, null=null), settings


def loader(steps=3):
    return PriorImages(IMAGES, LABELS, batch_size=4, steps=steps, seed=2, device=CPU)


def test_the_average_follows_the_weights_and_is_what_is_kept():
    module, _ = denoiser()
    before = module.averaged()
    TrainerPool("cpu", "32-true").fit(module, loader(), steps=6, seed=0)
    after, last = module.averaged(), module.net.state_dict()
    moved = [not torch.equal(before[name], after[name]) for name in after]
    assert any(moved)
    assert any(not torch.equal(after[name], last[name]) for name in after)


@pytest.mark.parametrize("null", [None, 3], ids=["unconditional", "conditional"])
def test_a_killed_training_goes_on_with_equal_bits(tmp_path, null):
    def die(done, total, loss):
        if done == 2:  # the first epoch is saved
            raise Killed

    def fit(**options):
        module, _ = denoiser(null=null)
        TrainerPool("cpu", "32-true").fit(module, loader(2), steps=6, seed=0, **options)
        return module.averaged()

    kept = File(tmp_path / "fit.ckpt")
    with pytest.raises(Killed):
        fit(checkpoint=kept, checkpoint_every=0, on_epoch=die)
    assert kept.path.exists()
    again, whole = fit(checkpoint=kept), fit()
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def train(folder, plan, shown=None):
    told = [] if shown is None else shown

    def show(done, epochs, loss, images):
        told.append((done, epochs, images))

    return pretrain(
        IMAGES, LABELS, plan, folder, device="cpu", precision="32-true", show=show
    ), told


@pytest.fixture
def short(monkeypatch):
    """Trainings of four steps in two epochs, with small sheets."""
    monkeypatch.setattr(pretraining, "_EPOCHS", 2)
    monkeypatch.setattr(pretraining, "_SHEET", 4)
    monkeypatch.setattr(pretraining, "_STEPS", 2)
    return Plan("tiny", 4, False, 3, 0, ABOUT)


def test_a_trained_folder_loads_as_a_users_does(tmp_path, short):
    folder = tmp_path / "prior"
    trained, shown = train(folder, short)
    assert trained
    assert [(done, epochs) for done, epochs, _ in shown] == [(1, 2), (2, 2)]
    assert shown[0][2].shape == (4, 1, 8, 8)
    assert not torch.equal(shown[0][2], shown[1][2])
    assert not list((folder / "training").glob("*.ckpt"))
    note = json.loads((folder / "fedbench.json").read_text())
    assert (note["dataset"], note["size"], note["steps"]) == ("digits", "tiny", 4)
    from diffusers import DDPMPipeline

    pipeline = DDPMPipeline.from_pretrained(folder)
    assert pipeline.unet.config.sample_size == 8
    cell = parse({"data": {"name": "mnist", "image_size": 8}, "method": "local"})
    found = declared(f"diffusers:{folder}").load(
        Scene(cell, 1, 8, 10, Folders(tmp_path, tmp_path), lambda _: None)
    )
    model = of_folder(found, CPU, size=8, classes=10)
    weights = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    noisy = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        direct = pipeline.unet(noisy, torch.tensor([7, 7])).sample
        assert torch.equal(model.ask(noisy, 7), direct)
    assert sum(value.nbytes for value in weights.values()) < found.size_bytes < 10**6


def test_the_same_training_is_there_already_and_another_is_refused(tmp_path, short):
    folder = tmp_path / "prior"
    train(folder, short)
    trained, shown = train(folder, short)
    assert not trained
    assert shown == []
    with pytest.raises(DataError, match="holds another model"):
        train(folder, replace(short, seed=1))


@pytest.mark.parametrize("when", ["save", "move"])
def test_a_kill_while_the_folder_is_written_loses_no_training(tmp_path, short, monkeypatch, when):
    from diffusers import DDPMPipeline

    whole, folder = tmp_path / "whole", tmp_path / "prior"
    train(whole, short)

    def die(*_, **__):
        raise Killed

    with monkeypatch.context() as killed:
        if when == "save":
            killed.setattr(DDPMPipeline, "save_pretrained", die)
        else:
            killed.setattr(pretraining, "_install", half_installed)
        with pytest.raises(Killed):
            pretrain(
                IMAGES,
                LABELS,
                short,
                folder,
                device="cpu",
                precision="32-true",
                show=lambda *_: None,
                checkpoint_every=0,
            )
    assert not (folder / "fedbench.json").exists()
    trained, shown = train(folder, short)
    assert trained
    assert [done for done, _, _ in shown] == ([2] if when == "save" else [])
    files = ("unet/diffusion_pytorch_model.safetensors", "model_index.json", "fedbench.json")
    for name in files:
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert not any((folder / "training").iterdir())


def half_installed(written, folder):
    """All but the note is in its place when the kill comes."""
    for path in list(written.iterdir()):
        if path.name != "fedbench.json":
            path.replace(folder / path.name)
    raise Killed


def test_loading_priors_leaves_the_global_generators_alone(tmp_path, short):
    folder = tmp_path / "prior"
    train(folder, short)
    cell = parse({"data": {"name": "mnist", "image_size": 8}, "method": "local"})
    scene = Scene(cell, 1, 8, 10, Folders(tmp_path, tmp_path), lambda _: None)
    found = declared(f"diffusers:{folder}").load(scene)
    before = torch.get_rng_state()
    of_folder(found, CPU, size=8, classes=10)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_damaged_checkpoint_starts_over(tmp_path, caplog):
    kept = pretraining.File(tmp_path / "a.ckpt")
    assert kept.found() is None
    kept.save(lambda path: path.write_bytes(b"whole"))
    assert kept.found() == tmp_path / "a.ckpt"
    (tmp_path / "a.ckpt").write_bytes(b"half")
    assert kept.found() is None
    assert "training starts over" in caplog.text
    assert kept.found() is None
    kept.save(lambda path: path.write_bytes(b"new"))
    kept.close()
    assert (tmp_path / "a.ckpt").exists()  # until the folder is written
    kept.reject()
    assert not (tmp_path / "a.ckpt").exists()


def test_there_has_to_be_an_image():
    with pytest.raises(DataError, match="no image to train a diffusion model"):
        PriorImages(IMAGES[:0], LABELS[:0], batch_size=4, steps=1, seed=0, device=CPU)


def test_a_folder_without_a_scheduler_says_what_lacks(tmp_path, short):
    folder = tmp_path / "prior"
    train(folder, short)
    (folder / "scheduler" / "scheduler_config.json").unlink()
    cell = parse({"data": {"name": "mnist", "image_size": 8}, "method": "local"})
    scene = Scene(cell, 1, 8, 10, Folders(tmp_path, tmp_path), lambda _: None)
    with pytest.raises(DataError, match=r"scheduler_config\.json"):
        of_folder(declared(f"diffusers:{folder}").load(scene), CPU, size=8, classes=10)


def test_a_latent_model_is_decoded_with_gradients_and_told_prompts(tmp_path):
    """Stable Diffusion's parts, tiny: a U-Net over latents, a VAE, embeddings of prompts."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel

    folder = tmp_path / "latent"
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
        prompts = torch.randn(11, 3, 8)
    net.save_pretrained(folder / "unet", safe_serialization=True)
    vae.save_pretrained(folder / "vae", safe_serialization=True)
    DDPMScheduler(num_train_timesteps=100).save_pretrained(folder / "scheduler")
    save_file({"prompts": prompts}, folder / "prompts.safetensors")
    cell = parse({"data": {"name": "cifar10"}, "method": "local"})
    scene = Scene(cell, 3, 32, 10, Folders(tmp_path, tmp_path), lambda _: None)
    found = declared(f"diffusers:{folder}").load(scene)
    model = of_folder(found, CPU, size=32, classes=10)
    assert (model.shape, model.classes, model.null) == ((4, 4, 4), 11, 10)
    noisy = torch.randn(2, 4, 4, 4, requires_grad=True)
    told = model.ask(noisy, 50, torch.tensor([0, 9]), 3.0)
    clean = Sampler(model, "ddim", 2).clean(noisy, told, 50)
    images = model.resize(model.decode(clean))
    assert images.shape == (2, 3, 32, 32)  # 8x8, resized
    (gradient,) = torch.autograd.grad(images.square().sum(), noisy)
    assert gradient.abs().sum() > 0
    with torch.no_grad():
        one, other = (model.ask(noisy, 50, torch.tensor([k, k])) for k in (0, 1))
    assert not torch.equal(one, other)
