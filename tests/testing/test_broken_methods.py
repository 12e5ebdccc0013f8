"""A method that breaks a property is told which, by how much, and how to mend it."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

from fedbench.federation.averaging import average
from fedbench.federation.message import Message
from fedbench.federation.method import Method
from fedbench.federation.work import load
from fedbench.testing import MethodProperties
from fedbench.testing.methods import runs_of

QUICK = {"recipe": {"epochs": 0}, "partition": {"clients": 2}}


class Plain(Method):
    """One-shot averaging of initial networks, for tests to break."""

    name = "plain"

    def client_update(self, client, received, round):
        return Message.of_model(client.build(client.info.model))

    def aggregate(self, server, uploads, round):
        server.state.update(average((up.message.tensors, 1) for up in uploads))

    def models(self, server):
        net = server.build(server.cell.models[0])
        load(net, server.state)
        yield "global", net


@pytest.fixture
def asked(registered, tmp_path, cache):
    """Ask a property of a method and return what is said."""

    def ask(method, name):
        registered(method)
        body = {"method": method.name, "cell": QUICK, "kills": 3}
        kind = type("TestIt", (MethodProperties,), body)
        tests = [each for each in dir(kind) if each.startswith("test_") and name in each]
        (test,) = tests
        with pytest.raises(pytest.fail.Exception) as caught:
            getattr(kind(), test)(runs_of(kind, tmp_path, cache))
        return str(caught.value)

    return ask


def test_images_in_a_message_are_found_whatever_they_are_called(asked):
    class Greedy(Plain):
        name = "greedy"

        def client_update(self, client, received, round):
            scaled = client.shape.normalisation(client.data.images)
            yield Message("weights", {"body.0.weight": scaled})
            yield super().client_update(client, received, round)

        def aggregate(self, server, uploads, round):
            server.state.update(average(([*up.chunks][1].tensors, 1) for up in uploads))

    said = asked(Greedy, "private")
    assert said.startswith("clients send no images: messages of 'greedy' hold 96 of their")
    assert "sends_images = True" in said


def test_images_on_the_methods_own_shelf_are_found(asked):
    class Smuggler(Plain):
        name = "smuggler"
        loot = []  # noqa: RUF012  (shared by both sides: that is the fault)

        def client_update(self, client, received, round):
            self.loot.append(client.data.images)
            return super().client_update(client, received, round)

    said = asked(Smuggler, "private")
    assert "nobody reaches what is not theirs: in reach of the method: [1]['loot'][0]" in said


def test_draws_from_global_generators_are_named_with_their_function(asked):
    class Careless(Plain):
        name = "careless"

        def models(self, server):
            ((name, net),) = super().models(server)
            net.head.bias.data = torch.randn(10)
            yield name, net

    said = asked(Careless, "global_generators")
    assert "global generators: `models` from torch's; pass `generator=" in said


def test_what_has_no_seed_is_not_what_a_kill_has_changed(asked):
    class Unseeded(Plain):
        name = "unseeded"

        def aggregate(self, server, uploads, round):
            super().aggregate(server, uploads, round)
            source = torch.Generator()
            source.seed()
            server.state["head.bias"] = torch.randn(10, generator=source)

    said = asked(Unseeded, "equal_seeds")
    assert said.startswith("equal seeds give equal records: two runs of 'unseeded' differ in ")
    assert "server.generator(name)" in said


def test_a_method_that_is_deaf_to_the_seed(asked):
    class Deaf(Plain):
        name = "deaf"

        def aggregate(self, server, uploads, round):
            super().aggregate(server, uploads, round)
            for value in server.state.values():
                value.fill_(0.25)

    assert "another seed gives another model: seeds 0 and 1 both" in asked(Deaf, "equal_seeds")


def test_what_a_kill_loses_is_named(asked):
    class Forgetful(Plain):
        name = "forgetful"

        def aggregate(self, server, uploads, round):
            super().aggregate(server, uploads, round)
            total = 0.0
            for _ in server.stages("sum", 9, keep={}):
                total += 1.0
            server.state["head.bias"] = torch.full((10,), total)

    said = asked(Forgetful, "killed")
    assert said.startswith("a killed cell goes on to the same record: after 3 kills metrics")
    assert "or in `keep` of `stages`" in said


def test_work_that_is_done_twice_is_counted(asked):
    attempts = []

    class Sisyphus(Plain):
        name = "sisyphus"

        def setup(self, server):
            attempts.append(server)
            for _ in server.stages(f"attempt {len(attempts)}", 9, keep={}):
                pass

    said = asked(Sisyphus, "killed")
    assert "a kill costs the steps in hand and no other: 3 kills cost " in said


def test_a_server_that_writes_into_uploads(asked):
    class Meddler(Plain):
        name = "meddler"

        def aggregate(self, server, uploads, round):
            first, *others = (up.message.tensors for up in uploads)
            for other in others:
                for key, value in other.items():
                    first[key] += value
            server.state.update(first)

    said = asked(Meddler, "uploads")
    assert "unchanged by `aggregate`: it writes into 'model' of client 0; clone" in said


class Stamped(Message):
    """Says more on the wire than is read back."""

    def serialise(self):
        return safetensors.torch.save(dict(self.tensors), {"kind": self.kind, "stamp": "7"})


def test_messages_that_are_not_read_back(asked):
    class Stamping(Plain):
        name = "stamping"

        def client_update(self, client, received, round):
            return Stamped("model", {"head.bias": torch.zeros(10)})

        def aggregate(self, server, uploads, round):
            net = server.build(server.cell.models[0])
            server.state.update(net.state_dict())

    assert "read back as they were sent: 2 are not, the first of kind ['model']" in asked(
        Stamping, "messages"
    )


@pytest.mark.parametrize(("word", "said"), [("no", "it says 'no'"), (None, "fails: ")])
def test_clients_that_differ_are_refused_in_a_sentence_or_work(asked, word, said):
    class Uniform(Plain):
        name = "uniform"

        def skip(self, cell):
            return word if len(cell.models) > 1 else None

    assert said in asked(Uniform, "several_architectures")


def test_a_cell_that_cannot_run_says_what_to_set(asked):
    class Hungry(Plain):
        name = "hungry"

        def skip(self, cell):
            return "needs BatchNorm"

    said = asked(Hungry, "messages")
    assert "has to run: method 'hungry' skips it: needs BatchNorm; lay what it needs" in said
