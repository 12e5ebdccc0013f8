"""One cell from settings to record: data, partition, federation, evaluation.

A cell that fails leaves a record with its traceback; what it had committed stays in its scratch
folder, and the next run goes on there. A disk that takes no more is no failure of the cell: it
stops all, because no other cell could be kept either.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fedbench.bench.cells.datasets import client_data, load_data
from fedbench.bench.cells.environment import (
    PeakMemory,
    available_cores,
    environment,
    gpu_of,
    numerics,
    resolve_device,
)
from fedbench.bench.cells.harness import Harness
from fedbench.bench.cells.holdouts import check_hold_outs
from fedbench.bench.cells.logs import CellLog, log_path
from fedbench.bench.cells.lookup import data_digest, newer_record
from fedbench.bench.cells.reasons import free_memory, is_memory, reason, trace
from fedbench.bench.cells.running import BusyError, Heartbeat, running_path
from fedbench.bench.cells.runtime import Runtime
from fedbench.bench.cells.stores import store_of
from fedbench.bench.records.record import Record, keep_record, record_path, stamp
from fedbench.config import Cell, identity, validate_method
from fedbench.data.dataset import ImageData
from fedbench.data.partition import ClientSplit, split
from fedbench.errors import (
    FedbenchError,
    TrainingError,
    UnwritableError,
)
from fedbench.federation.budget import total_pixels
from fedbench.federation.context import Context, ImageShape, Progress
from fedbench.federation.ledger import Clock, Ledger
from fedbench.federation.loop import Federation
from fedbench.federation.population import Population
from fedbench.federation.resources import Folders, Resource, Scene, declared, digests
from fedbench.federation.synthetic import SET, named_sets, save_outputs
from fedbench.files import Lock, is_full, move_aside, write_atomic, writing
from fedbench.methods import METHODS
from fedbench.registry import describe, plugin_digest
from fedbench.training import heap
from fedbench.training.determinism import settle
from fedbench.training.pool import TrainerPool

log = logging.getLogger(__name__)


def run_cell(
    cell: Cell,
    runtime: Runtime,
    *,
    suite: str,
    profile: str | None = None,
    before: str | None = "",
    wait: bool = True,
) -> Record:
    """Compute a cell and write its record.

    Args:
        cell: What to compute.
        runtime: Where and how.
        suite: Names the folder of the record.
        profile: The suite's profile, a label.
        before: Stamp of the record that was there when the cell was asked for, or None (see
            ``records.stamp``): any other is somebody's work since then, and taken. By default
            that is now.
        wait: For another process that has the cell in hand.

    Returns:
        The record, ``ok`` or ``failed``; a failure stops nothing else.

    Raises:
        BusyError: Another process has the cell in hand, and this one is not to wait.
        UnwritableError: The disk is full or a folder may not be written.
    """
    home = runtime.home
    if before == "":
        before = stamp(record_path(home, suite, cell.cell_id))
    lock = Lock(home / suite / "locks" / f"{cell.cell_id}.lock")
    if not lock.acquire(wait=False):
        if not wait:
            raise BusyError(f"another process has cell {cell.cell_id} in hand")
        runtime.say(f"waiting for another process that computes cell {cell.cell_id}")
        lock.acquire()
    try:
        found = newer_record(home, suite, cell, runtime.data, before)
        return found or _run(cell, runtime, suite, profile)
    finally:
        lock.release()


def _run(cell: Cell, runtime: Runtime, suite: str, profile: str | None) -> Record:
    home, device = runtime.home, resolve_device(runtime.device)
    method = METHODS.get(cell.method.name)
    settle(torch.device(device), strict=method.deterministic)
    threads = runtime.threads or available_cores()
    torch.set_num_threads(threads)
    heap.keep()
    with (
        CellLog(log_path(home, suite, cell.cell_id), capture=runtime.capture) as diary,
        Heartbeat(running_path(home, suite, cell.cell_id)) as beat,
    ):
        diary.begin(cell, suite, device, threads)

        def show(progress: Progress) -> None:
            runtime.show(progress)
            beat.show(progress)
            diary.show(progress)

        runtime.show(Progress())  # from here on it is in hand
        labels: dict[str, Any] = {
            "cell_id": cell.cell_id,
            "suite": suite,
            "profile": profile,
            "control": method.control,
            "deterministic": device == "cpu" or method.deterministic,
            "settings": cell.model_dump(mode="json"),
            "about": said_of(cell),
            "versions": identity(cell)["versions"],
            "environment": environment(device, threads),
        }
        record = _attempt(cell, replace(runtime, show=show), device, threads, labels)
        keep_record(home, record)
        diary.end(record)
    heap.give_back()
    if record.status == "ok":
        shutil.rmtree(_scratch(runtime, suite, cell), ignore_errors=True)
    return record


def said_of(cell: Cell) -> dict[str, Any]:
    """Return what a cell's method says of itself, for those who read its record without it.

    Returns:
        ``what`` in a line; ``preset``, all settings that the cell's preset stands for, or the
        method's defaults where it names none; ``plugin``, where it comes from a user's file.
    """
    method = METHODS.get(cell.method.name)
    found: dict[str, Any] = {"what": describe(method)}
    given = {"name": cell.method.name, "preset": cell.method.preset}
    # A plugin's method may have settings without a default: what is always set, nothing stands for.
    with suppress(ValueError):
        # Validated by itself: what a preset needs of the cell, such as hold-outs, is no matter.
        found["preset"] = validate_method(given).model_dump(mode="json")
    if plugin_digest(method) is not None:
        found["plugin"] = True
    return found


def _attempt(
    cell: Cell, runtime: Runtime, device: str, threads: int, labels: dict[str, Any]
) -> Record:
    """Return the record of a computation, whichever way it ends."""
    start, memory, on_gpu = time.perf_counter(), PeakMemory(), device.startswith("cuda")
    starved = False
    try:
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(device)
        found = _compute(cell, runtime, labels["suite"], torch.device(device), threads)
        record = Record(status="ok", **labels, **found)
    except UnwritableError:
        raise
    except Exception as error:
        if is_full(error):
            with writing(runtime.home):
                raise
        starved = is_memory(error)
        gpu = gpu_of(device) if on_gpu else None
        record = Record(status="failed", reason=reason(error, gpu), traceback=trace(), **labels)
    if starved or on_gpu:  # what is cached for this cell, other workers of the GPU cannot have
        free_memory()
    return record.model_copy(
        update={
            "wall_seconds": time.perf_counter() - start,
            "peak_memory_bytes": memory.read(),
            "peak_device_memory_bytes": torch.cuda.max_memory_allocated(device) if on_gpu else 0,
        }
    )


def _scratch(runtime: Runtime, suite: str, cell: Cell) -> Path:
    return runtime.home / suite / "scratch" / cell.cell_id


def _compute(
    cell: Cell, runtime: Runtime, suite: str, device: torch.device, threads: int
) -> dict[str, Any]:
    data = client_data(cell.data, runtime)
    split = _partition(cell, data)
    check_hold_outs(cell, split)
    scratch = _scratch(runtime, suite, cell)
    context = _context(cell, runtime, data, split, device, threads, scratch)
    method = METHODS.get(cell.method.name)(cell.method)
    population = Population(context, data.train.to(device), split, data.fingerprint)
    harness = Harness(context, data.test.to(device))
    federation = Federation(method, context, population, harness.curve)
    federation.run()
    folder = runtime.home / suite / "outputs"
    context.progress.enter("evaluation")
    metrics, outputs = harness.measure(federation, split.histogram.tolist(), folder)
    _finite(metrics["models"])
    with context.clock.side("server"):
        sets = named_sets(method.synthetic(federation.server))
        outputs |= save_outputs(method.outputs(federation.server), folder)
    own = federation.client_outputs()
    outputs |= save_outputs({f"client/{client}": kept for client, kept in own.items()}, folder)
    names = method.resources(cell)
    prices = [(found.pixels, found.size_bytes) for found in map(context.resource, names)]
    shared = sum(pixels for pixels, _ in prices)
    outputs |= {name: each.save(folder) for name, each in sets.items()}
    if SET in sets:  # others stand beside it for comparison
        shared += sets[SET].pixels
    if method.uses_budget:
        _within_budget(cell, context.shape, shared)
    return {
        "data": {
            "fingerprint": data.fingerprint,
            "sources": data_digest(cell.data, _folders(runtime)),
            "train": len(data.train),
            "test": len(data.test),
            "classes": list(data.classes),
            "channels": data.channels,
            "size": data.size,
            "notes": list(data.notes),
            "resources": digests(names, _folders(runtime)),
        },
        "partition": {
            "digest": split.digest,
            "histogram": split.histogram.tolist(),
            "hold_outs": [len(part) for part in split.validation],
        },
        "metrics": metrics,
        "findings": dict(method.findings(federation.server, own)),
        "curves": federation.curves,
        "ledger": federation.ledger.summary(cell.partition.clients),
        "shared_pixels": shared,
        "resource_bytes": sum(size for _, size in prices),
        "label_bytes": sets[SET].label_bytes if SET in sets else 0,
        "resources": list(names),
        "privileges": [*_privileges(cell, names, _folders(runtime)), *method.disclosures(cell)],
        "outputs": outputs,
        "evaluation_seconds": harness.seconds,
        "waiting_seconds": context.artefacts.waited,
    }


def _partition(cell: Cell, data: ImageData) -> ClientSplit:
    return split(data.train.labels.cpu().numpy(), cell.partition, cell.seed, len(data.classes))


def _privileges(cell: Cell, resources: tuple[str, ...], folders: Folders) -> list[str]:
    """Return in words what the method was given that others were not."""
    given = []
    if cell.method.validation == "pooled":
        given.append("the clients' hold-outs, pooled at the server")
    own = (declared(name).privilege(cell, folders) for name in resources)
    return [*given, *(words for words in own if words is not None)]


def _folders(runtime: Runtime) -> Folders:
    return Folders(runtime.data, runtime.home)


def _finite(models: dict[str, dict[str, Any]]) -> None:
    """Refuse models that give no numbers."""
    for name, scores in models.items():
        if not math.isfinite(scores["nll"]):
            raise TrainingError(
                f"model {name!r} gives outputs that are not finite (its mean negative "
                f"log-likelihood is {scores['nll']}); lower `recipe.lr` or the method's own rate"
            )


def _within_budget(cell: Cell, shape: ImageShape, pixels: int) -> None:
    """Refuse a shared set that is larger than the cell's budget."""
    if cell.budget is None:
        return
    clients = cell.partition.clients
    bound = total_pixels(cell.budget, classes=shape.classes, size=shape.size, clients=clients)
    if pixels > bound:
        raise FedbenchError(
            f"the shared set takes {pixels} pixels and the budget is {bound}; the method has to "
            "keep to it (fedbench.federation.budget counts)"
        )


