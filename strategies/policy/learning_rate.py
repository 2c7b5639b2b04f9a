"""The learning rate over rounds: half a cosine, from 1 in the first to `training.final_lr_share` in the last."""

from fedcore.core.config.tables import Config
from fedcore.core.learning_rate import half_cosine


def decay(config: Config, round_index: int) -> float:
    """Return the share of `training.learning_rate` that round `round_index` (from 1) trains with, in (0, 1].

    Rounds beyond the planned ones, which follow void rounds, train like the last.
    """
    done = min(1.0, (round_index - 1) / max(1, config.run.rounds - 1))
    return half_cosine(done, config.training.final_lr_share)
