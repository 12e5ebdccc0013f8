"""Pack what has to travel to a bare machine with a GPU: wheels that it lacks, and data.

    scripts/gpu/prepare                       # into build/gpu/1, build/gpu/2, ...
    scripts/gpu/prepare --limit 500 --no-ray  # MiB of a call: the checkout and one load

Wheels are of the versions in constraints.txt, for Python 3.12 on Linux. Data are the files that
scripts/gpu/paper.csv names, bit by bit, so their pixels are those of the data sets.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from needs import ROOT, name_of, requirements
from pack import Manifest, pack, tree_digest
from parts import TABLE, read_table

from fedbench.bench.cells.lookup import data_sources
from fedbench.data.settings import Data
from fedbench.data.specs import DATASETS
from fedbench.files import data_root

WHEELS = ROOT / "build" / "wheels"
_WITHOUT_BOARDS = (
    "git sparse-checkout set --no-cone '/*' '!/leaderboards/*/' '/leaderboards/*/records/' "
    "'/leaderboards/published/'"
)
PYTHON, PLATFORM = "3.12", "x86_64-manylinux_2_28"
#: Ray itself, without its dashboard: sweeps do not use it.
RAY = ("ray>=2.40",)
_MIB = 1 << 20


def resolve(wanted: Iterable[str]) -> str:
    """Return uv's resolution for the other machine: pins, each with who asks for it.

    Raises:
        CalledProcessError: Something cannot be had.
    """
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    return subprocess.run(
        [uv, "pip", "compile", "-", "--constraint", str(ROOT / "constraints.txt"), "--quiet",
         "--python-version", PYTHON, "--python-platform", PLATFORM, "--no-header"],
        input="\n".join(wanted), check=True, capture_output=True, text=True, cwd=ROOT,
    ).stdout  # fmt: skip


def askers(resolution: str) -> dict[str, tuple[str, set[str]]]:
    """Read a resolution.

    Args:
        resolution: Pins, each followed by ``# via`` and names, on that line or on the next ones.

    Returns:
        For each package its pin and the packages that ask for it, besides us.
    """
    found: dict[str, tuple[str, set[str]]] = {}
    name = ""
    for line in resolution.splitlines():
        if line and not line.startswith((" ", "#")):
            pin = line.partition(";")[0].strip()
            name = name_of(pin)
            found[name] = pin, set()
            continue
        word = line.strip().lstrip("#").strip().removeprefix("via").strip()
        if word and not word.startswith("-"):  # our own list, or the constraints
            found[name][1].add(name_of(word))
    return found


def needed(
    packages: Mapping[str, tuple[str, set[str]]], wanted: Iterable[str], installed: set[str]
) -> list[str]:
    """Return the pins of what is not there, and not asked for by what is there alone.

    Args:
        packages: As ``askers`` returns them.
        wanted: Requirements of our own.
        installed: Names of what is there.
    """
    ours = {name_of(text) for text in wanted}
    kept: set[str] = set()
    while more := {
        name
        for name, (_, by) in packages.items()
        if name not in installed | kept and (name in ours or by & kept)
    }:
        kept |= more
    return sorted(packages[name][0] for name in kept)


def download(pins: Iterable[str], folder: Path) -> list[Path]:
    """Return the wheels of some pins, fetched unless they are there.

    Raises:
        CalledProcessError: A wheel cannot be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 26, 24, 17, 12, 5)]
    places = [
        word for name in [*platforms, "manylinux2014_x86_64"] for word in ("--platform", name)
    ]
    command = [
        sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check",
        "--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON,
        *places, "--dest", str(folder),
    ]  # fmt: skip
    patterns = {pin: _pattern(pin) for pin in pins}
    absent = [pin for pin, pattern in patterns.items() if _found(folder, pattern) is None]
    if absent:
        subprocess.run([*command, *absent], check=True)
    wheels = []
    for pin, pattern in patterns.items():
        wheel = _found(folder, pattern)
        if wheel is None:
            raise SystemExit(f"{pin} was downloaded, but {folder} has no {pattern}")
        wheels.append(wheel)
    return wheels


def _pattern(pin: str) -> str:
    """Return the form of a pin's file name."""
    name, _, version = pin.partition("==")
    return f"{name.partition('[')[0].replace('-', '_')}-{version}-*.whl"


