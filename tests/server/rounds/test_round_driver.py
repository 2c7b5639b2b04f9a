"""What the coordinator does for the round machine: each command by its own, around an engine that counts nothing."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fedcore.core.errors import RunError, UpdateRejected
from fedcore.core.rounds import commands, events
from fedcore.core.rounds.machine import resume
from fedcore.core.rounds.policy import RoundPolicy
from fedcore.core.rounds.state import Phase
from fedcore.core.rounds.tier.state import PartialId
from fedcore.protos.tier_values import PartialSubmission, PartialVerdict, RoundShare
from fedcore.protos.values import AssignmentFailure, Role, RoundClosed, UpdateVerdict, Verdict, WireAssignment
from fedcore.server.aggregate.engine import Engine
from fedcore.server.members.edge_registry import EdgeRegistry
from fedcore.server.members.session_registry import SessionRegistry
from fedcore.server.members.sessions import RelayedSession, Session
from fedcore.server.process.tasks import Tasks
from fedcore.server.rounds.evaluator_queue import EvaluatorQueue
from fedcore.server.rounds.round_driver import EDGE_TIME_SHARE, MAX_REPORT, RoundDriver
from fedcore.server.run.run_log import RunLog
from tests.server.members.test_admission import JOIN
from tests.tiny_tier import TIER, answer, assignment, failure

POLICY = RoundPolicy(
    total_rounds=4, quorum=0.1, deadline_s=100.0, lease_s=1e6, min_devices=1, max_void_rounds=3, join_deadline_s=60.0
)


@dataclass
class FakeEngine:
    """Plans the whole roster, and notes what it is asked for."""

    done: list[tuple[Any, ...]] = field(default_factory=list)
    fault: Exception | None = None  # of whatever it does next
    open: Any = None
    tier_spec = TIER
    pinned_blobs: set[str] = field(default_factory=set)
    uploaded_blobs: set[str] = field(default_factory=set)

    def turn(self, order: commands.Turn, profiles: Any, void_streak: int) -> Any:
        self.do("turn", order.next_round, sorted(self.uploaded_blobs))
        number = order.next_round
        works = {} if number is None else {device: assignment(number) for device in order.roster}
        self.open = None if number is None else SimpleNamespace(round=number, wire_assignments=works, sum=self)
        return SimpleNamespace(assignments=works)

    def with_sum(self, action: Callable[..., None], *arguments: Any) -> None:
        getattr(self, action.__name__)(*arguments)

    def verify(self, device: str, submission: Any) -> None:
        self.do("verify", device)

    def fold(self, device: str) -> None:
        self.do("fold", device)

    def verify_partial(self, edge: str, submission: Any) -> None:
        self.do("verify part", edge)

    def merge_partial(self, part: PartialId) -> None:
        self.do("merge", part.number)

    def drop_partial(self, part: PartialId) -> None:
        self.do("drop", part.number)

    def do(self, *what: Any) -> None:
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        self.done.append(what)


@dataclass
class FakeLog:
    """Events as (kind, fields)."""

    written: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def event(self, kind: str, **fields: Any) -> None:
        self.written.append((kind, fields))

    def events(self, kind: str, fields: list[dict[str, Any]]) -> None:
        self.written += [(kind, each) for each in fields]

    def of(self, *kinds: str) -> list[tuple[Any, ...]]:
        return [(kind, fields["device"], fields["round"]) for kind, fields in self.written if kind in kinds]


class Driven:
    """A driver with an edge named north, whose round can be opened."""

    def __init__(self) -> None:
        self.engine, self.log, self.now_s, self.closed = FakeEngine(), FakeLog(), 0.0, 0
        self.registry, self.edges, self.tasks = SessionRegistry(), EdgeRegistry(), Tasks()
        self.driver = RoundDriver(
            state=resume(POLICY),
            sessions=self.registry,
            edges=self.edges,
            evaluators=EvaluatorQueue(on_result=lambda kind, result: None),
            tasks=self.tasks,
            log=cast(RunLog, self.log),
            clock=lambda: self.now_s,
            ready=lambda: cast(Engine, self.engine),
            on_closed=self.count,
        )
        self.edge = Session(replace(JOIN, name="north", role=Role.EDGE, profile=None))
        self.edges.register(self.edge)

    async def count(self) -> None:
        self.closed += 1

    def seat(self, name: str, *, below: Session | None = None) -> Any:
        join = replace(JOIN, name=name, epoch=JOIN.epoch + (self.registry.find(name) is not None))
        session = Session(join) if below is None else RelayedSession(join, below)
        self.registry.register(session)
        self.driver.feed(events.Joined(device=name, epoch=self.registry.number(name), now_s=self.now_s))
        return session

    async def open(self, devices: str, relayed: str = "") -> dict[str, Session]:
        """Seat devices, some of them below north, and open the first round."""
        sessions = {name: self.seat(name) for name in devices}
        for name in relayed:
            self.seat(name, below=self.edge)
        self.driver.feed(events.Started(now_s=self.now_s))
        await self.tasks.settle()
        return sessions

    async def update(self, device: str, number: int = 1) -> None:
        self.driver.take_update(device, replace(answer(device, assignment()), round=number))
        await self.tasks.settle()

    async def partial(self, number: int, counted: str, failed: str = "", round_index: int = 1) -> None:
        leaves = (*(replace(failure(name), counted=True) for name in counted), *(failure(name) for name in failed))
        submission = PartialSubmission(round=round_index, number=number, partial=None, scores=None, leaves=leaves)
        self.driver.take_partial(self.edge, submission)
        await self.tasks.settle()


@pytest.fixture
async def driven() -> AsyncIterator[Driven]:
    made = Driven()
    yield made
    made.driver.close()
    await made.tasks.close()


def heard(session: Session) -> list[Any]:
    """What was sent since last asked."""
    return [session.outbox.get_nowait() for _ in range(session.outbox.qsize())]


def verdicts(session: Session) -> list[tuple[Verdict, str]]:
    return [
        (each.verdict, each.message) for each in heard(session) if isinstance(each, (UpdateVerdict, PartialVerdict))
    ]


# --- assignments down ---


async def test_a_round_goes_to_devices_one_by_one_and_to_an_edge_in_one_share(driven: Driven) -> None:
    sessions = await driven.open("ab", relayed="xy")
    assert [heard(sessions[name]) for name in "ab"] == [[assignment()], [assignment()]]
    (share,) = heard(driven.edge)
    assert isinstance(share, RoundShare) and [device for device, _ in share.assignments] == ["x", "y"]
    assert share.deadline_s == EDGE_TIME_SHARE * 100.0 and share.spec == TIER
    assert driven.log.of("pushed") == [("pushed", name, 1) for name in "abxy"]


async def test_a_device_that_comes_back_gets_its_work_again_and_its_older_stream_is_closed_by_its_seat(
    driven: Driven,
) -> None:
    sessions = await driven.open("ab")
    newer = driven.seat("a")
    assert [type(each) for each in heard(newer)] == [WireAssignment], "not fenced: it has the seat by now"
    assert heard(sessions["a"])[-1] is None
    driven.driver.feed(events.Joined(device="a", epoch=2, now_s=0.0))  # a second stream of that epoch
    assert heard(newer)[-1] is None


async def test_the_deadline_wakes_the_machine(driven: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    await driven.open("ab")
    timer = driven.driver._timer
    assert timer is not None and not timer.cancelled()
    driven.now_s = 100.0
    driven.driver._tick()
    await driven.tasks.settle()
    assert driven.driver.machine.round == 2 and driven.engine.done[-1] == ("turn", 2, [])
    assert timer.cancelled() and driven.closed == 0, "it was void"


# --- updates ---


async def test_every_update_gets_its_answer_and_its_event(driven: Driven) -> None:
    sessions = await driven.open("abc")
    await driven.update("a")
    await driven.update("a")
    driven.engine.fault = UpdateRejected("wrong shape")
    await driven.update("b")
    await driven.update("b", number=9)
    driven.engine.fault = ZeroDivisionError("x")
    await driven.update("c")
    assert verdicts(sessions["a"]) == [(Verdict.ACCEPTED, ""), (Verdict.ACCEPTED, "")]
    assert verdicts(sessions["b"]) == [(Verdict.REJECTED, "wrong shape"), (Verdict.UNKNOWN, "no such open assignment")]
    assert verdicts(sessions["c"])[0] == (Verdict.REJECTED, "the update cannot be read: ZeroDivisionError('x')")
    assert driven.log.of("accepted", "duplicate", "rejected") == [
        *(("accepted", "a", 1), ("duplicate", "a", 1)),
        *(("rejected", "b", 1), ("rejected", "c", 1)),
    ]
    assert driven.engine.done.count(("fold", "a")) == 1


async def test_an_update_of_a_closed_round_is_late(driven: Driven) -> None:
    sessions = await driven.open("ab")
    await driven.update("a")
    driven.driver.failed("b", AssignmentFailure(round=1, message="x" * (MAX_REPORT + 1)))
    await driven.tasks.settle()
    assert driven.closed == 1 and driven.driver.machine.round == 2
    assert next(fields for kind, fields in driven.log.written if kind == "failed")["message"] == "x" * MAX_REPORT
    heard(sessions["b"])
    await driven.update("b")
    assert verdicts(sessions["b"]) == [(Verdict.LATE, "round 1 had closed")]
    assert driven.log.of("late") == [("late", "b", 1)]


async def test_an_update_that_cannot_be_counted_pauses_the_run(driven: Driven) -> None:
    await driven.open("ab")
    driven.driver.feed(events.UpdateArrived(device="b", round=1, now_s=0.0))
    driven.engine.fault = MemoryError()
    driven.driver.feed(events.UpdateArrived(device="a", round=1, now_s=0.0))
    with pytest.raises(RunError, match=r"counting what . sent for round 1 failed \(MemoryError\(\)\); resume the run"):
        await driven.tasks.over


# --- turns ---


async def test_uploads_since_the_last_turn_are_the_closing_rounds(driven: Driven) -> None:
    await driven.open("a")
    driven.driver.uploads |= {"one", "two"}
    await driven.update("a")
    assert ("turn", 2, ["one", "two"]) in driven.engine.done and driven.driver.uploads == set()


async def test_a_round_that_is_durable_is_said_to_whom_no_assignment_says_it(driven: Driven) -> None:
    sessions = await driven.open("ab", relayed="x")
    for session in (*sessions.values(), driven.edge):
        heard(session)
    driven.driver.feed(events.Left(device="b", epoch=1, now_s=0.0))  # its stream is still in its seat here
    await driven.update("a")
    await driven.partial(1, "x")
    driven.now_s = 100.0
    driven.driver._tick()
    await driven.tasks.settle()
    assert RoundClosed(round=1) in heard(sessions["b"]) and RoundClosed(round=1) in heard(driven.edge)
    assert RoundClosed(round=1) not in heard(sessions["a"]), "its next assignment says so"


async def test_a_disk_that_is_full_pauses_the_run_with_the_round_that_is_lost(driven: Driven) -> None:
    driven.engine.fault = OSError(28, "No space left on device")
    driven.seat("a")
    driven.driver.feed(events.Started(now_s=0.0))
    with pytest.raises(RunError, match=r"cannot write round 1: .*No space left.*; free space, then resume"):
        await driven.tasks.over


async def test_the_run_ends_after_its_last_round_and_pauses_on_request(driven: Driven) -> None:
    await driven.open("a")
    for number in (1, 2, 3, 4):
        await driven.update("a", number)
    assert await driven.tasks.over == "finished" and driven.driver.machine.phase is Phase.DONE
    other = Driven()
    await other.open("a")
    other.driver.feed(events.Stop(now_s=0.0))
    with pytest.raises(RunError, match="stopped on request in round 1"):
        await other.tasks.over
    other.driver.close()
    await other.tasks.close()


# --- partials ---


async def test_a_partial_counts_with_its_failures_or_not_at_all(driven: Driven) -> None:
    await driven.open("a", relayed="xyz")
    heard(driven.edge)
    driven.seat("z")  # it has another parent by now: north's word on it does not hold
    await driven.partial(1, "x", failed="yz")
    assert verdicts(driven.edge) == [(Verdict.ACCEPTED, "")]
    await driven.partial(2, "xz")
    (answer,) = heard(driven.edge)
    assert answer == PartialVerdict(round=1, number=2, verdict=Verdict.OVERLAP, devices=("x",))
    await driven.partial(3, "z", round_index=9)
    assert verdicts(driven.edge) == [(Verdict.LATE, "round 9 is not open")]
    verified = ("verify part", "north")
    assert driven.engine.done[1:] == [verified, ("merge", 1), verified, ("drop", 2), verified, ("drop", 3)]
    assert driven.log.of("accepted", "failed", "partial_refused") == [
        *(("accepted", "x", 1), ("failed", "y", 1)),
        *(("partial_refused", "north", 1), ("partial_refused", "north", 9)),
    ]


async def test_a_partial_that_does_not_fit_costs_its_devices_the_round(driven: Driven) -> None:
    await driven.open("a", relayed="xy")
    heard(driven.edge)
    driven.seat("y")
    driven.engine.fault = UpdateRejected("a wrong sum")
    await driven.partial(1, "xy")
    assert verdicts(driven.edge) == [(Verdict.REJECTED, "a wrong sum")]
    assert driven.log.of("rejected") == [("rejected", "north", 1), ("rejected", "x", 1)]
    assert driven.log.written[-1][1]["message"] == "through north: a wrong sum"


async def test_an_answer_to_a_partial_may_be_lost_until_the_round_after_has_closed(driven: Driven) -> None:
    """The edge sends it again then; that it counts is known for its round and the next, and costs no work."""
    await driven.open("", relayed="x")
    await driven.partial(1, "x")
    for number in (1, 2):
        assert driven.driver.machine.round == number + 1
        verified = driven.engine.done.count(("verify part", "north"))
        heard(driven.edge)
        await driven.partial(1, "x")
        assert verdicts(driven.edge) == (
            [(Verdict.ACCEPTED, "")] if number == 1 else [(Verdict.LATE, "round 1 is not open")]
        )
        assert driven.engine.done.count(("verify part", "north")) == verified + (number == 2)
        await driven.partial(2, "x", round_index=2)
