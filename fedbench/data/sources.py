"""Where a data set's files are: found, incomplete or missing, and what would help.

Looks at names, sizes and times only; nothing is opened and torch is not imported, so the command
line can show all data sets at once. ``load`` reads what is found here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from fedbench.data.specs import DATASETS, DatasetSpec, Layout
from fedbench.errors import DataError

#: Part of every cache key: raised when the cache file's own form changes.
CACHE_FORMAT = 1


@dataclass(frozen=True)
class SourceFile:
    """One file of a data set.

    Attributes:
        part: Which part of the layout it is, such as ``train``.
        path: Where it is.
        size: In bytes.
        mtime_ns: When it was changed: a file replaced by one of the same size is noticed.
    """

    part: str
    path: Path
    size: int
    mtime_ns: int


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
    """

    spec: DatasetSpec
    root: Path
    layout: Layout | None = None
    folder: Path | None = None
    files: tuple[SourceFile, ...] = ()
    missing: tuple[str, ...] = ()
    cached: bool = False

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
            state = f"{self.folder} lacks {', '.join(self.missing)}"
        else:
            state = f"no file of it is below {self.root} (set FEDBENCH_DATA to the data root)"
        return f"{self.name}: {state}\n{self.advice}"

    @property
    def advice(self) -> str:
        """The accepted layouts and the command that fetches the data; several lines."""
        accepted = "\n".join(f"  accepted: {words}" for words in self.spec.layouts)
        return f"{accepted}\n  to fetch: {self.spec.fetch.replace('{root}', str(self.root))}"

    @property
    def digest(self) -> str:
        """SHA-256 over the layout and the names and sizes of the files, wherever they lie."""
        base = self.folder or self.root
        names = [(file.path.relative_to(base).as_posix(), file.size) for file in self.files]
        text = json.dumps([self.layout.name if self.layout else "", names])
        return hashlib.sha256(text.encode()).hexdigest()

    def part(self, part: str) -> list[Path]:
        """Return the paths of one part's files, sorted by name."""
        return [file.path for file in self.files if file.part == part]

    def fault(self, path: Path, what: str) -> DataError:
        """Return the error for a damaged or foreign file: it names the file and what helps."""
        return DataError(
            f"{path}: {what}\n  put the right file in its place, or remove it and fetch "
            f"{self.name} again\n{self.advice}"
        )

    def cache_file(self, cache: Path, size: int | None = None) -> Path:
        """Return where the decoded images are or would be cached.

        The name holds a hash of the reader's version, the layout, the image size and the names,
        sizes and times of the files; of a plugin's data set, of the plugin's file as well.

        Args:
            cache: The cache's folder.
            size: Height and width that the settings ask for; None for the data set's own.
        """
        layout = self.layout.name if self.layout else ""
        base = self.folder or self.root
        names = [
            (file.part, file.path.relative_to(base).as_posix(), file.size, file.mtime_ns)
            for file in self.files
        ]
        pixels = self.spec.size if size is None else size
        parts = [CACHE_FORMAT, self.name, self.spec.version, layout, pixels, names]
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
        path: The folder that the settings give, absolute or below the root.
        cache: The cache's folder, to tell whether the decoded images are there.
        size: Image size in pixels that ``cached`` is about; None for the data set's own.

    Returns:
        The first layout that is there in full; else what is there of the fullest one.
    """
    base = root / path if path is not None else root
    best = Sources(spec, root)
    for layout in spec.accepts:
        for place in layout.places:
            candidate = _inspect(spec, root, layout, base / place)
            if candidate.found:
                known = cache is not None and candidate.cache_file(cache, size).is_file()
                return Sources(spec, root, layout, candidate.folder, candidate.files, cached=known)
            if candidate.files and (not best.files or len(candidate.missing) < len(best.missing)):
                best = candidate
    if path is not None and not best.files:
        return _absent_folder(spec, root, base)
    return best


def _inspect(spec: DatasetSpec, root: Path, layout: Layout, folder: Path) -> Sources:
    files: list[SourceFile] = []
    missing: list[str] = []
    for part, patterns in layout.files:
        matched = next(filter(None, (_match(folder, p, layout.suffixes) for p in patterns)), [])
        if not matched:
            missing.append(" or ".join(patterns))
        for path in matched:
            status = path.stat()
            files.append(SourceFile(part, path, status.st_size, status.st_mtime_ns))
    where = folder if layout.files else None
    return Sources(spec, root, layout, where, tuple(files), tuple(missing))


def _match(folder: Path, pattern: str, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files that a pattern matches, sorted; hidden ones do not count."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.glob(pattern)
        if (not suffixes or path.suffix.lower() in suffixes)
        and not any(step.startswith(".") for step in path.relative_to(folder).parts)
        and path.is_file()
    )


def _absent_folder(spec: DatasetSpec, root: Path, folder: Path) -> Sources:
    """Return the finding for a given `path` that holds nothing of the data set."""
    if not folder.is_dir():
        return Sources(spec, root, spec.accepts[0], folder, missing=("the folder itself",))
    return _inspect(spec, root, spec.accepts[0], folder)
