"""What the members of a fleet say is wrong: the cause of a run's end is in their logs, not in the coordinator's."""

import re
from collections import Counter
from collections.abc import Mapping

ERROR = "error: "  # how the command line begins its errors
LONGEST = 300  # characters of one complaint
SHOWN = 2  # different ones

# How members begin and end what they say of trouble, around its cause.
_TROUBLE = re.compile(
    r"^(?:round \d+ failed: |round \d+: |task failed: |message \d+: |cannot bring a blob ahead: )?"
    r"(?P<cause>.+?)"
    r"(?P<after>; trying again.*|; gave up after.*|; coming back|; the update is kept.*|; the reply is kept.*"
    r"|; the coordinator sends the task again|; all of the hand-out is fetched again)?$"
)
_FAILED = re.compile(r"^(round \d+ failed|task failed|cannot bring a blob ahead|round \d+: update (rejected|late)): ")
_WENT_WELL = re.compile(
    r"^(joined\b|exported |round \d+: sparsity\b|round \d+[:,].* on \d+ rows$|message \d+: \d+ bytes)"
)


def complaint(name: str, log: str) -> str | None:
    """Return the last trouble of the member `name` that nothing going well came after; None where there is none."""
    for line in reversed(log.splitlines()):
        own, said = line.startswith(f"{name}: "), line.removeprefix(f"{name}: ").strip()
        if line.startswith(ERROR):
            return _cause(line.removeprefix(ERROR))
        if own and _WENT_WELL.match(said):
            return None
        if own and (_FAILED.match(said) or ((found := _TROUBLE.match(said)) and found["after"])):
            return _cause(said)
    return None


def told_by(logs: Mapping[str, str], known: str = "") -> str:
    """Return what most members complain of, as the end of a message; empty where nobody does.

    `logs` maps every member's name to its output; what is in `known` already is not said again.
    """
    by_member = {name: words for name, log in logs.items() if (words := complaint(name, log)) is not None}
    counts = Counter(words for words in by_member.values() if words not in known)
    parts = []
    for words, count in counts.most_common(SHOWN):
        who = next(name for name in by_member if by_member[name] == words)
        parts.append(f"{who} says: {words}" if count == 1 else f"{count} of {len(logs)} members say: {words}")
    if not parts and not any(_has_spoken(name, log) for name, log in logs.items()):
        parts = ["its members were still starting: raise coordinator.join_deadline_s"]
    return "".join(f"; {part}" for part in parts)


def _has_spoken(name: str, log: str) -> bool:
    """Whether the member `name` has said anything: that it joined, or why it has not."""
    return any(line.startswith((f"{name}: ", ERROR)) for line in log.splitlines())


def _cause(said: str) -> str:
    found = _TROUBLE.match(said)
    return (found["cause"] if found else said)[:LONGEST]
