"""Locks of the file system: who gets them, what death does to them, and where there is no flock."""

import errno
import fcntl
import multiprocessing
import os
import signal
import time

import pytest

from fedbench import files
from fedbench.errors import UnwritableError
from fedbench.files import Lock


@pytest.fixture(params=["flock", "ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def kernel(request, monkeypatch):
    """Have a file system with flock, or without it in one of the ways in which systems say so."""
    if request.param != "flock":

        def refuse(*_):
            raise OSError(getattr(errno, request.param), "not here")

        monkeypatch.setattr(fcntl, "flock", refuse)
    return request.param


def _hold(path, pipe):
    lock = Lock(path)
    lock.acquire()
    pipe.send("held")
    time.sleep(60)


@pytest.fixture
def holder(tmp_path):
    """Start a process that holds a lock, and return the lock's path and the process."""
    path = tmp_path / "deep" / "x.lock"
    near, far = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_hold, args=(path, far))
    process.start()
    assert near.poll(20)
    yield path, process
    process.kill()
    process.join()


def test_one_at_a_time_and_free_when_the_holder_is_killed(kernel, holder):
    path, process = holder
    lock = Lock(path)
    assert not lock.acquire(wait=False)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    start = time.monotonic()
    assert lock.acquire()
    assert time.monotonic() - start < 5
    assert not Lock(path).acquire(wait=False)
    lock.release()
    with Lock(path).held():
        assert not Lock(path).acquire(wait=False)
    assert Lock(path).acquire(wait=False)


def test_another_machines_lease_is_taken_over_when_nobody_refreshes_it(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "LEASE", 1.0)

    def refuse(*_):
        raise OSError(errno.ENOLCK, "not here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / "x.lock"
    with Lock(path).held():
        marker = (tmp_path / "x.lock.lease").read_text()
    name = os.uname().nodename
    assert name in marker
    (tmp_path / "x.lock.lease").write_text(marker.replace(name, "elsewhere"))
    lock, start = Lock(path), time.monotonic()
    assert not lock.acquire(wait=False)
    while not lock.acquire(wait=False):
        assert time.monotonic() - start < 20
        time.sleep(0.05)
    assert time.monotonic() - start >= 0.9


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "locks").touch()
    with pytest.raises(UnwritableError, match=r"cannot write .*free the disk or set FEDBENCH_HOME"):
        Lock(tmp_path / "locks" / "x.lock").acquire()


def test_other_errors_of_a_lock_are_not_taken_for_a_missing_flock(monkeypatch, tmp_path):
    def refuse(*_):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UnwritableError, match="broken"):
        Lock(tmp_path / "x.lock").acquire()
