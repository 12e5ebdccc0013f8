"""SIGKILL at random moments of a sweep: the same command goes on, and no byte of the report tells.

The moments are drawn from a fixed seed and printed with what they cost (`pytest -s`, or `-rP`).
"""

import random
import time

import pytest
from forked import SUITE, Sweep, begun, same_results, suite_file

from fedbench.bench.cells.running import in_hand


def storm(calm, folder, kills, seed):
    """Kill sweeps until that has happened so many times; each ends in a complete run."""
    undisturbed, path, seconds = calm
    source, done, rounds, spent, again = random.Random(seed), [], 0, 0.0, 0
    while len(done) < kills:
        home = folder / f"home-{rounds}"
        rounds += 1
        while len(done) < kills:
            early, everybody = source.random() < 0.2, source.random() < 0.5
            moment = source.uniform(0, min(seconds / 2, 3 * seconds / kills))
            sweep = Sweep(path, home)
            if not early:
                sweep.until_a_cell_begins()
            if sweep.wait(moment):
                break  # it was faster than the next kill
            sweep.kill(everybody=everybody)
            spent += time.monotonic() - sweep.start
            done.append(
                f"{moment:.2f} s after {'the start' if early else 'a first cell'}"
                f"{'' if everybody else ' (parent alone)'}"
            )
        spent += Sweep(path, home).complete()
        place = home / "storm"
        same_results(undisturbed, place)
        assert not list((place / "scratch").iterdir())
        assert not in_hand(place)
        again += sum(begun(place).values()) - len(begun(place))
    assert again, "no kill has hit a cell"
    lost = (spent - rounds * seconds) / kills
    print(
        f"\n{kills} kills, seed {seed}, of sweeps of 8 cells and {seconds:.1f} s: {rounds} sweeps "
        f"completed, {again} cells begun again, {lost:.2f} s lost a kill; at {', '.join(done)}"
    )


@pytest.mark.thorough
@pytest.mark.xdist_group("calm")
@pytest.mark.timeout(900)
def test_kills_leave_no_trace(calm, tmp_path, request):
    storm(calm, tmp_path, kills=request.config.getoption("--kills"), seed=1)


SLEEPER = """
import time
from fedbench.methods.local import Local
class Sleeper(Local):
    name = 'sleeper'
    def client_model(self, client):
        time.sleep(60)
"""


@pytest.mark.timeout(100)
def test_a_worker_that_says_nothing_dies_with_its_parent(tmp_path):
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    path = suite_file(tmp_path, SUITE.split("axes:")[0] + "  method: sleeper\n")
    sweep = Sweep(path, tmp_path / "home", "--plugin", str(tmp_path / "sleeper.py"))
    sweep.until_a_cell_begins()
    sweep.kill(everybody=False)
