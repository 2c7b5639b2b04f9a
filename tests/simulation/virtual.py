"""A simulated run without torch: a tiny base model that is never loaded, and increments that follow from names."""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fedcore.core.config.toml import parse_config, to_toml
from fedcore.core.contract.outcome import TrainingMetrics
from fedcore.core.model.geometry import Geometry
from fedcore.core.rounds.result import RoundResult
from fedcore.server.aggregate.assemble import make_engine
from fedcore.server.aggregate.engine import Engine
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.simulation.fleet.availability import Traces
from fedcore.simulation.fleet.duration import TrainCost
from fedcore.simulation.fleet.fleet import VirtualFleet, make_fleet
from fedcore.simulation.rounds.clock import VirtualClock
from fedcore.simulation.rounds.dispatch import DispatchPlanner
from fedcore.simulation.rounds.driver import FOREVER_S, Driver
from fedcore.simulation.workload.device_states import DeviceFeedback
from fedcore.simulation.workload.traffic import RealTraffic
from fedcore.simulation.workload.workload import Failure, Group, GroupResult
from tests.tiny_run import tiny_config, write_model

ROWS = 5  # of every device


@dataclass
class NamedWorkload:
    """A workload whose increments follow from device and round alone; `failing` devices fail."""

    failing: frozenset[str] = frozenset()
    trained: list[tuple[int, str]] = field(default_factory=list)
    settled: list[int] = field(default_factory=list)

    def train(self, groups: Sequence[Group]) -> Iterator[GroupResult]:
        yield from map(self._result, groups)

    def _result(self, group: Group) -> GroupResult:
        self.trained += [(group.round, part.device) for part in group.parts]
        shapes = spec_shapes(group)
        values = [1e-5 * (1 + zlib.crc32(f"{part.device}/{group.round}".encode()) % 97) for part in group.parts]
        return GroupResult(
            metrics=tuple(
                Failure(message="no memory") if part.device in self.failing else metrics() for part in group.parts
            ),
            increments={
                name: np.stack([np.full(shape, value, dtype=np.float32) for value in values])
                for name, shape in shapes.items()
            },
        )

    def settle(self, closed: RoundResult) -> None:
        self.settled.append(closed.round)

    def recover(self, last: RoundResult) -> None:
        pass

    def close(self) -> None:
        pass


class Stopping:
    """An observer that raises KeyboardInterrupt once the round `after` has been committed."""

    def __init__(self, after: int) -> None:
        self.after = after

    def event(self, kind: str, fields: Mapping[str, object]) -> None:
        if kind == "committed" and fields["round"] == self.after:
            raise KeyboardInterrupt

    def rows(self, rows: object) -> None:
        pass


def metrics() -> TrainingMetrics:
    return TrainingMetrics(loss_before=1.0, loss_after=0.9, train_loss=0.95, peak_memory_mb=1.0, adapter_importance=0.1)


def spec_shapes(group: Group) -> dict[str, tuple[int, ...]]:
    """Return the shapes of an update, from those of the global adapter: the tests' runs never prune."""
    rank = group.assignment.arm.rank
    return {
        name: (rank, *value.shape[1:])
        if name.endswith(".A")
        else (*value.shape[:-1], rank)
        if name.endswith(".B")
        else value.shape
        for name, value in group.adapter.items()
    }


@dataclass
class Simulated:
    """A run folder and what drives it."""

    folder: RunFolder
    engine: Engine
    driver: Driver
    workload: NamedWorkload

    def run(self) -> None:
        try:
            self.driver.run()
        finally:
            self.engine.log.close()
            self.engine.ledger.close()


def class_tables(*lines: str) -> str:
    return "\n".join(f"[[fleet.class]]\n{line}" for line in lines)


def prepare(
    root: Path,
    classes: str = "[[fleet.class]]\nname = 'a'\ncount = 4",
    overrides: Sequence[str] = (),
    *,
    workload: NamedWorkload | None = None,
    traces: Traces | None = None,
    resume: bool = False,
    fleet_of: Callable[[VirtualFleet], VirtualFleet] = lambda fleet: fleet,
) -> Simulated:
    """Assemble a simulation of `classes` in `root`."""
    model = root.parent / "model"
    if not model.exists():
        write_model(model)
    config = parse_config(to_toml(tiny_config(model)) + "\n" + classes, ("coordinator.min_devices=1", *overrides))
    folder = RunFolder(root)
    root.mkdir(exist_ok=True)
    run = Run.resume(folder, model) if resume else Run.create(folder, config, model)
    run.config = config
    return assemble(run, workload or NamedWorkload(), traces, fleet_of)


def assemble(
    run: Run,
    workload: NamedWorkload,
    traces: Traces | None,
    fleet_of: Callable[[VirtualFleet], VirtualFleet],
) -> Simulated:
    last, config, folder = run.ledger.last_round(), run.config, run.folder
    clock = VirtualClock(0.0 if last is None else last.closed_at_s)
    log = run.open_log(wall=clock)
    engine = make_engine(run, ("a", "b"), clock=clock)
    devices = sum(kind.count for kind in config.classes)
    rows = np.arange(ROWS)
    fleet = fleet_of(make_fleet(config, [rows] * devices, ["a", "b", "a", "b", "a"], traces))
    geometry: Geometry = engine.strategy.spec.geometry
    planner = DispatchPlanner(
        engine=engine,
        fleet=fleet,
        workload=workload,
        traffic=RealTraffic(feedback=DeviceFeedback(root=folder.devices, geometry=geometry)),
        cost=TrainCost(engine.strategy.spec, config.model.max_length, config.simulation.gflops * 1e9),
        chunk_devices=config.simulation.chunk_devices,
    )
    driver = Driver(
        state=run.round_state(lease_s=FOREVER_S),
        engine=engine,
        fleet=fleet,
        planner=planner,
        log=log,
        clock=clock,
        lease_s=config.coordinator.lease_s,
        on_closed=lambda: None,
    )
    return Simulated(folder=folder, engine=engine, driver=driver, workload=workload)
