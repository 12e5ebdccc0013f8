"""The loop: what passes, what is charged, what is out of reach, what survives a kill."""

import dataclasses
import math
import time

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from shared import PETS
from torch import nn

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.cells.datasets import load_data
from fedbench.data.dataset import Split
from fedbench.data.settings import Data
from fedbench.federation.averaging import average
from fedbench.federation.loop import participants
from fedbench.federation.message import Message
from fedbench.federation.method import Method
from fedbench.federation.synthetic import SyntheticSet
from fedbench.federation.work import load
from fedbench.methods.random_real import RandomReal

#: Clients of the first rounds at seed 0, a share of .35 of ten: other clients, other records.
DRAWN = [[0, 4, 6], [6, 7, 9], [0, 2, 3]]


class Plain(Method):
    """One-shot averaging, for tests to bend."""

    def client_update(self, client, received, round):
        return Message.of_model(client.build(client.info.model))

    def aggregate(self, server, uploads, round):
        server.state.update(average((up.message.tensors, up.client.samples) for up in uploads))

    def models(self, server):
        net = server.build(server.cell.models[0])
        load(net, {k: v for k, v in server.state.items() if not k.startswith("extra")})
        yield "global", net


def failure(runtime, tiny, method, **over):
    record = run_cell(tiny(method, **over), runtime, suite="test")
    assert record.status == "failed"
    return record.reason


def test_what_a_server_and_a_client_show_holds_no_data_but_the_clients_own(registered, compute):
    """Walk everything public that can be reached from either side while it works."""
    found = {}

    class Nosy(Plain):
        name = "nosy"

        def client_update(self, client, received, round):
            found.setdefault("client", []).append(images_in(client))
            return super().client_update(client, received, round)

        def aggregate(self, server, uploads, round):
            super().aggregate(server, uploads, round)
            found["server"] = images_in(server)

    registered(Nosy)
    compute("nosy")
    assert found == {"client": [[40], [40], [40]], "server": []}


def images_in(worker):
    """Return the lengths of the image sets that public attributes lead to."""
    sizes, seen, queue = [], set(), [worker]
    while queue:
        thing = queue.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, Split):
            sizes.append(len(thing))
        elif isinstance(thing, torch.Tensor):
            assert thing.dtype != torch.uint8, "images outside of a split"
        elif isinstance(thing, dict):
            queue += thing.values()
        elif isinstance(thing, list | tuple | set):
            queue += thing
        elif type(thing).__module__.startswith("fedbench."):
            names = [name for name in dir(thing) if not name.startswith(("_", "model_"))]
            queue += [value for name in names if not callable(value := getattr(thing, name))]
    return sizes


def test_a_client_that_was_kept_has_lost_its_data(registered, runtime, tiny):
    kept = []

    class Hoarder(Plain):
        name = "hoarder"

        def client_update(self, client, received, round):
            kept.append(client)
            return super().client_update(client, received, round)

        def aggregate(self, server, uploads, round):
            for _ in uploads:
                assert len(kept[-1].data) >= 0

    registered(Hoarder)
    assert "client 0 has finished its work" in failure(runtime, tiny, "hoarder")


def test_a_method_cannot_carry_things_across(registered, runtime, tiny):
    class Smuggler(Plain):
        name = "smuggler"

        def client_update(self, client, received, round):
            self.loot = client.data.images

    registered(Smuggler)
    assert "sets its attribute 'loot'" in failure(runtime, tiny, "smuggler")


def test_state_is_tensors_and_nothing_else(registered, runtime, tiny):
    class Careless(Plain):
        name = "careless"

        def aggregate(self, server, uploads, round):
            super().aggregate(server, uploads, round)
            server.state["extra"] = [1, 2]

    registered(Careless)
    assert "server.state['extra'] is a list" in failure(runtime, tiny, "careless")


def test_a_resource_that_is_not_declared_is_refused(registered, runtime, tiny):
    class Greedy(Plain):
        name = "greedy"

        def setup(self, server):
            server.resource("dataset:digits")

    registered(Greedy)
    assert "is not declared" in failure(runtime, tiny, "greedy")


