"""How a data set is described: what is known before a file is opened, and which files hold it.

A ``DatasetSpec`` carries all that loading needs. What is wrong with one is said when it is made, so
that a plugin's fault comes out with its line. Neither torch nor NumPy is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, get_args

from fedbench.errors import SettingsError

#: What may be done to images while they are learned from (see ``augment``).
Kind = Literal["none", "crop", "flip", "flip_crop"]
#: How `files` is written.
_FILES = 'write files={"train": "train.npz", "test": ("test.npz", "val.npz")}: for each part a '
_PATTERN = _FILES + "pattern, or several of which the first that matches counts"


@dataclass(frozen=True)
class Layout:
    """One accepted arrangement of a data set's files.

    Attributes:
        name: A short name, such as ``parquet``.
        words: The arrangement in words, for help and errors.
        reader: Who reads it: a function with the signature of ``fedbench.data.readers.Reader``, or
            ``module:function``, imported when it is needed.
        places: Folders below the data root (or below `path`) where the files may lie, the
            preferred one first.
        files: For each part, the glob patterns that may match it, relative to the place; the
            first pattern that matches anything gives the part's files. All parts must be there.
            A mapping, or pairs, of parts and patterns; ``parts`` has it as pairs.
        suffixes: File name endings (lower case, with the dot) that count; empty counts all.
        labels: The label's column, where the files are tables with named columns.
        unless: Names in a place that rule the layout out there, since they mean another one.
        look: What a plan asks of files that are there, before anything is computed: a function of
            the ``Sources``, or ``module:function``, that raises ``sources.fault(path, what)`` for
            what the reader would refuse. It is to be quick, and to import no torch.
    """

    name: str
    words: str
    reader: str | Callable[..., object]  # a Reader, whose type needs torch and this module
    places: tuple[str, ...] = ("",)
    files: Mapping[str, str | Sequence[str]] | Sequence[tuple[str, str | Sequence[str]]] = ()
    suffixes: tuple[str, ...] = ()
    labels: str = "label"
    unless: tuple[str, ...] = ()
    look: str | Callable[..., object] | None = None

    def __post_init__(self) -> None:
        """Refuse what no file could be found or read by.

        Raises:
            SettingsError: With the attribute, what it is, and how it is written.
        """
        whose = f"layout {self.name!r}"
        for name in ("places", "suffixes", "unless"):
            object.__setattr__(self, name, _texts(whose, name, getattr(self, name)))
        if not self.places:
            raise SettingsError(f'{whose}: `places` is empty; ("",) is the data root itself')
        for suffix in self.suffixes:
            if not suffix.startswith(".") or suffix != suffix.lower():
                raise SettingsError(
                    f"{whose}: `suffixes` has {suffix!r}; endings are in small letters and begin "
                    f'with a dot, such as "{"." + suffix.lower().lstrip(".")}"'
                )
        for place in self.places:
            _check_below(whose, "places", place)
        for name in ("reader", "look"):
            _check_function(whose, name, getattr(self, name), needed=name == "reader")
        object.__setattr__(self, "files", _parts(whose, self.files))

    @property
    def parts(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """``files`` as pairs of a part and its patterns."""
        return _parts(f"layout {self.name!r}", self.files)


@dataclass(frozen=True)
class DatasetSpec:
    """One data set.

    Attributes:
        name: Its name in settings.
        title: What it is, in one line.
        classes: Names of the classes in the order of the labels; empty where they are known only
            after reading.
        channels: 1 or 3; None where known only after reading.
        size: Height and width in pixels of the images as they are read without `image_size`.
        train_size: Published number of training images; None where there is none.
        test_size: Published number of test images; None where there is none.
        mean: Mean in [0, 1], one value a channel; a single value serves all channels.
        std: Standard deviation in [0, 1], as ``mean``.
        augment: What the recipe's ``standard`` augmentation means here.
        version: Of the reader: part of the cell id; raised when pixels, labels, split or the
            constants above change.
        accepts: The accepted layouts, the preferred one first.
        fetch: The command that fetches it, or what to do; ``{root}`` stands for the data root.
        torchvision: The class of torchvision.datasets that downloads it; empty for none.
        download_to: The folder below the data root that the download goes to.
        takes_path: Whether the settings must give a `path`.
        source: Who made it and where it is described: the attribution to give.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    channels: int | None
    size: int
    train_size: int | None
    test_size: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Kind
    version: int
    accepts: tuple[Layout, ...]
    fetch: str
    torchvision: str = ""
    download_to: str = ""
    takes_path: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be a data set.

        Raises:
            SettingsError: With the attribute, what it is, and how it is written.
        """
        whose = f"data set {self.name!r}"
        object.__setattr__(self, "classes", _texts(whose, "classes", self.classes))
        if len({*self.classes}) < len(self.classes):
            twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
            raise SettingsError(f"{whose}: `classes` names {', '.join(twice)} twice; rename one")
        if self.channels not in (1, 3, None):
            raise SettingsError(f"{whose}: `channels` is {self.channels!r}; it is 1, 3 or None")
        if self.augment not in get_args(Kind):
            known = ", ".join(get_args(Kind))
            raise SettingsError(f"{whose}: `augment` is {self.augment!r}; it is one of {known}")
        for name in ("size", "train_size", "test_size", "version"):
            _check_count(whose, name, getattr(self, name))
        for name in ("mean", "std"):
            _check_pixels(whose, name, getattr(self, name), self.channels)
        _check_accepts(whose, self.accepts)

    @property
    def layouts(self) -> tuple[str, ...]:
        """The accepted layouts in words."""
        return tuple(layout.words for layout in self.accepts)


def _parts(whose: str, files: object) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return a layout's files as pairs.

    Raises:
        SettingsError: They are none, a part has no pattern or two lines, or a pattern leads out.
    """
    pairs = list(files.items()) if isinstance(files, Mapping) else files
    if isinstance(pairs, str) or not isinstance(pairs, Sequence):
        raise SettingsError(f"{whose}: `files` is {files!r}; {_PATTERN}")
    found: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise SettingsError(
                f"{whose}: `files` has {pair!r}, which is no part with its patterns; {_PATTERN}"
            )
        part, patterns = pair
        if not isinstance(part, str) or not part:
            raise SettingsError(f"{whose}: `files` has a part {part!r}, not a name; {_PATTERN}")
        if part in found:
            raise SettingsError(
                f"{whose}: `files` has the part {part!r} twice; give it its patterns together, "
                f'("{part}.npz", "{part}.csv")'
            )
        given = (patterns,) if isinstance(patterns, str) else patterns
        found[part] = _texts(whose, f"files[{part!r}]", given)
        if not found[part]:
            raise SettingsError(f"{whose}: `files` has no pattern for {part!r}; {_PATTERN}")
        for pattern in found[part]:
            _check_below(whose, f"files[{part!r}]", pattern)
            if not pattern or ("**" in pattern and pattern.count("/**/") != 1):
                raise SettingsError(
                    f"{whose}: `files[{part!r}]` has the pattern {pattern!r}; it names files, such "
                    'as "train.npz" or "train-*.parquet", or whole trees, "train/*/**/*"'
                )
    return tuple(found.items())


