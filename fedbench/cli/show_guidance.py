"""`fedbench show guidance`: what guided a cell's images, made again from its record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.cli.pictures import facts
from fedbench.errors import SettingsError
from fedbench.files import data_root, home
from fedbench.session.lookup import read_output, read_sets

if TYPE_CHECKING:
    from torch import Tensor

    from fedbench.bench.cells.runtime import Runtime
    from fedbench.bench.records.record import Record
    from fedbench.config import Cell
    from fedbench.data.dataset import ImageData
    from fedbench.methods.fedlmg import FedLMGConfig
    from fedbench.report.figures.render import Sketch
    from fedbench.report.pictures.guidance import Images
    from fedbench.synthesis.diffusion.guidance import Guidance, Made
    from fedbench.synthesis.diffusion.model import Diffusion, Sampler
    from fedbench.synthesis.teachers import Teachers

#: Clients of whom each has a sheet, at most.
_SHEETS = 6
#: Weights without which a term has no part.
_WEIGHTS = ("cross_entropy", "batch_norm", "scale")
#: Noise edits of the sheet that compares them.
_EDITS = (0, 5, 10)


def sketches(path: Path, record: Record, count: int) -> Iterator[Sketch]:
    """Draw guided images beside the clients' own, and the same noise guided in several ways.

    Args:
        path: Of the record.
        record: Of the cell.
        count: Images of a class in a block, at most.

    Raises:
        SettingsError: The cell's method guides nothing.
    """
    from fedbench.bench.cells.datasets import load_data
    from fedbench.bench.cells.lookup import refuse_changed
    from fedbench.bench.cells.runtime import Runtime
    from fedbench.config import parse
    from fedbench.federation.resources import Folders
    from fedbench.methods.fedlmg import FedLMGConfig

    cell = parse(record.settings)
    if not isinstance(cell.method, FedLMGConfig) or "guide" not in record.outputs:
        raise SettingsError(
            f"cell {record.cell_id} is of {record.method_label()}, which guides no diffusion "
            "model; a cell of fedlmg does"
        )
    means = Runtime(home=home(), data=data_root(), device="cpu")
    refuse_changed(record, cell.data, Folders(means.data, means.home))
    data = load_data(cell.data, means)
    yield from _clients(path, record, cell, data, count)
    if cell.method.prior != "none":
        yield from _ways(path, record, cell, cell.method, data, means, count)


def _clients(
    path: Path, record: Record, cell: Cell, data: ImageData, count: int
) -> Iterator[Sketch]:
    """Draw each client's guided images beside its own."""
    import torch

    from fedbench.data.domains import domain_of, transform
    from fedbench.data.partition import split
    from fedbench.report.pictures.guidance import Images, side_by_side

    made, classes = read_sets(path, record)["synthetic"], record.data["classes"]
    assert made.origin is not None
    labels = data.train.labels.cpu()
    parts = split(labels.numpy(), cell.partition, cell.seed, len(classes))
    for client in torch.unique(made.origin).tolist()[:_SHEETS]:
        own = torch.from_numpy(parts.train[client])
        domain = domain_of(cell.partition.domains, client)
        seen = transform(data.train.images.cpu()[own], domain, cell.seed, client, "train")
        here = made.origin == client
        look = "" if domain == "plain" else f", whose images are seen as {domain}"
        blocks = {
            "its own images": Images(seen.numpy(), labels[own].numpy()),
            "guided by its classifier": Images(
                made.images[here].numpy(), made.labels[here].numpy()
            ),
        }
        head = [f"Client {client}{look}: {facts(record)}"]
        yield side_by_side(f"guided-client-{client}", head, blocks, classes, count=count)