class Public(Plain):
    name = "public"

    def resources(self, cell):
        return ("dataset:digits",)

    def setup(self, server):
        server.state["extra"] = server.resource("dataset:digits").tensors["images"][:2]


def test_a_declared_resource_is_named_and_its_pixels_counted(registered, runtime, tiny, pets):
    registered(Public)
    means = dataclasses.replace(runtime, data=pets)
    record = run_cell(tiny("public", data=PETS), means, suite="test")
    assert record.status == "ok", record.traceback
    assert record.resources == ["dataset:digits"]
    assert record.shared_pixels == len(load_data(Data(), runtime).train) * 16 * 16


def test_the_clients_own_data_set_is_no_public_resource(registered, runtime, tiny):
    registered(Public)
    assert "the clients' own data set" in failure(runtime, tiny, "public")


def test_each_client_is_sent_its_own_message_and_a_copy(registered, compute):
    sent, got = {}, {}

    class Personal(Plain):
        name = "personal"

        def broadcast(self, server, to, round):
            sent[to.id] = torch.full((2,), float(to.id))
            return Message("number", {"n": sent[to.id]})

        def client_update(self, client, received, round):
            got[client.info.id] = received.tensors["n"].clone()
            received.tensors["n"] += 1
            return super().client_update(client, received, round)

    registered(Personal)
    record = compute("personal")
    assert [got[k].tolist() for k in range(3)] == [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]
    assert sent[1].tolist() == [1.0, 1.0]
    assert record.ledger["payload_down"] == 3 * 8


def test_uploads_are_lazy_in_client_order_and_chunks_are_charged_one_by_one(registered, compute):
    events = []

    class Streaming(Plain):
        name = "streaming"

        def client_update(self, client, received, round):
            for number in range(3):
                events.append(f"make {client.info.id}.{number}")
                yield Message("part", {"n": torch.zeros(10)})

        def aggregate(self, server, uploads, round):
            for upload in uploads:
                events.append(f"open {upload.client.id}")
                assert [chunk.kind for chunk in upload.chunks] == ["part"] * 3
            server.state.update(server.build(server.cell.models[0]).state_dict())

    registered(Streaming)
    record = compute("streaming")
    assert events[:5] == ["make 0.0", "make 0.1", "make 0.2", "open 0", "make 1.0"]
    assert record.ledger["traffic"]["up/round"]["messages"] == 9
    assert record.ledger["payload_up"] == 9 * 40


def test_clients_work_though_the_server_reads_nothing(registered, compute):
    class Deaf(Plain):
        name = "deaf"

        def aggregate(self, server, uploads, round):
            server.state.update(server.build(server.cell.models[0]).state_dict())

    registered(Deaf)
    assert compute("deaf").ledger["traffic"]["up/round"]["messages"] == 3


def test_one_message_is_demanded_where_chunks_came(registered, runtime, tiny):
    class Chunky(Plain):
        name = "chunky"

        def client_update(self, client, received, round):
            return [Message("a", {}), Message("b", {})]

    registered(Chunky)
    assert "client 0 sent 2 messages" in failure(runtime, tiny, "chunky")


def test_several_final_models_and_client_state_over_rounds(registered, compute):
    class Two(Plain):
        name = "two"
        headline = "mean"

        def rounds(self):
            return 3

        def client_update(self, client, received, round):
            seen = client.state.get("seen", torch.zeros(1))
            assert seen.item() == round
            client.state["seen"] = seen + 1
            return super().client_update(client, received, round)

        def models(self, server):
            for name in ("mirror/a", "mirror/b"):
                yield name, server.build(server.cell.models[0])

    registered(Two)
    record = compute("two")
    assert set(record.metrics["models"]) == {"mirror/a", "mirror/b"}
    assert record.metrics["accuracy"] == record.metrics["models"]["mirror/a"]["accuracy"]
    assert set(record.outputs) == {"mirror/a", "mirror/b"}


def test_ac_2_bytes_grow_linearly_with_clients(compute):
    three = compute({"name": "fedavg", "rounds": 2, "epochs": 0})
    six = compute({"name": "fedavg", "rounds": 2, "epochs": 0}, partition={"clients": 6})
    for name in ("bytes_up", "bytes_down", "payload_up"):
        assert six.ledger[name] == 2 * three.ledger[name]
    assert six.ledger["bytes_up_per_client"] == three.ledger["bytes_up_per_client"]


