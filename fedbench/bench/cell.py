"""One cell from settings to record: data, partition, federation, evaluation.

A cell that fails leaves a record with its traceback; what it had committed stays in its scratch
folder, and the next run goes on there.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from fedbench.bench.environment import PeakMemory, environment, resolve_device
from fedbench.bench.lookup import data_sources
from fedbench.bench.records import Record, record_path, write_record
from fedbench.config import Cell, Data, identity
from fedbench.data.dataset import ImageData, Split
from fedbench.data.load import load
from fedbench.data.partition import ClientSplit, split
from fedbench.data.subset import stratified
from fedbench.evaluation.accuracy import Scores, score
from fedbench.evaluation.predict import outputs
from fedbench.federation.artefacts import ArtefactStore, tensors_digest
from fedbench.federation.context import Context, ImageShape, Progress
from fedbench.federation.ledger import Clock, Ledger
from fedbench.federation.loop import Federation
from fedbench.federation.population import Population
from fedbench.federation.resources import Resource
from fedbench.files import write_atomic
from fedbench.registry import METHODS
from fedbench.training.pool import TrainerPool

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Runtime:
    """Where and how cells run; none of it is part of a cell's identity.

    Attributes:
        home: The folder for everything that is written.
        data: The root of the data sets.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: Of torch on the CPU; 0 takes all cores.
        offline: Never download.
        refresh: Train anew what the artefact store has.
        show: Called whenever a cell's progress changes.
        say: Called with lines on slow things, such as decoding a data set.
    """

    home: Path
    data: Path
    device: str = "auto"
    threads: int = 0
    offline: bool = False
    refresh: bool = False
    show: Callable[[Progress], None] = field(default=lambda _: None, compare=False)
    say: Callable[[str], None] = field(default=log.info, compare=False)


def run_cell(cell: Cell, runtime: Runtime, *, suite: str, profile: str | None = None) -> Record:
    """Compute a cell and write its record.

    Args:
        cell: What to compute.
        runtime: Where and how.
        suite: Names the folder of the record.
        profile: The suite's profile, a label.

    Returns:
        The record, ``ok`` or ``failed``; a failure stops nothing else.
    """
    start, memory = time.perf_counter(), PeakMemory()
    device = resolve_device(runtime.device)
    threads = runtime.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    scratch = runtime.home / suite / "scratch" / cell.cell_id
    labels: dict[str, Any] = {
        "cell_id": cell.cell_id,
        "suite": suite,
        "profile": profile,
        "control": METHODS.get(cell.method.name).control,
        "settings": cell.model_dump(mode="json"),
        "versions": identity(cell)["versions"],
        "environment": environment(device, threads),
    }
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    try:
        found = _compute(cell, runtime, suite, torch.device(device), threads, scratch)
        record = Record(status="ok", **labels, **found)
    except Exception as error:
        record = Record(
            status="failed",
            reason=f"{type(error).__name__}: {error}",
            traceback=traceback.format_exc(),
            **labels,
        )
    record = record.model_copy(
        update={
            "wall_seconds": time.perf_counter() - start,
            "peak_memory_bytes": memory.read(),
            "peak_device_memory_bytes": torch.cuda.max_memory_allocated()
            if device.startswith("cuda")
            else 0,
        }
    )
    write_record(record_path(runtime.home, suite, cell.cell_id), record)
    if record.status == "ok":
        shutil.rmtree(scratch, ignore_errors=True)
    return record


def _compute(
    cell: Cell, runtime: Runtime, suite: str, device: torch.device, threads: int, scratch: Path
) -> dict[str, Any]:
    data = load_data(cell.data, runtime)
    split = _partition(cell, data)
    context = _context(cell, runtime, data, device, threads, scratch)
    method = METHODS.get(cell.method.name)(cell.method)
    population = Population(context, data.train.to(device), split, data.fingerprint)
    harness = Harness(context, data.test.to(device))
    federation = Federation(method, context, population, harness.curve)
    federation.run()
    folder = runtime.home / suite / "outputs"
    context.progress.enter("evaluation")
    metrics, digests = harness.measure(federation, split.histogram.tolist(), folder)
    synthetic = method.synthetic(federation.server)
    shared = 0
    if synthetic is not None:
        digests["synthetic"] = synthetic.save(folder)
        shared = synthetic.pixels
    pooled = cell.method.validation == "pooled"
    return {
        "data": {
            "fingerprint": data.fingerprint,
            "sources": data_sources(cell.data, runtime.data).digest,
            "train": len(data.train),
            "test": len(data.test),
            "classes": list(data.classes),
            "channels": data.channels,
            "size": data.size,
        },
        "partition": {
            "digest": split.digest,
            "histogram": split.histogram.tolist(),
            "hold_outs": [len(part) for part in split.validation],
        },
        "metrics": metrics,
        "curves": federation.curves,
        "ledger": federation.ledger.summary(cell.partition.clients),
        "shared_pixels": shared + sum(context.resource(name).pixels for name in method.resources),
        "resources": list(method.resources),
        "privileges": ["the clients' hold-outs, pooled at the server"] if pooled else [],
        "outputs": digests,
    }


class Harness:
    """The only holder of test data.

    Args:
        context: The cell's means.
        test: The whole test set.
    """

    def __init__(self, context: Context, test: Split) -> None:
        self._context, self._test = context, test
        size = min(context.cell.evaluation.curve_size, len(test))
        chosen = stratified(test.labels.cpu(), size, context.cell.data.subset_seed, "curve")
        self._share = test.take(chosen.to(test.labels.device))

    def scores(self, model: nn.Module, split: Split | None = None) -> Scores:
        """Score a model on the whole test set, or on another split."""
        context, split = self._context, self._test if split is None else split
        shape, settings = context.shape, context.cell.evaluation
        logits = outputs(
            model,
            split.images,
            mean=shape.mean,
            std=shape.std,
            device=context.device,
        )
        return score(logits, split.labels, classes=shape.classes, bins=settings.ece_bins)

    def curve(self, model: nn.Module) -> dict[str, float]:
        """Return one point of a curve, measured on the fixed share of the test set."""
        scores = self.scores(model, self._share)
        return {"accuracy": scores.accuracy, "nll": scores.nll}

    def measure(
        self, federation: Federation, histogram: list[list[int]], folder: Path
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Score every final model and keep its weights.

        Args:
            federation: After its last round.
            histogram: Each client's images of each class.
            folder: For weights, by digest.

        Returns:
            The record's metrics, and digests of the models by name.
        """
        models, digests = {}, {}
        for name, model in federation.method.models(federation.server):
            scores = self.scores(model)
            mixes = [scores.on_mix(mix) for mix in histogram]
            models[name] = {**scores.to_json(), "worst_client": min(mixes), "on_mixes": mixes}
            digests[name] = _keep(model, folder)
        for info, model in federation.client_models():
            scores = self.scores(model)
            mix = scores.on_mix(histogram[info.id])
            models[f"client/{info.id}"] = {**scores.to_json(), "own_mix": mix}
        return {**headline(models, federation.method.headline), "models": models}, digests


