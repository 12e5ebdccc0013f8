"""Where a data set's files are: found, incomplete or missing, and what would help.

Torch is not imported, so the command line can show all data sets at once. Files are opened to be
hashed, once (see ``hashes``); ``load`` reads what is found here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from fedbench.data.hashes import file_hashes
from fedbench.data.specs import DATASETS, DatasetSpec, Layout
from fedbench.data.tree import Tree, find
from fedbench.errors import DataError
from fedbench.registry import imported

#: Part of every cache key: raised when the cache file's own form changes.
CACHE_FORMAT = 2
#: Of so many files that are left out a note names each.
_NAMED = 5


@dataclass(frozen=True)
class SourceFile:
    """One file of a data set.

    Attributes:
        part: Which part of the layout it is, such as ``train``.
        path: Where it is.
        size: In bytes.
    """

    part: str
    path: Path
    size: int


@dataclass(frozen=True)
class Sources:
    """What was found of one data set.

    Attributes:
        spec: The data set.
        root: The data root.
        layout: The layout that is there in full; else the one that is there in part, or None.
        folder: Where it is, or None.
        files: The files that were found, in order of their parts and names.
        missing: The parts of ``layout`` that no file matches, as patterns; empty when found.
        cached: Whether the decoded images are in the cache that was asked about.
        left_out: What lies in the folders of the files and is not read.
        empty: Folders, such as those of classes, that hold no file of the data set.
    """

    spec: DatasetSpec
    root: Path
    layout: Layout | None = None
    folder: Path | None = None
    files: tuple[SourceFile, ...] = ()
    missing: tuple[str, ...] = ()
    cached: bool = False
    left_out: tuple[Path, ...] = ()
    empty: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.spec.name

    @property
    def found(self) -> bool:
        """Whether all files of one layout are there."""
        return self.layout is not None and not self.missing

    @property
    def help(self) -> str:
        """What was found, what is accepted, and the command that fetches it; several lines."""
        if self.found:
            return f"{self.name}: found in {self.folder or 'fedbench itself'}"
        if self.folder is not None:
            state = f"{self.folder.absolute()} {self._lacking}"
        else:
            root = self.root.absolute()
            absent = "" if root.is_dir() else ", which is no folder"
            state = f"no file of it is below {root}{absent} (set FEDBENCH_DATA to the data root)"
        return f"{self.name}: {state}\n{self.advice}"

    @property
    def _lacking(self) -> str:
        """What is wrong with the folder, in words that follow its name."""
        if self.folder is not None and not self.folder.exists():
            return "is not there"
        if self.folder is not None and self.folder.is_file():
            return "is a file of another kind (an archive has to be unpacked)"
        if self._suffixes and self.folder is not None and not self.files:
            return "has no image in a folder for its class"
        return f"lacks {', '.join(self.missing)}"

    @property
    def advice(self) -> str:
        """The accepted layouts and the command that fetches the data; several lines."""
        accepted = "\n".join(f"  accepted: {words}" for words in self.spec.layouts)
        fetch = self.spec.fetch.replace("{root}", str(self.root.absolute()))
        return f"{accepted}\n  to fetch: {fetch}"

    def digest(self, cache: Path) -> str:
        """Return the SHA-256 over the layout and the names and content of the files.

        Where they lie makes no difference, nor when they were written. A file is read once; what
        its content hashes to is kept below the cache (see ``hashes.file_hashes``).

        Args:
            cache: The cache's folder.

        Raises:
            DataError: A file cannot be read.
        """
        base = self.folder or self.root
        place = hashlib.sha256(str(base.absolute()).encode("utf-8", "surrogateescape"))
        store = cache / "data" / f"{self.name}-{place.hexdigest()[:16]}.hashes"
        hashes = file_hashes([file.path for file in self.files], store)
        names = [
            (file.part, file.path.relative_to(base).as_posix(), content)
            for file, content in zip(self.files, hashes, strict=True)
        ]
        empty = [path.relative_to(base).as_posix() for path in self.empty]
        text = json.dumps([self.layout.name if self.layout else "", names, *empty])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of what is not read; one line each."""
        if not self.left_out:
            return ()
        base = self.folder or self.root
        named = [repr(path.relative_to(base).as_posix()) for path in self.left_out[:_NAMED]]
        more = len(self.left_out) - len(named)
        rest = f" and {more:,} more" if more else ""
        count = "1 entry is" if len(self.left_out) == 1 else f"{len(self.left_out):,} entries are"
        return (
            f"{count} left out (hidden, of another kind than {', '.join(self._suffixes)}, a broken "
            f"link or a link that leads back): {', '.join(named)}{rest}",
        )

    def check(self) -> None:
        """Refuse a folder of a class that holds no image: it is there for some reason.

        Raises:
            DataError: There is such a folder.
        """
        if self.empty:
            base = self.folder or self.root
            names = ", ".join(repr(path.relative_to(base).as_posix()) for path in self.empty)
            raise DataError(
                f"{base}: no image in {names}; read are {', '.join(self._suffixes)}. Put images "
                "there, or take the folder away"
            )

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return self.layout.suffixes if self.layout else ()

    def look(self) -> None:
        """Refuse what a look at files that are there tells, without torch (see ``Layout.look``).

        Raises:
            DataError: With the first fault.
        """
        self.check()
        for file in self.files:
            if not file.size:
                raise self.fault(file.path, "is empty")
            if not os.access(file.path, os.R_OK):
                raise self.fault(file.path, "cannot be read: let this user read it")
        if self.layout is not None and self.layout.look is not None:
            imported(self.layout.look)(self)

    def part(self, part: str) -> list[Path]:
        """Return the paths of one part's files, sorted by name."""
        return [file.path for file in self.files if file.part == part]

    def fault(self, path: Path, what: str) -> DataError:
        """Return the error for a damaged or foreign file: it names the file and what helps."""
        if self.spec.takes_path:  # nobody can fetch it again
            return DataError(f"{path}: {what}\n  mend what is named, or take it away")
        return DataError(
            f"{path}: {what}\n  put the right file in its place, or remove it and fetch "
            f"{self.name} again\n{self.advice}"
        )

    def cache_file(self, cache: Path, size: int | None = None) -> Path:
        """Return where the decoded images are or would be cached.

        The name holds a hash of the reader's version, the image size, and the layout, names and
        content of the files; of a plugin's data set, of the plugin's file as well.

        Args:
            cache: The cache's folder.
            size: Height and width that the settings ask for; None for the data set's own.

        Raises:
            DataError: A file cannot be read.
        """
        pixels = self.spec.size if size is None else size
        parts = [CACHE_FORMAT, self.name, self.spec.version, pixels, self.digest(cache)]
        if plugins := DATASETS.plugins(self.name):
            parts.append(plugins)
        key = json.dumps(parts)
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        return cache / "data" / f"{self.name}-{pixels}px-{digest}.safetensors"


