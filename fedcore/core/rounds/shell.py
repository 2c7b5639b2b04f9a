"""One shell around a sans-IO machine: it feeds the machine and does what the machine asks for.

Theory of operation. A machine is a pure function `step(state, event) -> (state, commands)`; somebody must keep its
state, call it, and act. Four parties do: the coordinator, an edge, a simulation and a Flower app. What differs between
them is what they do for a command, so that is a table: one entry for each class of the machine's command union, checked
when the shell is made. A command that a party has no use for has an entry that says so; none can fall through.

- The new state is in force before anything is done: an action may feed the machine again, and the inner step then comes
  to its end before the outer one goes on.
- Commands of one step are done one at a time, in the machine's order.
- A kind that is done `together` waits until then and is done once a step, with all its commands. A round is pushed to
  its whole cohort so: the devices below one edge share one message, and a simulation trains them in one batch.
- An action that raises ends the step: what comes after it is not done. State and machine stay usable.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args

State = TypeVar("State")
Event = TypeVar("Event")
Command = TypeVar("Command")
Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a shell does for commands of one class: `one` at a time, the `batch` of a step together, or neither."""

    kind: type[Any]
    one: Callable[[Any], None] | None = None
    batch: Callable[[Sequence[Any]], None] | None = None


def in_order(kind: type[Kind], action: Callable[[Kind], None]) -> Entry:
    """Do `action` for each command of this class, where the machine put it."""
    return Entry(kind=kind, one=action)


def together(kind: type[Kind], action: Callable[[Sequence[Kind]], None]) -> Entry:
    """Do `action` once a step for all commands of this class, after those done in order; in the table's order."""
    return Entry(kind=kind, batch=action)


def nothing(kind: type[Any]) -> Entry:
    """Do nothing for commands of this class."""
    return Entry(kind=kind)


class RoundShell(Generic[State, Event, Command]):
    """Keeps a machine's state, feeds the machine and does what it asks for. Use from one thread at a time."""

    def __init__(
        self,
        state: State,
        step: Callable[[State, Event], tuple[State, Sequence[Command]]],
        *,
        commands: Any,
        table: Sequence[Entry],
    ) -> None:
        """Begin in `state`. `commands` is the union of the machine's commands, `table` has one entry for each of them.

        Raises TypeError, naming the classes, where `table` lacks one, has one twice, or has one outside the union.
        """
        _check(get_args(commands), [entry.kind for entry in table])
        self.state = state
        self._step = step
        self._in_order = {entry.kind: entry.one for entry in table if entry.one is not None}
        self._together = tuple((entry.kind, entry.batch) for entry in table if entry.batch is not None)

    def feed(self, event: Event) -> None:
        """Tell the machine what happened, and do what it asks for."""
        self.state, commands = self._step(self.state, event)
        if not commands:
            return
        for command in commands:
            act = self._in_order.get(type(command))
            if act is not None:
                act(command)
        for kind, act_on in self._together:
            batch = [command for command in commands if type(command) is kind]
            if batch:
                act_on(batch)


def _check(union: Sequence[type[Any]], kinds: Sequence[type[Any]]) -> None:
    faults = {
        "no entry for": [kind for kind in union if kind not in kinds],
        "more than one entry for": [kind for kind in dict.fromkeys(kinds) if kinds.count(kind) > 1],
        "an entry for something else": [kind for kind in kinds if kind not in union],
    }
    found = "; ".join(
        f"{what}: {', '.join(kind.__name__ for kind in named)}" for what, named in faults.items() if named
    )
    if found:
        raise TypeError(f"a shell's table needs one entry for each of its machine's commands; it has {found}")
