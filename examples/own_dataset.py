"""Your own data set: discs and squares on noise, drawn when they are first asked for.

fedbench run --plugin examples/own_dataset.py --dataset shapes --method fedavg --beta 0.5

Give ``places`` and ``files`` to the layout where there are files to read: the reader then finds
their paths by ``sources.part("train")``, and fedbench says what is missing.
"""

from __future__ import annotations

import numpy as np

from fedbench.data.dataset import Split
from fedbench.data.readers import Decoded, Progress, split_of
from fedbench.data.sources import Sources
from fedbench.data.specs import DatasetSpec, Layout


def read(sources: Sources, size: int | None, progress: Progress) -> Decoded:
    """Draw both splits; images are resized afterwards where `image_size` asks for it."""
    spec = sources.spec

    def draw(count: int | None, seed: int) -> Split:
        rng = np.random.default_rng(seed)
        labels = np.arange(count or 0) % 2
        images = rng.integers(0, 128, (len(labels), 1, spec.size, spec.size), dtype=np.uint8)
        rows, columns = np.indices((spec.size, spec.size)) - spec.size // 2
        masks = np.hypot(rows, columns) < 6, np.maximum(abs(rows), abs(columns)) < 5
        for image, label in zip(images, labels, strict=True):
            image[0, np.roll(masks[label], rng.integers(-2, 3, 2), (0, 1))] += 100
        return split_of(images, labels)

    return Decoded(draw(spec.train_size, 0), draw(spec.test_size, 1), spec.classes)


SHAPES = DatasetSpec(
    name="shapes",
    title="discs and squares on noise",
    classes=("disc", "square"),
    channels=1,
    size=16,
    train_size=400,
    test_size=200,
    mean=(0.39,),
    std=(0.24,),
    augment="none",
    version=1,
    accepts=(Layout(name="drawn", words="nothing: the images are drawn", reader=read),),
    fetch="nothing to fetch",
    source="an example",
)
