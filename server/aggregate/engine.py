"""Everything a round computes, on the coordinator's one worker thread: verify, fold, finish, close, plan, commit.

The event loop never blocks on this arithmetic or disk. It awaits one call at a time, so calls run in order.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec

from fedcore.core.config.tables import Config
from fedcore.core.contract.assignment import Arm, Assignment
from fedcore.core.contract.outcome import Outcome, Status
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import AggregateReport, Json, Strategy
from fedcore.core.errors import RunError
from fedcore.core.model.geometry import Counts
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.rings import nested
from fedcore.core.rounds.commands import Turn
from fedcore.core.rounds.result import RoundResult
from fedcore.protos.tier_values import TierSpec
from fedcore.protos.values import GlobalAdapter, WireAssignment
from fedcore.server.aggregate.dispatch import Dispatcher, LabelCensus
from fedcore.server.aggregate.global_model import GlobalModel
from fedcore.server.aggregate.round_sum import RoundSum
from fedcore.server.aggregate.round_terms import RoundTerms
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.records import clock_events, outcome_record, round_record
from fedcore.server.run.run_log import RunLog, close_key
from fedcore.server.run.turn_record import TurnRecord
from fedcore.storage.blobs.store import BlobStore

P = ParamSpec("P")


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnResult:
    """What the event loop needs after a turn: the next round's assignments and the global adapter."""

    assignments: Mapping[str, WireAssignment]
    adapter: GlobalAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRound:
    """The coordinator's open round: the assignments it sends, and the sum of the updates so far."""

    wire_assignments: Mapping[str, WireAssignment]
    sum: RoundSum
    events: tuple[Json, ...] = ()

    @property
    def round(self) -> int:
        """Number of the round."""
        return self.sum.terms.round

    @property
    def keep_sets(self) -> set[str]:
        """Ids of the blobs that hold the devices' keep-sets."""
        return {ref.id for assignment in self.wire_assignments.values() for ref in assignment.keep_sets}

    @property
    def assignments(self) -> Mapping[str, Assignment]:
        """Assignments by device."""
        return self.sum.terms.assignments


