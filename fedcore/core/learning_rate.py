"""A rate that falls: large steps find the way, small ones stop the last from swinging."""

import math


def half_cosine(done: float, low: float) -> float:
    """Return the share of the first rate to use once the share `done` of the way is behind, in [low, 1].

    Half a cosine (Loshchilov and Hutter, "SGDR", ICLR 2017, arXiv 1608.03983, eq. 5, without restarts): 1 at `done` 0,
    `low` at 1. Both are in [0, 1].
    """
    return low + (1.0 - low) * (1.0 + math.cos(math.pi * done)) / 2.0
