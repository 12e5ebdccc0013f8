"""Training a prior by itself, outside a cell: resumable, with pictures, into a diffusers folder."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedbench.errors import DataError
from fedbench.federation.priors import NOTE
from fedbench.files import move_aside, write_atomic
from fedbench.seeding import derive, generator, isolated
from fedbench.synthesis.diffusion.denoiser import Denoiser
from fedbench.synthesis.diffusion.model import Sampler, library
from fedbench.synthesis.diffusion.priors import SCALES, SCHEDULE, VERSION, Size, network, of_network
from fedbench.synthesis.diffusion.trained_priors import PriorImages
from fedbench.training.pool import TrainerPool
from fedbench.training.recipe import Precision

log = logging.getLogger(__name__)

#: Epochs that a training is divided into: each ends with a sheet of samples.
_EPOCHS = 20
#: Images of a sheet, and the steps in which they are made.
_SHEET, _STEPS = 36, 20


#: Is told of each epoch: the epochs done, their number, the loss, and samples (n, C, S, S) uint8.
Shown = Callable[[int, int, float, Tensor], None]


@dataclass(frozen=True)
class Plan:
    """What is trained.

    Attributes:
        size: Of the network.
        steps: Of its training.
        conditional: Whether it is told classes.
        classes: How many there are.
        seed: Of initial weights, batches and noise.
        about: Where the images are from; the folder's note has it.
    """

    size: Size
    steps: int
    conditional: bool
    classes: int
    seed: int
    about: Mapping[str, Any]

    def note(self, images: Tensor) -> dict[str, Any]:
        """Return what a folder says of itself."""
        return {
            **self.about,
            "size": self.size,
            "steps": self.steps,
            "conditional": self.conditional,
            "seed": self.seed,
            "version": VERSION,
            "shape": list(images.shape[1:]),
            "scale": asdict(SCALES[self.size]),
        }


class File:
    """A fit's checkpoint in a folder, with its checksum beside it.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._sum = path, path.with_suffix(".sha256")

    def found(self) -> Path | None:
        """Return it if it is whole; a damaged one is moved aside."""
        if not self._path.is_file():
            return None
        if self._sum.is_file() and self._sum.read_text(encoding="utf-8") == _digest(self._path):
            return self._path
        aside = move_aside(self._path)
        log.warning(
            "checkpoint %s is damaged; kept as %s, and training starts over", self._path, aside.name
        )
        return None

    def save(self, write: Callable[[Path], None]) -> None:
        """Write it anew."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        write(part)
        digest = _digest(part)
        # A kill between the two leaves a checkpoint whose sum is another's: it starts over.
        part.replace(self._path)
        write_atomic(self._sum, digest)

    def reject(self) -> None:
        """Delete it."""
        self._path.unlink(missing_ok=True)
        self._sum.unlink(missing_ok=True)

    def close(self) -> None:
        """Keep it: what was trained has yet to be written, and is then rejected."""


def pretrain(
    images: Tensor,
    labels: Tensor,
    plan: Plan,
    folder: Path,
    *,
    device: str,
    precision: Precision,
    show: Shown,
    checkpoint_every: float = 60.0,
) -> bool:
    """Train a prior and write it as a diffusers pipeline with a note.

    A killed training goes on from its last checkpoint below the folder, with the same bits.

    Args:
        images: (N, C, S, S) uint8.
        labels: (N,) int64.
        plan: What is trained.
        folder: Where it is written.
        device: Where it is trained.
        precision: Of the training.
        show: Is told of each epoch.
        checkpoint_every: Seconds between two checkpoints.

    Returns:
        Whether anything was trained: the same model may be there already.

    Raises:
        DataError: The folder holds another model.
    """
    note = plan.note(images) | {"precision": precision}
    stamp = hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()[:16]
    written, kept = folder / "training" / stamp, File(folder / "training" / f"{stamp}.ckpt")
    there, whole = folder / NOTE, (written / NOTE).is_file()
    known = json.loads(there.read_text(encoding="utf-8")) if there.is_file() else None
    if known == json.loads(json.dumps(note)):
        kept.reject()
        return False
    if known is not None or (not whole and (folder / "model_index.json").is_file()):
        raise DataError(f"{folder} holds another model; choose another folder, or delete it")
    if not whole:
        net = _train(
            images,
            labels,
            plan,
            device=device,
            precision=precision,
            show=show,
            checkpoint=kept,
            checkpoint_every=checkpoint_every,
        )
        _write(net, note, written)
    _install(written, folder)
    kept.reject()
    return True


def _train(
    images: Tensor,
    labels: Tensor,
    plan: Plan,
    *,
    device: str,
    precision: Precision,
    show: Shown,
    checkpoint: File,
    checkpoint_every: float,
) -> nn.Module:
    """Return a trained network with the average of its weights."""
    scale, shape = SCALES[plan.size], images.shape[1:]
    classes = plan.classes if plan.conditional else None
    with isolated(derive(plan.seed, "prior", "initialisation")):
        net, settings = network(scale, shape[0], shape[1], classes)
        twin, _ = network(scale, shape[0], shape[1], classes)
    module = Denoiser(net, scale, steps=plan.steps, null=classes)
    pool = TrainerPool(device, precision)
    loader = PriorImages(
        images,
        labels,
        batch_size=scale.batch_size,
        steps=max(plan.steps // _EPOCHS, 1),
        seed=derive(plan.seed, "prior", "batches"),
        device=pool.device,
    )

    def on_epoch(done: int, epochs: int, loss: float) -> None:
        twin.load_state_dict(module.averaged())
        model = of_network(twin, settings, SCHEDULE, pool.device, classes=plan.classes)
        sampler, source = Sampler(model, "ddim", _STEPS), generator(plan.seed, "prior", "sheet")
        noisy = sampler.begin(_SHEET, source).to(pool.device)
        told = None if classes is None else torch.arange(_SHEET).to(pool.device) % plan.classes
        with torch.no_grad():
            for timestep in sampler.timesteps:
                noisy = sampler.step(model.ask(noisy, timestep, told), timestep, noisy, source)
        shown = ((noisy.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        show(done, epochs, loss, shown.cpu())

    pool.fit(
        module,
        loader,
        steps=plan.steps,
        seed=derive(plan.seed, "prior", "noise"),
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        on_epoch=on_epoch,
    )
    twin.load_state_dict(module.averaged())
    return twin.cpu()


def _write(net: nn.Module, note: Mapping[str, Any], written: Path) -> None:
    """Write a pipeline; it is whole once it has its note."""
    shutil.rmtree(written, ignore_errors=True)  # what a kill has left
    diffusers = library()
    pipeline = diffusers.DDPMPipeline(unet=net, scheduler=diffusers.DDPMScheduler(**SCHEDULE))
    pipeline.save_pretrained(str(written), safe_serialization=True)
    write_atomic(written / NOTE, json.dumps(note, indent=1) + "\n", durable=True)


def _install(written: Path, folder: Path) -> None:
    """Move a pipeline to its place, the note last: after a kill the next call goes on.

    Args:
        written: Whole, with its note.
        folder: The place.
    """
    parts = [path for path in sorted(written.iterdir()) if path.name != NOTE]
    for path in (*parts, written / NOTE):
        place = folder / path.name
        if place.is_dir():
            shutil.rmtree(place)
        path.replace(place)
    written.rmdir()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
