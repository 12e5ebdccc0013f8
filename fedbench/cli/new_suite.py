"""`fedbench new-suite`: a first suite for somebody's own images or flows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli.options import Plugin
from fedbench.cli.survey import roughly
from fedbench.errors import SettingsError
from fedbench.files import data_root, home, published_boards, write_atomic
from fedbench.imports import heavy_imports
from fedbench.session.console import stderr, stdout
from fedbench.session.means import load_plugins
from fedbench.session.words import count, duration, size

if TYPE_CHECKING:
    from fedbench.bench.drafting.choice import Choice
    from fedbench.bench.drafting.lines import Line
    from fedbench.bench.drafting.look import Look
    from fedbench.bench.survey import Survey

#: Classes that are named, the largest first.
_NAMED = 12
#: Profiles whose cost is said.
_COSTS = ("smoke", "quick", "standard")


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command("new-suite")(new_suite)


def new_suite(
    path: Annotated[
        Path, typer.Argument(help="Folder of images in class folders, or a csv of flows.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where the suite goes; NAME.yaml here by default.")
    ] = None,
    plugin: Plugin = None,
) -> None:
    """Write a suite for your own images or flows: all methods that fit, sized to what is there.

    Example: fedbench new-suite photos/
    """
    load_plugins(plugin)
    with heavy_imports():
        from fedbench.bench.drafting.choice import choose
        from fedbench.bench.drafting.draft import draft, suite_name
        from fedbench.bench.drafting.look import look, whole

    boards = published_boards()
    taken = [board.parent.name for board in boards.glob("*/plan.json")] if boards else []
    name = suite_name(whole(path.absolute()), taken)
    target = (out or Path(f"{name}.yaml")).absolute()
    if target.exists():
        raise SettingsError(
            f"{target} is there already, and may hold changes of yours; give another place with "
            "--out FILE, or delete it"
        )
    if target.suffix not in (".yaml", ".yml"):
        raise SettingsError(f"--out {target} is no suite's name; let it end in .yaml")
    seen = look(
        path,
        root=data_root(),
        cache=home() / "cache",
        say=lambda line: stderr.print(line, markup=False, highlight=False),
    )
    choice = choose(seen)
    text, methods = draft(seen, choice, name)
    write_atomic(target, text)
    _say(seen, choice, methods)
    stdout.print(f"suite      {target}", highlight=False, markup=False, soft_wrap=True)
    for profile in _COSTS:
        _print(profile, _cost(target, profile))
    _print("next", f"fedbench sweep {target} --profile smoke")
    _print("then", f"fedbench sweep {target}, and fedbench report {name}")


def _print(name: str, text: str) -> None:
    stdout.print(f"{name:<11}{text}", highlight=False, markup=False, soft_wrap=True)


def _say(seen: Look, choice: Choice, methods: list[Line]) -> None:
    """Print what was seen and chosen."""
    data, kind = seen.loaded, "flows" if seen.flows else "images"
    _print(
        "data",
        f"{seen.sources.folder}: {len(data.train):,} training, {len(data.test):,} test {kind}",
    )
    held = Counter(data.classes[label] for label in data.train.labels.tolist())
    named = [f"{name} {many:,}" for name, many in held.most_common()]
    rest = f", ... {named[-1]}" if len(named) > _NAMED else ""
    _print("classes", f"{len(named)}: {', '.join(named[: _NAMED - bool(rest)])}{rest}")
    if not seen.flows:
        sizes = [f"{wide}x{high} ({many:,})" for (wide, high), many in seen.sizes.items()]
        more = f" and {count(len(sizes) - 4, 'more size')}" if len(sizes) > 4 else ""
        modes = ", ".join(f"{mode} ({many:,})" for mode, many in seen.modes.items())
        _print("files", f"{', '.join(sizes[:4])}{more}; modes {modes}")
    quick = choice.sizes["quick"]
    _print(
        "chosen",
        f"{seen.data.size}x{seen.data.size} pixels, {quick.clients[0]} clients, "
        f"β {' and '.join(f'{beta:g}' for beta in quick.betas)}, "
        f"{count(quick.ipc[0], 'image')} of a class as budget, "
        f"{choice.public:,} images for the server",
    )
    reasons: dict[str, list[str]] = {}
    for line in (line for line in methods if line.why_not is not None):
        reasons.setdefault(str(line.why_not), []).append(line.settings["name"])
    for reason, names in reasons.items():
        _print("left out", f"{', '.join(dict.fromkeys(names))}: {reason}")


def _cost(suite: Path, profile: str) -> str:
    """Return what a profile takes, as a dry run would say."""
    found, workers = _survey(suite, profile)
    estimate, cells = found.estimate, len(found.todo)
    seconds = estimate.wall(min(workers, max(cells, 1)))
    words = [count(cells, "cell")]
    if skipped := sum(found.skipped.values()):
        words[0] += f" ({skipped} skipped)"
    if seconds is None:
        words.append("time unknown: no record can be compared with these cells")
    else:
        known = f" for {cells - estimate.unknown} of them" if estimate.unknown else ""
        rough = roughly(estimate, min(workers, max(cells, 1)))
        words.append(f"about {duration(seconds)} with {count(workers, 'worker')}{known}{rough}")
    if sizes := cells - estimate.sizes_unknown:
        some = f" for {sizes} of them" if estimate.sizes_unknown else ""
        words.append(f"{size(estimate.size)} of disk{some}")
    return "; ".join(words)


def _survey(suite: Path, profile: str) -> tuple[Survey, int]:
    from fedbench.bench.suites.order import read_order
    from fedbench.session.crew import crew_of
    from fedbench.session.means import runtime
    from fedbench.session.sweeping import survey_of

    crew = crew_of("local", None, "auto", 0)
    order = read_order(suite, home(), profile=profile, seeds=None, overrides=(), wishes=())
    return survey_of(order, runtime(), set(), crew), crew.size
