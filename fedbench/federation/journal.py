"""What a cell has done so far, in one file, so that a killed cell goes on there.

The file names everything that counts: rounds, ledger, curves, states, uploads of the round in hand,
progress inside long work. It appears by a rename, with a checksum, and so does every file that it
names (see ``shelf``). What does not match is moved aside and done again: a fit, what has been done
of the round, or the cell where a state is damaged that earlier rounds have left.

What a side does outside of stages happens again after a kill, so what it charged and observed there
is taken back then: it is *unsettled* until the stage, the client or the round is committed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from fedbench.errors import FedbenchError
from fedbench.federation.ledger import Clock, Direction, Ledger, Side
from fedbench.federation.message import Message
from fedbench.federation.shelf import DamagedError, Ref, Shelf
from fedbench.files import move_aside, write_atomic

log = logging.getLogger(__name__)

_FORMAT = 2
#: Seconds of clients' work that a kill may cost beside the stage in hand.  # fedbench: a commit
#: after each client of a tiny cell would take as long as the client.
_PACE = 1.0
#: Share of the time that commits may take: where they would take more, some are left out.
_SHARE = 0.02  # fedbench: nobody notices it


@dataclass
class Series:
    """How far a series of stages has come.

    Attributes:
        done: Stages that are committed.
        kept: What they left, by name.
        files: Further files that belong to it.
    """

    done: int = 0
    kept: Ref | None = None
    files: list[Ref] = field(default_factory=list)

    def refs(self) -> list[Ref]:
        """Return all its files."""
        return [*([self.kept] if self.kept else []), *self.files]


@dataclass
class Fit:
    """How far a fit has come.

    Attributes:
        checkpoint: Its last one.
        charges: What it has charged and observed until then; it counts while the fit is in hand,
            and happens again if the fit does.
    """

    checkpoint: Ref
    charges: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Progress:
    """What a journal's file says.

    Attributes:
        begun: Whether ``setup`` is done.
        rounds: Rounds whose ``aggregate`` has returned.
        curves: Points observed so far.
        again: Points that were taken back and will be observed again, with their places in the
            curves; what has been committed since then is not to come before them.
        pooled: Whether the clients' hold-outs are at the server already.
        charged: Artefacts that have been charged, each with its worker.
        server: The server's state after the last round.
        clients: Each client's state after the last round that it worked in, where it has one.
        staged: The same after its work in the round in hand; None where it has emptied it.
        uploads: What each client has sent in the round in hand, chunk by chunk.
        entry: What the cell had cost when that round, or ``setup``, began.
        unsettled: What is taken back when a killed cell goes on.
        series: Stages inside the round in hand, by place.
        fits: Fits in hand, by place.
        building: Seconds that were spent on artefacts that are not finished, by key.
    """

    begun: bool = False
    rounds: int = 0
    curves: list[dict[str, Any]] = field(default_factory=list)
    again: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    pooled: bool = False
    charged: set[str] = field(default_factory=set)
    server: Ref | None = None
    clients: dict[int, Ref] = field(default_factory=dict)
    staged: dict[int, Ref | None] = field(default_factory=dict)
    uploads: dict[int, list[Ref]] = field(default_factory=dict)
    entry: dict[str, Any] = field(default_factory=dict)
    unsettled: list[dict[str, Any]] = field(default_factory=list)
    series: dict[str, Series] = field(default_factory=dict)
    fits: dict[str, Fit] = field(default_factory=dict)
    building: dict[str, float] = field(default_factory=dict)

    def refs(self) -> Iterator[Ref]:
        """Yield every file that it names."""
        yield from (ref for ref in (self.server, *self.staged.values()) if ref is not None)
        yield from self.clients.values()
        yield from (fit.checkpoint for fit in self.fits.values())
        for sent in self.uploads.values():
            yield from sent
        for series in self.series.values():
            yield from series.refs()

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            # Points of curves are many, and copying them would take longer than writing them.
            **{name: value for name, value in vars(self).items() if name != "curves"},
            "curves": self.curves,
            "charged": sorted(self.charged),
            "server": self.server and asdict(self.server),
            "clients": {client: asdict(ref) for client, ref in self.clients.items()},
            "staged": {client: ref and asdict(ref) for client, ref in self.staged.items()},
            "uploads": {k: [asdict(ref) for ref in sent] for k, sent in self.uploads.items()},
            "series": {place: asdict(series) for place, series in self.series.items()},
            "fits": {place: asdict(fit) for place, fit in self.fits.items()},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Progress:
        """Return what ``to_json`` wrote."""
        whole = dict(values)
        for name in ("clients", "staged"):
            whole[name] = {int(k): ref and Ref(**ref) for k, ref in whole[name].items()}
        whole["uploads"] = {
            int(k): [Ref(**ref) for ref in sent] for k, sent in whole["uploads"].items()
        }
        whole["fits"] = {
            place: Fit(Ref(**fit["checkpoint"]), fit["charges"])
            for place, fit in whole["fits"].items()
        }
        whole["series"] = {
            place: Series(
                each["done"],
                each["kept"] and Ref(**each["kept"]),
                [Ref(**ref) for ref in each["files"]],
            )
            for place, each in whole["series"].items()
        }
        whole["server"] = whole["server"] and Ref(**whole["server"])
        whole["again"] = [(place, point) for place, point in whole["again"]]
        return cls(**{**whole, "charged": set(whole["charged"])})


class Journal:
    """The journal of one cell.

    Args:
        folder: The cell's scratch folder.
        clock: Its ledger is continued: what earlier attempts cost counts.

    Attributes:
        shelf: For the files that it names.
        now: What has been done; it counts from the next ``save`` on.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._path, self._clock = folder / "journal.json", clock
        self.shelf, self.now = Shelf(folder / "kept"), Progress()
        self._saved, self._cost = time.monotonic(), 0.0
        self._open_builds: dict[str, tuple[float, Side]] = {}
        if (found := self._read()) is not None:
            self.now, ledger = found
            clock.ledger.resume(ledger)
            self.undo(self.now.unsettled)
            self.now.unsettled = []
        self.shelf.open(self.now.refs())

    def save(self) -> None:
        """Write down all that has been done until now; what came before is gone afterwards."""
        began = time.monotonic()
        self._clock.settle()
        for key, (start, side) in self._open_builds.items():
            self.now.building[key] = self._clock.ledger.seconds[side] - start
        note = json.dumps({"progress": self.now.to_json(), "ledger": self._clock.ledger.to_json()})
        digest = hashlib.sha256(note.encode()).hexdigest()
        write_atomic(self._path, f"{_FORMAT} {digest}\n{note}")
        self.shelf.sweep(self.now.refs())
        self._saved = time.monotonic()
        self._cost = self._saved - began

    @property
    def due(self) -> bool:
        """Whether so much time has passed since the last ``save`` that clients' work is saved."""
        return time.monotonic() - self._saved >= _PACE and self.affordable

    @property
    def affordable(self) -> bool:
        """Whether one more ``save`` is a small part of the time since the last one."""
        return time.monotonic() - self._saved >= self._cost / _SHARE

    def server_state(self) -> dict[str, Tensor]:
        """Return the server's state as committed; the cell starts over if that is damaged."""
        return self._tensors(self.now.server)

    def client_state(self, client: int) -> dict[str, Tensor]:
        """Return a client's state as committed, empty if it has none."""
        return self._tensors(self.now.clients.get(client))

    def charge(self, direction: Direction, purpose: str, client: int, message: Message) -> bytes:
        """Charge a message and return its bytes (see ``Ledger.charge``)."""
        data = self._clock.ledger.charge(direction, purpose, client, message)
        cost = [direction, purpose, client, message.payload_bytes, len(data)]
        self.now.unsettled.append({"charge": cost})
        return data

    def observe(self, point: dict[str, Any]) -> None:
        """Add a point to the curves; one that was taken back gets its place and bytes again."""
        now, place = self.now, len(self.now.curves)
        known = next((each for each in now.again if _named(each[1]) == _named(point)), None)
        if known is not None:
            now.again.remove(known)
            place, point = known
        now.unsettled.append({"curve": place})
        now.curves.insert(place, point)

    def pool(self) -> None:
        """Note that the clients' hold-outs are at the server."""
        if not self.now.pooled:
            self.now.unsettled.append({"pooled": True})
            self.now.pooled = True

    @contextmanager
    def settling(self) -> Iterator[None]:
        """Settle what the block has charged and observed: it is committed with it, not repeated."""
        start = self.tally
        yield
        self.settle(start)

    @property
    def tally(self) -> int:
        """How many charges and observations are unsettled."""
        return len(self.now.unsettled)

    def settle(self, start: int) -> list[dict[str, Any]]:
        """Settle what was charged and observed since the ``tally`` was ``start``, and return it."""
        settled = self.now.unsettled[start:]
        del self.now.unsettled[start:]
        return settled

    def phase(self, work: Callable[[bool], None]) -> None:
        """Do ``setup`` or a round, or go on with it; from its beginning if a file is damaged.

        Args:
            work: Does it; told whether it is called again, after damage was found.
        """
        try:
            self._enter_phase()
            work(False)
        except DamagedError as error:
            self._start_over(error)
            work(True)

    def last_phase(self) -> None:
        """Begin what follows the last round, or go on with it; anew if a file is damaged."""
        try:
            self._enter_phase()
        except DamagedError as error:
            self._start_over(error)

    def _enter_phase(self) -> None:
        now = self.now
        if now.entry:
            self._verify_phase()
        else:
            mark = self._clock.ledger.mark()
            now.entry = {"ledger": mark, "curves": len(now.curves), "pooled": now.pooled}

    def _start_over(self, error: DamagedError) -> None:
        """Take back all that was done of the phase in hand."""
        now = self.now
        log.warning("%s; what was done of the round is done again", error)
        self._leave_phase()
        self._clock.ledger.roll_back(now.entry["ledger"])
        del now.curves[now.entry["curves"] :]
        now.pooled = now.entry["pooled"]

    def _verify_phase(self) -> None:
        now = self.now
        files = [ref for sent in now.uploads.values() for ref in sent]
        files += [ref for ref in now.staged.values() if ref is not None]
        files += [ref for series in now.series.values() for ref in series.refs()]
        for ref in files:
            self.shelf.verified(ref)

    def undo(self, items: list[dict[str, Any]]) -> None:
        """Take back what was charged and observed, because it will happen again."""
        now = self.now
        for item in items:
            if "charge" in item:
                self._clock.ledger.undo(*item["charge"])
            elif "pooled" in item:
                now.pooled = False
        for place in sorted((item["curve"] for item in items if "curve" in item), reverse=True):
            now.again.append((place, now.curves.pop(place)))

    def stage(self, client: int, state: Mapping[str, Tensor]) -> None:
        """Keep a client's state as its work left it; it counts from the round's end on.

        Args:
            client: Its id.
            state: May be empty.
        """
        if state:
            self.now.staged[client] = self.shelf.put_tensors(state)
        elif client in self.now.clients:
            self.now.staged[client] = None

    def end_phase(self, server: Mapping[str, Tensor]) -> None:
        """End ``setup`` or a round with the server's state and the staged ones, and commit it.

        Where rounds are so short that commits would take a good part of the time, the next one that
        is long enough after the last commit is committed.
        """
        now = self.now
        for client, ref in now.staged.items():
            if (old := now.clients.pop(client, None)) is not None:
                self.shelf.discard([old])
            if ref is not None:
                now.clients[client] = ref
        now.staged = {}
        if now.server is not None:
            self.shelf.discard([now.server])
        now.server = self.shelf.put_tensors(server)
        self._leave_phase()
        now.entry = {}
        if self.affordable:
            self.save()

    def _leave_phase(self) -> None:
        """Forget uploads, staged states, stages and checkpoints of the phase in hand."""
        now = self.now
        self.shelf.discard(ref for sent in now.uploads.values() for ref in sent)
        self.shelf.discard(ref for ref in now.staged.values() if ref is not None)
        now.uploads, now.staged, now.unsettled, now.again = {}, {}, [], []
        self.forget("")

    def forget(self, place: str) -> None:
        """Forget stages and checkpoints at a place and within it; they count until ``save``."""

        def within(path: str) -> bool:
            return not place or path == place or path.startswith(f"{place}/")

        for path in filter(within, list(self.now.series)):
            self.shelf.discard(self.now.series.pop(path).refs())
        for path in filter(within, list(self.now.fits)):
            self.shelf.discard([self.now.fits.pop(path).checkpoint])

    def begin_build(self, key: str, side: Side) -> None:
        """Begin, or go on, to count the seconds that an artefact takes a side."""
        self._clock.settle()
        spent = self.now.building.get(key, 0.0)
        self._open_builds[key] = (self._clock.ledger.seconds[side] - spent, side)

    def break_off_build(self, key: str) -> None:
        """Note what an artefact has taken until its building failed."""
        self._clock.settle()
        start, side = self._open_builds.pop(key)
        self.now.building[key] = self._clock.ledger.seconds[side] - start

    def end_build(self, key: str) -> float:
        """Return the seconds that an artefact has taken, over all attempts, and forget them.

        That is what was spent in vain where another process has finished it since.
        """
        self._clock.settle()
        spent = self.now.building.pop(key, 0.0)
        if key not in self._open_builds:
            return spent
        start, side = self._open_builds.pop(key)
        return self._clock.ledger.seconds[side] - start

    def _tensors(self, ref: Ref | None) -> dict[str, Tensor]:
        return {} if ref is None else self.shelf.tensors(ref)

    def _read(self) -> tuple[Progress, Ledger] | None:
        """Return what the file says, its states verified; None where the cell starts over."""
        try:
            head, _, note = self._path.read_bytes().partition(b"\n")
            if head != f"{_FORMAT} {hashlib.sha256(note).hexdigest()}".encode():
                raise DamagedError("its checksum does not match")
            values = json.loads(note)
            now = Progress.from_json(values["progress"])
            for ref in [*([now.server] if now.server else []), *now.clients.values()]:
                self.shelf.verified(ref)
            return now, Ledger.from_json(values["ledger"])
        except FileNotFoundError:
            return None
        except (OSError, FedbenchError, KeyError, TypeError, ValueError) as error:
            log.warning("journal %s: %s; the cell starts over", self._path, error)
            if self._path.exists():
                move_aside(self._path)
            return None


def _named(point: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(point.get(name) for name in ("name", "step", "round"))
