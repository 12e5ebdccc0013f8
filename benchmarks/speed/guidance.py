"""What guidance costs beside plain sampling, and what makes it cheaper.

`guided` is what the method does by default; each other way differs from it in one setting.
Run ``python benchmarks/speed/guidance.py``; it asserts nothing.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from timing import Row, interleave, ratio, report
from torch import Tensor

from fedbench.data.normalisation import Normalisation
from fedbench.methods.fedlmg import FedLMGConfig
from fedbench.models.factory import build
from fedbench.models.inference import Inference
from fedbench.models.settings import Model
from fedbench.seeding import generator, isolated
from fedbench.synthesis.diffusion.guidance import Guidance, Guide
from fedbench.synthesis.diffusion.model import Diffusion, Sampler, Sampling
from fedbench.synthesis.diffusion.priors import SCALES, SCHEDULE, Size, network, of_network
from fedbench.synthesis.teachers import Teachers

HALF = Normalisation((0.5,), (0.5,))
DEFAULTS = FedLMGConfig.model_validate({"name": "fedlmg"})
GIVEN = DEFAULTS.guidance


def model(size: Size, image: int, device: torch.device, *, bf16: bool = False) -> Diffusion:
    with isolated(0):
        net, settings = network(SCALES[size], 1, image)
    return of_network(net, settings, SCHEDULE, device, classes=10, bf16=bf16)


def teacher(image: int, device: torch.device) -> Teachers:
    net = build(
        Model(name="resnet8", width=8),
        channels=1,
        size=image,
        classes=10,
        seed=0,
        device=device.type,
    )
    return Teachers([net.eval()], Inference(HALF, device))


def rows(
    size: Size, image: int, batch: int, steps: int, repeats: int, device: torch.device
) -> list[Row]:
    """Batches of one client in several ways, interleaved; images a second beside plain sampling."""
    client, plain, half = (
        teacher(image, device),
        model(size, image, device),
        model(size, image, device, bf16=True),
    )
    labels = (torch.arange(batch) % 10).to(device)

    def way(
        guidance: Guidance, kind: Sampling = DEFAULTS.sampler, prior: Diffusion = plain
    ) -> Callable[[], Tensor]:
        guide = Guide(prior, Sampler(prior, kind, steps), client, HALF, guidance)

        def run() -> Tensor:
            return guide.run(labels, generator(0, "speed")).images

        return run

    ways = {
        "plain": way(replace(GIVEN, scale=0.0)),
        "guided": way(GIVEN),
        "entropy": way(replace(GIVEN, batch_norm=0.0)),
        "once": way(replace(GIVEN, twice=False)),
        "detached": way(replace(GIVEN, detach=True)),
        "ddim": way(GIVEN, "ddim"),
        "bf16": way(GIVEN, prior=half),
    }
    images = {name: run() for name, run in ways.items()}
    seconds = interleave(ways, repeats)
    about = f"{size} prior, {image}x{image}, {batch} images, {steps} steps"

    def apart(name: str) -> float:
        return float((images[name] - images["guided"]).abs().mean())

    def slower(name: str, than: str) -> float:
        return ratio(seconds, name, than)

    per_second = batch / statistics.median(seconds["guided"])
    return [
        Row(f"guided images a second ({about})", per_second, ""),
        Row("guided / plain, images a second", slower("guided", "plain"), "x", "at least 0.3"),
        Row("cross entropy alone / plain", slower("entropy", "plain"), "x"),
        Row("detached / plain", slower("detached", "plain"), "x"),
        Row("detached: mean difference of pixels", apart("detached"), ""),
        Row("predicting once / twice, images a second", slower("once", "guided"), "x"),
        Row("once: mean difference of pixels", apart("once"), ""),
        Row("ddim / ddpm, images a second", slower("ddim", "guided"), "x", "1"),
        Row("bf16 / float32, images a second", slower("bf16", "guided"), "x"),
        Row("bf16: mean difference of pixels", apart("bf16"), ""),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=("tiny", "small", "large"), default="tiny")
    parser.add_argument("--image", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    found = rows(given.size, given.image, given.batch, given.steps, given.repeats, device)
    report("Guided sampling", found, given.json)


if __name__ == "__main__":
    main()
