"""What a large round costs when no device trains: python -m benchmarks.framework_overhead [--quick] [--json FILE]

The engine and the round machine of a real coordinator, in one process: 1,000 of 10,000 registered devices per round,
fixed arms, event log, rounds.csv and durable ledger on. Updates are those of an MLP 64-128-10 (9,610 float32 values,
and a LoRA adapter of 24 beside them), verified and folded as one stack. Making them is not counted. Microseconds are
per client and round, medians over the rounds; the parts of a turn are measured inside it, the rest of it is theirs.

S-UCB is reported apart: selecting an arm and observing a reward, at the beginning and after 50,000 observations.
"""

import resource
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Row, emit, parser
from fedcore.core.bandit.s_ucb import SUcb
from fedcore.core.config.tables import Config
from fedcore.core.config.toml import parse_config
from fedcore.core.contract.outcome import DeviceReport, TrainingMetrics
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import ArmSpace
from fedcore.core.contract.update_stack import UpdateStack
from fedcore.core.model.geometry import Geometry
from fedcore.core.rounds.commands import Command, Turn
from fedcore.core.rounds.events import Event, Joined, Planned, Started, UpdateArrived
from fedcore.core.rounds.machine import resume, step
from fedcore.core.rounds.policy import RoundPolicy
from fedcore.core.rounds.state import RoundState
from fedcore.core.seeds import generator
from fedcore.server.aggregate.assemble import make_engine
from fedcore.server.aggregate.engine import Engine, TurnResult
from fedcore.server.process.collector import collect_seldom
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.server.run.run_log import RunLog
from fedcore.strategies.table import make_strategy

REGISTERED, COHORT = 10_000, 1_000
LABELS = ("a", "b")
HEAD = (("head.0.bias", (128,)), ("head.0.weight", (128, 64)), ("head.2.bias", (10,)), ("head.2.weight", (10, 128)))
RANKS = (2, 4, 8, 16, 32)
FOREVER_S = 1e9
MICRO = 1e6
OBSERVATIONS = 50_000
IN_A_TURN = ("plan", "close", "commit", "turn's log")

# The smallest possible transformer: the trained values are in the head.
GEOMETRY = Geometry(
    family="bert",
    model_type="bert",
    layers=1,
    hidden=12,
    query_heads=2,
    kv_heads=2,
    head_dim=6,
    ffn=16,
    vocab=8,
    positions=8,
    token_types=2,
    qkv_bias=True,
    o_bias=True,
    ffn_bias=True,
)


Spent = NDArray[np.float64]  # (wall-clock, processor) seconds


@dataclass(slots=True)
class Stopwatch:
    """Seconds by part, on the wall clock and of the processor, one figure a round."""

    spent: dict[str, Spent] = field(default_factory=lambda: defaultdict(lambda: np.zeros(2)))
    rounds: dict[str, list[Spent]] = field(default_factory=lambda: defaultdict(list))

    def timed(self, part: str, call: Callable[..., Any], *args: Any) -> Any:
        """Return what `call` returns, and count its time."""
        begin = _clocks()
        try:
            return call(*args)
        finally:
            self.spent[part] += _clocks() - begin

    def watching(self, thing: Any, parts: dict[str, str]) -> Any:
        """Return what behaves like `thing`, whose methods in `parts` are counted under the names given there."""
        return _Watched(self, thing, parts)

    def end_round(self) -> None:
        """Keep this round's figures and begin new ones."""
        for part, seconds in self.spent.items():
            self.rounds[part].append(seconds)
        self.spent = defaultdict(lambda: np.zeros(2))


class _Watched:
    def __init__(self, watch: Stopwatch, thing: Any, parts: dict[str, str]) -> None:
        self._watch, self._thing, self._parts = watch, thing, parts

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._thing, name)
        if name not in self._parts:
            return method
        return lambda *args, **named: self._watch.timed(self._parts[name], partial(method, **named), *args)


