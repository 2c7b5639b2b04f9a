"""What an edge does for its machine, and in which order it takes a share in."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, cast

import pytest

from fedcore.core.errors import TransportError, UpdateRejected
from fedcore.core.rounds.tier.state import PartialId, Stage
from fedcore.protos.tier_values import Holding, LeafLeft, PartialSubmission, PartialVerdict, RoundShare, TierUpward
from fedcore.protos.values import (
    AssignmentFailure,
    BlobRef,
    Role,
    RoundClosed,
    UpdateSubmission,
    UpdateVerdict,
    Verdict,
    WireAssignment,
)
from fedcore.server.edge.cache import EdgeCache
from fedcore.server.edge.engine import EdgeEngine
from fedcore.server.edge.notes import EdgeNotes
from fedcore.server.edge.round_driver import CHILD_TIME_SHARE, MAX_MESSAGE, MOST_EARLY, EdgeRounds
from fedcore.server.edge.share_contents import unpack
from fedcore.server.edge.uplink import EdgeUplink
from fedcore.server.members.edge_registry import EdgeRegistry
from fedcore.server.members.session_registry import SessionRegistry
from fedcore.server.members.sessions import RelayedSession, Session
from fedcore.server.process.tasks import Tasks
from fedcore.server.rounds.edge_dispatch import round_shares
from fedcore.storage.blobs.name import blob_name
from fedcore.transport.link import Link
from tests.server.members.test_admission import JOIN
from tests.tiny_tier import TIER, answer, assignment, failure, small

LARGE = BlobRef(id=blob_name(b"large"), size=1 << 20, name="block")
OTHER = BlobRef(id=blob_name(b"other"), size=1 << 20, name="block")
KEPT = BlobRef(id=blob_name(b"kept"), size=1 << 20, name="keep-set")


class Timer:
    """A timer that fires when a test says so."""

    def __init__(self, delay_s: float, act: Callable[[], None]) -> None:
        self.delay_s, self.act, self.cancelled = delay_s, act, False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Surroundings:
    """Everything around the driver: it writes down, in one list, what is asked of it."""

    done: list[tuple[Any, ...]] = field(default_factory=list)
    timers: list[Timer] = field(default_factory=list)
    spawned: list[Coroutine[Any, Any, None]] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)  # blobs that cannot be had
    fault: Exception | None = None  # of whatever is verified
    said: list[str] = field(default_factory=list)
    now_s: float = 10.0

    # tasks
    async def in_worker(self, act: Callable[..., Any], *arguments: Any) -> Any:
        return act(*arguments)

    def hand_over(self, act: Callable[..., None], *arguments: Any, failing: Any) -> None:
        act(*arguments)

    def submit(self, act: Callable[..., Any], *arguments: Any) -> "asyncio.Future[Any]":
        act(*arguments)
        return asyncio.get_running_loop().create_future()

    def spawn(self, task: Coroutine[Any, Any, None]) -> None:
        self.spawned.append(task)

    def later(self, delay_s: float, act: Callable[[], None]) -> Timer:
        self.timers.append(Timer(delay_s, act))
        return self.timers[-1]

    # cache
    def learn(self, refs: Iterable[BlobRef]) -> None:
        self.done.append(("learn", {ref.name or ref.id for ref in refs}))

    def forget_all_but(self, needed: Iterable[BlobRef]) -> None:
        self.done.append(("forget all but", {ref.id for ref in needed}))

    async def ensure_blob(self, blob_id: str) -> None:
        if blob_id in self.missing:
            raise TransportError("it broke")
        self.done.append(("ensure", blob_id))

    def blob_ids(self) -> tuple[str, ...]:
        return ("held",)

    # uplink
    connected = True

    def send(self, message: TierUpward) -> None:
        self.done.append(("tell", message))

    # engine
    def add_share(self, share: RoundShare, works: dict[str, WireAssignment]) -> None:
        self.done.append(("share", share.round, sorted(works)))

    def delete(self, blob_ids: set[str]) -> None:
        self.done.append(("delete", blob_ids))

    def with_sum(self, action: Callable[..., None], *arguments: Any) -> None:
        getattr(self, action.__name__)(*arguments)

    def verify(self, device: str, submission: UpdateSubmission) -> None:
        if self.fault is not None:
            raise self.fault

    def verify_partial(self, child: str, submission: PartialSubmission) -> None:
        if self.fault is not None:
            raise self.fault

    def fold(self, device: str) -> None:
        self.done.append(("fold", device))

    def merge_partial(self, part: PartialId) -> None:
        self.done.append(("merge", part))

    def drop_partial(self, part: PartialId) -> None:
        self.done.append(("drop", part))

    def pack(self, order: Any, times_s: dict[str, float], faults: dict[str, str]) -> None:
        self.done.append(("pack", order.devices, order.failed, times_s, faults))

    def forget(self, number: int) -> None:
        self.done.append(("forget", number))

    def drop(self) -> None:
        """Never do what was spawned."""
        while self.spawned:
            self.spawned.pop().close()

    async def settle(self) -> None:
        """Do what was spawned, in order, as far as it goes: what is packed never comes."""
        while self.spawned:
            task = asyncio.ensure_future(self.spawned.pop(0))
            await asyncio.sleep(0)
            task.cancel()


class Told(Session):
    """A session that writes down what is sent into the list of its surroundings."""

    __slots__ = ("around",)
    around: Surroundings

    def send(self, message: Any) -> None:
        self.around.done.append(("send", self.name, message))


class Driven:
    """A driver with these devices below it, and a child edge with others."""

    made: ClassVar[list["Driven"]] = []

    def __init__(self, devices: str = "", relayed: str = "", number: int = 0) -> None:
        self.made.append(self)
        self.around = Surroundings()
        self.registry, self.edges = SessionRegistry(), EdgeRegistry()
        self.sessions = {name: self.session(name) for name in devices}
        for session in self.sessions.values():
            self.registry.register(session)
        if relayed:
            self.child = Session(replace(JOIN, name="child", role=Role.EDGE, profile=None))
            self.edges.register(self.child)
            for name in relayed:
                leaf = RelayedSession(replace(JOIN, name=name), self.child)
                self.registry.register(leaf)
                self.edges.add_device(leaf)
        around = cast(Any, self.around)
        self.rounds = EdgeRounds(
            name="edge",
            number=number,
            link=cast(Link, around),
            engine=cast(EdgeEngine, around),
            uplink=cast(EdgeUplink, around),
            cache=cast(EdgeCache, around),
            sessions=self.registry,
            edges=self.edges,
            tasks=cast(Tasks, around),
            say=self.around.said.append,
            notes=EdgeNotes(),
            clock=lambda: self.around.now_s,
        )

    def session(self, name: str) -> Told:
        session = Told(replace(JOIN, name=name))
        session.around = self.around
        return session

    async def take(self, share: RoundShare) -> list[tuple[Any, ...]]:
        """Have the driver take a share in; returns what it did."""
        self.around.done.clear()
        self.rounds.queue_share(share)
        taking = asyncio.ensure_future(self.rounds.take_shares())
        await asyncio.sleep(0)  # nothing around it ever waits: it is done when it waits for the next share
        taking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await taking
        return list(self.around.done)

    def child_heard(self) -> list[Any]:
        """What went down the child's stream since last asked."""
        return [self.child.outbox.get_nowait() for _ in range(self.child.outbox.qsize())]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    while Driven.made:
        Driven.made.pop().around.drop()


