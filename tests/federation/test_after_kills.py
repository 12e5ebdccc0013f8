"""What a kill at an unlucky moment, or a step that fails, must not change."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from fedbench.bench.cells.cell import run_cell
from fedbench.bench.records.compare import compare
from fedbench.errors import FedbenchError
from fedbench.federation import journal as journals
from fedbench.federation import kept
from fedbench.federation.journal import Journal
from fedbench.federation.ledger import Clock, Ledger
from fedbench.federation.message import Message
from fedbench.federation.method import Method
from fedbench.federation.shelf import DamagedError
from fedbench.federation.stages import FitCheckpoint, stages
from fedbench.federation.trail import Trail

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _always_committed(monkeypatch):
    """The steps here take no time at all, of which no share is left for commits."""
    monkeypatch.setattr(journals, "_SHARE", math.inf)
    monkeypatch.setattr(journals, "_PACE", 0.0)


def opened(folder):
    return Journal(folder, Clock(Ledger()))


def point(name):
    return {"name": name, "step": 1, "round": 1, "bytes": 0}


class Plain(Method):
    """Its model is the common initial one."""

    name = "plain"

    def aggregate(self, server, uploads, round):
        list(uploads)

    def models(self, server):
        yield "global", server.build(server.cell.models[0])


def test_files_that_a_step_in_hand_drops_stay_until_it_is_committed(tmp_path):
    def begin(die_at):
        journal, steps = opened(tmp_path), []
        trail = Trail(journal.shelf)
        for step in stages(journal, "here", 4, {"trail": trail}, {}, CPU):
            steps.append(step)
            trail.append({"n": torch.tensor(step)})
            trail.drop(len(trail) - 1)
            if step == die_at:
                journal.save()  # as a fit's checkpoint does
                break
        return journal, steps, [int(each["n"]) for each in trail]

    begin(die_at=2)
    _, steps, left = begin(die_at=None)
    assert (steps, left) == ([2, 3], [3])
    assert len(list((tmp_path / "kept").iterdir())) == 2  # the trail's and what is kept beside it


def test_a_later_series_may_drop_what_an_earlier_one_has_left(tmp_path):
    def begin(die):
        journal = opened(tmp_path)
        trail = Trail(journal.shelf)
        for step in stages(journal, "fill", 2, {"trail": trail}, {}, CPU):
            trail.append({"n": torch.tensor(step)})
        for step in stages(journal, "use", 3, {"trail": trail}, {}, CPU):
            trail.append({"n": torch.tensor(10 + step)})
            trail.drop(1)
            if die and step == 1:
                break
        return [int(each["n"]) for each in trail]

    begin(die=True)
    assert begin(die=False) == [11, 12]


def test_what_happened_inside_a_committed_step_is_forgotten(tmp_path):
    journal = opened(tmp_path)
    for step in stages(journal, "outer", 50, {}, {}, CPU):
        for _ in stages(journal, f"outer/{step}/inner", 2, {"n": [1.0]}, {}, CPU):
            pass
    assert set(journal.now.series) == {"outer"}
    assert len(list((tmp_path / "kept").iterdir())) == 1


@pytest.mark.parametrize(
    "value", [[np.float64(0.5)], {"x": np.int64(1)}, {np.int64(1): 0}], ids=["float", "int", "key"]
)
def test_numbers_of_numpy_are_refused_because_they_are_not_read_back(value):
    with pytest.raises(FedbenchError, match="plain numbers"):
        kept.pack(value, "mine")


def test_an_image_that_is_optimised_is_one_after_a_kill(tmp_path):
    keep = {"image": torch.zeros(2, requires_grad=True), "still": torch.zeros(2)}
    packed = kept.pack(keep, "mine")
    kept.unpack(keep, packed, CPU)
    assert [keep[name].requires_grad for name in ("image", "still")] == [True, False]


def test_a_point_that_is_observed_again_gets_its_place_and_its_bytes(tmp_path):
    journal = opened(tmp_path)
    journal.observe(point("before"))
    with journal.settling():
        journal.observe(point("committed"))
    fit = FitCheckpoint(journal, "fit")
    journal.observe(point("in the fit"))
    fit.save(lambda path: path.write_bytes(b"x"))
    calm = list(journal.now.curves)
    for _ in range(2):  # killed twice, the first time before it is observed again
        journal = opened(tmp_path)
        assert [each["name"] for each in journal.now.curves] == ["committed", "in the fit"]
        journal.save()
    journal.observe({**point("before"), "bytes": 99})
    assert journal.now.curves == calm
    FitCheckpoint(journal, "fit").reject()
    assert journal.now.curves == calm[:2]


def test_curves_are_the_same_after_a_kill_between_uploads(registered, runtime, tiny):
    deaths = []

    class Watching(Plain):
        name = "watching"

        def client_update(self, client, received, round):
            return Message("n", {"n": torch.tensor(client.info.id)})

        def aggregate(self, server, uploads, round):
            net = server.build(server.cell.models[0])
            for upload in uploads:
                server.observe(net, upload.client.id)
                if upload.client.id == 2 and not deaths:
                    deaths.append(1)
                    raise RuntimeError("killed")

    registered(Watching)
    stormy = [run_cell(tiny("watching"), runtime, suite="stormy") for _ in range(2)]
    calm = run_cell(tiny("watching"), runtime, suite="calm")
    assert [each.status for each in stormy] == ["failed", "ok"]
    assert stormy[1].curves == calm.curves
    assert len({each["bytes"] for each in calm.curves}) > 2


@pytest.mark.parametrize("harm", ["flip", "missing"])
def test_damage_to_stages_of_final_models_repeats_them(registered, runtime, tiny, caplog, harm):
    steps = []

    class Late(Plain):
        name = "late"

        def models(self, server):
            net = server.build(server.cell.models[0])
            for step in server.stages("late", 3, keep={"net": net}):
                steps.append(step)
                server.validate(net)
                if len(steps) == 2:
                    raise RuntimeError("killed")
            yield "global", net

    registered(Late)
    method = {"name": "late", "validation": "poll"}
    cell = tiny(method, partition={"validation": 0.2})
    assert run_cell(cell, runtime, suite="test").status == "failed"
    files = (runtime.home / "test" / "scratch" / cell.cell_id / "kept").iterdir()
    kept_file = max(files, key=lambda path: path.stat().st_size)
    content = kept_file.read_bytes()
    kept_file.unlink()
    if harm == "flip":
        kept_file.write_bytes(content[:-1] + b"x")
    record = run_cell(cell, runtime, suite="test")
    assert record.status == "ok", record.traceback
    assert steps == [0, 1, 0, 1, 2]
    calm = run_cell(cell, runtime, suite="calm")
    assert compare(calm, record) == []


def test_clients_work_though_the_method_closes_what_reads_their_uploads(registered, compute):
    worked = []

    class Closing(Plain):
        name = "closing"

        def client_update(self, client, received, round):
            worked.append(client.info.id)
            return Message("n", {"n": torch.tensor(1)})

        def aggregate(self, server, uploads, round):
            def read():
                yield from uploads

            reading = read()
            next(reading)
            reading.close()

    registered(Closing)
    record = compute("closing")
    assert len(worked) == record.settings["partition"]["clients"]


def test_a_state_that_is_replaced_inside_stages_is_refused(registered, runtime, tiny):
    class Replacing(Plain):
        name = "replacing"

        def setup(self, server):
            for step in server.stages("steps", 2, keep={}):
                server.state = {"step": torch.tensor(step)}

    registered(Replacing)
    record = run_cell(tiny("replacing"), runtime, suite="test")
    assert record.status == "failed"
    assert "replaced inside the stages" in record.reason


def test_a_file_in_the_place_of_the_shelf_is_moved_aside(tmp_path):
    (tmp_path / "kept").write_bytes(b"?")
    journal = opened(tmp_path)
    assert journal.shelf.verified(journal.shelf.put(b"x")).read_bytes() == b"x"
    assert (tmp_path / "kept.damaged-0").read_bytes() == b"?"


def test_an_artefact_whose_building_failed_is_charged_its_own_seconds(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("fedbench.federation.ledger.time.perf_counter", lambda: now[0])
    clock = Clock(Ledger())
    journal = Journal(tmp_path, clock)
    with clock.side("client"):
        journal.begin_build("key", "client")
        now[0] += 3.0
        journal.break_off_build("key")
        now[0] += 100.0  # other work
        journal.save()
        assert journal.now.building == {"key": 3.0}
        journal.begin_build("key", "client")
        now[0] += 4.0
        assert journal.end_build("key") == 7.0


def test_what_is_read_back_as_another_kind_of_thing_is_damage(tmp_path):
    journal = opened(tmp_path)
    list(stages(journal, "here", 1, {"x": {"a": 1}}, {}, CPU))
    for other in ([], torch.Generator(), torch.nn.Linear(1, 1), Trail(journal.shelf)):
        with pytest.raises(DamagedError, match="does not fit"):
            list(stages(journal, "here", 1, {"x": other}, {}, CPU))
    journal.now.series["here"].kept = journal.shelf.put(b"no archive")
    with pytest.raises(DamagedError, match="cannot be read"):
        list(stages(journal, "here", 1, {"x": {}}, {}, CPU))


def test_work_in_broadcast_is_the_same_for_a_client_whether_others_are_asked(registered, compute):
    asked = {}

    class Preparing(Plain):
        name = "preparing"

        def broadcast(self, server, to, round):
            for _ in server.stages("prepare", 1, keep={}):
                asked[to.id] = server.path

    registered(Preparing)
    compute("preparing")
    assert asked[2] == "round-0/server/broadcast 2/stages prepare#1/0"


def test_a_state_that_changes_in_broadcast_is_refused(registered, runtime, tiny):
    class Noting(Plain):
        name = "noting"

        def broadcast(self, server, to, round):
            server.state[f"asked/{to.id}"] = torch.ones(1)

    registered(Noting)
    record = run_cell(tiny("noting"), runtime, suite="test")
    assert record.status == "failed"
    assert "changes server.state in `broadcast`" in record.reason


def test_uploads_are_not_read_inside_stages_which_a_kill_skips(registered, runtime, tiny):
    class Nested(Plain):
        name = "nested"

        def aggregate(self, server, uploads, round):
            for _ in server.stages("each", 3, keep={}):
                next(uploads)

    registered(Nested)
    record = run_cell(tiny("nested"), runtime, suite="test")
    assert record.status == "failed"
    assert "uploads are read inside round-0/server/stages each#1/0" in record.reason


def test_force_does_not_go_on_with_an_earlier_attempt(registered, runtime, tiny):
    worked = []

    class Mortal(Method):
        name = "mortal"

        def rounds(self):
            return 2

        def aggregate(self, server, uploads, round):
            list(uploads)
            worked.append(round)
            if len(worked) == 2:
                raise RuntimeError("killed")

        def models(self, server):
            yield "global", server.build(server.cell.models[0])

    registered(Mortal)
    cell = tiny("mortal")
    assert run_cell(cell, runtime, suite="test").status == "failed"
    forced = dataclasses.replace(runtime, refresh=True)
    assert run_cell(cell, forced, suite="test").status == "ok"
    assert worked == [0, 1, 0, 1]


def test_a_dangling_link_in_the_scratch_folders_place_is_moved_aside(compute, runtime, tiny):
    place = runtime.home / "test" / "scratch" / tiny("local").cell_id
    place.parent.mkdir(parents=True)
    place.symlink_to("nowhere")
    compute("local")