def test_participation_is_seeded_and_partial(compute):
    drawn = [participants(0, 10, 0.35, round) for round in range(20)]
    assert drawn[:3] == DRAWN
    assert all(len(set(chosen)) == 3 and chosen == sorted(chosen) for chosen in drawn)
    assert len({tuple(chosen) for chosen in drawn}) > 5
    assert drawn != [participants(1, 10, 0.35, round) for round in range(20)]
    assert len(participants(0, 10, 0.01, 0)) == 1
    record = compute({"name": "fedavg", "rounds": 2, "epochs": 0}, participation=0.4)
    assert record.ledger["traffic"]["up/round"]["messages"] == 2


def test_pooled_validation_uploads_hold_outs_once_and_names_the_privilege(compute):
    record = compute(
        {"name": "fedavg", "rounds": 3, "epochs": 0, "validation": "pooled"},
        partition={"validation": 0.25},
    )
    traffic = record.ledger["traffic"]["up/validation"]
    assert traffic["messages"] == 3
    assert traffic["payload"] == sum(record.partition["hold_outs"]) * (256 + 8)
    assert "down/validation" not in record.ledger["traffic"]
    assert record.privileges


def test_polled_validation_charges_the_model_down_and_two_numbers_up(compute):
    record = compute(
        {"name": "fedavg", "rounds": 2, "epochs": 0, "validation": "poll"},
        partition={"validation": 0.25},
    )
    up, down = (record.ledger["traffic"][f"{way}/validation"] for way in ("up", "down"))
    assert up["payload"] == 2 * 3 * 16
    assert down["messages"] == 6
    # A seed of eight bytes to each client in the first round, the model in the second.
    assert down["payload"] // 2 + 3 * 8 == record.ledger["traffic"]["down/round"]["payload"]
    assert record.privileges == []


def test_validation_without_asking_for_it_fails(registered, runtime, tiny):
    class Sneaky(Plain):
        name = "sneaky"

        def aggregate(self, server, uploads, round):
            server.validate(server.build(server.cell.models[0]))

    registered(Sneaky)
    assert "its `validation` is 'none'" in failure(runtime, tiny, "sneaky")


def test_observing_tells_the_method_nothing_and_costs_no_bytes(registered, compute):
    answers = []

    class Watched(Plain):
        name = "watched"

        def aggregate(self, server, uploads, round):
            super().aggregate(server, uploads, round)
            answers.append(server.observe(server.build(server.cell.models[0]), 5, "student"))

    registered(Watched)
    record = compute("watched")
    assert answers == [None]
    assert record.curves[0]["name"] == "student"
    assert record.curves[0]["step"] == 5
    assert record.ledger["bytes_up"] == record.curves[0]["bytes"]


def test_control_rows_have_everybody_whatever_the_participation(compute):
    half = {"participation": 0.4}
    assert compute("centralised", **half).outputs == compute("centralised").outputs
    record = compute("random_real", budget={"ipc": 1}, **half)
    assert record.shared_pixels == 10 * 256


@pytest.mark.parametrize(
    ("clients", "share", "count"), [(100, 0.29, 29), (100, 0.58, 58), (7, 0.1, 1)]
)
def test_participants_are_not_lost_to_rounding(clients, share, count):
    assert len(participants(0, clients, share, 0)) == count


def test_observing_changes_no_mode_and_shows_no_image(registered, compute):
    seen, modes = [], []

    class Spy(Plain):
        name = "spy"

        def aggregate(self, server, uploads, round):
            super().aggregate(server, uploads, round)
            net = server.build(server.cell.models[0]).train()
            net.register_forward_hook(lambda module, inputs, output: seen.append(inputs))
            server.observe(net, 1)
            modes.append(net.training)

    registered(Spy)
    compute("spy")
    assert seen == []
    assert modes == [True]


