"""What cells will take, from records of cells that were like them; knows nothing of torch.

A cell whose settings are equal but for the seed gives its seconds as they are. Otherwise cells of
the same method, data set, networks and batch size are scaled by their image passes (images x epochs
x rounds). Where there is neither, cells of the same method and networks on other data, or of other
batch sizes, are scaled by passes and pixels, and the answer is called rough. Where there is none of
these, it is None: nothing is invented.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedbench.bench.planfile import Entry
from fedbench.bench.records import Record
from fedbench.bench.suite import find
from fedbench.data.specs import DATASETS
from fedbench.errors import SettingsError

#: Records that one estimate rests on at most: those whose passes are nearest.
_NEAREST = 5
#: What cells have to have in common for one to be scaled to the other.
_ALIKE = (
    "method.name",
    "data.name",
    "data.image_size",
    "models",
    "recipe.batch_size",
    "student.batch_size",
    "precision",
)
#: The same for rough estimates, which are scaled by the images' pixels as well.
_ROUGHLY = ("method.name", "models", "precision")
#: Artefacts that are looked at for their sizes.
_LOOKED_AT = 200


@dataclass(frozen=True)
class Sample:
    """What one cell took.

    Attributes:
        record: Its id.
        settings: The cell.
        seconds: Wall seconds, as if it had trained its clients itself and waited for nobody.
        first: The part of them that the client trainings of one round took.
        passes: Images trained on, repetitions counted; None where that is not known.
        size: Bytes of its record and outputs; 0 where its outputs are not here, as those of a
            published board.
        memory: Bytes that it has had of an accelerator at its peak; 0 on a CPU.
    """

    record: str
    settings: Mapping[str, Any]
    seconds: float
    first: float
    passes: float | None
    size: int
    memory: int = 0


@dataclass(frozen=True)
class Estimate:
    """What cells will take, in the order in which they are computed.

    Attributes:
        seconds: Of one worker, by cell id; None where no record is like the cell.
        size: Bytes that records, outputs and artefacts will take, as far as that is known.
        sizes_unknown: Cells whose bytes are not known.
        records: How many records all this rests on.
        rough: Cells of which only records of other data or batch sizes are known.
        memory: Bytes of an accelerator that the largest cell takes, among those that are known.
    """

    seconds: dict[str, float | None] = field(default_factory=dict)
    size: float = 0.0
    sizes_unknown: int = 0
    records: int = 0
    memory: int = 0
    rough: int = 0

    @property
    def unknown(self) -> int:
        """Cells whose seconds are not known."""
        return sum(value is None for value in self.seconds.values())

    def wall(self, workers: int) -> float | None:
        """Return the seconds that several workers need for the cells that are known.

        Args:
            workers: At least 1.

        Returns:
            None where no cell's seconds are known.
        """
        known = [value for value in self.seconds.values() if value is not None]
        return max(sum(known) / workers, *known) if known else None


def sample(record: Record, path: Path, passes: float | None) -> Sample:
    """Return what a record says of a cell's cost.

    Args:
        record: A good one.
        path: Where it is: its outputs lie beside its folder.
        passes: Of its cell.
    """
    ledger = record.ledger
    outputs = path.parent.parent / "outputs"
    files = [path, *(outputs / f"{digest}.safetensors" for digest in record.outputs.values())]
    whole = all(file.exists() for file in files)
    return Sample(
        record.cell_id,
        record.settings,
        record.wall_seconds - record.waiting_seconds + ledger.get("shared_seconds", 0.0),
        ledger.get("client_seconds", 0.0) / max(ledger.get("rounds", 1), 1),
        passes,
        sum(file.stat().st_size for file in files) if whole else 0,
        record.peak_device_memory_bytes,
    )


def estimate(
    cells: Iterable[Entry],
    samples: Sequence[Sample],
    *,
    trained: Collection[str] = (),
    artefact_size: Callable[[Entry], float | None] = lambda _: None,
) -> Estimate:
    """Estimate what cells will take.

    Args:
        cells: Those to compute, in this order.
        samples: What earlier cells took, on the device that is to be used.
        trained: Names of client trainings that need not be done again.
        artefact_size: Says how many bytes one client training of a cell leaves.
    """
    exact, alike = _grouped(samples, _equal), _grouped(samples, _alike)
    far = _grouped(samples, _roughly)
    covered, used = set(trained), set()
    seconds: dict[str, float | None] = {}
    size, unknown, memory, rough = 0.0, 0, 0, 0
    for entry in cells:
        found = exact.get(_equal(entry.settings)) or _nearest(
            alike.get(_alike(entry.settings), []), entry
        )
        if not found:
            found = _nearest(far.get(_roughly(entry.settings), []), entry)
            rough += bool(found)
        used |= {item.record for item in found}
        memory = max(memory, *(item.memory for item in found)) if found else memory
        new = set(entry.trainings) - covered
        covered |= new
        seconds[entry.cell_id] = _seconds(entry, found, len(new))
        bytes_each = artefact_size(entry) if new else 0.0
        here = [item for item in found if item.size]
        own = [item.size for item in here if _clients(item.settings) == _clients(entry.settings)]
        if bytes_each is None or not own:
            unknown += 1
        else:
            size += statistics.median(own) + bytes_each * len(new)
    return Estimate(seconds, size, unknown, len(used), memory, rough)


def artefact_sizes(folder: Path) -> Callable[[Entry], float | None]:
    """Return a function that says how many bytes a client training of a cell leaves.

    Args:
        folder: With artefacts of client trainings, such as ``runs/artefacts/classifier``; the
            newest are looked at.
    """
    paths = sorted(folder.glob("*.safetensors"), key=_age)[:_LOOKED_AT]
    found = {model: path.stat().st_size for path in paths if (model := _model_in(path))}

    def size(entry: Entry) -> float | None:
        each = [found.get(_model(model)) for model in entry.settings["models"]]
        known = [value for value in each if value is not None]
        return statistics.mean(known) if len(known) == len(each) else None

    return size


def _seconds(entry: Entry, found: Sequence[Sample], new: int) -> float | None:
    """Return the seconds of a cell that has to do ``new`` of its client trainings itself."""
    if not found:
        return None
    full = statistics.median(item.seconds * _ratio(entry, item) for item in found)
    first = statistics.median(item.first * _ratio(entry, item) for item in found)
    if not entry.trainings:
        return full
    return max(full - first * (1 - new / len(entry.trainings)), 0.0)


def _ratio(entry: Entry, item: Sample) -> float:
    ours, theirs = _work(entry.settings, entry.passes), _work(item.settings, item.passes)
    return ours / theirs if ours and theirs else 1.0


def _nearest(samples: Sequence[Sample], entry: Entry) -> list[Sample]:
    """Return the samples whose work is nearest, in proportion."""
    wanted = _work(entry.settings, entry.passes)
    known = [(_work(item.settings, item.passes), item) for item in samples] if wanted else []
    pairs = [(abs(math.log(work / (wanted or 1))), item) for work, item in known if work]
    return [item for _, item in sorted(pairs, key=lambda pair: pair[0])[:_NEAREST]]


def _work(settings: Mapping[str, Any], passes: float | None) -> float | None:
    """Return the pixels that a cell passes through its networks; None where that is not known."""
    return passes * (_size(settings) or 1) ** 2 if passes else None


def _size(settings: Mapping[str, Any]) -> int | None:
    """Return the height of a cell's images; None where its data set's plugin is not loaded."""
    data = settings["data"]
    try:
        return int(data.get("image_size") or DATASETS.get(data["name"]).size)
    except SettingsError:
        return None


def _grouped(
    samples: Iterable[Sample], key: Callable[[Mapping[str, Any]], str]
) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = {}
    for item in samples:
        groups.setdefault(key(item.settings), []).append(item)
    return groups


def _equal(settings: Mapping[str, Any]) -> str:
    method = {key: value for key, value in settings["method"].items() if key != "preset"}
    return json.dumps(_set({**settings, "method": method, "seed": None}), sort_keys=True)


def _alike(settings: Mapping[str, Any]) -> str:
    return json.dumps(_set([list(find(settings, place.split("."))) for place in _ALIKE]))


def _roughly(settings: Mapping[str, Any]) -> str:
    values = [list(find(settings, place.split("."))) for place in _ROUGHLY]
    return json.dumps(_set([*values, None if _size(settings) else settings["data"]["name"]]))


def _set(value: object) -> object:
    """Return settings without those that are None: an older record may not have them at all."""
    if isinstance(value, Mapping):
        return {key: _set(item) for key, item in value.items() if item is not None}
    return [_set(item) for item in value] if isinstance(value, list) else value


def _clients(settings: Mapping[str, Any]) -> list[object]:
    return list(find(settings, ["partition", "clients"]))


def _model(model: Mapping[str, Any]) -> str:
    return json.dumps({key: model[key] for key in model if model[key] is not None}, sort_keys=True)


def _model_in(path: Path) -> str | None:
    """Return the model that a client training's artefact is of, from the file's head."""
    try:
        with path.open("rb") as file:
            head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        note = json.loads(head["__metadata__"]["fedbench"])
        return _model(note["settings"]["settings"]["model"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError):
        return None  # a damaged file says nothing of sizes; whoever needs it moves it aside


def _age(path: Path) -> float:
    return -path.stat().st_mtime
