"""What a large roster costs the coordinator: python -m benchmarks.roster [--quick] [--json [FILE]]

For fleets of 1,000 to 1,000,000 registered devices, of which 1,000 take part in a round: one device joining, one sign
of life, drawing a cohort, planning and closing a round, its log and its commit, and the bytes that files grow by. The
round machine, the strategy, the log and the ledger are the coordinator's own; no device trains, nothing crosses a wire.
"""

import math
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.recording import quickstart
from benchmarks.report import emit, parser
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.outcome import PHASES, DeviceReport, Outcome, Status, TrainingMetrics
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import AggregateReport, Json, RoundPlan, Strategy
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.rounds import events
from fedcore.core.rounds.machine import step
from fedcore.core.rounds.overlay import Overlay
from fedcore.core.rounds.policy import RoundPolicy
from fedcore.core.rounds.result import MemberResult, RoundResult
from fedcore.core.rounds.state import Member, Phase, Presence, RoundState
from fedcore.core.seeds import generator
from fedcore.protos.convert.tier import partial_to_pb
from fedcore.protos.tier_values import LeafOutcome, PartialSubmission
from fedcore.protos.values import Join, Role
from fedcore.protos.wire import PROTOCOL
from fedcore.server.aggregate.engine import assignment_record
from fedcore.server.run.records import outcome_record, round_record
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.server.run.turn_record import TurnRecord
from fedcore.strategies.policy.cohort import sample_cohort
from fedcore.strategies.table import make_strategy

