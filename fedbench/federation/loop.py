"""The loop that drives one cell: rounds, messages, charges, commits.

Clients work one after another, each when the server asks for its upload, so memory does not grow
with their number; what they send stays on the disk until the round is over. After each round state,
ledger and round are committed together, and clients' finished work in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fedbench.data.dataset import Split
from fedbench.errors import FedbenchError, SettingsError
from fedbench.federation.client import ClientInfo
from fedbench.federation.context import Context
from fedbench.federation.ledger import Direction
from fedbench.federation.message import Message
from fedbench.federation.method import Method, Upload
from fedbench.federation.population import Population
from fedbench.federation.server import Server
from fedbench.federation.shelf import Ref
from fedbench.federation.stages import glance, unchanged
from fedbench.federation.state import plain
from fedbench.federation.work import count_right
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
        self._journal, self.ledger = context.journal, context.clock.ledger
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
        return self._journal.now.curves

    def run(self) -> None:
        """Run all rounds that are not committed yet."""
        progress, now = self.context.progress, self._journal.now
        progress.rounds = self.method.rounds()
        if now.begun:
            self.server.state = self._journal.server_state()
        else:
            self._journal.phase(self._set_up)
            now.begun = True
            self._commit_server()
        for round in range(now.rounds, self.method.rounds()):
            progress.round = round + 1
            self._journal.phase(partial(self._round, round))
            self.ledger.rounds = now.rounds = round + 1
            self._commit_server()

    def final_models(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the server's final models by name; what it takes to make them is charged."""
        self._journal.last_phase()
        self.server.enter("models", self._last_round)
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
            state = self._journal.client_state(info.id)
            with (
                self.population.open(info.id, state) as client,
                self.context.clock.side("client"),
            ):
                client.enter("models", self._last_round)
                model = self.method.client_model(client)
            if model is not None:
                yield info, model

    def client_outputs(self) -> dict[int, Mapping[str, Tensor]]:
        """Return what the record keeps of each client's own work, where there is anything."""
        found: dict[int, Mapping[str, Tensor]] = {}
        for info in self.population.infos:
            state = self._journal.client_state(info.id)
            with self.population.open(info.id, state) as client:
                client.enter("models", self._last_round)
                if kept := dict(self.method.client_outputs(client)):
                    found[info.id] = kept
        return found

    @property
    def _last_round(self) -> int:
        return max(self.method.rounds() - 1, 0)

    def _set_up(self, again: bool) -> None:
        self.server.enter("setup")
        if again:
            self.server.state = {}
        with self.context.clock.side("server"):
            self.method.setup(self.server)

    def _round(self, round: int, again: bool) -> None:
        cell = self.context.cell
        share = 1.0 if self.method.everyone else cell.participation
        chosen = participants(cell.seed, cell.partition.clients, share, round)
        if again:
            self.server.state = self._journal.server_state()
        self.server.enter(f"round-{round}", round)
        uploads = self._uploads(round, chosen, self.server.path)
        with self.context.clock.side("server"):
            # Without `close`: what reads them by `yield from` would close them for those that
            # follow, and these clients would not work.
            self.method.aggregate(self.server, map(_itself, uploads), round)
        for _ in uploads:  # clients whose uploads the method did not read have worked all the same
            pass

    def _commit_server(self) -> None:
        """Commit the end of a phase, and leave the state as a resumed cell would find it."""
        with self.context.clock.side("harness"):
            self.server.state = plain(self.server.state, "server.state")
            self._journal.end_phase(self.server.state)

    def _uploads(self, round: int, chosen: list[int], place: str) -> Iterator[Upload]:
        clock, sent = self.context.clock, self._journal.now.uploads
        for k in chosen:
            if self.server.path != place:
                raise FedbenchError(
                    f"uploads are read inside {self.server.path}, which a resumed cell leaves out "
                    "where it is done, and then others would be read there; read them before"
                )
            info = self.population.infos[k]
            if k not in sent:
                with self._journal.settling():
                    with clock.side("server"):
                        received = self._send("down", k, self._broadcast(info, round))
                    self._let_work(info, received, round)
            with clock.side("harness"):
                if self._journal.due:
                    self._journal.save()
            yield Upload(info, self._unpack(sent[k]))

    def _broadcast(self, info: ClientInfo, round: int) -> Message | None:
        """Ask what a client is sent; it is not asked again once the client's upload is kept."""
        state, before = self.server.state, glance(self.server.state)
        with self.server.apart(f"broadcast {info.id}"):
            message = self.method.broadcast(self.server, info, round)
        if self.server.state is not state or not unchanged(state, before):
            raise FedbenchError(
                f"method {self.method.name!r} changes server.state in `broadcast`, where a kill "
                "would lose that; do it in `setup` or `aggregate`"
            )
        return message

    def _let_work(self, info: ClientInfo, received: Message | None, round: int) -> None:
        """Let a client work, charge what it sends, and keep that and its state on the disk."""
        clock, journal = self.context.clock, self._journal
        with clock.side("harness"):
            state = journal.client_state(info.id)
            self.context.progress.enter(f"client {info.id}")
        parcels: list[Ref] = []
        with self.population.open(info.id, state) as client, clock.side("client"):
            client.enter(f"round-{round}", round)
            for message in self._messages(self.method.client_update(client, received, round)):
                with clock.side("harness"):
                    data = journal.charge("up", "round", info.id, message)
                    parcels.append(journal.shelf.put(data))
        with clock.side("harness"):
            journal.now.uploads[info.id] = parcels
            journal.stage(info.id, plain(client.state, "client.state"))
            journal.forget(client.path)

    def _messages(self, sent: Message | Iterable[Message] | None) -> Iterator[Message]:
        if sent is None:
            return
        for chunk in [sent] if isinstance(sent, Message) else sent:
            if not isinstance(chunk, Message):
                raise FedbenchError(
                    f"method {self.method.name!r} sent a {type(chunk).__name__}; "
                    "clients send messages, and nothing else"
                )
            yield chunk

    def _unpack(self, parcels: list[Ref]) -> Iterator[Message]:
        for ref in parcels:
            yield Message.parse(self._journal.shelf.path(ref).read_bytes())

    def _send(self, direction: Direction, client: int, message: Message | None) -> Message | None:
        if message is None:
            return None
        return Message.parse(self._journal.charge(direction, "round", client, message))

    def _observe(self, model: nn.Module, step: int, name: str) -> None:
        with self.context.clock.side("harness"):
            point = {
                "name": name,
                "step": step,
                "round": self.context.progress.round,
                "bytes": self.ledger.wire(),
                **self._curve(unhooked(model)),
            }
            self._journal.observe(point)

    def _validate(self, model: nn.Module) -> float:
        mode = self.method.config.validation
        if mode == "none":
            raise SettingsError(
                f"method {self.method.name!r} measures itself, but its "
                "`validation` is 'none'; set it to 'poll' or 'pooled'"
            )
        right, total, shown = 0, 0, unhooked(model)
        # Fetched from a GPU once, and not for each client that it goes to.
        sent = Message.of_model({name: value.cpu() for name, value in shown.state_dict().items()})
        for info in self.population.infos:
            hold_out = self.population.hold_out(info.id)
            if len(hold_out):
                if mode == "poll":
                    right += self._poll(shown, sent, info.id, hold_out)
                else:
                    right += self._pooled(shown, info.id, hold_out)
                total += len(hold_out)
        if not total:
            raise SettingsError(
                f"validation {mode!r} has no image: none of {len(self.population.infos)} clients "
                f"holds one out at partition.validation = {self.context.cell.partition.validation}"
                "; give a larger share, such as 0.1, or larger clients"
            )
        if mode == "pooled":
            self._journal.pool()
        return right / total

    def _poll(self, model: nn.Module, sent: Message, client: int, hold_out: Split) -> int:
        """The model goes down, two numbers come up."""
        self._journal.charge("down", "validation", client, sent)
        with self.context.clock.side("client"):
            right = count_right(self.context, model, hold_out)
            answer = {"right": torch.tensor(right), "count": torch.tensor(len(hold_out))}
            self._journal.charge("up", "validation", client, Message("counts", answer))
        return right

    def _pooled(self, model: nn.Module, client: int, hold_out: Split) -> int:
        """The hold-out is uploaded once, and the server measures."""
        if not self._journal.now.pooled:
            images = {"images": hold_out.images, "labels": hold_out.labels}
            self._journal.charge("up", "validation", client, Message("images", images))
        with self.context.clock.side("server"):
            return count_right(self.context, model, hold_out)


def _itself(upload: Upload) -> Upload:
    return upload
