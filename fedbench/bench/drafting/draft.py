"""The text of a first suite: YAML with a comment at each choice, which says why it was made."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fedbench.bench.drafting.choice import PROFILES, Choice, Size
from fedbench.bench.drafting.lines import Line, lines
from fedbench.bench.drafting.look import SIZES, Look
from fedbench.bench.suites.located import read_value
from fedbench.bench.suites.suite import RESERVED, Tree

#: Columns that comments keep to.
_WIDTH = 100
#: What YAML may read as the text that it is; `read_value` says whether it does.
_PLAIN = re.compile(r"(?!(?:yes|no|on|off|y|n)$)[\w./@-]+", re.IGNORECASE)
#: Widths of the network and epochs, by profile.
_WIDTHS = {"smoke": 8, "quick": 32, "standard": 64, "paper": 128}
_EPOCHS = {"smoke": 8, "quick": 20, "standard": 20, "paper": 100}
_ABOUT = {
    "smoke": "Does it run, and does it learn something?",
    "quick": "A first impression on two cores, one seed.",
    "standard": "More skews, numbers of clients and budgets, three seeds: enough to tell a "
    "difference from noise.",
    "paper": "The papers' network and the methods' own lengths. Wants a GPU.",
}


def suite_name(path: Path, taken: Sequence[str]) -> str:
    """Return a suite's name from a folder's or a file's.

    Args:
        path: What holds the data.
        taken: Names of other suites, which would share the folder of results.
    """
    stem = path.name.removesuffix(".gz").removesuffix(".csv").lower()
    name = re.sub("[^a-z0-9]+", "_", stem).strip("_")[:80] or "mine"
    return f"{name}_own" if name in (*RESERVED, *taken) else name


def draft(look: Look, choice: Choice, name: str) -> tuple[str, list[Line]]:
    """Return a suite's text, and the methods of its quick profile, those left out as well."""
    fixed = {profile: _fixed(look, choice.sizes[profile]) for profile in PROFILES}
    found = lines(look, choice, fixed)
    text = "\n".join(
        [
            *_head(look, choice, name),
            *_shared(look, choice, fixed["quick"]),
            "axes:",
            *_betas(choice.sizes["quick"], "  "),
            *_methods(found["quick"], "  "),
            *_excluded(choice),
            "profiles:",
            *(line for each in PROFILES for line in _profile(each, choice, fixed, found)),
            "",
        ]
    )
    return text, found["quick"]


def _fixed(look: Look, size: Size) -> Tree:
    """Return the settings that all cells of a profile share."""
    test: Tree = {} if size.test is None else {"test_size": size.test}
    found: Tree = {
        "data": {
            **look.data.model_dump(include={"name", "path"}),
            "image_size": size.image,
            "normalisation": "half",
            "train_size": size.train,
            **test,
        },
        "partition": {
            "scheme": "dirichlet_capped",
            "clients": size.clients[0],
            "min_size": size.min_size,
        },
        "models": {"name": "convnet", "width": _WIDTHS[size.name]},
        "recipe": {
            "lr": 0.01,
            "momentum": 0.9,
            "batch_size": size.batch,
            "epochs": _EPOCHS[size.name],
        },
        "budget": {"pixels": _pixels(size, size.ipc[0])},
    }
    if size.name == "smoke":
        found["student"] = {"epochs": 30, "batch_size": 16}
        found["evaluation"] = {"curve_size": 100}
    return found


def _pixels(size: Size, ipc: int) -> int:
    return ipc * size.classes * size.image**2


def _head(look: Look, choice: Choice, name: str) -> Iterator[str]:
    data = look.loaded
    kind = "flows" if look.flows else "images"
    shape = "x".join(map(str, data.train.images.shape[1:]))
    yield "# A first suite for your data, written by `fedbench new-suite`; change what you like."
    counts = f"{choice.images:,} training and {len(data.test):,} test {kind}"
    seen = f"{len(data.classes)} classes, {counts}"
    yield from _comment(f"Seen: {'. '.join([seen, *data.notes])}", "")
    yield f"name: {_flow(name)}"
    yield f"title: {_flow(f'{name}, your own {kind} as {shape}, {len(data.classes)} classes')}"


def _shared(look: Look, choice: Choice, fixed: Tree) -> Iterator[str]:
    """Yield the settings of all cells, each with its reason."""
    yield "fixed:"
    yield from _comment(_why_size(look), "  ")
    yield from _comment(_why_half(look), "  ")
    yield from _comment(_why_train_size(choice), "  ")
    yield f"  data: {_flow(fixed['data'])}"
    size = choice.sizes["quick"]
    yield from _comment(
        f"{size.train // size.clients[0]:,} images a client on average, {size.min_size} at least.",
        "  ",
    )
    for part in ("partition", "models", "recipe"):
        yield f"  {part}: {_flow(fixed[part])}"
    yield from _comment(_why_budget(size, choice), "  ")
    yield f"  budget: {_flow(fixed['budget'])}"


