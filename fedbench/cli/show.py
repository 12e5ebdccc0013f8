"""`fedbench show`: pictures of what one cell worked with, from its record and outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fedbench.cli.distillation import distillation, search
from fedbench.cli.options import Plugin
from fedbench.cli.pictures import Named, Out, facts, folder_of, write
from fedbench.errors import DataError, SettingsError
from fedbench.files import data_root
from fedbench.session.lookup import find_good_record, read_output, read_sets
from fedbench.session.means import load_plugins

if TYPE_CHECKING:
    from torch import Tensor

    from fedbench.bench.records.record import Record
    from fedbench.federation.synthetic import SyntheticSet
    from fedbench.methods.single_image import Crops
    from fedbench.report.figures.render import Sketch
    from fedbench.report.pictures.look import ClassLook

#: Outlines on a picture that can still be told apart.
_OUTLINES = 25
#: How many times as many images a sheet of expanded canvases shows.
_EXPANDED = 2

app = typer.Typer(
    no_args_is_help=True,
    help="Draw what a cell worked with: crops, shared images, distillations, searches.",
)


def register(group: typer.Typer) -> None:
    """Add this file's commands."""
    for command in (patches, synthetic, generated, distillation, search, inversion, guidance):
        app.command()(command)
    group.add_typer(app, name="show")


def patches(
    record: Named,
    round: Annotated[int | None, typer.Option(help="Only this round, from 1.", min=1)] = None,
    out: Out = None,
    count: Annotated[int, typer.Option(help="Crops on each side of the sheet.", min=1)] = 100,
    map: Annotated[
        Literal["tsne", "pca"] | None,
        typer.Option(help="How features are laid out; t-SNE up to 2,000 of them, else PCA."),
    ] = None,
    plugin: Plugin = None,
) -> None:
    """Draw the crops of a shared image in each round: before and after selection.

    A contact sheet, the image with outlines of selected crops, and a map of the crops' features.
    The crops are made again from the image, which has to be here.

    Example: fedbench show patches 3f2a --round 1
    """
    load_plugins(plugin)
    path, found = find_good_record(record)
    shown = _selected(path, found)
    if round is not None and round > shown.rounds:
        raise SettingsError(
            f"there is no round {round}; cell {found.cell_id} has rounds 1 to {shown.rounds}"
        )
    folder = out or folder_of(found)
    for number in [round] if round is not None else range(1, shown.rounds + 1):
        for sketch in _round(shown, number, count, map):
            write(sketch, folder, svg=not sketch.name.startswith("image"))


def synthetic(
    record: Named,
    out: Out = None,
    count: Annotated[int, typer.Option(help="Images of a class, at most.", min=1)] = 10,
) -> None:
    """Draw the shared images that a cell left, by class; of several sets, each on its own sheet.

    A set of canvases is drawn a second time as the images that a network is trained with.

    Example: fedbench show synthetic 3f2a
    """
    path, found = find_good_record(record)
    if "synthetic" not in found.outputs:
        raise SettingsError(
            f"cell {found.cell_id} is of {found.method_label()}, which leaves no shared images; "
            "a method that does has `synthetic` among its record's outputs"
        )
    folder = out or folder_of(found)
    for name, shared in read_sets(path, found).items():
        for sketch in _set(found, name, shared, count):
            write(sketch, folder)


def generated(record: Named, out: Out = None) -> None:
    """Draw what generators made for each class over the epochs, and learnt weights of clients.

    For cells of data-free methods; weights where the method learns them.

    Example: fedbench show generated 3f2a
    """
    path, found = find_good_record(record)
    if "samples" not in found.outputs:
        raise SettingsError(
            f"cell {found.cell_id} is of {found.method_label()}, which has no generator; a cell of "
            "dense or co_boosting does"
        )
    from fedbench.report.pictures.generated import generated_sheet, share_lines

    folder, kept = out or folder_of(found), read_output(path, found, "samples")
    write(
        generated_sheet(
            "generated",
            [f"Images made by {facts(found)}", "The first of each class and epoch."],
            kept["images"].numpy(),
            kept["labels"].numpy(),
            kept["epochs"].numpy(),
            found.data["classes"],
        ),
        folder,
    )
    if "shares" in found.outputs:
        shares = read_output(path, found, "shares")["shares"].numpy()
        write(share_lines("shares", facts(found), shares), folder)


