"""Where and how cells run, and the plugins that they are run with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fedbench.errors import SettingsError

if TYPE_CHECKING:
    from fedbench.bench.cells.runtime import Runtime


def load_plugins(targets: list[str] | None, *suites: Path | str) -> list[str]:
    """Load plugins, those that suites name as well, and return their targets.

    Args:
        targets: As the user named them; they are loaded first.
        suites: Files, or other words for them (see ``lookup.find_suite_file``).
    """
    from fedbench.bench.suites.suite import plugins_of
    from fedbench.plugins import load_plugin
    from fedbench.session.lookup import find_suite_file

    loaded = dict.fromkeys(targets or [])
    for target in loaded:
        load_plugin(target)
    files = [find_suite_file(str(suite)) for suite in suites]
    for target in (name for file in files for name in plugins_of(file)):
        load_plugin(target)
        loaded[target] = None
    return list(loaded)


def runtime(
    device: str = "auto",
    *,
    threads: int = 0,
    offline: bool = False,
    refresh: bool = False,
    home: str | Path | None = None,
) -> Runtime:
    """Return where and how cells run, from what the user wants and the environment.

    Raises:
        SettingsError: There cannot be so many threads.
    """
    from fedbench.bench.cells.runtime import Runtime
    from fedbench.files import data_root
    from fedbench.files import home as default_home
    from fedbench.session.console import stderr

    if threads < 0:
        raise SettingsError(f"threads = {threads}; name a number, or 0 for all cores")
    return Runtime(
        home=default_home() if home is None else Path(home),
        data=data_root(),
        device=device,
        threads=threads,
        offline=offline,
        refresh=refresh,
        say=lambda line: stderr.print(line, markup=False),
    )
