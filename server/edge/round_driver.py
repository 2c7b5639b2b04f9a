"""Rounds at an edge: takes in shares, updates and partials, feeds the tier machine, and carries out its commands."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fedcore.core.errors import FedcoreError, TransportError, UpdateRejected
from fedcore.core.rounds.shell import RoundShell, in_order, together
from fedcore.core.rounds.tier import commands, events
from fedcore.core.rounds.tier.machine import step
from fedcore.core.rounds.tier.state import Decision, PartialId, TierState
from fedcore.protos.tier_values import Holding, LeafLeft, PartialSubmission, PartialVerdict, RoundShare
from fedcore.protos.values import (
    AssignmentFailure,
    Role,
    RoundClosed,
    UpdateSubmission,
    UpdateVerdict,
    Verdict,
    WireAssignment,
)
from fedcore.server.aggregate.round_sum import RoundSum
from fedcore.server.edge.cache import EdgeCache
from fedcore.server.edge.engine import EdgeEngine
from fedcore.server.edge.notes import EdgeNotes
from fedcore.server.edge.share_contents import ShareContents, large_refs, shift_refs, unpack
from fedcore.server.edge.submissions import EdgeSubmissions
from fedcore.server.edge.uplink import EdgeUplink
from fedcore.server.members.edge_registry import EdgeRegistry
from fedcore.server.members.session_registry import SessionRegistry
from fedcore.server.members.sessions import RelayedSession, Session
from fedcore.server.process.tasks import Tasks
from fedcore.server.rounds.edge_dispatch import round_shares
from fedcore.transport.link import Link

CHILD_TIME_SHARE = 0.9  # of an edge's own time for a round; within it a child must submit its updates
CLOSING_S = 0.2  # a closed round is reported so late, because the next share tells most devices the same
MOST_EARLY = 256  # partials of a later round that are kept
MAX_MESSAGE = 500  # characters of a device's failure message that are passed up


class EdgeRounds:
    """Drives the tier machine of one edge. Lives on the event loop.

    `number` is that of the last submission before this process began.
    """

    def __init__(
        self,
        *,
        name: str,
        number: int,
        link: Link,
        engine: EdgeEngine,
        uplink: EdgeUplink,
        cache: EdgeCache,
        sessions: SessionRegistry,
        edges: EdgeRegistry,
        tasks: Tasks,
        say: Callable[[str], None],
        notes: EdgeNotes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wire up; nothing happens before the first share."""
        self.assignments: dict[str, WireAssignment] = {}
        self._shell: RoundShell[TierState, events.Event, commands.Command] = RoundShell(
            TierState(number=number),
            step,
            commands=commands.Command,
            table=(
                together(commands.Push, self._push),
                in_order(commands.Fold, self._fold),
                in_order(commands.MergePartial, self._merge_partial),
                in_order(commands.Acknowledge, self._acknowledge),
                in_order(commands.AnswerChild, self._answer_child),
                in_order(commands.Send, lambda order: self._submissions.begin(order)),
                in_order(commands.SendAgain, lambda order: self._submissions.send_again(order.number)),
                in_order(commands.Forget, self._forget),
            ),
        )
        self._engine, self._uplink, self._cache = engine, uplink, cache
        self._sessions, self._edges, self._tasks = sessions, edges, tasks
        self._say, self._notes, self._clock = say, notes, clock
        self._submissions = EdgeSubmissions(
            name=name,
            link=link,
            uplink=uplink,
            engine=engine,
            tasks=tasks,
            notes=notes,
            on_refusal=self._submission_refused,
        )
        self._last_share: RoundShare | None = None
        self._early_partials: dict[PartialId, PartialSubmission] = {}  # of a round with a share still to come
        self._uploads: set[str] = set()  # blobs that members began to send since the last round
        self._uploads_before: set[str] = set()  # those of the round before; an upload may end late
        self._share_queue: asyncio.Queue[RoundShare] = asyncio.Queue()
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._close_timer: asyncio.TimerHandle | None = None

    @property
    def machine(self) -> TierState:
        """State of the tier machine."""
        return self._shell.state

    def queue_share(self, share: RoundShare) -> None:
        """Queue a share that the tier above sent; `take_shares` takes shares in, in order."""
        self._share_queue.put_nowait(share)

    def take_verdict(self, verdict: PartialVerdict) -> None:
        """Take the tier above's answer to a submission."""
        self._submissions.end(verdict.number)
        decision = Decision(str(verdict.verdict))
        self.feed(
            events.SubmissionAnswered(
                number=verdict.number, decision=decision, devices=verdict.devices, now_s=self._clock()
            )
        )

    def round_closed(self, number: int) -> None:
        """Note that a round is durable at the root, and tell members soon."""
        self.feed(events.RoundClosed(round=number, now_s=self._clock()))
        _cancel(self._close_timer)
        self._close_timer = self._tasks.later(CLOSING_S, lambda: self._send_closed(number, {}))

    def note_upload(self, blob_id: str) -> None:
        """Note that a member begins to send this blob, which was not here before."""
        self._uploads.add(blob_id)

    def close(self) -> None:
        """Cancel all timers."""
        _cancel(self._deadline_timer)
        _cancel(self._close_timer)

    def feed(self, event: events.Event) -> None:
        """Feed the machine an event and carry out its commands."""
        self._shell.feed(event)

    def _fold(self, order: commands.Fold) -> None:
        self._tasks.hand_over(self._engine.with_sum, RoundSum.fold, order.device, failing=_sum_failed)

    def _merge_partial(self, order: commands.MergePartial) -> None:
        self._tasks.hand_over(self._engine.with_sum, RoundSum.merge_partial, order.part, failing=_sum_failed)

    def _acknowledge(self, order: commands.Acknowledge) -> None:
        session = self._sessions.find(order.device)
        if isinstance(session, Session):  # a child edge answers its devices itself
            session.send(UpdateVerdict(round=order.round, verdict=Verdict(str(order.decision))))

    def _answer_child(self, order: commands.AnswerChild) -> None:
        child, number = self._edges.find(order.part.child), order.part.number
        if child is not None:
            verdict = Verdict(str(order.decision))
            child.send(PartialVerdict(round=order.round, number=number, verdict=verdict, devices=order.devices))
        self._tasks.hand_over(self._engine.with_sum, RoundSum.drop_partial, order.part, failing=_sum_failed)

    def _forget(self, order: commands.Forget) -> None:
        self._submissions.forget()
        self._tasks.hand_over(self._engine.forget, order.round, failing=_sum_failed)

    async def take_shares(self) -> None:
        """Take shares in one after the other, so that a share never overtakes the blobs of an earlier one."""
        while True:
            share = await self._share_queue.get()
            try:
                await self._take_share(share)
            except (
                FedcoreError
            ) as error:  # another version, or blobs that cannot be fetched: its devices miss the round
                self._say(f"round {share.round}: the work for {len(share.assignments)} devices is of no use: {error}")

    async def _take_share(self, share: RoundShare) -> None:
        """Take one share in. The order of the steps matters:

        1. Unpack. A share of an earlier round is dropped: its devices have newer assignments, or none.
        2. Fetch the blobs that this edge reads itself. This may take seconds or fail, and until it is done nothing has
           changed: the round before goes on, and a share that fails costs only its own devices the round.
        3. End the round before, if this share begins a new one. Its uploads are deleted before any device gets an
           assignment, because devices may send the same bytes again for the new round.
        4. Begin. The worker has the assignments, and the timer is set, before the machine hears of the share: its
           commands reach devices at once, and the answer of the fastest device needs both.
        """
        if share.round < self.machine.round:
            return
        contents = unpack(share, self._last_share)
        await self._fetch(contents)
        if self.machine.round != share.round:
            await self._end_round(share.round - 1, contents)
        self._begin(contents)

    async def _fetch(self, contents: ShareContents) -> None:
        """Fetch the blobs that this edge reads itself; the cache fetches the others when a device requests them."""
        self._cache.learn(
            [*contents.large_blobs, *shift_refs((*contents.assignments.values(), *self.assignments.values()))]
        )
        for blob_id in contents.own_blob_ids:
            await self._cache.ensure_blob(blob_id)

    async def _end_round(self, number: int, contents: ShareContents) -> None:
        """Forget round `number`, except for its blobs that a device may still be fetching."""
        await self._delete_uploads(number)
        _cancel(self._close_timer)  # members without an assignment in the new round are told now
        self._send_closed(number, contents.assignments)
        before, self.assignments = self.assignments, {}
        self._submissions.forget()
        shifts = shift_refs((*contents.assignments.values(), *before.values()))
        self._cache.forget_all_but([*contents.large_blobs, *large_refs(before.values()), *shifts])

    def _begin(self, contents: ShareContents) -> None:
        """Hand on the assignments, and then the partials that waited for them."""
        share, assignments, now_s = contents.share, contents.assignments, self._clock()
        self._last_share = share
        self.assignments |= assignments
        self._tasks.hand_over(self._engine.add_share, share, assignments, failing=_sum_failed)
        _cancel(self._deadline_timer)
        self._deadline_timer = self._tasks.later(share.deadline_s, lambda: self.feed(events.Tick(now_s=self._clock())))
        deadline_at_s = now_s + share.deadline_s
        self.feed(
            events.ShareArrived(round=share.round, devices=tuple(assignments), deadline_at_s=deadline_at_s, now_s=now_s)
        )
        early, self._early_partials = self._early_partials, {}
        for part, submission in early.items():  # of children that got their share of this round earlier
            self._tasks.spawn(self.take_partial(part.child, submission))
        self._tasks.spawn(
            self._prefetch([ref.id for ref in contents.large_blobs])
        )  # last: devices' own requests come first

    async def _delete_uploads(self, number: int) -> None:
        """Close earlier rounds in the machine and delete their uploads."""
        self.feed(events.RoundClosed(round=number, now_s=self._clock()))
        spent = self._uploads | self._uploads_before
        self._uploads, self._uploads_before = set(), self._uploads
        await self._tasks.in_worker(self._engine.delete, spent)

    async def _prefetch(self, blob_ids: list[str]) -> None:
        try:
            for blob_id in dict.fromkeys(blob_ids):
                await self._cache.ensure_blob(blob_id)
        except FedcoreError as error:  # a device that requests the blob tries again
            self._say(f"cannot bring a blob ahead: {error}")
        self._uplink.send(Holding(blobs=self._cache.blob_ids()))

    def _push(self, pushes: Sequence[commands.Push]) -> None:
        """Send assignments down, and those for devices below one child edge together."""
        below: dict[Session, dict[str, WireAssignment]] = {}
        now_s = self._clock()
        for device in (order.device for order in pushes):
            session = self._sessions.find(device)
            assignment = self.assignments[device]
            if session is None:  # the tier above counts it among our devices: a message about its departure was lost
                self.feed(events.DeviceLeft(device=device, now_s=now_s))
                self._uplink.send(LeafLeft(device=device))
            elif isinstance(session, RelayedSession):
                below.setdefault(session.stream, {})[device] = assignment
            else:
                self._submissions.note_push(device, now_s)
                self._notes.event("pushed", device=device, round=assignment.round)
                session.send(assignment)
        if self._last_share is not None:
            left_s = CHILD_TIME_SHARE * max(0.0, self.machine.deadline_at_s - now_s)
            for child, assignments in below.items():
                for share in round_shares(assignments, spec=self._last_share.spec, deadline_s=left_s):
                    child.send(share)

    async def take_update(self, session: Session, submission: UpdateSubmission) -> None:
        """Verify a device's update and feed it to the machine."""
        device, number = session.name, submission.round
        try:
            await self._tasks.in_worker(self._engine.with_sum, RoundSum.verify, device, submission)
        except Exception as error:  # whatever a device's bytes do to the decoder, the round of the others goes on
            text = str(error) if isinstance(error, FedcoreError) else f"the update cannot be read: {error!r}"
            session.send(UpdateVerdict(round=number, verdict=Verdict.REJECTED, message=text))
            self._notes.event("rejected", device=device, round=number)
            self.failed(device, AssignmentFailure(round=number, message=text))
            return
        if number == self.machine.round:
            self._submissions.note_update(device, self._clock())
        self._notes.event("accepted", device=device, round=number)
        self.feed(events.UpdateArrived(device=device, round=number, now_s=self._clock()))

    def failed(self, device: str, failure: AssignmentFailure) -> None:
        """Note that a device does not count in the round, and why."""
        number = failure.round
        if number == self.machine.round:
            self._submissions.note_fault(device, replace(failure, message=failure.message[:MAX_MESSAGE]))
        self.feed(events.AssignmentFailed(device=device, round=number, now_s=self._clock()))

    async def take_partial(self, child: str, submission: PartialSubmission) -> None:
        """Verify a child's partial and feed it to the machine; it counts as a whole or not at all."""
        if submission.round > self.machine.round:
            self._early_partials[PartialId(child=child, number=submission.number)] = submission
            while len(self._early_partials) > MOST_EARLY:
                del self._early_partials[next(iter(self._early_partials))]
            return
        try:
            await self._tasks.in_worker(self._engine.with_sum, RoundSum.verify_partial, child, submission)
        except Exception as error:
            text = str(error) if isinstance(error, UpdateRejected) else f"the partial cannot be read: {error!r}"
            session = self._edges.find(child)
            if session is not None:
                number = submission.number
                refusal = PartialVerdict(round=submission.round, number=number, verdict=Verdict.REJECTED, message=text)
                session.send(refusal)
            for outcome in submission.leaves:
                if self._speaks_for(child, outcome.device):
                    failure = AssignmentFailure(round=submission.round, message=f"through {child}: {text}")
                    self.failed(outcome.device, failure)
            return
        self.feed(
            events.PartialArrived(
                child=child,
                number=submission.number,
                round=submission.round,
                counted=submission.counted,
                failed=tuple(
                    outcome.device
                    for outcome in submission.leaves
                    if not outcome.counted and self._speaks_for(child, outcome.device)
                ),
                now_s=self._clock(),
            )
        )

    def _speaks_for(self, child: str, device: str) -> bool:
        """Whether a child may report a device's failure: not if the device has another parent by now."""
        session = self._sessions.find(device)
        return session is None or session.stream is self._edges.find(child)

    def _submission_refused(self, number: int, message: str) -> None:
        """Drop a submission that the tier above does not accept any more, mostly because its round has closed."""
        self._say(f"submission {number} was not taken: {message}")
        self._submissions.end(number)
        self.feed(events.SubmissionAnswered(number=number, decision=Decision.LATE, now_s=self._clock()))

    def _send_closed(self, number: int, assignments: Mapping[str, WireAssignment]) -> None:
        """Tell members that a round is durable, except devices that learn it from an assignment in `assignments`."""
        for session in {member.stream for member in self._sessions}:
            if session.join.role is Role.EDGE or session.name not in assignments:
                session.send(RoundClosed(round=number))


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _sum_failed(cause: BaseException) -> TransportError:
    # The sum may be half changed. After a restart of the edge, devices send their updates again.
    return TransportError(f"summing up failed ({cause!r}); start this edge again")