def share_of(works: dict[str, WireAssignment], deadline_s: float = 9.0) -> RoundShare:
    (share,) = round_shares(works, spec=TIER, deadline_s=deadline_s)
    return share


def kinds(done: list[tuple[Any, ...]]) -> list[str]:
    return [what for what, *_ in done]


# --- a share ---


async def test_a_first_share_is_fetched_then_begun_and_only_then_handed_on() -> None:
    driven = Driven("ab")
    works = {name: assignment(keep_set=KEPT, rank_blocks=(LARGE,)) for name in "ab"}
    done = await driven.take(share_of(works))
    assert kinds(done) == [
        *("learn", "ensure", "ensure"),
        *("delete", "forget all but"),
        *("share", "send", "send"),
    ]
    assert done[1:3] == [("ensure", KEPT.id), ("ensure", KEPT.id)], "what updates are verified against"
    assert done[4] == ("forget all but", {KEPT.id, LARGE.id})
    assert done[5:] == [("share", 1, ["a", "b"]), ("send", "a", works["a"]), ("send", "b", works["b"])]
    assert driven.around.timers[-1].delay_s == 9.0 and driven.rounds.machine.deadline_at_s == 19.0
    await driven.around.settle()  # large blobs that devices will ask for, after their own requests had the chance
    assert driven.around.done[len(done) :] == [
        *[("ensure", blob_id) for blob_id in (KEPT.id, LARGE.id)],
        ("tell", Holding(blobs=("held",))),
    ]


