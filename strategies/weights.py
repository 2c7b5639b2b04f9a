"""Integer aggregation weights from numbers of examples."""

from collections.abc import Sequence

MAX_TOTAL_WEIGHT = 2**24  # a cohort's sum; the integer accumulation's overflow proof needs it


def integer_weights(num_examples: Sequence[int]) -> tuple[int, ...]:
    """Return weights of at least 1, proportional to `num_examples` (each >= 1), whose sum is at most 2^24.

    The numbers themselves where they fit; otherwise scaled down, which rounds each to a multiple of the sum / 2^24.
    """
    total = sum(num_examples)
    if total <= MAX_TOTAL_WEIGHT:
        return tuple(num_examples)
    budget = MAX_TOTAL_WEIGHT - len(num_examples)  # what lifting small ones to 1 may add
    return tuple(max(1, count * budget // total) for count in num_examples)
