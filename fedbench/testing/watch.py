"""What is in reach of a method while a cell runs, what passes, and what it leaves behind."""

from __future__ import annotations

import pickle
import random
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import torch

from fedbench.config import Cell
from fedbench.data.dataset import ImageData
from fedbench.data.partition import split
from fedbench.federation.client import Client
from fedbench.federation.ledger import Direction
from fedbench.federation.loop import Federation
from fedbench.federation.message import Message
from fedbench.federation.method import Method, Upload
from fedbench.federation.resources import Folders, Resource, declared
from fedbench.federation.server import Server
from fedbench.testing.reach import Gallery

#: The functions of a method that work at the server and at clients, and are looked at.
_SERVERS = ("setup", "broadcast", "aggregate")
_CLIENTS = ("client_update", "client_model")
#: Others, which may not draw from global generators either.
_LATER = ("models", "synthetic", "outputs", "client_outputs", "findings")


@dataclass
class Watch:
    """What was in reach of a method while a cell ran, and what passed.

    Attributes:
        gallery: All images of clients and of the test set.
        own: Each client's training images.
        held: The same and its hold-out, on which it may measure a model.
        sent: Images inside the clients' messages.
        given: Images of the clients inside resources that are declared as a privilege.
        at_server: Images in reach of the server, each with a way to it.
        at_method: Images in reach of the method itself, which serves both sides.
        at_clients: Of each client: images in reach of it while it works.
        clients: All that have worked.
        calls: Which of the method's functions were looked at.
        passed: Messages and bytes that passed in rounds, by direction.
        changed: Messages that are not read back as they were sent.
        touched: Uploads that ``aggregate`` has written into.
        drew: Functions that have drawn from a global generator, and from which.
    """

    gallery: Gallery
    own: list[frozenset[bytes]]
    held: list[frozenset[bytes]]
    sent: set[bytes] = field(default_factory=set)
    given: set[bytes] = field(default_factory=set)
    at_server: dict[bytes, str] = field(default_factory=dict)
    at_method: dict[bytes, str] = field(default_factory=dict)
    at_clients: dict[int, dict[bytes, str]] = field(default_factory=dict)
    clients: list[Client] = field(default_factory=list)
    calls: set[str] = field(default_factory=set)
    passed: dict[Direction, list[int]] = field(
        default_factory=lambda: {"up": [0, 0], "down": [0, 0]}
    )
    changed: list[str] = field(default_factory=list)
    touched: list[str] = field(default_factory=list)
    drew: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, cell: Cell, data: ImageData) -> Watch:
        """Return a watch over a cell that has not run.

        Args:
            cell: The cell; its clients hold images out.
            data: Its data, no two images of which are equal.
        """
        labels, classes = data.train.labels.numpy(), len(data.classes)
        drawn = split(labels, cell.partition, cell.seed, classes)
        scale = data.normalisation(cell.data.normalisation)
        images = torch.cat([data.train.images, data.test.images])
        gallery = Gallery(images, scale.mean, scale.std)
        assert len(gallery.names) == len(images), "two images are equal, so one has two owners"
        own, apart = (
            [gallery.names_of(data.train.images[torch.from_numpy(k)]) for k in part]
            for part in (drawn.train, drawn.validation)
        )
        return cls(gallery, own, [a | b for a, b in zip(own, apart, strict=True)])

    @contextmanager
    def over(self, kind: type[Method]) -> Iterator[None]:
        """Look at every call of a method's functions inside the block."""
        with ExitStack() as stack:
            for name in (*_SERVERS, *_CLIENTS, *_LATER):
                spied = _spied(self, name, getattr(kind, name))
                stack.enter_context(mock.patch.object(kind, name, spied))
            asked = _asked(self, Server.resource)
            stack.enter_context(mock.patch.object(Server, "resource", asked))
            yield

    def look(self, method: Method, worker: Server | Client) -> None:
        """Note what a side and the method itself can reach."""
        attributes = vars(type(method)).items()
        own = (vars(method), {name: value for name, value in attributes if not callable(value)})
        self.at_method |= self.gallery.in_reach(own, doors=(Federation,))
        seen = self.at_server
        if isinstance(worker, Client):
            if all(worker is not other for other in self.clients):
                self.clients.append(worker)
            seen = self.at_clients.setdefault(worker.info.id, {})
        seen |= self.gallery.in_reach(worker, doors=(Federation,))

    def message(self, direction: Direction, message: Message) -> None:
        """Note a message that passes."""
        data = message.serialise()
        if Message.parse(data).serialise() != data:
            self.changed.append(message.kind)
        self.passed[direction][0] += 1
        self.passed[direction][1] += len(data)
        if direction == "up":
            for tensor in message.tensors.values():
                self.sent |= self.gallery.within(tensor)

    def resource(self, server: Server, found: Resource) -> None:
        """Note the clients' images in a resource, where it says that it is a privilege."""
        folders = Folders(server.scratch, server.scratch)
        if declared(found.name).privilege(server.cell, folders) is not None:
            for tensor in found.tensors.values():
                self.given |= self.gallery.within(tensor)

    @contextmanager
    def still(self, name: str) -> Iterator[None]:
        """Note a function that draws from a global generator, and put that back."""
        before = _states()
        yield
        after = _states()
        moved = [each for each in before if _bits(before[each]) != _bits(after[each])]
        if moved:
            self.drew.setdefault(name, " and ".join(moved))
            _put_back(before)

    def faults(self) -> list[str]:
        """Return what is in reach of somebody who should not have it, or was sent by no owner."""
        known = self.sent | self.given
        strange = {way for name, way in self.at_server.items() if name not in known}
        found = [f"in reach of the server: {way}" for way in sorted(strange)]
        for k, seen in self.at_clients.items():
            others = {way for name, way in seen.items() if name not in self.held[k]}
            found += [f"in reach of client {k}: {way}" for way in sorted(others)]
        found += [f"in reach of the method: {way}" for way in sorted({*self.at_method.values()})]
        later = self.gallery.in_reach(self.clients)
        left = {way for name, way in later.items() if not self._stays(name, way)}
        found += [f"in reach of clients after their work: {way}" for way in sorted(left)]
        if self.sent - frozenset().union(*self.own):
            found.append("a message holds a hold-out or a test image")
        return found

    def _stays(self, name: bytes, way: str) -> bool:
        """Return whether an image is one of a client's own that it has put into its state."""
        kept = re.match(r"\[(\d+)\]\.state\[", way)
        return kept is not None and name in self.own[int(kept[1])]


