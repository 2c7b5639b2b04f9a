"""Rounds at an edge as they happen: shares in, work down, updates and partials in, what the tier machine asks for."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from fedcore.core.errors import FedcoreError, TransportError, UpdateRejected
from fedcore.core.rounds.shell import RoundShell, in_order, together
from fedcore.core.rounds.tier import commands, events
from fedcore.core.rounds.tier.machine import step
from fedcore.core.rounds.tier.state import Decision, PartialId, TierState
from fedcore.protos.tier_values import Holding, LeafLeft, PartialSubmission, PartialVerdict, RoundShare
from fedcore.protos.values import Role, RoundClosed, UpdateSubmission, UpdateVerdict, Verdict, WireAssignment
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
from fedcore.server.rounds.edge_dispatch import shares
from fedcore.transport.link import Link

CHILD_SHARE = 0.9  # of an edge's own time for a round, in which a child must have passed on what it holds
CLOSING_S = 0.2  # how long the end of a round waits for the next share, which says the same to most devices
MOST_EARLY = 256  # partials of a round to come that are kept
MAX_MESSAGE = 500  # characters of a device's own words that travel up


class EdgeRounds:
    """Lives on the event loop. `number` is that of the last submission in an earlier life of this edge."""

    def __init__(
        self,
        *,
        name: str,
        number: int,
        link: Link,
        engine: EdgeEngine,
        uplink: EdgeUplink,
        cache: EdgeCache,
        seats: SessionRegistry,
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
                in_order(commands.Fold, self._hold),
                in_order(commands.MergePartial, self._hold_part),
                in_order(commands.Acknowledge, self._acknowledge),
                in_order(commands.AnswerChild, self._answer_child),
                in_order(commands.Send, lambda order: self._flights.begin(order)),
                in_order(commands.SendAgain, lambda order: self._flights.again(order.number)),
                in_order(commands.Forget, self._forget),
            ),
        )
        self._engine, self._uplink, self._cache = engine, uplink, cache
        self._seats, self._edges, self._tasks = seats, edges, tasks
        self._say, self._notes, self._clock = say, notes, clock
        self._flights = EdgeSubmissions(
            name=name, link=link, uplink=uplink, engine=engine, tasks=tasks, notes=notes, refused=self._unwanted
        )
        self._last_share: RoundShare | None = None
        self._early: dict[PartialId, PartialSubmission] = {}  # of a round whose share is on its way
        self._uploads: set[str] = set()  # blobs members began to send since the last round
        self._uploads_before: set[str] = set()  # the same of the round before; an upload may end late
        self._shares: asyncio.Queue[RoundShare] = asyncio.Queue()
        self._ticking: asyncio.TimerHandle | None = None
        self._closing: asyncio.TimerHandle | None = None

    @property
    def machine(self) -> TierState:
        """What the tier machine knows now."""
        return self._shell.state

    def shared(self, share: RoundShare) -> None:
        """The tier above has handed out work; taken in by `take_shares`, in order."""
        self._shares.put_nowait(share)

    def answered(self, verdict: PartialVerdict) -> None:
        """The tier above has answered a submission."""
        self._flights.landed(verdict.number)
        decision = Decision(str(verdict.verdict))
        self.feed(
            events.SubmissionAnswered(
                number=verdict.number, decision=decision, devices=verdict.devices, now_s=self._clock()
            )
        )

    def closed(self, number: int) -> None:
        """A round is durable at the root."""
        self.feed(events.RoundClosed(round=number, now_s=self._clock()))
        _stop(self._closing)
        self._closing = self._tasks.later(CLOSING_S, lambda: self._tell_closed(number, {}))

    def uploading(self, blob_id: str) -> None:
        """A member begins to send this blob, which was not here."""
        self._uploads.add(blob_id)

    def close(self) -> None:
        """No more timers."""
        _stop(self._ticking)
        _stop(self._closing)

    def feed(self, event: events.Event) -> None:
        """Tell the machine what happened, and do what it asks for."""
        self._shell.feed(event)

    def _hold(self, order: commands.Fold) -> None:
        self._tasks.hand_over(self._engine.with_sum, RoundSum.fold, order.device, failing=_unsummed)

    def _hold_part(self, order: commands.MergePartial) -> None:
        self._tasks.hand_over(self._engine.with_sum, RoundSum.merge_partial, order.part, failing=_unsummed)

    def _acknowledge(self, order: commands.Acknowledge) -> None:
        session = self._seats.find(order.device)
        if isinstance(session, Session):  # a child edge answers its devices itself
            session.send(UpdateVerdict(round=order.round, verdict=Verdict(str(order.decision))))

    def _answer_child(self, order: commands.AnswerChild) -> None:
        child, number = self._edges.find(order.part.child), order.part.number
        if child is not None:
            verdict = Verdict(str(order.decision))
            child.send(PartialVerdict(round=order.round, number=number, verdict=verdict, devices=order.devices))
        self._tasks.hand_over(self._engine.with_sum, RoundSum.drop_partial, order.part, failing=_unsummed)

    def _forget(self, order: commands.Forget) -> None:
        self._flights.forget()
        self._tasks.hand_over(self._engine.forget, order.round, failing=_unsummed)

    async def take_shares(self) -> None:
        """Take shares in one after the other: a later one never overtakes the blobs of an earlier one."""
        while True:
            share = await self._shares.get()
            try:
                await self._take_share(share)
            except FedcoreError as error:  # of another version, or its blobs cannot be had: its devices miss the round
                self._say(f"round {share.round}: the work for {len(share.assignments)} devices is of no use: {error}")

    async def _take_share(self, share: RoundShare) -> None:
        """Take one share in. Every step stands where it does for a reason:

        1. Unpack. A share of a round that is behind us is of no use: its devices have newer work, or none.
        2. Fetch what this edge reads itself. This may take seconds or fail, and until then nothing has changed: the
           round before goes on, and a share that fails costs its own devices the round, nobody else.
        3. End the round before, where this share begins another. Its uploads go before a device is pushed: the same
           bytes may come again for the new round, and must not be deleted then.
        4. Begin. The worker has the assignments, and the timer is set, before the machine is told: what the machine
           asks for reaches devices at once, and the answer of the fastest finds both.
        """
        if share.round < self.machine.round:
            return
        contents = unpack(share, self._last_share)
        await self._fetch(contents)
        if self.machine.round != share.round:
            await self._end_round(share.round - 1, contents)
        self._begin(contents)

    async def _fetch(self, contents: ShareContents) -> None:
        """Bring what is read here; what devices ask for is known from here on, and comes when one asks."""
        self._cache.learn([*contents.large, *shift_refs((*contents.assignments.values(), *self.assignments.values()))])
        for blob_id in contents.first:
            await self._cache.bring(blob_id)

    async def _end_round(self, number: int, contents: ShareContents) -> None:
        """Forget round `number`, but for the blobs that a device may still be fetching of it."""
        await self._tidy(number)
        _stop(self._closing)  # what it would say is said now, to those whom the new round does not tell it
        self._tell_closed(number, contents.assignments)
        before, self.assignments = self.assignments, {}
        self._flights.forget()
        shifts = shift_refs((*contents.assignments.values(), *before.values()))
        self._cache.forget_all_but([*contents.large, *large_refs(before.values()), *shifts])

    def _begin(self, contents: ShareContents) -> None:
        """Hand the assignments on, and then what has waited for them."""
        share, assignments, now_s = contents.share, contents.assignments, self._clock()
        self._last_share = share
        self.assignments |= assignments
        self._tasks.hand_over(self._engine.share, share, assignments, failing=_unsummed)
        _stop(self._ticking)
        self._ticking = self._tasks.later(share.deadline_s, lambda: self.feed(events.Tick(now_s=self._clock())))
        deadline_at_s = now_s + share.deadline_s
        self.feed(
            events.ShareArrived(round=share.round, devices=tuple(assignments), deadline_at_s=deadline_at_s, now_s=now_s)
        )
        early, self._early = self._early, {}
        for part, submission in early.items():  # of children that had their share of this round sooner
            self._tasks.spawn(self.take_part(part.child, submission))
        self._tasks.spawn(self._prefetch([ref.id for ref in contents.large]))  # last: devices' own requests come first

    async def _tidy(self, number: int) -> None:
        """Delete what came for earlier rounds."""
        self.feed(events.RoundClosed(round=number, now_s=self._clock()))
        spent = self._uploads | self._uploads_before
        self._uploads, self._uploads_before = set(), self._uploads
        await self._tasks.in_worker(self._engine.delete, spent)

    async def _prefetch(self, blob_ids: list[str]) -> None:
        try:
            for blob_id in dict.fromkeys(blob_ids):
                await self._cache.bring(blob_id)
        except FedcoreError as error:  # a device that asks for it tries again
            self._say(f"cannot bring a blob ahead: {error}")
        self._uplink.send(Holding(blobs=self._cache.held()))

    def _push(self, pushes: Sequence[commands.Push]) -> None:
        """Hand assignments on; those for devices below one child edge together."""
        below: dict[Session, dict[str, WireAssignment]] = {}
        now_s = self._clock()
        for device in (order.device for order in pushes):
            session = self._seats.find(device)
            assignment = self.assignments[device]
            if session is None:  # the tier above believes it here: its word for that, or ours, has been lost
                self.feed(events.DeviceLeft(device=device, now_s=now_s))
                self._uplink.send(LeafLeft(device=device))
            elif isinstance(session, RelayedSession):
                below.setdefault(session.stream, {})[device] = assignment
            else:
                self._flights.pushed(device, now_s)
                self._notes.event("pushed", device=device, round=assignment.round)
                session.send(assignment)
        if self._last_share is not None:
            left_s = CHILD_SHARE * max(0.0, self.machine.deadline_at_s - now_s)
            for child, assignments in below.items():
                for share in shares(assignments, spec=self._last_share.spec, deadline_s=left_s):
                    child.send(share)

    async def take_update(self, session: Session, submission: UpdateSubmission) -> None:
        """Verify a device's update and have it counted."""
        device, number = session.name, submission.round
        try:
            await self._tasks.in_worker(self._engine.with_sum, RoundSum.verify, device, submission)
        except Exception as error:  # whatever a device's bytes do to the decoder, the others' round goes on
            text = str(error) if isinstance(error, FedcoreError) else f"the update cannot be read: {error!r}"
            session.send(UpdateVerdict(round=number, verdict=Verdict.REJECTED, message=text))
            self._notes.event("rejected", device=device, round=number)
            self.failed(device, number, text)
            return
        if number == self.machine.round:
            self._flights.arrived(device, self._clock())
        self._notes.event("accepted", device=device, round=number)
        self.feed(events.UpdateArrived(device=device, round=number, now_s=self._clock()))

    def failed(self, device: str, number: int, message: str) -> None:
        """A device's part in the round does not count, and why."""
        if number == self.machine.round:
            self._flights.fault(device, message[:MAX_MESSAGE])
        self.feed(events.AssignmentFailed(device=device, round=number, now_s=self._clock()))

    async def take_part(self, child: str, submission: PartialSubmission) -> None:
        """Verify a child's partial and have it counted, whole or not at all."""
        if submission.round > self.machine.round:
            self._early[PartialId(child=child, number=submission.number)] = submission
            while len(self._early) > MOST_EARLY:
                del self._early[next(iter(self._early))]
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
            for leaf in submission.leaves:
                if self._speaks_for(child, leaf.device):
                    self.failed(leaf.device, submission.round, f"through {child}: {text}")
            return
        self.feed(
            events.PartialArrived(
                child=child,
                number=submission.number,
                round=submission.round,
                counted=submission.counted,
                failed=tuple(
                    leaf.device
                    for leaf in submission.leaves
                    if not leaf.counted and self._speaks_for(child, leaf.device)
                ),
                now_s=self._clock(),
            )
        )

    def _speaks_for(self, child: str, device: str) -> bool:
        """Whether a child's word on a failure holds: not for a device that has another parent by now."""
        session = self._seats.find(device)
        return session is None or session.stream is self._edges.find(child)

    def _unwanted(self, number: int, message: str) -> None:
        """The tier above does not take a submission's bytes any more: its round has closed, as a rule."""
        self._say(f"submission {number} was not taken: {message}")
        self._flights.landed(number)
        self.feed(events.SubmissionAnswered(number=number, decision=Decision.LATE, now_s=self._clock()))

    def _tell_closed(self, number: int, assignments: Mapping[str, WireAssignment]) -> None:
        """Say that a round is durable to whom the next assignment will not say it."""
        for session in {each.stream for each in self._seats}:
            if session.join.role is Role.EDGE or session.name not in assignments:
                session.send(RoundClosed(round=number))


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _unsummed(cause: BaseException) -> TransportError:
    # Its sum may be half changed: begun anew, devices send again.
    return TransportError(f"summing up failed ({cause!r}); start this edge again")
