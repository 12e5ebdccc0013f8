"""Plugin files by their digests: records name the digests, and who cites a record has the files.

No plugin is imported here. Code is run where a command line or a suite names it, never because a
record does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

#: Folder of a published board that has the plugin files of its records.
PLUGINS = "plugins"


def digests_of(versions: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of every plugin file that a cell used anything of, by what it is.

    Args:
        versions: Of a record.
    """
    own = {"method": versions["plugin"]} if "plugin" in versions else {}
    return {**own, **versions.get("plugins", {}), **versions.get("shared_plugins", {})}


def files_of(wanted: Iterable[str], candidates: Iterable[Path]) -> dict[str, Path]:
    """Return the files whose content has a digest that is wanted, by digest."""
    wanted, found = set(wanted), dict[str, Path]()
    for path in candidates:
        if path.suffix == ".py" and path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if digest in wanted:
                found.setdefault(digest, path)
    return found


def beside(board: Path) -> list[Path]:
    """Return the plugin files that stand in a board's folder."""
    return sorted((board / PLUGINS).glob("*.py"))


def file_names(files: Mapping[str, Path]) -> dict[str, str]:
    """Return what to call files in one folder, by digest: their own names, apart where need be."""
    names: dict[str, str] = {}
    for digest, path in sorted(files.items()):
        taken = path.name in names.values()
        names[digest] = f"{path.stem}-{digest[:8]}.py" if taken else path.name
    return names
