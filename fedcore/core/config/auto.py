"""Numbers that the program chooses where the configuration leaves them out or says "auto"."""

import math

from fedcore.core.config.tables import Config

WARMUP_SHARE = 1 / 8  # of the rounds
MOST_WARMUP = 3  # rounds; later first cuts gave no better models (docs/benchmarks/fleet80.md)
RECOVERY_SHARE = 1 / 2  # of the rounds
PASSES = 2.0  # over a device's rows, in the whole run
LEAST_STEPS, MOST_STEPS = 4, 20  # of a round


def warmup_rounds(config: Config) -> int:
    """Return the rounds before the first cut."""
    if config.strategy.warmup_rounds is not None:
        return config.strategy.warmup_rounds
    return max(1, min(MOST_WARMUP, math.floor(config.run.rounds * WARMUP_SHARE)))


def recovery_rounds(config: Config) -> int:
    """Return the rounds after the last cut."""
    if config.strategy.recovery_rounds is not None:
        return config.strategy.recovery_rounds
    return math.floor(config.run.rounds * RECOVERY_SHARE)


def local_steps(config: Config, rows: int) -> int:
    """Return the optimiser steps in a round of a device with so many training rows, at least 1.

    Where the program chooses, a device takes about PASSES over its rows in the whole run, within LEAST_STEPS and
    MOST_STEPS a round. A device with less rows than one batch takes fewer: more passes would only learn them by heart.
    """
    training = config.training
    if training.local_steps is not None:
        return training.local_steps
    steps = math.ceil(PASSES * rows / (training.batch_size * config.run.rounds))
    least = max(1, round(LEAST_STEPS * min(1.0, rows / training.batch_size)))
    return max(least, min(MOST_STEPS, steps))


def usual_steps(config: Config) -> int:
    """Return the steps in a round that simulated losses assume of a device."""
    return config.training.local_steps or MOST_STEPS // 2
