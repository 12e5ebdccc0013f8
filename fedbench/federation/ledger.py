"""What one cell costs: bytes both ways, rounds, and seconds on either side.

Bytes are summed from the messages that were really serialised. Seconds are wall time while a
side works; what the harness does for itself (curves, evaluation, waiting for a lock) is not
charged. Work that came from the artefact store is charged with the seconds of the
run that did it, and those are also counted as shared.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from fedbench.federation.message import Message

Direction = Literal["up", "down"]
Side = Literal["client", "server", "harness"]


@dataclass
class Traffic:
    """Messages of one direction and purpose, summed over clients.

    Attributes:
        messages: How many.
        payload: Bytes of their tensors.
        wire: Bytes as serialised, headers included.
    """

    messages: int = 0
    payload: int = 0
    wire: int = 0


@dataclass
class Ledger:
    """The account of one cell.

    Attributes:
        traffic: By ``direction/purpose``, such as ``up/round`` or ``down/validation``.
        clients: Wire bytes of each client that sent or received, by id: [up, down].
        rounds: Communication rounds.
        seconds: Wall seconds by side; the clients' are summed over clients.
        shared_seconds: The part of them that an earlier run spent, through shared artefacts.
    """

    traffic: dict[str, Traffic] = field(default_factory=dict)
    clients: dict[int, list[int]] = field(default_factory=dict)
    rounds: int = 0
    seconds: dict[str, float] = field(
        default_factory=lambda: {"client": 0.0, "server": 0.0, "harness": 0.0}
    )
    shared_seconds: float = 0.0

    def charge(self, direction: Direction, purpose: str, client: int, message: Message) -> bytes:
        """Serialise a message, add its bytes, and return them."""
        data = message.serialise()
        entry = self.traffic.setdefault(f"{direction}/{purpose}", Traffic())
        entry.messages += 1
        entry.payload += message.payload_bytes
        entry.wire += len(data)
        self.clients.setdefault(client, [0, 0])[0 if direction == "up" else 1] += len(data)
        return data

    def undo(
        self, direction: Direction, purpose: str, client: int, payload: int, wire: int
    ) -> None:
        """Take back what one message was charged."""
        key = f"{direction}/{purpose}"
        entry = self.traffic[key]
        entry.messages -= 1
        entry.payload -= payload
        entry.wire -= wire
        if not entry.messages:
            del self.traffic[key]
        pair = self.clients[client]
        pair[0 if direction == "up" else 1] -= wire
        if pair == [0, 0]:
            del self.clients[client]

    def wire(self, direction: Direction | None = None) -> int:
        """Return the serialised bytes of one direction, or of both."""
        return sum(
            entry.wire
            for key, entry in self.traffic.items()
            if direction is None or key.startswith(f"{direction}/")
        )

    def payload(self, direction: Direction | None = None) -> int:
        """Return the tensors' bytes of one direction, or of both."""
        return sum(
            entry.payload
            for key, entry in self.traffic.items()
            if direction is None or key.startswith(f"{direction}/")
        )

    def to_json(self) -> dict[str, Any]:
        """Return the account as JSON values, the whole of it."""
        # By hand, because `asdict` takes a millisecond for what is written after every round.
        return {
            **vars(self),
            "traffic": {key: dict(vars(entry)) for key, entry in self.traffic.items()},
            "clients": {client: list(pair) for client, pair in self.clients.items()},
            "seconds": dict(self.seconds),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Ledger:
        """Return the account that ``to_json`` wrote."""
        return cls(
            traffic={key: Traffic(**entry) for key, entry in values["traffic"].items()},
            clients={int(key): list(pair) for key, pair in values["clients"].items()},
            rounds=values["rounds"],
            seconds=dict(values["seconds"]),
            shared_seconds=values["shared_seconds"],
        )

    def mark(self) -> dict[str, Any]:
        """Return what has been charged until now as JSON values, seconds apart."""
        whole = self.to_json()
        return {name: whole[name] for name in ("traffic", "clients", "rounds")}

    def roll_back(self, mark: dict[str, Any]) -> None:
        """Take back what was charged since a ``mark``; the seconds have been spent and stay."""
        self.resume(Ledger.from_json({**self.to_json(), **mark}))

    def resume(self, other: Ledger) -> None:
        """Become another ledger, in place, because the clock and the loop hold this object."""
        vars(self).update(vars(other))

    def summary(self, clients: int) -> dict[str, Any]:
        """Return what a record keeps.

        Args:
            clients: K; bytes per client are means over all of them.
        """
        busiest = max((sum(pair) for pair in self.clients.values()), default=0)
        return {
            "rounds": self.rounds,
            "bytes_up": self.wire("up"),
            "bytes_down": self.wire("down"),
            "bytes_total": self.wire(),
            "payload_up": self.payload("up"),
            "payload_down": self.payload("down"),
            "bytes_up_per_client": self.wire("up") / clients,
            "bytes_down_per_client": self.wire("down") / clients,
            "bytes_busiest_client": busiest,
            "traffic": {key: asdict(entry) for key, entry in sorted(self.traffic.items())},
            "client_seconds": self.seconds["client"],
            "server_seconds": self.seconds["server"],
            "harness_seconds": self.seconds["harness"],
            "shared_seconds": self.shared_seconds,
        }


class Clock:
    """Charges wall time to the side that works; sides nest, and an inner one stops the outer.

    Args:
        ledger: Where seconds are added.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._stack: list[Side] = []
        self._since = 0.0

    @contextmanager
    def side(self, side: Side) -> Iterator[None]:
        """Charge the block's wall time to a side."""
        self.settle()
        self._stack.append(side)
        try:
            yield
        finally:
            self.settle()
            self._stack.pop()

    def add_shared(self, side: Side, seconds: float, *, spent: float = 0.0) -> None:
        """Charge a side with the seconds of work that an earlier run did.

        Args:
            side: Whose.
            seconds: What it took.
            spent: Seconds that the side has spent on the same work in vain, and was charged for.
        """
        self.ledger.seconds[side] += seconds - spent
        self.ledger.shared_seconds += seconds

    def settle(self) -> None:
        """Charge the time until now, so that the ledger says what has been spent."""
        now = time.perf_counter()
        if self._stack:
            self.ledger.seconds[self._stack[-1]] += now - self._since
        self._since = now