def _context(
    cell: Cell,
    runtime: Runtime,
    data: ImageData,
    split: ClientSplit,
    device: torch.device,
    threads: int,
    scratch: Path,
) -> Context:
    shape = ImageShape(
        data.channels,
        data.size,
        len(data.classes),
        data.normalisation(cell.data.normalisation),
        data.augment,
    )
    known = numerics(device, cell.precision, threads)
    digest = hashlib.sha256(f"{data.fingerprint}|{split.digest}".encode()).hexdigest()
    method = METHODS.get(cell.method.name)
    names = method(cell.method).resources(cell)
    public = digests(names, _folders(runtime))
    stamp = json.dumps([digest, known, public], sort_keys=True)
    _begin_scratch(scratch, stamp, anew=runtime.refresh)
    store = store_of(runtime, known)

    scene = Scene(
        cell,
        shape.channels,
        shape.size,
        shape.classes,
        _folders(runtime),
        read=lambda settings: load_data(settings, runtime),
    )

    def resource(name: str) -> Resource:
        return declared(name).load(scene)

    return Context(
        cell=cell,
        shape=shape,
        device=device,
        scratch=scratch,
        digest=digest,
        artefacts=store,
        pool=TrainerPool(str(device), cell.precision, strict=method.deterministic),
        clock=Clock(Ledger()),
        resource=resource,
        progress=Progress(show=runtime.show),
    )


def _begin_scratch(scratch: Path, stamp: str, *, anew: bool) -> None:
    """Empty a cell's scratch folder unless it is of the same data, resources and numerics.

    Args:
        scratch: The folder.
        stamp: What it has to be of.
        anew: Empty it in any case: what an earlier attempt has done is not to count.
    """
    place = scratch / "stamp.json"
    if anew and scratch.is_dir() and not scratch.is_symlink():
        shutil.rmtree(scratch)
    if os.path.lexists(scratch) and _content(place) != stamp.encode():
        log.warning(
            "data, public images, device, threads or torch have changed since %s began, or its "
            "stamp is damaged; it starts over",
            scratch.name,
        )
        if scratch.is_dir() and not scratch.is_symlink():
            shutil.rmtree(scratch)
        else:
            move_aside(scratch)
    write_atomic(place, stamp)


def _content(path: Path) -> bytes | None:
    """Return a file's bytes, or None where there is no file that can be read."""
    try:
        return path.read_bytes()
    except OSError:
        return None
