"""A rate that falls: large steps find the way, small ones stop the last from swinging."""

import math


def half_cosine(done: float, low: float) -> float:
    """Return the share of the first rate to use once the share `done` of the way is behind, in [low, 1].

    Half a cosine (Loshchilov and Hutter, "SGDR", ICLR 2017, arXiv 1608.03983, eq. 5, without restarts): 1 at `done` 0,
    `low` at 1. Both are in [0, 1].
    """
    return low + (1.0 - low) * (1.0 + math.cos(math.pi * done)) / 2.0


def round_share(round_index: int, rounds: int, low: float) -> float:
    """Return the share of the first round's rate that round `round_index` (from 1) of `rounds` trains with, in (0, 1].

    Half a cosine from 1 in the first round to `low` in the last. Rounds beyond the planned ones, which follow void
    rounds, train like the last.
    """
    return half_cosine(min(1.0, (round_index - 1) / max(1, rounds - 1)), low)
