"""Pages from templates that lie in packages: no network, everything escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import resources

import jinja2
from markupsafe import Markup


def render(
    package: str,
    template: str,
    filters: Mapping[str, Callable[[str], Markup]] | None = None,
    /,
    **values: object,
) -> str:
    """Return a page; a name that the template uses and nothing gives is an error.

    Args:
        package: Where the template and its ``style.css`` are.
        template: The file's name.
        filters: Further ones for the template.
        values: What it shows; ``style`` and ``safe``, which escapes nothing, are known to all.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(filters or {})
    style = Markup(read(package, "style.css"))
    found = environment.from_string(read(package, template))
    return found.render(style=style, safe=Markup, **values)


def read(package: str, name: str) -> str:
    """Return a file that lies in a package."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
