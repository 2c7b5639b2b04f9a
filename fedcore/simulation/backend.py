"""What trains, what carries and who measures in a simulation: put together from its scene."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedcore.client.data.rows import Rows
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


PARALLEL_FROM = 32  # devices in a round: for fewer, starting processes takes longer than they save


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationBackend:
    """`judging` None: nothing is trained, so there is nothing to measure."""

    workload: Workload
    traffic: Traffic
    judging: "RunEvaluation | None"


def make_stage(scene: SimulationSetup, engine: Engine, folder: RunFolder, log: RunLog) -> SimulationBackend:
    """Return the stage a scene asks for: with a curve nothing is trained, else its rows are."""
    if scene.training is not None and scene.test is not None:
        return _training(scene, engine, folder, log, scene.training, scene.test)
    return _untrained(scene, engine, scene.curve or LossCurve())


def _untrained(scene: SimulationSetup, engine: Engine, curve: LossCurve) -> SimulationBackend:
    cost = round_cost(scene.config, scene.spec)
    workload = CurveWorkload(
        curve=curve,
        cost=cost,
        largest_rank=scene.config.strategy.ranks[-1],
        usual_steps=scene.config.training.local_steps,
        seed=scene.config.run.seed,
        history=engine.ledger.iter_outcomes,
    )
    return SimulationBackend(workload=workload, traffic=ModelledTraffic(cost=cost), judging=None)


def _training(
    scene: SimulationSetup, engine: Engine, folder: RunFolder, log: RunLog, training: Rows, test: Rows
) -> SimulationBackend:
    # Imported here: a simulation that trains nothing needs no torch, which takes seconds to load.
    from fedcore.client.data.rows import label_ids
    from fedcore.client.evaluation.model_evaluator import ModelEvaluator
    from fedcore.client.training.trainer import ModelSource
    from fedcore.nn.training.batches import encode_for
    from fedcore.simulation.rounds.evaluation import RunEvaluation
    from fedcore.simulation.workload.device_states import DeviceFeedback, DeviceStates
    from fedcore.simulation.workload.pool import TrainerPool, cores
    from fedcore.simulation.workload.trainer import VirtualTrainer
    from fedcore.simulation.workload.training import TrainingWorkload

    config = scene.config
    source = ModelSource(
        folder=scene.model,
        labels=config.data.labels,
        head=config.model.head,
        dtype=config.model.dtype,
        max_length=config.model.max_length,
        targets=scene.spec.targets,
    )
    ids = label_ids(training, source.labels)
    rows = encode_for(source.folder, training.texts, ids.tolist(), source.max_length)
    cohort = min(config.strategy.cohort or len(scene.fleet.devices), len(scene.fleet.devices))
    workers = config.simulation.workers or (cores() if cohort >= PARALLEL_FROM else 1)
    batched = config.simulation.training == "batched"
    trainer = VirtualTrainer(source=source, rows=rows, threads=None if batched and workers == 1 else 1)
    workload = TrainingWorkload(
        spec=scene.spec,
        fleet=scene.fleet,
        pool=TrainerPool(trainer=trainer, workers=workers),
        states=DeviceStates.of(folder.devices, resolve_settings(config).training),
        batched=batched,
    )
    evaluator = ModelEvaluator(source=source, test=test, train=training)
    return SimulationBackend(
        workload=workload,
        traffic=RealTraffic(feedback=DeviceFeedback(root=folder.devices, geometry=scene.spec.geometry)),
        judging=RunEvaluation(evaluator=evaluator, engine=engine, folder=folder, log=log),
    )
