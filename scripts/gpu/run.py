"""Run parts of the lane on this machine's GPU, and leave a few files of results.

    scripts/gpu/run smoke speed --out results             # what was packed is taken from build/gpu
    scripts/gpu/run paper --resume results/records.tar.gz # without what an earlier run has finished
    scripts/gpu/run --device cpu --toy                    # does it run? on next to nothing

Without a part it only takes over the loads that are here, for a later call on the same machine.
Results: summary.json, table.md, log.txt, records.tar.gz.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from needs import ROOT, installed, name_of, unmet
from pack import Manifest, missing, place, tree_digest, unpack
from parts import TABLE, Means, parts, read_table
from results import Json, collect, lines, restore_published, restore_records
from steps import Runner

FOLDER = Path(__file__).resolve().parent
#: Groups of wheels, each installed when all of it has arrived.
_WHEELS = ("wheels", "ray")


def default_store() -> Path:
    """Return where loads and records are kept from call to call."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "fedbench-gpu"


def install(manifest: Manifest, store: Path) -> None:
    """Install the wheels that have arrived, each group once, into the store's own folder.

    What the machine has stays, in its version, unless ours asks for another one: its packages were
    installed together, and one that is hidden by a newer one may break others.

    Raises:
        CalledProcessError: pip refuses one.
    """
    for group in _WHEELS:
        items, done = manifest.group(group), store / f"{group}.installed"
        if not items or done.exists() or missing(store, items):
            continue
        wheels = [str(place(store, item)) for item in items if lacking(item.name)]
        if wheels:
            subprocess.run(
                [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                 "--root-user-action=ignore", "--no-index", "--no-deps", "--no-cache-dir",
                 "--no-compile", "--upgrade", "--target", str(store / "site"), *wheels],
                check=True,
            )  # fmt: skip
        done.touch()


def lacking(wheel: str) -> bool:
    """Return whether this machine's Python lacks a wheel's package, or has too old a one for us."""
    name = name_of(wheel.partition("-")[0])
    return installed(name) is None or any(name_of(wanted) == name for wanted, _ in unmet())


def arrived(manifest: Manifest, store: Path) -> dict[str, tuple[int, int]]:
    """Return for each group how many of its files are whole, and how many there are."""
    groups = dict.fromkeys(item.group for item in manifest.items)
    return {
        name: (len(items) - len(missing(store, items)), len(items))
        for name in groups
        if (items := manifest.group(name))
    }


def environment(manifest: Manifest | None, store: Path, home: Path) -> dict[str, str]:
    """Return the environment of all commands."""
    before = os.environ.get("PYTHONPATH", "")
    places = [str(store / "site"), str(ROOT), *([before] if before else [])]
    found = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(places),
        "PYTHONUNBUFFERED": "1",
        "FEDBENCH_HOME": str(home),
    }
    if manifest is None:
        return found
    if manifest.group("data"):
        found["FEDBENCH_DATA"] = str(store / "data")
    commit = manifest.facts["commit"]
    if commit and tree_digest(ROOT / "fedbench") == manifest.facts["code"]:
        found["FEDBENCH_COMMIT"] = commit
    return found


def machine(device: str, environment: Mapping[str, str]) -> Json:
    """Return what this machine is.

    Raises:
        SystemExit: It has no such device, or lacks torch.
    """
    done = subprocess.run(
        [sys.executable, str(FOLDER / "machine.py"), device],
        env=dict(environment), capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"this machine cannot run the lane:\n{done.stderr.strip()}")
    facts: Json = json.loads(done.stdout.splitlines()[-1])
    return facts


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="smoke, speed, paper, or all")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--toy", action="store_true", help="next to nothing of everything")
    parser.add_argument("--out", type=Path, default=None, help="folder of the results ($OUT)")
    parser.add_argument("--loads", type=Path, default=ROOT / "build" / "gpu")
    parser.add_argument("--store", type=Path, default=default_store())
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds in all")
    parser.add_argument("--resume", type=Path, help="records.tar.gz of an earlier run")
    found = parser.parse_args()
    if found.out is None:
        found.out = Path(os.environ.get("OUT") or ROOT / "build" / "gpu-results")
    found.out, found.store = found.out.resolve(), found.store.resolve()
    return found


def main() -> None:
    """Unpack, run and collect. Exits with 1 if a step failed; one whose time was over has not."""
    began, wish = time.monotonic(), options()
    packed = wish.store / "packed"  # apart from records, which outlive another packing
    manifest = unpack(wish.loads, packed)
    if manifest is not None:
        install(manifest, packed)
        for group, (whole, count) in arrived(manifest, packed).items():
            print(f"{group}: {whole} of {count} files have arrived")
    work, home = wish.store / "work", wish.store / ("toy" if wish.toy else "home")
    known = parts(Means(wish.device, wish.toy, work))
    asked = list(known) if wish.parts == ["all"] else wish.parts
    if unknown := [name for name in asked if name not in known]:
        raise SystemExit(f"there is no part {unknown[0]!r}; choose {', '.join(known)}, or all")
    if not asked:
        return
    shutil.rmtree(work, ignore_errors=True)
    for folder in (work, home, wish.out):
        folder.mkdir(parents=True, exist_ok=True)
    if wish.resume is not None:
        print(f"{restore_records(wish.resume, home)} files of {wish.resume} restored")
    if not wish.toy:
        suites = {Path(line.suite).stem for line in read_table(TABLE)}
        count = restore_published(ROOT / "leaderboards", sorted(suites), home)
        print(f"{count} records of published boards are not computed again")
    around = environment(manifest, packed, home)
    facts = machine(wish.device, around)
    runner = Runner(wish.out / "log.txt", around, began + wish.limit)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        for name in asked:
            runner.part(known[name])
            collect(wish.out, work, home, facts, runner.outcomes)
    finally:
        summary = collect(wish.out, work, home, facts, runner.outcomes)
        print("\n".join(lines(summary)), flush=True)
    if any(outcome.status == "failed" for outcome in runner.outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
