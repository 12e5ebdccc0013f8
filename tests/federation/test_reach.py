"""What a server and a client can really reach, and what messages hold, for every method."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from reach import Gallery, reachable

import fedbench
from fedbench.bench.datasets import load_data
from fedbench.data.dataset import Split
from fedbench.data.partition import split
from fedbench.federation.client import Client
from fedbench.federation.loop import Federation
from fedbench.federation.message import Message
from fedbench.methods import METHODS
from fedbench.methods.local import Local

PACKAGE = Path(fedbench.__file__).parent
DISTIL = {"steps": 2, "batch_size": 8}
IPC, EACH = {"budget": {"ipc": 1}}, {"budget": {"pixels": 6 * 256, "scope": "per_client"}}
IMAGES, PICTURE = {"budget": {"pixels": 24 * 256}}, {"budget": {"pixels": 64 * 96}}
LOGITS = {**DISTIL, "exchange": "logits", "augment": "none"}
MATCHING = {"iterations": 2}
MADE = {"epochs": 2, "steps": 2, "batch_size": 12, "noise": 4, "width": 2, "batch_norm": 0}
COLLAB = {**MATCHING, "local_iterations": 2}

#: Methods whose clients send real images: they say so, and pay for it.
SENDERS = {"base_images", "centralised", "random_real"}
#: One cell for each method, and more where clients send something else.
TRAJECTORIES = {
    "experts": 1,
    "start_epochs": 1,
    "inner_steps": 2,
    "iterations": 2,
    "evaluate_every": 1,
    "judge_epochs": 1,
}
SEARCH = {"student_recipe": "search", "validation": "pooled", "trials": 2, "search_epochs": 1}
INVERSION = {
    "steps": 2,
    "initial_batches": 1,
    "student_epochs": 1,
    "steps_per_epoch": 2,
    "batch_size": 8,
    "batch_norm": 0,
}
GUIDED = {
    "prior": "unused@20",
    "prior_steps": 1,
    "images_per_class": 1,
    "batch_size": 8,
    "batch_norm": 0,
    "steps": 2,
    "epochs": 1,
}
CELLS = {
    "base_images": ({"name": "base_images", **SEARCH}, IPC),
    "centralised": ({"name": "centralised"}, {}),
    "co_boosting": ({"name": "co_boosting", **MADE}, {}),
    "collabdm": ({"name": "collabdm", **COLLAB}, IPC),
    "collabdm-expanded": (
        {"name": "collabdm", "preset": "reference", **COLLAB, "samples": 5, "expand": 2},
        IPC,
    ),
    "deep_inversion": ({"name": "deep_inversion", **INVERSION, "label_weights": "absolute"}, {}),
    "dense": ({"name": "dense", **MADE}, {}),
    "ensemble": ({"name": "ensemble"}, {}),
    "fedavg": ({"name": "fedavg", "rounds": 2, "epochs": 1}, {}),
    "fedavg-pooled": (
        {"name": "fedavg", "rounds": 1, "epochs": 1, "validation": "pooled"},
        {},
    ),
    "fedcgs": ({"name": "fedcgs"}, {}),
    "feddf": ({"name": "feddf", **DISTIL, "rounds": 2}, IMAGES),
    "feddf-logits": ({"name": "feddf", **LOGITS, "rounds": 2}, IMAGES),
    "fedlmg": ({"name": "fedlmg", **GUIDED}, {}),
    "fedprox": ({"name": "fedprox", "rounds": 1, "epochs": 1}, {}),
    "local": ({"name": "local"}, {}),
    "local_dm": ({"name": "local_dm", **MATCHING}, EACH),
    "local_dm-expanded": (
        {"name": "local_dm", "preset": "reference", **MATCHING, "samples": 5, "expand": 2},
        EACH,
    ),
    "local_kip": ({"name": "local_kip", "steps": 2}, EACH),
    "random_real": ({"name": "random_real"}, IPC),
    "single_image": ({"name": "single_image", **DISTIL, "crops": 30, "selected": 10}, PICTURE),
    "trajectory_matching": ({"name": "trajectory_matching", **TRAJECTORIES, **SEARCH}, IPC),
}


@dataclass
class Watch:
    """What was in reach of a method while a cell ran.

    Attributes:
        gallery: All images of clients and of the test set.
        own: Each client's training images.
        held: The same and its hold-out, on which it may measure a model.
        sent: Images inside the clients' messages.
        at_server: Images in reach of the server, each with a way to it.
        at_clients: Of each client: images in reach of it while it works.
        clients: All that have worked.
        calls: Which of the method's functions were looked at.
    """

    gallery: Gallery
    own: list[frozenset[bytes]]
    held: list[frozenset[bytes]]
    sent: set[bytes] = field(default_factory=set)
    at_server: dict[bytes, str] = field(default_factory=dict)
    at_clients: dict[int, dict[bytes, str]] = field(default_factory=dict)
    clients: list[object] = field(default_factory=list)
    calls: set[str] = field(default_factory=set)

    def server(self, server):
        self.at_server |= self.gallery.in_reach(server, doors=(Federation,))

    def client(self, client):
        if all(client is not other for other in self.clients):
            self.clients.append(client)
        seen = self.at_clients.setdefault(client.info.id, {})
        seen |= self.gallery.in_reach(client, doors=(Federation,))

    def message(self, message):
        for tensor in message.tensors.values():
            self.sent |= self.gallery.within(tensor)

    def faults(self):
        """Return what is in reach of somebody who should not have it, or was sent by no owner."""
        strange = {way for name, way in self.at_server.items() if name not in self.sent}
        found = [f"in reach of the server: {way}" for way in sorted(strange)]
        for k, seen in self.at_clients.items():
            others = {way for name, way in seen.items() if name not in self.held[k]}
            found += [f"in reach of client {k}: {way}" for way in sorted(others)]
        later = self.gallery.in_reach(self.clients)
        left = {way for name, way in later.items() if not self._stays(name, way)}
        found += [f"in reach of clients after their work: {way}" for way in sorted(left)]
        if self.sent - frozenset().union(*self.own):
            found.append("a message holds a hold-out or a test image")
        return found

    def _stays(self, name, way):
        """Return whether an image is one of a client's own that it has put into its state."""
        kept = re.match(r"\[(\d+)\]\.state\[", way)
        return kept is not None and name in self.own[int(kept[1])]


