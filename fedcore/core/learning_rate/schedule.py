"""A learning rate that falls over the rounds: large steps at first, small ones at the end, so that the loss settles."""

import math


def half_cosine(progress: float, low: float) -> float:
    """Return the share of the first rate to train with after the share `progress` of the run, in [low, 1].

    Half a cosine (Loshchilov and Hutter, "SGDR", ICLR 2017, arXiv 1608.03983, eq. 5, without restarts): 1 at `progress`
    0, `low` at 1. Both arguments are in [0, 1].
    """
    return low + (1.0 - low) * (1.0 + math.cos(math.pi * progress)) / 2.0


def round_share(round_index: int, rounds: int, low: float) -> float:
    """Return the share of the first round's rate that round `round_index` (from 1) of `rounds` trains with, in (0, 1].

    Half a cosine from 1 in the first round to `low` in the last. Void rounds are followed by extra rounds beyond the
    planned ones; these train like the last.
    """
    return half_cosine(min(1.0, (round_index - 1) / max(1, rounds - 1)), low)