async def test_an_aggregator_that_bundles_needs_the_whole_adapter_first() -> None:
    driven = Driven("a")
    share = replace(
        share_of({"a": assignment(rank_blocks=(LARGE, OTHER))}), spec=replace(TIER, aggregator="delta-stack")
    )
    done = await driven.take(share)
    brought = [blob_id for what, blob_id in done[: kinds(done).index("share")] if what == "ensure"]
    assert brought == [LARGE.id, OTHER.id]


async def test_a_share_of_an_earlier_round_is_of_no_use() -> None:
    driven = Driven("a")
    await driven.take(share_of({"a": assignment(3)}))
    assert await driven.take(share_of({"a": assignment(2)})) == []
    assert driven.rounds.machine.round == 3 and driven.rounds.assignments["a"].round == 3


async def test_a_share_that_cannot_be_fetched_leaves_the_round_before_as_it_was() -> None:
    driven = Driven("ab")
    await driven.take(share_of({"a": assignment(1)}))
    before, works = driven.rounds.machine, dict(driven.rounds.assignments)
    driven.around.missing = {KEPT.id}
    done = await driven.take(share_of({"b": assignment(2, keep_set=KEPT)}))
    assert kinds(done) == ["learn"]
    assert driven.rounds.machine == before and driven.rounds.assignments == works
    assert driven.around.said == ["round 2: the work for 1 devices is of no use: it broke"]
    driven.around.missing.clear()
    assert "share" in kinds(await driven.take(share_of({"b": assignment(2, keep_set=KEPT)}))), "it may come again"


async def test_shares_of_one_round_complete_each_other() -> None:
    """A small blob that came with the first is not sent again; the round goes on, nothing of it is deleted."""
    driven = Driven("ab")
    works = {name: assignment() for name in "ab"}
    first = share_of(works)
    await driven.take(replace(first, assignments=first.assignments[:1]))
    done = await driven.take(replace(first, assignments=first.assignments[1:], blobs=(), deadline_s=4.0))
    assert done == [("learn", set()), ("share", 1, ["b"]), ("send", "b", works["b"])]
    assert driven.rounds.assignments == works
    assert driven.around.timers[0].cancelled and not driven.around.timers[1].cancelled
    assert driven.rounds.machine.deadline_at_s == 14.0, "the newest share's deadline holds"


async def test_uploads_of_rounds_before_are_deleted_before_a_device_is_pushed() -> None:
    """The same bytes may come again for the new round; those of the last round but one may still be under way."""
    driven = Driven("a")
    await driven.take(share_of({"a": assignment(1)}))
    driven.rounds.note_upload("one")
    done = await driven.take(share_of({"a": assignment(2)}))
    assert ("delete", {"one"}) in done
    assert done.index(("delete", {"one"})) < done.index(("send", "a", driven.rounds.assignments["a"]))
    driven.rounds.note_upload("two")
    assert ("delete", {"one", "two"}) in await driven.take(share_of({"a": assignment(3)})), "an upload may end late"
    assert ("delete", {"two"}) in await driven.take(share_of({"a": assignment(4)}))


async def test_blobs_of_the_round_before_stay_for_devices_that_are_fetching_them() -> None:
    driven = Driven("a")
    await driven.take(share_of({"a": assignment(1, rank_blocks=(LARGE,))}))
    done = await driven.take(share_of({"a": assignment(2, rank_blocks=(OTHER,))}))
    assert ("forget all but", {LARGE.id, OTHER.id}) in done
    assert ("forget all but", {OTHER.id}) in await driven.take(share_of({"a": assignment(3, rank_blocks=(OTHER,))}))


async def test_a_share_tells_of_the_round_before_whom_it_gives_no_work() -> None:
    driven = Driven("abc", relayed="x")
    await driven.take(share_of({name: assignment(1) for name in "abcx"}))
    driven.child_heard()
    driven.rounds.round_closed(1)  # the root's word, which waits a moment for the next share
    closing = driven.around.timers[-1]
    done = await driven.take(share_of({"a": assignment(2)}))
    told = [name for what, name, *rest in done if what == "send" and rest == [RoundClosed(round=1)]]
    assert sorted(told) == ["b", "c"] and driven.child_heard() == [RoundClosed(round=1)]
    assert closing.cancelled


