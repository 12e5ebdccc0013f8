"""What has been mirrored, and the folders below ``runs/SUITE/wandb`` that hold it.

One run, one folder: before a run is written its earlier folders go, so `wandb sync` never finds two
of one id (it would upload both, the newer over the older). The index may be deleted with the rest.
"""

from __future__ import annotations

import json
import logging
import shutil
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from fedbench.errors import StoreError
from fedbench.files import Lock, write_atomic

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One mirrored run.

    Attributes:
        digest: Of its content.
        target: Which server, entity and project it is meant for.
        uploaded: Whether it is there; otherwise it waits in its folder for `wandb sync`.
    """

    digest: str
    target: str
    uploaded: bool


class Shelf:
    """The mirrored runs of one suite.

    Args:
        folder: ``runs/SUITE``; all is below its ``wandb``, which is made.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "wandb"
        self._index = self.root / "mirrored.json"

    def held(self) -> AbstractContextManager[None]:
        """Hold the shelf from ``has`` to ``put``: several sweeps may mirror one suite."""
        return Lock(self.root / "mirrored.lock").held()

    def staging(self, run_id: str) -> Path:
        """Return where wandb keeps what an offline run is to upload besides its own folder."""
        return self.root / "staging" / run_id

    def has(self, run_id: str, digest: str, target: str, *, online: bool) -> bool:
        """Return whether a run need not be written again.

        Args:
            run_id: Its identity.
            digest: Of its content.
            target: Which server, entity and project it is meant for.
            online: Whether it has to be on the server; else its folder will do.
        """
        entry = self._read().get(run_id)
        if entry is None or (entry.digest, entry.target) != (digest, target):
            return False
        if entry.uploaded:
            return True
        logs = self._logs(run_id)
        if any(path.with_suffix(".wandb.synced").exists() for path in logs):
            return True
        return bool(logs) and not online

    def clear(self, run_id: str) -> None:
        """Delete all folders of a run."""
        for path in self._logs(run_id):
            shutil.rmtree(path.parent)
        shutil.rmtree(self.staging(run_id), ignore_errors=True)

    def put(self, run_id: str, entry: Entry) -> None:
        """Note that a run has been written.

        Raises:
            UnwritableError: The index cannot be written.
        """
        entries = {**self._read(), run_id: entry}
        text = json.dumps({key: asdict(entries[key]) for key in sorted(entries)}, indent=1)
        write_atomic(self._index, text + "\n")

    def _logs(self, run_id: str) -> list[Path]:
        """Return the transaction logs of a run, in order of their folders' names."""
        return sorted(self.root.glob(f"*run-*/run-{run_id}.wandb"))

    def _read(self) -> dict[str, Entry]:
        """Return the index; what is no index is as good as none, as runs can be written again."""
        try:
            values = json.loads(self._index.read_text(encoding="utf-8"))
            return {key: Entry(**value) for key, value in values.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError) as error:
            log.warning("%s is damaged (%s); all runs are mirrored again", self._index, error)
            return {}
        except OSError as error:
            raise StoreError(f"cannot read {self._index}: {error}") from error
