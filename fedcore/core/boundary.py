"""One place that turns whatever a file, a library or the system raises into an error of ours, told in a line.

A boundary is where something from outside is taken in: a file is parsed, a configuration read, a tokenizer loaded, a
library called. What goes wrong inside is a fault of what is taken in, whatever class its exception has: a parser raises
RecursionError, a table library KeyError, a tokenizer a bare Exception. The cause stays chained to our error, so that a
programming error can still be told by its traceback. Own code that takes nothing in stays outside.
"""

import re
from types import TracebackType

from fedcore.core.errors import FedcoreError

LONGEST = 200  # characters of a foreign message that fit into one of ours

# A foreign message may end in advice to those that call the library. They are its users; ours are not.
_ADVICE = re.compile(
    r"\b(please|consider|make sure|if you|you (can|could|may|might|must|need|should|have to)|refer to|see https?)\b"
    r"|^(try|run|call|install|check|checkout|upgrade)\b"
    r"|(^|[,;(]\s*|\b(to|by|or|and|then|must|should|can) )(use|pass|set|specify|provide|add|enable)\b"
    r"[^.]*(`|'|\"|\w\(|\w=)"
    r"|\bpip install\b|\bconda install\b|\bhf auth\b|\bhuggingface-cli\b|\bfrom_pretrained\b|\bload_from_disk\b"
    r"|\b\w+\s?=\s?(True|False|None)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+")
# Exceptions whose text says little without their name.
_NAMED = (TypeError, AttributeError, IndexError, AssertionError, NotImplementedError, StopIteration, ArithmeticError)


class Boundary:
    """A context manager that raises `kind` for any exception of its block but those of the fedcore tree.

    The message is "WHERE: why", or "WHERE: row N: why" once `row` is set, which a reader does as it goes on; `remedy`
    ends it. KeyboardInterrupt, SystemExit and a cancelled task pass through, and so does what is in `passing`.
    """

    __slots__ = ("kind", "passing", "remedy", "row", "where")

    def __init__(
        self,
        kind: type[FedcoreError],
        where: str,
        *,
        remedy: str = "",
        passing: tuple[type[BaseException], ...] = (),
    ) -> None:
        self.kind = kind
        self.where = where
        self.remedy = remedy
        self.passing = passing
        self.row = 0  # rows count from 1

    def __enter__(self) -> "Boundary":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, cause: BaseException | None, trace: TracebackType | None
    ) -> None:
        if cause is None or isinstance(cause, (FedcoreError, *self.passing)) or not is_fault(cause):
            return
        row = f": row {self.row}" if self.row else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        raise self.kind(f"{self.where}{row}: {reason(cause)}{remedy}") from cause


def is_fault(cause: BaseException) -> bool:
    """Whether an exception tells of a fault: all do but those that ask this process or task to stop.

    A Rust library that panics, as tokenizers do, raises a class of its own right below BaseException.
    """
    return isinstance(cause, Exception) or type(cause).__name__ == "PanicException"


def reason(cause: BaseException) -> str:
    """Return in a line, at most LONGEST characters, why something from outside could not be taken in.

    Advice that a library gives to its callers is left out: it names arguments and functions that a user of ours
    cannot reach.
    """
    match cause:
        case RecursionError():
            return "nested too deep"
        case MemoryError():
            return "more than fits into memory"
        case OSError(strerror=str(said)) if said:
            return said
        case KeyError():
            return f"nothing is called {cause}"
    said = without_advice(str(cause))
    name = type(cause).__name__
    if not said:
        return name
    return f"{name}: {said}" if isinstance(cause, _NAMED) else said


def without_advice(message: str) -> str:
    """Return the first line of a foreign message, at most LONGEST characters, less its advice to callers.

    A line that is nothing but advice gives way to the next; of a message that is, what it says before the first advice
    is left.
    """
    lines = [_SENTENCE_END.split(line.strip()) for line in message.splitlines() if line.strip()]
    plain = (" ".join(each for each in sentences if not _ADVICE.search(each)) for sentences in lines)
    chosen = next(filter(None, plain), "") or _ADVICE.split(message.strip(), maxsplit=1)[0]
    return chosen.rstrip(".:;, \n")[:LONGEST]
