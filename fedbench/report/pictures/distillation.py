"""How clients distilled: their sets beside what these began with, how that went, what it gained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from fedbench.report.figures import style
from fedbench.report.figures.layout import BAR, Grid, Margins
from fedbench.report.figures.render import Sketch
from fedbench.report.figures.series import Page, Panel
from fedbench.report.pictures.sheet import Row, Strip, sheet

#: Iterations over which losses are averaged, because each begins at another epoch: S5's figures.
WINDOW = 30
_ILL = (0, (1.2, 1.2))  # the dash of an ill-trained client
_MARGINS = Margins(left=0.5, across=0.5)


@dataclass(frozen=True)
class Course:
    """How one client's distillation went.

    Attributes:
        client: Its number.
        base: (n, C, S, S) uint8, the real images that it began with.
        images: (n, C, S, S) uint8, what it sent.
        labels: (n,) classes of both.
        losses: (T,) of each iteration.
        judged: (J,) iterations after which networks were trained on the set; none without hold-out.
        accuracies: (J, networks) of these on the hold-out, in [0, 1].
        sent: Which of the judged sets was sent, from 0; 0 without hold-out.
        attempts: How often it was begun.
        ill: In which way it came to nothing; empty where it did not.
    """

    client: int
    base: NDArray[np.uint8]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    losses: NDArray[np.floating]
    judged: NDArray[np.int64]
    accuracies: NDArray[np.floating]
    sent: int
    attempts: int
    ill: str

    @property
    def title(self) -> str:
        """The client in words, marked where it is ill-trained."""
        again = f", {self.attempts} attempts" if self.attempts > 1 else ""
        return f"client {self.client}{again}" + (" (ill-trained)" if self.ill else "")


def before_and_after(
    name: str,
    header: Sequence[str],
    courses: Sequence[Course],
    classes: Sequence[str],
    *,
    count: int = 10,
) -> Sketch:
    """Draw base images beside distilled ones, a row for each client and class.

    Args:
        name: The file's stem.
        header: The title, and lines below it.
        courses: Of the clients.
        classes: The classes' names.
        count: Images of a client's class, at most.
    """
    rows = []
    for course in courses:
        for label in np.unique(course.labels).tolist():
            own = np.flatnonzero(course.labels == label)[:count]
            strips = Strip(course.base[own]), Strip(course.images[own])
            colour = style.COLOURS[1] if course.ill else style.INK
            rows.append(Row(classes[label], (f"client {course.client}",), strips, colour))
    caption = "Real images and what was distilled from them, by client and class."
    columns = max((len(row.strips[0].images) for row in rows), default=1)
    return sheet(name, header, caption, ("Base", "Distilled"), rows, columns)


def courses_page(name: str, header: str, courses: Sequence[Course]) -> Sketch:
    """Draw the loss and the accuracy on the hold-out of every client, ill-trained ones dashed.

    Args:
        name: The file's stem.
        header: Facts, joined by `` · ``.
        courses: Of the clients.
    """
    judged = any(len(course.judged) for course in courses)
    titles = ["training loss, 1 for a student that stays"]
    titles += ["accuracy on its own hold-out (%)"] if judged else []
    legend = [
        Line2D([], [], label=course.title, **_look(place, course))
        for place, course in enumerate(courses)
    ]
    with style.context():
        panels = [Panel({}, [], title) for title in titles]
        grid = Grid(Page(name, "", header, panels, len(panels)), legend, 2.4, _MARGINS, full=True)
        for place, course in enumerate(courses):
            look = _look(place, course)
            smooth = smoothed(course.losses)
            grid.axes[0].plot(np.arange(1, len(smooth) + 1), smooth, **look)
            if judged and len(course.judged):
                means = 100 * course.accuracies.mean(1)
                grid.axes[1].plot(course.judged, means, **{**look, "marker": "o"}, markersize=2.5)
        grid.axes[0].axhline(1, color=style.FAINT, linewidth=0.6)
        grid.name_axes("iteration", "")
        for axes in grid.axes:
            axes.tick_params(labelleft=True)
    caption = (
        f"Loss of trajectory matching, averaged over {WINDOW} iterations, and mean accuracy of "
        "networks that were trained on the set, by client; dotted: ill-trained."
    )
    return Sketch(name, "Distillation at every client", caption, grid.drawing)


def gains(name: str, header: str, courses: Sequence[Course]) -> Sketch:
    """Draw what networks reach on base and on distilled images at each client, with its hold-out.

    Args:
        name: The file's stem.
        header: Facts, joined by `` · ``.
        courses: Of clients with a hold-out.
    """
    with style.context():
        legend = [_patch("base images", style.GREY), _patch("distilled", style.COLOURS[0])]
        grid = Grid.single(header, legend, 2.4, _MARGINS, full=len(courses) > 6)
        axes = grid.axes[0]
        for place, course in enumerate(courses):
            _bar(axes, place - 0.2, course.accuracies[0], style.GREY)
            _bar(axes, place + 0.2, course.accuracies[course.sent], style.COLOURS[0])
        names = [f"{course.client}" + ("*" if course.ill else "") for course in courses]
        axes.set_xticks(range(len(courses)), names)
        grid.name_axes("client", "accuracy on its hold-out (%)")
    caption = (
        "Accuracy on a client's own hold-out of networks that were trained on its base images and "
        "on the set that it sent. Bars: standard error over networks. A star: ill-trained."
    )
    return Sketch(name, "What distillation gains at every client", caption, grid.drawing)


def search_curve(
    name: str, header: str, kinds: Sequence[str], values: NDArray[np.floating]
) -> Sketch:
    """Draw the trials of a search and the best so far.

    Args:
        name: The file's stem.
        header: Facts, joined by `` · ``.
        kinds: The optimiser of each trial.
        values: (n,) accuracies in [0, 1], NaN for trials that failed.
    """
    number = np.arange(1, len(values) + 1)
    best = np.maximum.accumulate(np.nan_to_num(values, nan=-np.inf))
    found = dict.fromkeys(kinds)
    with style.context():
        legend = [
            Line2D([], [], label=kind, linestyle="none", **_dot(place))
            for place, kind in enumerate(found)
        ]
        legend.append(Line2D([], [], label="best so far", color=style.INK, linewidth=1.2))
        grid = Grid.single(header, legend, 2.2, _MARGINS)
        axes = grid.axes[0]
        known = np.isfinite(best)
        axes.step(number[known], 100 * best[known], where="post", color=style.INK, linewidth=1.2)
        for place, kind in enumerate(found):
            own = np.array([each == kind for each in kinds])
            axes.plot(number[own], 100 * values[own], linestyle="none", **_dot(place))
        grid.name_axes("trial", "accuracy on hold-outs (%)")
    caption = "Accuracy of each trial on the clients' hold-outs, and the best so far."
    return Sketch(name, "Search for optimiser and learning rate", caption, grid.drawing)


def smoothed(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the mean of each value and up to ``WINDOW - 1`` before it."""
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    end = np.arange(1, len(total))
    start = np.maximum(end - WINDOW, 0)
    found: NDArray[np.float64] = (total[end] - total[start]) / (end - start)
    return found


def _look(place: int, course: Course) -> dict[str, Any]:
    return {
        "color": style.COLOURS[place % len(style.COLOURS)],
        "linestyle": _ILL if course.ill else style.DASHES[0],
        "linewidth": 1.0 if place < len(style.COLOURS) else 0.6,
    }


def _dot(place: int) -> dict[str, Any]:
    return {"marker": style.MARKERS[place], "color": style.COLOURS[place], "markersize": 4.0}


def _patch(label: str, colour: str) -> Line2D:
    return Line2D([], [], label=label, color=colour, linewidth=5)


def _bar(axes: Axes, place: float, values: NDArray[np.floating], colour: str) -> None:
    spread = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    bars = {key: value for key, value in BAR.items() if key != "elinestyle"}
    axes.bar(place, 100 * values.mean(), 0.36, yerr=100 * spread, color=colour, error_kw={**bars})