def inversion(
    record: Named,
    beside: Annotated[
        str | None, typer.Option(help="Another record, whose images stand beside; nothing else.")
    ] = None,
    out: Out = None,
    count: Annotated[int, typer.Option(help="Images of a class in a sheet, at most.", min=1)] = 10,
    plugin: Plugin = None,
) -> None:
    """Draw what a cell of deep_inversion made: images over time, by class and teacher.

    Also the accuracies of teachers and student on fresh batches, and the student's confusion
    matrix on the test set, which has to be here.

    Example: fedbench show inversion 3f2a
    """
    from fedbench.cli.show_inversion import sketches

    load_plugins(plugin)
    path, found = find_good_record(record)
    for sketch in sketches(path, found, beside, count):
        write(sketch, out or folder_of(found), svg=not sketch.name.startswith("inverted"))


def guidance(
    record: Named,
    out: Out = None,
    count: Annotated[int, typer.Option(help="Images of a class in a block, at most.", min=1)] = 5,
    plugin: Plugin = None,
) -> None:
    """Draw what guided a cell of fedlmg: by client and class, and the same noise in several ways.

    Guided images beside the clients' own, which have to be here; without guidance, by either term
    and by both; after 0, 5 and 10 noise edits; what the classifier says over the steps.

    Example: fedbench show guidance 3f2a
    """
    from fedbench.cli.show_guidance import sketches

    load_plugins(plugin)
    path, found = find_good_record(record)
    for sketch in sketches(path, found, count):
        svg = sketch.name in ("guided-confidence", "guided-batch-norm")
        write(sketch, out or folder_of(found), svg=svg)


def _set(record: Record, name: str, shared: SyntheticSet, count: int) -> Iterator[Sketch]:
    """Draw a set, and what is trained on where that is something else."""
    import torch

    from fedbench.report.pictures.sets import set_sheet
    from fedbench.synthesis.expansion import enlarge

    classes, labels = record.data["classes"], shared.classes.numpy()
    normalisation, file = shared.normalisation, name.replace("/", "-")
    kept = [f"{shared.pixels:,} pixels of storage"]
    if shared.label_bytes:
        kept.append(f"soft labels of {shared.label_bytes:,} bytes")
    exact = shared.images.dtype == torch.uint8
    kept.append("8-bit pixels" if exact else _clipped(normalisation.clipped(shared.images)))
    _, _, which = name.partition("/")
    what = f"Images `{which}` beside those shared by" if which else "Shared images of"
    head = [f"{what} {facts(record)}", " · ".join(kept)]
    pixels = normalisation.to_pixels(shared.images).numpy()
    yield set_sheet(file, head, pixels, labels, classes, count=count)
    factor = record.settings["method"].get("expand", 1)
    if factor == 1:
        return
    tiles = factor**2
    large = torch.stack(enlarge(normalisation(shared.images), factor).chunk(tiles), dim=1)
    pixels = normalisation.to_pixels(large.flatten(0, 1)).numpy()
    tiled = f"The {tiles} tiles of a canvas, each enlarged, stand side by side."
    head = [f"{what} {facts(record)}, expanded", tiled]
    labels, most = labels.repeat(tiles), _EXPANDED * count
    yield set_sheet(f"{file}-expanded", head, pixels, labels, classes, count=most, group=tiles)


@dataclass(frozen=True)
class _Selected:
    """What a single-image cell worked with.

    Attributes:
        record: Of the cell.
        crops: How its crops are made.
        picture: (C, H, W) uint8.
        bank: (N, C, S, S) uint8.
        kept: What each round left (see ``SingleImage.choose``).
        looks: Of the classes.
        rounds: How many there are.
    """

    record: Record
    crops: Crops
    picture: Tensor
    bank: Tensor
    kept: Mapping[str, Tensor]
    looks: Sequence[ClassLook]
    rounds: int


