"""Reads what wandb has written offline, without wandb's own readers (0.31 has none in Python).

A ``run-ID.wandb`` is LevelDB's log format: after a head of 7 bytes, blocks of 32 KiB that hold
chunks; a chunk is a CRC-32, a length and a type, then data; a message of several chunks has the
types first, middle, last. The messages are wandb's protobuf ``Record``.
"""

import json
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

BLOCK = 32 * 1024
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def messages(path):
    """Yield the messages of a log, checking every chunk."""
    data = path.read_bytes()
    mark, magic, version = struct.unpack("<4sHB", data[:7])
    assert (mark, magic, version) == (b":W&B", 0xBEE1, 0)
    place, parts = 7, []
    while place < len(data):
        if BLOCK - place % BLOCK < 7:  # no room for a chunk's head
            place += BLOCK - place % BLOCK
            continue
        checksum, length, kind = struct.unpack("<IHB", data[place : place + 7])
        chunk = data[place + 7 : place + 7 + length]
        assert len(chunk) == length
        assert checksum == zlib.crc32(bytes([kind]) + chunk)
        assert bool(parts) == (kind in (MIDDLE, LAST))
        parts.append(chunk)
        place += 7 + length
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = []
    assert not parts


@dataclass
class Run:
    """What a log says about its run."""

    folder: Path
    id: str = ""
    project: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    notes: str = ""
    tags: list = field(default_factory=list)
    config: dict = field(default_factory=dict)
    summary: dict = field(default_factory=dict)
    history: list = field(default_factory=list)
    axes: dict = field(default_factory=dict)
    exit_code: int | None = None

    def table(self, name):
        """Read a table from the file that the summary names."""
        return json.loads((self.folder / "files" / self.summary[name]["path"]).read_text())

    def page(self, name):
        return (self.folder / "files" / self.summary[name]["path"]).read_text()


def read(path):
    """Read the log of a run."""
    from wandb.proto.wandb_internal_pb2 import Record

    run = Run(path.parent)
    for message in messages(path):
        record = Record.FromString(message)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            about = record.run
            run.id, run.project, run.name = about.run_id, about.project, about.display_name
            run.group, run.job_type, run.notes = about.run_group, about.job_type, about.notes
            run.tags = list(about.tags)
            _update(run.config, about.config.update)
        elif kind == "config":
            _update(run.config, record.config.update)
        elif kind == "summary":
            _update(run.summary, record.summary.update)
        elif kind == "history":
            point = {}
            _update(point, record.history.item)
            run.history.append(point)
        elif kind == "metric":
            name = record.metric.name or record.metric.glob_name
            run.axes[name] = record.metric.step_metric
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    for values in (run.config, run.summary, *run.history):
        for name in [name for name in values if name.startswith("_")]:
            del values[name]  # wandb's own
    return run


def _update(target, items):
    for item in items:
        *parents, last = list(item.nested_key) or [item.key]
        inner = target
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = json.loads(item.value_json)


def runs(folder):
    """Return all runs below ``runs/SUITE``; each id has one folder."""
    found = [read(path) for path in sorted((folder / "wandb").glob("*run-*/*.wandb"))]
    assert len({run.id for run in found}) == len(found)
    return {run.id: run for run in found}