def headline(models: dict[str, dict[str, Any]], rule: str) -> dict[str, Any]:
    """Return the numbers that head a row.

    Args:
        models: Scores by model.
        rule: ``global``: the model of that name; ``mean``: the mean over all models.
    """
    if not models:
        return {"accuracy": None}
    names = ("accuracy", "balanced_accuracy", "nll", "ece")
    if rule == "global":
        chosen = models["global"]
        return {
            **{name: chosen[name] for name in (*names, "per_class")},
            "worst_client": chosen["worst_client"],
        }
    rows = list(models.values())
    summary = {name: sum(row[name] for row in rows) / len(rows) for name in names}
    classes = zip(*(row["per_class"] for row in rows), strict=True)
    per_class = [None if None in values else sum(values) / len(values) for values in classes]
    own = [row["own_mix"] if "own_mix" in row else row["worst_client"] for row in rows]
    accuracies = [row["accuracy"] for row in rows]
    return {
        **summary,
        "per_class": per_class,
        "worst_client": min(own),
        "best_accuracy": max(accuracies),
        "worst_accuracy": min(accuracies),
        "own_mix": sum(own) / len(own),
    }


def load_data(settings: Data, runtime: Runtime) -> ImageData:
    """Return a cell's data; the last ones used in this process are kept."""
    sources = data_sources(settings, runtime.data).digest
    return _load(
        settings, sources, runtime.data, runtime.home / "cache", runtime.offline, runtime.say
    )


@lru_cache(maxsize=4)
def _load(
    settings: Data, sources: str, root: Path, cache: Path, offline: bool, say: Callable[[str], None]
) -> ImageData:
    return load(settings, root=root, cache=cache, offline=offline, progress=say)


def _partition(cell: Cell, data: ImageData) -> ClientSplit:
    return split(data.train.labels.cpu().numpy(), cell.partition, cell.seed, len(data.classes))


def _context(
    cell: Cell, runtime: Runtime, data: ImageData, device: torch.device, threads: int, scratch: Path
) -> Context:
    mean, std = data.constants(cell.data.normalisation)
    shape = ImageShape(data.channels, data.size, len(data.classes), mean, std, data.augment)
    numerics = {
        "device": device.type,
        "precision": cell.precision,
        "threads": threads,
        "torch": torch.__version__,
    }
    store = ArtefactStore(runtime.home / "artefacts", numerics, refresh=runtime.refresh)

    def resource(name: str) -> Resource:
        return _resource(name, cell, runtime, shape)

    return Context(
        cell=cell,
        shape=shape,
        device=device,
        scratch=scratch,
        artefacts=store,
        pool=TrainerPool(str(device), cell.precision),
        clock=Clock(Ledger()),
        resource=resource,
        progress=Progress(show=runtime.show),
    )


def _resource(name: str, cell: Cell, runtime: Runtime, shape: ImageShape) -> Resource:
    """Load ``dataset:NAME``: another data set's training images, in the cell's shape."""
    from fedbench.errors import DataError

    kind, _, rest = name.partition(":")
    if kind != "dataset":
        raise DataError(f"resource {name!r} is of no known kind; known: dataset:NAME")
    images = load_data(Data(name=rest, image_size=shape.size), runtime).train.images
    if images.shape[1] != shape.channels:
        raise DataError(
            f"resource {name!r} has {images.shape[1]} channels, the cell has "
            f"{shape.channels}; choose a data set with as many"
        )
    return Resource(name, {"images": images}, images.shape[0] * shape.size**2)


def _keep(model: nn.Module, folder: Path) -> str:
    state: dict[str, Tensor] = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    digest = tensors_digest(state)
    path = folder / f"{digest}.safetensors"
    if not path.exists():
        write_atomic(path, safetensors.torch.save(state))
    return digest
