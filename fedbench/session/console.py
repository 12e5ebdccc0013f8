"""Where the suite writes: results to standard output, the rest to standard error."""

from __future__ import annotations

import io
import json
import os
import sys

from rich.console import Console
from rich.markup import escape

for _stream in (sys.stdout, sys.stderr):
    # A terminal that cannot show a character shows its code; a report must not end over one.
    if isinstance(_stream, io.TextIOWrapper):
        _stream.reconfigure(errors="backslashreplace")

#: On a pipe a table must not be cut to 80 columns.
_WIDTH = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "160"))

stdout = Console(width=_WIDTH)
stderr = Console(stderr=True, soft_wrap=True)


def fail(message: str) -> None:
    """Print an error."""
    stderr.print(f"[bold red]error:[/] {escape(message)}", highlight=False)


def warn(message: str) -> None:
    """Print a warning: something works otherwise than the user may think."""
    stderr.print(f"[yellow]warning:[/] {escape(message)}", highlight=False)


def print_json(value: object) -> None:
    """Print a value as indented JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
