"""Stages, what they keep, and where fits save themselves; inside cells as methods use them."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.records.compare import compare
from fedbench.data.normalisation import Normalisation
from fedbench.data.stream import Columns, Stream
from fedbench.errors import FedbenchError
from fedbench.federation import journal as journals
from fedbench.federation import kept
from fedbench.federation.artefacts import tensors_digest
from fedbench.federation.journal import Journal
from fedbench.federation.ledger import Clock, Ledger
from fedbench.federation.message import Message
from fedbench.federation.method import Method
from fedbench.federation.stages import FitCheckpoint, Place, stages
from fedbench.federation.state import prefixed
from fedbench.federation.trail import Trail
from fedbench.training.pool import TrainerPool

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _always_committed(monkeypatch):
    """The steps here take no time at all, of which no share is left for commits."""
    monkeypatch.setattr(journals, "_SHARE", math.inf)
    monkeypatch.setattr(journals, "_PACE", 0.0)


class Killed(BaseException):
    """What no code catches."""


def opened(folder):
    return Journal(folder, Clock(Ledger()))


def run(journal, count, keep, body, state=None):
    for step in stages(journal, "here", count, keep, {} if state is None else state, CPU):
        body(step)


def test_a_series_goes_on_where_it_was_killed_with_everything_kept(tmp_path):
    def things(journal):
        net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        nn.init.zeros_(net[0].weight)
        return {
            "net": net,
            "source": torch.Generator().manual_seed(1),
            "trail": Trail(journal.shelf),
            "said": [],
            "found": {"total": torch.zeros(())},
        }

    def body(keep, die_at=None):
        def work(step):
            if step == die_at:
                raise Killed
            drawn = torch.randn(2, generator=keep["source"])
            with torch.no_grad():
                keep["net"][0].weight += drawn
            keep["net"].eval()
            keep["net"][0].weight.requires_grad_(False)
            keep["trail"].append({"drawn": drawn})
            if len(keep["trail"]) > 3:
                keep["trail"].drop(1)
            keep["said"].append({"step": step, "text": "x", "none": None, "pair": [1.5, True]})
            keep["found"]["total"] = keep["found"]["total"] + drawn.sum()

        return work

    journal = opened(tmp_path / "calm")
    calm = things(journal)
    run(journal, 6, calm, body(calm))
    for die_at in (2, 5):
        journal = opened(tmp_path / "stormy")
        keep = things(journal)
        with pytest.raises(Killed):
            run(journal, 6, keep, body(keep, die_at))
    journal = opened(tmp_path / "stormy")
    keep, steps = things(journal), []
    work = body(keep)
    run(journal, 6, keep, lambda step: steps.append(step) or work(step))
    assert steps == [5]
    assert torch.equal(calm["net"][0].weight, keep["net"][0].weight)
    assert [part.training for part in keep["net"].modules()] == [False] * 3
    assert not keep["net"][0].weight.requires_grad
    assert keep["said"] == calm["said"]
    assert torch.equal(keep["found"]["total"], calm["found"]["total"])
    assert torch.equal(keep["source"].get_state(), calm["source"].get_state())
    assert [each["drawn"].tolist() for each in keep["trail"]] == [
        each["drawn"].tolist() for each in calm["trail"]
    ]


def test_quick_steps_are_committed_together_and_no_charge_is_counted_twice(tmp_path, monkeypatch):
    now, number = [0.0], Message("number", {"n": torch.tensor(1)})
    monkeypatch.setattr(journals, "_SHARE", 0.02)
    monkeypatch.setattr(journals.time, "monotonic", lambda: now[0])
    journal = opened(tmp_path)
    journal._cost = 1.0  # seconds of a commit

    def body(step):
        now[0] += 20.0
        journal.charge("up", "validation", 0, number)
        if step == 2:  # after 60 seconds, which afford one of 1
            assert journal.now.series["here"].done == 0
            journal.save()  # as a fit's checkpoint does
            raise Killed

    with pytest.raises(Killed):
        run(journal, 9, {}, body)
    assert opened(tmp_path).now.series["here"].done == 0
    clock = Clock(Ledger())
    Journal(tmp_path, clock)
    assert clock.ledger.traffic == {}


def test_a_stream_that_is_iterated_by_hand_goes_on_with_its_next_epoch(tmp_path):
    def stream():
        images = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1)
        scale = Normalisation((0.5,), (0.5,))
        return Stream(Columns(images), batch_size=4, seed=3, normalisation=scale)

    def seen(kept):
        return [batch[0].flatten().tolist() for batch in kept["stream"]]

    calm, stormy = [], []
    keep = {"stream": stream()}
    run(opened(tmp_path / "calm"), 4, keep, lambda step: calm.append(seen(keep)))
    for die_at in (2, None):
        keep = {"stream": stream()}

        def body(step, keep=keep, die_at=die_at):
            if step == die_at:
                raise Killed
            stormy.append(seen(keep))

        try:
            run(opened(tmp_path / "stormy"), 4, keep, body)
        except Killed:
            assert die_at == 2
    assert stormy == calm
    assert calm[0] != calm[2]


def test_a_series_that_is_done_yields_nothing_and_restores_its_end(tmp_path):
    for wanted in ([0, 1], []):
        keep, steps = {"n": {"total": 0}}, []

        def body(step, keep=keep, steps=steps):
            steps.append(step)
            keep["n"]["total"] += 5

        run(opened(tmp_path), 2, keep, body)
        assert steps == wanted
        assert keep["n"]["total"] == 10


def test_a_step_that_is_broken_off_is_not_done(tmp_path):
    journal, seen = opened(tmp_path), []
    for step in stages(journal, "here", 5, {}, {}, CPU):
        seen.append(step)
        if step == 2:
            break
    journal.save()
    again = list(stages(opened(tmp_path), "here", 5, {}, {}, CPU))
    assert (seen, again) == ([0, 1, 2], [2, 3, 4])


def test_what_a_broken_off_step_charged_is_taken_back(tmp_path):
    journal = opened(tmp_path)
    number = Message("number", {"n": torch.tensor(1)})

    def body(step):
        journal.charge("up", "validation", 0, number)
        if step == 1:
            journal.save()  # as a fit's checkpoint does
            raise Killed

    with pytest.raises(Killed):
        run(journal, 3, {}, body)
    clock = Clock(Ledger())
    Journal(tmp_path, clock)
    assert clock.ledger.traffic["up/validation"].messages == 1


@pytest.mark.parametrize(
    ("change", "fine"),
    [
        (lambda state: state.update(new=torch.zeros(1)), False),
        (lambda state: state["old"].add_(1), False),
        (lambda state: state.pop("old"), False),
        (lambda state: state["old"] + 1, True),
    ],
    ids=["new", "in place", "gone", "read"],
)
def test_a_state_that_changes_inside_stages_is_refused(tmp_path, change, fine):
    state = {"old": torch.zeros(1)}
    if fine:
        run(opened(tmp_path), 2, {}, lambda step: change(state), state)
        return
    with pytest.raises(FedbenchError, match="state changed inside the stages"):
        run(opened(tmp_path), 2, {}, lambda step: change(state), state)


@pytest.mark.parametrize(
    ("value", "fault"),
    [({"x": {1, 2}}, "a set"), ([nn.Parameter(torch.ones(1))], "a parameter"), ([Killed], "type")],
)
def test_what_cannot_be_kept_is_named(value, fault):
    with pytest.raises(FedbenchError, match=rf"keep\['mine'\] holds .*{fault}"):
        kept.pack(value, "mine")


def test_other_things_under_the_same_names_are_damage(registered, runtime, tiny, caplog):
    """A kill between two versions of a method: what it kept fits no more, so the round repeats."""
    steps, sizes = [], [2, 3]

    class Changing(Method):
        name = "changing"

        def aggregate(self, server, uploads, round):
            net = nn.Linear(sizes[0], 1)
            for step in server.stages("epochs", 3, keep={"net": net}):
                steps.append(step)
                if len(steps) == 2:
                    raise RuntimeError("killed")

        def models(self, server):
            yield "global", server.build(server.cell.models[0])

    registered(Changing)
    assert run_cell(tiny("changing"), runtime, suite="test").status == "failed"
    sizes.pop(0)
    record = run_cell(tiny("changing"), runtime, suite="test")
    assert record.status == "ok", record.traceback
    assert steps == [0, 1, 0, 1, 2]
    assert "does not fit" in caplog.text


def test_places_tell_fits_of_one_name_apart():
    place = Place("round-0/client/1", 7)
    named = [place.next(name) for name in ("fit a", "fit a", "fit b", "fit a/b", "fit a|b")]
    assert len({path for path, _ in named}) == len({seed for _, seed in named}) == 5
    assert named[0] == Place("round-0/client/1", 7).next("fit a")
    assert named[0][1] != Place("round-0/client/1", 8).next("fit a")[1]


def test_two_phases_and_two_workers_never_share_a_place(registered, compute):
    paths = []

    class Placed(Method):
        name = "placed"

        def rounds(self):
            return 2

        def setup(self, server):
            paths.append(server.path)

        def client_update(self, client, received, round):
            paths.append(client.path)
            for _ in client.stages("inner", 2, keep={}):
                paths.append(client.path)
            client.artefact("thing", {"n": round}, lambda: paths.append(client.path) or {})

        def aggregate(self, server, uploads, round):
            list(uploads)
            paths.append(server.path)

        def models(self, server):
            paths.append(server.path)
            yield "global", server.build(server.cell.models[0])

    registered(Placed)
    compute("placed")
    assert len(paths) == len(set(paths)) == 1 + 2 * (3 * 4 + 1) + 1


def test_stages_are_shown_as_they_are_done(registered, runtime, tiny):
    seen = []

    class Staged(Method):
        name = "staged"

        def aggregate(self, server, uploads, round):
            for step in server.stages("inner", 3, keep={}):
                if step == 1:  # what is done inside a step takes the display for a while
                    for _ in server.stages("within", 1, keep={}):
                        pass

        def models(self, server):
            yield "global", server.build(server.cell.models[0])

    registered(Staged)
    shown = replace(runtime, show=lambda at: seen.append((at.stage, at.done, at.total)))
    run_cell(tiny("staged"), shown, suite="test")
    assert [done for stage, done, _ in seen if stage == "inner"] == [0, 1, 2, 3]
    assert {total for stage, _, total in seen if stage == "inner"} == {3}


def test_a_fits_checkpoint_is_verified_and_forgotten(tmp_path, caplog):
    journal = opened(tmp_path)
    place = FitCheckpoint(journal, "round-0/server/fit x#1")
    assert place.found() is None
    for content in (b"one", b"two"):
        place.save(lambda path, content=content: path.write_bytes(content))
    found = FitCheckpoint(opened(tmp_path), place.path).found()
    assert found.read_bytes() == b"two"
    assert len(list((tmp_path / "kept").iterdir())) == 1
    found.write_bytes(b"tvo")
    again = FitCheckpoint(opened(tmp_path), place.path)
    assert again.found() is None
    assert "starts over" in caplog.text
    assert again.found() is None
    journal = opened(tmp_path)
    place = FitCheckpoint(journal, place.path)
    place.save(lambda path: path.write_bytes(b"three"))
    place.close()
    journal.save()
    assert FitCheckpoint(opened(tmp_path), place.path).found() is None


def test_uploads_that_are_committed_are_not_made_again(registered, runtime, tiny, monkeypatch):
    worked, deaths = [], []

    class Mortal(Method):
        name = "mortal"

        def broadcast(self, server, to, round):
            return server.seed()

        def client_update(self, client, received, round):
            worked.append(client.info.id)
            client.state["n"] = torch.tensor(len(worked))
            for number in range(2):
                yield Message("part", {"n": torch.tensor(float(number))})

        def aggregate(self, server, uploads, round):
            total = torch.zeros(())
            for upload in uploads:
                if upload.client.id == 2 and not deaths:
                    deaths.append(1)
                    raise RuntimeError("killed")
                total += sum(chunk.tensors["n"] for chunk in upload.chunks)
            server.state["total"] = total

        def models(self, server):
            net = server.build(server.cell.models[0])
            with torch.no_grad():
                net.head.bias.fill_(float(server.state["total"]))
            yield "global", net

    registered(Mortal)
    calm_cell = tiny("mortal")
    deaths.append(0)
    calm = run_cell(calm_cell, runtime, suite="calm")
    worked.clear()
    deaths.clear()
    assert run_cell(calm_cell, runtime, suite="stormy").status == "failed"
    assert worked == [0, 1, 2]
    resumed = run_cell(calm_cell, runtime, suite="stormy")
    assert worked == [0, 1, 2]
    assert compare(calm, resumed) == []
    assert resumed.ledger["traffic"]["up/round"]["messages"] == 6


def test_a_shared_artefact_is_charged_once_though_the_cell_was_killed(
    registered, runtime, tiny, monkeypatch
):
    died = []

    class Sharing(Method):
        name = "sharing"

        def client_update(self, client, received, round):
            client.train_classifier(client.cell.recipe)
            return Message("n", {"n": torch.zeros(1)})

        def aggregate(self, server, uploads, round):
            list(uploads)
            if died and died.pop():
                raise RuntimeError("killed")

        def models(self, server):
            yield "global", server.build(server.cell.models[0])

    registered(Sharing)
    run_cell(tiny("sharing"), runtime, suite="first")
    calm = run_cell(tiny("sharing"), runtime, suite="calm")
    died.append(True)
    assert run_cell(tiny("sharing"), runtime, suite="stormy").status == "failed"
    resumed = run_cell(tiny("sharing"), runtime, suite="stormy")
    assert calm.ledger["shared_seconds"] > 0
    assert resumed.ledger["shared_seconds"] == calm.ledger["shared_seconds"]


def test_state_is_on_the_cpu_and_nobody_elses_between_calls(registered, compute):
    held = torch.zeros(3)

    class Leaking(Method):
        name = "leaking"

        def rounds(self):
            return 2

        def aggregate(self, server, uploads, round):
            list(uploads)
            if not round:
                server.state["held"] = held
            held.add_(1)

        def models(self, server):
            assert server.state["held"].device.type == "cpu"
            assert server.state["held"].tolist() == [1, 1, 1]
            yield "global", server.build(server.cell.models[0])

    registered(Leaking)
    compute("leaking")


def test_snapshots_survive_a_kill(registered, runtime, tiny, monkeypatch):
    """The training goes on after the last snapshot, and the same weights come out."""
    fits, kill = [], [2]

    class Experts(Method):
        name = "experts"

        def client_update(self, client, received, round):
            trained = client.train_classifier(
                client.cell.recipe, init="expert-0", snapshots=(0, 1, 2, 4)
            )
            tensors = prefixed(trained.state, "final/")
            for number, snapshot in enumerate(trained.snapshots):
                tensors |= prefixed(snapshot, f"{number}/")
            return Message.of_model(tensors)

        def aggregate(self, server, uploads, round):
            (upload,) = uploads
            server.state.update(upload.message.tensors)

        def models(self, server):
            for name in ("0", "1", "2", "3", "final"):
                net = server.build(server.cell.models[0])
                net.load_state_dict(
                    {
                        k.removeprefix(f"{name}/"): v
                        for k, v in server.state.items()
                        if k.startswith(f"{name}/")
                    }
                )
                yield ("global" if name == "final" else name), net

    fit = TrainerPool.fit

    def counted(self, module, loader, **options):
        fits.append(options["epochs"])
        if kill and len(fits) > kill[0]:
            kill.clear()
            raise RuntimeError("killed")
        fit(self, module, loader, **options)

    registered(Experts)
    monkeypatch.setattr(TrainerPool, "fit", counted)
    cell = tiny("experts", recipe={"epochs": 4}, partition={"clients": 1})
    assert run_cell(cell, runtime, suite="test").status == "failed"
    assert fits == [0, 1, 1]
    stormy = run_cell(cell, runtime, suite="test")
    assert fits == [0, 1, 1, 1, 2]
    assert len(set(stormy.outputs.values())) == 4  # the last snapshot is the final state
    for path in (runtime.home / "artefacts" / "classifier").iterdir():
        path.unlink()
    assert compare(run_cell(cell, runtime, suite="calm"), stormy) == []


def test_experts_are_artefacts_that_their_name_and_augmentation_tell_apart(registered, compute):
    """Many trainings of one client, each kept once and independent of the others and the round."""
    found = []

    class Experts(Method):
        name = "experts"

        def rounds(self):
            return 2

        def client_update(self, client, received, round):
            recipe = client.cell.recipe
            for options in (
                {},
                {"init": "expert-0"},
                {"init": "expert-1"},
                {"init": "expert-1", "ops": ("flip", "crop")},
            ):
                state = client.train_classifier(recipe, **options).state
                found.append(tensors_digest(state))
            return Message("n", {"n": torch.zeros(1)})

        def aggregate(self, server, uploads, round):
            list(uploads)

        def models(self, server):
            yield "global", server.build(server.cell.models[0])

    registered(Experts)
    compute("experts", partition={"clients": 1})
    first, second = found[:4], found[4:]
    assert len(set(first)) == 4
    assert second[1:] == first[1:]  # the common one has other batches in every round


def test_a_clients_own_measure_costs_no_bytes(registered, compute, runtime, tiny):
    scores = []

    class Own(Method):
        name = "own"

        def client_update(self, client, received, round):
            net = client.build(client.info.model)
            scores.append(client.measure(net))
            return Message("n", {"n": torch.zeros(1)})

        def aggregate(self, server, uploads, round):
            list(uploads)

        def models(self, server):
            yield "global", server.build(server.cell.models[0])

    registered(Own)
    record = compute("own", partition={"validation": 0.2})
    assert record.ledger["traffic"].keys() == {"up/round"}
    assert len(scores) == 3
    assert all(0 <= score <= 1 and score * 8 == int(score * 8) for score in scores)
    failed = run_cell(tiny("own"), runtime, suite="test")
    assert "client 0 holds out no image of its 40" in failed.reason
