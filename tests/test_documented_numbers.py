"""Numbers in README and docs are those of committed records, computed again."""

import csv
import re
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BOARDS = ROOT / "leaderboards"
PHOTO = ("single_image", "fedbench", "image=china selection.prune=top")
COLLAB, LOCAL = ("collabdm", "fedbench", "expand=1"), ("local_dm", "fedbench", "expand=1")

FIXED = "search_epochs=300 student_dsa=false student_recipe=fixed trials=20 validation=none"
SEARCHED = "search_epochs=60 student_dsa=true student_recipe=search trials=8 validation=pooled"


def distilled(words):
    return ("trajectory_matching", "fedbench", words)


def base(words):
    return ("base_images", "fedbench", words)


#: Of each page: boards, skews (or splits with budgets), and rows that are compared, in the order
#: of its table.
PAGES = {
    "public": (
        ["single_image_one_shot"],
        ["0.1", "1"],
        [
            (PHOTO, ("fedavg", "one_shot", "")),
            (("single_image", "reference", ""), ("fedavg", "one_shot", "")),
            (PHOTO, ("single_image", "fedbench", "image=china selection.prune=none")),
            (PHOTO, ("single_image", "fedbench", "image=noise selection.prune=top")),
            (PHOTO, ("feddf", "fedbench", "augment=standard")),
        ],
    ),
    "distilled": (
        ["collabdm_mnist", "collabdm_cifar10"],
        ["0.1", "0.5"],
        [
            (COLLAB, LOCAL),
            (LOCAL, ("random_real", "", "")),
            (("collabdm", "fedbench", "expand=2"), COLLAB),
            (("local_dm", "fedbench", "expand=2"), LOCAL),
            (("collabdm", "fedbench", "expand=2"), ("local_dm", "fedbench", "expand=2")),
            (COLLAB, ("collabdm", "reference", "")),
        ],
    ),
    "methods/trajectory_matching": (
        ["trajectory_sharing"],
        [f"shards_window shards={n} {n * ipc * 1024}" for n in (2, 5) for ipc in (1, 10)],
        [
            (distilled(f"element=fp32 {FIXED}"), base(FIXED)),
            (distilled(f"element=fp32 {SEARCHED}"), base(SEARCHED)),
            (distilled(f"element=fp32 {FIXED}"), ("local_dm", "fedbench", "")),
            (distilled(f"element=fp16 {FIXED}"), distilled(f"element=fp32 {FIXED}")),
            (distilled(f"element=uint8 {FIXED}"), distilled(f"element=fp32 {FIXED}")),
        ],
    ),
}


def accuracies(board):
    """Return percentages of quick runs by row, skew and seed; without β, by split and budget.

    Settings that all of them share set them apart from other profiles only, and are left out.
    """
    with (BOARDS / board / "runs.csv").open(encoding="utf-8") as file:
        runs = [run for run in csv.DictReader(file) if run["profile"] == "quick"]
    shared = set.intersection(*(set(run["settings"].split()) for run in runs))
    return {
        (
            run["method"],
            run["preset"],
            " ".join(word for word in run["settings"].split() if word not in shared),
            run["beta"] or f"{run['partition']} {run['budget_pixels']}",
            run["seed"],
        ): 100 * float(run["accuracy"])
        for run in runs
    }


def differences(boards, skews, pairs):
    """Yield paired differences over seeds as they are written, pair by pair."""
    found = {board: accuracies(board) for board in boards}
    for one, other in pairs:
        for board in boards:
            for beta in skews:
                known = found[board]
                gaps = [known[(*one, beta, s)] - known[(*other, beta, s)] for s in "012"]
                yield f"{statistics.mean(gaps):+.2f} ± {statistics.stdev(gaps):.2f}"


@pytest.mark.parametrize("page", PAGES)
def test_differences_are_those_of_the_published_runs(page):
    text = (ROOT / "docs" / f"{page}.md").read_text()
    assert re.findall(r"[+-]\d+\.\d\d ± \d+\.\d\d", text) == list(differences(*PAGES[page]))


def test_the_numbers_of_the_readme_are_published():
    text = (ROOT / "README.md").read_text()
    published = (BOARDS / "digits" / "table.md").read_text()
    numbers = re.findall(r"\d+\.\d\d ± \d+\.\d\d", text)
    assert len(numbers) == 44
    assert [number for number in numbers if number not in published] == []


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.stem)
def test_means_in_the_docs_are_published(path):
    text = path.read_text()
    published = "".join(path.read_text() for path in BOARDS.glob("*/table.md"))
    numbers = re.findall(r"(?<![+\d.-])\d+\.\d\d ± \d+\.\d\d", text)
    assert [number for number in numbers if number not in published] == []