@pytest.fixture
def watched(tiny, runtime, compute, monkeypatch):
    """Run a cell and return what was in reach before and after each of its method's calls."""

    def run(method, over):
        over = {**over, "partition": {"validation": 0.2}}  # so that there are hold-outs
        cell = tiny(method, **over)
        data = load_data(cell.data, runtime)
        drawn = split(data.train.labels.numpy(), cell.partition, cell.seed, len(data.classes))
        images = torch.cat([data.train.images, data.test.images])
        scale = data.normalisation(cell.data.normalisation)
        gallery = Gallery(images, scale.mean, scale.std)
        assert len(gallery.names) == len(images)  # no two are equal, so each has one owner
        own, apart = (
            [gallery.names_of(data.train.images[torch.from_numpy(k)]) for k in part]
            for part in (drawn.train, drawn.validation)
        )
        assert all(apart)
        watch = Watch(gallery, own, [a | b for a, b in zip(own, apart, strict=True)])
        kind = METHODS.get(method["name"])
        for name in ("setup", "broadcast", "aggregate", "client_update", "client_model"):
            monkeypatch.setattr(kind, name, _spy(getattr(kind, name), name, watch))
        compute(method, **over)
        return watch

    return run


def _spy(whole, name, watch):
    look = watch.client if name.startswith("client") else watch.server

    def spied(self, worker, *arguments):
        watch.calls.add(name)
        look(worker)
        found = whole(self, worker, *arguments)
        if name == "client_update" and found is not None:
            return _read(found, watch, worker)
        if name != "broadcast":  # the next look at the server sees what it has left
            look(worker)
        return found

    return spied


def _read(sent, watch, client):
    if isinstance(sent, Message):
        watch.message(sent)
        watch.client(client)
        return sent
    return _chunks(sent, watch, client)


def _chunks(sent, watch, client):
    for chunk in sent:
        watch.message(chunk)
        yield chunk
    watch.client(client)


@pytest.mark.parametrize("name", CELLS)
def test_fd3_4_nobody_reaches_or_sends_what_is_not_theirs(watched, name):
    """The server reaches what was sent, a client its own images while it works, nobody the rest.

    Private attributes count as reach, so this holds whatever a method's author tries.
    """
    method, over = CELLS[name]
    watch = watched(method, over)
    assert watch.faults() == []
    # Or the test would have looked at nothing:
    rounds = {"client_update", "broadcast", "aggregate"} if method["name"] != "local" else set()
    assert watch.calls == {"setup", "client_model", *rounds}
    assert sorted(watch.at_clients) == [0, 1, 2]
    assert all(watch.own[k] <= seen.keys() for k, seen in watch.at_clients.items())
    assert bool(watch.sent) == (method["name"] in SENDERS)


