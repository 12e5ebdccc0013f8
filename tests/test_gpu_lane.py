"""The GPU lane: what travels arrives whole, parts keep to their time, all of it runs on a CPU."""

import json
import os
import subprocess
import sys
import time
import zipfile
from itertools import pairwise
from pathlib import Path

import needs
import prepare
import pytest
import results
import run
from pack import DamagedLoadError, missing, pack, place, read_manifest, tree_digest, unpack
from parts import TABLE, Means, Part, Step, parts, read_table
from steps import Runner

from fedbench.bench.cells import environment as where
from fedbench.bench.suites.order import read_order
from fedbench.bench.suites.selection import parse_only
from fedbench.data.specs import DATASETS
from fedbench.report.board import read_board

ROOT = Path(__file__).parents[1]
LANE = ROOT / "scripts" / "gpu"
FACTS = {"commit": "c" * 40, "code": "d" * 64, "python": "3.12"}


@pytest.fixture
def loads(tmp_path):
    """Pack two files, of 10 and 25 bytes, into loads of 16 bytes."""
    sources = {}
    for name, count in (("small", 10), ("large", 25)):
        path = tmp_path / name
        path.write_bytes(bytes(range(count)))
        sources[name] = path
    files = [("wheels", "small", sources["small"]), ("data", "deep/large", sources["large"])]
    pack(files, tmp_path / "loads", limit=16, facts=FACTS)
    return tmp_path / "loads"


def test_files_are_cut_where_a_load_is_full(loads):
    manifest = read_manifest(loads / "1" / "manifest.json")
    assert [(piece.load, piece.size) for item in manifest.items for piece in item.pieces] == [
        (1, 10), (1, 6), (2, 16), (3, 3),
    ]  # fmt: skip
    for number in "123":
        size = sum(path.stat().st_size for path in (loads / number).glob("0*"))
        assert size <= 16
        assert (loads / number / "manifest.json").exists()


def test_which_load_completes_what(loads):
    assert list(prepare.summary(read_manifest(loads / "1" / "manifest.json"))) == [
        "1: 0.0 MiB, with which wheels are whole",
        "2: 0.0 MiB",
        "3: 0.0 MiB, with which data are whole",
    ]


@pytest.mark.parametrize("order", ["123", "312", "231"])
def test_loads_arrive_one_by_one_in_any_order(loads, tmp_path, order):
    store = tmp_path / "store"
    for number in order:
        here = tmp_path / f"call{number}"
        here.mkdir()
        (loads / number).rename(here / number)
        manifest = unpack(here, store)
    assert not missing(store, manifest.items)
    small, large = manifest.items
    assert place(store, small).read_bytes() == bytes(range(10))
    assert place(store, large).read_bytes() == bytes(range(25))
    assert not list((store / "pieces").iterdir())
    assert unpack(tmp_path / "nothing", store) == manifest  # a call that carries none


def test_what_has_not_arrived_is_missing(loads, tmp_path):
    (loads / "2").rename(tmp_path / "away")
    manifest = unpack(loads, tmp_path / "store")
    assert [item.name for item in missing(tmp_path / "store", manifest.items)] == ["deep/large"]
    assert unpack(tmp_path / "nothing", tmp_path / "other") is None


def test_a_damaged_piece_is_refused(loads, tmp_path):
    piece = sorted((loads / "2").glob("0*"))[0]
    piece.write_bytes(b"x" * piece.stat().st_size)
    with pytest.raises(DamagedLoadError, match="is damaged"):
        unpack(loads, tmp_path / "store")


def test_loads_of_two_packings_are_refused_and_a_new_one_replaces_the_store(loads, tmp_path):
    store, old = tmp_path / "store", (loads / "1" / "manifest.json").read_text()
    unpack(loads, store)
    pack([("data", "new", tmp_path / "small")], tmp_path / "again", limit=99, facts=FACTS)
    unpack(tmp_path / "again", store)
    assert (store / "data" / "new").exists()
    assert not (store / "data" / "deep").exists()
    (loads / "1" / "manifest.json").write_text(old.replace("3.12", "3.13"))
    with pytest.raises(DamagedLoadError, match="several packings"):
        unpack(loads, store)


