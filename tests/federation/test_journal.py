"""The journal and its shelf: what is read back is what was written, or is done again."""

import json
import logging
import math

import pytest
import torch

from fedbench.federation.journal import Journal, Progress, Series
from fedbench.federation.ledger import Clock, Ledger
from fedbench.federation.message import Message
from fedbench.federation.shelf import DamagedError, Shelf


@pytest.fixture(autouse=True)
def _always_committed(monkeypatch):
    monkeypatch.setattr("fedbench.federation.journal._SHARE", math.inf)


NUMBER = Message("number", {"n": torch.tensor(1)})


def opened(folder):
    """Return a journal of a folder, as a process that begins opens it, and its clock."""
    clock = Clock(Ledger())
    return Journal(folder, clock), clock


def state(number):
    return {"n": torch.tensor(number)}


def begin(folder, rounds=1):
    """Write the journal of a cell after some rounds, with a state at the server and at client 4."""
    journal, clock = opened(folder)
    for round in range(rounds):

        def work(again, round=round):
            journal.charge("up", "round", 4, NUMBER)
            journal.observe({"step": round})
            journal.stage(4, state(10 * round))

        journal.phase(work)
        journal.now.begun, journal.now.rounds = True, round + 1
        journal.end_phase(state(round))
    clock.ledger.seconds["client"] += 3.0
    journal.save()
    return journal, clock


def test_a_process_that_begins_finds_what_the_last_one_saved(tmp_path):
    _, before = begin(tmp_path, rounds=2)
    journal, clock = opened(tmp_path)
    assert (journal.now.begun, journal.now.rounds) == (True, 2)
    assert journal.server_state()["n"] == 1
    assert journal.client_state(4)["n"] == 10
    assert journal.client_state(5) == {}
    assert journal.now.curves == [{"step": 0}, {"step": 1}]
    assert clock.ledger == before.ledger
    assert clock.ledger.seconds["client"] >= 3.0
    assert len(list((tmp_path / "kept").iterdir())) == 2  # older states are gone


def test_a_client_that_empties_its_state_has_none(tmp_path):
    journal, _ = begin(tmp_path)
    journal.stage(4, {})
    journal.end_phase(state(0))
    assert opened(tmp_path)[0].client_state(4) == {}


def test_what_was_charged_and_observed_outside_of_commits_is_taken_back(tmp_path):
    journal, clock = begin(tmp_path)
    settled = clock.ledger.to_json()
    with journal.settling():
        journal.charge("down", "round", 1, NUMBER)
    kept = clock.ledger.to_json()
    journal.charge("up", "round", 1, NUMBER)
    journal.charge("up", "validation", 7, NUMBER)
    journal.observe({"step": 99})
    journal.pool()
    journal.save()
    again, resumed = opened(tmp_path)
    for name in ("traffic", "clients", "rounds"):
        assert json.dumps(resumed.ledger.to_json()[name]) == json.dumps(kept[name])
    assert kept["traffic"] != settled["traffic"]
    assert again.now.curves == [{"step": 0}]
    assert again.now.pooled is False


def test_a_block_that_fails_settles_nothing(tmp_path):
    journal, _ = begin(tmp_path)

    def block():
        with journal.settling():
            journal.observe({"step": 99})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        block()
    journal.save()
    assert opened(tmp_path)[0].now.curves == [{"step": 0}]


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def into_a_folder(path):
    path.unlink()
    path.mkdir()


def without_a_key(path):
    path.write_bytes(path.read_bytes().replace(b'"begun"', b'"began"'))


