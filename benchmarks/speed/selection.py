"""What selecting crops costs, and which share of a round that is.

Run ``python benchmarks/speed/selection.py``; it asserts nothing. Everything follows from the number
of crops: a tenth is selected, a fiftieth is the number of clusters, and clients hold a tenth as
many images, so ``--count 50000`` is 5,000 crops by 1,000 clusters, and 5,000 images. A round is the
selection and ten local epochs, of which one is measured; distillation comes on top.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from timing import Row, interleave, ratio, report
from torch import Tensor
from training import MEAN, RECIPE, STD, images, loader, through_pool

from fedbench.data.normalisation import Normalisation
from fedbench.data.patches import CropSettings, crop_bank
from fedbench.data.pictures import read_picture
from fedbench.files import data_root
from fedbench.models.factory import build
from fedbench.models.inference import Inference
from fedbench.models.net import Net
from fedbench.models.settings import Model
from fedbench.synthesis.public.crops import SelectionSettings, select
from fedbench.training.pool import TrainerPool

EPOCHS = 10
CIFAR = 50_000


def selecting(outputs: tuple[Tensor, Tensor], cluster: str, count: int) -> Tensor:
    """Select a tenth and return all crops' distances to their clusters' centres, squared."""
    settings = SelectionSettings(cluster=cluster, clusters=count // 50)
    found = select(*outputs, settings, count=count // 10, seed=0)
    return torch.zeros(1) if found.distance is None else found.distance.square()


def measure(options: argparse.Namespace) -> dict[str, list[float]]:
    """Time each part of a round in turn, on the crops of a photograph."""
    count = options.count
    split = images(count // 10)
    picture = read_picture("china", data_root(), pixels=None, channels=3)
    bank = crop_bank(picture, CropSettings(), count=count, size=32, seed=0)
    pools = {name: TrainerPool("cpu", name) for name in ("32-true", "bf16-mixed")}
    exact, mixed = (
        Inference(Normalisation(MEAN, STD), torch.device("cpu"), bf16=bf16)
        for bf16 in (False, True)
    )

    def net() -> Net:
        return build(Model(name=options.model), channels=3, size=32, classes=10, seed=0)

    guide = net()
    through_pool(pools["32-true"], guide, split)
    said = mixed.both(guide, bank)
    variants = {
        "fp32": lambda: exact.both(guide, bank),
        "bf16": lambda: mixed.both(guide, bank),
        "twice": lambda: [exact.features(guide, bank), exact.logits(guide, bank)],
        "mini_batch": lambda: selecting(said, "mini_batch", count),
        "none": lambda: selecting(said, "none", count),
        "epoch": lambda: through_pool(pools["32-true"], net(), split),
        "bf16 epoch": lambda: through_pool(pools["bf16-mixed"], net(), split),
    }
    if options.full:
        variants["full"] = lambda: selecting(said, "full", count)
        spread = {
            kind: float(selecting(said, kind, count).sum()) for kind in ("mini_batch", "full")
        }
        print(f"inertia of mini-batch over full: {spread['mini_batch'] / spread['full']:.3f}")
    print(f"{len(loader(split))} batches of {RECIPE.batch_size} in an epoch")
    return interleave(variants, options.repeats)


def share(seconds: dict[str, list[float]], features: str, epoch: str, more: float = 1.0) -> float:
    """Return the median percentage of a round that goes into the selection."""
    turns = zip(seconds[features], seconds["mini_batch"], seconds[epoch], strict=True)
    return statistics.median(100 * (f + s) / (f + s + EPOCHS * more * e) for f, s, e in turns)


def rows(seconds: dict[str, list[float]], options: argparse.Namespace) -> list[Row]:
    """Return the table's lines."""
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    held, goal = options.count // 10, "<= 20"
    table = [
        Row("features and logits in one pass, fp32", middle["fp32"], "s"),
        Row("one pass's / two passes'", ratio(seconds, "fp32", "twice"), "x"),
        Row("bf16's / fp32's", ratio(seconds, "bf16", "fp32"), "x"),
        Row("mini-batch k-means, balance, pruning", middle["mini_batch"], "s"),
        Row("pruning alone", 1000 * middle["none"], "ms"),
        Row(f"{EPOCHS} local epochs of {held} images, from 1", EPOCHS * middle["epoch"], "s"),
        Row("selection's share of a round, all fp32", share(seconds, "fp32", "epoch"), "%", goal),
        Row("with bf16 features", share(seconds, "bf16", "epoch"), "%", goal),
        Row("with bf16-mixed training too", share(seconds, "bf16", "bf16 epoch"), "%", goal),
        Row(
            f"all fp32, if clients hold {CIFAR} images",
            share(seconds, "fp32", "epoch", CIFAR / held),
            "%",
            goal,
        ),
    ]
    if options.full:
        table.insert(5, Row("mini-batch's / full's", ratio(seconds, "mini_batch", "full"), "x"))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="crops in the bank")
    parser.add_argument("--model", default="resnet8")
    parser.add_argument("--full", action="store_true", help="full k-means, too, which takes long")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the table to this file as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    report(f"Selecting of {options.count} crops", rows(measure(options), options), options.json)


if __name__ == "__main__":
    main()