async def test_without_another_share_everybody_hears_that_a_round_is_durable() -> None:
    driven = Driven("a", relayed="x")
    driven.rounds.round_closed(1)
    driven.around.timers[-1].act()
    assert driven.around.done == [("forget", 1), ("send", "a", RoundClosed(round=1))]
    assert driven.child_heard() == [RoundClosed(round=1)]


def test_a_small_blob_comes_from_whichever_share_of_its_round_had_it() -> None:
    works = {name: assignment(rank_blocks=(small(name.encode()), LARGE)) for name in "ab"}
    whole = share_of(works)
    first = unpack(replace(whole, assignments=whole.assignments[:1]), None)
    second = unpack(replace(whole, assignments=whole.assignments[1:], blobs=()), first.share)
    assert {**first.assignments, **second.assignments} == works
    assert second.share.blobs == whole.blobs and first.own_blob_ids == [] and second.large_blobs == [LARGE]
    other = unpack(replace(whole, round=2, assignments=whole.assignments[1:], blobs=()), first.share)
    assert not any(ref.inline for given in other.assignments.values() for ref in given.refs), "of another round"


# --- assignments down ---


async def test_devices_below_one_child_get_one_share_with_its_part_of_the_time() -> None:
    driven = Driven("a", relayed="xy")
    works = {name: assignment() for name in "axy"}
    await driven.take(share_of(works))
    (share,) = [message for message in driven.child_heard() if isinstance(message, RoundShare)]
    assert share == share_of({name: works[name] for name in "xy"}, deadline_s=CHILD_TIME_SHARE * 9.0)


async def test_a_device_that_is_not_here_is_reported_and_not_waited_for() -> None:
    driven = Driven("a")
    done = await driven.take(share_of({name: assignment() for name in "ab"}))
    assert ("tell", LeafLeft(device="b")) in done
    assert driven.rounds.machine.devices["b"].stage is Stage.ABSENT


# --- updates and partials up ---


async def opened(devices: str = "ab", relayed: str = "") -> Driven:
    driven = Driven(devices, relayed)
    await driven.take(share_of({name: assignment() for name in devices + relayed}))
    driven.around.drop()
    driven.around.done.clear()
    if relayed:
        driven.child_heard()
    return driven


def update() -> UpdateSubmission:
    return answer("a", assignment())  # what is in it is the engine's to look at


def partial(number: int = 1, *, round_index: int = 1, counted: str = "x", failed: str = "") -> PartialSubmission:
    leaves = [replace(failure(name), counted=True, message="") for name in counted]
    return PartialSubmission(
        round=round_index,
        number=number,
        partial=None,
        scores=None,
        leaves=(*leaves, *(failure(name) for name in failed)),
    )


async def test_updates_are_folded_and_the_last_sends_them_up_with_their_times() -> None:
    driven = await opened()
    for name, now_s in (("b", 12.0), ("a", 15.0)):
        driven.around.now_s = now_s
        await driven.rounds.take_update(driven.sessions[name], update())
    assert driven.around.done == [
        ("fold", "b"),
        ("fold", "a"),
        ("pack", ("a", "b"), (), {"a": 5.0, "b": 2.0}, {}),
    ]
    driven.rounds.take_verdict(PartialVerdict(round=1, number=1, verdict=Verdict.ACCEPTED))
    assert driven.around.done[3:] == [
        ("send", name, UpdateVerdict(round=1, verdict=Verdict.ACCEPTED)) for name in ("a", "b")
    ]


@pytest.mark.parametrize(
    ("fault", "words"),
    [(UpdateRejected("wrong shape"), "wrong shape"), (ZeroDivisionError("x"), "the update cannot be read: ZeroDiv")],
)
async def test_an_update_that_does_not_fit_costs_its_device_the_round(fault: Exception, words: str) -> None:
    driven = await opened()
    driven.around.fault = fault
    await driven.rounds.take_update(driven.sessions["a"], update())
    ((_, name, verdict),) = driven.around.done
    assert name == "a" and verdict.verdict is Verdict.REJECTED and verdict.message.startswith(words)
    driven.around.fault = None
    await driven.rounds.take_update(driven.sessions["b"], update())
    what, devices, failed, _, faults = driven.around.done[-1]
    assert (what, devices, failed) == ("pack", ("b",), ("a",)) and faults["a"].message.startswith(words)


