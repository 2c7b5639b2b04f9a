"""The learning rate over rounds: large steps find the way, small ones stop the last rounds from swinging.

Half a cosine (Loshchilov and Hutter, "SGDR", ICLR 2017, arXiv 1608.03983, eq. 5, without restarts), from 1 in the first
round to `training.final_lr_share` in the last.
"""

import math

from fedcore.config import Config


def decay(config: Config, round_index: int) -> float:
    """Return the share of `training.learning_rate` that round `round_index` (from 1) trains with, in (0, 1].

    Rounds beyond the planned ones, which follow void rounds, train like the last.
    """
    low = config.training.final_lr_share
    done = min(1.0, (round_index - 1) / max(1, config.run.rounds - 1))
    return low + (1.0 - low) * (1.0 + math.cos(math.pi * done)) / 2.0
