"""Folders of images, walked to the end: what is taken, what is left out, what is empty.

Links are followed, to files and to folders, except into a folder that one is already inside of.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

#: Stands in a pattern for any number of folders.
_DEEP = "/**/"


@dataclass(frozen=True)
class Tree:
    """What a pattern finds.

    Attributes:
        files: What it takes, sorted.
        left_out: What lies there too and is not taken: other endings, hidden files and folders,
            broken links, links that lead back; sorted.
        empty: Folders of the pattern's first part, such as those of classes, in which nothing is
            taken; sorted.
    """

    files: tuple[Path, ...] = ()
    left_out: tuple[Path, ...] = ()
    empty: tuple[Path, ...] = ()


def find(folder: Path, pattern: str, suffixes: tuple[str, ...]) -> Tree:
    """Return the files that a pattern matches.

    Args:
        folder: Where to look.
        pattern: A glob pattern; one such as ``train/*/**/*`` takes whole trees, and only of these
            is it told what is left out.
        suffixes: File name endings that count, in lower case with the dot; empty counts all.

    Raises:
        OSError: A folder may not be listed, or a file not be looked at.
    """
    if not folder.is_dir():
        return Tree()
    if _DEEP not in pattern:
        found = _plain(folder, pattern)
        return Tree(tuple(sorted(path for path in found if _taken(path, folder, suffixes))))
    above, _ = pattern.split(_DEEP)
    files: list[Path] = []
    left_out: list[Path] = []
    empty: list[Path] = []
    for top in sorted(_plain(folder, above)):
        if top.name.startswith(".") or not top.is_dir():
            left_out.append(top)
            continue
        chain = _chain(folder, top)
        if _place(top) in chain:  # a link to a folder that it is in
            left_out.append(top)
            continue
        below = list(_below(top, chain))
        taken = [path for path in below if _taken(path, folder, suffixes)]
        files += taken
        left_out += sorted({*below} - {*taken})
        if not taken:
            empty.append(top)
    return Tree(tuple(sorted(files)), tuple(left_out), tuple(empty))


def _plain(folder: Path, pattern: str) -> Iterator[Path]:
    """Yield what may match a pattern, a step after the other.

    Not by ``Path.glob``, which passes over what it may not look into.
    """
    first, _, rest = pattern.partition("/")
    if set(first).isdisjoint("*?["):
        steps = [folder / first]
    else:
        with os.scandir(folder) as entries:
            steps = [folder / entry.name for entry in entries if fnmatchcase(entry.name, first)]
    for step in steps:
        if not rest:
            yield step
        elif step.is_dir():
            yield from _plain(step, rest)


def _taken(path: Path, folder: Path, suffixes: tuple[str, ...]) -> bool:
    return (
        (not suffixes or path.suffix.lower() in suffixes)
        and not any(step.startswith(".") for step in path.relative_to(folder).parts)
        and path.is_file()
    )


def _chain(folder: Path, top: Path) -> tuple[tuple[int, int], ...]:
    """Return what a folder and those between it and one below are known by on their disks."""
    steps = [folder, *(one for one in reversed(top.parents) if one.is_relative_to(folder))]
    return tuple(map(_place, steps))


def _place(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_dev, about.st_ino


def _below(folder: Path, inside: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Yield every file below a folder, and every folder that is not entered."""
    inside = (*inside, _place(folder))
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = Path(entry.path)
            if entry.is_dir() and not entry.name.startswith("."):
                if _place(path) in inside:
                    yield path
                else:
                    yield from _below(path, inside)
            else:
                yield path
