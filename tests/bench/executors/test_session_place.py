"""Where a Ray cluster of this machine keeps its session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fedbench.bench.executors.place import session_folder
from fedbench.errors import SettingsError

GONE = 2**22 + 1  # above what Linux gives


@pytest.fixture
def place(monkeypatch):
    import tempfile

    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


def test_it_is_private(place):
    folder = session_folder()
    assert not folder.exists()
    assert folder.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("where", ["/tmp/absent", "/proc"])
def test_a_place_that_cannot_be_used_is_named(monkeypatch, where):
    monkeypatch.setenv("RAY_TMPDIR", where)
    with pytest.raises(SettingsError, match=f"RAY_TMPDIR is '{where}'"):
        session_folder()


def test_a_place_too_long_for_sockets_is_named(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 40)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    with pytest.raises(SettingsError, match="sockets leave 42; set it to a shorter one"):
        session_folder()
    assert not list(long.iterdir())


def test_what_killed_processes_left_is_taken_away_and_nothing_else(place):
    old = 10**9
    for name, age in (
        (f"fedb-{GONE}-dead", old),
        (f"fedb-{GONE}-young", None),
        (f"fedb-{os.getpid()}-alive", old),
        ("fedb-notes", old),
    ):
        path = place / name
        path.mkdir()
        if age:
            os.utime(path, (age, age))
    made = session_folder().parent.name
    left = {f"fedb-{GONE}-young", f"fedb-{os.getpid()}-alive", "fedb-notes", made}
    assert {path.name for path in place.iterdir()} == left


def test_a_long_tmpdir_is_no_place_of_rays(monkeypatch, tmp_path):
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    folder = session_folder()
    folder.parent.rmdir()
    assert folder.parent.parent == Path("/tmp")


def test_a_tmpdir_too_long_for_the_workers_socket_is_named(monkeypatch):
    """As the forkserver meets it: its socket lies there, and 107 bytes are all that it may have."""
    from fedbench.bench.executors import local

    def ensure_running():
        raise OSError("AF_UNIX path too long")

    monkeypatch.setattr(local.forkserver, "ensure_running", ensure_running)
    monkeypatch.setattr("tempfile.tempdir", "/tmp/long")
    words = (
        r"^no socket for worker processes in '/tmp/long' \(AF_UNIX path too long\); set TMPDIR to"
    )
    with pytest.raises(SettingsError, match=words):
        local._start_server()
