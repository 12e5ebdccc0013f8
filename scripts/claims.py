"""What a document claims of records: comparisons that ``docs/findings.yaml`` lists."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from fedbench.report.paper.spec import Query, read_settings
from fedbench.settings import Settings


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
    over: str = ""
    """The one setting in which the rows differ whose mean stands beside a published mean."""
    says: str
    """What is compared, in words."""

    @model_validator(mode="after")
    def _over_published_ones(self) -> Self:
        if self.over and self.kind != "published":
            raise ValueError(f"{self.says}: `over` is for published numbers, not for {self.kind}")
        return self


class Place(Settings):
    """Where the lines of a grid are compared: one of its columns."""

    board: str
    """Where the rows are."""
    where: Query = Field(default_factory=dict)
    """What they have."""
    says: str
    """Which place it is, in words."""


class Line(Settings):
    """Two rows that a grid compares at all of its places."""

    where: Query = Field(default_factory=dict)
    """What both have."""
    one: Query = Field(default_factory=dict)
    """What the first has besides."""
    other: Query = Field(default_factory=dict)
    """What the second has."""
    says: str
    """What is compared, in words."""


class Grid(Settings):
    """Comparisons of accuracies, each at several places."""

    says: str = ""
    """What all lines have in common, in words."""
    one: Query = Field(default_factory=dict)
    """What all first rows have."""
    other: Query = Field(default_factory=dict)
    """What all second ones have."""
    across: tuple[Place, ...] = Field(min_length=1)
    """Columns."""
    compare: tuple[Line, ...] = Field(min_length=1)
    """Lines."""

    def at(self, line: Line, place: Place) -> Comparison:
        """Return the comparison of a cell."""
        return Comparison(
            kind="accuracy",
            board=place.board,
            where={**place.where, **line.where},
            one={**self.one, **line.one},
            other={**self.other, **line.other},
            says=f"{line.says}: {self.says}" if self.says else line.says,
        )


class Findings(Settings):
    """All comparisons of a document, by the name of their block."""

    blocks: dict[str, tuple[Comparison, ...] | Grid]
    """In the order of the document."""


def read_findings(path: Path) -> Findings:
    """Read what a document compares.

    Raises:
        StoreError: The file cannot be read.
        SettingsError: It has an unknown key or a wrong value.
    """
    return read_settings(Findings, path)