def _found(folder: Path, pattern: str) -> Path | None:
    """Return a wheel whose name has this form, upper and lower case and dots aside."""
    form = re.compile(re.escape(pattern).replace(r"\*", ".*").replace("_", "[-_.]"), re.IGNORECASE)
    return next((path for path in sorted(folder.iterdir()) if form.fullmatch(path.name)), None)


def data_files(names: Iterable[str], root: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield what the table's cells read.

    Args:
        names: Data sets, or files below the data root.
        root: The data root.

    Raises:
        SystemExit: Something is not there.
    """
    for name in dict.fromkeys(names):
        if name in DATASETS.names():
            sources = data_sources(Data(name=name), root)
            if not sources.found:
                raise SystemExit(sources.help)
            files = [file.path for file in sources.files]
        else:
            files = [root / name]
        for path in files:
            if not path.is_file():
                raise SystemExit(f"{path} is not there; set FEDBENCH_DATA, or say --no-data")
            yield "data", path.relative_to(root).as_posix(), path


def commit_of(folder: Path) -> str | None:
    """Return the commit of a checkout, or None where the package has changes."""
    git = ["git", "-C", str(folder)]
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", "fedbench"], check=True, capture_output=True
    ).stdout
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return None if changed else head.stdout.strip()


def tree_bytes(folder: Path) -> int:
    """Return the size of what travels by itself: files that git does not ignore."""
    listed = subprocess.run(
        ["git", "-C", str(folder), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    places = [folder / name for name in listed.split("\0") if name]
    return sum(place.stat().st_size for place in places if place.is_file())


def installed_names(path: Path) -> set[str]:
    """Return the packages of a list: one a line, with or without versions and remarks."""
    lines = (line.partition("#")[0] for line in path.read_text().splitlines())
    return {name_of(line) for line in lines if line.strip()}


def summary(manifest: Manifest) -> Iterator[str]:
    """Yield a line for each load: its size, and which groups are whole once it has arrived."""
    last: dict[str, int] = {}
    for item in manifest.items:
        ends = [piece.load for piece in item.pieces]
        last[item.group] = max([last.get(item.group, 1), *ends])
    sizes: dict[int, int] = {}
    for piece in (piece for item in manifest.items for piece in item.pieces):
        sizes[piece.load] = sizes.get(piece.load, 0) + piece.size
    for load, size in sorted(sizes.items()):
        whole = [group for group, end in last.items() if end == load]
        end = f", with which {' and '.join(whole)} are whole" if whole else ""
        yield f"{load}: {size / _MIB:.1f} MiB{end}"


def main() -> None:
    """Pack, and say what to carry."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu")
    parser.add_argument("--limit", type=float, default=64.0, help="MiB that a call may carry")
    parser.add_argument("--installed", type=Path, default=Path(__file__).parent / "installed.txt")
    parser.add_argument("--no-ray", action="store_true", help="leave Ray out (70 MiB)")
    parser.add_argument("--no-data", action="store_true", help="leave the data out")
    options = parser.parse_args()
    installed = installed_names(options.installed)
    wanted = requirements()
    base = needed(askers(resolve(wanted)), wanted, installed)
    files = [("wheels", path.name, path) for path in download(base, WHEELS)]
    if not options.no_ray:
        wanted += RAY
        every = needed(askers(resolve(wanted)), wanted, installed)
        beyond = [pin for pin in every if pin not in base]
        files += [("ray", path.name, path) for path in download(beyond, WHEELS)]
    if not options.no_data:
        names = [name for line in read_table(TABLE) for name in line.data]
        files += data_files(names, data_root())
    room = int(options.limit * _MIB) - tree_bytes(ROOT) - _MIB  # one for the manifest and names
    if room < _MIB:
        raise SystemExit(
            f"--limit {options.limit:g} leaves no room beside the checkout; raise it, or leave the "
            f"published boards out of the checkout for now: {_WITHOUT_BOARDS}"
        )
    commit = commit_of(ROOT)
    facts = {"commit": commit, "code": tree_digest(ROOT / "fedbench"), "python": PYTHON}
    manifest = pack(files, options.out, limit=room, facts=facts)
    for line in summary(manifest):
        print(f"{options.out}/{line}")
    if commit is None:
        print("fedbench has changes that are not committed: records will name no commit")


if __name__ == "__main__":
    main()
