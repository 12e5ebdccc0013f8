"""`fedbench show inversion`: pictures of a cell that inverted models, from its record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.cli.pictures import facts
from fedbench.errors import SettingsError
from fedbench.files import data_root, home
from fedbench.session.lookup import find_good_record, read_output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fedbench.bench.records.record import Record
    from fedbench.report.figures.render import Sketch
    from fedbench.report.pictures.inversion import Made

#: Clients of whom each has a sheet, at most.
_SHEETS = 10


def sketches(path: Path, record: Record, beside: str | None, count: int) -> Iterator[Sketch]:
    """Draw a cell's images, its accuracies on fresh batches, and its confusion matrix.

    Args:
        path: Of the record.
        record: Of the cell.
        beside: Another record, whose images are to stand beside; None for none.
        count: Images of a class in a sheet, at most.

    Raises:
        SettingsError: A cell's method inverts no models.
    """
    import numpy as np

    from fedbench.report.pictures import inversion as pictures

    classes, (made, clients) = record.data["classes"], _made(path, record)
    head = f"Inverted images of {facts(record)}"
    if beside is not None:
        other_path, other = find_good_record(beside)
        blocks = [(facts(record), made), (facts(other), _made(other_path, other)[0])]
        yield pictures.over_time(
            "inverted-beside", ["Inverted images, side by side"], blocks, classes, count=count
        )
        return
    for client in np.unique(clients)[:_SHEETS].tolist():
        name = "inverted" if client < 0 else f"inverted-client-{client}"
        alone = record.settings["partition"]["clients"] == 1
        several = "the client's model" if alone else "several clients' models"
        title = several if client < 0 else f"the model of client {client}"
        some = [(f"made with {title}", made.where(clients == client))]
        yield pictures.over_time(name, [head], some, classes, count=count)
    scores = read_output(path, record, "fresh")["scores"].numpy()
    first = record.settings["method"]["initial_batches"]
    yield pictures.fresh_batches(
        "fresh", facts(record), scores[:, 0].astype(int), scores[:, 3:], first
    )
    matrix, owned = _confused(path, record)
    yield pictures.confusion("confusion", facts(record), matrix, classes, owned)


def _made(path: Path, record: Record) -> tuple[Made, NDArray[np.int64]]:
    """Return a cell's images, and the client that each was made with or -1."""
    from fedbench.report.pictures.inversion import Made

    if "inverted" not in record.outputs:
        raise SettingsError(
            f"cell {record.cell_id} is of {record.method_label()}, which inverts no models; a cell "
            "of deep_inversion does"
        )
    kept = read_output(path, record, "inverted")
    images, labels, batches = (kept[name].numpy() for name in ("images", "labels", "batches"))
    return Made(images, labels, batches), kept["clients"].numpy()


def _confused(path: Path, record: Record) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the confusion matrix of a cell's model on its test set, and the server's classes."""
    import numpy as np
    import torch

    from fedbench.bench.cells.datasets import load_data
    from fedbench.bench.cells.lookup import refuse_changed
    from fedbench.bench.cells.runtime import Runtime
    from fedbench.config import parse
    from fedbench.federation.resources import Folders
    from fedbench.federation.work import load
    from fedbench.methods.deep_inversion import DeepInversionConfig
    from fedbench.models.factory import build
    from fedbench.models.inference import Inference

    cell = parse(record.settings)
    assert isinstance(cell.method, DeepInversionConfig)
    means = Runtime(home=home(), data=data_root(), device="cpu")
    refuse_changed(record, cell.data, Folders(means.data, means.home))
    data = load_data(cell.data, means)
    count = len(data.classes)
    model = cell.method.network or cell.models[0]
    net = build(model, channels=data.channels, size=data.size, classes=count, seed=0)
    load(net, read_output(path, record, "global"))
    inference = Inference(data.normalisation(cell.data.normalisation), torch.device("cpu"))
    guessed = inference.logits(net, data.test.images.cpu()).argmax(1)
    pairs = data.test.labels.cpu() * count + guessed
    matrix = torch.bincount(pairs, minlength=count**2).view(count, count).numpy()
    held = np.asarray(record.partition["histogram"]).sum(0) > 0
    owned = ~held if cell.method.own == "unassigned" else np.zeros_like(held)
    return matrix, owned
