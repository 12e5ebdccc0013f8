"""What a board says in plain sentences: which rows to look at, and which gaps are no noise.

Made from plan and records alone, a few sentences for each block; of many blocks, counts.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedbench.bench.records.about import method_label, preset_label
from fedbench.bench.suites.planfile import Entry
from fedbench.report.board import Board
from fedbench.report.columns import accuracy, size, tells_balanced
from fedbench.report.csvs import signless_zero
from fedbench.report.frame import Row, blocks
from fedbench.report.markdown import escape_markdown
from fedbench.report.paired import Paired, paired
from fedbench.report.tables import accuracy_of, title

HEADING = "What the board says"
#: Seeds from which on something can be said about noise.
SEEDS = 3
#: Rows that the best one is compared with.
_COMPARED = 4
#: Blocks up to which each is spoken of.
_BLOCKS = 6


@dataclass(frozen=True)
class Saying:
    """Some sentences about one thing.

    Attributes:
        about: A block's title, or what else they are about; may be empty.
        sentences: In order.
    """

    about: str
    sentences: tuple[str, ...]


def verdict(board: Board) -> list[Saying]:
    """Return what a board says: block by block, then what could not run and what was given."""
    found = [(title(head), members) for head, members in blocks(board.views)]
    several = [_block(name, members) for name, members in found]
    if len(several) > _BLOCKS:
        several = [_counts([members for _, members in found])]
    rest = (*_waiting(board), *_noise(board), *_missing(board), *_given(board))
    whole = Saying("The whole board" if len(several) > 1 else "", rest)
    return [saying for saying in (*several, whole) if saying.sentences]


def front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other one beats or equals with fewer bytes, by rising bytes.

    Args:
        points: (bytes, accuracy) pairs.
    """
    best, kept = -math.inf, []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if score > best:
            best = score
            kept.append((cost, score))
    return kept


def beyond_noise(gap: Paired) -> bool | None:
    """Say whether a paired difference is beyond the noise at 95 %; None of fewer than 3 seeds."""
    n = len(gap.seeds)
    if n < SEEDS or gap.std is None:
        return None
    from scipy.special import stdtrit

    quantile = float(stdtrit(n - 1, 0.975))  # of Student's t, for both sides
    return abs(gap.mean) > quantile * gap.std / math.sqrt(n)


def to_markdown(sayings: Sequence[Saying]) -> str:
    """Return the sentences as Markdown with a heading; nothing where there are none."""
    if not sayings:
        return ""
    parts = [f"### {HEADING}\n"]
    for saying in sayings:
        if saying.about:
            parts.append(f"**{escape_markdown(saying.about)}**\n")
        parts.append("\n".join(f"- {escape_markdown(text)}" for text in saying.sentences) + "\n")
    return "\n".join(parts)


def _block(name: str, members: Sequence[Row]) -> Saying:
    """Return the sentences about one block."""
    ranked = _ranked(members)
    if not ranked:
        return Saying(name, ())
    rows = front_of(ranked)
    words = ", ".join(f"{_name(row)} {_score(row)} % for {_cost(row)}" for row in rows)
    sentences = [f"No contender beats these with fewer bytes: {words}."]
    cheaper = [row for row in front_of([*ranked, *_controls(members)]) if row.control]
    if cheaper:
        words = ", ".join(f"{_name(row)} {_score(row)} % for {_cost(row)}" for row in cheaper)
        sentences.append(f"Controls that none of them beats with fewer bytes: {words}.")
    sentences += _against_best(ranked, members)
    if tells_balanced(members):
        best = max(ranked, key=lambda row: float(row.values["balanced_accuracy_mean"] or 0.0))
        value = accuracy(
            best.values["balanced_accuracy_mean"], best.values["balanced_accuracy_std"]
        )
        sentences.append(
            f"Where every class counts alike, {_name(best)} is best: {value} % balanced accuracy."
        )
    return Saying(name, tuple(sentences))


def _against_best(ranked: Sequence[Row], members: Sequence[Row]) -> list[str]:
    """Return which rows the best one is ahead of beyond the noise; none without seeds for it."""
    best, *others = ranked
    real = [row for row in members if row.values["method"] == "random_real"]
    ahead: list[str] = []
    level: list[str] = []
    for row in [*others[:_COMPARED], *real]:
        gap = paired(best, row)
        if gap is not None and (beyond := beyond_noise(gap)) is not None:
            (ahead if beyond else level).append(f"{_name(row)} {_gap(gap)}")
    if not ahead and not level:
        return []
    clear, chance = (", ".join(found) or "none" for found in (ahead, level))
    return [
        f"Best is {_name(best)}, {accuracy_of(best)} %. Ahead of others by points, mean ± standard "
        f"deviation over seeds; beyond the noise by a paired t-test at 95 %: {clear}; within it: "
        f"{chance}."
    ]


def _gap(gap: Paired) -> str:
    return f"{signless_zero(f'{100 * gap.mean:+.2f}')} ± {100 * (gap.std or 0.0):.2f}"


