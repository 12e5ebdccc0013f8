"""The look of all figures: sizes, colours, markers, dashes, whatever the machine's settings are.

Contenders are filled and coloured, controls hollow and grey. A method has its colour and its marker
on all boards. Colours are safe for colour-blind readers, and every series has a marker and a dash
of its own, so figures can be read in grey.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import matplotlib
from matplotlib.colors import to_hex, to_rgb
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path

from fedbench.bench.records.about import STAR
from fedbench.report import labels

T = TypeVar("T", bound=Hashable)

COLUMN, PAGE = 3.3, 6.9  # inches: one column of a two-column paper, and both
TALLEST = 8.8  # inches
SMALL, NORMAL = 7.0, 8.0  # points
_WIDER, _WIDEST = 3.3, 4.5  # inches that names get which are the same when they are shorter
INK, FAINT = "#222222", "#6a6a6a"

# Okabe and Ito's colours, of which yellow is too pale for lines and black is the text's, and Tol's
# wine and indigo: no pair comes closer under any kind of colour blindness than theirs do.
# https://jfly.uni-koeln.de/color/ and https://personal.sron.nl/~pault/
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#882255",
    "#332288",
)
#: What variants of one method are mixed with, and how much of it, in turn.
SHADES = (("white", 0.0), ("black", 0.4), ("white", 0.45), ("black", 0.65))
#: The same of colours so dark that darker ones look black.
DARK_SHADES = (("white", 0.0), ("white", 0.35), ("black", 0.55), ("white", 0.6))
_DARK = 0.3  # brightness, in [0, 1]
GREY = "#7a7a7a"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">", "h", "*", "d", "8")
#: How large markers are drawn so that they look alike in size; others are 1.
WEIGHT = {"*": 1.6, "P": 1.25, "X": 1.25, "d": 1.25, "p": 1.15, "h": 1.15, "D": 0.85, "s": 0.92}
HOLLOW = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">")
DASHES = ((0, ()), (0, (4, 1.3)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))

#: Colour and marker of each contender. The four colours beside ``COLOURS`` come no closer to them,
#: and to each other, under red-green blindness than those do.
METHODS = {
    "co_boosting": ("#CC79A7", ">"),
    "collabdm": ("#56B4E9", "d"),
    "deep_inversion": ("#332288", "s"),
    "dense": ("#0072B2", "o"),
    "fedcgs": ("#D55E00", "^"),
    "feddf": ("#009E73", "<"),
    "fedlmg": ("#882255", "X"),
    "fedprox": ("#E69F00", "P"),
    "local_dm": ("#A020F0", "*"),
    "local_kip": ("#80CDC1", "p"),
    "single_image": ("#8C564B", "D"),
    "trajectory_matching": ("#4D4D00", "v"),
}
#: Marker of each control; of one with presets by its label too.
CONTROLS = {
    "base_images": "^",
    "centralised": "o",
    "ensemble": "D",
    "fedavg": "v",
    "fedavg (one_shot)": "P",
    "local": "X",
    "random_real": "s",
}
_FILLED = {name: marker for name, (_, marker) in METHODS.items()}
_COLOURED = {name: colour for name, (colour, _) in METHODS.items()}
_HUES = tuple(dict.fromkeys((*COLOURS, *_COLOURED.values())))

_RC: dict[str, Any] = {
    "svg.hashsalt": "fedbench",
    "svg.fonttype": "path",  # text as outlines looks alike whatever fonts the reader has
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a name may hold dollars
    "font.family": ["DejaVu Sans"],  # comes with matplotlib
    "font.size": SMALL,
    "axes.titlesize": NORMAL,
    "axes.labelsize": NORMAL,
    "axes.titlepad": 3.0,
    "axes.labelpad": 2.0,
    "axes.edgecolor": "#666666",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.5,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.pad": 2.0,
    "ytick.major.pad": 2.0,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "hatch.linewidth": 0.4,
    "hatch.color": "#9a9a9a",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
_NOT_OURS = ("backend", "backend_fallback", "toolbar", "interactive")


@contextmanager
def context() -> Iterator[None]:
    """Draw with this style on matplotlib's own defaults, whatever the user's matplotlibrc says."""
    settings: Any = {
        name: value
        for name, value in matplotlib.rcParamsDefault.items()
        if not name.startswith(_NOT_OURS)
    }
    with matplotlib.rc_context(settings | _RC):
        yield


@dataclass(frozen=True)
class Look:
    """How a series is drawn.

    Attributes:
        label: Its name in legends.
        control: Whether it is a row to compare with: grey and hollow.
        colour: Of lines and markers.
        marker: A marker of matplotlib.
        dash: An (offset, on-off lengths) pair.
    """

    label: str
    control: bool
    colour: str
    marker: str
    dash: tuple[int, tuple[float, ...]]

    @property
    def face(self) -> str:
        """What the marker is filled with."""
        return "white" if self.control else self.colour


def looks(series: Iterable[tuple[str, str, bool]]) -> list[Look]:
    """Give each series its look.

    The colour hangs on the method's name, the marker and the dash on the label, those of the
    method's first variant on the name as well. Its other variants have shades of its colour.
    Methods that are not in ``METHODS`` and ``CONTROLS`` take what those leave, so that a new series
    changes the looks of few others (see ``_given``).

    Args:
        series: Method, label and whether it is a control, each label once.
    """
    series = list(series)
    colours = _given({method for method, _, control in series if not control}, _HUES, _COLOURED)
    named = _named(series)
    shapes: dict[bool, tuple[dict[str, str], dict[str, tuple[int, tuple[float, ...]]]]] = {}
    for control, markers, fixed in ((False, MARKERS, _FILLED), (True, HOLLOW, CONTROLS)):
        names = {named[label] for _, label, other in series if other is control}
        shapes[control] = _given(names, markers, fixed), _given(names, DASHES, {})
    shades: dict[str, str] = {}
    drawn: Counter[str] = Counter()  # methods that share a colour share its shades
    for method, label, control in sorted(series, key=lambda one: one[0] != named[one[1]]):
        if not control:
            own = colours[method]
            shades[label] = _shaded(own, drawn[own])
            drawn[own] += 1
    result = []
    for _, label, control in series:
        (markers_of, dashes_of), name = shapes[control], named[label]
        colour = shades.get(label, GREY)
        result.append(Look(known(label), control, colour, markers_of[name], dashes_of[name]))
    return result


def _named(series: Sequence[tuple[str, str, bool]]) -> dict[str, str]:
    """Return under which name each label has its look: of its method's first variant the method."""
    found: dict[str, str] = {}
    for method, label, _ in sorted(series, key=_plainest):
        plain = label.replace(STAR, "")
        first = method not in found.values()
        found[label] = plain if plain in CONTROLS else method if first else label
    return found