@pytest.mark.parametrize("name", ["../outside", "/outside"])
def test_a_manifest_stays_within_the_store(loads, tmp_path, name):
    text = (loads / "1" / "manifest.json").read_text().replace("deep/large", name)
    for number in "123":
        (loads / number / "manifest.json").write_text(text)
    with pytest.raises(DamagedLoadError, match="outside the store"):
        unpack(loads, tmp_path / "store")


RESOLUTION = """\
cuda==13.0
    # via torch
idna==3
    # via
    #   -c constraints.txt
    #   cuda
    #   optuna
optuna==5.0.0
    # via -r -
sqlalchemy[asyncio]==2.1 ; python_version < '4'
    # via
    #   -c constraints.txt
    #   optuna
torch==2.15
    # via -r -
"""


def test_what_only_installed_packages_need_stays_behind():
    packages = prepare.askers(RESOLUTION)
    wanted = ["optuna>=5,<6", "torch>=2.11"]
    assert prepare.needed(packages, wanted, {"torch"}) == [
        "idna==3", "optuna==5.0.0", "sqlalchemy[asyncio]==2.1",
    ]  # fmt: skip
    assert len(prepare.needed(packages, wanted, set())) == 5


def test_installed_packages_are_read_as_pip_lists_them(tmp_path):
    (tmp_path / "list").write_text("# a remark\nTorch==2.11.0\n\nscikit_learn  # as well\n")
    assert prepare.installed_names(tmp_path / "list") == {"torch", "scikit-learn"}


def test_data_that_is_not_there_is_named(tmp_path):
    (tmp_path / "photo.jpg").touch()
    found = list(prepare.data_files(["photo.jpg", "photo.jpg"], tmp_path))
    assert found == [("data", "photo.jpg", tmp_path / "photo.jpg")]
    for name in ("other.jpg", "cifar10"):
        with pytest.raises(SystemExit, match=name.partition(".")[0]):
            list(prepare.data_files([name], tmp_path))


def wheel(folder, name="lanetoy"):
    """Write a wheel of one module and return its path."""
    path, about = folder / f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}.py", "ANSWER = 42\n")
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{about}/RECORD", "")
    return path


def test_wheels_are_installed_beside_the_machines_own(tmp_path):
    store = tmp_path / "store"
    packed = [wheel(tmp_path), wheel(tmp_path, "packaging")]
    files = [("wheels", path.name, path) for path in packed]
    pack(files, tmp_path / "loads", limit=10**6, facts=FACTS)
    words = [str(LANE / "run.py"), "--loads", str(tmp_path / "loads"), "--store", str(store)]
    said = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True)
    assert "wheels: 2 of 2 files have arrived" in said.stdout
    assert (store / "packed" / "site" / "lanetoy.py").read_text() == "ANSWER = 42\n"
    # What the machine has is not hidden by another version of it.
    assert not (store / "packed" / "site" / "packaging.py").exists()


def test_what_is_too_old_for_us_is_replaced(monkeypatch):
    monkeypatch.setattr(needs, "requirements", lambda: ["packaging>=9999", "pytest>=1"])
    assert run.lacking("packaging-1.0-py3-none-any.whl")
    assert not run.lacking("pytest-1.0-py3-none-any.whl")
    assert run.lacking("no_such_package-1.0-py3-none-any.whl")


