"""Answers that follow from fedbench's own files alone, kept so that asking again imports no torch.

Methods are classes in files that import torch, which takes seconds. What they say of themselves,
and the cell id that they give to some settings, can change only if a file of fedbench changes. So
an answer is kept under a name that hashes the question, the size and time of every source file (by
which Python itself knows whether its compiled files are fresh), and the versions of Python and
pydantic. It is never needed: a missing, foreign or damaged answer is worked out again, and deleting
``cache/answers`` costs time and nothing else. Where third parties have a say there is no memo.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pydantic

import fedbench
from fedbench.errors import UnwritableError
from fedbench.files import write_atomic
from fedbench.registry import GROUPS

#: A JSON object.
Answer = dict[str, Any]


class Memo:
    """The answers that are kept below a home.

    Args:
        home: The folder of all results. Nothing is kept where there is none yet: looking at what
            there is makes no folders.
        plugins: What the user brings; with any of it nothing is kept and nothing found.
    """

    def __init__(self, home: Path, plugins: list[str] | None = None) -> None:
        self._home = home
        self._ours = not plugins and not any(
            group.startswith(GROUPS) for group in entry_points().groups
        )

    def recall(self, question: object) -> Answer | None:
        """Return what was answered to a question, which is any JSON value; None if nothing was."""
        if not self._ours:
            return None
        path = self._path(question)
        try:
            digest, _, text = path.read_text(encoding="utf-8").partition("\n")
        except (OSError, ValueError):
            return None
        answer: Answer | None = json.loads(text) if digest == _digest(path.name, text) else None
        return answer

    def keep(self, question: object, answer: Answer) -> None:
        """Keep the answer to a question. A disk that takes no more is no fault."""
        if not self._ours or not self._home.is_dir():
            return
        path, text = self._path(question), json.dumps(answer)
        if not path.parent.is_dir():  # nobody asks for answers of other sources again
            shutil.rmtree(path.parent.parent, ignore_errors=True)
        with suppress(UnwritableError):
            write_atomic(path, f"{_digest(path.name, text)}\n{text}")

    def answer(self, question: object, work_out: Callable[[], Answer]) -> Answer:
        """Return the answer to a question, worked out unless it is kept."""
        found = self.recall(question)
        if found is None:
            found = work_out()
            self.keep(question, found)
        return found

    def _path(self, question: object) -> Path:
        text = json.dumps(question, sort_keys=True, default=str)
        return self._home / "cache" / "answers" / _sources()[:16] / f"{_digest(text)}.json"


def _sources() -> str:
    """Return a digest of what answers follow from."""
    folder = Path(fedbench.__file__).parent
    return _digest(sys.version, pydantic.VERSION, *_stamps(str(folder)))


def _stamps(folder: str) -> Iterator[str]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _stamps(entry.path)
        elif entry.name.endswith(".py"):
            about = entry.stat()
            yield f"{entry.path} {about.st_size} {about.st_mtime_ns}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
