"""Labels that are measured numbers: ratings, prices, scores. A classifier takes each for a class of its own."""

import re
from collections import Counter
from collections.abc import Iterable

MANY_DECIMALS = 10  # different numbers, decimals among them, from which it is asked whether they are classes at all
MANY_WHOLE = 20  # the same of whole numbers
MOST_DECIMALS = 20  # different numbers, decimals among them, that may still be classes, such as half stars
MOST_ARE = 0.9  # share of the labels that are numbers, the others being words for a missing one
PARTS = ("low", "middle", "high")

_NUMBER = re.compile(r"[+-]?(\d{1,300}([.,]\d{0,300})?|[.,]\d{1,300})([eE][+-]?\d{1,2})?\s*%?", re.ASCII)


def rating(labels: Iterable[str], column: str) -> str | None:
    """Return why the labels of all rows are no classes, and what to do; None where they may be.

    Numbers are no classes where more than half the rows have one of their own, or where they are decimals and many.
    """
    every = Counter(labels)
    counts = Counter({label: rows for label, rows in every.items() if _NUMBER.fullmatch(label.strip())})
    if len(counts) < MOST_ARE * len(every) or not _are_measured(counts):
        return None
    values = sorted(_value(label) for label, rows in counts.items() for _ in range(rows))
    low, high = values[len(values) // 3], values[2 * len(values) // 3]
    return (
        f"label column {column!r} has {len(counts):,} different numbers in {len(values):,} rows, from {values[0]:g} to "
        f'{values[-1]:g}: that is a rating, not {len(counts):,} labels. Set task.kind = "regression" to learn the '
        f"number itself; or write a column of words, such as {PARTS[0]} up to {low:g}, {PARTS[1]} up to {high:g} and "
        f"{PARTS[2]} above (a third of the rows each), and name it in data.label; or list the numbers in data.labels "
        "if they are classes"
    )


def _are_measured(counts: Counter[str]) -> bool:
    decimals = any(not _value(label).is_integer() for label in counts)
    if len(counts) >= (MANY_DECIMALS if decimals else MANY_WHOLE) and 2 * len(counts) > sum(counts.values()):
        return True
    return decimals and len(counts) > MOST_DECIMALS


def _value(label: str) -> float:
    return float(label.strip().rstrip("%").strip().replace(",", "."))
