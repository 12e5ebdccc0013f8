"""`fedbench pretrain-diffusion`: a prior for FedLMG, trained on images that no client holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fedbench.cli.options import Device, Offline, Plugin
from fedbench.errors import SettingsError
from fedbench.session.console import stderr, stdout
from fedbench.session.means import load_plugins, runtime

if TYPE_CHECKING:
    from torch import Tensor

    from fedbench.bench.cells.runtime import Runtime
    from fedbench.data.dataset import Split
    from fedbench.data.settings import Data


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command(name="pretrain-diffusion")(pretrain_diffusion)


def pretrain_diffusion(
    dataset: Annotated[str, typer.Option(help="Whose training images it learns.")],
    out: Annotated[Path, typer.Option(help="The folder that it becomes.")],
    size: Annotated[
        Literal["tiny", "small", "large"],
        typer.Option(help="tiny: digits; small: MNIST; large: for a GPU."),
    ] = "tiny",
    steps: Annotated[int | None, typer.Option(help="Instead of the size's.", min=1)] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Height and width; that of the clients' images.", min=8)
    ] = None,
    channels: Annotated[
        int | None, typer.Option(help="1 or 3: that of the clients' images.")
    ] = None,
    train_size: Annotated[
        int | None,
        typer.Option(help="Images that clients hold, for --unused: the cells' data.train_size."),
    ] = None,
    unused: Annotated[
        bool,
        typer.Option(help="Learn the images that --train-size leaves to nobody: a privilege."),
    ] = False,
    subset_seed: Annotated[
        int | None,
        typer.Option(help="Which images those are, for --unused: data.subset_seed.", min=0),
    ] = None,
    conditional: Annotated[bool, typer.Option(help="Tell it the images' classes.")] = False,
    seed: Annotated[int, typer.Option(help="Of weights, batches and noise.", min=0)] = 0,
    precision: Annotated[
        Literal["32-true", "bf16-mixed"], typer.Option(help="Of the training.")
    ] = "32-true",
    device: Device = "auto",
    offline: Offline = False,
    plugin: Plugin = None,
) -> None:
    """Train a diffusion model on public images, as a diffusers folder for FedLMG.

    A killed training goes on where it was. Each epoch leaves a sheet of samples in OUT/samples.

    Example: fedbench pretrain-diffusion --dataset mnist --out prior/
    """
    load_plugins(plugin)
    if unused == (train_size is None):
        raise SettingsError(
            "--unused and --train-size belong together: which images do the clients leave?"
        )
    if subset_seed is not None and not unused:
        raise SettingsError(
            f"--subset-seed {subset_seed} says which images clients hold, and without --unused "
            "all are learnt; leave it out"
        )
    if channels not in (None, 1, 3):
        raise SettingsError(f"--channels {channels}: images have 1 (grey) or 3 (colour)")
    from fedbench.bench.cells.environment import resolve_device
    from fedbench.data.settings import Data

    means = runtime(device, offline=offline)
    own = {} if subset_seed is None else {"subset_seed": subset_seed}
    config = Data(name=dataset, train_size=train_size, image_size=image_size, **own)
    images, labels, classes = _public(config, means, channels)
    from fedbench.synthesis.diffusion.pretraining import Plan, pretrain
    from fedbench.synthesis.diffusion.priors import SCALES

    about: dict[str, Any] = {
        "dataset": dataset,
        "images": "unused" if unused else "all",
        "count": len(images),
        "train_size": train_size,
        "subset_seed": config.subset_seed,
    }
    count = SCALES[size].steps if steps is None else steps
    plan = Plan(size, count, conditional, classes, seed, about)
    folder = out.expanduser().resolve()

    def show(done: int, epochs: int, loss: float, shown: Tensor) -> None:
        place = _sheet(shown, folder / "samples" / f"epoch-{done:03}.png")
        line = f"epoch {done} of {epochs}: loss {loss:.4f}, {place}"
        stderr.print(line, highlight=False, markup=False, soft_wrap=True)

    trained = pretrain(
        images,
        labels,
        plan,
        folder,
        device=resolve_device(means.device),
        precision=precision,
        show=show,
    )
    what = "trained" if trained else "is there already"
    stdout.print(f"{folder}: {what}", highlight=False, markup=False, soft_wrap=True)


def _public(config: Data, means: Runtime, channels: int | None) -> tuple[Tensor, Tensor, int]:
    """Return images (N, C, S, S) uint8, their labels, and the number of classes."""
    from fedbench.bench.cells.datasets import load_data
    from fedbench.data.load import left_over
    from fedbench.federation.images import in_channels

    whole = load_data(config.model_copy(update={"train_size": None}), means)
    split: Split = whole.train
    if config.train_size is not None:
        split = left_over(split, config)
    images = split.images if channels is None else in_channels(split.images, channels)
    return images, split.labels, len(whole.classes)


def _sheet(images: Tensor, place: Path) -> Path:
    """Write (n, C, S, S) uint8 images as a square sheet, four pixels for one."""
    import io

    from PIL import Image

    from fedbench.files import write_atomic

    side = int(len(images) ** 0.5)
    count, channels, height, width = side * side, *images.shape[1:]
    grid = images[:count].view(side, side, channels, height, width).permute(0, 3, 1, 4, 2)
    pixels = grid.reshape(side * height, side * width, channels)
    large = pixels.repeat_interleave(4, 0).repeat_interleave(4, 1)
    found = large.squeeze(2) if channels == 1 else large
    content = io.BytesIO()
    Image.fromarray(found.numpy()).save(content, "PNG")
    write_atomic(place, content.getvalue())
    return place
