"""What in a label column is allowed and most likely a mistake."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

MANY = 10  # labels from which it is asked whether they are labels at all
SHOWN = 3  # groups of like spellings that are named


def label_doubts(labels: Iterable[str], column: str) -> tuple[str, ...]:
    """Return warnings about the labels of all rows of `column`: spellings of one label, labels that are none.

    Each is a sentence without a full stop.
    """
    counts = Counter(labels)
    return (*_alike(counts), *_too_many(counts, column))


def _alike(counts: Counter[str]) -> Iterator[str]:
    groups: dict[str, list[str]] = defaultdict(list)
    for label in sorted(counts):
        groups[_heard(label)].append(label)
    several = [group for group in groups.values() if len(group) > 1]
    for group in several[:SHOWN]:
        named = " and ".join(f"{label!r} ({counts[label]} rows)" for label in group)
        yield f"labels {named} differ in spelling alone and are different classes; spell them alike if they are one"
    if len(several) > SHOWN:
        yield f"{len(several) - SHOWN} more groups of labels differ in spelling alone"


def _heard(label: str) -> str:
    """A label as it is read aloud: numbers by value, words without case, accents' encoding, and spaces."""
    try:
        number = float(label)
    except ValueError:
        number = float("nan")
    if number == number and abs(number) != float("inf"):
        return repr(number)
    plain = unicodedata.normalize("NFKC", label).casefold()
    return " ".join(plain.replace("_", " ").replace("-", " ").split())


def _too_many(counts: Counter[str], column: str) -> Iterator[str]:
    rows = sum(counts.values())
    if len(counts) >= MANY and 2 * len(counts) > rows:
        yield (
            f"column {column!r} has {len(counts)} different labels in {rows} rows; most have no second row to learn "
            "from: is it the label column?"
        )
