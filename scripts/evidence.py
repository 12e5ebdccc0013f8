"""What committed records say of a claim: comparisons that a document names, computed again.

``docs/findings.yaml`` lists them and ``docs/findings.md`` shows them in generated blocks.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import chain

from claims import Comparison, Grid

from fedbench.errors import SettingsError
from fedbench.report.columns import size
from fedbench.report.markdown import escape_markdown, table
from fedbench.report.paired import Paired, difference
from fedbench.report.paper.pool import Group, fits
from fedbench.report.paper.spec import Query, Value, listed
from fedbench.report.published import Published, read_numbers
from fedbench.report.verdict import beyond_noise

#: Lines that a block shows as they are.
FOLDED = 12


def block(asked: Sequence[Comparison] | Grid, groups: Sequence[Group], up: str) -> str:
    """Return a block of a document: a Markdown table with a line for each comparison.

    More than ``FOLDED`` lines stand folded, for the text around them says what they come to. Those
    of a grid stand folded below it.

    Args:
        asked: Comparisons in order, or a grid of them.
        groups: Records of all boards.
        up: Relative link from the document to the folder of boards, with a slash at its end.

    Raises:
        SettingsError: A query finds no row or several, or no or several published numbers.
        StoreError: Published numbers cannot be read.
    """
    if isinstance(asked, Grid):
        cells = [asked.at(line, place) for line in asked.compare for place in asked.across]
        return f"{_grid(asked, groups)}\n\n{_folded(cells, _table(cells, groups, up))}"
    lines = _table(asked, groups, up)
    return lines if len(asked) <= FOLDED else _folded(asked, lines)


def _folded(comparisons: Sequence[Comparison], lines: str) -> str:
    # A site needs the attribute, without which it takes the table for HTML.
    head = f'<details markdown="1"><summary>{len(comparisons)} comparisons</summary>'
    return f"{head}\n\n{lines}\n\n</details>"


def _table(comparisons: Sequence[Comparison], groups: Sequence[Group], up: str) -> str:
    """Return a line for each comparison, with its records."""
    numbers = [*chain.from_iterable(read_numbers().values())]
    lines = []
    for each in comparisons:
        ones = _over(each, groups) if each.over else [_only(each, each.one, groups)]
        other = _only(each, each.other, groups) if each.kind in ("accuracy", "bytes") else None
        asked = {name: value for name, value in each.where.items() if value is not None}
        where = " ".join(f"{name.rpartition('.')[2]}={_value(v)}" for name, v in asked.items())
        board = f"[{each.board}]({up}{each.board}/table.md)"
        found = _alone(each, ones, numbers) if other is None else _found(each, ones[0], other)
        shown = ones if other is None else [*ones, other]
        ids = [f"[{i[:6]}]({up}{each.board}/records/{i}.json)" for g in shown for i in g.ids]
        on = f"{board} {escape_markdown(where)}".strip()
        lines.append([escape_markdown(each.says), on, found, " ".join(ids)])
    return "\n".join(table("llll", ["compared", "on", "found", "records"], lines))


def _grid(grid: Grid, groups: Sequence[Group]) -> str:
    """Return a line for each pair of rows and a column for each place, and what its cells are."""
    gaps = [[_gap(grid.at(line, place), groups) for place in grid.across] for line in grid.compare]
    counts = {len(gap.seeds) for found in gaps for gap in found}
    lines = [
        [escape_markdown(line.says), *(_points(gap, apart=len(counts) > 1) for gap in found)]
        for line, found in zip(grid.compare, gaps, strict=True)
    ]
    head = [grid.says or "compared", *(place.says for place in grid.across)]
    n = "n in brackets" if len(counts) > 1 else f"n {min(counts)}"
    caption = "In points, of one seed."
    if counts != {1}:
        caption = (
            f"In points: mean ± standard deviation of the differences over shared seeds ({n}). "
            "Bold: beyond the noise by a paired t-test at 95 %."
        )
    shape = "l" + "r" * len(grid.across)
    return "\n".join([*table(shape, [*map(escape_markdown, head)], lines), "", caption])


def _gap(each: Comparison, groups: Sequence[Group]) -> Paired:
    return _difference(each, _only(each, each.one, groups), _only(each, each.other, groups))


def _points(gap: Paired, *, apart: bool = False) -> str:
    """Return a difference in points, bold where it is beyond the noise."""
    text = f"**{_signed(gap)}**" if beyond_noise(gap) else _signed(gap)
    return f"{text} ({len(gap.seeds)})" if apart else text


def _only(each: Comparison, query: Query, groups: Sequence[Group]) -> Group:
    wanted = {"board": each.board, **each.where, **query}
    found = [g for g in groups if fits({**g.facts, "board": g.board}, wanted)]
    if len(found) != 1:
        raise SettingsError(f"{each.says}: {len(found)} rows answer {wanted}; there has to be one")
    return found[0]


def _value(asked: Value) -> str:
    return ",".join(map(str, listed(asked)))


def _over(each: Comparison, groups: Sequence[Group]) -> list[Group]:
    """Return the rows that answer, by the value of the setting that tells them apart."""
    wanted = {"board": each.board, **each.where, **each.one}
    found = [g for g in groups if fits({**g.facts, "board": g.board}, wanted)]
    values = [str(g.facts.get(each.over)) for g in found]
    if len(found) < 2 or len({*values}) < len(found):
        raise SettingsError(
            f"{each.says}: {len(found)} rows answer {wanted}, with {each.over} {values}; there "
            "have to be two or more, each with a value of its own"
        )
    return [group for _, group in sorted(zip(values, found, strict=True), key=lambda pair: pair[0])]


def _found(each: Comparison, one: Group, other: Group) -> str:
    if each.kind == "bytes":
        first, second = (_bytes(group) for group in (one, other))
        return f"{size(first)} and {size(second)} up, {first / second:.2g} times as much"
    gap = _difference(each, one, other)
    means = (
        100 * statistics.fmean(_by_seed(group)[seed] for seed in gap.seeds)
        for group in (one, other)
    )
    first, second = means
    return f"{first:.2f} and {second:.2f}: {_points(gap)} points (n {len(gap.seeds)})"


def _signed(gap: Paired) -> str:
    """Return a difference in points; none is +0.00 from either side."""
    spread = "" if gap.std is None else f" ± {100 * gap.std:.2f}"
    return f"{round(100 * gap.mean, 2) + 0.0:+.2f}{spread}"


def _difference(each: Comparison, one: Group, other: Group) -> Paired:
    mine, theirs = _by_seed(one), _by_seed(other)
    seeds = sorted(mine.keys() & theirs.keys())
    if not seeds:
        raise SettingsError(f"{each.says}: the rows share no seed")
    return difference(mine, theirs, seeds)


def _by_seed(group: Group) -> dict[int, float]:
    return {int(r.settings["seed"]): float(r.metrics["accuracy"]) for r in group.records}


def _bytes(group: Group) -> float:
    return statistics.fmean(float(r.ledger["bytes_up_per_client"]) for r in group.records)


def _alone(each: Comparison, ones: Sequence[Group], numbers: Sequence[Published]) -> str:
    if each.kind == "published":
        return _beside(each, ones, numbers)
    return _classes(ones[0]) if each.kind == "classes" else _held(ones[0])


def _beside(each: Comparison, ones: Sequence[Group], numbers: Sequence[Published]) -> str:
    """Say what a row, or the mean of several, reaches, what was published, and the difference."""
    records = [record for group in ones for record in group.records]
    about = {(r.settings["method"]["name"], r.settings["data"]["name"]) for r in records}
    found = [n for n in numbers if n.setting == each.published and (n.method, n.dataset) in about]
    if len(found) != 1:
        raise SettingsError(
            f"{each.says}: {len(found)} published numbers of {about} have the setting "
            f"{each.published!r}; there has to be one"
        )
    (number,) = found
    there = "" if number.n is None else f" (n {number.n})"
    means = [statistics.fmean(_by_seed(group).values()) for group in ones]
    mean = statistics.fmean(means)
    here = _mean(ones[0])
    if len(ones) > 1:
        here = f"{' and '.join(map(_mean, ones))}, {100 * mean:.2f} in the mean"
    return (
        f"{here}, published {100 * number.accuracy:.2f}{there}: "
        f"{100 * (mean - number.accuracy):+.2f} points"
    )


def _mean(group: Group) -> str:
    values = [*_by_seed(group).values()]
    spread = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.2f}{spread} (n {len(values)})"


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
