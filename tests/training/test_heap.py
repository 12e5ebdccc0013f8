"""What is freed is at hand for the next step, and the system's again after a cell."""

import os
import subprocess
import sys

import pytest

from fedbench.training import heap

pytestmark = pytest.mark.skipif(heap._glibc() is None, reason="the C library is no glibc")

#: Pages that ten steps of 200 MB are given anew, and how many stay with the process afterwards.
STEPS = """
import resource, sys, torch
from fedbench.training import heap
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])
def step():
    blocks = [torch.ones(5_000_000) for _ in range(10)]
print(heap.keep())
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
held = resident()
heap.give_back()
print(held - resident())
"""
_PAGES = 200_000_000 // 4096


def _run(**variables):
    plain = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    found = subprocess.run(
        [sys.executable, "-c", STEPS],
        check=True,
        capture_output=True,
        text=True,
        env=plain | variables,
    )
    kept, pages, returned = found.stdout.split()
    return kept == "True", int(pages), int(returned)


def test_steps_find_their_memory_at_hand_and_a_cell_gives_it_back():
    kept, pages, returned = _run()
    assert kept
    assert pages < _PAGES / 10
    assert returned > _PAGES / 2


@pytest.mark.parametrize(
    "variables",
    [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=65536"}],
)
def test_who_tells_glibc_otherwise_is_right(variables):
    kept, pages, _ = _run(**variables)
    assert not kept
    assert pages > _PAGES
