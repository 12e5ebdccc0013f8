"""What may be deleted, and what never is."""

import json
import os
import platform
import time

import pytest
import torch

from fedbench.bench import garbage
from fedbench.bench.cells.running import running_path
from fedbench.bench.garbage import KINDS, delete, look
from fedbench.bench.records.record import Record, record_path, write_record
from fedbench.bench.suites.planfile import Entry, Plan, plan_path, write_plan
from fedbench.federation.artefacts import ArtefactStore
from fedbench.files import Lock

SEEDS = {"done": 0, "failed": 1, "open": 1}


def put(path, content="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


NAMED, OLDS, UNNAMED = "a" * 64, "b" * 64, "c" * 64


def keep(home, cell_id, status="ok", suite="s", **outputs):
    record = Record(
        cell_id=cell_id,
        status=status,
        suite=suite,
        settings={"method": {"name": "x"}, "data": {"name": "digits"}},
        versions={},
        metrics={"accuracy": 0.5},
        data={"classes": ["a"]},
        partition={"histogram": [[1]]},
        outputs=outputs,
    )
    write_record(record_path(home, suite, cell_id), record)


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
    keep(home, "done", model=NAMED)
    keep(home, "failed", "failed")
    keep(home, "old", model=OLDS)
    keep(home, "skipped")
    for name in ("done", "failed", "open", "old"):
        put(home / "s" / "scratch" / name / "journal.json", "12345")
        put(home / "s" / "logs" / f"{name}.log")
    for name in (NAMED, OLDS, UNNAMED, "model"):
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
    for place in ("locks/done.lock", "locks/open.lock", "exports/done/0.png", "wandb/state.json"):
        put(home / "s" / place)
    keep(home, "again", suite="reproduced")
    for place in ("pictures/holiday.jpg", "exports/theirs.csv", "scratch/theirs/notes.txt"):
        put(home / "s" / place)  # not ours, though they lie beside ours
    for place in ("records/x.json", "pictures/done/sheet.png", f"outputs/{UNNAMED}.safetensors"):
        put(home / "photos" / place)
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
    assert names(place, "outputs") == {f"s/outputs/{UNNAMED}.safetensors"}
    assert names(place, "report") == {"s/report"}
    assert names(place, "pictures") == {"s/pictures/done"}
    assert names(place, "cache") == {"cache/data/digits-16px-0123.safetensors"}
    assert names(place, "logs") == {"s/logs/done.log"}
    assert names(place, "locks") == {"s/locks/done.lock"}
    assert names(place, "exports") == {"s/exports/done"}
    assert names(place, "wandb") == {"s/wandb"}
    assert names(place, "reproduced") == {"reproduced/records/again.json"}
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
    assert {path.stem for path in (place / "s" / "outputs").iterdir()} == {
        "model",
        NAMED,
        OLDS,  # a record named it a moment ago; the next look finds it
    }
    assert (place / "run" / "records" / "single.json").exists()
    assert len(list((place / "photos").rglob("*.*"))) == 3
    assert (place / "s" / "scratch" / "theirs" / "notes.txt").exists()
    assert names(place, "outputs") == {f"s/outputs/{OLDS}.safetensors"}


def test_a_sweep_clears_the_scratch_of_finished_cells_only(place):
    found = garbage.finished_scratch(place / "s")
    assert [item.path.name for item in found] == ["done", "old"]
    delete(found)
    left = sorted(path.name for path in (place / "s" / "scratch").iterdir())
    assert left == ["failed", "open", "theirs"]
    assert garbage.finished_scratch(place / "nowhere") == []


def test_a_sweep_keeps_what_it_uses(place):
    artefact(place, {"seed": 0})
    heartbeat = in_hand(place)
    found = look(place)
    used = {"artefacts", "cache", "records", "outputs", "report", "wandb"}
    for kind in used:
        assert not names(place, kind, found)
    assert {kept.kind for kept in found.kept} == used
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
    link = place / "s" / "scratch" / ("0" * 16)
    link.symlink_to(precious.parent)
    assert delete(look(place).of(["scratch"]).items)
    assert not link.is_symlink()
    assert precious.exists()


@pytest.mark.parametrize(
    "alter",
    [
        lambda plan: {**plan, "cells": []},
        lambda plan: {**plan, "digest": "0" * 64},
        lambda plan: {name: value for name, value in plan.items() if name != "digest"},
        lambda plan: [],
    ],
    ids=["emptied", "another digest", "no digest", "no plan"],
)
def test_nothing_goes_on_the_word_of_an_altered_plan(place, alter):
    artefact(place, {"seed": 0})
    path = plan_path(place, "s")
    path.write_text(json.dumps(alter(json.loads(path.read_text()))))
    found = look(place)
    assert not [item for item in found.items if "s" in item.path.relative_to(place).parts]
    assert not names(place, "artefacts", found)
    assert any(kept.path == place / "s" and "altered" in kept.reason for kept in found.kept)


def test_what_a_sweep_deletes_meanwhile_is_no_fault(place, monkeypatch):
    size = garbage._size

    def vanishing(path):
        if path.name in ("old", ".stale.part"):
            garbage._remove(path)
        return size(path)

    monkeypatch.setattr(garbage, "_size", vanishing)
    gone, kept = delete(look(place).of(["scratch", "parts"]).items)
    assert not kept
    assert {item.path.name for item in gone} == {"done", "old", ".stale.part"}


def test_an_empty_home_has_no_garbage(tmp_path):
    assert not look(tmp_path / "none").items
