"""What training through the pool costs, beside a bare loop and beside what people usually write.

Run ``python benchmarks/speed/training.py``; it asserts nothing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning import Trainer
from timing import Row, excess_ms, interleave, ratio, ready, report
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from fedbench.data.dataset import Split
from fedbench.data.load import load
from fedbench.data.normalisation import Normalisation
from fedbench.data.settings import Data
from fedbench.data.stream import Columns, Stream
from fedbench.errors import DataError
from fedbench.files import data_root
from fedbench.models.factory import build
from fedbench.models.settings import Model
from fedbench.training.classifier import Classifier
from fedbench.training.pool import TrainerPool
from fedbench.training.recipe import Recipe
from fedbench.training.trainer import hushed

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
RECIPE = Recipe(epochs=1)


def images(count: int) -> Split:
    """Return CIFAR-10 images if the data root has them, or else random ones."""
    try:
        with tempfile.TemporaryDirectory() as cache:
            settings = Data(name="cifar10", train_size=count)
            data = load(settings, root=data_root(), cache=Path(cache), offline=True)
            return Split(data.train.images.clone(), data.train.labels.clone())
    except DataError:
        print("no CIFAR-10 under FEDBENCH_DATA: random images instead")
        source = torch.Generator().manual_seed(0)
        return Split(
            torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=source),
            torch.randint(0, 10, (count,), generator=source),
        )


class Photos(Dataset[tuple[torch.Tensor, int]]):
    """The usual data set: one PIL image after another."""

    def __init__(self, split: Split) -> None:
        self.images = [transforms.functional.to_pil_image(image) for image in split.images]
        self.labels = split.labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def on(split: Split, device: str) -> Split:
    """Return images and labels on the device, where the runner puts them too."""
    return Split(split.images.to(device), split.labels.to(device))


def loader(split: Split) -> Stream:
    channels = split.images.shape[1]
    return Stream(
        Columns(split.images, split.labels),
        batch_size=RECIPE.batch_size,
        seed=0,
        normalisation=Normalisation(MEAN[:channels], STD[:channels]),
        augment="flip_crop",
    )


def through_pool(pool: TrainerPool, net: nn.Module, split: Split) -> None:
    batches = loader(split)
    pool.fit(Classifier(net, RECIPE, steps_per_epoch=len(batches)), batches, epochs=1)


def bare(net: nn.Module, split: Split) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=RECIPE.lr, momentum=RECIPE.momentum)
    net.train()
    for pixels, labels in loader(split):
        optimizer.zero_grad()
        functional.cross_entropy(net(pixels), labels).backward()
        optimizer.step()


@contextmanager
def loosened(*, tf32: bool) -> Iterator[None]:
    """Let torch choose kernels that do not repeat themselves, or that round to TF32 as well."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    strict = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    cudnn.deterministic, cudnn.benchmark = False, True
    cudnn.allow_tf32 = matmul.allow_tf32 = tf32
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before
        torch.use_deterministic_algorithms(strict)


def loose(net: nn.Module, split: Split, *, tf32: bool) -> None:
    with loosened(tf32=tf32):
        bare(net, split)


def new_trainer(net: nn.Module, batches: object, steps: int, device: str) -> None:
    with hushed():
        trainer = Trainer(
            accelerator="gpu" if device.startswith("cuda") else "cpu",
            devices=1,
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Classifier(net, RECIPE, steps_per_epoch=steps), batches)


def epoch(repeats: int, count: int, width: int, device: str) -> list[Row]:
    """One client's local epoch of a ConvNet, batches of 64."""
    plain = images(count)
    photos, split = DataLoader(Photos(plain), RECIPE.batch_size, shuffle=True), on(plain, device)
    pools = {name: TrainerPool(device, name) for name in ("32-true", "bf16-mixed")}
    model, kind = Model(name="convnet", width=width), torch.device(device).type

    def net(last: bool = False) -> nn.Module:
        made = build(model, channels=3, size=32, classes=10, seed=0, device=kind).to(device)
        return made.to(memory_format=torch.channels_last) if last else made

    seconds = interleave(
        {
            "pool": lambda: through_pool(pools["32-true"], net(), split),
            "bare": lambda: bare(net(), split),
            "usual": lambda: new_trainer(net(), photos, len(photos), device),
            "bf16": lambda: through_pool(pools["bf16-mixed"], net(), split),
            "last": lambda: through_pool(pools["32-true"], net(last=True), split),
            "free": lambda: loose(net(), split, tf32=False),
            "tf32": lambda: loose(net(), split, tf32=True),
            "bf16 last": lambda: through_pool(pools["bf16-mixed"], net(last=True), split),
        },
        repeats,
    )
    return [
        Row("local epoch through the pool", statistics.median(seconds["pool"]), "s"),
        Row("pool's throughput / bare loop's", ratio(seconds, "pool", "bare"), "x", ">= 0.95"),
        Row("pool's / DataLoader, PIL and a new Trainer", ratio(seconds, "pool", "usual"), "x"),
        Row("bf16-mixed's / fp32's, both through the pool", ratio(seconds, "bf16", "pool"), "x"),
        Row("bare loop, any kernels / those that repeat themselves", ratio(seconds, "free", "bare"),
            "x"),
        Row("bare loop, any kernels and TF32 / the same", ratio(seconds, "tf32", "bare"), "x"),
        Row("fp32 in channels_last / as built", ratio(seconds, "last", "pool"), "x"),
        Row("bf16-mixed in channels_last / as built", ratio(seconds, "bf16 last", "bf16"), "x"),
    ]  # fmt: skip


def fixed(repeats: int, device: str) -> list[Row]:
    """A fit of five steps of a tiny model: what a client-round costs whatever it trains."""
    source = torch.Generator().manual_seed(0)
    count = 5 * RECIPE.batch_size
    pixels = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=source)
    split = on(Split(pixels, torch.randint(0, 10, (count,), generator=source)), device)
    pool = TrainerPool(device, "32-true")

    def net() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).to(device)

    seconds = interleave(
        {
            "pool": lambda: through_pool(pool, net(), split),
            "bare": lambda: bare(net(), split),
            "new": lambda: new_trainer(net(), loader(split), 5, device),
        },
        repeats,
    )
    return [
        Row("5 steps, bare loop", 1000 * statistics.median(seconds["bare"]), "ms"),
        Row("more through the pool", excess_ms(seconds, "pool", "bare"), "ms", "<= 5"),
        Row("more with a new Trainer", excess_ms(seconds, "new", "bare"), "ms"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the table to this file as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = str(ready(options.device))
    rows = fixed(10 * options.repeats, device)
    rows += epoch(options.repeats, options.images, options.width, device)
    report("Training through the pool", rows, options.json)


if __name__ == "__main__":
    main()