async def test_only_the_beginning_of_a_failure_travels_up_and_none_of_another_round() -> None:
    driven = await opened()
    driven.rounds.failed("a", AssignmentFailure(round=1, message="x" * (MAX_MESSAGE + 1), out_of_memory=True))
    driven.rounds.failed("b", AssignmentFailure(round=7, message="of a round that is not open"))
    kept = AssignmentFailure(round=1, message="x" * MAX_MESSAGE, out_of_memory=True)
    assert driven.rounds._submissions._faults == {"a": kept}
    assert driven.rounds.machine.devices["b"].stage is Stage.PENDING


async def test_a_partial_is_merged_and_its_failures_believed_where_the_child_speaks_for_them() -> None:
    driven = await opened("a", relayed="xy")
    await driven.rounds.take_partial("child", partial(counted="x", failed="ya"))
    assert driven.around.done[0] == ("merge", PartialId(child="child", number=1))
    stages = {name: known.stage for name, known in driven.rounds.machine.devices.items()}
    assert stages == {"a": Stage.PENDING, "x": Stage.FOLDED, "y": Stage.FAILED}


async def test_a_partial_that_does_not_fit_is_refused_and_fails_its_devices() -> None:
    driven = await opened("a", relayed="x")
    driven.around.fault = UpdateRejected("a wrong sum")
    await driven.rounds.take_partial("child", partial())
    (verdict,) = driven.child_heard()
    assert verdict == PartialVerdict(round=1, number=1, verdict=Verdict.REJECTED, message="a wrong sum")
    assert driven.rounds._submissions._faults == {"x": AssignmentFailure(round=1, message="through child: a wrong sum")}


async def test_a_partial_of_a_round_to_come_waits_for_its_share_and_not_too_many_do() -> None:
    driven = await opened("a", relayed="x")
    for number in range(1, MOST_EARLY + 2):
        await driven.rounds.take_partial("child", partial(number, round_index=2))
    assert len(driven.rounds._early_partials) == MOST_EARLY and driven.around.done == []
    await driven.take(share_of({"x": assignment(2)}))
    await driven.around.settle()
    merged = [what for what in driven.around.done if what[0] == "merge"]
    assert merged == [("merge", PartialId(child="child", number=2))], "the oldest made room"


async def test_a_child_hears_what_became_of_its_partial() -> None:
    driven = await opened("", relayed="x")
    await driven.rounds.take_partial("child", partial())
    driven.rounds.take_verdict(PartialVerdict(round=1, number=1, verdict=Verdict.OVERLAP, devices=("x",)))
    assert driven.child_heard() == [PartialVerdict(round=1, number=1, verdict=Verdict.OVERLAP, devices=("x",))]
    assert driven.around.done[-1] == ("drop", PartialId(child="child", number=1))


async def test_a_submission_that_is_not_taken_counts_as_late() -> None:
    driven = await opened("a")
    await driven.rounds.take_update(driven.sessions["a"], update())
    driven.rounds._submission_refused(1, "its round has closed")
    assert driven.around.done[-1] == ("send", "a", UpdateVerdict(round=1, verdict=Verdict.LATE))
    assert driven.around.said == ["submission 1 was not taken: its round has closed"]


async def test_the_deadline_sends_up_what_is_here_and_a_closed_edge_has_no_timers() -> None:
    driven = await opened("ab")
    await driven.rounds.take_update(driven.sessions["a"], update())
    driven.around.now_s = 19.0
    driven.around.timers[-1].act()
    assert driven.around.done[-1][:3] == ("pack", ("a",), ())
    driven.rounds.round_closed(1)
    driven.rounds.close()
    assert all(timer.cancelled for timer in driven.around.timers[-2:])


async def test_an_aggregator_of_another_version_costs_the_share_alone() -> None:
    driven = Driven("a")
    share = replace(share_of({"a": assignment()}), spec=replace(TIER, aggregator="of-tomorrow"))
    assert kinds(await driven.take(share)) == ["learn"]
    assert driven.around.said[0].startswith("round 1: the work for 1 devices is of no use: strategy.aggregator")
