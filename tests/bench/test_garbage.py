"""What may be deleted, and what never is."""

import json
import os
import platform
import time

import pytest
import torch

from fedbench.bench import garbage
from fedbench.bench.garbage import KINDS, delete, look
from fedbench.bench.planfile import Entry, Plan, plan_path, write_plan
from fedbench.bench.records import Record, record_path, write_record
from fedbench.bench.running import running_path
from fedbench.federation.artefacts import ArtefactStore
from fedbench.files import Lock

SEEDS = {"done": 0, "failed": 1, "open": 1}


def put(path, content="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def keep(home, cell_id, status="ok", **outputs):
    record = Record(
        cell_id=cell_id,
        status=status,
        suite="s",
        settings={"method": {"name": "x"}},
        versions={},
        metrics={"accuracy": 0.5},
        partition={"histogram": [[1]]},
        outputs=outputs,
    )
    write_record(record_path(home, "s", cell_id), record)


def artefact(home, origin):
    store = ArtefactStore(home / "artefacts", {})
    found = store.get("classifier", {"origin": origin}, lambda: {"w": torch.zeros(2)})
    return home / "artefacts" / "classifier" / f"{found.key}.safetensors"


@pytest.fixture
def place(tmp_path):
    """A home with a suite of three cells, one of each state, and some garbage of every kind."""
    home = tmp_path / "home"
    entries = tuple(Entry(name, None, {"seed": seed}) for name, seed in SEEDS.items())
    skipped = Entry("skipped", "it cannot run", {"seed": 7})
    write_plan(plan_path(home, "s"), Plan("s", "", "quick", (*entries, skipped)))
    keep(home, "done", model="named")
    keep(home, "failed", "failed")
    keep(home, "old", model="olds")
    keep(home, "skipped")
    for name in ("done", "failed", "open", "old"):
        put(home / "s" / "scratch" / name / "journal.json", "12345")
        put(home / "s" / "logs" / f"{name}.log")
    for name in ("named", "olds", "unnamed"):
        put(home / "s" / "outputs" / f"{name}.safetensors")
    put(home / "s" / "report" / "table.csv")
    put(home / "s" / "pictures" / "done" / "sheet.png")
    put(home / "s" / "records" / "done.json.damaged-0")
    for name, age in ((".young.part", 0), (".stale.part", 7200)):
        put(home / "s" / "records" / name)
        then = time.time() - age
        os.utime(home / "s" / "records" / name, (then, then))
    put(home / "cache" / "data" / "digits-16px-0123.safetensors")
    put(home / "run" / "records" / "single.json", "{}")
    return home


def names(home, kind, garbage=None):
    garbage = garbage or look(home)
    return {str(item.path.relative_to(home)) for item in garbage.items if item.kind == kind}


def in_hand(home, cell_id="open", **over):
    now = time.time()
    values = {"cell_id": cell_id, "pid": os.getpid(), "host": platform.node()}
    state = {**values, "started": now, "updated": now, **over}
    return put(running_path(home, "s", cell_id), json.dumps(state))


def test_every_kind_is_found_with_its_size_and_nothing_else(place):
    assert names(place, "scratch") == {"s/scratch/done", "s/scratch/old"}
    assert names(place, "damaged") == {"s/records/done.json.damaged-0"}
    assert names(place, "parts") == {"s/records/.stale.part"}
    assert names(place, "records") == {"s/records/old.json", "s/logs/old.log"}
    assert names(place, "outputs") == {"s/outputs/unnamed.safetensors"}
    assert names(place, "report") == {"s/report"}
    assert names(place, "pictures") == {"s/pictures/done"}
    assert names(place, "cache") == {"cache/data/digits-16px-0123.safetensors"}
    found = look(place)
    assert [item.size for item in found.items if item.kind == "scratch"] == [5, 5]
    assert not found.kept
    assert {item.kind for item in found.of(["damaged", "parts"]).items} == {"damaged", "parts"}


def test_artefacts_stay_while_a_cell_of_their_seed_is_unfinished(place):
    zero, one = artefact(place, {"seed": 0}), artefact(place, {"seed": 1})
    public = artefact(place, {})
    assert names(place, "artefacts") == {str(zero.relative_to(place))}
    keep(place, "failed")
    assert len(names(place, "artefacts")) == 1  # `open` is of seed 1 as well
    keep(place, "open")
    paths = {str(path.relative_to(place)) for path in (zero, one, public)}
    assert names(place, "artefacts") == paths


def test_a_cell_without_a_plan_keeps_all_artefacts(place):
    artefact(place, {"seed": 0})
    put(place / "run" / "scratch" / "begun" / "stamp.json")
    found = look(place)
    assert not names(place, "artefacts", found)
    (kept,) = found.kept
    assert "cell begun of run is unfinished" in kept.reason
    assert not names(place, "scratch", found) & {"run/scratch/begun"}


def test_deleting_everything_spares_what_a_plan_names(place):
    for name in ("failed", "open"):
        keep(place, name)
    artefact(place, {"seed": 0})
    gone, kept = delete(look(place).items)
    assert not kept
    assert {item.kind for item in gone} == set(KINDS)
    assert not [item for item in gone if item.path.exists()]
    left = sorted(path.stem for path in (place / "s" / "records").iterdir())
    assert left == [".young", "done", "failed", "open", "skipped"]
    assert {path.name for path in (place / "s" / "outputs").iterdir()} == {
        "named.safetensors",
        "olds.safetensors",  # a record named it a moment ago; the next look finds it
    }
    assert (place / "run" / "records" / "single.json").exists()
    assert names(place, "outputs") == {"s/outputs/olds.safetensors"}


def test_a_sweep_clears_the_scratch_of_finished_cells_only(place):
    found = garbage.finished_scratch(place / "s")
    assert [item.path.name for item in found] == ["done", "old"]
    delete(found)
    assert sorted(path.name for path in (place / "s" / "scratch").iterdir()) == ["failed", "open"]
    assert garbage.finished_scratch(place / "nowhere") == []


def test_a_sweep_keeps_what_it_uses(place):
    artefact(place, {"seed": 0})
    heartbeat = in_hand(place)
    found = look(place)
    for kind in ("artefacts", "cache", "records", "outputs", "report"):
        assert not names(place, kind, found)
    assert {kept.kind for kept in found.kept} == {
        "artefacts",
        "cache",
        "records",
        "outputs",
        "report",
    }
    assert all("cells of s are in hand: 1" in kept.reason for kept in found.kept)
    assert names(place, "scratch", found) == {"s/scratch/done", "s/scratch/old"}
    in_hand(place, pid=2**22 + 1)  # above what Linux gives
    assert not look(place).kept
    assert str(heartbeat.relative_to(place)) in names(place, "parts")


def test_what_is_locked_stays(place):
    path = artefact(place, {"seed": 0})
    scratch = place / "s" / "scratch" / "done"
    lock = Lock(place / "s" / "locks" / "done.lock")
    with lock.held(), Lock(path.with_suffix(".lock")).held():
        gone, kept = delete(look(place).of(["scratch", "artefacts"]).items)
    assert {item.path for item in kept} == {path, scratch}
    assert [item.path.name for item in gone] == ["old"]
    assert path.exists()
    assert scratch.exists()
    gone, kept = delete(look(place).of(["scratch", "artefacts"]).items)
    assert {item.path for item in gone} == {path, scratch}
    assert not kept
    assert not path.with_suffix(".lock").exists()


def test_what_the_system_keeps_is_named_and_the_rest_goes(place, monkeypatch):
    path = artefact(place, {"seed": 0})
    scratch = place / "s" / "scratch" / "done"
    remove = garbage._remove

    def refuse(what):
        if what == scratch:
            raise PermissionError(13, "Permission denied")
        remove(what)

    monkeypatch.setattr(garbage, "_remove", refuse)
    gone, kept = delete(look(place).of(["scratch", "artefacts"]).items)
    assert [(item.path, item.reason) for item in kept] == [
        (scratch, "it cannot be deleted: Permission denied")
    ]
    assert path in {item.path for item in gone}
    assert scratch.exists()


def test_links_are_cut_and_not_followed(place, tmp_path):
    precious = put(tmp_path / "elsewhere" / "precious")
    link = place / "s" / "scratch" / "linked"
    link.symlink_to(precious.parent)
    assert delete(look(place).of(["scratch"]).items)
    assert not link.is_symlink()
    assert precious.exists()


def test_an_empty_home_has_no_garbage(tmp_path):
    assert not look(tmp_path / "none").items
