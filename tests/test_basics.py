"""Seeds, safe files and the registry."""

import random
import threading

import numpy as np
import pytest
import torch

from fedbench import seeding
from fedbench.data.specs import DATASETS
from fedbench.errors import SettingsError, StoreError, did_you_mean
from fedbench.files import data_root, home, move_aside, sweep_parts, write_atomic
from fedbench.methods import METHODS
from fedbench.registry import Registry


def test_seeds_depend_on_every_name_and_its_kind():
    seeds = {
        seeding.derive(0, "client", 3),
        seeding.derive(1, "client", 3),
        seeding.derive(0, "client", "3"),
        seeding.derive(0, "client3"),
        seeding.derive(0, "client", 3, "epoch"),
        seeding.derive(0),
    }
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_are_the_same_on_every_machine():
    assert seeding.derive(0, "client", 3) == 2553069678629871045


def test_isolated_seeds_everything_and_puts_it_back():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = (random.random(), np.random.rand(), torch.rand(1).item())
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    draws = []
    for _ in range(2):
        with seeding.isolated(7):
            draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1]
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


def test_isolated_seeds_the_current_gpu_and_leaves_others_alone(monkeypatch):
    sources = [torch.Generator() for _ in range(4)]
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(cuda, "device_count", lambda: 4)
    monkeypatch.setattr(cuda, "current_device", lambda: 2)
    monkeypatch.setattr(cuda, "default_generators", sources)
    monkeypatch.setattr(cuda, "get_rng_state", lambda gpu: sources[gpu].get_state())
    monkeypatch.setattr(cuda, "set_rng_state", lambda state, gpu: sources[gpu].set_state(state))
    before = [source.get_state() for source in sources]
    with seeding.isolated(7):
        assert [source.initial_seed() == 7 for source in sources] == [False, False, True, False]
        torch.rand(2, generator=sources[2])
    for source, state in zip(sources, before, strict=True):
        assert torch.equal(source.get_state(), state)


def test_isolated_wakes_no_gpu(monkeypatch):
    def awake(*_):
        raise AssertionError("CUDA was asked")

    for name in ("current_device", "get_rng_state", "manual_seed_all", "init"):
        monkeypatch.setattr(torch.cuda, name, awake)
    with seeding.isolated(7):
        torch.rand(1)


def test_isolated_puts_the_state_back_after_an_error():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()

    def fail():
        with seeding.isolated(1):
            torch.rand(3)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "deep" / "file"
    write_atomic(path, "old")

    def fail(part):
        part.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left"):
        write_atomic(path, fail)
    assert path.read_text() == "old"
    assert [child.name for child in path.parent.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="FEDBENCH_HOME"):
        write_atomic(tmp_path / "file" / "below", "x")


def test_readers_never_see_half_a_file(tmp_path):
    path, seen = tmp_path / "f", set()
    write_atomic(path, b"a" * 100_000)
    stop = threading.Event()

    def read():
        while not stop.is_set():
            seen.add(len(path.read_bytes()))

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(100):
        write_atomic(path, b"b" * 100_000)
    stop.set()
    thread.join()
    assert seen == {100_000}


def test_damaged_files_are_kept_under_new_names(tmp_path):
    for number in range(3):
        (tmp_path / "x.json").write_text(str(number))
        assert move_aside(tmp_path / "x.json").name == f"x.json.damaged-{number}"
    assert (tmp_path / "x.json.damaged-1").read_text() == "1"
    move_aside(tmp_path / "x.json")  # somebody else was first
    assert not (tmp_path / "x.json.damaged-3").exists()


def test_only_old_parts_are_swept(tmp_path):
    import os

    for name, age in ((".a.part", 7200), (".b.part", 0), ("c.part", 7200)):
        (tmp_path / name).touch()
        now = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (now, now))
    sweep_parts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.part", "c.part"]


def test_a_part_that_is_renamed_meanwhile_is_no_part(tmp_path):
    (tmp_path / ".x.part").symlink_to("nowhere")
    sweep_parts(tmp_path)


def test_near_names():
    assert did_you_mean("ciffar10", ["cifar10", "mnist"]) == " (did you mean 'cifar10'?)"
    assert did_you_mean("zzz", ["cifar10"]) == ""


def test_a_registry_refuses_a_second_thing_of_one_name():
    registry = Registry("toy", "fedbench.toys", targets={"one": "math:pi"})
    assert registry.get("one") == pytest.approx(3.14159, abs=1e-4)
    registry.add("two", 2)
    registry.add("two", 2)
    with pytest.raises(SettingsError, match="already"):
        registry.add("one", 3)
    with pytest.raises(SettingsError, match="did you mean 'two'"):
        registry.get("tow")
    assert registry.names() == ["one", "two"]


def test_every_built_in_name_resolves_to_a_thing_of_that_name():
    from fedbench.data.schemes import SCHEMES
    from fedbench.models.families import MODELS

    for registry in (METHODS, DATASETS, MODELS, SCHEMES):
        for name in registry.names():
            assert registry.get(name).name == name


@pytest.mark.parametrize(
    ("variable", "find"), [("FEDBENCH_HOME", home), ("FEDBENCH_DATA", data_root)]
)
def test_a_folder_that_is_a_file_is_named(variable, find, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(variable, str(tmp_path / "file"))
    with pytest.raises(SettingsError, match=f"{variable} is .*which is a file; set it to a folder"):
        find()
    monkeypatch.setenv(variable, str(tmp_path / "absent"))
    assert find() == tmp_path / "absent"
