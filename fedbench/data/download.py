"""Downloads through torchvision: the only thing that ever writes below the data root."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.data.sources import Sources
from fedbench.errors import DataError

if TYPE_CHECKING:
    from fedbench.data.readers import Progress
    from fedbench.data.specs import DatasetSpec


def download(spec: DatasetSpec, root: Path, progress: Progress) -> None:
    """Fetch a data set into the data root, with torchvision's own progress bar.

    Args:
        spec: A data set whose ``torchvision`` is not empty.
        root: The data root.
        progress: Is told what is fetched, and whereto.

    Raises:
        DataError: torchvision cannot fetch it, or the folder cannot be written.
    """
    from torchvision import datasets

    sources = Sources(spec, root)
    if not spec.torchvision:
        raise DataError(f"{spec.name} cannot be downloaded by fedbench\n{sources.advice}")
    target = root / spec.download_to
    progress(f"{spec.name}: downloading with torchvision into {target}")
    kind = getattr(datasets, spec.torchvision)
    try:
        target.mkdir(parents=True, exist_ok=True)
        if spec.torchvision == "SVHN":
            for split in ("train", "test"):
                kind(str(target), split=split, download=True)
        else:
            kind(str(target), download=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{spec.name}: the download into {target} failed: {error}\n  check the network and "
            f"that the folder can be written, or put the files there yourself\n{sources.advice}"
        ) from error
