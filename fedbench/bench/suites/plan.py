"""From a suite to cells: every combination validated, skips named, equal cells merged."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from fedbench.bench.cells.holdouts import why_none
from fedbench.bench.suites.planfile import Entry, Excluded, Plan
from fedbench.bench.suites.suite import Suite, Tree, merge
from fedbench.config import Cell, parse
from fedbench.data.settings import Data
from fedbench.data.specs import DATASETS
from fedbench.errors import SettingsError
from fedbench.federation.resources import Folders
from fedbench.federation.resources import why_not as why_not_resources
from fedbench.files import data_root, home
from fedbench.methods import METHODS
from fedbench.settings import validate
from fedbench.training.recipe import Student

#: Phases of a seed, in the order of computing (see ``arrange``).
_PRODUCER, _CONSUMER, _ALONE = range(3)


@dataclass(frozen=True)
class Planned:
    """One cell of a plan.

    Attributes:
        cell: Its settings.
        cell_id: Its identity.
        skip: Why it cannot run, or None.
        trainings: Names of the client trainings that its first round shares with other cells.
        passes: Images that it trains on, repetitions counted; None where that is not known.
        rounds: Communication rounds.
        warnings: What the method says of its settings (see ``Method.warnings``).
    """

    cell: Cell
    cell_id: str
    skip: str | None
    trainings: tuple[str, ...] = ()
    passes: float | None = None
    rounds: int = 1
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expansion:
    """All that a suite comes to.

    Attributes:
        cells: In the order of computing (see ``arrange``), skipped ones too.
        excluded: What the suite leaves out.
    """

    cells: list[Planned]
    excluded: list[Excluded]


def skip_reason(cell: Cell) -> str | None:
    """Return why a cell cannot run, or None; knows settings only, no data."""
    from fedbench.models.settings import why_not

    for model in cell.models:
        if (reason := why_not(model, cell.data.size)) is not None:
            return reason
    if (reason := why_none(cell)) is not None:
        return reason
    method = METHODS.get(cell.method.name)(cell.method)
    if (reason := method.skip(cell)) is not None:
        return reason
    return why_not_resources(method.resources(cell), cell, Folders(data_root(), home()))


def planned(cell: Cell) -> Planned:
    """Return one cell with its identity, skip reason and size.

    A budget that its method does not use is dropped, and a student's recipe is the default again.
    """
    method = METHODS.get(cell.method.name)(cell.method)
    if cell.budget is not None and not method.uses_budget:
        cell = cell.model_copy(update={"budget": None})
    if not method.uses_student:
        cell = cell.model_copy(update={"student": Student()})
    if (skip := skip_reason(cell)) is not None:
        return Planned(cell, cell.cell_id, skip)
    return Planned(
        cell,
        cell.cell_id,
        None,
        trainings(cell),
        method.passes(cell),
        max(method.rounds(), 1),
        method.warnings(cell),
    )


def trainings(cell: Cell) -> tuple[str, ...]:
    """Return names for the client trainings that a cell's first round takes or leaves.

    Two cells that have a name in common share an artefact, where their data and devices are equal:
    the names hash what ``Client.train_classifier`` keys it by, with the settings of data and
    partition in place of the images.

    Returns:
        ``HASH/k`` for every client k that takes part in the first round.
    """
    from fedbench.federation.loop import participants

    method = METHODS.get(cell.method.name)(cell.method)
    training = method.client_training(cell)
    if training is None:
        return ()
    share = 1.0 if method.everyone or not method.rounds() else cell.participation
    origin = cell.model_dump(mode="json", include={"data", "partition", "seed", "precision"})
    origin["partition"].pop("max_tries", None)  # not every scheme draws until all fits
    origin["recipe"] = training.recipe.model_dump(mode="json", exclude_defaults=True)
    origin["rest"] = [training.proximal, training.snapshots]
    if training.logit_bound is not None:
        origin["logit_bound"] = asdict(training.logit_bound)
    names = []
    for client in participants(cell.seed, cell.partition.clients, share, 0):
        model = cell.method.started(cell.client_model(client))
        text = json.dumps({**origin, "model": model.model_dump(mode="json")}, sort_keys=True)
        names.append(f"{hashlib.sha256(text.encode()).hexdigest()[:12]}/{client}")
    return tuple(names)


def cost_of(settings: Mapping[str, Any]) -> float:
    """Return the multiply-adds of an image's way through a cell's networks, their mean.

    Args:
        settings: Of a plan's entry or a record.

    Raises:
        FedbenchError: The data set or a network is not known here, or the two do not fit.
    """
    from fedbench.models.cost import multiplications
    from fedbench.models.settings import Model

    data = validate(Data, settings["data"])
    spec = DATASETS.get(data.name)
    models = [validate(Model, each) for each in settings["models"]]
    each = [multiplications(m, channels=spec.channels or 3, size=data.size) for m in models]
    return statistics.mean(each)


def expand(suite: Suite, *, seeds: int | None = None, overrides: Sequence[Tree] = ()) -> Expansion:
    """Expand a suite that has its profile merged in (see ``Suite.sized``).

    Args:
        suite: What to expand.
        seeds: Number of seeds instead of the suite's.
        overrides: Settings laid over every cell.

    Raises:
        SettingsError: A combination is not valid; the message names it.
    """
    found: dict[str, Planned] = {}
    excluded = []
    for combination in suite.combinations(seeds):
        tree = combination.tree
        for override in overrides:
            tree = merge(tree, override)
        number = suite.excluded(tree)
        if number is None:
            with _named(suite, tree):
                cell = parse(tree)
            # An exclusion may name what a preset or a default has set.
            number = suite.excluded(cell.model_dump(mode="json"))
        if number is not None:
            excluded.append(Excluded(suite.exclude[number].reason, combination.values))
        elif cell.cell_id not in found:
            with _named(suite, tree):
                found[cell.cell_id] = planned(cell)
    return Expansion(arrange(found.values()), excluded)


def arrange(cells: Iterable[Planned]) -> list[Planned]:
    """Put cells into an order in which workers seldom wait for one another.

    One seed after another, so that a sweep that is cut short has whole seeds. In a seed, cells
    that produce client trainings for others come first, cells that share nothing next, and cells
    that take what is there by then last, after the producers of the seed that follows. Of several
    cells that could produce a training, the one with the fewest image passes does.
    """
    cells = list(cells)
    wanted = Counter(name for entry in cells for name in entry.trainings)
    seeds = sorted({entry.cell.seed for entry in cells})
    covered: set[str] = set()
    phases = {}
    for entry in sorted(cells, key=lambda entry: entry.passes or 0.0):
        shared = {name for name in entry.trainings if wanted[name] > 1}
        phases[entry.cell_id] = (
            _ALONE if not shared else _CONSUMER if shared <= covered else _PRODUCER
        )
        covered |= shared

    def key(entry: Planned) -> tuple[int, int]:
        phase = phases[entry.cell_id]
        return seeds.index(entry.cell.seed) + (phase == _CONSUMER), phase

    return sorted(cells, key=key)


def entry_of(planned: Planned) -> Entry:
    """Return a planned cell as a plan's file has it."""
    return Entry(
        planned.cell_id,
        planned.skip,
        planned.cell.model_dump(mode="json"),
        planned.trainings,
        planned.passes,
        planned.rounds,
    )


def to_file(
    suite: Suite,
    cells: Iterable[Planned],
    excluded: Iterable[Excluded] = (),
    overrides: Sequence[Tree] = (),
) -> Plan:
    """Return what a report needs to know of a plan, to be written."""
    over: dict[str, Any] = {}
    for override in overrides:
        over = merge(over, override)
    entries = tuple(entry_of(entry) for entry in cells)
    return Plan(suite.name, suite.title, suite.profile, entries, tuple(excluded), over)


@contextmanager
def _named(suite: Suite, tree: Tree) -> Iterator[None]:
    """Name the combination of which a setting is wrong."""
    try:
        yield
    except SettingsError as error:
        raise SettingsError(
            f"suite {suite.name!r}, combination {json.dumps(tree)}: {error}"
        ) from error