FLEETS = (1_000, 10_000, 100_000, 1_000_000)
COHORT = 1_000
REPEATS = 5
STEPS = 200
SHOWN = ("registered", "alive_s", "joined_s", "roster_s", "sample_s", "plan_s", "close_s", "log_s", "commit_s")
MINILM = {
    "model_type": "bert",
    "num_hidden_layers": 6,
    "hidden_size": 384,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
HEAD = (("head.bias", (2,)), ("head.weight", (2, 384)))
CLASSES = ("agx", "nx", "tx2")
POLICY = RoundPolicy(
    total_rounds=1, quorum=0.5, deadline_s=600.0, lease_s=30.0, min_devices=1, max_void_rounds=3, join_deadline_s=600.0
)


@dataclass(slots=True, kw_only=True)
class Fleet:
    """One coordinator's values for so many registered devices."""

    profiles: tuple[DeviceProfile, ...]
    machine: RoundState
    strategy: Strategy
    state: Json
    run: Run
    round: int = 0
    leaf_bytes: float = 0.0
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def timed(self, what: str, work: Callable[[], Any]) -> Any:
        """Do `work` and note how long it took."""
        begin = time.perf_counter()
        result = work()
        self.seconds.setdefault(what, []).append(time.perf_counter() - begin)
        return result

    def median_s(self, what: str) -> float:
        """The median time noted under `what`."""
        return statistics.median(self.seconds[what])


def profile(number: int) -> DeviceProfile:
    """Return device `number`, of one of three classes."""
    return DeviceProfile(
        name=f"device-{number:07}",
        device_class=CLASSES[number % len(CLASSES)],
        num_examples=8 + number % 25,
        label_counts=(("0", 4 + number % 7), ("1", 4)),
        network="5g",
    )


def make_fleet(registered: int, cohort: int, root: Path) -> Fleet:
    """Return a fleet that has trained for a while: every device is connected and has committed a keep-set."""
    config = quickstart([f"strategy.cohort={cohort}", "run.rounds=10"])
    strategy = make_strategy(config, geometry_from_config(MINILM), HEAD)
    profiles = tuple(profile(number) for number in range(registered))
    sessions = Overlay({device.name: Presence(epoch=1, connected=True, seen_s=0.0) for device in profiles})
    geometry = geometry_from_config(MINILM)
    committed = {device.name: [geometry.head_units, geometry.ffn] for device in profiles}
    folder = RunFolder.create("fleet", base=root)
    run = Run.create(folder, config, folder.root, base_model="none")
    run.open_log()
    member = {profiles[0].name: Member(pushed_at_s=0.0)}  # one is pending: the round stays open
    machine = RoundState(policy=POLICY, phase=Phase.OPEN, sessions=sessions, connected=registered, wake_at_s=600.0)
    return Fleet(
        profiles=profiles,
        machine=machine.with_members(member),
        strategy=strategy,
        state=strategy.start() | {"committed": committed},
        run=run,
    )


def measure(registered: int, cohort: int, repeats: int) -> dict[str, Any]:
    """Return one row: seconds of every step, and bytes of every file."""
    with tempfile.TemporaryDirectory() as root:
        fleet = make_fleet(registered, cohort, Path(root))
        _membership(fleet, cohort, repeats)
        for _ in range(repeats):
            _round(fleet, cohort)
        before = fleet.run.folder.events.stat().st_size
        _join_event(fleet)
        joined_bytes = fleet.run.folder.events.stat().st_size - before
        sizes = _sizes(fleet, cohort * repeats, before)
        fleet.run.close()
    times = {f"{what}_s": fleet.median_s(what) for what in fleet.seconds}
    last = {"leaf_bytes": fleet.leaf_bytes, "joined_event_bytes": joined_bytes}
    return {"registered": registered, "cohort": cohort, **times, **sizes, **last}


def _membership(fleet: Fleet, cohort: int, repeats: int) -> None:
    """Measure signs of life, joins, the list of present devices and the draw of a cohort."""
    alive = [events.Alive(device=profile.name, epoch=1, now_s=1.0) for profile in fleet.profiles]
    joined = [events.Joined(device=f"newcomer-{number}", epoch=1, now_s=1.0) for number in range(len(alive))]
    fleet.seconds["alive"] = [_stepped(fleet.machine, alive)]
    fleet.seconds["joined"] = [_stepped(fleet.machine, joined)]
    for number in range(repeats):
        fleet.timed("roster", lambda: fleet.machine.roster)
        fleet.timed("sample", partial(sample_cohort, fleet.profiles, cohort, generator(0, "cohort", number)))


def _stepped(machine: RoundState, sequence: Sequence[events.Event]) -> float:
    """Seconds a step takes on average, over steps enough for what the machine does once in a while."""
    sequence = sequence[: STEPS + 3 * math.isqrt(len(sequence))]
    begin = time.perf_counter()
    for event in sequence:
        machine, _ = step(machine, event)
    return (time.perf_counter() - begin) / len(sequence)


def _round(fleet: Fleet, cohort: int) -> None:
    """Plan, answer, close, log and commit one round, as a turn does."""
    fleet.round += 1
    plan_of = fleet.strategy.plan
    state, plan = fleet.timed("plan", lambda: plan_of(fleet.state, fleet.profiles, fleet.round))
    outcomes = _outcomes(plan)
    fleet.leaf_bytes = _leaf_bytes(outcomes)
    after, report = fleet.timed("close", lambda: fleet.strategy.close(state, outcomes, fleet.round))
    closed = _closed(plan, fleet.round)
    weights = {assignment.device: assignment.weight for assignment in plan.assignments}
    rows = [
        outcome_record(outcome, report.rewards.get(outcome.device), weights[outcome.device]) for outcome in outcomes
    ]
    record = round_record(closed, AggregateReport(weight=1, updates=cohort), 0.01, rows)
    lines = [*plan.events, *report.events, {"event": "round_closed", **record}]
    addressees = [{"device": outcome.device, "round": fleet.round} for outcome in outcomes]

    def write() -> None:
        fleet.run.log.events("pushed", addressees)
        for fields in addressees:
            fleet.run.log.event("accepted", **fields)
        fleet.run.log.turn(lines, rows)

    fleet.timed("log", write)
    turn = TurnRecord(
        closed=closed,
        report=record,
        outcomes=tuple(rows),
        strategy_state=after,
        void_streak=0,
        global_blobs=((f"round-{fleet.round}", "0" * 64),),
        next_round=fleet.round + 1,
        assignments=tuple(assignment_record(assignment) for assignment in plan.assignments),
    )
    fleet.timed("commit", lambda: fleet.run.ledger.commit_turn(turn))
    fleet.state = after


def _outcomes(plan: RoundPlan) -> list[Outcome]:
    """Return the outcomes of all devices: plausible figures, no importances (their bytes are arithmetic)."""
    report = DeviceReport(
        metrics=TrainingMetrics(
            loss_before=0.6931471805599453,
            loss_after=0.5312345678901234,
            train_loss=0.6123456789012345,
            peak_memory_mb=212.34567890123456,
            adapter_importance=0.00012345678901234567,
        ),
        phase_s=dict.fromkeys(PHASES, 1.2345678901234567),
        num_examples=16,
        steps=10,
        bytes_down=437_123,
        bytes_up=436_321,
    )
    return [
        Outcome(
            device=assignment.device,
            device_class=CLASSES[int(assignment.device[-7:]) % len(CLASSES)],
            round=assignment.round,
            arm=Arm(sparsity=0.0, rank=assignment.arm.rank),
            status=Status.ACCEPTED,
            time_s=12.345678901234567,
            report=report,
            fold_s=0.0012345678901234567,
            network="5g",
        )
        for assignment in plan.assignments
    ]


def _closed(plan: RoundPlan, number: int) -> RoundResult:
    members = tuple(
        MemberResult(
            device=assignment.device, status=Status.ACCEPTED, pushed_at_s=1234.567890123, accepted_at_s=1246.91234567
        )
        for assignment in plan.assignments
    )
    return RoundResult(round=number, void=False, members=members, opened_at_s=1234.567890123, closed_at_s=1300.0)


def _leaf_bytes(outcomes: Sequence[Outcome]) -> float:
    """Bytes of one device's part in an edge's submission, which travels as one message."""
    leaves = tuple(
        LeafOutcome(
            device=outcome.device, counted=True, time_s=outcome.time_s, report=outcome.report, scores_bytes=37_152
        )
        for outcome in outcomes
    )
    whole = PartialSubmission(round=1, number=1, partial=None, scores=None, leaves=leaves)
    return len(partial_to_pb(whole).SerializeToString()) / len(leaves)


def _join_event(fleet: Fleet) -> None:
    """Write what the log says of one device that joins."""
    newcomer = fleet.profiles[0]
    join = Join(
        protocol_min=PROTOCOL,
        protocol_max=PROTOCOL,
        role=Role.DEVICE,
        name=newcomer.name,
        device_uuid="0" * 36,
        epoch=1,
        profile=newcomer,
        fingerprint=Fingerprint(tensors="0" * 64, config="0" * 64, tokenizer="0" * 64),
        max_length=64,
        labels=("0", "1"),
    )
    fleet.run.log.joined(join, via="edge-000")


def _sizes(fleet: Fleet, client_rounds: int, events_bytes: int) -> dict[str, float]:
    """Bytes per client-round of text files and ledger, and of the strategy's state per registered device."""
    with closing(sqlite3.connect(fleet.run.folder.ledger)) as ledger:
        (state,) = ledger.execute("SELECT length(strategy_state) FROM head").fetchone()
        (rounds,) = ledger.execute(
            "SELECT sum(length(result) + length(outcomes) + length(report)) FROM rounds"
        ).fetchone()
        (plans,) = ledger.execute("SELECT sum(length(assignments)) FROM plans").fetchone()
    return {
        "event_bytes_per_client_round": events_bytes / client_rounds,
        "row_bytes_per_client_round": fleet.run.folder.rounds.stat().st_size / client_rounds,
        "ledger_bytes_per_client_round": (rounds + plans) / client_rounds,
        "state_bytes_per_device": state / len(fleet.profiles),
    }


def main() -> None:
    """Measure every fleet and report."""
    arguments = parser("roster", "What a large roster costs the coordinator.").parse_args()
    fleets: Sequence[int] = FLEETS[:2] if arguments.quick else FLEETS
    rows = [measure(registered, COHORT, REPEATS) for registered in fleets]
    notes = {
        "strategy": "fedspine, s-ucb, MiniLM",
        "times": f"seconds, median of {REPEATS}",
        "alive, joined": "a step of the round machine for one device, mean over many in a row",
        "plan, close": "the strategy's part of a turn, the draw of the cohort included",
        "state": "the strategy's state, written whole with every commit",
    }
    emit("roster", rows, arguments, notes=notes, shown=SHOWN)


if __name__ == "__main__":
    main()
