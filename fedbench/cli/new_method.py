"""`fedbench new-method`: the files that a method of one's own begins with, which run at once."""

from __future__ import annotations

import keyword
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from fedbench.bench.suites.located import read_value
from fedbench.errors import SettingsError
from fedbench.files import published_boards, write_atomic
from fedbench.methods import METHODS
from fedbench.session.console import stdout

#: What stands for a method's name, and how long it may be.
_NAME, _LONGEST = re.compile(r"[a-z][a-z0-9_]*[a-z0-9]"), 40
_RULE = (
    f"a name has 2 to {_LONGEST} small letters, digits and underscores and begins with a letter, "
    "such as fed_median"
)
#: Names of classes that the method's file imports.
_IMPORTED = {
    "Cell",
    "Client",
    "Course",
    "Field",
    "Iterable",
    "Message",
    "Method",
    "Server",
    "Upload",
}
#: The board whose settings the suite has.
_BOARD = "digits"
#: What stands in each file.
_WORDS = {
    "method.py": "the method: runs as it stands, for you to change",
    "test.py": "the properties that every method passes",
    "suite.yaml": "a suite: beside controls on digits",
    "page.md": "its page: what it does, settings, deviations, results, pitfalls",
}


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command("new-method")(new_method)


def new_method(
    name: Annotated[str, typer.Argument(help="Such as fed_median.")],
    into: Annotated[
        Path | None,
        typer.Option(
            help="A folder for all files; a folder of the method's name here by default, or the "
            "places of built-in methods inside a checkout of fedbench."
        ),
    ] = None,
) -> None:
    """Write a method of your own with its test, a suite and a page; all of it runs at once.

    Nothing is overwritten.

    Example: fedbench new-method fed_median --into fed_median
    """
    _check_name(name)
    places = _places(name, into)
    if taken := [str(path.resolve()) for path in places.files.values() if path.exists()]:
        raise SettingsError(
            f"{', '.join(taken)} would be overwritten; take another name or another --into, or "
            "move what is there away"
        )
    _check_free(name)
    for skeleton, path in places.files.items():
        write_atomic(path, _rendered(skeleton, name, places))
    _say(name, places)


@dataclass(frozen=True)
class _Places:
    """Where the files go.

    Attributes:
        files: By skeleton.
        built_in: Whether they are those of a built-in method, in a checkout.
    """

    files: Mapping[str, Path]
    built_in: bool

    @property
    def run(self) -> str:
        """The command that runs the method."""
        plugin = "" if self.built_in else f"--plugin {_quoted(self.files['method.py'])} "
        name = self.files["method.py"].stem
        return f"fedbench run {plugin}--dataset digits --method {name} --beta 0.1"


def _check_name(name: str) -> None:
    """Refuse what no method can be called.

    Raises:
        SettingsError: With the rule.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise SettingsError(f"{name!r} cannot be a method's name: {_RULE}")
    if read_value(name) != name:
        raise SettingsError(f"{name!r} means {read_value(name)} in YAML; take another: my_{name}")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise SettingsError(f"{name!r} is a word of Python's own; take another, such as my_{name}")


def _check_free(name: str) -> None:
    """Refuse the name of a method that there is, and of a module that its file would hide.

    Raises:
        SettingsError: With the rule.
    """
    if name in METHODS.names():
        raise SettingsError(
            f"there is a method {name!r} already; take another name, such as my_{name}"
        )
    spec = find_spec(name)
    if spec is not None and spec.origin is not None:
        raise SettingsError(
            f"{name!r} is the name of a Python module, which {name}.py would hide from its test; "
            f"take another, such as my_{name}"
        )


def _places(name: str, into: Path | None) -> _Places:
    here = Path()
    checkout = all((here / place).is_dir() for place in ("fedbench/methods", "tests/methods"))
    if into is None and checkout:
        files = {
            "method.py": here / "fedbench" / "methods" / f"{name}.py",
            "test.py": here / "tests" / "methods" / f"test_{name}.py",
            "suite.yaml": here / "benchmarks" / f"{name}.yaml",
            "page.md": here / "docs" / "methods" / f"{name}.md",
        }
        return _Places(files, built_in=True)
    folder = into or here / name
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"{folder.resolve()} is a file; give a folder, there or not")
    files = {
        "method.py": folder / f"{name}.py",
        "test.py": folder / f"test_{name}.py",
        "suite.yaml": folder / f"{name}.yaml",
        "page.md": folder / f"{name}.md",
    }
    return _Places(files, built_in=False)


def _rendered(skeleton: str, name: str, places: _Places) -> str:
    from jinja2 import Environment, StrictUndefined

    file = resources.files("fedbench.cli").joinpath("skeletons", f"{skeleton}.j2")
    environment = Environment(
        undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    kind = "".join(part.capitalize() for part in name.split("_"))
    return environment.from_string(file.read_text(encoding="utf-8")).render(
        name=name,
        title=name.replace("_", " ").capitalize(),
        kind=f"{kind}Method" if kind in _IMPORTED else kind,
        plugin="" if places.built_in else places.files["method.py"].name,
        noqa="  # noqa: RUF012" if places.built_in else "",
        run=places.run,
        suite=_quoted(places.files["suite.yaml"]),
        suite_here=_from_test(places.files, "suite.yaml"),
        page_here=_from_test(places.files, "page.md"),
    )


def _from_test(files: Mapping[str, Path], skeleton: str) -> str:
    """Return a file as its test names it: from the folder of the test."""
    return Path(os.path.relpath(files[skeleton], files["test.py"].parent)).as_posix()


def _say(name: str, places: _Places) -> None:
    """Print what was written, and what to type next."""
    files = places.files
    width = max(len(str(path)) for path in files.values())
    lines = ["written:", *(f"  {path!s:{width}}  {_WORDS[key]}" for key, path in files.items())]
    missing = "" if find_spec("pytest") else "  (needs pip install 'fedbench-oneshot[test]')"
    suite = _quoted(files["suite.yaml"])
    lines += [
        "next:",
        f"  python -m pytest {_quoted(files['test.py'])}{missing}",
        f"  {places.run}",
        f"  fedbench validate {suite}",
        f"  fedbench sweep {suite}",
        *_beside(suite),
    ]
    if places.built_in:
        lines += [
            "what a built-in method needs beside, before `make check` passes:",
            "  a cell in tests/golden/golden_cells.py, then",
            f"  python tests/golden/test_golden_records.py --only {name}",
            f"  python tests/golden/test_accuracy_baselines.py --only {name}",
            "  python tests/test_config.py           # the defaults that cell ids leave out",
            f"  a line `{name}: methods/{name}.md` in mkdocs.yml, then",
            "  python scripts/generated.py           # facts, settings and diagram of its page",
            "  python tests/bench/records/test_about.py      # what records say of it",
            "  python tests/bench/records/test_completed.py  # defaults of records that are older",
            "  a line in benchmarks/digits.yaml",
        ]
    stdout.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _beside(suite: str) -> list[str]:
    """Return how the method comes to stand beside a published board."""
    boards = published_boards()
    if boards is None:
        return [
            "beside all methods of a published board (docs/beside.md), in a checkout of fedbench:",
            f"  fedbench sweep {suite} --seeds 3 --beside leaderboards/{_BOARD}",
        ]
    return [
        "beside all methods of the published board, whose rows are not computed again:",
        f"  fedbench sweep {suite} --seeds 3 --beside {_quoted(boards / _BOARD)}",
    ]


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
