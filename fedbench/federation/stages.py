"""Stages: long work in steps that are committed one by one, and what is kept from step to step.

What a loop's steps change and later ones need is named in ``keep``: modules with their optimisers,
dictionaries and lists, generators, trails. After a kill the code before the loop runs again, the
loop begins with the first step that is not committed, and everything kept is as it was then.
"""

from __future__ import annotations

import io
import logging
import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from fedbench.errors import FedbenchError
from fedbench.federation import kept
from fedbench.federation.journal import Fit, Journal, Series
from fedbench.federation.shelf import DamagedError, Ref
from fedbench.federation.trail import Trail
from fedbench.seeding import derive

log = logging.getLogger(__name__)

#: What steps may keep.
Kept = kept.Plain | Trail
Glance = list[tuple[str, Tensor, int]]


class Place:
    """Where in a cell's work something happens, and how often each name occurred there.

    Names are counted so that two fits of one name do not go on from each other's checkpoint.

    Args:
        path: Such as ``round-3/client/1``.
        seed: Root of the noise that modules draw there.
    """

    def __init__(self, path: str, seed: int) -> None:
        self.path, self._seed, self._seen = path, seed, Counter[str]()

    def next(self, name: str) -> tuple[str, int]:
        """Return the path and the seed of the next occurrence of a name."""
        plain = name.replace("/", "|")
        self._seen[plain] += 1
        count = self._seen[plain]
        return f"{self.path}/{plain}#{count}", derive(self._seed, plain, count)


class FitCheckpoint:
    """Where a fit saves itself: a file that the journal names, with what the cell had cost then.

    Args:
        journal: The cell's.
        path: Of the fit (see ``Place``).

    Attributes:
        path: Likewise.
    """

    def __init__(self, journal: Journal, path: str) -> None:
        self._journal, self.path = journal, path
        self._start = journal.tally

    def found(self) -> Path | None:
        """Return the checkpoint to go on from, or None to start."""
        if (fit := self._journal.now.fits.get(self.path)) is None:
            return None
        try:
            return self._journal.shelf.verified(fit.checkpoint)
        except DamagedError as error:
            log.warning("%s; the fit %s starts over", error, self.path)
            self.reject()
            return None

    def save(self, write: Callable[[Path], None]) -> None:
        """Have a checkpoint written, in place of the last one."""
        ref, charges = self._journal.shelf.put(write), self._forget()
        charges += self._journal.settle(self._start)
        self._journal.now.fits[self.path] = Fit(ref, charges)
        self._journal.save()

    def reject(self) -> None:
        """Forget what was found, and what the fit had charged until then: it happens again."""
        self._journal.undo(self._forget())

    def close(self) -> None:
        """Forget the checkpoint: the fit is over, and would happen again after a kill."""
        self._journal.now.unsettled += self._forget()

    def _forget(self) -> list[dict[str, Any]]:
        """Drop the checkpoint and return what the fit had charged until then."""
        fit = self._journal.now.fits.pop(self.path, None)
        if fit is None:
            return []
        self._journal.shelf.discard([fit.checkpoint])
        return fit.charges


def stages(
    journal: Journal,
    path: str,
    count: int,
    keep: Mapping[str, Kept],
    state: Mapping[str, Tensor],
    device: torch.device,
) -> Iterator[int]:
    """Yield the steps of a series that are not done, and commit them (see ``Work.stages``).

    Args:
        journal: The cell's.
        path: Of the series (see ``Place``).
        count: Steps in all.
        keep: What steps change, by name.
        state: The worker's, which must not change meanwhile.
        device: Of tensors that were on a device.
    """
    series = journal.now.series.setdefault(path, Series())
    if series.done:
        _restore(journal, series, keep, device)
    before, start = glance(state), journal.tally
    for step in range(series.done, count):
        yield step
        if not unchanged(state, before):
            raise FedbenchError(
                f"the worker's state changed inside the stages {path}, where a kill would lose "
                "that; put what the steps change into `keep`, and into the state after the loop"
            )
        if step + 1 == count or journal.affordable:
            journal.settle(start)
            _commit(journal, path, series, step + 1, keep)
            start = journal.tally


def _commit(
    journal: Journal, path: str, series: Series, done: int, keep: Mapping[str, Kept]
) -> None:
    trails = {name: thing for name, thing in keep.items() if isinstance(thing, Trail)}
    payload: dict[str, object] = {
        name: kept.pack(thing, name) for name, thing in keep.items() if not isinstance(thing, Trail)
    }
    payload[""] = {name: len(trail) for name, trail in trails.items()}
    for step in range(series.done, done):  # what happened inside does not happen again
        journal.forget(f"{path}/{step}")
    old, content = series.kept, io.BytesIO()
    torch.save(payload, content)
    series.done, series.kept = done, journal.shelf.put(content.getvalue())
    series.files = [ref for trail in trails.values() for ref in trail.refs]
    if old is not None:
        journal.shelf.discard([old])
    journal.save()


def _restore(
    journal: Journal, series: Series, keep: Mapping[str, Kept], device: torch.device
) -> None:
    """Make everything kept what it was after the last committed step.

    Raises:
        DamagedError: A file is damaged, or other things were kept.
    """
    assert series.kept is not None  # a step was committed
    place = journal.shelf.verified(series.kept)
    try:
        payload = torch.load(place, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise DamagedError(f"what {place} keeps cannot be read: {error}") from error
    lengths = payload.pop("")
    if {*payload, *lengths} != set(keep):
        raise DamagedError(f"what was kept is {sorted({*payload, *lengths})}, not {sorted(keep)}")
    files = iter(series.files)
    trails = {name: _verified(journal, files, length) for name, length in lengths.items()}
    for name, thing in keep.items():
        if isinstance(thing, Trail) and name in trails:
            thing.restore(trails[name])
            continue
        # A dictionary that is a list now, a module that is a generator: the code has changed.
        try:
            kept.unpack(cast(kept.Plain, thing), payload[name], device)
        except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError(f"what was kept as {name!r} does not fit it: {error}") from error


def _verified(journal: Journal, files: Iterator[Ref], count: int) -> list[Ref]:
    refs = [next(files) for _ in range(count)]
    for ref in refs:
        journal.shelf.verified(ref)
    return refs


def glance(state: Mapping[str, Tensor]) -> Glance:
    """Return what ``unchanged`` compares a state with later.

    The tensors are held, because the place in memory of one that is gone may be given again.
    """
    return [(name, value, _writes(value)) for name, value in state.items()]


def unchanged(state: Mapping[str, Tensor], before: Glance) -> bool:
    """Return whether no tensor of a state was added, removed, replaced or written into since."""
    return len(state) == len(before) and all(
        state.get(name) is value and _writes(value) == writes for name, value, writes in before
    )


def _writes(value: Tensor) -> int:
    return 0 if value.is_inference() else value._version
