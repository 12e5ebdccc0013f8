"""Two sweeps of one suite in one folder: no cell is computed twice, and none is lost."""

import json
import time

import pytest
from forked import Sweep, begun, same_results

from fedbench.bench.cells.running import in_hand

pytestmark = pytest.mark.xdist_group("calm")


def in_the_middle(folder, process):
    """Wait until a process has a cell in hand of which it has finished a round."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for cell in in_hand(folder) if folder.exists() else []:
            log = folder / "logs" / f"{cell.cell_id}.log"
            if log.exists() and "round 2/" in log.read_text():
                return cell
        assert not process.wait(0), process.said
    raise AssertionError(process.said)


@pytest.mark.timeout(600)
def test_each_cell_is_computed_once(calm, tmp_path):
    undisturbed, path, _ = calm
    sweeps = [Sweep(path, tmp_path, workers=1) for _ in range(2)]
    for sweep in sweeps:
        sweep.complete()
    same_results(undisturbed, tmp_path / "storm")
    assert set(begun(tmp_path / "storm").values()) == {1}
    assert sweeps[0].said.count("/8] ") == 16  # either counts every cell, whoever computed it
    hosts = {
        line.split("process ")[1].split(",")[0]
        for log in (tmp_path / "storm" / "logs").glob("*.log")
        for line in log.read_text().splitlines()
        if " on " in line and "process " in line
    }
    assert len(hosts) == 2, "one of the two has waited for the other"


@pytest.mark.timeout(600)
def test_the_cell_of_a_killed_sweep_is_taken_over(calm, tmp_path):
    undisturbed, path, _ = calm
    folder = tmp_path / "storm"
    victim = Sweep(path, tmp_path, workers=1)
    cell = in_the_middle(folder, victim)
    heir = Sweep(path, tmp_path, workers=1)
    victim.kill(everybody=True)
    assert not (folder / "records" / f"{cell.cell_id}.json").exists()
    heir.complete()
    assert heir.said.count("[8/8] ") == 1
    same_results(undisturbed, folder)
    counts = begun(folder)
    assert counts.pop(cell.cell_id) == 2
    assert set(counts.values()) == {1}
    record = json.loads((folder / "records" / f"{cell.cell_id}.json").read_text())
    assert record["status"] == "ok"
    assert not in_hand(folder)
