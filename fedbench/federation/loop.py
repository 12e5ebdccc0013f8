"""The loop that drives one cell: rounds, messages, charges, commits.

Clients work one after another, each when the server asks for its upload, so memory does not grow
with their number. After each round state, ledger and round are committed together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedbench.data.dataset import Split
from fedbench.errors import FedbenchError, SettingsError
from fedbench.federation.client import Client, ClientInfo
from fedbench.federation.commit import Commit
from fedbench.federation.context import Context
from fedbench.federation.ledger import Direction
from fedbench.federation.message import Message
from fedbench.federation.method import Method, Upload
from fedbench.federation.population import Population
from fedbench.federation.server import Server
from fedbench.models.inference import unhooked
from fedbench.seeding import numpy_generator

Curve = Callable[[nn.Module], dict[str, float]]


def participants(seed: int, clients: int, share: float, round: int) -> list[int]:
    """Return the clients of one round, ascending, drawn by the cell's seed and the round.

    Args:
        seed: The cell's.
        clients: K.
        share: In (0, 1]; max(⌊share·K⌋, 1) clients take part (McMahan et al. 2017,
            https://arxiv.org/abs/1602.05629).
        round: From 0.
    """
    count = max(int(share * clients + 1e-9), 1)  # .29 of 100 is 28.999…
    if count == clients:
        return list(range(clients))
    drawn = numpy_generator(seed, "participants", round).choice(clients, count, replace=False)
    return sorted(int(client) for client in drawn)


class Federation:
    """One cell at work.

    Args:
        method: The algorithm.
        context: The cell's means.
        population: Its clients.
        curve: Measures a model on the fixed share of the test set.
    """

    def __init__(
        self, method: Method, context: Context, population: Population, curve: Curve
    ) -> None:
        self.method, self.context, self.population = method, context, population
        self._curve = curve
        self._folder: Path = context.scratch
        self._commit = Commit.load(self._folder)
        # One ledger object, which the clock charges: a resumed one is copied into it.
        vars(context.clock.ledger).update(vars(self._commit.ledger))
        self._commit.ledger = self.ledger = context.clock.ledger
        self.server = Server(
            context,
            population.infos,
            method.resources(context.cell),
            self._validate,
            self._observe,
        )

    @property
    def curves(self) -> list[dict[str, Any]]:
        """Points observed so far: name, step, round, bytes so far, accuracy, nll."""
        return self._commit.curves

    def run(self) -> None:
        """Run all rounds that are not committed yet."""
        progress = self.context.progress
        progress.rounds = self.method.rounds()
        if self._commit.rounds_done:
            self.server.state.update(self._commit.server)
        else:
            with self.context.clock.side("server"):
                self.method.setup(self.server)
        for round in range(self._commit.rounds_done, self.method.rounds()):
            progress.round = round + 1
            self._round(round)

    def final_models(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the server's final models by name; what it takes to make them is charged."""
        models = iter(self.method.models(self.server))
        while True:
            with self.context.clock.side("server"):
                found = next(models, None)
            if found is None:
                return
            yield found

    def client_models(self) -> Iterator[tuple[ClientInfo, nn.Module]]:
        """Yield the final models that stay at clients, one client at a time."""
        for info in self.population.infos:
            state = self._commit.client_state(self._folder, info.id)
            rounds = self.method.rounds()
            with (
                self.population.open(info.id, state, max(rounds - 1, 0)) as client,
                self.context.clock.side("client"),
            ):
                model = self.method.client_model(client)
            if model is not None:
                yield info, model

    def _round(self, round: int) -> None:
        cell = self.context.cell
        share = 1.0 if self.method.everyone else cell.participation
        chosen = participants(cell.seed, cell.partition.clients, share, round)
        self.server.enter(round)
        uploads = self._uploads(round, chosen)
        with self.context.clock.side("server"):
            self.method.aggregate(self.server, uploads, round)
        for _ in uploads:  # clients whose uploads the method did not read have worked all the same
            pass
        self._commit.rounds_done = self.ledger.rounds = round + 1
        self._commit.server = self.server.state
        with self.context.clock.side("harness"):
            self._commit.save(self._folder)

    def _uploads(self, round: int, chosen: list[int]) -> Iterator[Upload]:
        clock, method = self.context.clock, self.method
        for k in chosen:
            info = self.population.infos[k]
            with clock.side("server"):
                message = method.broadcast(self.server, info, round)
                received = self._send("down", k, message)
            with clock.side("harness"):
                state = self._commit.client_state(self._folder, k)
                self.context.progress.enter(f"client {k}")
            with self.population.open(k, state, round) as client:
                parcels = self._work(client, received, round)
            with clock.side("harness"):
                self._commit.stage(self._folder, k, state)
            yield Upload(info, _unpack(parcels))
            for parcel in parcels:
                if isinstance(parcel, Path):
                    parcel.unlink(missing_ok=True)

    def _work(self, client: Client, received: Message | None, round: int) -> list[bytes | Path]:
        """Let a client work, charge what it sends, and keep chunks on the disk."""
        with self.context.clock.side("client"):
            sent = self.method.client_update(client, received, round)
            if sent is None:
                return []
            if isinstance(sent, Message):
                return [self.ledger.charge("up", "round", client.info.id, sent)]
            return list(self._spool(client.info.id, sent))

    def _spool(self, client: int, chunks: Iterable[Message]) -> Iterator[Path]:
        folder = self._folder / "spool"
        folder.mkdir(parents=True, exist_ok=True)
        for number, chunk in enumerate(chunks):
            if not isinstance(chunk, Message):
                raise FedbenchError(
                    f"method {self.method.name!r} sent a {type(chunk).__name__}; "
                    "clients send messages, and nothing else"
                )
            path = folder / f"client-{client}-{number}.safetensors"
            path.write_bytes(self.ledger.charge("up", "round", client, chunk))
            yield path

    def _send(self, direction: Direction, client: int, message: Message | None) -> Message | None:
        if message is None:
            return None
        return Message.parse(self.ledger.charge(direction, "round", client, message))

    def _observe(self, model: nn.Module, step: int, name: str) -> None:
        with self.context.clock.side("harness"):
            point = {
                "name": name,
                "step": step,
                "round": self.context.progress.round,
                "bytes": self.ledger.wire(),
                **self._curve(unhooked(model)),
            }
            self.curves.append(point)

    def _validate(self, model: nn.Module) -> float:
        mode = self.method.config.validation
        if mode == "none":
            raise SettingsError(
                f"method {self.method.name!r} measures itself, but its "
                "`validation` is 'none'; set it to 'poll' or 'pooled'"
            )
        right, total, shown = 0, 0, unhooked(model)
        for info in self.population.infos:
            hold_out = self.population.hold_out(info.id)
            if len(hold_out):
                ask = self._poll if mode == "poll" else self._pooled
                right += ask(shown, info.id, hold_out)
                total += len(hold_out)
        self._commit.pooled = self._commit.pooled or mode == "pooled"
        return right / total

    def _poll(self, model: nn.Module, client: int, hold_out: Split) -> int:
        """The model goes down, two numbers come up."""
        self.ledger.charge("down", "validation", client, Message.of_model(model))
        with self.context.clock.side("client"):
            right = self._right(model, hold_out)
            answer = {"right": torch.tensor(right), "count": torch.tensor(len(hold_out))}
            self.ledger.charge("up", "validation", client, Message("counts", answer))
        return right

    def _pooled(self, model: nn.Module, client: int, hold_out: Split) -> int:
        """The hold-out is uploaded once, and the server measures."""
        if not self._commit.pooled:
            images = {"images": hold_out.images, "labels": hold_out.labels}
            self.ledger.charge("up", "validation", client, Message("images", images))
        with self.context.clock.side("server"):
            return self._right(model, hold_out)

    def _right(self, model: nn.Module, split: Split) -> int:
        logits = self.context.inference.logits(model, split.images)
        return int((logits.argmax(dim=1).cpu() == split.labels.cpu()).sum())


def _unpack(parcels: list[bytes | Path]) -> Iterator[Message]:
    for parcel in parcels:
        yield Message.parse(parcel.read_bytes() if isinstance(parcel, Path) else parcel)