def test_the_commit_is_named_only_where_the_code_is_that_commits(tmp_path, monkeypatch):
    packed = wheel(tmp_path)

    def around(code):
        facts = {**FACTS, "code": code}
        manifest = pack([("wheels", packed.name, packed)], tmp_path / "l", limit=10**6, facts=facts)
        return run.environment(manifest, tmp_path, tmp_path)

    assert "FEDBENCH_COMMIT" not in around("0" * 64)
    stated = around(tree_digest(ROOT / "fedbench"))["FEDBENCH_COMMIT"]
    assert stated == FACTS["commit"]
    monkeypatch.setattr(where.fedbench, "__file__", str(tmp_path / "fedbench" / "__init__.py"))
    where.commit.cache_clear()
    try:
        assert where.commit() == {"commit": None, "dirty": None}
        where.commit.cache_clear()
        monkeypatch.setenv("FEDBENCH_COMMIT", stated)
        assert where.commit() == {"commit": stated, "dirty": False}
        # A repository that fedbench was copied into is not its checkout.
        monkeypatch.delenv("FEDBENCH_COMMIT")
        (tmp_path / "fedbench").mkdir()
        (tmp_path / "fedbench" / "__init__.py").touch()
        git = ("git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x")
        for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "own"]):
            subprocess.run([*git, *words], check=True)
        where.commit.cache_clear()
        assert where.commit() == {"commit": None, "dirty": None}

        def slow(*words, timeout, **options):
            raise subprocess.TimeoutExpired(words, timeout)

        monkeypatch.setattr(where.subprocess, "run", slow)
        where.commit.cache_clear()
        assert where.commit() == {"commit": None, "dirty": None}
    finally:
        where.commit.cache_clear()


@pytest.mark.parametrize("line", read_table(TABLE), ids=lambda line: f"{line.suite} {line.only}")
def test_every_line_of_the_table_selects_cells(line, tmp_path):
    order = read_order(
        ROOT / line.suite, tmp_path, profile=line.profile, seeds=line.seeds, overrides=(),
        wishes=parse_only(line.only),
    )  # fmt: skip
    assert order.chosen
    assert {order.cells[name].cell.data.name for name in order.chosen} <= {
        name for name in line.data if name in DATASETS.names()
    }
    assert line.workers >= 1
    assert line.why


def shell(text):
    return (sys.executable, "-c", text)


@pytest.fixture
def runner(tmp_path):
    return Runner(tmp_path / "log.txt", dict(os.environ), time.monotonic() + 60)


def test_a_part_that_fails_or_hangs_takes_no_other_along(runner, tmp_path):
    child = "import subprocess, sys; subprocess.Popen(['sleep', '77.31']).wait()"
    late = Part("late", 6, (Step("hangs", shell(child)), Step("starved", shell("print('no')"))))
    runner.part(Part("bad", 30, (Step("fails", shell("raise SystemExit(3)")),)))
    runner.part(late)
    runner.part(Part("good", 30, (Step("talks", shell("print('hello')")),)))
    found = [(outcome.step, outcome.status, outcome.code) for outcome in runner.outcomes]
    assert found == [
        ("fails", "failed", 3),
        ("hangs", "time over", None),
        ("starved", "not begun", None),
        ("talks", "ok", 0),
    ]
    alive = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert "sleep 77.31" not in alive.stdout
    log = (tmp_path / "log.txt").read_text()
    assert "good/talks | hello\n" in log
    assert "== late/hangs: time over" in log
    assert "starved |" not in log


def test_steps_run_together_and_know_how_long_they_have(runner, tmp_path):
    meet = (
        "import pathlib, sys, time\n"
        "folder, me, other = map(pathlib.Path, sys.argv[1:4])\n"
        "(folder / me).touch()\n"
        "while not (folder / other).exists(): time.sleep(0.02)\n"
        "print(sys.argv[4])\n"
    )
    steps = tuple(
        Step(one, (*shell(meet), str(tmp_path), one, other, "{seconds}s"))
        for one, other in (("a", "b"), ("b", "a"))
    )
    runner.part(Part("both", 50, steps, together=2))
    assert [outcome.status for outcome in runner.outcomes] == ["ok", "ok"]
    told = [line for line in (tmp_path / "log.txt").read_text().splitlines() if " | " in line]
    assert len(told) == 2
    assert all(20 <= int(line.rpartition(" ")[2].removesuffix("s")) <= 30 for line in told)