def _counts(several: Sequence[Sequence[Row]]) -> Saying:
    """Return what holds over many blocks."""
    fronts: Counter[str] = Counter()
    cheaper: Counter[str] = Counter()
    bests: Counter[str] = Counter()
    clear = told = 0
    for members in several:
        ranked = _ranked(members)
        fronts.update({_name(row) for row in front_of(ranked)})
        every = front_of([*ranked, *_controls(members)])
        cheaper.update({_name(row) for row in every if row.control})
        bests.update({_name(row) for row in best_of(ranked)})
        gap = paired(ranked[0], ranked[1]) if len(ranked) > 1 else None
        beyond = beyond_noise(gap) if gap is not None else None
        told += beyond is not None
        clear += beyond is True
    sentences = [
        f"No contender beats these with fewer bytes: {_listed(fronts)}.",
        f"Best: {_listed(bests)}.",
    ]
    if cheaper:
        sentences.append(f"Controls that none of them beats with fewer bytes: {_listed(cheaper)}.")
    if told:
        sentences.append(
            f"In {clear} of {told} blocks the best differs from the second beyond the noise "
            "(paired over seeds, at 95 %)."
        )
    return Saying(f"Over {len(several)} blocks", tuple(sentences))


def _noise(board: Board) -> list[str]:
    """Return that nothing can be said about noise, where that is so."""
    most = max((len(row.accuracies) for row in board.views), default=SEEDS)
    if most >= SEEDS:
        return []
    seeds = "1 seed" if most == 1 else f"{most} seeds"
    return [
        f"With {seeds} nothing can be said about noise: a difference may be chance. "
        f"`fedbench sweep {board.plan.suite} --profile {board.plan.profile} --seeds {SEEDS}` "
        "computes what is lacking."
    ]


def _waiting(board: Board) -> list[str]:
    """Return which cells of the plan have no number, where there are some."""
    done, failed = ({each.cell_id for each in found} for found in (board.good, board.failed))
    lacking = [each for each in board.plan.cells if not each.skip and each.cell_id not in done]
    if not lacking:
        return []
    counts = Counter(_method(entry) for entry in lacking)
    broken = sum(entry.cell_id in failed for entry in lacking)
    return [
        f"{len(lacking)} of {len(board.plan.cells)} cells have no number ({broken} failed, "
        f"{len(lacking) - broken} not computed): {_listed(counts)}."
    ]


def _method(entry: Entry) -> str:
    method = entry.settings["method"]
    return method_label(method["name"], preset_label(method))


def _missing(board: Board) -> list[str]:
    """Return which methods need what is not there: those that were skipped, by reason."""
    reasons: dict[str, set[str]] = {}
    for entry in board.plan.cells:
        if entry.skip:
            reasons.setdefault(" ".join(entry.skip.split()), set()).add(_method(entry))
    return [
        f"Skipped: {', '.join(sorted(names))}: {reason}."
        for reason, names in sorted(reasons.items())
    ]


def _given(board: Board) -> list[str]:
    """Return which methods were given what others were not."""
    privileges: dict[str, set[str]] = {}
    for row in board.views:
        for record in row.records:
            for text in record.privileges:
                privileges.setdefault(text, set()).add(str(row.values["method"]))
    # What differs in its number alone, as with the budget, is said once.
    numbers: dict[tuple[str, str], list[int]] = {}
    for text, names in sorted(privileges.items()):
        found = re.fullmatch(r"(\d+) (.+)", text)
        several = numbers.setdefault((", ".join(sorted(names)), found[2] if found else text), [])
        several.extend([int(found[1])] if found else [])
    return [
        f"Given beyond others: {names}: {_either(several)}{text}."
        for (names, text), several in numbers.items()
    ]


def _either(numbers: Sequence[int]) -> str:
    """Return ``10, 50 or 100 ``, with a space at its end, or nothing for no numbers."""
    *others, last = map(str, sorted(numbers)) if numbers else [""]
    return f"{', '.join(others)} or {last} " if others else f"{last} ".lstrip()


def _ranked(members: Sequence[Row]) -> list[Row]:
    """Return the contenders with an accuracy and all seeds, the best first."""
    return [row for row in members if row.ranked and _known(row)]


def _controls(members: Sequence[Row]) -> list[Row]:
    """Return the controls with all seeds that send something: what stays serves a client alone."""
    controls = [row for row in members if row.control and not row.lacks_seeds]
    return [row for row in controls if _known(row) and row.values["bytes_total"]]


def _known(row: Row) -> bool:
    return None not in (row.values["accuracy_mean"], row.values["bytes_total"])


def front_of(rows: Sequence[Row], cost: str = "bytes_total") -> list[Row]:
    """Return the rows that no other one beats or equals for a lower cost, by rising cost."""
    points = {
        (float(row.values[cost] or 0.0), float(row.values["accuracy_mean"] or 0.0)): row
        for row in reversed(rows)
    }
    return [points[point] for point in front(points)]


def best_of(rows: Sequence[Row]) -> list[Row]:
    """Return the row of the highest mean, and those of the very same, the cheapest first."""
    most = max((float(row.values["accuracy_mean"] or 0.0) for row in rows), default=0.0)
    found = [row for row in rows if float(row.values["accuracy_mean"] or 0.0) == most]
    return sorted(found, key=lambda row: float(row.values["bytes_total"] or 0.0))


def _name(row: Row) -> str:
    return str(row.values["label"])


def _score(row: Row) -> str:
    return f"{100 * float(row.values['accuracy_mean'] or 0.0):.2f}"


def _cost(row: Row) -> str:
    return size(row.values["bytes_total"])


def _listed(counts: Counter[str]) -> str:
    found = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{name} in {many}" for name, many in found) or "none"
