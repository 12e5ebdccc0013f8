"""`fedbench export`: what one cell left, as files that other programs read."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli.pictures import Named
from fedbench.errors import SettingsError
from fedbench.files import home, write_atomic
from fedbench.session.console import stdout
from fedbench.session.lookup import find_good_record, output_file, read_output, read_sets
from fedbench.session.words import count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fedbench.bench.records.record import Record
    from fedbench.federation.synthetic import SyntheticSet


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(export)


def export(
    record: Named,
    out: Annotated[Path | None, typer.Option(help="Where the files go; a new folder.")] = None,
) -> None:
    """Write the shared images that a cell left, and its models, with all that is known of them.

    Images go to train/CLASS/NUMBER.png, as the data set `folder` reads them, and with the
    normalisation to synthetic.safetensors. Further sets go to folders of their own.

    Example: fedbench export 3f2a --out shared/
    """
    path, found = find_good_record(record)
    if not found.outputs:
        raise SettingsError(f"cell {found.cell_id} left neither images nor models")
    folder = out or home() / found.suite / "exports" / found.cell_id
    _claim(folder, found)
    for name in found.outputs:
        read_output(path, found, name)  # refuses a damaged one before anything is written
    for name in found.outputs:
        kind = "models/" if name in found.metrics["models"] else ""
        content = output_file(path, found, name).read_bytes()
        write_atomic(folder / f"{kind}{_plain(name)}.safetensors", content)
    lines = _origin(found)
    for name, shared in read_sets(path, found).items():
        lines += _images(name, shared, found, folder)
    write_atomic(folder / "README.txt", "\n".join(lines) + "\n")
    stdout.print(
        f"{count(len(found.outputs), 'output')} of {found.method_label()} in {folder}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _claim(folder: Path, record: Record) -> None:
    """Put the record into the folder, unless that holds anything but the same outputs.

    Raises:
        SettingsError: It does, and images of two sets would mix.
    """
    place = folder / "record.json"
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"{folder} is a file; give a folder with --out")
    if folder.exists() and any(folder.iterdir()):
        try:
            stated = json.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # there is none, or somebody else's
            stated = None
        if not isinstance(stated, dict) or stated.get("outputs") != record.outputs:
            raise SettingsError(
                f"{folder} holds other files, which would mix with these; give an empty folder "
                "with --out"
            )
    write_atomic(place, json.dumps(record.model_dump(mode="json"), indent=1) + "\n")


def _images(name: str, shared: SyntheticSet, record: Record, folder: Path) -> list[str]:
    """Write a set's images, and return what a reader has to know of them."""
    import torch

    file = f"{_plain(name)}.safetensors"
    place = "train" if "/" not in name else f"{_plain(name)}/train"
    pixels, clipped = (
        shared.normalisation.to_pixels(shared.images).numpy(),
        shared.normalisation.clipped(shared.images),
    )
    classes = record.data["classes"]
    names = _folders(classes)
    digits = len(str(len(pixels) - 1))
    for number, (image, label) in enumerate(zip(pixels, shared.classes.tolist(), strict=True)):
        write_atomic(folder / place / names[label] / f"{number:0{digits}}.png", _png(image))
    exact = (
        "The PNG files hold the exact pixels."
        if shared.images.dtype == torch.uint8
        else "The PNG files are rounded to 8 bits, and values beyond black or white are clipped "
        f"({100 * clipped:.2f} % of all). The exact set is the one in {file}."
    )
    size = "x".join(map(str, shared.images.shape[1:]))
    return [
        f"Images: {len(pixels)} of {size}, in {place}/CLASS/NUMBER.png; numbers are positions in "
        f"{file}.",
        exact,
        *_tiles(record.settings["method"].get("expand", 1)),
        "To train on them with fedbench: add test images as test/CLASS/..., put the folder below",
        "FEDBENCH_DATA, and use the data set `folder` with data.path. Classes without images here",
        "have no folder.",
        "",
        f"{file}: images (N, C, H, W), uint8 pixels or floats normalised as "
        "(pixel / 255 - mean) / std;",
        f"{_labels(shared)}; mean and std, one value a channel"
        f"{'' if shared.origin is None else '; origin (N,), the client, or -1'}.",
        "Classes by label: "
        + ", ".join(f"{label} {name}" for label, name in enumerate(classes))
        + ".",
    ]


def _labels(shared: SyntheticSet) -> str:
    if not shared.label_bytes:
        return "labels (N,)"
    return "labels (N, classes), a number for each class; an image lies with its likeliest"


def _tiles(factor: int) -> list[str]:
    if factor == 1:
        return []
    return [
        f"Each image is a canvas of {factor}x{factor} tiles. A model is trained on the tiles, each "
        "enlarged to the canvas' size (bilinear)."
    ]


def _origin(record: Record) -> list[str]:
    """Return whose outputs these are, and how to make them again."""
    settings, environment = record.settings, record.environment
    models = [name for name in record.outputs if name in record.metrics["models"]]
    state = "with changes" if environment.get("dirty") else "clean"
    lines = [
        f"What fedbench's cell {record.cell_id} left: {record.method_label()} on "
        f"{settings['data']['name']}, {settings['partition']['scheme']}, "
        f"{count(settings['partition']['clients'], 'client')}, seed {settings['seed']}.",
        f"Accuracy {100 * record.metrics['accuracy']:.2f} % of {record.data['test']} test images; "
        f"{record.shared_pixels:,} pixels shared.",
        f"Computed at commit {environment.get('commit')} ({state}); record.json has all settings, "
        "versions and numbers.",
        "Make it again: fedbench run --record record.json",
        "",
    ]
    if models:
        lines += [f"Models, weights by name: {', '.join(models)} in models/.", ""]
    return lines


def _folders(classes: Sequence[str]) -> list[str]:
    """Return a folder's name for each class: its own where that can be one and is no other's."""
    plain = [_plain(name) for name in classes]
    taken = [name.casefold() for name in plain]
    return [
        name if name and taken.count(name.casefold()) == 1 else f"{name}-{label}".strip("-")
        for label, name in enumerate(plain)
    ]


def _plain(name: str) -> str:
    """Return a name that every system takes for a file."""
    return re.sub(r"[^\w .,()=+-]", "-", name).strip(" .")


def _png(image: NDArray[np.uint8]) -> bytes:
    """Return a (C, H, W) uint8 image as PNG, grey where it has one channel."""
    from PIL import Image

    buffer = io.BytesIO()
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