def _ways(
    path: Path,
    record: Record,
    cell: Cell,
    config: FedLMGConfig,
    data: ImageData,
    means: Runtime,
    count: int,
) -> Iterator[Sketch]:
    """Draw the same noise guided by either term, by both and by none, and after noise edits."""
    from fedbench.report.pictures.guidance import over_steps, side_by_side
    from fedbench.synthesis.diffusion.guidance import TOLD
    from fedbench.synthesis.diffusion.model import Sampler

    teacher = _teacher(path, record, cell, data)
    model = _model(path, record, cell, config, data, means)
    sampler = Sampler(model, config.sampler, config.steps)
    classes = record.data["classes"]
    # What the cell leaves out is drawn with the weight that it has by default.
    usual = {name: type(config).model_fields[name].default for name in _WEIGHTS}
    given = config.guidance
    given = replace(given, **{name: getattr(given, name) or usual[name] for name in _WEIGHTS})
    ways = {
        "unguided": replace(given, scale=0.0),
        "cross entropy": replace(given, batch_norm=0.0),
        "statistics": replace(given, cross_entropy=0.0),
        "both": given,
    }
    labels = _asked(cell, data, config.classes, count)
    if not _has_batch_norm(teacher):
        ways = {name: way for name, way in ways.items() if not way.batch_norm or not way.steers}
    most = list(ways.values())[-1]  # both terms, or the only one that such a classifier has
    found = {
        name: _run(model, sampler, teacher, way, cell, data, labels) for name, way in ways.items()
    }
    head = [f"The same noise, guided by client {_first(cell)}: {facts(record)}"]
    blocks = {name: _images(made, labels) for name, made in found.items()}
    yield side_by_side("guided-terms", head, blocks, classes, count=count)
    for column, what in ((1, "confidence in the wanted class"), (2, "distance to the statistics")):
        courses = {name: made.trace[:, column].numpy() for name, made in found.items()}
        name = f"guided-{TOLD[column].replace('_', '-')}"
        yield over_steps(name, facts(record), sampler.timesteps, courses, what)
    edited = {
        f"{edits} edits": _images(
            _run(model, sampler, teacher, replace(most, edits=edits), cell, data, labels),
            labels,
        )
        for edits in _EDITS
    }
    head = [f"The same noise after edits: {facts(record)}"]
    yield side_by_side("guided-edits", head, edited, classes, count=count)


def _run(
    model: Diffusion,
    sampler: Sampler,
    teacher: Teachers,
    guidance: Guidance,
    cell: Cell,
    data: ImageData,
    labels: Tensor,
) -> Made:
    """Return images of given classes from the same noise."""
    from fedbench.seeding import generator
    from fedbench.synthesis.diffusion.guidance import Guide

    scale = data.normalisation(cell.data.normalisation)
    guide = Guide(model, sampler, teacher, scale, guidance)
    return guide.run(labels, generator(cell.seed, "show", "guided"), watch=True)


def _images(made: Made, labels: Tensor) -> Images:
    from fedbench.report.pictures.guidance import Images

    return Images((made.images * 255).round().byte().numpy(), labels.numpy())


def _asked(cell: Cell, data: ImageData, classes: tuple[int, ...] | None, count: int) -> Tensor:
    """Return ``count`` of each class that the cell makes images of with the first client."""
    import torch

    from fedbench.data.partition import split

    labels = data.train.labels.cpu().numpy()
    parts = split(labels, cell.partition, cell.seed, len(data.classes))
    seen = {*labels[parts.train[_first(cell)]].tolist()}
    return torch.tensor(sorted(seen if classes is None else seen & {*classes})).repeat(count)


def _first(cell: Cell) -> int:
    """Return the first client that took part."""
    from fedbench.federation.loop import participants

    return participants(cell.seed, cell.partition.clients, cell.participation, 0)[0]


def _has_batch_norm(teacher: Teachers) -> bool:
    from torch.nn.modules.batchnorm import _BatchNorm

    return any(isinstance(module, _BatchNorm) for module in teacher.nets[0].modules())


def _teacher(path: Path, record: Record, cell: Cell, data: ImageData) -> Teachers:
    """Return the classifier of the first client that took part."""
    import torch

    from fedbench.federation.work import load
    from fedbench.models.factory import build
    from fedbench.models.inference import Inference
    from fedbench.synthesis.teachers import Teachers

    net = build(
        cell.client_model(_first(cell)),
        channels=data.channels,
        size=data.size,
        classes=len(data.classes),
        seed=0,
    )
    load(net, read_output(path, record, "guide"))
    scale = data.normalisation(cell.data.normalisation)
    return Teachers([net], Inference(scale, torch.device("cpu")))


def _model(
    path: Path,
    record: Record,
    cell: Cell,
    config: FedLMGConfig,
    data: ImageData,
    means: Runtime,
) -> Diffusion:
    """Return the diffusion model: of the record's outputs, or of its folder."""
    import torch

    from fedbench.bench.cells.datasets import load_data
    from fedbench.federation.resources import Folders, Scene, declared
    from fedbench.seeding import isolated
    from fedbench.synthesis.diffusion.priors import SCALES, SCHEDULE, network, of_folder, of_network

    classes, cpu = len(data.classes), torch.device("cpu")
    bf16 = cell.precision == "bf16-mixed"
    if config.trains:
        told = classes if config.conditional else None
        with isolated(0):  # what is drawn for new weights is overwritten
            net, settings = network(SCALES[config.prior_size], data.channels, data.size, told)
        net.load_state_dict(read_output(path, record, "prior"))
        return of_network(net, settings, SCHEDULE, cpu, classes=classes, bf16=bf16)
    scene = Scene(
        cell,
        data.channels,
        data.size,
        classes,
        Folders(means.data, means.home),
        lambda settings: load_data(settings, means),
    )
    found = declared(config.prior).load(scene)
    return of_folder(found, cpu, size=data.size, classes=classes, bf16=bf16)
