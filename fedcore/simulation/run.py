"""A simulated run from its setup to its summary; its folder has the files of a real run."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fedcore.core.contract.protocols import Json
from fedcore.core.errors import RunError
from fedcore.core.tasks.table import task_of
from fedcore.server.aggregate.assemble import make_engine, untrained_adapter
from fedcore.server.aggregate.engine import Engine
from fedcore.server.process.allocator import trim
from fedcore.server.rounds.evaluator_tasks import (
    FleetLabels,
    class_task,
    dense_task,
    export_task,
    fleet_labels,
    reference_task,
    round_task,
)
from fedcore.server.run.run import Run
from fedcore.server.run.run_log import Observer
from fedcore.simulation.backend import SimulationBackend, make_backend
from fedcore.simulation.fleet.duration import TrainCost
from fedcore.simulation.rounds.clock import VirtualClock
from fedcore.simulation.rounds.dispatch import DispatchPlanner
from fedcore.simulation.rounds.driver import FOREVER_S, Driver
from fedcore.simulation.setup import SimulationSetup, check_reference

if TYPE_CHECKING:
    from fedcore.simulation.rounds.evaluation import RunEvaluation

GIGA = 1e9


AfterRound = Callable[["RunEvaluation"], None]


def simulate(
    setup: SimulationSetup,
    run: Run,
    observers: Sequence[Observer] = (),
    *,
    after_round: AfterRound | None = None,
    reference: bool = False,
) -> Json:
    """Simulate `run` to its end, from the last round in its ledger on, return its summary and close it.

    `after_round` replaces the run's own measurements and exports. It is called after every round that counted, with
    the engine as the round left it. A resumed run calls it first for the last round in the ledger: the interrupted
    process may have stopped before its call. It is never called where nothing is trained. With `reference`, centralised
    LoRA is trained on all rows at the end, unless there is an `after_round`; ConfigError where nothing is trained.
    Raises RunError where the run pauses. Everything durable stays, and a resumed run continues from there.
    """
    with run:
        check_reference(setup, reference)
        try:
            return _simulated(setup, run, observers, after_round, reference=reference)
        except OSError as cause:
            where = cause.filename or run.folder.root
            onward = "resume" if run.folder.has_begun else "begin again"
            raise RunError(f"cannot write {where}: {cause}; free space, then {onward}") from cause
        finally:
            trim()


def _simulated(
    setup: SimulationSetup,
    run: Run,
    observers: Sequence[Observer],
    after_round: AfterRound | None,
    *,
    reference: bool,
) -> Json:
    run.config = setup.config  # with the labels and the paths that the setup resolved
    last = run.ledger.last_round()
    clock = VirtualClock(0.0 if last is None else last.closed_at_s)
    log = run.open_log(wall=clock, observers=observers, eager=False)
    engine = make_engine(run, setup.config.data.labels, strategy=setup.strategy, clock=clock)
    backend = make_backend(setup, engine, run.folder, log)  # refuses what the model cannot read, before the run begins
    log.event("started", next_round=run.start.next_round, simulated=True, task=task_of(run.config).name)
    for device_class, why in setup.refused.items():
        log.event("refused", device=device_class, message=why)
    try:
        if last is not None:
            backend.workload.recover(last)
        _drive(setup, run, engine, backend, clock, after_round)
        backend.workload.close()  # measuring and exporting loads models of its own
        return _finish(setup, run, engine, backend, measuring=after_round is None, reference=reference)
    finally:
        backend.workload.close()


def _drive(
    setup: SimulationSetup,
    run: Run,
    engine: Engine,
    backend: SimulationBackend,
    clock: VirtualClock,
    after_round: AfterRound | None,
) -> None:
    config, known = setup.config, _fleet_labels(setup, engine)

    def measure() -> None:
        if backend.evaluation is not None and after_round is not None:
            after_round(backend.evaluation)
        elif backend.evaluation is not None and config.evaluation.rows_per_round:
            classes = {table.name for table in config.classes}
            backend.evaluation.evaluate(round_task(engine, [*classes], config.evaluation.rows_per_round, known))

    resumed, external = engine.model.adapter.round > 0, after_round is not None
    if (
        resumed == external
    ):  # our own measurements begin with the untrained model; external ones may lack the last round
        measure()
    planner = DispatchPlanner(
        engine=engine,
        fleet=setup.fleet,
        workload=backend.workload,
        traffic=backend.traffic,
        cost=TrainCost(setup.spec, config.model.max_length, config.simulation.gflops * GIGA),
        chunk_devices=config.simulation.chunk_devices,
    )
    Driver(
        state=run.round_state(lease_s=FOREVER_S),
        engine=engine,
        fleet=setup.fleet,
        planner=planner,
        log=run.log,
        clock=clock,
        lease_s=config.coordinator.lease_s,
        on_closed=measure,
    ).run()


def _measure_end(
    setup: SimulationSetup, run: Run, engine: Engine, evaluation: "RunEvaluation", *, reference: bool
) -> None:
    """Measure the dense model, and every class's, exported or not; then train the reference."""
    known = _fleet_labels(setup, engine)
    evaluation.evaluate(dense_task(engine, 0, floors=True, majority=known.majority))
    for name in run.classes():
        if setup.config.simulation.exports:
            evaluation.export(export_task(engine, name, known))
        else:
            evaluation.evaluate(class_task(engine, name, 0, known))
    if reference:
        untrained = untrained_adapter(run.config, run.model, engine.labels, engine.strategy.spec)
        evaluation.reference(reference_task(engine, run), untrained)


def _finish(
    setup: SimulationSetup,
    run: Run,
    engine: Engine,
    backend: SimulationBackend,
    *,
    measuring: bool,
    reference: bool,
) -> Json:
    """Measure and export a trained model, then write the summary and the files of a finished run."""
    if backend.evaluation is not None and measuring:
        _measure_end(setup, run, engine, backend.evaluation, reference=reference)
    return run.finish(engine.strategy, engine.state, None if backend.evaluation is None else engine.model.tensors)


def _fleet_labels(setup: SimulationSetup, engine: Engine) -> FleetLabels:
    profiles = (device.profile for device in setup.fleet.devices.values())
    return fleet_labels(profiles, engine.labels, setup.config.training.label_skew)
