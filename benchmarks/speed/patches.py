"""How fast a crop bank is made, beside torchvision's transforms one crop after another.

Run ``python benchmarks/speed/patches.py``; it asserts nothing. The picture is S1's street where
FEDBENCH_DATA holds it, scaled down to half a million pixels as in S1's headline runs, or china.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from PIL import Image
from timing import Row, interleave, ratio, report
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import to_pil_image

from fedbench.data.patches import CropSettings, crop_bank
from fedbench.data.pictures import picture_size, read_picture
from fedbench.files import data_root

STREET = "single_images/ameyoko.jpg"
SETTINGS = CropSettings()


class WindowCrop(transforms.RandomResizedCrop):
    """Torchvision's random resized crop, drawn again until it fits."""

    @staticmethod
    def get_params(
        img: Image.Image, scale: list[float], ratio: list[float]
    ) -> tuple[int, int, int, int]:
        """Return top, left, height and width."""
        side = img.width
        low, high = map(math.log, ratio)
        while True:
            area = side**2 * torch.empty(1).uniform_(*scale).item()
            aspect = math.exp(torch.empty(1).uniform_(low, high).item())
            width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < width <= side and 0 < height <= side:
                top, left = (
                    int(torch.randint(0, side - length + 1, (1,))) for length in (height, width)
                )
                return top, left, height, width


def reference(picture: Tensor, count: int, size: int) -> Tensor:
    """Make crops as S1's code does, except for its JPEG files."""
    image = to_pil_image(picture)
    colours = (SETTINGS.brightness, SETTINGS.contrast, SETTINGS.saturation, SETTINGS.hue)
    transform = transforms.Compose(
        [
            transforms.RandomCrop(int(SETTINGS.square * min(image.size))),
            WindowCrop(
                int(SETTINGS.oversize * size),
                scale=SETTINGS.area,
                ratio=SETTINGS.aspect,
                interpolation=InterpolationMode.BICUBIC,
            ),
            transforms.RandomAffine(
                SETTINGS.angle, shear=SETTINGS.shear, interpolation=InterpolationMode.BILINEAR
            ),
            transforms.CenterCrop(size),
            transforms.RandomApply([transforms.ColorJitter(*colours)], SETTINGS.jitter),
            transforms.PILToTensor(),
        ]
    )
    return torch.stack([transform(image) for _ in range(count)])


def bank(picture: Tensor, count: int, size: int, threads: int) -> Callable[[], Tensor]:
    """Return what makes a bank with so many threads."""

    def make() -> Tensor:
        torch.set_num_threads(threads)
        return crop_bank(picture, SETTINGS, count=count, size=size, seed=0)

    return make


def measure(options: argparse.Namespace) -> list[Row]:
    root = data_root()
    name = STREET if picture_size(STREET, root) else "china"
    picture = read_picture(
        name, root, pixels=options.pixels if name == STREET else None, channels=3
    )
    size, few = options.size, options.reference
    print(f"{name}, {picture.shape[2]}x{picture.shape[1]}; {options.count} crops of {size}x{size}")
    with ProcessPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:

        def both() -> None:
            halves = [pool.submit(reference, picture, few, size) for _ in range(2)]
            for half in halves:
                half.result()

        seconds = interleave(
            {
                "reference": lambda: reference(picture, few, size),
                "reference twice": both,
                "bank": bank(picture, options.count, size, 1),
                "bank twice": bank(picture, options.count, size, 2),
            },
            options.repeats,
        )
    made = {
        "reference": few,
        "reference twice": 2 * few,
        "bank": options.count,
        "bank twice": options.count,
    }
    each = {name: [value / made[name] for value in seconds[name]] for name in made}
    rates = {name: 1 / statistics.median(values) for name, values in each.items()}
    return [
        Row("one by one, one process", rates["reference"], "/s"),
        Row("one by one, two processes", rates["reference twice"], "/s"),
        Row("bank, one thread", rates["bank"], "/s"),
        Row("bank, two threads", rates["bank twice"], "/s"),
        Row("bank / one by one, one core each", ratio(each, "bank", "reference"), "x"),
        Row("bank / one by one, two cores each", ratio(each, "bank twice", "reference twice"), "x"),
        Row("bank on two cores / one by one", ratio(each, "bank twice", "reference"), "x", ">= 5"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--count", type=int, default=50_000, help="crops of a bank")
    parser.add_argument("--reference", type=int, default=1000, help="crops one by one, a process")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--pixels", type=int, default=512_000, help="of the street")
    parser.add_argument("--json", type=Path, help="write the table to this file as well")
    options = parser.parse_args()
    torch.set_num_threads(1)
    report("Crop bank", measure(options), options.json)


if __name__ == "__main__":
    main()