@dataclass(slots=True, kw_only=True)
class Engine:
    """Everything that one run computes with. Use from one thread at a time."""

    config: Config
    labels: tuple[str, ...]  # agreed; a label's class is its index
    strategy: Strategy
    blobs: BlobStore
    ledger: Ledger
    log: RunLog
    state: Json
    model: GlobalModel
    open: OpenRound | None = None
    pinned_blobs: set[str] = field(default_factory=set)  # that open evaluator tasks need
    counted_rounds: dict[str, int] = field(default_factory=dict)  # by device, the last round that counts its update
    uploaded_blobs: set[str] = field(default_factory=set)  # that devices sent, wholly or in part, for the closing round
    leftovers: set[str] = field(default_factory=set)  # blobs of an earlier process; a device may resume such an upload
    counted: int = 0  # rounds so far that moved the adapter
    has_pruned: bool = False  # whether an update of a pruned device counts in the adapter
    measured_keep_sets: set[str] = field(default_factory=set)  # blobs that evaluations of pruned models fetch
    clock: Callable[[], float] = time.perf_counter  # seconds, for figures of what arithmetic and disk took
    _census: LabelCensus = field(default_factory=LabelCensus)

    def with_sum(self, action: Callable[Concatenate[RoundSum, P], None], *arguments: P.args, **named: P.kwargs) -> None:
        """Call `action` with the open round's sum; do nothing if no round is open.

        Queue this method on the worker, not the sum's own: it looks up the open round when the worker calls it.
        """
        if self.open is not None:
            action(self.open.sum, *arguments, **named)

    @property
    def tier_spec(self) -> TierSpec:
        """Aggregator and adapter shapes, with which an edge verifies and folds."""
        return TierSpec(aggregator=self.strategy.aggregator.name, adapter=self.strategy.spec)

    def turn(self, command: Turn, profiles: Mapping[str, DeviceProfile], void_streak: int) -> TurnResult:
        """Close a round, plan the next and commit both at once."""
        begin = self.clock()
        events: list[Json] = []
        outcomes: list[Json] = []
        record: Json | None = None
        spent: set[str] = set()
        if command.closed is not None and self.open is not None:
            record, outcomes, close_events = self._close(command.closed, profiles)
            events += close_events
            spent = self._spent_blobs()
        state_after_close = self.state
        plan = None if command.next_round is None else self._plan(command, profiles)
        self.log.turn([*events, *(plan.events if plan is not None else ())], outcomes)
        self.ledger.commit_turn(
            TurnRecord(
                closed=command.closed,
                report=record,
                outcomes=tuple(outcomes),
                strategy_state=state_after_close,
                void_streak=void_streak,
                global_blobs=self.model.files(),
                next_round=command.next_round,
                assignments=() if plan is None else tuple(map(assignment_record, plan.assignments.values())),
            )
        )
        if record is not None:
            self._note_close_time(record["round"], self.clock() - begin)
        for blob_id in sorted(spent - self._needed_blobs(plan)):
            self.blobs.delete(blob_id)
        self.measured_keep_sets &= self.pinned_blobs
        self.model.drop_older_files()
        self.open = plan
        return TurnResult(assignments={} if plan is None else plan.wire_assignments, adapter=self.model.adapter)

    def _note_close_time(self, number: int, close_s: float) -> None:
        """Note the seconds that closing a round took. The commit is part of them, so the round's record lacks them."""
        self.ledger.note(close_key(number), close_s)
        self.log.event("committed", round=number, close_s=close_s)

    def _close(self, closed: RoundResult, profiles: Mapping[str, DeviceProfile]) -> tuple[Json, list[Json], list[Json]]:
        if self.open is None:
            raise RuntimeError(f"round {closed.round} closed without having been planned")
        current = self.open.sum
        _check_counted(closed, current.folded)
        begin = self.clock()
        report = AggregateReport(weight=0, updates=0)
        if not closed.void:
            report = self._advance(current)
            self.model.keep(closed.round, report.step)
            self.counted_rounds |= dict.fromkeys(closed.accepted, closed.round)
            self.counted += 1
            self.has_pruned = self.has_pruned or self._any_pruned(closed.accepted)
        current.aggregate_s += self.clock() - begin
        outcomes = self._outcomes(closed, current, profiles)
        self.state, strategy_report = self.strategy.close(self.state, outcomes, closed.round, void=closed.void)
        assignments, rewards = self.open.assignments, strategy_report.rewards
        rows = [
            outcome_record(outcome, rewards.get(outcome.device), assignments[outcome.device].weight)
            for outcome in outcomes
        ]
        record = round_record(closed, report, current.aggregate_s, rows)
        return record, rows, [*strategy_report.events, *clock_events(rows), {"event": "round_closed", **record}]

    def _any_pruned(self, devices: Sequence[str]) -> bool:
        dense = KeepSet.full(self.strategy.spec.geometry).counts
        return self.open is not None and any(self.open.assignments[name].keep_set.counts != dense for name in devices)

    def _advance(self, current: RoundSum) -> AggregateReport:
        """Make the next adapter, in memory: the aggregator's result, passed through the server optimiser if any."""
        after, report = self.strategy.aggregator.finish(current.total(), self.model.tensors)
        velocity, optimizer = self.model.velocity, self.strategy.server_optimizer
        if optimizer is not None:
            after, velocity = optimizer.step(self.model.tensors, after, velocity)
        self.model.advance(after, velocity)
        return report

    def _outcomes(self, closed: RoundResult, current: RoundSum, profiles: Mapping[str, DeviceProfile]) -> list[Outcome]:
        outcomes = []
        arms: dict[tuple[Counts, int, int], Arm] = {}  # realised, shared by devices with equal counts, rank and steps
        assignments, geometry = current.terms.assignments, self.strategy.spec.geometry
        for member in closed.members:
            assignment, profile = assignments[member.device], profiles[member.device]
            update = current.updates.get(member.device) if member.status is Status.ACCEPTED else None
            end_s = member.accepted_at_s if member.accepted_at_s is not None else closed.closed_at_s
            key = assignment.keep_set.counts, assignment.arm.rank, assignment.arm.steps
            arm = arms.get(key)
            if arm is None:
                sparsity = assignment.keep_set.sparsity(geometry)
                arm = arms[key] = Arm(sparsity=sparsity, rank=assignment.arm.rank, steps=assignment.arm.steps)
            outcomes.append(
                Outcome(
                    device=member.device,
                    device_class=profile.device_class,
                    round=closed.round,
                    arm=arm,
                    status=member.status,
                    time_s=end_s - member.pushed_at_s,
                    report=update.report if update else None,
                    fold_s=current.fold_s.get(member.device) if update else None,
                    network=profile.network,
                    scores=update.scores if update else None,
                )
            )
        return outcomes

    def _plan(self, command: Turn, profiles: Mapping[str, DeviceProfile]) -> OpenRound:
        if command.next_round is None:
            raise RuntimeError("a turn without a next round has nothing to plan")
        roster = [profiles[name] for name in sorted(command.roster)]
        # The ledger holds the state before planning: a resumed run plans this round again and makes equal choices.
        state, plan = self.strategy.plan(self.state, roster, command.next_round)
        self.state = state
        rings = self._rings(plan.assignments)
        dispatcher = Dispatcher(
            strategy=self.strategy,
            blobs=self.blobs,
            adapter=self.model.in_rings(rings),
            rings=rings,
            counted_rounds=self.counted_rounds,
            label_counts=self._label_counts(profiles),
        )
        wire_assignments = dispatcher.dispatch(plan.assignments)
        terms = RoundTerms(
            round=command.next_round,
            spec=self.strategy.spec,
            aggregator=self.strategy.aggregator,
            blobs=self.blobs,
            assignments={assignment.device: assignment for assignment in plan.assignments},
            adapter=self.model.as_downloaded() if self.strategy.aggregator.kind == "bundling" else None,
        )
        return OpenRound(
            wire_assignments=wire_assignments, sum=RoundSum(terms=terms, clock=self.clock), events=tuple(plan.events)
        )

    def _rings(self, assignments: Sequence[Assignment]) -> tuple[KeepSet, ...]:
        """Return the round's nested keep-sets if devices fetch only what they keep; empty if no device is pruned."""
        if self.config.training.handout != "kept":
            return ()
        rings = nested(assignment.keep_set for assignment in assignments)
        return () if rings[:1] == (KeepSet.full(self.strategy.spec.geometry),) else rings

    def _label_counts(self, profiles: Mapping[str, DeviceProfile]) -> tuple[int, ...]:
        """Training rows by agreed label, over every device that has joined; empty if the run ignores label skew."""
        if self.config.training.label_skew == "ignore":
            return ()
        return self._census.rows(profiles, self.labels)

    def _spent_blobs(self) -> set[str]:
        """Blobs of the past: this round's updates and keep-sets, and the adapters before the last two."""
        # uploads, also late, refused and unfinished ones
        spent = self.uploaded_blobs | self.leftovers | self.measured_keep_sets
        self.leftovers = set()
        if self.open is not None:
            spent |= self.open.sum.spool | self.open.keep_sets
        return spent | self.model.retire(self.pinned_blobs)

    def _needed_blobs(self, plan: OpenRound | None) -> set[str]:
        """Blobs that stay, because the next round may send the very same bytes as an earlier one."""
        return self.pinned_blobs | self.model.needed | (set() if plan is None else plan.keep_sets)


def _check_counted(closed: RoundResult, folded: set[str]) -> None:
    """Raise RunError if the round machine and the sum disagree about the devices that count."""
    accepted = set(closed.accepted)
    for what, devices in (
        ("accepted but not counted", accepted - folded),
        ("counted but not accepted", folded - accepted),
    ):
        if devices:
            raise RunError(f"round {closed.round}: {what}: {', '.join(sorted(devices))}; resume from the last round")


def assignment_record(assignment: Assignment) -> dict[str, Any]:
    """Return what the ledger keeps of an assignment."""
    return {
        "device": assignment.device,
        "round": assignment.round,
        "sparsity": assignment.arm.sparsity,
        "rank": assignment.arm.rank,
        "keep_set": assignment.keep_set.blob_id,
        "weight": assignment.weight,
        "seed": assignment.seed,
    }
