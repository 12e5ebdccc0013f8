"""The resource that is a diffusion model: a folder as diffusers writes it, safetensors alone.

``diffusers:PATH`` is a folder below the data root, or anywhere by an absolute path: a pipeline
(``model_index.json``) or a U-Net alone (``config.json``). ``fedbench pretrain-diffusion`` writes
such folders, with a note on what they were trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fedbench.config import Cell
from fedbench.data.hashes import file_hashes
from fedbench.data.settings import Data
from fedbench.data.specs import DATASETS, DatasetSpec
from fedbench.errors import DataError, PrivacyError
from fedbench.federation.resources import Folders, Resource, ResourceKind, Scene
from fedbench.seeding import isolated

if TYPE_CHECKING:
    from torch import Tensor, nn

#: What `fedbench pretrain-diffusion` writes beside the weights.
NOTE = "fedbench.json"
#: Embeddings of prompts that a user has prepared, (C+1, length, width) as `prompts`: one for each
#: class in order, and the empty one last.
PROMPTS = "prompts.safetensors"
#: S4's prompt.
_PROMPT = "an image of {}"
#: The parts of a pipeline that turn prompts into embeddings.
_TOKENIZER, _ENCODER = "tokenizer", "text_encoder"
#: How files of pickled weights end.
_PICKLES = {".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle"}
#: The parts of a pipeline that are weights.
_PARTS = ("unet", "vae", _ENCODER)
#: The networks that are known here: of a pipeline in pixel space, and of one with a VAE.
_PIXELS, _LATENTS = "UNet2DModel", "UNet2DConditionModel"


class Family(Protocol):
    """A class of networks that diffusers or transformers reads from a folder."""

    __name__: str

    def from_pretrained(
        self, place: str, **options: object
    ) -> tuple[nn.Module, Mapping[str, Sequence[Any]]]:
        """Return a network, and what was missing or strange."""


class DiffusionFolder(ResourceKind):
    """A pre-trained diffusion model."""

    name = "diffusers"
    counted = "never"

    def why_not(self, cell: Cell, folders: Folders) -> str | None:
        """Refuse pickles, images of another size or channels, and the clients' own data."""
        folder = self.folder(folders)
        if not folder.is_dir():
            return None
        return _unfit(folder, cell) or self._own(cell, folders)

    def digest(self, folders: Folders) -> str | None:
        """Return that of all its settings and weights."""
        folder = self.folder(folders)
        files = _files(folder)
        if not files:
            return None
        hashes = file_hashes(files, folders.cache / "hashes" / "priors.json")
        text = "\n".join(
            f"{path.relative_to(folder)} {value}" for path, value in zip(files, hashes, strict=True)
        )
        return hashlib.sha256(text.encode()).hexdigest()

    def privilege(self, cell: Cell, folders: Folders) -> str | None:
        """Return that it was trained on images like the clients', or may have been.

        Only a note tells what a model has seen.
        """
        note = _note(self.folder(folders))
        if "dataset" not in note:
            return (
                "a diffusion model of unknown origin, which may have seen images like the "
                "clients' or these themselves"
            )
        if note["dataset"] != cell.data.name or note.get("images") != "unused":
            return None
        return (
            f"a diffusion model trained on {note['count']} images of {note['dataset']} that no "
            "client holds"
        )

    def load(self, scene: Scene) -> Resource:
        """Return where it lies and how large it is; with text, embeddings of the classes."""
        folder = self.folder(scene.folders)
        if not folder.is_dir():
            raise DataError(
                f"resource {self.text!r}: there is no folder {folder}; put a diffusers model "
                "there, or train one by fedbench pretrain-diffusion"
            )
        if (reason := _unfit(folder, scene.cell)) is not None:
            raise DataError(f"resource {self.text!r}: {reason}")
        if (reason := self._own(scene.cell, scene.folders)) is not None:
            raise PrivacyError(f"resource {self.text!r}: {reason}")
        weights = [path for path in _files(folder) if path.suffix == ".safetensors"]
        tensors = {}
        if (folder / "vae").is_dir():
            tensors["prompts"] = _prompts(folder, scene)
        size = sum(path.stat().st_size for path in weights)
        digest = self.digest(scene.folders) or ""
        return Resource(self.text, tensors, size_bytes=size, folder=folder, digest=digest)

    def folder(self, folders: Folders) -> Path:
        """Return where it lies."""
        return folders.data / Path(self.which).expanduser()

    def _own(self, cell: Cell, folders: Folders) -> str | None:
        """Return why the clients' own images are behind it, or may be; None if they are not."""
        note = _note(self.folder(folders))
        if note.get("dataset") != cell.data.name:
            return None
        if note.get("images") != "unused":
            return (
                f"it was trained on {note['dataset']}, the clients' own data set; train one on "
                "another, or on images that no client holds (pretrain-diffusion --unused)"
            )
        here = {"train_size": cell.data.train_size, "subset_seed": cell.data.subset_seed}
        there = {name: note.get(name) for name in here}
        if here == there:
            return None
        return (
            f"it was trained on images of {note['dataset']} that no client holds at {there}, and "
            f"this cell has {here}: clients may hold them; train one for these settings"
        )


