"""One shell around a sans-IO machine: it feeds the machine and carries out the machine's commands.

Theory of operation. A machine is a pure function `step(state, event) -> (state, commands)`; a shell keeps the state,
calls `step`, and acts. Four parties have a shell: the coordinator, an edge, a simulation and a Flower app. They differ
only in their actions, so a shell has a table: one handler for each class of the machine's command union, checked when
the shell is made. A command that a party does not need has a handler that does nothing; no command can fall through.

- The new state is in force before any action: an action may feed the machine again, and the inner step then ends before
  the outer step goes on.
- Commands of one step are carried out one at a time, in the machine's order.
- A class with a `together` handler is carried out once a step, after all others, with all its commands. A round is
  pushed to its whole cohort in this way: the devices below one edge share one message, and a simulation trains them in
  one batch.
- An action that raises ends the step: later commands are not carried out. State and machine stay usable.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args

State = TypeVar("State")
Event = TypeVar("Event")
Command = TypeVar("Command")
Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """The action for commands of one class: `single` for each, `batch` for all of a step, or neither."""

    kind: type[Any]
    single: Callable[[Any], None] | None = None
    batch: Callable[[Sequence[Any]], None] | None = None


def in_order(kind: type[Kind], action: Callable[[Kind], None]) -> Handler:
    """Return the handler that does `action` for each command of this class, in the machine's order."""
    return Handler(kind=kind, single=action)


def together(kind: type[Kind], action: Callable[[Sequence[Kind]], None]) -> Handler:
    """Return the handler that does `action` once a step for all commands of this class, after those in order."""
    return Handler(kind=kind, batch=action)


def nothing(kind: type[Any]) -> Handler:
    """Return the handler that ignores commands of this class."""
    return Handler(kind=kind)


class RoundShell(Generic[State, Event, Command]):
    """Keeps a machine's state, feeds the machine and carries out its commands. Use from one thread at a time."""

    def __init__(
        self,
        state: State,
        step: Callable[[State, Event], tuple[State, Sequence[Command]]],
        *,
        commands: Any,
        table: Sequence[Handler],
    ) -> None:
        """Begin in `state`. `commands` is the union of the machine's commands, `table` has a handler for each of them.

        Handlers by `together` act in the table's order. Raises TypeError, naming the classes, where `table` lacks one,
        has one twice, or has one outside the union.
        """
        _check(get_args(commands), [handler.kind for handler in table])
        self.state = state
        self._step = step
        self._in_order = {handler.kind: handler.single for handler in table if handler.single is not None}
        self._together = tuple((handler.kind, handler.batch) for handler in table if handler.batch is not None)

    def feed(self, event: Event) -> None:
        """Feed an event to the machine, and carry out its commands."""
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

    def end(self) -> None:
        """Let go of the actions, once no event comes any more.

        They are methods of the party that has this shell: as long as the two hold each other, whatever the party holds
        stays in memory until Python looks for cycles, which it seldom does.
        """
        self._in_order, self._together = {}, ()


def _check(union: Sequence[type[Any]], kinds: Sequence[type[Any]]) -> None:
    faults = {
        "no entry for": [kind for kind in union if kind not in kinds],
        "more than one entry for": [kind for kind in dict.fromkeys(kinds) if kinds.count(kind) > 1],
        "an entry for something else": [kind for kind in kinds if kind not in union],
    }
    message = "; ".join(
        f"{fault}: {', '.join(kind.__name__ for kind in classes)}" for fault, classes in faults.items() if classes
    )
    if message:
        raise TypeError(f"a shell's table needs one entry for each of its machine's commands; it has {message}")
