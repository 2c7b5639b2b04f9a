"""Python's collector of reference cycles, told to look seldom.

A turn of 1,000 devices makes some ten thousand records that all live until its commit and then go by themselves, for
nothing refers to them any more. The collector, left alone, looks through them every 700, and through everything there
is several times a minute: a fifth of such a round's time (docs/log/2026-11.md). Cycles are rare here and small.
"""

import gc

NEW_OBJECTS = 50_000  # tuples, dicts and the like, made and not freed since it looked last: some megabytes

_YOUNG, _MIDDLE = 20, 20  # looks at the new ones between looks at those that survived one, and those that survived two


def collect_seldom() -> None:
    """Leave out of all further collections what is here now, and look after NEW_OBJECTS more.

    For processes of our own, once they are set up: it holds for everything in them, to their end.
    """
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, _YOUNG, _MIDDLE)
