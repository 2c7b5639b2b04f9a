"""Cycles are still found: asked of a process of its own, for it holds to its end."""

import subprocess
import sys

SCRIPT = """
import gc, weakref
from fedcore.server.process.collector import NEW_OBJECTS, collect_seldom

class Knot:
    def __init__(self):
        self.me = self

collect_seldom()
gone = weakref.ref(Knot())
held = [[] for _ in range(NEW_OBJECTS // 2)]
assert gone() is not None
held += [[] for _ in range(NEW_OBJECTS)]
assert gone() is None and gc.get_freeze_count() > 1000
"""


def test_it_collects_a_cycle_after_many_objects_and_not_before() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)