def settings_of(folder: Path) -> dict[str, Any]:
    """Return the settings of a folder's U-Net.

    Raises:
        DataError: There are none.
    """
    for place in (folder / "unet" / "config.json", folder / "config.json"):
        if place.is_file():
            try:
                found = json.loads(place.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise DataError(f"{place} is not the settings of a network: {error}") from error
            if isinstance(found, dict):
                return found
    raise DataError(
        f"{folder} holds no diffusion model that is known here: neither unet/config.json nor "
        "config.json"
    )


def schedule_of(folder: Path) -> dict[str, Any]:
    """Return the settings of a folder's scheduler.

    Raises:
        DataError: There are none.
    """
    for place in (folder / "scheduler", folder):
        if (file := place / "scheduler_config.json").is_file():
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise DataError(f"{file} is not the settings of a scheduler: {error}") from error
            if isinstance(found, dict):
                return found
    raise DataError(
        f"{folder} has no scheduler_config.json, so nobody knows what its network predicts; copy "
        "that of the pipeline beside it"
    )


def _unfit(folder: Path, cell: Cell) -> str | None:
    """Return why a folder's model does not serve a cell, or None."""
    if (pickled := _pickled(folder)) is not None:
        return (
            f"{pickled} is a pickle, which is never read; save the model as safetensors "
            "(diffusers: save_pretrained(folder, safe_serialization=True))"
        )
    try:
        settings = settings_of(folder)
        schedule_of(folder)
    except DataError as error:
        return str(error)
    latent = (folder / "vae").is_dir()
    reason = _unknown(folder, settings, latent)
    return reason or _misfit(folder, settings, cell, latent) or _damaged(folder, latent)


def _misfit(folder: Path, settings: Mapping[str, Any], cell: Cell, latent: bool) -> str | None:
    """Return why its images or classes are not those of a cell, or None."""
    spec = DATASETS.get(cell.data.name)
    if latent:
        return _other_channels(3, spec)  # its images are resized, and its prompts the classes'
    channels, size = settings.get("in_channels"), settings.get("sample_size")
    if isinstance(size, list):  # diffusers takes height and width as well
        size = size[0] if len({*size}) == 1 else "x".join(map(str, size))
    if settings.get("out_channels") != channels:
        return "it predicts variances as well, which is not known here"
    if size != cell.data.size:
        return (
            f"it makes images of {size}x{size} and the clients' have {cell.data.size}x"
            f"{cell.data.size}; set data.image_size to {size}, or take another model"
        )
    taken, known = settings.get("num_class_embeds"), len(spec.classes)
    if taken is not None and known and taken not in (known, known + 1):
        return (
            f"it takes {taken} classes and the clients have {known}; take an unconditional one, or "
            "one of the same classes (and one more for none)"
        )
    trained = _note(folder).get("dataset")
    if taken is not None and trained not in (None, cell.data.name):
        return (
            f"it is told the classes of {trained}, which are not those of {cell.data.name}; take "
            "one that is told none (pretrain-diffusion without --conditional)"
        )
    return _other_channels(channels, spec)


def _unknown(folder: Path, settings: Mapping[str, Any], latent: bool) -> str | None:
    """Return why a folder's networks are none that are known here, or None."""
    if (folder / "vqvae").is_dir():
        return (
            "it samples the codes of a VQ-VAE, which is not known here; take a pipeline in pixel "
            "space, or one with a VAE"
        )
    kind, wanted = settings.get("_class_name"), _LATENTS if latent else _PIXELS
    if kind not in (None, wanted):
        space = "with a VAE" if latent else "in pixel space"
        return f"its network is a {kind}, and pipelines {space} have a {wanted} here"
    return None


def _damaged(folder: Path, latent: bool) -> str | None:
    """Return which weights are missing or cannot be read, by their heads alone, or None."""
    whole = (folder / "unet").is_dir()
    parts = {"diffusion_pytorch_model": [folder / "unet" if whole else folder]}
    if latent:
        parts["diffusion_pytorch_model"].append(folder / "vae")
        if not (folder / PROMPTS).is_file() and (folder / _ENCODER).is_dir():
            parts["model"] = [folder / _ENCODER]
    for stem, places in parts.items():
        for place in places:
            files = [*place.glob(f"{stem}.safetensors"), *place.glob(f"{stem}-*.safetensors")]
            if not files:
                return (
                    f"{place} has no {stem}.safetensors; save the whole pipeline "
                    "(diffusers: save_pretrained(folder, safe_serialization=True))"
                )
            for file in files:
                if (reason := _unreadable(file)) is not None:
                    return f"{file} is damaged ({reason}); copy it again"
    return None


def _unreadable(file: Path) -> str | None:
    """Return what is wrong with the head or length of a file of tensors, or None."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy"):
            return None
    except (OSError, SafetensorError) as error:
        return str(error).splitlines()[0]


def _other_channels(made: int | None, spec: DatasetSpec) -> str | None:
    if spec.channels in (None, made):
        return None
    return (
        f"it makes images of {made} channels and the clients' have {spec.channels}; take a model "
        "of these, such as one of fedbench pretrain-diffusion"
    )


def _pickled(folder: Path) -> str | None:
    """Return the name of weights that are there as a pickle alone, or None.

    What lies beside the parts of a pipeline is not read.
    """
    root = () if (folder / "unet").is_dir() else (folder,)
    for part in (*root, *(folder / name for name in _PARTS)):
        if part.is_dir() and not any(part.glob("*.safetensors")):
            pickles = [path for path in sorted(part.iterdir()) if path.suffix in _PICKLES]
            if pickles:
                return str(pickles[0].relative_to(folder))
    return None


def _files(folder: Path) -> list[Path]:
    """Return settings and weights in order of name."""
    if not folder.is_dir():
        return []
    found = (
        path
        for path in folder.rglob("*")
        if path.suffix in {".json", ".safetensors"} or path.parent.name == _TOKENIZER
    )
    return sorted(path for path in found if path.is_file())


def _note(folder: Path) -> Mapping[str, Any]:
    """Return what `fedbench pretrain-diffusion` has written of a folder; nothing of others."""
    try:
        found = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _prompts(folder: Path, scene: Scene) -> Tensor:
    """Return embeddings of the classes' prompts and of the empty one, (C+1, length, width)."""
    import safetensors.torch

    if (folder / PROMPTS).is_file():
        if (reason := _unreadable(folder / PROMPTS)) is not None:
            raise DataError(f"{folder / PROMPTS} is damaged ({reason}); write it again")
        found: Tensor | None = safetensors.torch.load_file(folder / PROMPTS).get("prompts")
        width = settings_of(folder).get("cross_attention_dim")
        shape = None if found is None else tuple(found.shape)
        if (
            found is None
            or found.ndim != 3
            or len(found) != scene.classes + 1
            or (isinstance(width, int) and found.shape[2] != width)
        ):
            raise DataError(
                f"{folder / PROMPTS} holds prompts of shape {shape}; give `prompts` of "
                f"({scene.classes + 1}, length, {width or 'width'}): one for each of "
                f"{scene.classes} classes in order, and the empty one last"
            )
        return found.float()
    return _encoded(folder, scene.read(Data(**scene.cell.data.model_dump())).classes)


def whole(family: Family, folder: Path, **options: object) -> nn.Module:
    """Return a saved network, all of whose weights are there.

    Args:
        family: Of it.
        folder: With its settings and safetensors.
        options: Of ``from_pretrained``.

    Raises:
        DataError: It cannot be read, or weights are missing or of another shape.
    """
    try:
        with isolated(0):  # what is drawn for new weights is overwritten
            net, told = family.from_pretrained(
                str(folder), local_files_only=True, output_loading_info=True, **options
            )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{folder} cannot be read as a {family.__name__}: {reason}") from error
    strange = [*told.get("missing_keys", ()), *(one[0] for one in told.get("mismatched_keys", ()))]
    if strange:
        raise DataError(
            f"{folder} lacks {len(strange)} weights of its {family.__name__}, such as "
            f"{strange[0]}; copy the whole file again"
        )
    return net


def _encoded(folder: Path, classes: tuple[str, ...]) -> Tensor:
    """Encode prompts with the folder's own text encoder, which needs ``transformers``."""
    import importlib

    import torch

    try:
        transformers = importlib.import_module("transformers")
    except ImportError as error:
        raise DataError(
            f"{folder} has a text encoder, which needs the package transformers; install it "
            f"(pip install 'fedbench[prompts]'), or put the prompts' embeddings into {PROMPTS}"
        ) from error
    if lacking := [part for part in (_TOKENIZER, _ENCODER) if not (folder / part).is_dir()]:
        raise DataError(
            f"{folder} takes prompts and has no {' and no '.join(lacking)}; copy the whole "
            f"pipeline, or put the prompts' embeddings into {PROMPTS}"
        )
    transformers.utils.logging.disable_progress_bar()  # the cell has its own
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / _TOKENIZER)
    encoder = whole(
        transformers.CLIPTextModel, folder / _ENCODER, use_safetensors=True, dtype=torch.float32
    ).eval()
    words = [*(_PROMPT.format(name) for name in classes), ""]
    tokens = tokenizer(
        words,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        found: Tensor = encoder(tokens.input_ids).last_hidden_state
    return found
