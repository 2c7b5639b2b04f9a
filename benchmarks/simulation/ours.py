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
from fedcore.core.config.tables import Config
from fedcore.core.config.toml import to_toml
from fedcore.core.contract.protocols import Json
from fedcore.core.model.adapter import initial_adapter
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.seeds import generator
from fedcore.server.aggregate.assemble import make_engine, stored_run
from fedcore.server.aggregate.engine import Engine
from fedcore.server.process.collector import collect_seldom
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.resuming import resumed_machine
from fedcore.server.run.run_folder import RunFolder
from fedcore.server.run.run_log import RunLog
from fedcore.simulation.fleet.duration import TrainCost
from fedcore.simulation.fleet.fleet import VirtualFleet, make_fleet
from fedcore.simulation.rounds.clock import VirtualClock
from fedcore.simulation.rounds.dispatch import DispatchPlanner
from fedcore.simulation.rounds.driver import FOREVER_S, Driver
from fedcore.simulation.run import simulate
from fedcore.simulation.setup import set_scene
from fedcore.simulation.workload.device_states import DeviceFeedback
from fedcore.simulation.workload.traffic import RealTraffic
from fedcore.storage.blobs.store import BlobStore
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
        ledger = Ledger.create(runs.ledger, run_id=case.task, config_toml=to_toml(config), fingerprint="")
        if case.task == "mlp":
            tensors = _small(case, config, folder, runs, ledger, RoundTimes(record))
        else:
            simulate(set_scene(config), runs, ledger, observers=(RoundTimes(record),))
            tensors = stored_run(runs, config, Path(case.model)).tensors
    record.write(tensors, version=version("fedcore"))


def _small(case: Case, config: Config, folder: Path, runs: RunFolder, ledger: Ledger, times: RoundTimes) -> Arrays:
    """Run the small task: its parameters travel as the head of an adapter that is next to nothing else."""
    fleet = make_fleet(config, [np.arange(mlp.ROWS)] * case.clients, LABELS * mlp.ROWS)
    clock = VirtualClock()
    log = RunLog(runs, ledger, wall=clock, observers=(times,), eager=False)
    engine = _engine(config, folder, runs, ledger, log, clock)
    workload = MlpWorkload(folder, case.recipe, {name: number for number, name in enumerate(fleet.devices)})
    _driver(config, engine, fleet, workload, runs, clock).run()
    tensors = {name: np.array(engine.model.tensors[name]) for name in mlp.SHAPES}
    log.close()
    ledger.close()
    return tensors


def _engine(config: Config, folder: Path, runs: RunFolder, ledger: Ledger, log: RunLog, clock: VirtualClock) -> Engine:
    strategy = make_strategy(config, geometry_from_config(TOKEN_MODEL), tuple(sorted(mlp.SHAPES.items())))
    with np.load(folder / "task.npz") as stored:
        first = {name: stored[name] for name in mlp.SHAPES}
    return make_engine(
        config=config,
        model=folder,
        labels=LABELS,
        folder=runs,
        blobs=BlobStore(runs.blobs),
        ledger=ledger,
        log=log,
        strategy=strategy,
        untrained=initial_adapter(strategy.spec, generator(0), first),
        clock=clock,
    )


def _driver(
    config: Config, engine: Engine, fleet: VirtualFleet, workload: MlpWorkload, runs: RunFolder, clock: VirtualClock
) -> Driver:
    spec = engine.strategy.spec
    waves = DispatchPlanner(
        engine=engine,
        fleet=fleet,
        workload=workload,
        traffic=RealTraffic(feedback=DeviceFeedback(root=runs.devices, geometry=spec.geometry)),
        cost=TrainCost(spec, config.model.max_length, config.simulation.gflops * 1e9),
        chunk_devices=config.simulation.chunk_devices,
    )
    return Driver(
        machine=resumed_machine(config, engine.ledger.load(), lease_s=FOREVER_S),
        engine=engine,
        fleet=fleet,
        waves=waves,
        log=engine.log,
        clock=clock,
        lease_s=config.coordinator.lease_s,
        on_closed=lambda: None,
    )


if __name__ == "__main__":
    run(Path(sys.argv[1]))
