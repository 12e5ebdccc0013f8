"""What cells will take, from records of cells that were like them; knows nothing of torch.

A cell whose settings are equal but for the seed gives its seconds as they are. Otherwise cells of
the same method, data set, networks and batch size are scaled by their image passes (images x epochs
x rounds). Where there is neither, the answer is rough: of the cells that come next (``_FAR``) those
of the nearest work are scaled by passes and by what an image costs in a network. Where nothing can
be compared, it is None: nothing is invented.

How rough that is, ``benchmarks/speed/estimates.py`` says, where each published board is told by the
others: 1.05 times the real time in the median of 15 boards, 14 of them within ``RANGE``, and 12
times for the one of network flows, which are not augmented.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fedbench.bench.records.record import Record
from fedbench.bench.suites.planfile import Entry
from fedbench.bench.suites.suite import find
from fedbench.data.specs import DATASETS
from fedbench.errors import SettingsError

#: Says what an image costs on its way through a cell's networks; None where that is not known.
Cost = Callable[[Mapping[str, Any]], float | None]
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
#: The same for rough estimates, the likest first, and what is other in them.
_FAR = (
    (("method.name", "models", "precision"), "other data or batch sizes"),
    (("method.name", "precision"), "other networks"),
    (("data.name", "data.image_size", "models", "precision"), "other methods on these data"),
    (("precision",), "other methods and data"),
)
#: Of these, those that say what a cell needs of memory and of a disk: the same networks.
_LIKE = _FAR[:1]
#: Multiply-adds that an image takes beside its network's: loading, augmentation, calls.
_OVERHEAD = 300_000
#: Seconds that a scaled cell takes at least: start, evaluation, record.
_LEAST = 1.0
#: A rough estimate is seldom more than so many times too long or too short.
RANGE = 4.0
#: Artefacts that are looked at for their sizes.
_LOOKED_AT = 200


@dataclass(frozen=True)
class Sample:
    """What one cell took.

    Attributes:
        record: Its id.
        suite: Whose it is.
        settings: The cell.
        seconds: Wall seconds, as if it had trained its clients itself and waited for nobody.
        first: The part of them that the client trainings of one round took.
        passes: Images trained on, repetitions counted; None where that is not known.
        size: Bytes of its record and outputs; 0 where its outputs are not here, as those of a
            published board.
        memory: Bytes that it has had of an accelerator at its peak; 0 on a CPU.
    """

    record: str
    suite: str
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
        memory: Bytes of an accelerator that the largest cell takes, among those that are known.
        scaled: Of the cells that are estimated roughly, what the records are of.
        suites: The suites of the records.
    """

    seconds: dict[str, float | None] = field(default_factory=dict)
    size: float = 0.0
    sizes_unknown: int = 0
    records: int = 0
    memory: int = 0
    scaled: dict[str, str] = field(default_factory=dict)
    suites: tuple[str, ...] = ()

    @property
    def rough(self) -> int:
        """Cells of which only records of other cells are known, which had to be scaled."""
        return len(self.scaled)

    @property
    def sizes_known(self) -> bool:
        """Whether every cell has a record of the same networks."""
        return not self.unknown and set(self.scaled.values()) <= {words for _, words in _LIKE}

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
        return self._wall(workers, 1.0)

    def span(self, workers: int) -> tuple[float, float] | None:
        """Return the least and the most seconds that ``wall`` may come to; None where it is."""
        least, most = self._wall(workers, 1 / RANGE), self._wall(workers, RANGE)
        return None if least is None or most is None else (least, most)

    def _wall(self, workers: int, factor: float) -> float | None:
        known = [
            value * (factor if name in self.scaled else 1.0)
            for name, value in self.seconds.items()
            if value is not None
        ]
        return max(sum(known) / workers, *known) if known else None


def sample(record: Record, path: Path, passes: float | None) -> Sample:
    """Return what a record says of a cell's cost.

    Args:
        record: A good one.
        path: Where it is: its outputs lie beside its folder.
        passes: Of its cell.
    """
    ledger = record.ledger
    files = [path, *_outputs(record, path)]
    return Sample(
        record.cell_id,
        record.suite,
        record.settings,
        record.wall_seconds - record.waiting_seconds + ledger.get("shared_seconds", 0.0),
        ledger.get("client_seconds", 0.0) / max(ledger.get("rounds", 1), 1),
        passes,
        sum(file.stat().st_size for file in files) if outputs_here(record, path) else 0,
        record.peak_device_memory_bytes,
    )


def outputs_here(record: Record, path: Path) -> bool:
    """Return whether what a record names lies beside it; of a copied record it does not."""
    return all(file.exists() for file in _outputs(record, path))


def _outputs(record: Record, path: Path) -> list[Path]:
    folder = path.parent.parent / "outputs"
    return [folder / f"{digest}.safetensors" for digest in record.outputs.values()]