def test_outputs_of_forward_can_be_targets_of_training(registered, compute):
    class Distiller(Plain):
        name = "distiller"

        def client_update(self, client, received, round):
            net = client.build(client.info.model).train()
            target = client.forward(net, client.data.images[:4], "features")
            loss = nn.Linear(target.shape[1], 2)(target).square().mean()
            loss.backward()
            target += 1
            assert net.training
            return Message.of_model(net)

    registered(Distiller)
    compute("distiller")


def test_work_in_models_is_charged_to_the_server(registered, compute):
    class Late(Plain):
        name = "late"

        def models(self, server):
            time.sleep(0.2)
            yield from super().models(server)

    registered(Late)
    assert compute("late").ledger["server_seconds"] >= 0.2


def test_a_shared_set_above_the_budget_is_refused(registered, runtime, tiny):
    class Wasteful(RandomReal):
        name = "wasteful"

        def synthetic(self, server):
            kept = super().synthetic(server)
            return SyntheticSet(
                kept.images.repeat(2, 1, 1, 1), kept.labels.repeat(2), kept.normalisation
            )

    registered(Wasteful)
    reason = failure(runtime, tiny, "wasteful", budget={"ipc": 1})
    assert "5120 pixels and the budget is 2560" in reason


@pytest.mark.parametrize("models", [[], ["student"]])
def test_a_method_without_the_headlines_model_is_told_so(registered, runtime, tiny, models):
    class Headless(Plain):
        name = "headless"

        def models(self, server):
            for name in models:
                yield name, server.build(server.cell.models[0])

    registered(Headless)
    assert "yield one named 'global'" in failure(runtime, tiny, "headless")


def test_server_artefacts_belong_to_their_cell_and_public_ones_to_all(registered, compute):
    built = []

    class Keeper(Plain):
        name = "keeper"

        def setup(self, server):
            for public in (False, True):
                server.artefact(
                    "prior",
                    {"seed": 3, "public": public},
                    lambda public=public: built.append(public) or {"w": torch.ones(1)},
                    public=public,
                )

    registered(Keeper)
    compute("keeper")
    compute("keeper", partition={"clients": 4})
    assert built == [False, True, False]


def test_a_methods_own_settings_of_an_artefact_all_count(registered, compute):
    built = []

    class Settler(Plain):
        name = "settler"

        def client_update(self, client, received, round):
            for key in ("seed", "scope", "shape", "data"):
                for value in (3, 4):
                    client.artefact(
                        "expert", {key: value}, lambda: built.append(1) or {"w": torch.ones(1)}
                    )
            return super().client_update(client, received, round)

    registered(Settler)
    compute("settler")
    assert len(built) == 3 * 8


def test_a_killed_cell_starts_over_on_other_data(
    registered, runtime, tiny, pets, caplog, monkeypatch
):
    deaths = []

    class Mortal(Plain):
        name = "mortal"

        def rounds(self):
            return 2

        def client_update(self, client, received, round):
            deaths.append(round)
            if len(deaths) == 3:
                raise RuntimeError("killed in the second round")
            return Message("n", {"n": torch.tensor(len(client.data))})

        def aggregate(self, server, uploads, round):
            seen = sum(int(upload.message.tensors["n"]) for upload in uploads)
            server.state["extra"] = server.state.get("extra", torch.tensor(0)) + seen

        def models(self, server):
            net = server.build(server.cell.models[0])
            with torch.no_grad():
                net.head.bias.fill_(float(server.state["extra"]))
            yield "global", net

    registered(Mortal)
    monkeypatch.setattr("fedbench.federation.journal._SHARE", math.inf)  # rounds take no time here
    cell = tiny("mortal", data=PETS, partition={"clients": 2})
    means = dataclasses.replace(runtime, data=pets)
    assert run_cell(cell, means, suite="test").status == "failed"
    Image.new("L", (16, 16)).save(pets / "pets" / "train" / "cat" / "new.png")
    record = run_cell(cell, means, suite="test")
    assert record.status == "ok", record.traceback
    assert "starts over" in caplog.text
    assert deaths == [0, 0, 1, 0, 0, 1, 1]
    kept = load_file(runtime.home / "test" / "outputs" / f"{record.outputs['global']}.safetensors")
    assert kept["head.bias"][0] == 50  # 25 images in each of two rounds
