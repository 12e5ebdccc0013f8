"""What W&B keeps of a cell as files: its record, and the shared sets that it left, with pictures.

Artifacts are named by digest, so equal ones are one. A file that is not here, such as the sets of a
published board, is left out; the run's summary has its digest all the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedbench.report.tracking.content import Content

if TYPE_CHECKING:
    import wandb

#: Rows and columns of a grid at most: classes, and images of each.
CLASSES, IMAGES = 20, 10
_GAP = 1  # pixels between images


def keep(run: wandb.Run, content: Content, folder: Path) -> None:
    """Log a cell's record and shared sets.

    Args:
        run: That has begun.
        content: What it is of; a leaderboard has neither.
        folder: ``runs/SUITE``, with ``records/`` and ``outputs/``.
    """
    record = folder / "records" / f"{content.id}.json"
    if content.job_type == "cell" and record.exists():
        _artifact(run, f"record-{content.id}", "record", record, {"cell_id": content.id})
    for name, digest in content.sets.items():
        path = folder / "outputs" / f"{digest}.safetensors"
        if path.exists():
            told = {"digest": digest, "output": name, "cell_id": content.id}
            _artifact(run, f"set-{digest[:32]}", "synthetic_set", path, told)
            _show(run, name, path)


def _artifact(run: wandb.Run, name: str, kind: str, path: Path, metadata: dict[str, str]) -> None:
    import wandb

    artifact = wandb.Artifact(name, type=kind, metadata=metadata)
    artifact.add_file(str(path))
    run.log_artifact(artifact)


def _show(run: wandb.Run, name: str, path: Path) -> None:
    import wandb
    from safetensors.numpy import load_file

    tensors = load_file(path)
    shown = grid(tensors["images"], tensors["labels"], tensors["mean"], tensors["std"])
    count = len(tensors["images"])
    words = f"{count} images; a row for each class, {IMAGES} of each and {CLASSES} classes at most"
    run.log({f"images/{name}": wandb.Image(shown, caption=words)})


def grid(images: np.ndarray, labels: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Return images side by side, a row for each class.

    Args:
        images: (N, C, H, W), uint8 pixels or floats in normalised space.
        labels: (N,) class ids or (N, classes) soft labels.
        mean: (C,) of the normalisation.
        std: (C,) of the normalisation.

    Returns:
        (height, width, 3) or (height, width) uint8, of images with 3 channels or any other number;
        of the latter the first channel.
    """
    if images.dtype != np.uint8:
        pixels = images * std[:, None, None] + mean[:, None, None]
        images = np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8)
    classes = labels.argmax(1) if labels.ndim == 2 else labels
    images = images if images.shape[1] == 3 else images[:, :1]
    _, channels, height, width = images.shape
    rows = [images[classes == label][:IMAGES] for label in np.unique(classes)[:CLASSES]]
    columns = max(map(len, rows))
    size = (len(rows) * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP)
    canvas = np.full((*size, channels), 255, np.uint8)
    for row, members in enumerate(rows):
        for column, image in enumerate(members):
            top, left = row * (height + _GAP), column * (width + _GAP)
            canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return canvas if channels == 3 else canvas[..., 0]
