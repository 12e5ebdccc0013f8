"""What there is: data sets, models, partition schemes, and one partition drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedbench.cli.listing import listed
from fedbench.cli.options import AsJson, Offline, Plugin, Set, assignments
from fedbench.data.schemes import SCHEMES, partition_settings
from fedbench.data.specs import DATASETS
from fedbench.errors import SettingsError
from fedbench.files import home
from fedbench.models.families import MODELS
from fedbench.session.console import print_json, stdout
from fedbench.session.means import load_plugins, runtime

if TYPE_CHECKING:
    from rich.table import Table


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    for command in (datasets, models, partitions, partition):
        app.command()(command)


def datasets(as_json: AsJson = False, plugin: Plugin = None) -> None:
    """List the data sets; `fedbench data` says which of them are here.

    Example: fedbench datasets --json
    """
    load_plugins(plugin)
    found = []
    for name in DATASETS.names():
        spec = DATASETS.get(name)
        found.append(
            {
                "name": name,
                "what": spec.title,
                "classes": len(spec.classes) or None,
                "image": f"{spec.channels or '1 or 3'}x{spec.size}x{spec.size}",
                "train": spec.train_size,
                "test": spec.test_size,
                "augment": spec.augment,
                "source": spec.source,
            }
        )
    listed(found, as_json, "Data sets")


def models(as_json: AsJson = False, plugin: Plugin = None) -> None:
    """List the model families.

    Example: fedbench models --json
    """
    from fedbench.models.settings import Model

    load_plugins(plugin)
    found = []
    for name in MODELS.names():
        family = MODELS.get(name)
        found.append(
            {
                "name": name,
                "what": family.title,
                "options": dict(family.options),
                "smallest_image": family.smallest(Model(name=name)),
                "source": family.source,
            }
        )
    listed(found, as_json, "Models")


def partitions(as_json: AsJson = False, plugin: Plugin = None) -> None:
    """List the partition schemes; a bare --beta means dirichlet_capped.

    Example: fedbench partitions --json
    """
    load_plugins(plugin)
    found = []
    for name in SCHEMES.names():
        scheme = SCHEMES.get(name)
        found.append(
            {
                "name": name,
                "what": scheme.title,
                "parameters": sorted(scheme.parameters),
                "source": scheme.source,
            }
        )
    listed(found, as_json, "Partition schemes")


def partition(
    dataset: Annotated[str, typer.Option(help="Data set.")] = "digits",
    scheme: Annotated[str | None, typer.Option(help="Partition scheme.")] = None,
    beta: Annotated[float | None, typer.Option(help="Dirichlet concentration.")] = None,
    clients: Annotated[int | None, typer.Option(help="Number of clients.")] = None,
    train_size: Annotated[int | None, typer.Option(help="Training images to take.")] = None,
    seed: Annotated[int, typer.Option(help="Seed.", min=0)] = 0,
    settings: Set = None,
    out: Annotated[Path | None, typer.Option(help="Where the heatmap goes.")] = None,
    offline: Offline = False,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Draw one partition: a table of labels by client, and a heatmap as SVG.

    Example: fedbench partition --dataset digits --beta 0.1
    """
    from fedbench.bench.cells.datasets import load_data
    from fedbench.bench.suites.suite import merge, nest
    from fedbench.data.partition import split
    from fedbench.data.settings import Data
    from fedbench.report.figures.partition import partition_heatmap
    from fedbench.settings import validate

    load_plugins(plugin)
    tree: dict[str, Any] = {"data": {"name": dataset}, "partition": {}}
    for place, value in {
        "data.train_size": train_size,
        "partition.scheme": scheme,
        "partition.beta": beta,
        "partition.clients": clients,
    }.items():
        if value is not None:
            tree = merge(tree, nest(place, value))
    for assignment in assignments(settings):
        tree = merge(tree, assignment)
    if extra := tree.keys() - {"data", "partition"}:
        raise SettingsError(
            f"--set {', '.join(sorted(extra))}: a partition depends on settings of data and "
            "partition and on --seed alone; leave others out"
        )
    wanted, spread = validate(Data, tree["data"]), partition_settings(tree["partition"])
    data = load_data(wanted, runtime(offline=offline))
    drawn = split(data.train.labels.numpy(), spread, seed, len(data.classes))
    histogram = drawn.histogram.tolist()
    parameters = {
        name: getattr(spread, name) for name in sorted(SCHEMES.get(spread.scheme).parameters)
    }
    if as_json:
        print_json(
            {
                "dataset": wanted.name,
                "scheme": spread.scheme,
                "parameters": parameters,
                "seed": seed,
                "digest": drawn.digest,
                "classes": list(data.classes),
                "histogram": histogram,
            }
        )
        return
    words = ", ".join([spread.scheme, *(f"{key}={value}" for key, value in parameters.items())])
    title = f"{wanted.name}: {words}, seed {seed}"
    stdout.print(_counts(histogram, data.classes, title))
    stdout.print(f"digest {drawn.digest[:16]}", highlight=False)
    path = out or home() / "partitions" / f"{wanted.name}-{drawn.digest[:12]}.svg"
    partition_heatmap(histogram, data.classes, title, path)
    stdout.print(f"heatmap: {path}", highlight=False, markup=False, soft_wrap=True)


def _counts(histogram: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left")
    table.add_column("client", justify="right")
    for name in (*classes, "all"):
        table.add_column(escape(name), justify="right")
    for client, counts in enumerate(histogram):
        table.add_row(str(client), *(str(count or "·") for count in counts), str(sum(counts)))
    totals = [sum(column) for column in zip(*histogram, strict=True)]
    table.add_section()
    table.add_row("all", *(str(total) for total in totals), str(sum(totals)))
    return table
