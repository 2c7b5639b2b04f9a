"""The rounds on fedcore's simulator: python -m benchmarks.simulation.ours FOLDER

Strategy, round machine, aggregation, event log and ledger are those of any run, with default durability.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.simulation import mlp
from benchmarks.simulation.configs import config_of
from benchmarks.simulation.mlp_workload import MlpWorkload
from benchmarks.simulation.task import Arrays, Case, Record, read_case
from fedcore.core.contract.protocols import Json
from fedcore.core.model.adapter import initial_adapter
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.seeds import generator
from fedcore.server.aggregate.assemble import make_engine, read_snapshot
from fedcore.server.aggregate.engine import Engine
from fedcore.server.process.collector import collect_seldom
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.simulation.fleet.duration import TrainCost
from fedcore.simulation.fleet.fleet import VirtualFleet, make_fleet
from fedcore.simulation.rounds.clock import VirtualClock
from fedcore.simulation.rounds.dispatch import DispatchPlanner
from fedcore.simulation.rounds.driver import FOREVER_S, Driver
from fedcore.simulation.run import simulate
from fedcore.simulation.setup import read_setup
from fedcore.simulation.workload.device_states import DeviceFeedback
from fedcore.simulation.workload.traffic import RealTraffic
from fedcore.strategies.table import make_strategy

TOKEN_MODEL = {
    "model_type": "bert",
    "num_hidden_layers": 1,
    "hidden_size": 1,
    "num_attention_heads": 1,
    "intermediate_size": 1,
    "vocab_size": 1,
    "max_position_embeddings": 1,
    "type_vocab_size": 1,
}
LABELS = ("0", "1")


@dataclass(frozen=True, slots=True)
class RoundTimes:
    """Notes when each round is committed."""

    record: Record

    def event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """A round is over once its close is durable."""
        if kind == "committed":
            self.record.round_ended()

    def rows(self, rows: Sequence[Json]) -> None:
        """Rows say nothing new."""


def run(folder: Path) -> None:
    """Carry out the case."""
    collect_seldom()  # as `fedcore simulate` does
    case = read_case(folder)
    config, record = config_of(case, folder), Record(folder, "ours")
    with tempfile.TemporaryDirectory() as place:
        runs = RunFolder.create(case.task, base=Path(place))
        if case.task == "mlp":
            tensors = _small(case, Run.create(runs, config, folder, base_model="mlp"), RoundTimes(record))
        else:
            setup = read_setup(config)
            simulate(setup, Run.create(runs, config, setup.model, base_model=""), observers=(RoundTimes(record),))
            tensors = read_snapshot(runs, config, Path(case.model)).tensors
    record.write(tensors, version=version("fedcore"))


def _small(case: Case, run: Run, times: RoundTimes) -> Arrays:
    """Run the small task: its parameters travel as the head of an adapter that is next to nothing else."""
    fleet = make_fleet(run.config, [np.arange(mlp.ROWS)] * case.clients, LABELS * mlp.ROWS)
    clock = VirtualClock()
    with run:
        run.open_log(wall=clock, observers=(times,), eager=False)
        engine = _engine(run, clock)
        workload = MlpWorkload(run.model, case.recipe, {name: number for number, name in enumerate(fleet.devices)})
        _driver(run, engine, fleet, workload, clock).run()
        return {name: np.array(engine.model.tensors[name]) for name in mlp.SHAPES}


def _engine(run: Run, clock: VirtualClock) -> Engine:
    strategy = make_strategy(run.config, geometry_from_config(TOKEN_MODEL), tuple(sorted(mlp.SHAPES.items())))
    with np.load(run.model / "task.npz") as stored:
        first = {name: stored[name] for name in mlp.SHAPES}
    untrained = initial_adapter(strategy.spec, generator(0), first)
    return make_engine(run, LABELS, strategy=strategy, untrained=untrained, clock=clock)


def _driver(run: Run, engine: Engine, fleet: VirtualFleet, workload: MlpWorkload, clock: VirtualClock) -> Driver:
    spec, config = engine.strategy.spec, run.config
    planner = DispatchPlanner(
        engine=engine,
        fleet=fleet,
        workload=workload,
        traffic=RealTraffic(feedback=DeviceFeedback(root=run.folder.devices, geometry=spec.geometry)),
        cost=TrainCost(spec, config.model.max_length, config.simulation.gflops * 1e9),
        chunk_devices=config.simulation.chunk_devices,
    )
    return Driver(
        state=run.round_state(lease_s=FOREVER_S),
        engine=engine,
        fleet=fleet,
        planner=planner,
        log=run.log,
        clock=clock,
        lease_s=config.coordinator.lease_s,
        on_closed=lambda: None,
    )


if __name__ == "__main__":
    run(Path(sys.argv[1]))