def estimate(
    cells: Iterable[Entry],
    samples: Sequence[Sample],
    *,
    trained: Collection[str] = (),
    artefact_size: Callable[[Entry], float | None] = lambda _: None,
    cost: Cost | None = None,
) -> Estimate:
    """Estimate what cells will take.

    Args:
        cells: Those to compute, in this order.
        samples: What earlier cells took, on the device that is to be used.
        trained: Names of client trainings that need not be done again.
        artefact_size: Says how many bytes one client training of a cell leaves.
        cost: Says what an image costs on its way through a cell's networks, in multiply-adds; the
            pixels of its images where None.
    """
    known = _Known(samples, cost)
    covered, used = set(trained), set[tuple[str, str]]()
    seconds: dict[str, float | None] = {}
    scaled: dict[str, str] = {}
    size, unknown, memory = 0.0, 0, 0
    for entry in cells:
        found, words = known.like(entry)
        if words:
            scaled[entry.cell_id] = words
        used |= {(item.suite, item.record) for item in found}
        new = set(entry.trainings) - covered
        covered |= new
        taken = known.seconds(entry, found, len(new))
        seconds[entry.cell_id] = max(taken, _LEAST) if words and taken is not None else taken
        if words not in ("", *(each for _, each in _LIKE)):
            found = []  # other networks take other room
        memory = max(memory, *(item.memory for item in found)) if found else memory
        bytes_each = artefact_size(entry) if new else 0.0
        here = [item for item in found if item.size]
        own = [item.size for item in here if _clients(item.settings) == _clients(entry.settings)]
        if bytes_each is None or not own:
            unknown += 1
        else:
            size += statistics.median(own) + bytes_each * len(new)
    suites = tuple(sorted({suite for suite, _ in used}))
    return Estimate(seconds, size, unknown, len(used), memory, scaled, suites)


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


class _Known:
    """What is known of earlier cells, and how one is told by another.

    Args:
        samples: What they took.
        cost: See ``estimate``.
    """

    def __init__(self, samples: Sequence[Sample], cost: Cost | None) -> None:
        self._cost = cost
        self._costs: dict[str, float | None] = {}
        self._exact, self._alike = _grouped(samples, _equal), _grouped(samples, _alike)
        self._far = [_grouped(samples, partial(_part, places)) for places, _ in _FAR]

    def like(self, entry: Entry) -> tuple[list[Sample], str]:
        """Return the samples that a cell is likest, and what is other in them if they are not."""
        if found := self._exact.get(_equal(entry.settings)):
            return found, ""
        if found := self._nearest(self._alike.get(_alike(entry.settings), []), entry):
            return found, ""
        for groups, (places, words) in zip(self._far, _FAR, strict=True):
            if found := self._nearest(groups.get(_part(places, entry.settings), []), entry):
                return found, words
        return [], ""

    def seconds(self, entry: Entry, found: Sequence[Sample], new: int) -> float | None:
        """Return the seconds of a cell that has to do ``new`` of its client trainings itself."""
        if not found:
            return None
        full = statistics.median(item.seconds * self._ratio(entry, item) for item in found)
        method = entry.settings["method"]["name"]
        own = [item for item in found if item.settings["method"]["name"] == method]
        if not entry.trainings or not own:
            return full
        first = statistics.median(item.first * self._ratio(entry, item) for item in own)
        return max(full - first * (1 - new / len(entry.trainings)), 0.0)

    def _ratio(self, entry: Entry, item: Sample) -> float:
        ours = self._work(entry.settings, entry.passes)
        theirs = self._work(item.settings, item.passes)
        return ours / theirs if ours and theirs else 1.0

    def _nearest(self, samples: Sequence[Sample], entry: Entry) -> list[Sample]:
        """Return the samples whose work is nearest, in proportion."""
        wanted = self._work(entry.settings, entry.passes)
        if not wanted:
            return []
        works = [(self._work(item.settings, item.passes), item) for item in samples]
        pairs = [(abs(math.log(work / wanted)), item) for work, item in works if work]
        return [item for _, item in sorted(pairs, key=lambda pair: pair[0])[:_NEAREST]]

    def _work(self, settings: Mapping[str, Any], passes: float | None) -> float | None:
        """Return what a cell passes through its networks; None where that is not known.

        Images of unknown size are compared with those of the same data alone (see ``_part``).
        """
        if not passes:
            return None
        place = _part(("models", "data.name", "data.image_size"), settings)
        if place not in self._costs:
            self._costs[place] = self._each(settings)
        each = self._costs[place]
        return each and passes * each

    def _each(self, settings: Mapping[str, Any]) -> float | None:
        """Return what one image costs."""
        if (size := _size(settings)) is None:
            return 1.0
        if self._cost is None:
            return float(size**2)
        found = self._cost(settings)
        return None if found is None else found + _OVERHEAD


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


def _part(places: Sequence[str], settings: Mapping[str, Any]) -> str:
    """Return some settings, and the name of data whose images are of unknown size."""
    values = [list(find(settings, place.split("."))) for place in places]
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