DAMAGE = {
    "a flipped bit": flip,
    "truncated": truncate,
    "missing": lambda path: path.unlink(),
    "a folder": into_a_folder,
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("harm", [*DAMAGE.values(), without_a_key], ids=[*DAMAGE, "no key"])
@pytest.mark.parametrize("which", ["journal", "server", "client"])
def test_damage_starts_the_cell_over(tmp_path, caplog, which, harm):
    journal, _ = begin(tmp_path)
    now = journal.now
    place = {
        "journal": tmp_path / "journal.json",
        "server": journal.shelf.path(now.server),
        "client": journal.shelf.path(now.clients[4]),
    }[which]
    if harm is without_a_key and which != "journal":
        pytest.skip("states have no keys")
    harm(place)
    if harm is DAMAGE["missing"] and which == "journal":
        assert opened(tmp_path)[0].now.rounds == 0
        return
    with caplog.at_level(logging.WARNING, "fedbench"):
        again, clock = opened(tmp_path)
    assert again.now.rounds == 0
    assert again.now.curves == []
    assert clock.ledger.traffic == {}
    assert "starts over" in caplog.text
    assert (tmp_path / "journal.json.damaged-0").exists()
    begin(tmp_path)  # and the next attempt is as good as the first
    assert opened(tmp_path)[0].now.rounds == 1


@pytest.mark.parametrize("harm", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("which", ["upload", "staged", "stage"])
def test_damage_within_a_round_repeats_the_round_alone(tmp_path, caplog, which, harm):
    journal, clock = begin(tmp_path)
    calls = []

    def work(again):
        calls.append(again)
        now = journal.now
        if 2 not in now.uploads:
            with journal.settling():
                data = journal.charge("up", "round", 2, NUMBER)
                now.uploads[2] = [journal.shelf.put(data)]
                journal.stage(2, state(5))
        if len(calls) == 1:
            now.series["here"] = Series(1, journal.shelf.put(b"kept"))
            journal.save()
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        journal.phase(work)
    charged = clock.ledger.to_json()["traffic"]
    now = journal.now
    ref = {"upload": now.uploads[2][0], "staged": now.staged[2], "stage": now.series["here"].kept}
    harm(journal.shelf.path(ref[which]))
    journal, clock = opened(tmp_path)
    with caplog.at_level(logging.WARNING, "fedbench"):
        journal.phase(work)
    assert calls == [False, True]
    assert "done again" in caplog.text
    assert clock.ledger.to_json()["traffic"] == charged
    assert journal.now.curves == [{"step": 0}]
    assert journal.now.series == {}


def test_seconds_of_unfinished_artefacts_add_up_over_attempts(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("fedbench.federation.ledger.time.perf_counter", lambda: now[0])

    def attempt(seconds):
        journal, clock = opened(tmp_path)
        with clock.side("client"):
            journal.begin_build("key", "client")
            now[0] += seconds
            journal.save()
            now[0] += 0.5  # lost
        return journal, clock

    attempt(3.0)
    journal, clock = attempt(4.0)
    assert journal.end_build("key") == 7.5
    assert clock.ledger.seconds["client"] == 7.5
    assert journal.now.building == {}


def test_what_was_spent_on_work_that_others_finished_is_not_charged_twice(tmp_path):
    journal, clock = opened(tmp_path)
    journal.now.building["key"] = 3.0
    clock.ledger.seconds["client"] = 3.0
    clock.add_shared("client", 10.0, spent=journal.end_build("key"))
    assert clock.ledger.seconds["client"] == 10.0
    assert clock.ledger.shared_seconds == 10.0


def test_a_shelf_deletes_what_no_commit_names_and_nothing_before(tmp_path):
    shelf = Shelf(tmp_path)
    one, two = shelf.put(b"one"), shelf.put(b"two")
    shelf.discard([one])
    assert shelf.verified(one).read_bytes() == b"one"
    shelf.sweep()
    assert [path.name for path in tmp_path.iterdir()] == [two.name]
    (tmp_path / "000009").write_bytes(b"of a killed process")
    again = Shelf(tmp_path)
    again.open([two])
    assert [path.name for path in tmp_path.iterdir()] == [two.name]
    assert again.put(b"three").name != two.name
    assert again.verified(two).read_bytes() == b"two"


@pytest.mark.parametrize("harm", DAMAGE.values(), ids=DAMAGE)
def test_a_shelf_gives_back_nothing_but_what_was_put(tmp_path, harm):
    shelf = Shelf(tmp_path)
    ref = shelf.put_tensors({"x": torch.arange(5)})
    assert shelf.tensors(ref)["x"].tolist() == [0, 1, 2, 3, 4]
    harm(shelf.path(ref))
    with pytest.raises(DamagedError):
        shelf.tensors(ref)
    assert not shelf.path(ref).exists()


def test_rounds_that_take_no_time_are_committed_together(tmp_path, monkeypatch):
    journal, _ = begin(tmp_path, rounds=1)
    monkeypatch.setattr("fedbench.federation.journal._SHARE", 1e-9)
    journal.now.rounds = 2
    journal.end_phase(state(7))
    assert journal.server_state()["n"] == 7
    note = json.loads((tmp_path / "journal.json").read_text().partition("\n")[2])
    assert Progress.from_json(note["progress"]).rounds == 1
    journal.save()
    assert opened(tmp_path)[0].server_state()["n"] == 7
