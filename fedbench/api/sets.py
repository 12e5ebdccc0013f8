"""Shared sets of images, to train anything on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fedbench.bench.records.record import Record, record_path
from fedbench.errors import SettingsError, did_you_mean
from fedbench.files import home as default_home

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class SharedSet:
    """Images and targets; unpacks as ``images, targets = fedbench.load_set(record)``.

    Attributes:
        images: (N, C, H, W) float32 in the space of pixels: black 0, white 1. Distilled images may
            leave [0, 1].
        targets: (N,) int64 class ids, or (N, classes) float32 soft labels.
        classes: Names of the classes, by id.
        mean: Of the data set, a value a channel, for those who normalise: ``(x - mean) / std``.
        std: Likewise.
    """

    images: Tensor
    targets: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __iter__(self) -> Iterator[Tensor]:
        yield self.images
        yield self.targets

    def __len__(self) -> int:
        return len(self.images)

    @property
    def normalised(self) -> Tensor:
        """The images as the data set's networks take them."""
        mean, std = (torch.tensor(part).view(-1, 1, 1) for part in (self.mean, self.std))
        return (self.images - mean) / std


def load_set(
    record: Record | str | Path,
    name: str = "synthetic",
    *,
    expand: bool = True,
    home: str | Path | None = None,
) -> SharedSet:
    """Return a set of images that a cell left.

    Args:
        record: A record, its file, or its cell id or the beginning of that.
        name: Of the output: ``synthetic``, or a further one such as ``synthetic/base``.
        expand: Cut canvases into the enlarged tiles that networks are trained on, where the method
            partitions and expands.
        home: Where the cell was computed; ``$FEDBENCH_HOME`` or ``runs`` by default.

    Raises:
        SettingsError: The method leaves no set of that name, or no such record is here.
        StoreError: The set is not here, which is so for published records, or is damaged.
    """
    from fedbench.session.lookup import find_good_record, read_sets
    from fedbench.synthesis.expansion import expand as cut

    if isinstance(record, Record):
        place = Path(home) if home is not None else default_home()
        path = record_path(place, record.suite, record.cell_id)
    else:
        path, record = find_good_record(str(record), None if home is None else Path(home))
    sets = read_sets(path, record)
    if name not in sets:
        raise SettingsError(
            f"cell {record.cell_id} ({record.method_label()}) left no set "
            f"{name!r}{did_you_mean(name, sets)}; it left {', '.join(sets) or 'none'}"
        )
    found = sets[name]
    images, targets = found.normalisation(found.images.clone()), found.labels
    mean, std = found.normalisation.mean, found.normalisation.std
    factor = int(record.settings["method"].get("expand") or 1)
    if expand and factor > 1:
        images, targets = cut(images, targets, factor)
    scale, centre = (torch.tensor(part).view(-1, 1, 1) for part in (std, mean))
    classes = tuple(str(each) for each in record.data["classes"])
    return SharedSet(images * scale + centre, targets, classes, mean, std)
