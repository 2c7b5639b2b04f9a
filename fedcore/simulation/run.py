"""A simulated run from its scene to its summary: the folder it leaves is that of a real one."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fedcore.core.contract.protocols import Json
from fedcore.core.errors import RunError
from fedcore.server.aggregate.assemble import make_engine
from fedcore.server.aggregate.engine import Engine
from fedcore.server.run.run import Run
from fedcore.server.run.run_log import Observer
from fedcore.simulation.backend import SimulationBackend, make_stage
from fedcore.simulation.fleet.duration import TrainCost
from fedcore.simulation.rounds.clock import VirtualClock
from fedcore.simulation.rounds.dispatch import DispatchPlanner
from fedcore.simulation.rounds.driver import FOREVER_S, Driver
from fedcore.simulation.setup import SimulationSetup

if TYPE_CHECKING:
    from fedcore.simulation.rounds.evaluation import RunEvaluation

GIGA = 1e9


AfterRound = Callable[["RunEvaluation"], None]


def simulate(
    scene: SimulationSetup,
    run: Run,
    observers: Sequence[Observer] = (),
    *,
    after_round: AfterRound | None = None,
) -> Json:
    """Simulate `run` to its end, from its beginning or from where its ledger stands, return its summary and close it.

    `after_round` stands in for the run's own measurements, of rounds and at the end, and for its exports: it is called
    after every round that counted, with the engine as the round left it, and once more for the last of them where a run
    goes on, which may have been broken off in between; never where nothing is trained.
    Raises RunError where the run pauses; what is durable stays, and a resumed run goes on from there.
    """
    with run:
        try:
            return _simulated(scene, run, observers, after_round)
        except OSError as cause:
            where = cause.filename or run.folder.root
            raise RunError(f"cannot write {where}: {cause}; free space, then resume") from cause


def _simulated(scene: SimulationSetup, run: Run, observers: Sequence[Observer], after_round: AfterRound | None) -> Json:
    run.config = scene.config  # with its labels, and places as the scene found them
    last = run.ledger.last_round()
    clock = VirtualClock(0.0 if last is None else last.closed_at_s)
    log = run.open_log(wall=clock, observers=observers, eager=False)
    log.event("started", next_round=run.start.next_round, simulated=True)
    for device_class, why in scene.refused.items():
        log.event("refused", device=device_class, message=why)
    engine = make_engine(run, scene.config.data.labels, strategy=scene.strategy, clock=clock)
    stage = make_stage(scene, engine, run.folder, log)
    try:
        if last is not None:
            stage.workload.recover(last)
        _drive(scene, run, engine, stage, clock, after_round)
        return _finish(scene, run, engine, stage, measuring=after_round is None)
    finally:
        stage.workload.close()


def _drive(
    scene: SimulationSetup,
    run: Run,
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
        state=run.round_state(lease_s=FOREVER_S),
        engine=engine,
        fleet=scene.fleet,
        waves=waves,
        log=run.log,
        clock=clock,
        lease_s=config.coordinator.lease_s,
        on_closed=measure,
    ).run()


def _finish(scene: SimulationSetup, run: Run, engine: Engine, stage: SimulationBackend, *, measuring: bool) -> Json:
    """Measure and export where something was trained, and write what a run leaves at its end."""
    if stage.judging is not None and measuring:
        stage.judging.evaluate(0)
        for name in run.classes() if scene.config.simulation.exports else ():
            stage.judging.export(name, engine.strategy.export_keep_set(engine.state, name))
    return run.finish(engine.strategy, engine.state, None if stage.judging is None else engine.model.tensors)