@dataclass(slots=True, kw_only=True)
class Coordinator:
    """A coordinator without a network, and devices that answer at once."""

    engine: Engine
    machine: RoundState
    profiles: dict[str, DeviceProfile]
    watch: Stopwatch
    now_s: float = 0.0

    def feed(self, event: Event) -> tuple[Command, ...]:
        """Tell the machine what happened."""
        self.machine, orders = step(self.machine, event)
        return orders

    def join(self) -> Turn:
        """Let all devices join, and return the first turn."""
        self.feed(Started(now_s=0.0))
        for name in self.profiles:
            self.now_s += 1e-4
            orders = self.feed(Joined(device=name, epoch=1, now_s=self.now_s))
        return _turn(orders)

    def round(self, turn: Turn, reports: Sequence[DeviceReport], tensors: dict[str, Any]) -> Turn:
        """Carry out a turn and the round that it begins, and return the next turn."""
        turned: TurnResult = self.watch.timed("turn", self.engine.turn, turn, self.profiles, self.machine.void_streak)
        number, names = self.machine.round, tuple(sorted(turned.assignments))
        self.watch.timed("planned", self.feed, Planned(round=number, cohort=names, now_s=self.now_s))
        self.watch.timed("log", self.engine.log.events, "pushed", [{"device": name, "round": number} for name in names])
        if self.engine.open is None:
            raise RuntimeError("the turn opened no round")
        assignment = self.engine.open.assignments[names[0]]
        stack = UpdateStack(
            round=number,
            devices=names,
            weights=tuple(turned.assignments[name].weight for name in names),
            rank=assignment.arm.rank,
            keep_set=assignment.keep_set,
            tensors=tensors,
        )
        refused = self.watch.timed(
            "verify + fold", self.engine.open.sum.fold_stack, stack, reports, [None] * len(names)
        )
        if refused:
            raise RuntimeError(f"{len(refused)} updates were refused, the first for: {refused[0]}")
        orders = self.watch.timed("arrivals", self._arrive, names, number)
        self.watch.timed(
            "log", self.engine.log.events, "accepted", [{"device": name, "round": number} for name in names]
        )
        self.watch.end_round()
        return _turn(orders)

    def _arrive(self, names: Sequence[str], number: int) -> tuple[Command, ...]:
        for name in names:
            self.now_s += 1e-3
            orders = self.feed(UpdateArrived(device=name, round=number, now_s=self.now_s))
        return orders


def measure_rounds(rounds: int) -> list[Row]:
    """Return the cost by part, and the memory that all of it took beyond the imports."""
    watch, before_mb = Stopwatch(), _peak_mb()
    with tempfile.TemporaryDirectory() as folder:
        coordinator = _coordinator(Path(folder), rounds, watch)
        begin = _clocks()
        turn = coordinator.join()
        join_us = (_clocks() - begin) / REGISTERED * MICRO
        registered_mb = _peak_mb() - before_mb
        rng = np.random.default_rng(0)
        shapes = coordinator.engine.strategy.spec.shapes()
        tensors = {
            name: (0.01 * rng.standard_normal((COHORT, *shape), dtype=np.float32)) for name, shape in shapes.items()
        }
        updates_mb = sum(value.nbytes for value in tensors.values()) / 2**20
        reports = [_report(float(loss)) for loss in rng.uniform(0.5, 1.0, COHORT)]
        turn = coordinator.round(turn, reports, tensors)
        watch.rounds.clear()  # the first turn closes nothing
        for _ in range(rounds):
            turn = coordinator.round(turn, reports, tensors)
        coordinator.engine.log.close()
        coordinator.engine.ledger.close()
    parts = {part: [spent / COHORT * MICRO for spent in seconds] for part, seconds in watch.rounds.items()}
    together = ("turn", "planned", "arrivals", "verify + fold", "log")
    total = [np.sum(figures, axis=0) for figures in zip(*(parts[part] for part in together), strict=True)]
    rest = [
        turn - np.sum(figures, axis=0)
        for turn, *figures in zip(parts["turn"], *(parts[part] for part in IN_A_TURN), strict=True)
    ]
    rows = [_row(part, parts[part]) for part in (*IN_A_TURN, *together[1:])]
    rows += [
        _row("rest of the turn", rest),
        _row("total", total),
        {"part": "a join (once)", "us": join_us[0], "cpu_us": join_us[1]},
    ]
    memory = _peak_mb() - before_mb
    return [
        *rows,
        {"part": "memory, registered devices", "mb": registered_mb},
        {"part": "memory, all but the updates", "mb": memory - updates_mb},
    ]


