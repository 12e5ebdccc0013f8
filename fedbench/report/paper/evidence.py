"""What committed records say of a claim: comparisons that a document names, computed again.

``docs/findings.yaml`` lists them and ``docs/findings.md`` shows them in generated blocks.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

from pydantic import Field

from fedbench.errors import SettingsError
from fedbench.report.columns import size
from fedbench.report.markdown import escape_markdown
from fedbench.report.paper.pool import Group, fits
from fedbench.report.paper.spec import Query, read_settings
from fedbench.report.published import Published, read_numbers
from fedbench.settings import Settings

#: Lines that a block shows as they are.
FOLDED = 12


class Comparison(Settings):
    """Two rows of one board, over their shared seeds."""

    kind: Literal["accuracy", "bytes", "classes", "held", "published"]
    """The paired difference of accuracies; bytes that a client sends; classes that it holds;
    accuracy on the classes that clients hold and on the others; accuracy beside a published one."""
    board: str
    """Where both rows are."""
    where: Query = Field(default_factory=dict)
    """What both have."""
    one: Query
    """What the first row has."""
    other: Query = Field(default_factory=dict)
    """What the second has; only the first two kinds need one."""
    published: str = ""
    """The setting of the published number, as its file has it."""
    says: str
    """What is compared, in words."""


class Findings(Settings):
    """All comparisons of a document, by the name of their block."""

    blocks: dict[str, tuple[Comparison, ...]]
    """In the order of the document."""


def read_findings(path: Path) -> Findings:
    """Read what a document compares.

    Raises:
        StoreError: The file cannot be read.
        SettingsError: It has an unknown key or a wrong value.
    """
    return read_settings(Findings, path)


def block(comparisons: Sequence[Comparison], groups: Sequence[Group], up: str) -> str:
    """Return a block of a document: a Markdown table with a line for each comparison.

    More than ``FOLDED`` lines stand folded, for the text around them says what they come to.

    Args:
        comparisons: In order.
        groups: Records of all boards.
        up: Relative link from the document to the folder of boards, with a slash at its end.

    Raises:
        SettingsError: A query finds no row or several, or no or several published numbers.
        StoreError: Published numbers cannot be read.
    """
    numbers = [*chain.from_iterable(read_numbers().values())]
    lines = ["| compared | on | found | records |", "| --- | --- | --- | --- |"]
    for each in comparisons:
        one = _only(each, each.one, groups)
        other = _only(each, each.other, groups) if each.kind in ("accuracy", "bytes") else None
        asked = {name: value for name, value in each.where.items() if value is not None}
        where = " ".join(f"{name.rpartition('.')[2]}={value}" for name, value in asked.items())
        board = f"[{each.board}]({up}{each.board}/table.md)"
        found = _alone(each, one, numbers) if other is None else _found(each, one, other)
        groups_of = [one] if other is None else [one, other]
        ids = [f"[{i[:6]}]({up}{each.board}/records/{i}.json)" for g in groups_of for i in g.ids]
        cells = [escape_markdown(each.says), f"{board} {escape_markdown(where)}".strip(), found]
        lines.append(f"| {' | '.join([*cells, ' '.join(ids)])} |")
    table = "\n".join(lines)
    if len(comparisons) <= FOLDED:
        return table
    # A site needs the attribute, without which it takes the table for HTML.
    head = f'<details markdown="1"><summary>{len(comparisons)} comparisons</summary>'
    return f"{head}\n\n{table}\n\n</details>"


def _only(each: Comparison, query: Query, groups: Sequence[Group]) -> Group:
    wanted = {"board": each.board, **each.where, **query}
    found = [g for g in groups if fits({**g.facts, "board": g.board}, wanted)]
    if len(found) != 1:
        raise SettingsError(f"{each.says}: {len(found)} rows answer {wanted}; there has to be one")
    return found[0]


def _found(each: Comparison, one: Group, other: Group) -> str:
    if each.kind == "bytes":
        first, second = (_bytes(group) for group in (one, other))
        return f"{size(first)} and {size(second)} up, {first / second:.2g} times as much"
    mine, theirs = _by_seed(one), _by_seed(other)
    seeds = sorted(mine.keys() & theirs.keys())
    if not seeds:
        raise SettingsError(f"{each.says}: the rows share no seed")
    gaps = [100 * (mine[seed] - theirs[seed]) for seed in seeds]
    spread = f" ± {statistics.stdev(gaps):.2f}" if len(gaps) > 1 else ""
    means = (100 * statistics.fmean(known[seed] for seed in seeds) for known in (mine, theirs))
    first, second = means
    gap = f"{statistics.fmean(gaps):+.2f}{spread}"
    return f"{first:.2f} and {second:.2f}: {gap} points (n {len(seeds)})"


def _by_seed(group: Group) -> dict[int, float]:
    return {int(r.settings["seed"]): float(r.metrics["accuracy"]) for r in group.records}


def _bytes(group: Group) -> float:
    return statistics.fmean(float(r.ledger["bytes_up_per_client"]) for r in group.records)


def _alone(each: Comparison, one: Group, numbers: Sequence[Published]) -> str:
    if each.kind == "published":
        return _beside(each, one, numbers)
    return _classes(one) if each.kind == "classes" else _held(one)


def _beside(each: Comparison, group: Group, numbers: Sequence[Published]) -> str:
    """Say what a row reaches, what was published, and the difference."""
    about = {(r.settings["method"]["name"], r.settings["data"]["name"]) for r in group.records}
    found = [n for n in numbers if n.setting == each.published and (n.method, n.dataset) in about]
    if len(found) != 1:
        raise SettingsError(
            f"{each.says}: {len(found)} published numbers of {about} have the setting "
            f"{each.published!r}; there has to be one"
        )
    (number,) = found
    values = list(_by_seed(group).values())
    spread = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    there = "" if number.n is None else f" (n {number.n})"
    return (
        f"{100 * statistics.fmean(values):.2f}{spread} (n {len(values)}), published "
        f"{100 * number.accuracy:.2f}{there}: "
        f"{100 * (statistics.fmean(values) - number.accuracy):+.2f} points"
    )


def _held(group: Group) -> str:
    """Say how accurate the models are on the classes that some client holds, and on the others."""
    halves: dict[bool, list[float]] = {True: [], False: []}
    for record in group.records:
        held = [any(counts) for counts in zip(*record.partition["histogram"], strict=True)]
        for known, value in zip(held, record.metrics["per_class"], strict=True):
            halves[known].append(100 * value)
    means = (statistics.fmean(halves[known]) for known in (True, False))
    return "{:.2f} on classes of clients, {:.2f} on the others".format(*means)


def _classes(group: Group) -> str:
    """Say how many classes clients hold, by the records' own histograms."""
    held = [
        sum(count > 0 for count in client)
        for record in group.records
        for client in record.partition["histogram"]
    ]
    shown = ", ".join(map(str, sorted(held)))
    return f"classes of {len(held)} clients: {shown}"