class Greedy(Local):
    """Sends a client's images, as the numbers that networks see, under a harmless name."""

    name = "greedy"

    def rounds(self):
        return 1

    def client_update(self, client, received, round):
        scaled = client.shape.normalisation(client.data.images)
        return Message("weights", {"body.0.weight": scaled})


def test_images_in_a_message_are_found_whatever_they_are_called(watched, registered):
    watch = watched({"name": registered(Greedy).name}, {})
    assert watch.sent == frozenset().union(*watch.own)


def test_a_population_at_the_server_is_found(watched, monkeypatch):
    whole = Federation.__init__

    def leak(self, *arguments):
        whole(self, *arguments)
        self.server._hidden = self.population

    monkeypatch.setattr(Federation, "__init__", leak)
    (fault,) = watched({"name": "ensemble"}, {}).faults()
    assert fault == "in reach of the server: ._hidden._train.images"


def test_a_harness_at_the_server_is_found(watched, monkeypatch):
    whole = Federation.__init__

    def leak(self, method, context, population, curve):
        whole(self, method, context, population, curve)
        self.server._hidden = [curve]

    monkeypatch.setattr(Federation, "__init__", leak)
    (fault,) = watched({"name": "ensemble"}, {}).faults()
    assert fault.startswith("in reach of the server: ._hidden[0].__self__._test.images")


def test_a_client_that_keeps_its_images_is_found(watched, monkeypatch):
    monkeypatch.setattr(Client, "close", lambda self: None)
    faults = watched({"name": "local"}, {}).faults()
    for number in range(3):
        assert f"in reach of clients after their work: [{number}]._split.images" in faults


def test_a_client_whose_images_are_a_view_of_everybodys_is_found(watched, monkeypatch):
    def view(self, indices):
        return Split(self.images[: len(indices)], self.labels[: len(indices)])

    monkeypatch.setattr(Split, "take", view)
    faults = watched({"name": "local"}, {}).faults()
    assert any(fault.startswith("in reach of client 2: ._split.images") for fault in faults)


def test_every_method_is_looked_at():
    assert {method["name"] for method, _ in CELLS.values()} == {*METHODS.names()}


@pytest.mark.parametrize("part", ["methods", "synthesis"])
def test_methods_touch_no_private_attribute_of_others(part):
    """The doors of the server that lead to the harness are private, and stay shut."""
    for path in sorted((PACKAGE / part).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                dunder = node.attr.startswith("__") and node.attr.endswith("__")
                own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                assert own or dunder, f"{path}:{node.lineno} takes {ast.unparse(node)}"


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held):
        self.held = held

    def method(self):
        return self.held


def _closure(image):
    return lambda: image


def _running(image):
    def generate(image):
        yield 1
        yield image

    found = generate(image)
    next(found)
    return found


def _with_buffer(image):
    module = torch.nn.Linear(1, 1)
    module.register_buffer("x", image)
    return torch.nn.Sequential(module)


PLACES = {
    "an attribute": Slotted,
    "a list in a dictionary": lambda image: {"a": [image]},
    "a closure": _closure,
    "a default": lambda image: lambda taken=image: taken,
    "a bound method": lambda image: Slotted(image).method,
    "a partial": lambda image: partial(print, image),
    "a generator": _running,
    "a view of one pixel": lambda image: image.flatten()[:1],
    "a larger tensor": lambda image: torch.cat([image, image])[None],
    "an array": lambda image: image.numpy(),
    "bytes": lambda image: b"head" + image.numpy().tobytes(),
    "floats": lambda image: image / 255,
    "normalised floats": lambda image: (image / 255 - 0.3) / 0.2,
    "half precision": lambda image: ((image / 255 - 0.3) / 0.2).bfloat16(),
    "a module's buffer": _with_buffer,
}


@pytest.mark.parametrize("place", PLACES)
def test_an_image_is_found_wherever_it_is(place):
    source = torch.Generator().manual_seed(0)
    images = torch.randint(256, (4, 1, 8, 8), generator=source, dtype=torch.uint8)
    gallery = Gallery(images, [0.3], [0.2])
    found = gallery.in_reach(PLACES[place](images[2:3].clone()))
    assert found.keys() == gallery.names_of(images[2:3])
    other = torch.randint(256, (1, 1, 8, 8), generator=source, dtype=torch.uint8)
    assert not gallery.in_reach(PLACES[place](other))


def test_a_door_is_not_looked_behind_but_its_room_is_when_it_is_in_reach():
    room = Slotted(np.ones(3))
    assert len([*reachable([room.method], doors=(Slotted,))]) == 2
    assert room.held is dict(reachable([room.method]))["[0].__self__.held"]
    assert "[0].held" in dict(reachable([room, room.method], doors=(Slotted,)))
