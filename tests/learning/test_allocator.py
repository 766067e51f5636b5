"""Freed memory that is kept costs no page faults when it is asked for again."""

import subprocess
import sys

import pytest

from learning.allocator import keep_freed_memory

# Each line: page faults of 20 rounds of eight pieces of 8 MiB, which are written to and freed.
MEASURED = """
import resource, sys
import numpy as np
from learning.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        pieces = [np.ones(1 << 20) for _ in range(8)]
        del pieces
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
if sys.argv[1] == "keep":
    assert keep_freed_memory()
    faults()
print(faults())
"""


def page_faults(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", MEASURED, how], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is of the GNU C library")
def test_what_was_freed_is_not_fetched_from_the_system_again() -> None:
    pages = 20 * 8 * (8 << 20) // 4096
    assert page_faults("give back") > pages / 10, "nothing is given back here: the test would show nothing"
    assert page_faults("keep") < pages / 100


def test_a_c_library_that_cannot_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()
