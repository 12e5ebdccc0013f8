"""A board in Python: its records and rows as pandas frames, its pivots, figures and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from fedbench.bench.records.record import Record
from fedbench.bench.suites.planfile import Plan
from fedbench.bench.suites.selection import Wish
from fedbench.errors import SettingsError, did_you_mean
from fedbench.files import home, published_boards, write_atomic
from fedbench.report import board as boards
from fedbench.report import figures, latex, pivot, tables

#: Columns of frames that hold objects of ours instead of values.
_OBJECTS = ("record", "records", "flat", "row", "block")


@dataclass(frozen=True)
class Drawing:
    """One figure of a board; a notebook shows it.

    Attributes:
        name: The file's stem.
        title: One line.
        caption: What is drawn, what the error bars are, and n.
        svg: The figure.
    """

    name: str
    title: str
    caption: str
    svg: str

    def save(self, path: str | Path) -> Path:
        """Write the figure as SVG and return its place."""
        write_atomic(Path(path), self.svg)
        return Path(path)

    def _repr_svg_(self) -> str:
        return self.svg


class Board:
    """The records of a suite, and the rows made of them.

    Args:
        folder: With ``plan.json`` and ``records/``.
        only: What cells must have; ``Board.only`` makes it.

    Raises:
        StoreError: There is no plan, or it is damaged.
    """

    def __init__(self, folder: Path, only: Sequence[Wish] = ()) -> None:
        self.folder, self._only = folder, tuple(only)
        self._board = boards.read_board(folder).only(only)

    def only(self, **values: object) -> Board:
        """Return the board of some cells, such as ``board.only(clients=5, ipc=10)``.

        A method without a budget stays whatever budget is asked for.

        Args:
            values: By place, dots written as ``__`` or left out where there is a short name
                (``beta``, ``clients``, ``ipc``, ``scheme``, ``method``, ``dataset``, ``model``,
                ``seed``): a value, or a list of which any will do.

        Raises:
            SettingsError: No cell has such a value, or none has all of them.
        """
        wishes = [
            Wish(
                name.replace("__", "."),
                tuple(value) if isinstance(value, list | tuple) else (value,),
            )
            for name, value in values.items()
        ]
        return Board(self.folder, [*self._only, *wishes])

    @property
    def plan(self) -> Plan:
        """What was asked for: suite, title, profile, cells."""
        return self._board.plan

    @cached_property
    def records(self) -> pd.DataFrame:
        """A line for each good record: settings by dotted name, metrics and the ledger.

        Accuracies are in [0, 1], bytes and seconds as counted; ``docs/columns.md`` has the columns.
        """
        return _plain(self._board.records)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """A line for each method and setting over its seeds, sorted as tables are."""
        return _plain(self._board.rows)

    @property
    def good(self) -> tuple[Record, ...]:
        """The good records, whole."""
        return self._board.good

    @property
    def failed(self) -> tuple[Record, ...]:
        """The records of failed cells, with reason and traceback."""
        return self._board.failed

    def pivot(self, axis: str = "beta", metric: str = "accuracy") -> pd.DataFrame:
        """Return methods by the values of a setting: mean, std and n over seeds.

        Args:
            axis: A setting that varies, by its dotted name or the end of it, such as ``beta``,
                ``ipc`` or ``method.iterations``.
            metric: ``accuracy``, ``balanced_accuracy``, ``domain``, ``worst_client``, ``nll`` or
                ``ece``.

        Returns:
            Columns by the axis's value and ``mean``, ``std``, ``n``. Where further settings of
            blocks vary they are a level of the index.

        Raises:
            SettingsError: The axis does not vary, or there is no such metric.
        """
        return pivot.pivot(self._board, axis, metric).frame()

    @cached_property
    def _drawn(self) -> dict[str, figures.Figure]:
        return {figure.name: figure for figure in figures.draw(self._board)}

    @property
    def figures(self) -> list[str]:
        """The names of the board's figures."""
        return list(self._drawn)

    def figure(self, name: str) -> Drawing:
        """Return one figure of the board's report.

        Raises:
            SettingsError: There is none of that name.
        """
        if name not in self._drawn:
            raise SettingsError(
                f"there is no figure {name!r}{did_you_mean(name, self._drawn)}; "
                f"there are {', '.join(self._drawn) or 'none'}"
            )
        found = self._drawn[name]
        return Drawing(found.name, found.title, found.caption, found.svg)

    def to_latex(self) -> str:
        r"""Return the leaderboard as booktabs tables, to be read by ``\input``."""
        return latex.to_latex(self._board.views, self.plan.suite)

    def to_markdown(self) -> str:
        """Return the leaderboard as Markdown."""
        return tables.to_markdown(self._board.views)

    def __repr__(self) -> str:
        return (
            f"<Board {self.plan.suite} ({self.plan.profile}): {len(self.rows)} rows of "
            f"{len(self.records)} records>"
        )

    def _repr_html_(self) -> str:
        columns = ["label", "beta", "accuracy_mean", "accuracy_std", "n", "bytes_total"]
        return str(self.rows[columns].to_html(index=False, float_format="{:.4g}".format))


def load(folder: str | Path) -> Board:
    """Return a board: a folder with ``plan.json`` and ``records/``, or the name of one.

    Args:
        folder: Such as ``leaderboards/digits``, ``runs/digits``, or ``digits``, which is looked for
            below the home and then among the published boards.

    Raises:
        StoreError: There is no plan, or it is damaged.
    """
    places = [Path(folder), home() / folder]
    if (published := published_boards()) is not None:
        places.append(published / folder)
    found = next((place for place in places if (place / "plan.json").is_file()), places[0])
    return Board(found)


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame without the columns that hold objects of ours."""
    return frame.drop(columns=[name for name in _OBJECTS if name in frame.columns])