def locate(
    spec: DatasetSpec,
    root: Path,
    path: str | None = None,
    *,
    cache: Path | None = None,
    size: int | None = None,
) -> Sources:
    """Look for a data set's files.

    Args:
        spec: The data set.
        root: The data root.
        path: The folder, or a table's file, that the settings give: absolute or below the root.
        cache: The cache's folder, to tell whether the decoded images are there.
        size: Image size in pixels that ``cached`` is about; None for the data set's own.

    Returns:
        The first layout that is there in full; else what is there of the fullest one.

    Raises:
        DataError: The system lets nobody look into a folder or at a file.
    """
    try:
        return _locate(spec, root, path, cache, size)
    except OSError as error:
        raise DataError(
            f"{spec.name}: cannot look at {error.filename or root}: {error.strerror or error}; let "
            "this user read it, or set FEDBENCH_DATA to another data root"
        ) from error


def _locate(
    spec: DatasetSpec, root: Path, path: str | None, cache: Path | None, size: int | None
) -> Sources:
    base = root / path if path is not None else root
    best = Sources(spec, root)
    for layout in spec.accepts:
        for place in layout.places:
            if any((base / place / name).exists() for name in layout.unless):
                continue
            candidate = _inspect(spec, root, layout, base / place)
            if candidate.found:
                known = cache is not None and _is_cached(candidate, cache, size)
                return replace(candidate, cached=known)
            if candidate.files and (not best.files or len(candidate.missing) < len(best.missing)):
                best = candidate
    if path is not None and not best.files:
        return _absent_folder(spec, root, base)
    return best


def _is_cached(sources: Sources, cache: Path, size: int | None) -> bool:
    """Return whether the decoded images are there; without a cache no file is hashed to know."""
    return (cache / "data").is_dir() and sources.cache_file(cache, size).is_file()


def _inspect(spec: DatasetSpec, root: Path, layout: Layout, folder: Path) -> Sources:
    files: list[SourceFile] = []
    missing: list[str] = []
    left_out: list[Path] = []
    empty: list[Path] = []
    for part, patterns in layout.parts:
        trees = _trees(folder, patterns, layout.suffixes)
        tree = next((tree for tree in trees if tree.files), Tree())
        if not tree.files:
            missing.append(" or ".join(patterns))
        files += [SourceFile(part, path, path.stat().st_size) for path in tree.files]
        left_out += tree.left_out
        empty += tree.empty
    where = folder if layout.parts else None
    if folder.is_file():
        where = folder.parent
    return Sources(
        spec,
        root,
        layout,
        where,
        tuple(files),
        tuple(missing),
        left_out=tuple(left_out),
        empty=tuple(empty),
    )


def _trees(folder: Path, patterns: tuple[str, ...], suffixes: tuple[str, ...]) -> Iterator[Tree]:
    """Yield what each pattern finds in a folder, or in place of it a file that one fits."""
    if not folder.is_file():
        yield from (find(folder, pattern, suffixes) for pattern in patterns)
    elif any(fnmatchcase(folder.name, pattern) for pattern in patterns):
        yield Tree((folder,))


def _absent_folder(spec: DatasetSpec, root: Path, folder: Path) -> Sources:
    """Return the finding for a given `path` that holds nothing of the data set."""
    if not folder.is_dir():
        return Sources(spec, root, spec.accepts[0], folder, missing=("the folder itself",))
    return _inspect(spec, root, spec.accepts[0], folder)
