"""Decoding in a process of its own, for files may come from anywhere.

Pillow, scipy and pyarrow decode in native code, which a damaged file can crash: then a child dies,
and the parent says over which file. The child is forked, so it costs milliseconds; what it makes
passes through the cache, or as bytes through a pipe, and never as a pickle.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import mmap
import os
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

from fedbench.errors import DataError, FedbenchError

#: Forking is safe where nothing but Python and the C library is at work in the child.
_FORKS = sys.platform == "linux"
_PATH_MAX = 4096
_DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG
_SAY, _ERROR, _RESULT = b"S", b"E", b"R"
#: In a child: memory that it shares with its parent.
_slate: mmap.mmap | None = None

Say = Callable[[str], None]


class CrashedError(DataError):
    """A decoder ended its process.

    Attributes:
        path: The file in hand, as ``at`` said last; None where it said nothing.
    """

    def __init__(self, path: Path | None, how: str) -> None:
        super().__init__(how)
        self.path = path


def at(path: Path) -> None:
    """Note which file is decoded next, for the error if that ends the process."""
    if _slate is not None:
        name = os.fsencode(path)[:_PATH_MAX]
        _slate[: len(name) + 1] = name + b"\0"


def apart(work: Callable[[Say], bytes | None], say: Say) -> bytes:
    """Do work in a child process, and return what it returns.

    Elsewhere than on Linux, where a fork may not be safe, it is done in this process.

    Args:
        work: Is given where to say what it does, as ``say`` may not be called in the child.
        say: Is told it, in this process.

    Raises:
        CrashedError: The child died of a signal.
        DataError: The work raised an error that is none of ours; its traceback is a note of it.
        FedbenchError: The work raised it.
    """
    if not _FORKS:
        return work(say) or b""
    slate = mmap.mmap(-1, _PATH_MAX + 1)
    ours, theirs = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # or the child would write it a second time
    with warnings.catch_warnings():
        # Threads of the parent are not in the child, and it takes none of the locks they may hold.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.close(ours)
        _work(work, theirs, slate)
    os.close(theirs)
    try:
        with os.fdopen(ours, "rb") as pipe:
            result = _listen(pipe, say)
    except BaseException:  # such as Ctrl-C
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(child, 0)
        name = slate[:].partition(b"\0")[0]
        slate.close()
    if result is None:
        raise CrashedError(Path(os.fsdecode(name)) if name else None, _how(status))
    return result


def _work(work: Callable[[Say], bytes | None], pipe: int, slate: mmap.mmap) -> NoReturn:
    """Work in the child; it ends here, without what a process does when it ends."""
    global _slate
    parent = os.getppid()
    try:
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        _slate = slate
        _quiet()
        _send(pipe, _RESULT, work(lambda text: _send(pipe, _SAY, text.encode())) or b"")
    except BaseException as error:
        trace = "".join(traceback.format_exception(error))
        about = {"kind": type(error).__name__, "text": str(error), "trace": trace}
        with suppress(OSError):
            _send(pipe, _ERROR, json.dumps(about).encode())
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(0)


def _quiet() -> None:
    """Let signals and crashes end the child at once, and leave no dump of its memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends the child
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)  # a pool of threads does not survive a fork


def _send(pipe: int, kind: bytes, content: bytes) -> None:
    data = memoryview(kind + len(content).to_bytes(8, "big") + content)
    while data:
        data = data[os.write(pipe, data) :]


def _listen(pipe: BinaryIO, say: Say) -> bytes | None:
    """Return the child's result; None where it ended without one.

    Raises:
        FedbenchError: The child's.
    """
    while head := pipe.read(9):
        kind, length = head[:1], int.from_bytes(head[1:], "big")
        content = pipe.read(length)
        if len(head) < 9 or len(content) < length:
            return None
        if kind == _RESULT:
            return content
        if kind == _ERROR:
            raise _error(json.loads(content))
        say(content.decode())
    return None


def _error(about: dict[str, str]) -> FedbenchError | KeyboardInterrupt:
    """Return a child's error: of its own class where that is one of ours."""
    if about["kind"] == KeyboardInterrupt.__name__:
        return KeyboardInterrupt(about["text"])
    classes = {FedbenchError.__name__: FedbenchError}
    for known in list(classes.values()):
        classes |= {each.__name__: each for each in _below(known)}
    ours = classes.get(about["kind"])
    if ours is not None:
        return ours(about["text"])
    error = DataError(f"the reader failed: {about['kind']}: {about['text']}; mend the reader")
    error.add_note(about["trace"])
    return error


def _below(known: type[FedbenchError]) -> list[type[FedbenchError]]:
    found = known.__subclasses__()
    return found + [each for one in found for each in _below(one)]


def _how(status: int) -> str:
    """Say how a child ended that gave no result."""
    if not os.WIFSIGNALED(status):
        return f"ended its decoder's process with {os.waitstatus_to_exitcode(status)}"
    name = signal.Signals(os.WTERMSIG(status)).name
    if name == "SIGKILL":
        return f"ended in {name} while it was decoded: the system does so where memory runs out"
    return f"crashes its decoder ({name}): it is damaged"
