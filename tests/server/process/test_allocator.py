"""Freed memory leaves the process: asked of a process of its own, for it holds to its end."""

import subprocess
import sys

FREE_A_LOT = """
from pathlib import Path
import numpy as np
from fedcore.server.process.allocator import {names}

def held_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1e3

{before}
between = []
for size in (1_000_000, 500_000):  # the second size is what glibc would keep in its heap from now on
    before = held_mb()
    arrays = [between.append(np.ones(100)) or np.ones(size) for _ in range(20)]
    arrays.clear()
{after}
print(held_mb() - before)
"""


def left_mb(names: str, before: str = "", after: str = "") -> float:
    script = FREE_A_LOT.format(names=names, before=before, after=after)
    return float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)


def test_large_arrays_are_given_back_when_they_are_freed() -> None:
    assert left_mb("give_memory_back", before="give_memory_back()") < 5


def test_trimming_gives_back_what_lies_between_small_things() -> None:
    assert left_mb("trim", after="trim()") < 5
