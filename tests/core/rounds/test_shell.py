"""The shell around a machine: its table is complete, and commands are done in one order, also when fed in between."""

import gc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.rounds import commands, events
from fedcore.core.rounds.machine import resume, step
from fedcore.core.rounds.policy import RoundPolicy
from fedcore.core.rounds.shell import Handler, RoundShell, in_order, nothing, together
from fedcore.core.rounds.state import Phase, RoundState
from fedcore.core.rounds.tier import commands as tier_commands


@dataclass(frozen=True)
class Send:
    """Of a small machine: done one at a time."""

    name: str


@dataclass(frozen=True)
class Push:
    """Done together."""

    name: str


@dataclass(frozen=True)
class Close:
    """Done together, after the pushes."""

    name: str


@dataclass(frozen=True)
class Wait:
    """Not done."""


Command = Send | Push | Close | Wait
Machine = Callable[[int, "Node"], tuple[int, tuple[Command, ...]]]


@dataclass(frozen=True)
class Node:
    """An event that answers with these commands; doing one of them may feed further events."""

    commands: tuple[Command, ...] = ()
    inner: tuple["Node", ...] = ()  # fed while the first command is done


def count(state: int, event: Node) -> tuple[int, tuple[Command, ...]]:
    return state + 1, event.commands


@dataclass
class Trace:
    """What a shell did, as (state at that time, what)."""

    done: list[tuple[int, object]] = field(default_factory=list)
    pending: list[tuple[Node, ...]] = field(default_factory=list)

    def shell(self) -> RoundShell[int, Node, Command]:
        self.made: RoundShell[int, Node, Command] = RoundShell(
            0,
            count,
            commands=Command,
            table=(
                in_order(Send, self.note),
                together(Push, self.note),
                together(Close, self.note),
                nothing(Wait),
            ),
        )
        return self.made

    def note(self, what: object) -> None:
        self.done.append((self.made.state, what))
        for event in self.pending.pop() if self.pending else ():
            self.feed(event)

    def feed(self, event: Node) -> None:
        self.pending.append(event.inner)
        depth = len(self.pending)
        self.made.feed(event)
        del self.pending[depth - 1 :]


def modelled(event: Node, state: int, out: list[tuple[int, object]]) -> int:
    """The four drivers' own loop, as it stood before there was a shell: returns the state after the event."""
    state += 1
    inner: Sequence[Node] = event.inner

    def done(what: object) -> None:
        nonlocal state, inner
        out.append((state, what))
        events, inner = inner, ()
        for each in events:
            state = modelled(each, state, out)

    for order in event.commands:
        if isinstance(order, Send):
            done(order)
    for kind in (Push, Close):
        batch = [order for order in event.commands if isinstance(order, kind)]
        if batch:
            done(batch)
    return state


NAMES = st.sampled_from("abc")
COMMANDS = st.one_of(st.builds(Send, NAMES), st.builds(Push, NAMES), st.builds(Close, NAMES), st.just(Wait()))
ANSWERS = st.lists(COMMANDS, max_size=6).map(tuple)
NODES = st.recursive(
    st.builds(Node, ANSWERS),
    lambda inner: st.builds(Node, ANSWERS, st.lists(inner, max_size=3).map(tuple)),
    max_leaves=8,
)


@given(st.lists(NODES, max_size=4))
def test_commands_are_done_as_the_four_ladders_did_them(nodes: list[Node]) -> None:
    trace = Trace()
    shell = trace.shell()
    expected: list[tuple[int, object]] = []
    state = 0
    for node in nodes:
        trace.feed(node)
        state = modelled(node, state, expected)
    assert trace.done == expected and shell.state == state


def test_a_step_is_done_in_order_and_its_batches_after_it_in_the_tables_order() -> None:
    trace = Trace()
    shell = trace.shell()
    shell.feed(Node((Close("1"), Push("2"), Send("3"), Wait(), Push("4"), Send("5"))))
    assert [what for _, what in trace.done] == [Send("3"), Send("5"), [Push("2"), Push("4")], [Close("1")]]


def test_the_state_is_in_force_before_anything_is_done() -> None:
    trace = Trace()
    shell = trace.shell()
    trace.feed(Node((Send("outer"), Push("outer")), inner=(Node((Send("inner"), Push("inner"))),)))
    assert trace.done == [(1, Send("outer")), (2, Send("inner")), (2, [Push("inner")]), (2, [Push("outer")])]
    assert shell.state == 2


