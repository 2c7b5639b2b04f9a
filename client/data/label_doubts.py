"""What in a label column is allowed and most likely a mistake."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from fedcore.core.tasks.task import Task

MANY = 10  # labels from which it is asked whether they are labels at all
SHOWN = 3  # groups of like spellings that are named
MOST_RARE = 8  # labels of a single row that are named
MISSING = frozenset({"nan", "na", "n/a", "#n/a", "<na>", "null", "none", "nil", "?"})  # how libraries write no label


def target_doubts(task: Task, column: Iterable[str], name: str, *, part: bool = False) -> tuple[str, ...]:
    """Return `label_doubts` about the target column `name`; nothing under a task without labels."""
    return label_doubts(column, name, part=part) if task.labelled else ()


def label_doubts(labels: Iterable[str], column: str, *, part: bool = False) -> tuple[str, ...]:
    """Return warnings about the labels of all rows of `column`: spellings of one label, labels that are none.

    `part`: the rows are one device's, where labels may be rare and their numbers have gaps. Each warning is a sentence
    without a full stop.
    """
    counts = Counter(labels)
    doubts = (*_alike(counts), *_missing(counts), *(many := tuple(_too_many(counts, column))))
    if part:
        return doubts
    return (*doubts, *(() if many else _rare(counts)), *_numbers(counts, column))


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
    """A label as it is read aloud: numbers by value, words without case, spaces and what is not seen."""
    try:
        number = float(label)
    except ValueError:
        number = float("nan")
    if number == number and abs(number) != float("inf"):
        return repr(number)
    plain = unicodedata.normalize("NFKC", label).casefold()
    plain = "".join(each for each in plain if unicodedata.category(each) != "Cf")  # joiners and marks without a width
    return " ".join(plain.replace("_", " ").replace("-", " ").split())


def _too_many(counts: Counter[str], column: str) -> Iterator[str]:
    rows = sum(counts.values())
    if len(counts) >= MANY and 2 * len(counts) > rows:
        yield (
            f"column {column!r} has {len(counts)} different labels in {rows} rows; most have no second row to learn "
            "from: is it the label column?"
        )


def _missing(counts: Counter[str]) -> Iterator[str]:
    words = [label for label in sorted(counts) if label.casefold() in MISSING]
    if words and len(counts) > len(words):
        named = ", ".join(f"{label!r} ({counts[label]} rows)" for label in words)
        yield f"label {named} is a class like the others; drop these rows if it says that the label is missing"


def _rare(counts: Counter[str]) -> Iterator[str]:
    rare = [label for label in sorted(counts) if counts[label] == 1]
    if rare and sum(counts.values()) >= MANY:
        named = ", ".join(map(repr, rare[:MOST_RARE]))
        more = f" and {len(rare) - MOST_RARE} more" if len(rare) > MOST_RARE else ""
        yield (
            f"{len(rare)} of {len(counts)} labels have a single row, which cannot be learnt and measured: {named}{more}"
            "; mend what is misspelt, or drop these rows"
        )


def _numbers(counts: Counter[str], column: str) -> Iterator[str]:
    """Doubt numbers that look measured: classes are numbered one after the other, and halves are between them."""
    if len(counts) < MANY:
        return
    try:
        values = sorted(float(label.replace(",", ".")) for label in counts)
    except ValueError:
        return
    if values != [values[0] + place for place in range(len(values))]:
        yield (
            f"the {len(counts)} labels of column {column!r} are numbers from {values[0]:g} to {values[-1]:g} and each "
            'is a class of its own, without an order; for a rating, set task.kind = "regression", or write a column of '
            "a few words, such as low and high"
        )
