"""`fedbench show distillation` and `show search`: how sets and their training came about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.cli.pictures import Named, Out, facts, folder_of, write
from fedbench.errors import SettingsError
from fedbench.session.console import stdout
from fedbench.session.lookup import find_good_record, read_output, read_sets

if TYPE_CHECKING:
    from torch import Tensor

    from fedbench.bench.records.record import Record
    from fedbench.report.pictures.distillation import Course


def distillation(
    record: Named,
    out: Out = None,
    count: Annotated[int, typer.Option(help="Images of a client's class, at most.", min=1)] = 10,
) -> None:
    """Draw how every client distilled: its images before and after, losses, accuracies, gains.

    Example: fedbench show distillation 3f2a
    """
    from fedbench.report.pictures.distillation import before_and_after, courses_page, gains

    path, found = find_good_record(record)
    courses = _courses(path, found)
    folder, words = out or folder_of(found), facts(found)
    ill = [course for course in courses if course.ill]
    head = [f"Base images and distilled ones, {words}"]
    head += (
        [f"ill-trained, in colour: {', '.join(str(each.client) for each in ill)}"] if ill else []
    )
    classes = found.data["classes"]
    write(before_and_after("distilled", head, courses, classes, count=count), folder)
    write(courses_page("distillation", words, courses), folder)
    if judged := [course for course in courses if len(course.judged)]:
        write(gains("gains", words, judged), folder)


def search(record: Named, out: Out = None) -> None:
    """Show the trials of a cell's search: a table, and the curve of the best so far.

    Example: fedbench show search 3f2a
    """
    from rich.table import Table

    from fedbench.report.pictures.distillation import search_curve
    from fedbench.synthesis.matching.searched import best, trials

    path, found = find_good_record(record)
    if "search" not in found.outputs:
        raise SettingsError(
            f"cell {found.cell_id} is of {found.method_label()} and has not searched; a cell of "
            "trajectory_matching or base_images with student_recipe: search does"
        )
    tried = trials(read_output(path, found, "search"))
    top = best(tried)
    table = Table("trial", "optimiser", "learning rate", "hold-outs", box=None)
    for number, each in enumerate(tried, 1):
        value = "diverged" if each.value != each.value else f"{100 * each.value:.2f} %"
        mark = " *" if each is top else ""
        lr = float(each.params["lr"] or 0)
        table.add_row(str(number), str(each.params["optimizer"]), f"{lr:.3g}", value + mark)
    stdout.print(table)
    import numpy as np

    kinds = [str(each.params["optimizer"]) for each in tried]
    values = np.array([each.value for each in tried])
    write(search_curve("search", facts(found), kinds, values), out or folder_of(found))


def _courses(path: Path, record: Record) -> list[Course]:
    """Read how a cell's clients distilled.

    Raises:
        SettingsError: The cell's clients distil nothing by trajectory matching.
    """
    from fedbench.report.pictures.distillation import Course
    from fedbench.synthesis.matching.attempts import ILL

    names = [name for name in record.outputs if name.startswith("client/")]
    if record.settings["method"]["name"] != "trajectory_matching" or not names:
        raise SettingsError(
            f"cell {record.cell_id} is of {record.method_label()}, whose clients leave no course "
            "of a distillation; a cell of trajectory_matching does"
        )
    scale = read_sets(path, record)["synthetic"].normalisation
    found = []
    for name in sorted(names, key=lambda name: int(name.partition("/")[2])):
        kept = read_output(path, record, name)
        found.append(
            Course(
                client=int(name.partition("/")[2]),
                base=scale.to_pixels(kept["base"]).numpy(),
                images=scale.to_pixels(kept["images"]).numpy(),
                labels=kept["labels"].numpy(),
                losses=kept["losses"].numpy(),
                judged=kept["judged"].numpy(),
                accuracies=kept["accuracies"].numpy(),
                sent=_sent(kept["accuracies"], record.settings["method"]["keep"]),
                attempts=len(kept["ill"]),
                ill=ILL[int(kept["ill"][int(kept["chosen"])])],
            )
        )
    return found


def _sent(accuracies: Tensor, keep: str) -> int:
    """Return which of the judged sets a client sent."""
    if not len(accuracies):
        return 0
    return int(accuracies.mean(1).argmax()) if keep == "best" else len(accuracies) - 1