def _texts(whose: str, name: str, values: object) -> tuple[str, ...]:
    """Return texts as a tuple; a text that stands alone would be taken letter by letter."""
    if isinstance(values, str):
        raise SettingsError(f'{whose}: `{name}` is one text; write ("{values}",)')
    if not isinstance(values, Sequence) or not all(isinstance(value, str) for value in values):
        raise SettingsError(f'{whose}: `{name}` is {values!r}; write texts, such as ("a", "b")')
    return tuple(values)


def _check_below(whose: str, name: str, place: str) -> None:
    """Refuse a place that is not below the folder that it is looked for in."""
    if place.startswith("/") or ".." in PurePosixPath(place).parts or "\\" in place:
        raise SettingsError(
            f"{whose}: `{name}` has {place!r}; it is looked for below the data root (or `path`): "
            "write it relative to that, with / between folders"
        )


def _check_function(whose: str, name: str, function: object, *, needed: bool) -> None:
    """Refuse what is neither a function nor where one is."""
    if function is None and not needed:
        return
    named = isinstance(function, str) and all(function.partition(":"))
    if not named and not callable(function):
        raise SettingsError(
            f"{whose}: `{name}` is {function!r}; give the function, or where it is as "
            '"module:function"'
        )


def _check_count(whose: str, name: str, value: object) -> None:
    if value is None and name.endswith("_size"):
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        unknown = ", or None where it is not known" if name.endswith("_size") else ""
        raise SettingsError(f"{whose}: `{name}` is {value!r}; it is a number from 1 on{unknown}")


def _check_pixels(whose: str, name: str, values: object, channels: int | None) -> None:
    """Refuse a mean or a deviation that is no value in [0, 1] a channel."""
    given = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else []
    known = all(isinstance(v, int | float) and 0 <= v <= 1 for v in given)
    if not given or not known or len(given) not in (1, channels or 1):
        several = "" if channels in (1, None) else f", or {channels} of them"
        raise SettingsError(
            f"{whose}: `{name}` is {values!r}; it is a value in [0, 1]{several}, such as (0.5,)"
        )
    if name == "std" and not all(given):
        raise SettingsError(f"{whose}: `std` is {values!r}; pixels are divided by it: above 0")


def _check_accepts(whose: str, layouts: object) -> None:
    if isinstance(layouts, Layout):
        raise SettingsError(f"{whose}: `accepts` is one layout; write (Layout(...),)")
    if (
        not isinstance(layouts, Sequence)
        or not layouts
        or not all(isinstance(layout, Layout) for layout in layouts)
    ):
        raise SettingsError(
            f"{whose}: `accepts` is {layouts!r}; it is one layout or more: (Layout(...),)"
        )
