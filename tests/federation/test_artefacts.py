import multiprocessing
import time

import pytest
import safetensors.torch
import torch

from fedbench.federation.artefacts import ArtefactStore, tensors_digest

SETTINGS = {"lr": 0.1, "data": "abc"}


def counting(calls):
    def build():
        calls.append(1)
        return {"w": torch.arange(4.0)}

    return build


def test_the_second_request_builds_nothing(tmp_path):
    calls = []
    store = ArtefactStore(tmp_path, {"device": "cpu"})
    first = store.get("classifier", SETTINGS, counting(calls))
    again = ArtefactStore(tmp_path, {"device": "cpu"}).get("classifier", SETTINGS, counting(calls))
    assert len(calls) == 1
    assert (first.shared, again.shared) == (False, True)
    assert torch.equal(again.tensors["w"], torch.arange(4.0))
    assert again.seconds == first.seconds


@pytest.mark.parametrize(
    ("name", "settings", "context"),
    [
        ("other", SETTINGS, {"device": "cpu"}),
        ("classifier", {**SETTINGS, "lr": 0.2}, {"device": "cpu"}),
        ("classifier", SETTINGS, {"device": "cuda"}),
    ],
)
def test_another_name_setting_or_context_is_another_artefact(tmp_path, name, settings, context):
    calls = []
    ArtefactStore(tmp_path, {"device": "cpu"}).get("classifier", SETTINGS, counting(calls))
    ArtefactStore(tmp_path, context).get(name, settings, counting(calls))
    assert len(calls) == 2


def test_the_order_of_settings_does_not_matter(tmp_path):
    store = ArtefactStore(tmp_path, {})
    assert store.key("a", {"x": 1, "y": 2}) == store.key("a", {"y": 2, "x": 1})


@pytest.mark.parametrize("damage", ["truncate", "flip", "foreign", "empty"])
def test_a_damaged_artefact_is_moved_aside_and_built_again(tmp_path, damage, caplog):
    calls = []
    ArtefactStore(tmp_path, {}).get("classifier", SETTINGS, counting(calls))
    path = next(tmp_path.rglob("*.safetensors"))
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        content = content[:-5]
    elif damage == "flip":
        content[-1] ^= 1
    elif damage == "foreign":
        content = bytearray(safetensors.torch.save({"w": torch.zeros(2)}))
    else:
        content = bytearray()
    path.write_bytes(content)
    again = ArtefactStore(tmp_path, {}).get("classifier", SETTINGS, counting(calls))
    assert len(calls) == 2
    assert torch.equal(again.tensors["w"], torch.arange(4.0))
    assert list(tmp_path.rglob("*.damaged-0"))
    assert "damaged" in caplog.text


def test_two_that_meet_one_damaged_artefact_move_it_once_and_build_it_once(tmp_path, monkeypatch):
    calls = []
    ArtefactStore(tmp_path, {}).get("classifier", SETTINGS, counting(calls))
    path = next(tmp_path.rglob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-5])
    slow, quick = ArtefactStore(tmp_path, {}), ArtefactStore(tmp_path, {})
    read = slow._read

    def overtaken(path, key, *, locked):
        found = read(path, key, locked=locked)
        if not locked:  # it has seen the damage, and another is done before it has the lock
            quick.get("classifier", SETTINGS, counting(calls))
        return found

    monkeypatch.setattr(slow, "_read", overtaken)
    found = slow.get("classifier", SETTINGS, counting(calls))
    assert torch.equal(found.tensors["w"], torch.arange(4.0))
    assert len(calls) == 2
    assert len(list(tmp_path.rglob("*.damaged-*"))) == 1


def test_refresh_builds_once_more_and_then_no_more(tmp_path):
    calls = []
    ArtefactStore(tmp_path, {}).get("classifier", SETTINGS, counting(calls))
    store = ArtefactStore(tmp_path, {}, refresh=True)
    store.get("classifier", SETTINGS, counting(calls))
    store.get("classifier", SETTINGS, counting(calls))
    assert len(calls) == 2


def test_a_failed_build_leaves_nothing(tmp_path):
    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        ArtefactStore(tmp_path, {}).get("classifier", SETTINGS, fail)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".safetensors", ".part")]


def _slow(root, results):
    def build():
        results.put("built")
        time.sleep(0.5)
        return {"w": torch.ones(2)}

    results.put(float(ArtefactStore(root, {}).get("slow", SETTINGS, build).tensors["w"].sum()))


def test_of_two_processes_one_builds_and_one_waits(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=_slow, args=(tmp_path, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    said = [results.get(timeout=5) for _ in range(3)]
    assert said.count("built") == 1
    assert said.count(2.0) == 2


def test_a_digest_tells_values_shapes_types_and_names_apart():
    base = {"a": torch.zeros(4)}
    others = [
        {"b": torch.zeros(4)},
        {"a": torch.zeros(2, 2)},
        {"a": torch.ones(4)},
        {"a": torch.zeros(4, dtype=torch.int32)},
        {"a": torch.zeros(4), "b": torch.zeros(0)},
    ]
    digests = {tensors_digest(tensors) for tensors in (base, *others)}
    assert len(digests) == 6


def test_another_artefacts_bytes_under_a_name_are_moved_aside(tmp_path, caplog):
    """A whole file with a good checksum, but of other settings."""
    store = ArtefactStore(tmp_path, {"device": "cpu"})
    made = []

    def build(value):
        made.append(value)
        return {"x": torch.tensor(value)}

    for value in (1, 2):
        store.get("kind", {"value": value}, lambda value=value: build(value))
    first, second = (
        tmp_path / "kind" / f"{store.key('kind', {'value': value})}.safetensors" for value in (1, 2)
    )
    first.write_bytes(second.read_bytes())
    fresh = ArtefactStore(tmp_path, {"device": "cpu"})
    assert fresh.get("kind", {"value": 1}, lambda: build(1)).tensors["x"] == 1
    assert made == [1, 2, 1]
    assert "another artefact than its name says" in caplog.text
    assert list((tmp_path / "kind").glob("*.damaged-0"))


@pytest.mark.parametrize("note", ["{}", "[]", "nonsense", '{"kind": "kind"}'])
def test_a_file_without_its_note_is_moved_aside(tmp_path, note):
    store = ArtefactStore(tmp_path, {})
    path = tmp_path / "kind" / f"{store.key('kind', {})}.safetensors"
    path.parent.mkdir()
    path.write_bytes(safetensors.torch.save({"x": torch.tensor(5)}, {"fedbench": note}))
    assert store.get("kind", {}, lambda: {"x": torch.tensor(6)}).tensors["x"] == 6


def test_a_folder_in_an_artefacts_place_is_moved_aside(tmp_path):
    store = ArtefactStore(tmp_path, {})
    (tmp_path / "kind" / f"{store.key('kind', {})}.safetensors").mkdir(parents=True)
    assert store.get("kind", {}, lambda: {"x": torch.tensor(6)}).tensors["x"] == 6