def test_an_action_that_raises_ends_the_step_and_the_shell_goes_on() -> None:
    done: list[str] = []

    def act(command: Send) -> None:
        if command.name == "bad":
            raise ValueError(command.name)
        done.append(command.name)

    table = (in_order(Send, act), together(Push, lambda batch: done.append("push")), nothing(Close), nothing(Wait))
    shell: RoundShell[int, Node, Command] = RoundShell(0, count, commands=Command, table=table)
    with pytest.raises(ValueError, match="bad"):
        shell.feed(Node((Send("a"), Send("bad"), Send("b"), Push("c"))))
    shell.feed(Node((Send("d"),)))
    assert done == ["a", "d"] and shell.state == 2


# --- the table ---


@pytest.mark.parametrize(
    ("module", "left_out"),
    [(module, kind) for module in (commands, tier_commands) for kind in get_args(module.Command)],
)
def test_a_command_without_an_entry_is_named_when_the_shell_is_made(module: ModuleType, left_out: type[object]) -> None:
    with pytest.raises(TypeError, match=rf"it has no entry for: {left_out.__name__}$"):
        made(module, [nothing(kind) for kind in get_args(module.Command) if kind is not left_out])


@pytest.mark.parametrize("module", [commands, tier_commands])
def test_an_entry_for_something_else_or_twice_is_named_too(module: ModuleType) -> None:
    whole = [nothing(kind) for kind in get_args(module.Command)]
    made(module, whole)
    with pytest.raises(TypeError, match=r"it has an entry for something else: Wait$"):
        made(module, [*whole, nothing(Wait)])
    with pytest.raises(TypeError, match=r"it has more than one entry for: Push$"):
        made(module, [*whole, together(module.Push, print)])
    with pytest.raises(TypeError, match=r"no entry for: Push; an entry for something else: Wait$"):
        made(module, [*(entry for entry in whole if entry.kind is not module.Push), nothing(Wait)])


def made(module: ModuleType, table: list[Handler]) -> RoundShell[int, Node, Command]:
    return RoundShell(0, count, commands=module.Command, table=table)


# --- around the round machine ---


def test_a_round_runs_through_a_shell_that_feeds_its_own_answers() -> None:
    policy = RoundPolicy(
        total_rounds=1,
        quorum=0.5,
        deadline_s=10.0,
        lease_s=5.0,
        min_devices=2,
        max_void_rounds=3,
        join_deadline_s=60.0,
    )
    done: list[str] = []

    def turn(order: commands.Turn) -> None:
        done.append(f"turn {order.next_round}")
        if order.next_round is None:
            shell.feed(events.TurnDone(now_s=3.0))
        else:
            shell.feed(events.Planned(round=order.next_round, cohort=order.roster, now_s=2.0))

    table = (
        in_order(commands.Turn, turn),
        together(commands.Push, lambda pushes: done.append("push " + " ".join(order.device for order in pushes))),
        in_order(commands.Accept, lambda order: done.append(f"accept {order.device}")),
        in_order(commands.Finish, lambda order: done.append("finish")),
        *(
            nothing(kind)
            for kind in get_args(commands.Command)
            if kind not in (commands.Turn, commands.Push, commands.Accept, commands.Finish)
        ),
    )
    shell: RoundShell[RoundState, events.Event, commands.Command] = RoundShell(
        resume(policy), step, commands=commands.Command, table=table
    )
    for event in (
        events.Started(now_s=0.0),
        events.Joined(device="a", epoch=1, now_s=0.0),
        events.Joined(device="b", epoch=1, now_s=1.0),
        events.UpdateArrived(device="b", round=1, now_s=2.0),
        events.UpdateArrived(device="a", round=1, now_s=3.0),
    ):
        shell.feed(event)
    assert done == ["turn 1", "push a b", "accept b", "accept a", "turn None", "finish"]
    assert shell.state.phase is Phase.DONE


class Party:
    """It has a shell whose actions are its own methods, as every party has."""

    def __init__(self) -> None:
        table = (in_order(Send, self.act), together(Push, self.act), nothing(Close), nothing(Wait))
        self.shell: RoundShell[int, Node, Command] = RoundShell(0, count, commands=Command, table=table)
        self.acted: list[object] = []

    def act(self, done: object) -> None:
        self.acted.append(done)


def test_a_shell_that_has_ended_does_not_keep_its_party_in_memory() -> None:
    gc.disable()
    try:
        party = Party()
        party.shell.feed(Node(commands=(Send("a"), Push("b"))))
        assert party.acted == [Send("a"), [Push("b")]]
        party.shell.end()
        seen = weakref.ref(party)
        del party
        assert seen() is None
    finally:
        gc.enable()