def _spied(watch: Watch, name: str, whole: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method's function that is looked at before, during and after a call."""

    def spied(self: Method, worker: Server | Client, *arguments: Iterable[Upload]) -> object:
        if name in _LATER:
            with watch.still(name):
                found = whole(self, worker, *arguments)
            return _items(watch, name, found) if isinstance(found, Iterator) else found
        watch.calls.add(name)
        watch.look(self, worker)
        read: list[tuple[int, Message, bytes]] = []
        if name == "aggregate":  # of server, uploads and round
            arguments = (_noted(arguments[0], read), *arguments[1:])
        with watch.still(name):
            found = whole(self, worker, *arguments)
        for client, message, data in read:
            if message.serialise() != data:
                watch.touched.append(f"{message.kind!r} of client {client}")
        if name == "client_update" and found is not None:
            return _sent(watch, self, worker, found)
        if name == "broadcast" and found is not None:
            watch.message("down", found)
        elif name != "broadcast":  # the next look at the server sees what it has left
            watch.look(self, worker)
        return found

    return spied


def _sent(
    watch: Watch, method: Method, client: Client | Server, found: Message | Iterable[Message]
) -> Message | Iterator[Message]:
    """Look at what a client sends; chunks are looked at when they are asked for."""
    if not isinstance(found, Message):
        return _chunks(watch, method, client, found)
    watch.message("up", found)
    watch.look(method, client)
    return found


def _chunks(
    watch: Watch, method: Method, client: Client | Server, found: Iterable[Message]
) -> Iterator[Message]:
    for chunk in _items(watch, "client_update", iter(found)):
        watch.message("up", chunk)
        yield chunk
    watch.look(method, client)


def _items(watch: Watch, name: str, found: Iterator[Any]) -> Iterator[Any]:
    """Yield what an iterator gives, and look at what it draws."""
    while True:
        with watch.still(name):
            item = next(found, watch)
        if item is watch:
            return
        yield item


def _noted(uploads: Iterable[Upload], read: list[tuple[int, Message, bytes]]) -> Iterator[Upload]:
    """Yield uploads whose messages are noted when they are read."""

    def chunks(upload: Upload) -> Iterator[Message]:
        for message in upload.chunks:
            read.append((upload.client.id, message, message.serialise()))
            yield message

    return (Upload(upload.client, chunks(upload)) for upload in uploads)


def _asked(watch: Watch, whole: Callable[[Server, str], Resource]) -> Callable[..., Resource]:
    def asked(self: Server, name: str) -> Resource:
        found = whole(self, name)
        watch.resource(self, found)
        return found

    return asked


def _states() -> dict[str, Any]:
    """Return the states of the global generators."""
    return {
        "Python's random": random.getstate(),
        "NumPy's": np.random.get_state(legacy=False),
        "torch's": torch.default_generator.get_state(),
    }


def _bits(state: object) -> bytes:
    if isinstance(state, dict):  # NumPy's, whose text leaves numbers out
        return pickle.dumps(state)
    return state.numpy().tobytes() if isinstance(state, torch.Tensor) else repr(state).encode()


def _put_back(states: dict[str, Any]) -> None:
    random.setstate(states["Python's random"])
    np.random.set_state(states["NumPy's"])
    torch.default_generator.set_state(states["torch's"])
