"""What the server has beside uploads: declared by name, priced, and named in the record.

A method declares its resources by name, such as ``dataset:cifar100@500``. The first word is the
kind: a class of what can be known of a resource without torch (whether it can be had, which files
it comes from, what of a privilege it is), and how it is loaded. The kinds stand in one table,
``RESOURCES``; a plugin may add to it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from fedbench.config import Cell
from fedbench.data.settings import Data
from fedbench.errors import DataError, SettingsError
from fedbench.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from fedbench.data.dataset import ImageData


@dataclass(frozen=True)
class Resource:
    """A resource as a method is given it.

    Attributes:
        name: Such as ``dataset:cifar100@500``.
        tensors: Its values: ``images`` (N, C, H, W) uint8 in the cell's size and channels with
            their ``labels`` (N,), a ``picture`` (C, H, W) uint8, or whatever its kind says.
        pixels: Its price where it is images: what has to be stored, in pixels.
        size_bytes: Its price where it is none, such as the weights of a network.
        folder: Where it lies, for what is read from files by other libraries.
        digest: Of these files.
    """

    name: str
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    pixels: int = 0
    size_bytes: int = 0
    folder: Path | None = None
    digest: str = ""


@dataclass(frozen=True)
class Folders:
    """Where resources may lie.

    Attributes:
        data: The data root, which is only read.
        home: The folder for everything that fedbench writes.
    """

    data: Path
    home: Path

    @property
    def cache(self) -> Path:
        """Where decoded images and what is known of data files lie."""
        return self.home / "cache"


@dataclass(frozen=True)
class Scene:
    """What a resource is loaded for.

    Attributes:
        cell: Whose seed draws.
        channels: Of the cell's images, 1 or 3.
        size: Their height and width in pixels.
        classes: Number of the cell's classes.
        folders: Where resources may lie.
        read: Loads a data set.
    """

    cell: Cell
    channels: int
    size: int
    classes: int
    folders: Folders
    read: Callable[[Data], ImageData]


@dataclass(frozen=True)
class ResourceKind(ABC):
    """One declared resource; a subclass is a kind. Nothing but ``load`` may need torch.

    Attributes:
        text: The whole name, ``KIND:WHICH@COUNT``.
        which: What stands after the colon, or nothing.
        count: The number after the last ``@``, or None.
    """

    text: str
    which: str
    count: int | None

    #: The first word of the names.
    name: ClassVar[str]
    #: Whether a name says which one.
    named: ClassVar[bool] = True
    #: Whether a name ends in a number.
    counted: ClassVar[Literal["never", "may", "must"]] = "may"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the resource of a name.

        Raises:
            SettingsError: Resources of this kind are named otherwise.
        """
        _, which, count = parse_name(text)
        unasked = "must" if count is None else "never"
        if bool(which) != cls.named or cls.counted == unasked:
            form = cls.name + (":NAME" if cls.named else "")
            number = {"never": "", "may": "[@COUNT]", "must": "@COUNT"}[cls.counted]
            raise SettingsError(f"resource {text!r}: names of this kind are {form}{number}")
        return cls(text, which, count)

    def why_not(self, cell: Cell, folders: Folders) -> str | None:
        """Return why a cell cannot have it, or None; asked when a sweep is planned.

        What is not here may still come: that is no reason.
        """
        return None

    def digest(self, folders: Folders) -> str | None:
        """Return a digest of the content it comes from, or None where that is not here.

        A record of other files is computed again. What is drawn from the cell's own data has none.
        """
        return None

    def data(self, cell: Cell) -> Data | None:
        """Return the settings of the public data set that it is read from, or None."""
        return None

    def privilege(self, cell: Cell, folders: Folders) -> str | None:
        """Return in words what the method is given with it that others are not, or None."""
        return None

    def plugins(self) -> dict[str, str]:
        """Return the digests of the plugin files behind it, by what they brought."""
        return RESOURCES.plugins(self.name)

    @abstractmethod
    def load(self, scene: Scene) -> Resource:
        """Load it in the cell's image size and number of channels.

        Raises:
            DataError: There is no such thing, or less of it than was asked for.
            PrivacyError: It is the clients' own.
        """


#: All kinds of resources.
RESOURCES: Registry[type[ResourceKind]] = Registry(
    "resource kind",
    "fedbench.resources",
    targets={
        "dataset": "fedbench.federation.images:PublicImages",
        "unused": "fedbench.federation.images:UnusedImages",
        "unassigned": "fedbench.federation.images:UnassignedImages",
        "picture": "fedbench.federation.images:PublicPicture",
        "diffusers": "fedbench.federation.priors:DiffusionFolder",
    },
)


def parse_name(name: str) -> tuple[str, str, int | None]:
    """Split ``KIND:WHICH@COUNT`` into its parts; WHICH may be empty, COUNT may be missing.

    Raises:
        SettingsError: What follows the ``@`` is no number.
    """
    head, at, count = name.rpartition("@")
    if at and not (count.isdigit() and int(count)):
        raise SettingsError(
            f"resource {name!r}: {count!r} after the @ is no number from 1 on; name how many there "
            "are to be, such as unused@100"
        )
    kind, _, which = (head if at else name).partition(":")
    return kind, which, int(count) if at else None


def declared(name: str) -> ResourceKind:
    """Return what is known of a resource by its name.

    Raises:
        SettingsError: There is no such kind, or its resources are named otherwise.
    """
    kind = re.split("[:@]", name, maxsplit=1)[0]
    try:
        found = RESOURCES.get(kind)
    except SettingsError as error:
        raise SettingsError(f"resource {name!r}: {error}") from error
    return found.parse(name)


def why_not(names: Iterable[str], cell: Cell, folders: Folders) -> str | None:
    """Return why a cell cannot have the resources that its method declares, or None."""
    for name in names:
        try:
            reason = declared(name).why_not(cell, folders)
        except (SettingsError, DataError) as error:
            return str(error)
        if reason is not None:
            return f"resource {name!r}: {reason}"
    return None


def digests(names: Iterable[str], folders: Folders) -> dict[str, str]:
    """Return a digest of the files behind each resource, as far as they are here."""
    found = ((name, declared(name).digest(folders)) for name in names)
    return {name: digest for name, digest in found if digest is not None}