def test_records_are_packed_and_restored_without_overwriting(tmp_path):
    home, other = tmp_path / "home", tmp_path / "other"
    for place_, text in (("s/plan.json", "plan"), ("s/records/a.json", "a"), ("s/logs/a.log", "l")):
        path = home / place_
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (other / "s" / "records").mkdir(parents=True)
    (other / "s" / "records" / "a.json").write_text("newer")
    kept = home / "s" / "scratch" / "b" / "kept"
    kept.mkdir(parents=True)
    (kept / "000000").write_bytes(b"in hand")
    large = home / "s" / "scratch" / "c"
    large.mkdir()
    with (large / "state").open("wb") as file:
        file.truncate(13 << 20)
    results.keep_records(home, tmp_path / "records.tar.gz")
    assert results.restore_records(tmp_path / "records.tar.gz", other) == 2
    assert (other / "s" / "scratch" / "b" / "kept" / "000000").read_bytes() == b"in hand"
    assert not (other / "s" / "scratch" / "c").exists()
    assert (other / "s" / "plan.json").read_text() == "plan"
    assert (other / "s" / "records" / "a.json").read_text() == "newer"


def test_what_is_published_is_not_computed_again(tmp_path):
    home = tmp_path / "home"
    for name in ("a", "b"):
        path = tmp_path / "boards" / "s" / "records" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("published")
    (home / "s" / "records").mkdir(parents=True)
    (home / "s" / "records" / "a.json").write_text("newer")
    assert results.restore_published(tmp_path / "boards", ["s", "without"], home) == 1
    assert (home / "s" / "records" / "a.json").read_text() == "newer"
    assert (home / "s" / "records" / "b.json").read_text() == "published"


def test_the_gpu_runs_what_the_toy_runs(tmp_path):
    """The same programs and benchmarks in both sizes; the paper's lines differ in size alone."""
    toy, real = (parts(Means("cpu", toy, tmp_path)) for toy in (True, False))
    assert list(toy) == list(real) == ["smoke", "speed", "paper"]

    def benchmarks(found):
        words = found["speed"].steps[0].words
        return [after for word, after in pairwise(words) if word == "--"]

    assert benchmarks(toy) == benchmarks(real)
    assert [step.name for step in toy["smoke"].steps] == [s.name for s in real["smoke"].steps]
    suites = {step.words[4] for step in toy["paper"].steps}
    assert suites < {step.words[4] for step in real["paper"].steps}


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_all_parts_run_on_a_cpu(tmp_path):
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, str(LANE / "run.py"), "all", "--device", "cpu", "--toy", "--out", str(out),
         "--store", str(tmp_path / "store"), "--loads", str(tmp_path / "nothing")],
        capture_output=True, text=True,
    )  # fmt: skip
    log = (out / "log.txt").read_text()
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log[-5000:]}"
    summary = json.loads((out / "summary.json").read_text())
    assert {step["status"] for step in summary["steps"]} == {"ok"}
    assert summary["tests"].keys() == {"tests", "baselines"}
    assert all(found["tests"] > found["skipped"] for found in summary["tests"].values())
    assert [row["status"] for row in summary["twice"]] == ["ok", "ok"]
    assert {"gpu", "stacked", "training", "matching", "federation"} <= {
        path.stem for path in (tmp_path / "store" / "work" / "speed").glob("*.json")
    }
    assert {cell["suite"] for cell in summary["cells"]} == {"dense_readme", "shards_fedavg"}
    assert {cell["dataset"] for cell in summary["cells"]} == {"digits"}
    files = sorted(path.name for path in out.iterdir())
    assert files == ["log.txt", "records.tar.gz", "summary.json", "table.md"]
    again = tmp_path / "again"
    assert results.restore_records(out / "records.tar.gz", again) > len(summary["cells"])
    board = read_board(again / "dense_readme")  # what is needed to report and publish it
    assert {row.values["method"] for row in board.views} == {"ensemble", "fedavg", "local"}
