"""Rounds at the coordinator: takes in updates and partials, feeds the round machine, and carries out its commands."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import InitVar, dataclass, field

from fedcore.core.contract.protocols import Json
from fedcore.core.errors import FedcoreError, RunError
from fedcore.core.rounds import commands, events
from fedcore.core.rounds.machine import step
from fedcore.core.rounds.result import RoundResult
from fedcore.core.rounds.shell import RoundShell, in_order, together
from fedcore.core.rounds.state import RoundState
from fedcore.core.rounds.tier.state import PartialId
from fedcore.protos.tier_values import PartialSubmission, PartialVerdict
from fedcore.protos.values import (
    AssignmentFailure,
    RoundClosed,
    UpdateSubmission,
    UpdateVerdict,
    Verdict,
    WireAssignment,
)
from fedcore.server.aggregate.engine import Engine
from fedcore.server.aggregate.round_sum import RoundSum
from fedcore.server.members.edge_registry import EdgeRegistry
from fedcore.server.members.session_registry import SessionRegistry
from fedcore.server.members.sessions import RelayedSession, Session
from fedcore.server.process.tasks import Tasks
from fedcore.server.rounds.edge_dispatch import round_shares
from fedcore.server.rounds.evaluator_queue import EvaluatorQueue
from fedcore.server.run.run_log import RunLog

MAX_REPORT = 500  # characters of a device's message in an event
EDGE_TIME_SHARE = 0.9  # of the time until a round's deadline; within it an edge must submit its updates


@dataclass(slots=True, kw_only=True, eq=False)
class RoundDriver:
    """Drives the round machine. Lives on the event loop.

    `ready` returns the engine; `on_closed` is awaited after every counted round.
    """

    state: InitVar[RoundState]
    sessions: SessionRegistry
    edges: EdgeRegistry
    evaluators: EvaluatorQueue
    tasks: Tasks
    log: RunLog
    clock: Callable[[], float]
    ready: Callable[[], Engine]
    on_closed: Callable[[], Awaitable[None]]
    uploads: set[str] = field(default_factory=set)  # blobs that devices began to send since the last turn
    _merged: set[PartialId] = field(default_factory=set)  # of the open round
    _merged_before: set[PartialId] = field(default_factory=set)  # of the round before; their answers may be lost
    _timer: asyncio.TimerHandle | None = None
    _shell: RoundShell[RoundState, events.Event, commands.Command] = field(init=False)

    def __post_init__(self, state: RoundState) -> None:
        """Bind every command to its method; a new round's assignments go to the whole cohort together."""
        self._shell = RoundShell(
            state,
            step,
            commands=commands.Command,
            table=(
                in_order(commands.Turn, lambda order: self.tasks.spawn(self._turn(order))),
                together(commands.Push, self._push),
                in_order(commands.Accept, self._accept),
                in_order(commands.AckDuplicate, self._ack_duplicate),
                in_order(commands.RefuseLate, self._refuse_late),
                in_order(commands.RefuseUnknown, self._refuse_unknown),
                in_order(commands.AcceptPartial, self._accept_partial),
                in_order(commands.RefuseOverlap, self._refuse_overlap),
                in_order(commands.RefusePartial, self._refuse_closed),
                in_order(commands.Fence, self._fence),
                in_order(commands.WakeAt, self._wake_at),
                in_order(commands.Pause, lambda order: self.tasks.end(RunError(order.reason))),
                in_order(commands.Finish, lambda _: self.tasks.end("finished")),
            ),
        )

    @property
    def machine(self) -> RoundState:
        """State of the round machine."""
        return self._shell.state

    def feed(self, event: events.Event) -> None:
        """Feed the machine an event and carry out its commands."""
        self._shell.feed(event)

    def close(self) -> None:
        """Cancel the wake-up."""
        if self._timer is not None:
            self._timer.cancel()

    def _push(self, pushes: Iterable[commands.Push]) -> None:
        """Send assignments, and those for devices below one edge together."""
        engine = self.ready()
        below: dict[Session, dict[str, WireAssignment]] = {}
        pushed: list[Json] = []
        for order in pushes:
            session = self.sessions.find(order.device)
            if session is None or engine.open is None or engine.open.round != order.round:
                continue
            assignment = engine.open.wire_assignments[order.device]
            if isinstance(session, RelayedSession):
                below.setdefault(session.stream, {})[order.device] = assignment
            else:
                session.send(assignment)
            pushed.append({"device": order.device, "round": order.round})
        self.log.events("pushed", pushed)
        left_s = max(0.0, self.machine.deadline_at_s - self.clock())
        for edge, assignments in below.items():
            for share in round_shares(assignments, spec=engine.tier_spec, deadline_s=EDGE_TIME_SHARE * left_s):
                edge.send(share)

    def _fence(self, order: commands.Fence) -> None:
        session = self.sessions.find(order.device)
        # The registry closed the stream of an older session when it registered the newer one.
        if session is not None and self.sessions.number(order.device) == order.epoch:
            session.close()

    def _wake_at(self, order: commands.WakeAt) -> None:
        self.close()
        delay = max(0.0, order.at_s - self.clock())
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self.feed(events.Tick(now_s=self.clock()))

    async def _turn(self, order: commands.Turn) -> None:
        engine = self.ready()
        engine.pinned_blobs = self.evaluators.blobs()
        if order.closed is not None:
            engine.uploaded_blobs, self.uploads = self.uploads, set()
        profiles = dict(self.sessions.profiles)
        try:
            result = await self.tasks.in_worker(engine.turn, order, profiles, self.machine.void_streak)
        except OSError as cause:
            raise RunError(f"cannot write round {self.machine.round}: {cause}; free space, then resume") from cause
        if order.closed is not None:
            self._send_closed(order.closed, result.assignments)
            self._merged_before, self._merged = self._merged, set()
            if not order.closed.void:
                await self.on_closed()
        now_s = self.clock()
        if order.next_round is None:
            self.feed(events.TurnDone(now_s=now_s))
        else:
            self.feed(events.Planned(round=order.next_round, cohort=tuple(sorted(result.assignments)), now_s=now_s))

    def _send_closed(self, closed: RoundResult, assignments: Mapping[str, WireAssignment]) -> None:
        """Tell members that a round is durable, except devices that learn it from an assignment in `assignments`."""
        streams = set()
        for member in closed.members:
            session = self.sessions.find(member.device)
            if session is not None and (isinstance(session, RelayedSession) or member.device not in assignments):
                streams.add(session.stream)
        for stream in streams:
            stream.send(RoundClosed(round=closed.round))

    # --- updates of devices ---

    def take_update(self, device: str, submission: UpdateSubmission) -> None:
        """Verify an update and feed it to the machine."""
        self.tasks.spawn(self._take_update(device, submission))

    async def _take_update(self, device: str, submission: UpdateSubmission) -> None:
        number = submission.round
        try:
            await self.tasks.in_worker(self.ready().with_sum, RoundSum.verify, device, submission)
        except Exception as error:  # whatever a device's bytes do to the decoder, the run goes on without the update
            text = str(error) if isinstance(error, FedcoreError) else f"the update cannot be read: {error!r}"
            self._verdict(device, number, Verdict.REJECTED, text)
            self._rejected(device, number, text)
            return
        self.feed(events.UpdateArrived(device=device, round=number, now_s=self.clock()))

    def failed(self, device: str, failure: AssignmentFailure) -> None:
        """Note that a device could not carry out its assignment."""
        why = {"out_of_memory": True} if failure.out_of_memory else {}
        self.log.event("failed", device=device, round=failure.round, message=failure.message[:MAX_REPORT], **why)
        self.feed(
            events.UpdateRefused(
                device=device, round=failure.round, now_s=self.clock(), out_of_memory=failure.out_of_memory
            )
        )

    def _rejected(self, device: str, number: int, text: str) -> None:
        self.log.event("rejected", device=device, round=number, message=text)
        self.feed(events.UpdateRefused(device=device, round=number, now_s=self.clock()))

    def _accept(self, order: commands.Accept) -> None:
        device, number = order.device, order.round
        # Not awaited: the worker runs calls in order, so it folds before it closes the round.
        self.tasks.hand_over(
            self.ready().with_sum, RoundSum.fold, device, failing=lambda cause: _count_failed(device, number, cause)
        )
        self.log.event("accepted", device=device, round=number)
        self._verdict(device, number, Verdict.ACCEPTED)

    def _ack_duplicate(self, order: commands.AckDuplicate) -> None:
        self.log.event("duplicate", device=order.device, round=order.round)
        self._verdict(order.device, order.round, Verdict.ACCEPTED)

    def _refuse_late(self, order: commands.RefuseLate) -> None:
        self.log.event("late", device=order.device, round=order.round)
        self._verdict(order.device, order.round, Verdict.LATE, f"round {order.round} had closed")

    def _refuse_unknown(self, order: commands.RefuseUnknown) -> None:
        self._verdict(order.device, order.round, Verdict.UNKNOWN, "no such open assignment")

    def _verdict(self, device: str, number: int, verdict: Verdict, message: str = "") -> None:
        session = self.sessions.find(device)
        if isinstance(session, Session):  # an edge answers its devices itself
            session.send(UpdateVerdict(round=number, verdict=verdict, message=message))

    # --- partials of edges ---

    def take_partial(self, edge: Session, submission: PartialSubmission) -> None:
        """Verify an edge's partial and feed it to the machine; it counts as a whole or not at all."""
        self.tasks.spawn(self._take_partial(edge, submission))

    async def _take_partial(self, edge: Session, submission: PartialSubmission) -> None:
        part, number = PartialId(child=edge.name, number=submission.number), submission.round
        try:
            if not self._counts(part):
                await self.tasks.in_worker(self.ready().with_sum, RoundSum.verify_partial, edge.name, submission)
        except Exception as error:  # whatever its bytes do to the decoder, the run goes on without the partial
            self._reject_partial(edge, submission, error)
            return
        if self._counts(part):  # the edge sent it again, because the answer was lost
            edge.send(PartialVerdict(round=number, number=part.number, verdict=Verdict.ACCEPTED))
            return
        device_times = tuple((relayed.device, relayed.time_s) for relayed in submission.leaves if relayed.counted)
        self.feed(
            events.PartialArrived(
                edge=edge.name, number=part.number, round=number, device_times=device_times, now_s=self.clock()
            )
        )
        if self._counts(part):
            self._report_failures(edge, submission)

    def _reject_partial(self, edge: Session, submission: PartialSubmission, error: Exception) -> None:
        """Tell the edge what is wrong with its partial; its devices do not count in the round any more."""
        number = submission.round
        text = str(error) if isinstance(error, FedcoreError) else f"the partial cannot be read: {error!r}"
        self.log.event("rejected", device=edge.name, round=number, message=text)
        edge.send(PartialVerdict(round=number, number=submission.number, verdict=Verdict.REJECTED, message=text))
        for outcome in submission.leaves:
            if self._speaks_for(edge, outcome.device):
                self._rejected(outcome.device, number, f"through {edge.name}: {text}")

    def _report_failures(self, edge: Session, submission: PartialSubmission) -> None:
        """Feed the failures in a partial, once it counts: a refused partial comes again with them."""
        for outcome in submission.leaves:
            if not outcome.counted and self._speaks_for(edge, outcome.device):
                failure = AssignmentFailure(
                    round=submission.round, message=outcome.message, out_of_memory=outcome.out_of_memory
                )
                self.failed(outcome.device, failure)

    def _speaks_for(self, edge: Session, device: str) -> bool:
        """Whether an edge may report a device's failure: not if the device has another parent by now."""
        session = self.sessions.find(device)
        return session is None or session.stream is edge

    def _counts(self, part: PartialId) -> bool:
        return part in self._merged or part in self._merged_before

    def _accept_partial(self, order: commands.AcceptPartial) -> None:
        part = PartialId(child=order.edge, number=order.number)
        self._merged.add(part)
        self.tasks.hand_over(
            self.ready().with_sum,
            RoundSum.merge_partial,
            part,
            failing=lambda cause: _count_failed(order.edge, order.round, cause),
        )
        for device in order.devices:
            self.log.event("accepted", device=device, round=order.round)
        self._answer(order, Verdict.ACCEPTED)

    def _refuse_overlap(self, order: commands.RefuseOverlap) -> None:
        self._refuse_partial(order, Verdict.OVERLAP, order.devices)

    def _refuse_closed(self, order: commands.RefusePartial) -> None:
        self._refuse_partial(order, Verdict.LATE, message=f"round {order.round} is not open")

    def _refuse_partial(
        self,
        order: commands.RefuseOverlap | commands.RefusePartial,
        verdict: Verdict,
        devices: tuple[str, ...] = (),
        message: str = "",
    ) -> None:
        self.log.event("partial_refused", device=order.edge, round=order.round, reason=str(verdict))
        self.tasks.hand_over(
            self.ready().with_sum,
            RoundSum.drop_partial,
            PartialId(child=order.edge, number=order.number),
            failing=lambda cause: _count_failed(order.edge, order.round, cause),
        )
        self._answer(order, verdict, devices, message)

    def _answer(
        self, order: commands.PartialAnswer, verdict: Verdict, devices: tuple[str, ...] = (), message: str = ""
    ) -> None:
        edge = self.edges.find(order.edge)
        if edge is not None:
            edge.send(
                PartialVerdict(
                    round=order.round, number=order.number, verdict=verdict, devices=devices, message=message
                )
            )


def _count_failed(sender: str, number: int, cause: BaseException) -> RunError:
    # The round's sum may be half changed; only the last closed round is durable.
    return RunError(f"counting what {sender} sent for round {number} failed ({cause!r}); resume the run")