def measure_bandit(observations: int = OBSERVATIONS) -> list[Row]:
    """Return what S-UCB takes for a device and round: a generator of its own, a selection, an observation."""
    rows: list[Row] = []
    for title, bandit in (
        ("default", SUcb(ranks=RANKS)),
        ("long memory, fine leaves", SUcb(ranks=RANKS, discount=0.999, min_width=0.05)),
    ):
        space = ArmSpace(sparsity_low=0.0, sparsity_high=0.7, ranks=RANKS)
        state, seconds = bandit.start(), []
        for number in range(observations + 1000):
            begin = time.process_time()
            arm = bandit.select(state, space, generator(0, "bandit", number, "device"))
            state = bandit.observe(state, arm, max(0.0, 1.0 - 2.0 * abs(arm.sparsity - 0.4)))
            seconds.append(time.process_time() - begin)
        rows += [
            {
                "part": f"S-UCB, {title}, observations {first}+",
                "cpu_us": statistics.median(seconds[first:][:1000]) * MICRO,
            }
            for first in (100, observations)
        ]
        rows[-1] = {**rows[-1], "leaves": len(state["leaves"])}
    return rows


def _row(part: str, figures: Sequence[Spent]) -> Row:
    wall, cpu = np.median(figures, axis=0).tolist()
    late = np.median(figures[-max(1, len(figures) // 4) :], axis=0).tolist()
    return {"part": part, "us": wall, "cpu_us": cpu, "cpu_us_last_quarter": late[1]}


def _clocks() -> Spent:
    return np.array([time.perf_counter(), time.process_time()])


def _coordinator(place: Path, rounds: int, watch: Stopwatch) -> Coordinator:
    config, folder = _config(rounds), RunFolder(place)
    strategy = make_strategy(config, GEOMETRY, HEAD)
    untrained = {name: np.zeros(shape, dtype=np.float32) for name, shape in strategy.spec.shapes().items()}
    run = Run.create(folder, config, place, base_model="none")
    run.open_log()
    folder.globals.mkdir()
    engine = make_engine(run, LABELS, strategy=strategy, untrained=untrained)
    engine.strategy = watch.watching(strategy, {"plan": "plan", "close": "close"})
    engine.ledger = cast(Ledger, watch.watching(run.ledger, {"commit_turn": "commit", "note": "commit"}))
    engine.log = cast(RunLog, watch.watching(engine.log, {"turn": "turn's log"}))
    profiles = {
        name: DeviceProfile(
            name=name, device_class=f"class-{number % 3}", num_examples=30, label_counts=(("a", 10), ("b", 20))
        )
        for number, name in enumerate(f"device-{index:05}" for index in range(REGISTERED))
    }
    policy = RoundPolicy(
        total_rounds=rounds + 2,
        quorum=0.5,
        deadline_s=FOREVER_S,
        lease_s=FOREVER_S,
        min_devices=REGISTERED,
        max_void_rounds=3,
        join_deadline_s=FOREVER_S,
    )
    return Coordinator(engine=engine, machine=resume(policy), profiles=profiles, watch=watch)


def _config(rounds: int) -> Config:
    return parse_config(
        f"""
[run]
name = "overhead"
rounds = {rounds + 2}
[model]
path = "nowhere"
[data]
labels = ["a", "b"]
[strategy]
name = "fedavg-lora"
ranks = [1]
target_sparsity = 0.0
cohort = {COHORT}
[training]
codec = "identity"
targets = ["q"]
[evaluation]
rows_per_round = 0
"""
    )


def _report(loss_after: float) -> DeviceReport:
    return DeviceReport(
        metrics=TrainingMetrics(
            loss_before=1.0,
            loss_after=loss_after,
            train_loss=0.9,
            peak_memory_mb=1.0,
            adapter_importance=0.1,
        ),
        phase_s=dict.fromkeys(("download", "prune", "train", "encode", "upload"), 1e-7),
        num_examples=30,
        steps=3,
        bytes_down=38_440,
        bytes_up=38_440,
    )


def _turn(orders: Sequence[Command]) -> Turn:
    return next(order for order in orders if isinstance(order, Turn))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and report."""
    arguments = parser("framework_overhead", "What a large round costs when nobody trains.").parse_args()
    collect_seldom()  # as a coordinator's process does
    rows = [*measure_rounds(6 if arguments.quick else 40), *measure_bandit(5_000 if arguments.quick else OBSERVATIONS)]
    notes = {
        "goal": "total <= 100 us, S-UCB <= 300 us",
        "devices": f"{COHORT} of {REGISTERED} a round",
        "update": "9,610 values of a head, 24 of an adapter, float32, folded as one stack",
    }
    emit("framework_overhead", rows, arguments, notes=notes)


if __name__ == "__main__":
    main()
