"""Settings of Python's collector of reference cycles that make it run seldom.

A turn of 1,000 devices makes about ten thousand records. They live until its commit and are then freed by reference
counting. By default, the collector scans new objects every 700 allocations, and all objects several times a minute: a
fifth of such a round's time (docs/log/2026-11.md). Cycles are rare here, and small.
"""

import gc

NEW_OBJECTS = 50_000  # containers allocated and not freed since the last collection: some megabytes

_YOUNG, _MIDDLE = 20, 20  # collections of one generation per collection of the next older one


def collect_seldom() -> None:
    """Exclude all current objects from collections, and collect after NEW_OBJECTS new ones.

    Call it in processes of our own, after their set-up: it applies to the whole process until its end.
    """
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, _YOUNG, _MIDDLE)