def _selected(path: Path, record: Record) -> _Selected:
    """Read what a cell's rounds have kept, and make its crops again.

    Raises:
        SettingsError: The cell's method selects no crops.
        DataError: The image is not here, or another one is.
    """
    import torch

    from fedbench.config import parse
    from fedbench.methods.single_image import SingleImage, SingleImageConfig, crops_of
    from fedbench.report.pictures.look import class_looks

    if "selection" not in record.outputs:
        raise SettingsError(
            f"cell {record.cell_id} is of {record.method_label()}, which selects no crops; a cell "
            f"of {SingleImage.name} does"
        )
    cell = parse(record.settings)
    assert isinstance(cell.method, SingleImageConfig)
    kept = read_output(path, record, "selection")
    picture = _picture(record)
    crops = crops_of(cell.method, size=record.data["size"], seed=cell.seed)
    rounds, classes = cell.method.rounds, record.data["classes"]
    counts = sum(
        torch.bincount(kept[f"{number}/predicted"].long(), minlength=len(classes))
        for number in range(rounds)
    )
    looks = class_looks(classes, torch.as_tensor(counts).numpy())
    return _Selected(record, crops, picture, crops.bank(picture), kept, looks, rounds)


def _picture(record: Record) -> Tensor:
    """Read the image that a cell's crops come from."""
    from fedbench.data.pictures import read_picture, source_digest
    from fedbench.federation.resources import declared

    (name,) = record.resources
    which, pixels = declared(name).which, declared(name).count
    known = record.data.get("resources", {}).get(name)
    if known is not None and source_digest(which, data_root()) != known:
        raise DataError(
            f"picture {which!r} has changed since cell {record.cell_id} was computed, so its "
            "crops cannot be made again; put the old file back"
        )
    return read_picture(which, data_root(), pixels=pixels, channels=record.data["channels"])


def _round(
    shown: _Selected, number: int, count: int, how: Literal["tsne", "pca"] | None
) -> Iterator[Sketch]:
    """Draw a round, from 1."""
    import torch

    from fedbench.report.pictures import crops
    from fedbench.seeding import generator

    record, looks = shown.record, shown.looks
    names = ("balanced", "chosen", "predicted", "confidence", "sample", "features")
    balanced, chosen, predicted, confidence, sample, features = (
        shown.kept[f"{number - 1}/{name}"] for name in names
    )
    labels, seed = predicted.long().numpy(), record.settings["seed"]
    end = f"round-{number:0{len(str(shown.rounds))}}"
    at = f"round {number} of {shown.rounds}"
    height, width = shown.picture.shape[1:]
    where = f"{facts(record)} · {record.settings['method']['image']}, {width}x{height} pixels"
    steps = f"{len(shown.bank):,} crops → {len(balanced):,} balanced → {len(chosen):,} selected"
    yield crops.selection_sheet(
        f"patches-{end}",
        [f"Crops before and after selection, {at}", f"{where} · {steps}"],
        shown.bank.numpy(),
        labels,
        confidence.float().numpy(),
        chosen.long().numpy(),
        looks,
        count=count,
        seed=seed,
    )
    order = torch.randperm(len(chosen), generator=generator(seed, "show", "outlines", number))
    some = chosen[order[:_OUTLINES].sort().values].long()
    yield crops.on_picture(
        f"image-{end}",
        f"{where} · {at} · {len(some)} of {len(chosen):,} selected crops, drawn at random",
        shown.picture.numpy(),
        shown.crops.outlines(shown.picture, some).numpy(),
        labels[some.numpy()],
        looks,
    )
    places, found = crops.place(features.float().numpy(), how)
    sampled = sample.long()
    yield crops.feature_map(
        f"map-{end}",
        f"{where} · {at} · {len(sample):,} of {len(shown.bank):,} crops",
        places,
        found,
        labels[sampled.numpy()],
        torch.isin(sampled, chosen.long()).numpy(),
        looks,
    )


def _clipped(share: float) -> str:
    return f"{100 * share:.1f} % of values lie beyond black or white"
