"""What a cell has done so far, written after each round, so that a killed cell goes on there.

One file is the commit: it appears by a rename, and it names the client states that belong to it.
Client states that a round did not change are not written again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from fedbench.errors import FedbenchError
from fedbench.federation.ledger import Ledger
from fedbench.files import move_aside, write_atomic

log = logging.getLogger(__name__)


@dataclass
class Commit:
    """The state of a cell between two rounds.

    Attributes:
        rounds_done: Rounds whose ``aggregate`` has returned.
        ledger: What they cost.
        curves: Points observed so far.
        pooled: Whether the clients' hold-outs are at the server already.
        server: The server's state.
        clients: For each client with a state, the file that holds it, in the same folder.
    """

    rounds_done: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    curves: list[dict[str, Any]] = field(default_factory=list)
    pooled: bool = False
    server: dict[str, Tensor] = field(default_factory=dict)
    clients: dict[int, str] = field(default_factory=dict)
    _staged: dict[int, str | None] = field(default_factory=dict)

    def stage(self, folder: Path, client: int, state: Mapping[str, Tensor]) -> None:
        """Write a client's state as its work left it; it counts from the next commit on.

        Args:
            folder: The cell's scratch folder.
            client: Its id.
            state: May be empty, and then nothing is written.
        """
        if not state and client not in self.clients:
            return
        name = f"client-{client}-after-{self.rounds_done + 1}.safetensors" if state else None
        if name is not None:
            write_atomic(folder / name, safetensors.torch.save(_plain(state, "client.state")))
        self._staged[client] = name

    def save(self, folder: Path) -> None:
        """Write the commit, with the client states staged since the last one.

        Args:
            folder: The cell's scratch folder.
        """
        stale = [self.clients.pop(client) for client in self._staged if client in self.clients]
        self.clients.update({k: name for k, name in self._staged.items() if name is not None})
        self._staged.clear()
        note = {
            "rounds_done": self.rounds_done,
            "ledger": self.ledger.to_json(),
            "curves": self.curves,
            "pooled": self.pooled,
            "clients": self.clients,
        }
        write_atomic(
            folder / "commit.safetensors",
            safetensors.torch.save(
                _plain(self.server, "server.state"), {"commit": json.dumps(note)}
            ),
        )
        for name in set(stale) - set(self.clients.values()):
            (folder / name).unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: Path) -> Commit:
        """Return the last commit in a folder, or an empty one where there is none."""
        path = folder / "commit.safetensors"
        if not path.exists():
            return cls()
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                note = json.loads(file.metadata()["commit"])
            state = safetensors.torch.load(path.read_bytes())
        except (safetensors.SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            log.warning(
                "commit %s is damaged (%s); kept as %s, and the cell starts over",
                path,
                error,
                move_aside(path).name,
            )
            return cls()
        return cls(
            note["rounds_done"],
            Ledger.from_json(note["ledger"]),
            note["curves"],
            note["pooled"],
            state,
            {int(key): name for key, name in note["clients"].items()},
        )

    def client_state(self, folder: Path, client: int) -> dict[str, Tensor]:
        """Return a client's state as last committed, empty if it never had one."""
        name = self.clients.get(client)
        return safetensors.torch.load((folder / name).read_bytes()) if name else {}


def _plain(state: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise FedbenchError(
                f"{what}[{name!r}] is a {type(value).__name__}; only tensors "
                "outlive a call, so that a killed cell can resume"
            )
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
