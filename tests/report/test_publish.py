"""From runs to leaderboards: what is copied, what is refused, what stays."""

import json
import math

import pytest
from made_records import CLEAN, edited, files_of, record, write_suite

from fedbench.errors import SettingsError, StoreError
from fedbench.report import build
from fedbench.report.board import read_board
from fedbench.report.publish import publish


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr(build.figures, "draw", lambda board: [])


def seeds(method="fedavg", count=3, first=0, **settings):
    return [
        record(method, seed, 0.5 + 0.1 * seed, **settings) for seed in range(first, first + count)
    ]


def ids(folder):
    return sorted(path.stem for path in (folder / "records").iterdir())


@pytest.fixture
def out(tmp_path):
    return tmp_path / "leaderboards" / "toy"


def test_rows_with_enough_seeds_are_copied_and_the_rest_is_named(tmp_path, out):
    failed = record("fedprox", status="failed", cell_id="bad")
    made = [*seeds(), *seeds("local", 2), failed]
    runs = write_suite(tmp_path / "runs", made, skipped=[record("x")], missing=[record("y")])
    (runs / "outputs").mkdir()
    (runs / "outputs" / "weights.safetensors").write_bytes(b"")
    done = publish(runs, out)
    assert ids(out) == sorted(one.cell_id for one in seeds())
    assert done.added == 3
    text = "\n".join(done.left_out)
    assert "local, dirichlet_capped beta=0.1 min_size=10, accuracy 55.00 %: n=2, 3 needed" in text
    assert "cell bad (fedprox): failed" in text
    assert "(x): cannot run" in text
    assert "(y): has not run" in text
    assert len(done.left_out) == 4
    assert not (out / "outputs").exists()
    names = {path.name for path in out.iterdir()}
    assert names >= {"plan.json", "records", "table.csv", "runs.csv", "table.tex", "index.html"}
    plan = json.loads((out / "plan.json").read_text())
    assert [cell["cell_id"] for cell in plan["cells"]] == ids(out)
    assert 'href="records/' in (out / "index.html").read_text()


def test_twice_is_once(tmp_path, out):
    runs = write_suite(tmp_path / "runs", seeds())
    publish(runs, out)
    before = files_of(out)
    again = publish(runs, out)
    assert files_of(out) == before
    assert (again.added, again.changed, again.removed) == (0, (), ())


def test_the_board_is_made_again_from_itself(tmp_path, out):
    publish(write_suite(tmp_path / "runs", seeds()), out)
    before = files_of(out)
    for name in ("table.csv", "index.html"):
        (out / name).unlink()
    build.build(out, out, records="records/")
    assert files_of(out) == before


def test_earlier_records_of_other_settings_stay(tmp_path, out):
    publish(write_suite(tmp_path / "one", seeds(beta=0.1)), out)
    done = publish(write_suite(tmp_path / "two", seeds(beta=0.5, profile="standard")), out)
    assert len(ids(out)) == 6
    assert {row.values["beta"] for row in done.board.views} == {0.1, 0.5}
    assert done.board.plan.profile == "quick+standard"


def test_further_seeds_join_their_row(tmp_path, out):
    publish(write_suite(tmp_path / "one", seeds()), out)
    done = publish(write_suite(tmp_path / "two", seeds(count=4)), out)
    assert [row.values["n"] for row in done.board.views] == [4]
    assert done.added == 1


def test_a_changed_number_is_named(tmp_path, out):
    runs = write_suite(tmp_path / "runs", seeds())
    publish(runs, out)
    edited(runs / "records" / "fedavg-0.1-None-1.json", "metrics.accuracy", 0.65)
    done = publish(runs, out)
    ((name, old, new),) = done.changed
    assert name == "fedavg, digits, dirichlet_capped beta=0.1 min_size=10, K=5, seed 1"
    assert (old, new) == (0.6, 0.65)
    assert "0.650000" in (out / "runs.csv").read_text()


@pytest.mark.parametrize(
    "update",
    [
        {"versions": {"method": 2}},
        {"data": {"classes": ["a"], "size": 16, "fingerprint": "new"}},
        {"data": {"classes": ["a"], "size": 16, "resources": {"picture:x.png": "another"}}},
    ],
)
def test_a_row_is_never_of_two_versions_or_of_two_files(tmp_path, out, update):
    publish(write_suite(tmp_path / "one", seeds(count=5)), out)
    newer = [
        one.model_copy(update={"cell_id": f"new-{one.cell_id}", **update}) for one in seeds(count=3)
    ]
    done = publish(write_suite(tmp_path / "two", newer), out)
    assert [row.values["n"] for row in done.board.views] == [3]
    assert len(done.removed) == 5
    assert ids(out) == sorted(one.cell_id for one in newer)


SHARED = [
    {"versions": {"evaluation": 9}},
    {"data": {"classes": ["a"], "size": 16, "fingerprint": "n"}},
]


