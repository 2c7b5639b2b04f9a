"""The backend of a simulation, assembled from its setup: training, traffic, and the evaluation between rounds.

A setup with rows trains the real model; any other follows a loss curve and needs no torch.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fedcore.client.data.rows import Rows
from fedcore.core.accelerators import CPU
from fedcore.core.config.auto import usual_steps
from fedcore.server.aggregate.engine import Engine
from fedcore.server.run.run_folder import RunFolder
from fedcore.server.run.run_log import RunLog
from fedcore.simulation.setup import SimulationSetup
from fedcore.simulation.workload.loss_curve import LossCurve
from fedcore.simulation.workload.traffic import ModelledTraffic, RealTraffic, Traffic
from fedcore.simulation.workload.untrained import CurveWorkload
from fedcore.simulation.workload.workload import Workload
from fedcore.strategies.policy.cost import round_cost
from fedcore.strategies.table import resolve_settings

if TYPE_CHECKING:
    from fedcore.simulation.rounds.evaluation import RunEvaluation


PARALLEL_FROM = 32  # devices in a round; with fewer, starting processes takes longer than it saves


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationBackend:
    """What a run calls. `evaluation` is None where nothing is trained: there is no model to measure."""

    workload: Workload
    traffic: Traffic
    evaluation: "RunEvaluation | None"


def make_backend(setup: SimulationSetup, engine: Engine, folder: RunFolder, log: RunLog) -> SimulationBackend:
    """Return the backend of `setup`: it trains on the setup's rows, or follows its curve where there are none."""
    if setup.training is not None and setup.test is not None:
        return _training(setup, engine, folder, log, setup.training, setup.test)
    return _untrained(setup, engine, setup.curve or LossCurve())


def _untrained(setup: SimulationSetup, engine: Engine, curve: LossCurve) -> SimulationBackend:
    cost = round_cost(setup.config, setup.spec)
    workload = CurveWorkload(
        curve=curve,
        cost=cost,
        largest_rank=setup.config.strategy.ranks[-1],
        usual_steps=usual_steps(setup.config),
        seed=setup.config.run.seed,
        history=engine.ledger.iter_outcomes,
    )
    return SimulationBackend(workload=workload, traffic=ModelledTraffic(cost=cost), evaluation=None)


def _training(
    setup: SimulationSetup, engine: Engine, folder: RunFolder, log: RunLog, training: Rows, test: Rows
) -> SimulationBackend:
    # Imported here: torch takes seconds to load, and a simulation that trains nothing does not need it.
    from fedcore.client.evaluation.answer_libraries import left_out
    from fedcore.client.evaluation.model_evaluator import ModelEvaluator
    from fedcore.client.training.trainer import ModelSource
    from fedcore.nn.accelerator.precision import precision_for
    from fedcore.simulation.rounds.evaluation import RunEvaluation
    from fedcore.simulation.workload.device_states import DeviceFeedback, DeviceStates
    from fedcore.simulation.workload.pool import TrainerPool, cores
    from fedcore.simulation.workload.trainer import VirtualTrainer
    from fedcore.simulation.workload.training import TrainingWorkload

    config = setup.config
    source = ModelSource.of(
        config, setup.model, labels=config.data.labels, targets=setup.spec.targets, device=setup.device
    )
    rows, held_back = source.encode(training), source.encode(test)
    for what, encoded in (("training rows", rows), ("held-back rows", held_back)):
        for note in encoded.notes:
            log.event("warning", message=f"{what}: {note}")
    for line in left_out(source.task, source.options):
        log.event("warning", message=line)
    cohort = min(config.strategy.cohort or len(setup.fleet.devices), len(setup.fleet.devices))
    parallel = setup.device == CPU and cohort >= PARALLEL_FROM  # an accelerator is busy with one process
    workers = config.simulation.workers or (cores() if parallel else 1)
    batched = config.simulation.training == "batched" and bool(setup.spec.head)  # no head: one device after the other
    training_source = replace(source, precision=precision_for(config.training.precision, setup.device))
    trainer = VirtualTrainer(
        source=training_source,
        rows=rows,
        threads=None if batched and workers == 1 else 1,
        texts=None if setup.texts is None else source.encode(setup.texts),
    )
    workload = TrainingWorkload(
        spec=setup.spec,
        fleet=setup.fleet,
        pool=TrainerPool(trainer=trainer, workers=workers),
        states=DeviceStates.of(folder.devices, resolve_settings(config).training),
        batched=batched,
    )
    evaluator = ModelEvaluator(source=source, test=test, train=training, _test_rows=held_back)
    return SimulationBackend(
        workload=workload,
        traffic=RealTraffic(feedback=DeviceFeedback(root=folder.devices, geometry=setup.spec.geometry)),
        evaluation=RunEvaluation(evaluator=evaluator, engine=engine, folder=folder, log=log),
    )