def _why_size(look: Look) -> str:
    if look.flows:
        return f"A feature is a pixel of a square of {look.data.size}x{look.data.size}."
    several = [f"{wide}x{high} ({many:,})" for (wide, high), many in look.sizes.items()]
    some = ", ".join(several[:3]) + (f" and {len(several) - 3} more" if several[3:] else "")
    modes = ", ".join(f"{mode} ({many:,})" for mode, many in look.modes.items())
    return (
        f"Files of {some} pixels; modes {modes}. The shorter sides' median is {look.shorter}: "
        f"{look.data.size} is the largest of {', '.join(map(str, SIZES))} that it fills. Time "
        "grows with the square."
    )


def _why_half(look: Look) -> str:
    values = look.loaded.train.images.float() / 255
    return (
        f"Pixels have mean {values.mean():.2f} and deviation {values.std():.2f}; `half` (.5 and "
        ".5) asks no client for such numbers."
    )


def _why_train_size(choice: Choice) -> str:
    if not choice.public:
        return "The clients hold all training images. What needs public ones is left out."
    return (
        f"{choice.public:,} of the {choice.images:,} training images are nobody's: the server has "
        "them as public images (FedDF) or to learn what images look like (FedLMG). That is a "
        "privilege, and the records name it. With `train_size: null` clients hold all, and these "
        "methods are skipped."
    )


def _why_budget(size: Size, choice: Choice) -> str:
    name, whole = choice.rarest
    return (
        f"{_each(size.ipc[0])} of each of {size.classes} classes, "
        f"{size.image}x{size.image} pixels each. The smallest class, {name!r}, has {whole:,} at "
        "the clients."
    )


def _each(ipc: int) -> str:
    return "1 image" if ipc == 1 else f"{ipc} images"


def _betas(size: Size, indent: str) -> Iterator[str]:
    if size.dropped:
        values = ", ".join(f"{beta:g}" for beta in size.dropped)
        clients = " or ".join(map(str, size.clients))
        yield from _comment(
            f"β = {values} cannot be drawn for {clients} clients with {size.min_size} images at "
            "least.",
            indent,
        )
    yield f"{indent}beta: {_flow(list(size.betas))}"


def _methods(found: Sequence[Line], indent: str) -> Iterator[str]:
    yield f"{indent}method:"
    for line in found:
        own = {key: value for key, value in line.settings.items() if key != "name"}
        text = _flow(line.settings) if own else str(line.settings["name"])
        if line.why_not is None:
            yield f"{indent}  - {text}"
        else:
            yield from _comment(
                f"{line.settings['name']} does not fit: {line.why_not}", indent + "  "
            )
            yield f"{indent}  # - {text}"


def _excluded(choice: Choice) -> Iterator[str]:
    """Yield what leaves out the budgets that ask for more public images than there are."""
    too_large = sorted(
        {
            _pixels(size, ipc)
            for size in choice.sizes.values()
            for ipc in size.ipc
            if ipc * size.classes > choice.public
        }
    )
    if too_large and choice.public:
        yield "exclude:"
        when = _flow({"method": "feddf", "budget.pixels": too_large})
        reason = _flow(
            f"its public images would be more than the {choice.public:,} that are nobody's"
        )
        yield f"  - {{when: {when}, reason: {reason}}}"


def _profile(
    name: str, choice: Choice, fixed: Mapping[str, Tree], found: Mapping[str, Sequence[Line]]
) -> Iterator[str]:
    size, usual = choice.sizes[name], choice.sizes["quick"]
    yield from _comment(_ABOUT[name], "  ")
    yield f"  {name}:"
    differing = _differing(
        fixed[name], fixed["quick"], leave=() if name == "smoke" else ("budget",)
    )
    if differing:
        yield "    fixed:"
        yield from (f"      {part}: {_flow(values)}" for part, values in differing.items())
    axes = []
    if size.betas != usual.betas:
        axes += list(_betas(size, "      "))
    if len(size.clients) > 1:
        axes.append(f"      clients: {_flow(list(size.clients))}")
    if name in ("standard", "paper"):
        budgets = [_pixels(size, ipc) for ipc in size.ipc]
        words = " or ".join(map(str, size.ipc))
        axes += _comment(f"{words} images of a class.", "      ")
        axes.append(f"      budget.pixels: {_flow(budgets)}")
    if name in ("smoke", "paper"):
        axes += _methods(found[name], "      ")
    if axes:
        yield "    axes:"
        yield from axes
    yield f"    seeds: {1 if name in ('smoke', 'quick') else 3}"


def _differing(tree: Tree, usual: Tree, leave: Sequence[str]) -> Tree:
    """Return what a profile sets otherwise, part by part."""
    found: Tree = {}
    for part, values in tree.items():
        own = {key: v for key, v in values.items() if usual.get(part, {}).get(key) != v}
        if part == "models" and own:
            own = {"name": values["name"], **own}
        if own and part not in leave:
            found[part] = own
    return found


def _comment(text: str, indent: str) -> list[str]:
    """Return a text as lines of comments; control characters of names become spaces."""
    clean = "".join(letter if letter.isprintable() else " " for letter in text)
    head = f"{indent}# "
    return textwrap.wrap(
        clean, _WIDTH, initial_indent=head, subsequent_indent=head, break_long_words=False
    )


def _flow(value: object) -> str:
    """Return a value as YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and read_value(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)
