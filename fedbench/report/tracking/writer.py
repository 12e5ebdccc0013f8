"""The process that talks to wandb: ``python -m fedbench.report.tracking.writer FOLDER``.

A process of its own, so that wandb's threads, signal handlers and uploads stay out of a sweep. It
reads a content a line from its standard input and answers each with a line (see ``Reply``). What
wandb has to say goes to standard error, which is a log file.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fedbench.report.tracking.content import AXES, Content
from fedbench.report.tracking.kept import keep
from fedbench.report.tracking.shelf import Entry, Shelf

if TYPE_CHECKING:
    import wandb

State = Literal["written", "same", "failed", "disabled"]

PROJECT = "fedbench"
#: Seconds until a server that does not answer is given up: wandb itself waits 90.
INIT_SECONDS = 15.0
#: Seconds that the upload of one run may take.
FINISH_SECONDS = 60.0


@dataclass(frozen=True)
class Reply:
    """What became of one content.

    Attributes:
        state: ``same``: it was there already.
        online: Whether runs go to the server at once.
        warning: What the user should know.
    """

    state: State
    online: bool
    warning: str | None = None


class _UnreachableError(Exception):
    """A run could not begin or be uploaded."""


class Writer:
    """Writes runs: online while that works, offline otherwise.

    Args:
        folder: ``runs/SUITE``.
    """

    def __init__(self, folder: Path) -> None:
        import wandb

        settings = wandb.setup().settings
        self._folder, self._shelf = folder, Shelf(folder)
        self._project = settings.project or PROJECT
        self._target = f"{settings.base_url} {settings.entity or ''} {self._project}"
        self._disabled = settings.mode == "disabled"
        self.online, self._warning = (False, None) if self._disabled else _logged_in(settings)

    def write(self, content: Content) -> Reply:
        """Mirror a run, unless it has been already."""
        if self._disabled:
            return Reply("disabled", False)
        try:
            with self._shelf.held():
                state = self._write(content)
        except Exception as error:  # whatever wandb may raise: the sweep goes on
            message = f"{content.id} cannot be mirrored: {_first_line(error)}"
            return Reply("failed", self.online, self._said(message))
        return Reply(state, self.online, self._said(None))

    def _write(self, content: Content) -> State:
        digest = content.digest()
        if self._shelf.has(content.id, digest, self._target, online=self.online):
            return "same"
        if self.online:
            try:
                self._log(content)
            except _UnreachableError as error:
                self._go_offline(error)
        if not self.online:
            self._log(content)
        self._shelf.put(content.id, Entry(digest, self._target, self.online))
        return "written"

    def _go_offline(self, error: _UnreachableError) -> None:
        import wandb

        wandb.teardown()  # or the run that has just failed to begin keeps its id in use
        self.online = False
        self._warning = f"W&B cannot be reached ({_first_line(error)}); runs are written offline"

    def _log(self, content: Content) -> None:
        import wandb

        self._shelf.clear(content.id)
        # wandb keeps copies of tables and artifacts apart from the run.
        os.environ["WANDB_DATA_DIR"] = str(self._shelf.staging(content.id))
        with self._reaching():
            run = wandb.init(
                project=self._project,
                dir=self._folder,
                mode="online" if self.online else "offline",
                id=content.id,
                name=content.name,
                group=content.group,
                job_type=content.job_type,
                tags=content.tags,
                notes=content.notes,
                config=dict(content.config),
                settings=_settings(),
            )
        try:
            _fill(run, content)
            keep(run, content, self._folder)
        except Exception:  # of what is to be written: going offline would not help
            wandb.teardown()
            raise
        with self._reaching():
            run.finish(exit_code=content.exit_code)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Take what goes wrong online for the server's absence."""
        try:
            yield
        except Exception as error:  # no network, a wrong key, a server that is not one, ...
            if not self.online:
                raise
            raise _UnreachableError(_first_line(error)) from error

    def _said(self, message: str | None) -> str | None:
        """Return what there is to warn of, each thing once."""
        found = [text for text in (self._warning, message) if text]
        self._warning = None
        return "; ".join(found) or None


def _logged_in(settings: wandb.Settings) -> tuple[bool, str | None]:
    """Return whether there are credentials to go online with, and what is wrong with them."""
    import wandb

    if settings.mode in ("offline", "dryrun"):
        return False, None
    try:
        if wandb.login(prompt=False, verify=False):
            return True, None
    except wandb.Error as error:
        return False, f"the W&B login is broken ({_first_line(error)}); runs are written offline"
    if "WANDB_MODE" in os.environ:
        return False, (
            f"WANDB_MODE is {settings.mode!r}, but there is no login; runs are written offline "
            "(see `wandb login`)"
        )
    return False, None


def _settings() -> wandb.Settings:
    """Return settings under which wandb looks at nothing but what it is given."""
    import wandb

    return wandb.Settings(
        silent=True,
        console="off",
        disable_code=True,
        disable_git=True,
        save_code=False,
        label_disable=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        init_timeout=INIT_SECONDS,
        finish_timeout=FINISH_SECONDS,
        finish_timeout_raises=True,
    )


def _fill(run: wandb.Run, content: Content) -> None:
    """Log all of a content."""
    import wandb

    if content.history:
        for axis in AXES:
            run.define_metric(axis, hidden=True, summary="none")
        run.define_metric("curve/*", step_metric=AXES[0], step_sync=False, summary="none")
    for point in content.history:
        run.log(dict(point))
    media = {
        **{
            name: wandb.Table(columns=list(sheet.columns), data=[list(line) for line in sheet.data])
            for name, sheet in content.sheets.items()
        },
        **{name: wandb.Html(page, inject=False) for name, page in content.pages.items()},
    }
    if media:
        run.log(media)
    run.summary.update(dict(content.summary))


def _first_line(error: Exception) -> str:
    """Return what an error says first; wandb goes on with advice on calling it."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def main(folder: Path) -> None:
    """Answer every content on standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever prints, prints to the log
    writer = Writer(folder.absolute())
    with os.fdopen(0, encoding="utf-8") as contents:  # whatever the locale is
        for line in contents:
            answers.write(json.dumps(asdict(writer.write(Content.from_json(line)))) + "\n")
            answers.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