def _plainest(series: tuple[str, str, bool]) -> tuple[int, list[tuple[float, str]]]:
    """Return a key that sorts series from few settings in their labels to many."""
    return series[1].count(","), labels.natural(series[1])


def _shaded(colour: str, place: int) -> str:
    """Return a colour's shade: itself, darker, lighter, and so on in turn."""
    red, green, blue = to_rgb(colour)
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < _DARK
    target, share = (DARK_SHADES if dark else SHADES)[place % len(SHADES)]
    parts = zip(to_rgb(colour), to_rgb(target), strict=True)
    red, green, blue = ((1 - share) * own + share * other for own, other in parts)
    return to_hex((red, green, blue))


def _given(names: set[str], things: Sequence[T], fixed: Mapping[str, T]) -> dict[str, T]:
    """Give each name its own thing, others the next of the least taken from where its hash points.

    As in a hash table, a name that is added moves only those that it pushes on.
    """
    found = {name: fixed[name] for name in sorted(names) if name in fixed}
    taken = Counter(found.values())
    for name in sorted(names - found.keys()):
        start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % len(things)
        found[name] = min((*things[start:], *things[:start]), key=taken.__getitem__)
        taken[found[name]] += 1
    return found


@cache
def known(text: str) -> str:
    """Return text with the code points of what our font has no glyph for, such as ``[732B]``.

    Another font's glyphs would differ from machine to machine.
    """
    return "".join(c if ord(c) in _glyphs() else f"[{ord(c):04X}]" for c in text)


@cache
def _glyphs() -> frozenset[int]:
    font = get_font(findfont(FontProperties(family="DejaVu Sans")))
    return frozenset(font.get_charmap())


@cache
def width(text: str, size: float = SMALL) -> float:
    """Return how wide a line of text is, in inches."""
    font = FontProperties(family="DejaVu Sans", size=size)
    text = known(text)
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / 72


def fit(text: str, inches: float, size: float = SMALL) -> str:
    """Shorten a text in its middle until it is no wider than ``inches``."""
    if width(text, size) <= inches:
        return text
    for kept in range(len(text) - 1, 1, -1):
        head = -(-kept // 2)
        short = f"{text[:head]}…{text[len(text) - (kept - head) :]}"
        if width(short, size) <= inches:
            return short
    return "…"


def fit_all(texts: Iterable[str], inches: float) -> list[str]:
    """Shorten texts, each as far as no two become the same."""
    texts = list(texts)
    short = [fit(text, inches) for text in texts]
    while len(set(short)) < len(set(texts)) and inches < _WIDEST:
        inches = max(inches + 0.2, _WIDER)
        short = [fit(text, inches) for text in texts]
    return short


def wrap(text: str, inches: float, size: float = SMALL) -> list[str]:
    """Break a text at its dots into lines no wider than ``inches``, where it can be."""
    lines = [""]
    for part in text.split(" · "):
        longer = f"{lines[-1]} · {part}" if lines[-1] else part
        if lines[-1] and width(longer, size) > inches:
            lines.append(part)
        else:
            lines[-1] = longer
    return lines
