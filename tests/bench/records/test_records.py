import errno
import json
from pathlib import Path

import pytest

from fedbench.bench.records.compare import compare, differences
from fedbench.bench.records.record import (
    Record,
    find_record,
    read_record,
    read_records,
    record_path,
    stamp,
)
from fedbench.bench.records.record import write_record as write
from fedbench.errors import StoreError

PLAIN = Record(
    cell_id="abc",
    status="ok",
    suite="s",
    settings={"method": {"name": "x"}, "data": {"name": "digits"}},
    versions={},
    metrics={"accuracy": 0.1 + 0.2},
    data={"classes": ["a", "b"]},
    partition={"histogram": [[1, 2]]},
)


def test_a_record_survives_the_disk_to_the_last_digit(tmp_path):
    write(tmp_path / "a.json", PLAIN)
    assert read_record(tmp_path / "a.json") == PLAIN


@pytest.mark.parametrize(
    "content",
    ["", "{", '{"schema_version": 2}', "[]", '{"other": 1}', "[" * 100_000, "1" * 10_000],
    ids=["empty", "truncated", "newer", "list", "foreign", "deep", "long"],
)
def test_a_truncated_or_foreign_record_is_moved_aside(tmp_path, content, caplog):
    path = record_path(tmp_path, "s", "abc")
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(StoreError, match="not a record"):
        read_record(path)
    assert find_record(tmp_path, "s", "abc") is None
    assert not path.exists()
    assert path.with_name("abc.json.damaged-0").read_text() == content
    assert "computed again" in caplog.text


def test_binary_garbage_and_folders_are_moved_aside(tmp_path, caplog):
    path = record_path(tmp_path, "s", "abc")
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(range(256)))
    assert stamp(path) is not None
    assert find_record(tmp_path, "s", "abc") is None
    path.mkdir()
    assert stamp(path) is not None
    assert find_record(tmp_path, "s", "abc") is None
    assert sorted(name.name for name in path.parent.iterdir()) == [
        "abc.json.damaged-0",
        "abc.json.damaged-1",
    ]
    assert stamp(path) is None
    write(path, PLAIN)
    assert find_record(tmp_path, "s", "abc")[1] == PLAIN


def test_a_record_that_may_not_be_read_is_moved_aside_and_other_errors_are_not_hidden(
    tmp_path, monkeypatch, caplog
):
    path = record_path(tmp_path, "s", "abc")
    write(path, PLAIN)

    def refuse(error):
        def read_text(self, *args, **options):
            raise error

        return read_text

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", refuse(OSError(errno.EIO, "the disk is broken")))
        with pytest.raises(OSError, match="broken"):
            find_record(tmp_path, "s", "abc")
        patch.setattr(Path, "read_text", refuse(PermissionError(errno.EACCES, "not yours")))
        assert [found for _, found in read_records(path.parent)] == []
        assert find_record(tmp_path, "s", "abc") is None
    assert "not yours" in caplog.text
    assert path.with_name("abc.json.damaged-0").exists()


def test_stamps_tell_computations_apart(tmp_path):
    path = tmp_path / "a.json"
    assert stamp(path) is None
    write(path, PLAIN)
    first = stamp(path)
    write(path, PLAIN)
    assert stamp(path) == first
    write(path, PLAIN.model_copy(update={"wall_seconds": 1.0}))
    assert stamp(path) not in (None, first)


def test_the_record_of_another_cell_is_not_taken(tmp_path):
    write(record_path(tmp_path, "s", "other"), PLAIN)
    assert find_record(tmp_path, "s", "other") is None


def test_records_are_read_in_order_and_damaged_ones_left_out(tmp_path):
    for name in ("b", "a"):
        write(tmp_path / f"{name}.json", PLAIN.model_copy(update={"cell_id": name}))
    (tmp_path / "c.json").write_text("{")
    assert [record.cell_id for _, record in read_records(tmp_path)] == ["a", "b"]


def test_a_copy_of_a_record_is_left_out(tmp_path, caplog):
    for name in ("abc", "abc (1)"):
        write(tmp_path / f"{name}.json", PLAIN)
    assert [path.stem for path, _ in read_records(tmp_path)] == ["abc"]
    assert "abc (1).json is the record of cell abc; left out" in caplog.text


def test_differences_name_every_place():
    one = {"a": 1, "b": [1, {"c": float("nan")}], "d": 3}
    other = {"a": 1, "b": [2, {"c": float("nan")}], "e": 3}
    assert differences(one, other) == [("b[0]", 1, 2), ("d", 3, None), ("e", None, 3)]
    assert differences([1], [1, 2]) == [("", [1], [1, 2])]


def test_times_do_not_count_in_a_comparison():
    later = PLAIN.model_copy(update={"wall_seconds": 9.0, "environment": {"threads": 3}})
    assert compare(PLAIN, later) == []
    assert compare(PLAIN, PLAIN.model_copy(update={"metrics": {"accuracy": 0.3}}))


def test_a_record_is_json_with_defined_fields(compute, home):
    """Every field of a record is defined in docs/records.md."""
    record = compute({"name": "fedavg", "rounds": 1, "epochs": 1})
    path = record_path(home, "test", record.cell_id)
    values = json.loads(path.read_text())
    text = (Path(__file__).parents[3] / "docs" / "records.md").read_text()
    for name in [
        *values,
        *(key for key in values["metrics"] if key != "models"),
        *values["ledger"],
    ]:
        assert f"`{name}`" in text, f"docs/records.md does not define {name}"
    assert len(values["partition"]["histogram"]) == 3
    assert values["environment"]["threads"] == 1
    assert values["peak_memory_bytes"] > 50e6
