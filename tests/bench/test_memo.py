"""Kept answers: found again, and never when they could be wrong."""

import os
from importlib.metadata import EntryPoint, EntryPoints

import pytest

import fedbench
from fedbench.bench import memo as module
from fedbench.bench.memo import Memo

QUESTION, ANSWER = {"method": {"name": "local"}, "seed": 0}, {"cell_id": "0123"}


@pytest.fixture
def memo(tmp_path):
    return Memo(tmp_path)


def kept(folder):
    return sorted((folder / "cache" / "answers").rglob("*.json"))


def test_an_answer_is_found_again_for_its_question_alone(memo, tmp_path):
    assert memo.recall(QUESTION) is None
    memo.keep(QUESTION, ANSWER)
    assert Memo(tmp_path).recall(QUESTION) == ANSWER
    assert Memo(tmp_path).recall({**QUESTION, "seed": 1}) is None


def test_a_kept_answer_is_not_worked_out_again(memo):
    assert memo.answer(QUESTION, lambda: ANSWER) == ANSWER
    assert memo.answer(QUESTION, lambda: pytest.fail("asked again")) == ANSWER


@pytest.mark.parametrize("place", [0, 70, -1])
def test_one_flipped_bit_and_the_answer_is_worked_out_again(memo, tmp_path, place):
    memo.keep(QUESTION, ANSWER)
    (path,) = kept(tmp_path)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert memo.recall(QUESTION) is None
    memo.keep(QUESTION, ANSWER)
    assert memo.recall(QUESTION) == ANSWER


def test_an_answer_under_the_name_of_another_is_not_believed(memo, tmp_path):
    memo.keep(QUESTION, ANSWER)
    (first,) = kept(tmp_path)
    memo.keep("another", {"cell_id": "4567"})
    (other,) = set(kept(tmp_path)) - {first}
    other.write_bytes(first.read_bytes())
    assert memo.recall("another") is None


def test_what_is_no_text_or_no_file_is_no_answer(memo, tmp_path):
    memo.keep(QUESTION, ANSWER)
    (path,) = kept(tmp_path)
    path.write_bytes(b"\xff\xfe")
    assert memo.recall(QUESTION) is None
    path.unlink()
    path.mkdir()
    assert memo.recall(QUESTION) is None


def test_a_changed_source_file_makes_all_answers_old_and_the_next_one_deletes_them(
    memo, tmp_path, monkeypatch
):
    package = tmp_path / "package"
    (package / "methods").mkdir(parents=True)
    source = package / "methods" / "mine.py"
    for path in (package / "__init__.py", source):
        path.write_text("")
    monkeypatch.setattr(fedbench, "__file__", str(package / "__init__.py"))
    memo.keep(QUESTION, ANSWER)
    memo.keep("another", ANSWER)
    assert memo.recall(QUESTION) == ANSWER
    about = source.stat()
    os.utime(source, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    assert memo.recall(QUESTION) is None
    memo.keep(QUESTION, ANSWER)
    assert len(kept(tmp_path)) == 1


@pytest.mark.parametrize("group", ["fedbench.methods", "fedbench.pictures"])
def test_where_third_parties_have_a_say_nothing_is_kept_or_found(
    memo, tmp_path, monkeypatch, group
):
    memo.keep(QUESTION, ANSWER)
    assert Memo(tmp_path, ["mine.py"]).recall(QUESTION) is None
    point = EntryPoint("mine", "mine:Mine", group)
    monkeypatch.setattr(module, "entry_points", lambda: EntryPoints([point]))
    stranger = Memo(tmp_path)
    assert stranger.recall(QUESTION) is None
    stranger.keep("another", ANSWER)
    assert len(kept(tmp_path)) == 1


def test_looking_makes_no_home(tmp_path):
    Memo(tmp_path / "runs").keep(QUESTION, ANSWER)
    assert not (tmp_path / "runs").exists()


def test_a_disk_that_takes_no_more_is_no_fault(memo, tmp_path):
    (tmp_path / "cache").write_text("a file in the folder's place")
    memo.keep(QUESTION, ANSWER)
    assert memo.recall(QUESTION) is None
