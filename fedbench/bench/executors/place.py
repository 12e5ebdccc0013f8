"""A folder of this process alone for Ray's sessions: private, short enough, gone afterwards."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from fedbench.errors import SettingsError

_NAME = re.compile(r"fedb-(\d+)-.+")
#: Longest folder: the paths of sockets below it add 65 characters and have to stay below 108.
_LONGEST = 42
#: Seconds after which the folder of a process that is gone is taken away.
_OLD = 3600.0


def session_folder() -> Path:
    """Make a folder for a cluster on this machine, below ``RAY_TMPDIR`` or ``/tmp``.

    Ray opens its own folder to everybody and writes its token there; the folder around it is for
    this user alone. What processes that were killed have left there is taken away.

    Returns:
        A folder that does not exist yet, in a new private one.

    Raises:
        SettingsError: The place is missing, may not be written, or its path is too long.
    """
    place = Path(os.environ.get("RAY_TMPDIR", "/tmp"))
    try:
        _sweep(place)
        outer = tempfile.mkdtemp(prefix=f"fedb-{os.getpid()}-", dir=place)
    except OSError as error:
        raise SettingsError(
            f"RAY_TMPDIR is {str(place)!r}, where Ray's session cannot be kept: {error.strerror}; "
            "set it to a folder that you may write, such as /tmp"
        ) from error
    folder = Path(outer) / "r"
    if len(os.fsencode(folder)) > _LONGEST:
        Path(outer).rmdir()
        raise SettingsError(
            f"RAY_TMPDIR is {str(place)!r}, which makes a path of {len(os.fsencode(folder))} "
            f"bytes, and sockets leave {_LONGEST}; set it to a shorter one, such as /tmp"
        )
    return folder


def _sweep(place: Path) -> None:
    """Take away the folders of this user's processes that are gone."""
    for path in place.glob("fedb-*"):
        match = _NAME.fullmatch(path.name)
        with suppress(OSError):
            about = path.lstat()
            ours = about.st_uid == os.getuid() and time.time() - about.st_mtime > _OLD
            if match and ours and not Path(f"/proc/{match[1]}").exists():
                shutil.rmtree(path)
