"""What commands that draw a cell share: its name, where pictures go, how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedbench.files import home, write_atomic
from fedbench.session.console import stdout
from fedbench.session.lookup import NAMES

if TYPE_CHECKING:
    from fedbench.bench.records.record import Record
    from fedbench.report.figures.render import Sketch

Named = Annotated[str, typer.Argument(metavar="RECORD", help=f"{NAMES[0].upper()}{NAMES[1:]}.")]
Out = Annotated[Path | None, typer.Option(help="Where the files go.")]


def facts(record: Record) -> str:
    """Return method, data and seed in words."""
    settings = record.settings
    return f"{record.method_label()} · {settings['data']['name']} · seed {settings['seed']}"


def folder_of(record: Record) -> Path:
    """Return where a cell's pictures go."""
    return home() / record.suite / "pictures" / record.cell_id


def write(sketch: Sketch, folder: Path, *, svg: bool = True) -> None:
    """Write a picture as PNG, and as SVG where that is not mostly a photograph."""
    from fedbench.report.figures import style
    from fedbench.report.figures.render import to_svg
    from fedbench.report.pictures.look import to_png

    files: dict[str, bytes | str] = {f"{sketch.name}.png": to_png(sketch)}
    if svg:
        with style.context():
            files[f"{sketch.name}.svg"] = to_svg(sketch)
    for name, content in files.items():
        write_atomic(folder / name, content)
        stdout.print(str(folder / name), highlight=False, markup=False, soft_wrap=True)