@pytest.mark.parametrize("update", SHARED)
def test_a_block_is_never_of_two_versions_or_of_two_files(tmp_path, out, update):
    publish(write_suite(tmp_path / "one", [*seeds(), *seeds(beta=0.5)]), out)
    newer = [one.model_copy(update=update) for one in seeds("fedprox")]
    done = publish(write_suite(tmp_path / "two", newer), out)
    assert ids(out) == sorted(one.cell_id for one in [*newer, *seeds(beta=0.5)])
    assert len(done.removed) == 3


def test_another_version_of_one_method_leaves_the_others(tmp_path, out):
    publish(write_suite(tmp_path / "one", seeds()), out)
    other = {**seeds()[0].data, "resources": {"picture:x.png": "of its own"}}
    newer = [
        one.model_copy(update={"versions": {"method": 2}, "data": other})
        for one in seeds("fedprox")
    ]
    assert publish(write_suite(tmp_path / "two", newer), out).removed == ()
    assert len(ids(out)) == 6


@pytest.mark.parametrize("update", SHARED)
def test_a_mixed_board_is_refused(tmp_path, out, update):
    mixed = [*seeds(), record("fedavg", 3).model_copy(update=update)]
    runs = write_suite(tmp_path / "runs", mixed)
    with pytest.raises(SettingsError, match=r"(evaluation=9|fingerprint=n).*--force"):
        publish(runs, out)
    assert not out.exists()


def test_a_row_of_two_pictures_is_refused(tmp_path, out):
    data = [{**seeds()[0].data, "resources": {"picture:x.png": digest}} for digest in "ab"]
    mixed = [record("single_image", n).model_copy(update={"data": data[n]}) for n in (0, 1)]
    runs = write_suite(tmp_path / "runs", mixed)
    assert [row.values["n"] for row in read_board(runs).views] == [1, 1]
    with pytest.raises(SettingsError, match=r"picture:x.png=[ab].*--force"):
        publish(runs, out)


def test_a_cell_that_replaces_another_is_named_with_both_accuracies(tmp_path, out):
    publish(write_suite(tmp_path / "one", seeds()), out)
    newer = [record("fedavg", seed, 0.9, cell_id=f"new{seed}") for seed in range(3)]
    done = publish(write_suite(tmp_path / "two", newer), out)
    assert [change[1:] for change in done.changed] == [(0.5, 0.9), (0.6, 0.9), (0.7, 0.9)]
    assert ids(out) == ["new0", "new1", "new2"]  # no seed stands twice
    assert len(done.removed) == 3


def test_seeds_are_counted_and_not_records(tmp_path, out):
    twice = record("fedavg", 0, cell_id="again")
    runs = write_suite(tmp_path / "runs", [*seeds(count=2), twice])
    with pytest.raises(SettingsError, match="the most is 2"):
        publish(runs, out)


def test_unknown_accuracies_are_published_as_such(tmp_path, out):
    runs = write_suite(tmp_path / "runs", [record("fedavg", seed, math.nan) for seed in range(3)])
    publish(runs, out)
    assert publish(runs, out).changed == ()
    edited(runs / "records" / "fedavg-0.1-None-1.json", "metrics.accuracy", 0.5)
    ((_, old, new),) = publish(runs, out).changed
    assert (math.isnan(old), new) == (True, 0.5)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({**CLEAN, "dirty": True}, "commit c0ffeec0ffee with changes"),
        ({**CLEAN, "commit": None, "dirty": None}, "an unknown commit"),
        ({**CLEAN, "dirty": None}, "with changes"),
        ({}, "an unknown commit"),
    ],
)
def test_what_cannot_be_traced_is_refused(tmp_path, out, environment, words):
    made = [*seeds(count=2), record("fedavg", 2, environment=environment)]
    runs = write_suite(tmp_path / "runs", made)
    with pytest.raises(SettingsError, match=f"1 of 3 records .*seed 2.*{words}.*--allow-dirty"):
        publish(runs, out)
    assert not out.exists()
    assert publish(runs, out, allow_dirty=True).added == 3


def test_records_that_are_not_published_may_be_dirty(tmp_path, out):
    dirty = record("local", environment={**CLEAN, "dirty": True})
    assert publish(write_suite(tmp_path / "runs", [*seeds(), dirty]), out).added == 3


def test_too_few_seeds_are_refused_with_the_most_there_are(tmp_path, out):
    runs = write_suite(tmp_path / "runs", seeds(count=2))
    with pytest.raises(SettingsError, match=r"no row with 3 seeds \(the most is 2\).*--min-seeds"):
        publish(runs, out)
    assert publish(runs, out, min_seeds=2).added == 2


def test_without_a_plan_nothing_is_published(tmp_path, out):
    with pytest.raises(StoreError, match="no plan"):
        publish(tmp_path / "nothing", out)
