"""A simulated run from its scene to its summary: the folder it leaves is that of a real one."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fedcore.core.contract.protocols import Json
from fedcore.core.errors import RunError
from fedcore.server.aggregate.assemble import make_engine
from fedcore.server.aggregate.engine import Engine
from fedcore.server.run.journal import write_summary
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.peft_folder import write_peft_folder
from fedcore.server.run.resuming import resumed_machine
from fedcore.server.run.run_folder import RunFolder
from fedcore.server.run.run_log import Observer, RunLog
from fedcore.server.run.summary import build_summary
from fedcore.simulation.backend import SimulationBackend, make_stage
from fedcore.simulation.fleet.duration import TrainCost
from fedcore.simulation.rounds.clock import VirtualClock
from fedcore.simulation.rounds.dispatch import DispatchPlanner
from fedcore.simulation.rounds.driver import FOREVER_S, Driver
from fedcore.simulation.setup import SimulationSetup
from fedcore.storage.blobs.store import BlobStore

if TYPE_CHECKING:
    from fedcore.simulation.rounds.evaluation import RunEvaluation

GIGA = 1e9


AfterRound = Callable[["RunEvaluation"], None]


def simulate(
    scene: SimulationSetup,
    folder: RunFolder,
    ledger: Ledger,
    observers: Sequence[Observer] = (),
    *,
    after_round: AfterRound | None = None,
) -> Json:
    """Run a simulation to its end, from its beginning or from where `ledger` stands, and return its summary.

    `after_round` stands in for the run's own measurements, of rounds and at the end, and for its exports: it is called
    after every round that counted, with the engine as the round left it, and once more for the last of them where a run
    goes on, which may have been broken off in between; never where nothing is trained.
    Raises RunError where the run pauses; what is durable stays, and a resumed run goes on from there.
    """
    held, last, config = ledger.load(), ledger.last_round(), scene.config
    clock = VirtualClock(0.0 if last is None else last.closed_at_s)
    log = RunLog(folder, ledger, wall=clock, observers=observers, eager=False)
    try:
        log.truncate_after((held.next_round or 1 << 62) - 1)
        log.event("started", next_round=held.next_round, simulated=True)
        for device_class, why in scene.refused.items():
            log.event("refused", device=device_class, message=why)
        engine = make_engine(
            config=config,
            model=scene.model,
            labels=config.data.labels,
            folder=folder,
            blobs=BlobStore(folder.blobs),
            ledger=ledger,
            log=log,
            strategy=scene.strategy,
            clock=clock,
        )
        stage = make_stage(scene, engine, folder, log)
        try:
            if last is not None:
                stage.workload.recover(last)
            _drive(scene, engine, stage, clock, after_round)
            return _finish(scene, engine, stage, folder, measuring=after_round is None)
        finally:
            stage.workload.close()
    except OSError as cause:
        raise RunError(f"cannot write {cause.filename or folder.root}: {cause}; free space, then resume") from cause
    finally:
        log.close()
        ledger.close()


def _drive(
    scene: SimulationSetup,
    engine: Engine,
    stage: SimulationBackend,
    clock: VirtualClock,
    after_round: AfterRound | None,
) -> None:
    config = scene.config

    def measure() -> None:
        if stage.judging is not None and after_round is not None:
            after_round(stage.judging)
        elif stage.judging is not None and config.evaluation.rows_per_round:
            stage.judging.evaluate(config.evaluation.rows_per_round)

    begun, others = engine.model.adapter.round > 0, after_round is not None
    if begun == others:  # our own measurements begin with the untrained model; others' may lack the last round
        measure()
    waves = DispatchPlanner(
        engine=engine,
        fleet=scene.fleet,
        workload=stage.workload,
        traffic=stage.traffic,
        cost=TrainCost(scene.spec, config.model.max_length, config.simulation.gflops * GIGA),
        chunk_devices=config.simulation.chunk_devices,
    )
    Driver(
        machine=resumed_machine(config, engine.ledger.load(), lease_s=FOREVER_S),
        engine=engine,
        fleet=scene.fleet,
        waves=waves,
        log=engine.log,
        clock=clock,
        lease_s=config.coordinator.lease_s,
        on_closed=measure,
    ).run()


def _finish(
    scene: SimulationSetup, engine: Engine, stage: SimulationBackend, folder: RunFolder, *, measuring: bool
) -> Json:
    """Measure and export where something was trained, and write what a run leaves at its end."""
    classes = sorted(each.name for each in scene.config.classes)
    if stage.judging is not None and measuring:
        stage.judging.evaluate(0)
        for name in classes if scene.config.simulation.exports else ():
            stage.judging.export(name, engine.strategy.export_keep_set(engine.state, name))
    if stage.judging is not None:
        write_peft_folder(folder.adapter, engine.strategy.spec, engine.model.tensors, scene.config.model.path)
    summary = build_summary(
        config=scene.config,
        ledger=engine.ledger,
        strategy=engine.strategy,
        state=engine.state,
        classes=classes,
        status="finished",
    )
    write_summary(folder.summary, summary)
    engine.log.event("finished", next_round=None)
    return summary
